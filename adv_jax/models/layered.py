"""Hidden layers in a row, and a layer of logits: what such nets have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import Initializer

from adv_jax.models.activations import activation_fn
from adv_jax.models.convolution import Conv, Padding
from adv_jax.models.initializers import fan_in
from adv_jax.random import bernoulli
from adv_jax.types import Array

Extras = dict[str, Array]
LayerFn = Callable[[Array], Array]  # f[B, *D] -> f[B, *E]


class Layered(nn.Module, ABC):
    """A net that can be cut above any of its hidden layers, which a subclass says.

    num_classes: K.
    dropout: the probability that a value is dropped in training, of the input and of each hidden
      layer; () for none. Those kept are scaled up, so that testing needs no change.
    hidden_init, output_init: of the weights; biases begin at 0.
    dtype: of the arithmetic between the input and the logits; None: that of the input and the
      weights. Weights, logits and extras stay float32, and so do losses and perturbations.
    """

    num_classes: int = 10
    dropout: Sequence[float] = ()
    hidden_init: Initializer = fan_in()
    output_init: Initializer = fan_in()
    dtype: Literal["bfloat16"] | None = None

    @abstractmethod
    def _hidden_layers(self) -> list[LayerFn]:
        """What each hidden layer does to the activations below it."""

    def setup(self) -> None:
        self.hidden = self._hidden_layers()
        self.logits = Flat(self.num_classes, dtype=self.dtype, kernel_init=self.output_init)
        if len(self.dropout) not in (0, len(self.hidden) + 1):
            raise ValueError(
                f"model.dropout has {len(self.dropout)} entries; allowed are 0 or "
                f"{len(self.hidden) + 1}: one for the input and for each hidden layer"
            )
        self.drop = [Dropout(rate) for rate in self.dropout]

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> logits f[B, K], {"hidden1": f[B, *D_1], ...}, activations before dropout."""
        h, extras = self._below(x, len(self.hidden), train=train)
        return self._above(h, len(self.hidden), extras, train=train)

    def represent(self, x: Array, *, layer: int, train: bool = False) -> tuple[Array, Extras]:
        """The activations of a hidden layer, before dropout: f[B, *D] -> f[B, *D_layer], extras.

        Raises:
          ValueError: there is no such hidden layer.
        """
        h, extras = self._below(x, self._known(layer), train=train)
        return self._fine(h), extras

    def classify(self, h: Array, *, layer: int, train: bool = False) -> tuple[Array, Extras]:
        """What the net makes of a hidden layer's activations: f[B, *D_layer] -> logits, extras.

        Raises:
          ValueError: there is no such hidden layer.
        """
        return self._above(h, self._known(layer), {}, train=train)

    def _below(self, h: Array, top: int, *, train: bool) -> tuple[Array, Extras]:
        return self._through(h, range(1, top + 1), {}, train=train)

    def _above(self, h: Array, top: int, extras: Extras, *, train: bool) -> tuple[Array, Extras]:
        count = len(self.hidden)
        h, extras = self._through(h, range(top + 1, count + 1), extras, train=train)
        return self._fine(self.logits(self._dropped(h, count, train=train))), extras

    def _through(
        self, h: Array, layers: Sequence[int], extras: Extras, *, train: bool
    ) -> tuple[Array, Extras]:
        """What these hidden layers make of h, and `extras` with the activations of each."""
        h = h if self.dtype is None else h.astype(self.dtype)
        for layer in layers:
            h = self.hidden[layer - 1](self._dropped(h, layer - 1, train=train))
            extras = extras | {f"hidden{layer}": self._fine(h)}
        return h, extras

    def _linear(self, number: int, units: int) -> "Flat":
        """The weights of the hidden layer of that number, over all values of a row."""
        init = self.hidden_init
        return Flat(units, dtype=self.dtype, kernel_init=init, name=f"hidden{number}")

    def _conv(self, number: int, maps: int, size: int, padding: Padding = "VALID") -> Conv:
        """Those of a hidden layer of images f[B, H, W, C]: maps of size x size weights."""
        kernel, init = (size, size), self.hidden_init
        name = f"hidden{number}"
        return Conv(maps, kernel, padding, kernel_init=init, dtype=self.dtype, name=name)

    def _fine(self, h: Array) -> Array:
        return h if self.dtype is None else h.astype(jnp.float32)

    def _dropped(self, h: Array, layer: int, *, train: bool) -> Array:
        return self.drop[layer](h, deterministic=not train) if self.drop else h

    def _known(self, layer: int) -> int:
        if not isinstance(layer, int) or not 1 <= layer <= len(self.hidden):
            raise ValueError(
                f"layer is {layer}; allowed are 1 to {len(self.hidden)}, the hidden layers"
            )
        return layer


class Activated(Layered):
    """A net whose hidden layers each end with an element-wise function.

    activation: a name of `activations.ACTIVATIONS`.
    num_classes, dropout, hidden_init, output_init, dtype: as in `Layered`.
    """

    activation: str = "relu"

    def _full(self, number: int, units: int) -> LayerFn:
        """The hidden layer of that number, over all values of a row."""
        linear, act = self._linear(number, units), activation_fn(self.activation)
        return lambda h: act(linear(h))

    def _convolution(
        self, number: int, maps: int, size: int, padding: Padding, pool: LayerFn
    ) -> LayerFn:
        """The hidden layer of that number, of images f[B, H, W, C]."""
        conv, act = self._conv(number, maps, size, padding), activation_fn(self.activation)
        # Activations grow with their input, so pooling may come first, and they have less work.
        return lambda h: act(pool(conv(h)))


class Flat(nn.Dense):
    """A full layer over all values of a row: f[B, *D] -> f[B, features]."""

    def __call__(self, h: Array) -> Array:
        return super().__call__(h.reshape(h.shape[0], -1))


class Dropout(nn.Dropout):
    """Flax's, bit for bit; two passes with one key share a mask that is drawn once."""

    def __call__(self, inputs: Array, *, deterministic: bool) -> Array:
        if deterministic or self.rate in (0, 1):
            return super().__call__(inputs, deterministic=deterministic)
        kept = bernoulli(self.make_rng("dropout"), 1 - self.rate, inputs.shape)
        return jnp.where(kept, inputs / (1 - self.rate), 0)

"""Base classes of sequential nets: hidden layers, then a dense layer of logits."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from flax.linen.initializers import Initializer

from adv_jax.convolution import Padding
from adv_jax.models.activations import activation_fn
from adv_jax.models.checks import check_floats
from adv_jax.models.convolution import Conv
from adv_jax.models.initializers import fan_in
from adv_jax.random import bernoulli
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, UserError, described, is_known

Extras = dict[str, Array]
Pool = Callable[[Array], Array]  # f[B, H, W, C] -> f[B, H', W', C]
LayerFn = Callable[..., Array]  # (f[B, *D], *, train) -> f[B, *E]


@ranged(num_classes=COUNT, dropout="[0, 1)")
class Layered(nn.Module, ABC):
    """A sequential net that can be split above any hidden layer; subclasses define the layers.

    num_classes: K.
    dropout: drop probabilities of the input and of each hidden layer, or (). Kept values are
      scaled up in training.
    hidden_init, output_init: of the weights; biases start at 0.
    dtype: of the arithmetic between the input and the logits; None: the promoted dtype of input
      and weights. Weights, logits and extras stay float32.
    """

    num_classes: int = 10
    dropout: Sequence[float] = ()
    hidden_init: Initializer = fan_in()
    output_init: Initializer = fan_in()
    dtype: Literal["bfloat16"] | None = None

    @abstractmethod
    def _hidden_layers(self) -> list[LayerFn]:
        """Returns the function of each hidden layer, from the activations below it."""

    def setup(self) -> None:
        self.hidden = self._hidden_layers()
        self.logits = Flat(self.num_classes, dtype=self.dtype, kernel_init=self.output_init)
        if len(self.dropout) not in (0, len(self.hidden) + 1):
            raise UserError(
                f"model.dropout must have 0 or {len(self.hidden) + 1} entries, one for the input "
                f"and one for each hidden layer, got {len(self.dropout)}"
            )
        self.drop = [Dropout(rate) for rate in self.dropout]

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> logits f[B, K], {"hidden1": f[B, *D_1], ...}, activations before dropout."""
        h, extras = self._below(x, len(self.hidden), train=train)
        return self._above(h, len(self.hidden), extras, train=train)

    def represent(self, x: Array, *, layer: int, train: bool = False) -> tuple[Array, Extras]:
        """Returns a hidden layer's activations before dropout: f[B, *D] -> f[B, *D_layer], extras.

        Raises:
          UserError: there is no such hidden layer.
        """
        h, extras = self._below(x, self._known(layer), train=train)
        return self._fine(h), extras

    def classify(self, h: Array, *, layer: int, train: bool = False) -> tuple[Array, Extras]:
        """Returns logits for a hidden layer's activations: f[B, *D_layer] -> f[B, K], extras.

        Raises:
          UserError: there is no such hidden layer.
        """
        return self._above(h, self._known(layer), {}, train=train)

    def _below(self, x: Array, top: int, *, train: bool) -> tuple[Array, Extras]:
        check_floats(x)
        return self._through(x, range(1, top + 1), {}, train=train)

    def _above(self, h: Array, top: int, extras: Extras, *, train: bool) -> tuple[Array, Extras]:
        count = len(self.hidden)
        h, extras = self._through(h, range(top + 1, count + 1), extras, train=train)
        return self._fine(self.logits(self._dropped(h, count, train=train))), extras

    def _through(
        self, h: Array, layers: Sequence[int], extras: Extras, *, train: bool
    ) -> tuple[Array, Extras]:
        """Applies these hidden layers to h; returns it and `extras` with all activations."""
        h = h if self.dtype is None else h.astype(self.dtype)
        for layer in layers:
            h = self.hidden[layer - 1](self._dropped(h, layer - 1, train=train), train=train)
            extras = extras | {f"hidden{layer}": self._fine(h)}
        return h, extras

    def _linear(self, number: int, units: int, dropconnect: float = 0.0) -> "Flat":
        """Returns the linear map of a dense hidden layer, over all values of a row."""
        init, name = self.hidden_init, f"hidden{number}"
        return Flat(units, dropconnect, dtype=self.dtype, kernel_init=init, name=name)

    def _conv(self, number: int, maps: int, size: int, padding: Padding = "VALID") -> Conv:
        """Returns the convolution of a hidden layer, with size x size kernels."""
        kernel, init = (size, size), self.hidden_init
        name = f"hidden{number}"
        return Conv(maps, kernel, padding, kernel_init=init, dtype=self.dtype, name=name)

    def _fine(self, h: Array) -> Array:
        return h if self.dtype is None else h.astype(jnp.float32)

    def _dropped(self, h: Array, layer: int, *, train: bool) -> Array:
        return self.drop[layer](h, deterministic=not train) if self.drop else h

    def _known(self, layer: int) -> int:
        is_whole = isinstance(layer, int | np.integer) and not isinstance(layer, bool)
        if is_known(layer) and (not is_whole or not 1 <= layer <= len(self.hidden)):
            raise UserError(f"layer must be a hidden layer, 1 to {len(self.hidden)}, got {layer}")
        return operator.index(layer)  # It raises JAX's error for a traced one.


@ranged(dropconnect="[0, 1)")
class Activated(Layered):
    """A sequential net whose hidden layers end with an element-wise activation.

    activation: a name in `activations.ACTIVATIONS`.
    dropconnect: drop probability of each weight of the dense hidden layers, without the biases, as
      in `Flat`.
    num_classes, dropout, hidden_init, output_init, dtype: as in `Layered`.
    """

    activation: str = "relu"
    dropconnect: float = 0.0

    def _full(self, number: int, units: int) -> LayerFn:
        """Returns a dense hidden layer over all values of a row."""
        linear = self._linear(number, units, self.dropconnect)
        act = activation_fn(self.activation)
        return lambda h, *, train: act(linear(h, train=train))

    def _convolution(
        self, number: int, maps: int, size: int, padding: Padding, pool: Pool
    ) -> LayerFn:
        """Returns a convolutional hidden layer of images f[B, H, W, C]; pool: a max-pooling."""
        conv, act = self._conv(number, maps, size, padding), activation_fn(self.activation)
        # Activations are monotonic, so max-pooling may come first, which is cheaper.
        return lambda h, *, train: act(pool(conv(h)))


class Flat(nn.Module):
    """A dense layer over all values of a row: f[B, *D] -> f[B, features].

    dropconnect: drop probability of each weight in training; kept ones are scaled up. A mask holds
      for all rows of a call. [wan2013] draws one for each row, and one for the biases;
      `microbatches` of a config gives each part of a batch a mask of its own.
    kernel_init, dtype: as in `Layered`.
    """

    features: int
    dropconnect: float = 0.0
    kernel_init: Initializer = fan_in()
    dtype: Literal["bfloat16"] | None = None

    @nn.compact
    def __call__(self, h: Array, *, train: bool = False) -> Array:
        if not h.size:
            legal = "images of which pooling leaves something"
            raise UserError(f"x must be {legal}, got {described(h)} after it")
        rows = h.reshape(h.shape[0], -1)
        shape = (rows.shape[1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        if train and self.dropconnect:
            kernel = Dropout(self.dropconnect)(kernel, deterministic=False)
        rows, kernel, bias = promote_dtype(rows, kernel, bias, dtype=self.dtype)
        return rows @ kernel + bias[None]


class Dropout(nn.Dropout):
    """Flax's dropout, bit for bit; XLA draws the mask once for two passes with the same key."""

    def __call__(self, inputs: Array, *, deterministic: bool) -> Array:
        if deterministic or self.rate in (0, 1):
            return super().__call__(inputs, deterministic=deterministic)
        kept = bernoulli(self.make_rng("dropout"), 1 - self.rate, inputs.shape)
        return jnp.where(kept, inputs / (1 - self.rate), 0)

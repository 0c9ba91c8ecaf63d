"""Multilayer perceptrons of any width."""

from collections.abc import Sequence

import flax.linen as nn
from flax.linen.initializers import Initializer

from adv_jax.models.activations import activation_fn
from adv_jax.models.initializers import fan_in
from adv_jax.types import Array


class MLP(nn.Module):
    """Fully connected layers: `features` hidden units each, then `num_classes` logits.

    features: units of the hidden layers; () is softmax regression.
    num_classes: K.
    activation: of the hidden layers, a name of `activations.ACTIVATIONS`.
    dropout: the probability that a value is dropped in training, of the input and of each hidden
      layer; () for none. Those kept are scaled up, so that testing needs no change.
    hidden_init, output_init: of the weights; biases begin at 0.
    """

    features: Sequence[int] = (800,)
    num_classes: int = 10
    activation: str = "relu"
    dropout: Sequence[float] = ()
    hidden_init: Initializer = fan_in()
    output_init: Initializer = fan_in()

    def setup(self) -> None:
        if len(self.dropout) not in (0, len(self.features) + 1):
            raise ValueError(
                f"model.dropout has {len(self.dropout)} entries; allowed are 0 or "
                f"{len(self.features) + 1}: one for the input and for each of model.features"
            )
        self.hidden = [
            nn.Dense(units, kernel_init=self.hidden_init, name=f"hidden{layer}")
            for layer, units in enumerate(self.features, start=1)
        ]
        self.logits = nn.Dense(self.num_classes, kernel_init=self.output_init)
        self.drop = [nn.Dropout(rate) for rate in self.dropout]

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, dict[str, Array]]:
        """f32[B, *D] -> logits f32[B, K], {"hidden1": f32[B, features[0]], ...} after `act`."""
        h, extras = self._below(x, len(self.features), train=train)
        return self._above(h, len(self.features), extras, train=train)

    def represent(
        self, x: Array, *, layer: int, train: bool = False
    ) -> tuple[Array, dict[str, Array]]:
        """The activations of a hidden layer, before dropout: f32[B, *D] -> f32[B, D_layer], extras.

        Raises:
          ValueError: there is no such hidden layer.
        """
        return self._below(x, self._hidden(layer), train=train)

    def classify(
        self, h: Array, *, layer: int, train: bool = False
    ) -> tuple[Array, dict[str, Array]]:
        """What the net makes of a hidden layer's activations: f32[B, D_layer] -> logits, extras.

        Raises:
          ValueError: there is no such hidden layer.
        """
        return self._above(h, self._hidden(layer), {}, train=train)

    def _below(self, x: Array, top: int, *, train: bool) -> tuple[Array, dict[str, Array]]:
        """What the layers up to `top` make of x, and each layer's activations."""
        h, extras = x.reshape(x.shape[0], -1), {}
        for layer in range(1, top + 1):
            h = self._dropped(h, layer - 1, train=train)
            h = extras[f"hidden{layer}"] = self._hidden_layer(h, layer)
        return h, extras

    def _above(
        self, h: Array, bottom: int, extras: dict[str, Array], *, train: bool
    ) -> tuple[Array, dict[str, Array]]:
        """The logits that the layers above `bottom` give, and extras with theirs added."""
        for layer in range(bottom + 1, len(self.features) + 1):
            h = self._dropped(h, layer - 1, train=train)
            h = extras[f"hidden{layer}"] = self._hidden_layer(h, layer)
        return self.logits(self._dropped(h, len(self.features), train=train)), extras

    def _hidden_layer(self, h: Array, layer: int) -> Array:
        return activation_fn(self.activation)(self.hidden[layer - 1](h))

    def _dropped(self, h: Array, layer: int, *, train: bool) -> Array:
        return self.drop[layer](h, deterministic=not train) if self.dropout else h

    def _hidden(self, layer: int) -> int:
        if not 1 <= layer <= len(self.features):
            raise ValueError(
                f"layer is {layer}; allowed are 1 to {len(self.features)}, the hidden layers"
            )
        return layer

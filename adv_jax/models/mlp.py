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
    hidden_init, output_init: of the weights; biases begin at 0.
    """

    features: Sequence[int] = (800,)
    num_classes: int = 10
    activation: str = "relu"
    hidden_init: Initializer = fan_in()
    output_init: Initializer = fan_in()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, dict[str, Array]]:
        """f32[B, *D] -> logits f32[B, K], {"hidden1": f32[B, features[0]], ...} after `act`."""
        del train  # Both modes are the same.
        h, extras = x.reshape(x.shape[0], -1), {}
        for layer, units in enumerate(self.features, start=1):
            a = nn.Dense(units, kernel_init=self.hidden_init, name=f"hidden{layer}")(h)
            h = extras[f"hidden{layer}"] = activation_fn(self.activation)(a)
        return nn.Dense(self.num_classes, kernel_init=self.output_init, name="logits")(h), extras

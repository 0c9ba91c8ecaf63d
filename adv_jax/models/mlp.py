"""The multilayer perceptron."""

from collections.abc import Sequence

from adv_jax.models.layered import Activated, LayerFn
from adv_jax.ranges import COUNT, ranged


@ranged(features=COUNT)
class MLP(Activated):
    """Any number of hidden layers `h' = act(W h + b)`, then `num_classes` logits.

    features: units of the hidden layers; () is softmax regression.
    num_classes, activation, dropout, dropconnect, hidden_init, output_init, dtype: as in
      `layered.Activated`.
    """

    features: Sequence[int] = (800,)

    def _hidden_layers(self) -> list[LayerFn]:
        return [self._full(number, units) for number, units in enumerate(self.features, start=1)]

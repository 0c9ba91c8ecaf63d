"""Classifiers with an adversary that reads their features or their predictions."""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax

from adv_jax.models.layered import Extras
from adv_jax.models.lenet import LeNet
from adv_jax.models.mlp import MLP
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, UserError

_NETS = {"lenet": LeNet, "mlp": MLP}


@ranged(
    features=COUNT,
    adversary_features=COUNT,
    num_classes=COUNT,
    dropout="[0, 1)",
)
class Judged(nn.Module):
    """A classifier, and an adversary that judges its features or its predictions.

    The players of a game are the submodules: the parameters have the parts "classifier" and
    "adversary". An objective says what the adversary is to find.

    net: the class of the classifier.
    features: of its hidden layers, as in `mlp.MLP` or `lenet.LeNet`.
    layer: the hidden layer of the classifier that the adversary reads, from 1; 0: the probabilities
      of the classes.
    adversary_features: units of the adversary's hidden layers.
    num_classes: classes of the classifier; the adversary has two.
    activation: of both, a name in `activations.ACTIVATIONS`.
    dropout: of the classifier, as in `layered.Layered`.

    Sources: [ganin2016]; [edwards2016]; [sutskever2015].
    """

    net: Literal["lenet", "mlp"] = "mlp"
    features: Sequence[int] = (500, 500)
    layer: int = 1
    adversary_features: Sequence[int] = (100,)
    num_classes: int = 10
    activation: str = "relu"
    dropout: Sequence[float] = ()

    def setup(self) -> None:
        self._check_layer(0)
        self.classifier = _NETS[self.net](
            features=self.features,  # pyrefly: ignore
            num_classes=self.num_classes,
            activation=self.activation,
            dropout=self.dropout,
        )
        self.adversary = MLP(
            features=self.adversary_features,
            num_classes=2,
            activation=self.activation,
        )

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> logits f[B, K], and the classifier's extras."""
        logits, extras = self.classifier(x, train=train)
        if self.is_initializing():
            if self.layer:
                self.judge(self.represent(x, train=train))
            else:
                self.judge_classes(jax.nn.softmax(logits))
        return logits, extras

    def represent(self, x: Array, *, train: bool = False) -> Array:
        """f[B, *D] -> the activations of the hidden layer `layer`, f[B, *H]."""
        self._check_layer(1)
        return self.classifier.represent(x, layer=self.layer, train=train)[0]

    def classify(self, h: Array, *, train: bool = False) -> Array:
        """Activations of the hidden layer `layer` f[B, *H] -> logits f[B, K]."""
        return self.classifier.classify(h, layer=self.layer, train=train)[0]

    def judge(self, read: Array) -> Array:
        """Returns the adversary's logits f[B, 2] of its input f[B, *H]."""
        return self.adversary(read)[0]

    def judge_classes(self, probabilities: Array) -> Array:
        """Probabilities of the classes f[B, K] -> the adversary's logits f[B, 2].

        Raises:
          UserError: the adversary reads a hidden layer.
        """
        if self.layer:
            allowed = "0, for an adversary of predictions"
            raise UserError(f"model.layer must be {allowed}, got {self.layer}")
        return self.judge(probabilities)

    def _check_layer(self, lowest: int) -> None:
        """Raises UserError if `layer` is below `lowest`, or the classifier has no such layer."""
        most = len(self.features)
        if not lowest <= self.layer <= most:
            raise UserError(f"model.layer must be {lowest} to {most}, got {self.layer}")


@ranged(num_classes=COUNT)
class Censored(Judged):
    """A classifier of half of what a label says, and an adversary that guesses the other half.

    A label is y = 2 a + b. The classifier predicts the public a, the adversary the private b = 0
    or 1 from the classifier's hidden layer. The logits of y are

        log p(y) = log p(a) + log p(b)

    so that their largest entry gives both predictions, a = y // 2 and b = y % 2. If b cannot be
    read, half of all y are wrong.

    num_classes: of a; there are twice as many labels.
    net, features, layer, adversary_features, activation, dropout: as in `Judged`.
    """

    num_classes: int = 5

    def setup(self) -> None:
        self._check_layer(1)
        super().setup()

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> logits f[B, 2 num_classes], and the classifier's extras."""
        logits, extras = super().__call__(x, train=train)
        private = self.judge(extras[f"hidden{self.layer}"])
        both = jax.nn.log_softmax(logits)[:, :, None] + jax.nn.log_softmax(private)[:, None]
        return both.reshape(len(x), -1), extras

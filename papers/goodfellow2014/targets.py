"""[goodfellow2014], Table 1: the log-likelihood of MNIST's test set under Parzen windows.

The paper prints the standard error over examples, not over trainings. The tolerance is chosen.
"""

from papers.goodfellow2014.samples import LIKELIHOOD
from papers.target import Drawn, Row, Run, Target

TARGETS = (
    Target(
        "goodfellow2014.table1.mnist",
        "Parzen windows at samples of a generator, MNIST",
        rows=(
            Row(
                "adversarial nets",
                Run("gan_mnist", "", {"replicas.seeds": 3}),
                "goodfellow2014.table1.mnist.adversarial",
                tolerance=6.0,
                measure=Drawn(LIKELIHOOD),
            ),
        ),
    ),
)

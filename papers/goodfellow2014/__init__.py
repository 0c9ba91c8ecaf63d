"""[goodfellow2014], "Generative Adversarial Nets": MNIST.

Not drawn: Figs. 2 b to d (faces and CIFAR-10) and 3 (interpolation).
"""

from papers.goodfellow2014.samples import generated
from papers.goodfellow2014.targets import TARGETS

FIGURES = {"table1.mnist": generated}

__all__ = ["FIGURES", "TARGETS"]

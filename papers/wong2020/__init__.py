"""[wong2020], "Fast is better than free: Revisiting adversarial training": MNIST.

    python -m adv_jax.report wong2020.overfitting --workdir=RUN --workdir=RUN_FROM_ZERO

The runs are of the config fast_mnist.
"""

from papers.wong2020 import overfitting
from papers.wong2020.targets import TARGETS

# name -> function, see papers.running.figures
FIGURES = {"overfitting": overfitting.curves}

__all__ = ["FIGURES", "TARGETS"]

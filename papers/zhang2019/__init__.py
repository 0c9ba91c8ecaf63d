"""[zhang2019], "Theoretically Principled Trade-off between Robustness and Accuracy": MNIST.

Not drawn: the figures of the paper.
"""

from papers.zhang2019 import robustness
from papers.zhang2019.targets import TARGETS

# name -> function, see papers.running.figures
FIGURES = {"auto_attack": robustness.auto_attack}

__all__ = ["FIGURES", "TARGETS"]

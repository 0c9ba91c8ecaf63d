"""[madry2018], "Towards Deep Learning Models Resistant to Adversarial Attacks": MNIST.

Not drawn: Figs. 1 to 6.
"""

from papers.madry2018.targets import TARGETS

FIGURES: dict = {}

__all__ = ["FIGURES", "TARGETS"]

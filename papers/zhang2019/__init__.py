"""[zhang2019], "Theoretically Principled Trade-off between Robustness and Accuracy": MNIST."""

from papers.zhang2019.targets import TARGETS

FIGURES: dict = {}

__all__ = ["FIGURES", "TARGETS"]

"""The figures of [maronas2016], "Adversarial Learning with Ladder Networks".

Not drawn: diagrams of networks (1, 2, 5-9, 14-17, 19-22, 25, 28) and samples of CIFAR-10 (12, 13),
which is not packaged; `samples.grid` and `samples.close_up` can draw them.
"""

from papers.maronas2016 import costs, denoising, optimization, perturbations, robustness, samples
from papers.maronas2016.targets import TARGETS

# name -> function, see papers.figures
FIGURES = {
    "fig3": optimization.poor_conditioning,
    "fig4": optimization.local_minimum,
    "fig10": samples.digits,
    "fig11": samples.digit,
    "fig18": denoising.bimodal,
    "fig23_24": robustness.noisy_digit,
    "fig26": perturbations.threshold,
    "fig27": perturbations.noises,
    "fig29": costs.squared_errors,
    "fig30": costs.normalizations,
    "fig31": costs.root_mean_squares,
    "fig32": costs.cross_entropies,
}

__all__ = ["FIGURES", "TARGETS"]

"""The figures of the shallow-net thesis (its chapter 3), and its worked example.

    python -m adv_jax.report shallow_thesis.example
    python -m adv_jax.report shallow_thesis.fig3.4 --workdir=RUN_OF_A --workdir=RUN_OF_B

The runs are of the configs shallow_mnist and shallow_cifar10. Figures show the mean over replicas
and shade their range. Not drawn: diagrams of networks (1.1, 2.1 to 2.3, 3.1, 4.1, A.1). Runs of
shallow_covtype measure Table 3.1; `covtype`, a figure of ours, attacks their nets.
"""

from papers.shallow_thesis import example, robustness, samples, sweeps, valid_rows, weights
from papers.shallow_thesis.targets import TARGETS

# name -> function, see papers.running.figures
FIGURES = {
    "example": example.walk_through,
    "fig3.2": sweeps.widths,
    "fig3.3": sweeps.training_eps,
    "fig3.4": robustness.clean_and_adversarial,
    "fig3.5": samples.strip,
    "fig3.6": robustness.with_noisy,
    "fig3.7": weights.class_images,
    "fig3.8": weights.unit_images,
    "fig3.9": samples.extract,
    "fig3.10": robustness.cifar10,
    "covtype": valid_rows.covtype,
}

__all__ = ["FIGURES", "TARGETS"]

"""The figures of [huang2015], "Learning with a Strong Adversary", and its appendix A.

    python -m adv_jax.report huang2015.fig1 --workdir=RUN_OF_NORMAL
    python -m adv_jax.report huang2015.fig2 --workdir=RUN_OF_NORMAL --workdir=RUN_OF_LWA

The runs of both are of the config huang_lenet_mnist. launch.reproduce reproduces the tables.
"""

from papers.huang2015 import curves, logistic, readings, transfer
from papers.huang2015.targets import TARGETS

# name -> function, see papers.running.figures
FIGURES = {
    "fig1": curves.normal,
    "fig2": curves.normal_and_lwa,
    "table1_dropout": readings.dropout,
    "table1_lwa_rep": readings.representation,
    "transfer": transfer.models_without_a_net,
    "appendixA": logistic.regularization,
}

__all__ = ["FIGURES", "TARGETS"]

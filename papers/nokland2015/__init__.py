"""The tables and figures of [nokland2015], "Improving Back-Propagation by Adding an Adversarial
Gradient".

    python -m adv_jax.report nokland2015.table2 --workdir=RUN,RUN,...

The runs are of the configs backprop_mnist and backprop_cifar10. A number is the mean over replicas,
the spread their sample standard deviation. Table 1 has only numbers of other papers.
"""

from papers.nokland2015 import curves, hidden, readings, tables, transfer
from papers.nokland2015.targets import TARGETS

# name -> function, see papers.running.figures
FIGURES = {
    "table2": tables.mnist,
    "table3": tables.cifar10,
    "overhead": tables.overhead,
    "fig1": curves.errors,
    "fig2": hidden.features,
    "fig3": hidden.activations,
    "transfer": transfer.transfer,
    "transfer_readings": readings.transfer,
    "fig3_readings": readings.zeros,
}

__all__ = ["FIGURES", "TARGETS"]

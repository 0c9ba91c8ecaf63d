"""The tables, figures and numbers of Nokland 2015, "Improving back-propagation by adding an
adversarial gradient", from finished runs of the configs backprop_mnist and backprop_cifar10.

    python -m adv_jax.report nokland2015.table2 --workdir=RUN,RUN,...

Of several replicas a number is their mean, and the spread their sample standard deviation. Table 1
has numbers of other papers only.
"""

from papers.nokland2015 import curves, hidden, tables, transfer
from papers.nokland2015.targets import TARGETS

# name -> function of `workdirs`.
FIGURES = {
    "table2": tables.mnist,
    "table3": tables.cifar10,
    "overhead": tables.overhead,
    "fig1": curves.errors,
    "fig2": hidden.features,
    "fig3": hidden.activations,
    "transfer": transfer.transfer,
}

__all__ = ["FIGURES", "TARGETS"]

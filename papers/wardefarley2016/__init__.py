"""The tables and figures of [wardefarley2016], "Adversarial Perturbations of Deep Neural
Networks".

Not drawn: pictures from other papers (Figs. 1.1, 1.6, 1.7). Church windows can be drawn for any
run; the printed ones are of CIFAR-10 (config goodfellow_cifar10).
"""

from papers.wardefarley2016 import (
    agreement,
    autoencoders,
    church_window,
    cross_dataset,
    defenses,
    games,
    max_norm,
    neighbors,
    regularizers,
    rubbish,
    smoothing,
    substitution,
    transfer,
)
from papers.wardefarley2016.targets import TARGETS

# name -> function, see papers.running.figures
FIGURES = {
    "table1.1": transfer.table,
    "table1.1_gradients": neighbors.gradients,
    "cross_dataset": cross_dataset.halves,
    "substitute": substitution.substitutes,
    "same_class": agreement.same_class,
    "label_smoothing": defenses.label_smoothing,
    "label_smoothing_costs": smoothing.costs,
    "regularizers": regularizers.regularizers,
    "adversarial_training": defenses.adversarial_training,
    "fig1.2": church_window.adversarial_and_random,
    "fig1.3": church_window.two_random,
    "fig1.4": church_window.two_adversarial,
    "fig1.5": max_norm.perturbations,
    "rubbish": rubbish.confidences,
    "domain_adversarial": games.domain_adversarial,
    "output_matching": games.output_matching,
    "censored": games.censored,
    "clusters": games.clusters,
    "vae": autoencoders.generated,
    "code": autoencoders.code,
    "vae_gan": autoencoders.generated,
    "aae": autoencoders.generated,
}

__all__ = ["FIGURES", "TARGETS"]

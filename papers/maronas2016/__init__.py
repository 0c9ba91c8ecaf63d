"""The figures of [maronas2016], "Adversarial Learning with Ladder Networks".

Not drawn: diagrams of networks (1, 2, 5-8, 14-17, 19, 20, 25, 28); `boltzmann` and
`belief_network` have pictures of the nets of Fig. 8. Figs. 12 and 13 need a run on CIFAR-10,
`fgsm_readings` runs of ladder_mnist, `boltzmann` runs of rbm_mnist, nce_mnist,
dbn_mnist or dbm_mnist.
"""

from papers.maronas2016 import (
    autoencoders,
    boltzmann,
    costs,
    denoising,
    online,
    optimization,
    optimizers,
    perturbations,
    readings,
    regression,
    robustness,
    samples,
)
from papers.maronas2016.targets import TARGETS

# name -> function, see papers.running.figures
FIGURES = {
    "fig3": optimization.poor_conditioning,
    "fig4": optimization.local_minimum,
    "optimizers": optimizers.all_rules,
    "online": online.curves,
    "boltzmann": boltzmann.machines,
    # The same pictures, of other runs.
    "deep_boltzmann": boltzmann.machines,
    "contrastive_divergence": boltzmann.machines,
    "belief_network": boltzmann.machines,
    "noise_contrastive": boltzmann.machines,
    "autoencoder": autoencoders.filters,
    "fig9": autoencoders.steps,
    "fig10": samples.digits,
    "fig11": samples.digit,
    "fig12": samples.color_images,
    "fig13": samples.color_image,
    "fig18": denoising.bimodal,
    "fig21": regression.sample,
    "fig22": regression.costs,
    "fig23_24": robustness.noisy_digit,
    "fgsm_readings": readings.fgsm,
    "fig26": perturbations.threshold,
    "fig27": perturbations.noises,
    "fig29": costs.squared_errors,
    "fig30": costs.normalizations,
    "fig31": costs.root_mean_squares,
    "fig32": costs.cross_entropies,
}

__all__ = ["FIGURES", "TARGETS"]

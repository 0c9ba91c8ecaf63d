"""[goodfellow2014], "Generative Adversarial Nets": MNIST.

    python -m adv_jax.report goodfellow2014.quality --workdir=RUN_OF_A_GAN --workdir=RUN_OF_A_LENET

`quality`, `rubbish` and `arithmetic` need a run of a generator and one of huang_lenet_mnist.
Not drawn: Figs. 2 b to d (faces and CIFAR-10).
"""

from papers.goodfellow2014 import latent, quality, rubbish
from papers.goodfellow2014.samples import generated, of_digits, of_levels
from papers.goodfellow2014.targets import TARGETS

FIGURES = {
    "table1.mnist": generated,
    "conditional": of_digits,
    "convolutional": generated,
    "pyramid": of_levels,
    "variational": generated,
    "vae_gan": generated,
    "adversarial_code": generated,
    "quality": quality.beside_real,
    "fig3": latent.interpolation,
    "rubbish": rubbish.rubbish,
    "arithmetic": latent.arithmetic,
}

__all__ = ["FIGURES", "TARGETS"]

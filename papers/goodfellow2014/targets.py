"""[goodfellow2014], Table 1: the log-likelihood of MNIST's test set under Parzen windows.

The paper prints the standard error over examples, not over trainings. The tolerance is chosen.
There are five seeds, as a plan made after three said that four would decide. The generators of
later works, which [wardefarley2016], secs. 1.4.4 and 1.4.5, tells of, have the same measure.
"""

from papers.goodfellow2014.samples import LIKELIHOOD
from papers.running.target import Drawn, Row, Run, Target

SUCCESSORS = {
    "conditional": ("a generator of given digits, MNIST", "cgan_mnist"),
    "convolutional": ("a convolutional generator, MNIST", "dcgan_mnist"),
    "pyramid": ("a pyramid of generators, MNIST", "lapgan_mnist"),
    "variational": ("the decoder of a variational autoencoder, MNIST", "vae_mnist"),
    "vae_gan": ("the decoder of a VAE with a discriminator, MNIST", "vae_gan_mnist"),
    "adversarial_code": ("the decoder of an adversarial autoencoder, MNIST", "aae_mnist"),
}

TARGETS = (
    Target(
        "goodfellow2014.table1.mnist",
        "Parzen windows at samples of a generator, MNIST",
        rows=(
            Row(
                "adversarial nets",
                Run("gan_mnist", "", {"replicas.seeds": 5}),
                "goodfellow2014.table1.mnist.adversarial",
                tolerance=6.0,
                measure=Drawn(LIKELIHOOD),
            ),
        ),
    ),
    *(
        Target(
            f"goodfellow2014.{name}",
            f"Parzen windows at samples of {title}",
            rows=(
                Row(
                    name.replace("_", " "),
                    Run(config, "", {"replicas.seeds": 3}),
                    measure=Drawn(LIKELIHOOD),
                    metric="log_likelihood_nats",
                ),
            ),
        )
        for name, (title, config) in SUCCESSORS.items()
    ),
)

"""A generative adversarial network on MNIST ([goodfellow2014], [wardefarley2016], sec. 1.4).

Run:    python -m adv_jax.main --config=configs/gan_mnist.py
        python -m adv_jax.main --config=configs/gan_mnist.py:loss=minimax
Quick:  python -m adv_jax.main --config=configs/gan_mnist.py:quick   (5,000 embedded digits)

Options, joined by commas:

    quick or paper
    loss=non_saturating|minimax     the generator's: -log D(G(z)), or log(1 - D(G(z)))

The paper's log-likelihood of the test set under Parzen windows at samples: 225 nats.
The test error here is the share of test digits that the discriminator calls generated. Samples:
`python -m adv_jax.report goodfellow2014.table1.mnist --workdir=RUN`.

Deviations: the paper prints neither nets nor optimizer. Here both nets have leaky rectified linear
units and Adam with the rate and beta_1 of [radford2016], and both players move at once. The
bandwidth of the windows is chosen on training images, in the paper on validation images.

Results: docs/results.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import (
    DENSE_GAN,
    GENERATOR_LOSSES,
    generator_game,
    parse_options,
    shorten,
)


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, loss=GENERATOR_LOSSES)

    c = generator_game("gan_mnist")
    c.model = {"name": "gan", **DENSE_GAN}
    c.objective = {"name": "gan", "generator_loss": options.loss}
    if options.quick:
        shorten(c, epochs=200, every=20)
    return c

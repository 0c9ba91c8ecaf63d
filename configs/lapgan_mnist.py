"""A Laplacian pyramid of generative adversarial networks on MNIST ([denton2015]).

Run:    python -m adv_jax.main --config=configs/lapgan_mnist.py
Quick:  python -m adv_jax.main --config=configs/lapgan_mnist.py:quick   (5,000 embedded digits)

Options, joined by commas:

    quick or paper
    loss=non_saturating|minimax     the generators': -log D(G(z)), or log(1 - D(G(z)))

A dense generator draws digits of 7 x 7 pixels. Two convolutional ones each double an image and add
details to it, 28 <- 14 <- 7. All levels learn at once, as each doubles real images in training.

The paper prints no number for MNIST. The test error is the share of test digits whose details the
finest discriminator calls generated. Samples of each level:
`python -m adv_jax.report goodfellow2014.pyramid --workdir=RUN`.

Deviations: the paper has data sets of larger images and SGD with momentum. The players of 7 x 7
pixels are those of `gan_mnist`, as is the optimizer; the other nets have two layers of 32 maps. An
image is both real and generated, with the same coarse image, instead of one of them by chance.

Results: papers/goodfellow2014/README.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import (
    DENSE_GAN,
    GENERATOR_LOSSES,
    generator_game,
    parse_options,
    players_adam,
    shorten,
)


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, loss=GENERATOR_LOSSES)

    c = generator_game("lapgan_mnist", epochs=30)
    c.model = {"name": "lapgan", **DENSE_GAN, "halvings": 2, "maps": 32}
    c.objective = {"name": "lapgan", "generator_loss": options.loss}
    players = (f"{name}_{k}" for name in ("generator", "discriminator") for k in range(3))
    c.optimizer = players_adam(*players)
    if options.quick:
        shorten(c, epochs=40, every=10)
        c.model.maps = 12
    return c

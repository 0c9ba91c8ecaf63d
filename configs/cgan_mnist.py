"""A generative adversarial network on MNIST whose players know the digit ([mirza2014]).

Run:    python -m adv_jax.main --config=configs/cgan_mnist.py
Quick:  python -m adv_jax.main --config=configs/cgan_mnist.py:quick   (5,000 embedded digits)

Options, joined by commas:

    quick or paper
    loss=non_saturating|minimax     the generator's: -log D(G(z, y), y), or log(1 - D(G(z, y), y))

A page of another program quotes the log-likelihood of the paper under Parzen windows as 132 nats.
The test error is the share of test digits that the discriminator calls generated with every label.
Samples of each digit: `python -m adv_jax.report goodfellow2014.conditional --workdir=RUN`.

Deviations: the nets and the optimizer are those of `gan_mnist`, with the label as further inputs,
scaled to be as strong as the image or z, and without dropout of the inputs. The paper joins image
and label after a hidden layer, has a discriminator of maxout units, and SGD with momentum.

Results: papers/goodfellow2014/README.md
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

    c = generator_game("cgan_mnist")
    c.model = {"name": "conditional_gan", **DENSE_GAN, "num_classes": 10}
    c.model.dropout = (0.0, 0.5, 0.5)
    c.objective = {"name": "conditional_gan", "generator_loss": options.loss}
    if options.quick:
        shorten(c, epochs=200, every=20)
    return c

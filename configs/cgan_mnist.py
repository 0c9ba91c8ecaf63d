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

Results: docs/results.md
"""

from ml_collections import ConfigDict

from configs.common import base, parse_options


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, loss=("non_saturating", "minimax"))

    c = base("cgan_mnist", {"name": "mnist"})
    c.model = {
        "name": "conditional_gan",
        "shape": (28, 28, 1),
        "num_classes": 10,
        "latent": 100,
        "generator_features": (256, 512),
        "discriminator_features": (512, 256),
        "activation": "leaky_relu",
        "dropout": (0.0, 0.5, 0.5),
    }
    c.objective = {"name": "conditional_gan", "generator_loss": options.loss}
    adam = {"name": "adam", "learning_rate": 2e-4, "b1": 0.5}
    c.optimizer = {"name": "players", "generator": adam, "discriminator": adam}
    c.epochs = 100
    c.batch_size = 100
    c.evaluation = {"attacks": {}, "eps": (0.0,)}
    if options.quick:
        c.data.source = "embedded"
        c.epochs = 200
        c.monitor_every = c.checkpoint_every = 20
    return c

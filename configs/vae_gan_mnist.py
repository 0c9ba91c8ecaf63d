"""A variational autoencoder with a discriminator ([larsen2016], [wardefarley2016], sec. 1.4.5).

Run:    python -m adv_jax.main --config=configs/vae_gan_mnist.py
        python -m adv_jax.main --config=configs/vae_gan_mnist.py \
            "--config.replicas.grid={'objective.gamma': (.01, .1, 1.)}"
Quick:  python -m adv_jax.main --config=configs/vae_gan_mnist.py:quick   (5,000 embedded digits)

Options: quick or paper.

The error of a reconstruction is measured in the features of the discriminator; gamma weighs it
against fooling the discriminator. The test error is the share of test digits that the discriminator
calls generated, as in `gan_mnist`.
`python -m adv_jax.report wardefarley2016.vae_gan --workdir=RUN` draws samples, reconstructions and
digits between two digits.

Deviations: the paper has convolutional nets on faces. Here the nets are dense, the optimizer is
Adam, as in `gan_mnist`, and the decoder maximizes log D in place of minimizing log(1 - D).

Results: papers/goodfellow2014/README.md, of 10 of the 100 epochs
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import NO_ATTACK, base, parse_options, players_adam, shorten


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode)

    c = base("vae_gan_mnist", {"name": "mnist"})
    c.model = {
        "name": "vae_gan",
        "shape": (28, 28, 1),
        "latent": 20,
        "encoder_features": (512, 256),
        "decoder_features": (256, 512),
        "discriminator_features": (512, 256),
        "activation": "leaky_relu",
        "dropout": (0.2, 0.5, 0.5),
    }
    c.objective = {"name": "vae_gan", "gamma": 1.0, "layer": 1}
    c.optimizer = players_adam("encoder", "decoder", "discriminator")
    c.epochs = 100
    c.batch_size = 100
    c.evaluation = NO_ATTACK
    if options.quick:
        shorten(c, epochs=100, every=10)
    return c

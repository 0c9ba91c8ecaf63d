"""A generative adversarial network on MNIST ([goodfellow2014], [wardefarley2016], sec. 1.4).

Run:    python -m adv_jax.main --config=configs/gan_mnist.py
        python -m adv_jax.main --config=configs/gan_mnist.py:loss=minimax
Quick:  python -m adv_jax.main --config=configs/gan_mnist.py:quick   (5,000 embedded digits)

Options, joined by commas:

    quick or paper
    loss=non_saturating|minimax     the generator's: -log D(G(z)), or log(1 - D(G(z)))

The paper's log-likelihood of the test set under Parzen windows at samples: 225 nats.
The test error here is the share of test digits that the discriminator calls generated, and attacks
of the evaluation are attacks on the discriminator. Samples:
`python -m adv_jax.report goodfellow2014.table1.mnist --workdir=RUN`.

Deviations: the paper prints neither nets nor optimizer. Here both nets have leaky rectified linear
units and Adam with the rate and beta_1 of [radford2016], and both players move at once.

Results: docs/results.md
"""

from ml_collections import ConfigDict

from configs.common import base, parse_options


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, loss=("non_saturating", "minimax"))

    c = base("gan_mnist", {"name": "mnist"})
    c.model = {
        "name": "gan",
        "shape": (28, 28, 1),
        "latent": 100,
        "generator_features": (256, 512),
        "discriminator_features": (512, 256),
        "activation": "leaky_relu",
        "dropout": (0.2, 0.5, 0.5),
    }
    c.objective = {"name": "gan", "generator_loss": options.loss}
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

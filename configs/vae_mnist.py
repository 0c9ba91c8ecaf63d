"""A variational autoencoder on MNIST ([kingma2014], [wardefarley2016], sec. 1.4.3 and 1.4.5).

Run:    python -m adv_jax.main --config=configs/vae_mnist.py
        python -m adv_jax.main --config=configs/vae_mnist.py:latent=2
Quick:  python -m adv_jax.main --config=configs/vae_mnist.py:quick   (5,000 embedded digits)

Options, joined by commas:

    quick or paper
    latent=20|3|5|10|200|2      values of the code; 2 for a picture of the codes

The test loss is the negative evidence lower bound in nats, at one code of each digit.
`python -m adv_jax.report wardefarley2016.vae --workdir=RUN` draws samples, reconstructions and
digits between two digits; `wardefarley2016.code` draws a code of two values.

Deviations: Adam in place of Adagrad; no prior of the weights; weights start from N(0, 1 / inputs)
in place of N(0, .01).

Results: papers/wardefarley2016/README.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import NO_ATTACK, base, parse_options


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, latent=(20, 3, 5, 10, 200, 2))

    c = base("vae_mnist", {"name": "mnist"})
    c.model = {
        "name": "vae",
        "shape": (28, 28, 1),
        "latent": options.latent,
        "encoder_features": (500,),
        "decoder_features": (500,),
        "activation": "tanh",
    }
    c.objective = {"name": "vae"}
    c.optimizer = {"name": "adam", "learning_rate": 1e-3}
    c.epochs = 100
    c.batch_size = 100
    c.evaluation = NO_ATTACK
    if options.quick:
        c.data.source = "embedded"
        c.monitor_every = c.checkpoint_every = 10
    return c

"""Adversarial autoencoders on MNIST ([makhzani2015], [wardefarley2016], sec. 1.4.5).

Run:    python -m adv_jax.main --config=configs/aae_mnist.py
        python -m adv_jax.main --config=configs/aae_mnist.py:labels=100
Quick:  python -m adv_jax.main --config=configs/aae_mnist.py:quick,labels=100

Options, joined by commas:

    quick or paper              quick: 5,000 embedded digits
    labels=none|100|1000        none: an autoencoder; else its code has the classes, too, and the
                                test error is that of its classifier; in a run with labels,
                                --config.data.num_labels=0 means that all images have one

The test loss of an autoencoder is its squared error. `python -m adv_jax.report wardefarley2016.aae
--workdir=RUN` draws samples, reconstructions and digits between two digits.

The paper's error with 100 labels: 1.90 %, with 1,000: 1.60 %.

Deviations: all phases are one step of the sum of the players' losses, each with Adam, in place of
three phases with SGD and momentum of their own, whose rates became weights; 100 epochs in place of
5,000; see docs/experiments.md.

Results: docs/results.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import NO_ATTACK, base, parse_options


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, labels=("none", 100, 1000))

    labels = 0 if options.labels == "none" else options.labels
    c = base("aae_mnist", {"name": "mnist", "num_labels": labels})
    c.model = {
        "name": "semi_supervised_autoencoder" if labels else "adversarial_autoencoder",
        "shape": (28, 28, 1),
        "latent": 10 if labels else 8,
        "features": (1000, 1000),
        "discriminator_features": (1000, 1000),
        "activation": "relu",
    }
    c.objective = {"name": "adversarial_autoencoder", "weight": 10.0}
    if labels:
        c.model.num_classes = 10
        c.objective = {
            "name": "semi_supervised_autoencoder",
            "weight": 2.0,
            "label_weight": 20.0,
            "noise_std": 0.3,
        }
    adam = {"name": "adam", "learning_rate": 1e-3, "b1": 0.5}
    c.optimizer = {"name": "players", "encoder": adam, "decoder": adam, "discriminator": adam}
    c.epochs = 100
    c.batch_size = 100
    if not labels:
        c.evaluation = NO_ATTACK
    if options.quick:
        c.data.source = "embedded"
        c.monitor_every = c.checkpoint_every = 10
    return c

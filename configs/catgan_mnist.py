"""Categorical generative adversarial networks on MNIST ([springenberg2016]).

Run:    python -m adv_jax.main --config=configs/catgan_mnist.py
        python -m adv_jax.main --config=configs/catgan_mnist.py:labels=100
Quick:  python -m adv_jax.main --config=configs/catgan_mnist.py:quick   (5,000 embedded digits)

The discriminator is the classifier: sure about real images, unsure about generated ones, and with
all classes equally often.

Options, joined by commas:

    quick or paper
    labels=none|100     none: the classes are ten clusters without names; the test error is then
                        that of arbitrary names. `python -m adv_jax.report
                        wardefarley2016.clusters --workdir=RUN` matches clusters to labels.

The paper's error with 100 labels, as [dai2017] quotes it: 191 +- 10 of the 10,000 test digits.

Deviations: nets, dropout and optimizer are those of gan_mnist, not the paper's. There are as many
clusters as classes.

Results: docs/results.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import DENSE_GAN, add_pgd, base, parse_options, players_adam, shorten


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, labels=("none", 100))

    c = base("catgan_mnist", {"name": "mnist"})
    c.data.num_labels = 0 if options.labels == "none" else options.labels
    c.model = {"name": "catgan", **DENSE_GAN, "num_classes": 10}
    c.objective = {"name": "catgan", "weight": 0.0 if options.labels == "none" else 1.0}
    c.optimizer = players_adam("generator", "discriminator")
    c.epochs = 100
    c.batch_size = 100
    if options.quick:
        shorten(c, epochs=100, every=10)
        add_pgd(c)
    return c

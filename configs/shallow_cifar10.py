"""Shallow nets on gray CIFAR-10, clean (A) or half adversarial (B): the shallow-net thesis.

Run:    python -m adv_jax.main --config=configs/shallow_cifar10.py:model=A
        python -m adv_jax.main --config=configs/shallow_cifar10.py:model=B
Quick:  python -m adv_jax.main --config=configs/shallow_cifar10.py:quick   (100 units, two epochs)
Then:   python -m adv_jax.report shallow_thesis.fig3.10 --workdir=RUN_OF_A --workdir=RUN_OF_B

Options, joined by commas: quick or paper; model=B|A. CIFAR-10 has no embedded sample: quick reads
the same data as paper.

The net of configs/shallow_mnist.py with 2,500 hidden ReLU units, on 32 x 32 gray values from 0 to
1; 40,000 images to train, 10,000 to validate.

The shallow-net thesis (sec. 3.5, Fig. 3.10) prints no number: its Bc is more accurate than its Ac
on clean images, does "an amazing job" on adversarial ones, and is not much better on noisy ones.

Deviations: it does not name its formula of gray (here the luma of ITU-R BT.601), the range of the
values, the eps of B (here .25, the one it prints for MNIST), its validation images (here drawn by
the seed, balanced by class) or the epochs: "3 days", or "more that 48 hours".
More: docs/experiments.md. No result of this config is stored.
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import add_pgd, parse_options, shallow_net


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, model=("B", "A"))

    data = {"name": "cifar10", "num_valid": 10_000, "preprocess": ({"name": "gray"},)}
    width = 100 if options.quick else 2500
    c = shallow_net("shallow_cifar10", data, model=options.model, width=width)
    c.checkpoint_every = 5
    c.evaluation.attacks.gaussian_noise = {"name": "gaussian_noise"}
    if options.quick:
        c.epochs = 2
        add_pgd(c)
    return c

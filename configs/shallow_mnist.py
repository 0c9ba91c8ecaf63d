"""Shallow nets on MNIST, clean (A), half adversarial (B) or half noisy (C): the shallow-net thesis.

Run:    python -m adv_jax.main --config=configs/shallow_mnist.py:model=A
        python -m adv_jax.main --config=configs/shallow_mnist.py:model=B,width=400
        python -m adv_jax.main --config=configs/shallow_mnist.py:model=C
        python -m adv_jax.main --config=configs/shallow_mnist.py:sweep=eps       (Fig. 3.3)
Quick:  python -m adv_jax.main --config=configs/shallow_mnist.py:quick   (5,000 embedded digits)
Then:   python -m adv_jax.report shallow_thesis.fig3.2 --workdir=RUN --workdir=RUN ...

Options, joined by commas:

    quick or paper
    model=B|A|C                     on x and FGSM's x + r, on x alone, on x and Gaussian noise
    width=800                       hidden units, a whole number from 1 on; Fig. 3.2 has 5 to 2000
    sweep=none|eps                  eps: a grid of training eps of model B, 0 being model A

The shallow-net thesis (sec. 3.4.1 to 3.4.5): B is 17 points less accurate than A with 5 units; A
stops gaining between 50 and 100 units, B at 400 (Fig. 3.2). Training eps from .05 to .3 do well, .1
best (Fig. 3.3).
With 800 units B and C are close to 98.7 % on clean digits (Fig. 3.6). On adversarial ones B is far
above A (Fig. 3.4) and C is above A. On noisy ones B is above A up to a std of .22, and C is above
both (Fig. 3.6).

Deviations: the shallow-net thesis prints neither the eps of B in Fig. 3.4 nor the std of C: both
are .25, the eps of Fig. 3.2. It does not say whether C mixes clean images in: here half of each
batch is clean, as for B. Its 10,000 validation images are not named: here they are drawn by the
seed, balanced by class. More: docs/experiments.md; results: docs/results.md.
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import add_pgd, parse_options, shallow_net

SWEPT_EPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)  # 0 is model A


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, model=("B", "A", "C"), width=(800, int), sweep=("none", "eps"))

    data = {"name": "mnist", "num_valid": 10_000}
    c = shallow_net("shallow_mnist", data, model=options.model, width=options.width)
    if options.sweep == "eps":
        c.replicas.grid = {"objective.attack.eps": SWEPT_EPS}
    c.checkpoint_every = 20
    c.evaluation.attacks.gaussian_noise = {"name": "gaussian_noise"}
    if options.quick:
        c.data.source, c.data.num_valid = "embedded", 500
        c.epochs, c.patience = 60, 20
        add_pgd(c)
    return c

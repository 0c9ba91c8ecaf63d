"""Fast adversarial training on MNIST, and its catastrophic overfitting ([wong2020]).

Run:    python -m adv_jax.main --config=configs/fast_mnist.py
        python -m adv_jax.main --config=configs/fast_mnist.py:start=zero
Quick:  python -m adv_jax.main --config=configs/fast_mnist.py:quick   (5,000 embedded digits)
Then:   python -m adv_jax.report wong2020.overfitting --workdir=RUN --workdir=RUN_FROM_ZERO

Options, joined by commas:

    quick or paper
    start=random|zero       of the training's one step: in the ball, or at the digit

A net is trained by `lwa` on the examples of one step of PGD inside linf .3: of 1.25 eps from a
random start, or of eps from the digit, which is FGSM. After each epoch 1,000 test digits are
attacked by FGSM and by PGD of 20 steps.

[wong2020]: a step of 1.25 eps from a random start trains nets as robust as PGD's. With longer
steps, or starts that leave out a part of the ball, they overfit catastrophically: the accuracy
under PGD suddenly falls to 0, while that under FGSM rises.

Deviations: the net is LeNet with 16 and 32 maps of 5 x 5 and 100 units; the authors' has 4 x 4
convolutions of stride 2 in place of pooling. Adam has the constant rate .001 for 10 epochs, while
theirs rises and falls.
Results: docs/results.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import base, parse_options

EPS = 0.3
BALL = {"norm": "linf", "bounds": (0.0, 1.0)}
STEPS = {
    "random": {"step_size": 1.25 * EPS, "random_start": True},
    "zero": {"step_size": EPS, "random_start": False},
}


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, start=tuple(STEPS))

    c = base("fast_mnist", {"name": "mnist"})
    c.model = {
        "name": "lenet",
        "features": (16, 32, 100),
        "num_classes": 10,
        "activation": "relu",
    }
    step = {"name": "pgd", "eps": EPS, "num_steps": 1, "returns": "last"}
    c.objective = {"name": "lwa", "attack": BALL | step | STEPS[options.start]}
    c.optimizer = {"name": "adam", "learning_rate": 1e-3}
    c.epochs = 10
    c.batch_size = 100
    c.evaluation = {
        "attacks": {
            "fgsm": BALL | {"name": "fgsm"},
            "pgd_20": BALL | {"name": "pgd", "num_steps": 20, "step_size": 0.03},
        },
        "eps": (0.0, EPS),
    }
    c.monitor_attacks = {"names": ("fgsm", "pgd_20"), "eps": EPS, "rows": 1000}
    if options.quick:
        c.data.source = "embedded"
        c.model.features = (8, 16, 64)
        c.epochs = 3
    return c

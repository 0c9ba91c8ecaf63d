"""Features of MNIST that hide the parity of a digit from an adversary ([edwards2016]).

Run:    python -m adv_jax.main --config=configs/censored_mnist.py
Quick:  python -m adv_jax.main --config=configs/censored_mnist.py:quick   (5,000 embedded digits)

A digit is y = 2 a + b. The classifier predicts a, the pair of digits, from features that maximize
the loss of an adversary of b, the parity; the two are independent. The net's digit is the
classifier's pair with the adversary's parity, so that the test error is 50 % if the parity is
hidden. Errors of both alone, and of a fresh adversary:
`python -m adv_jax.report wardefarley2016.censored --workdir=RUN`.

Options, joined by commas:

    quick or paper
    weight=W            of the adversary for the features (1); 0: nothing is hidden
    sweep=none|weight   the weights 0, .1, .3 and 1 as replicas

The paper prints no numbers on MNIST.

Deviations: the features need not reconstruct the image, as they do in the paper; both players move
at once, by gradient reversal.

Results: docs/results.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import add_pgd, base, parse_options

WEIGHTS = (0.0, 0.1, 0.3, 1.0)


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, weight=(1.0, float), sweep=("none", "weight"))

    c = base("censored_mnist", {"name": "mnist"})
    c.model = {
        "name": "censored",
        "net": "mlp",
        "features": (500, 100),
        "layer": 2,
        "adversary_features": (100, 100),
        "num_classes": 5,
        "activation": "relu",
        "dropout": (),
    }
    c.objective = {"name": "censored", "weight": options.weight}
    adam = {"name": "adam", "learning_rate": 0.001}
    c.optimizer = {"name": "players", "classifier": adam, "adversary": adam}
    c.epochs = 20
    c.batch_size = 100
    if options.sweep == "weight":
        c.replicas.grid = {"objective.weight": WEIGHTS}
    if options.quick:
        c.data.source = "embedded"
        c.epochs = 30
        add_pgd(c)
    return c

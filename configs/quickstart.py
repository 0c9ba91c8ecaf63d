"""A multilayer perceptron trained on clean and FGSM examples: the place to start from.

Run:    python -m adv_jax.main --config=configs/quickstart.py
Quick:  python -m adv_jax.main --config=configs/quickstart.py:quick   (5,000 embedded digits)

Two hidden layers of 400 ReLU units, Adam, 20 epochs of MNIST, half the loss on FGSM examples of
eps .2. The evaluation draws error and confidence against eps. Every field can be overridden:
--config.objective.attack.eps=.1, --config.replicas.seeds=4,
--config.replicas.grid="{'objective.attack.eps': (.1, .2)}".

It reproduces no paper. More: docs/experiments.md; results of the papers: docs/results.md.
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import add_pgd, base, parse_options


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode)
    c = base("quickstart", {"name": "mnist", "num_valid": 10_000})
    c.seed = 0
    c.model = {
        "name": "mlp",
        "features": (400, 400),
        "num_classes": 10,
        "activation": "relu",
        "hidden_init": {"name": "fan_in"},
        "output_init": {"name": "fan_in"},
    }
    attack = {"name": "fgsm", "norm": "linf", "eps": 0.2, "bounds": (0.0, 1.0)}
    c.objective = {"name": "adversarial_mix", "alpha": 0.5, "attack": attack}
    c.optimizer = {"name": "adam", "learning_rate": 0.001}
    c.epochs = 20
    c.batch_size = 100
    c.evaluation.attacks.fgsm.bounds = (0.0, 1.0)
    if options.quick:
        c.data.source, c.data.num_valid = "embedded", 500
        c.epochs = 10
        add_pgd(c)
    return c

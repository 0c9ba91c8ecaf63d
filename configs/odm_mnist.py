"""Output distribution matching on MNIST with 100 labels ([sutskever2015]).

Run:    python -m adv_jax.main --config=configs/odm_mnist.py
Quick:  python -m adv_jax.main --config=configs/odm_mnist.py:quick   (5,000 embedded digits)

A critic tells the predictions for unlabeled digits from one-hot labels; the classifier learns from
100 labels and from fooling the critic.

Options, joined by commas:

    quick or paper
    labels=100|1000     balanced by class; with --config.data.num_labels=0 all images have labels
    weight=W            of the matching (1); 0: the labels alone
    sweep=none|weight   the weights 0, .1, .3 and 1 as replicas

The paper prints no number for this setting: it matches large spaces of outputs, such as sequences,
where few or no labels are needed. A digit has ten classes, equally frequent, whose distribution
says nothing about their names.

Results: docs/results.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import add_pgd, base, parse_options

WEIGHTS = (0.0, 0.1, 0.3, 1.0)


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, labels=(100, 1000), weight=(1.0, float), sweep=("none", "weight"))

    c = base("odm_mnist", {"name": "mnist", "num_labels": options.labels})
    c.model = {
        "name": "judged",
        "net": "mlp",
        "features": (500, 500),
        "layer": 0,
        "adversary_features": (100,),
        "num_classes": 10,
        "activation": "relu",
        "dropout": (0.2, 0.5, 0.5),
    }
    c.objective = {"name": "output_matching", "weight": options.weight}
    adam = {"name": "adam", "learning_rate": 0.001}
    c.optimizer = {"name": "players", "classifier": adam, "adversary": adam}
    c.epochs = 50
    c.batch_size = 100
    if options.sweep == "weight":
        c.replicas.grid = {"objective.weight": WEIGHTS}
    if options.quick:
        c.data.source = "embedded"
        c.epochs = 50
        c.monitor_every = c.checkpoint_every = 5
        add_pgd(c)
    return c

"""A deep Boltzmann machine of two hidden layers on MNIST ([salakhutdinov2009]).

Run:    python -m adv_jax.main --config=configs/dbm_mnist.py --workdir=RUN
        python -m adv_jax.main --config=configs/mlp_mnist.py:net=dbm,pretrained=RUN
Quick:  python -m adv_jax.main --config=configs/dbm_mnist.py:quick   (5,000 embedded digits)
Figure: python -m adv_jax.report maronas2016.boltzmann --workdir=RUN

Options: quick or paper.

Two hidden layers of 500 and 1,000 units. Expectations over the data come from mean field, those
over the model from persistent chains ([maronas2016], sec. 3.6.1: an RBM with more hidden layers).

The paper's numbers for this machine on the test set: a variational bound of the log-likelihood of
-84.62 nats with log Z = 356.18 by annealed importance sampling, and an error of .95 % after
fine-tuning (1.01 % with three layers).

Deviations: the machine starts from random weights, as its greedy start, with doubled weights in
one direction, is not built. Rates and epochs are chosen here.

Results: docs/results.md
"""

from ml_collections import ConfigDict

from configs.common import ENCODERS, NO_ATTACK, base, parse_options


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode)
    c = base("dbm_mnist", {"name": "mnist"})
    features = ENCODERS["quick" if options.quick else "paper"]["dbm"]
    c.batch_size = 100
    if options.quick:
        c.data.source = "embedded"
    c.model = {
        "name": "boltzmann",
        "shape": (28, 28, 1),
        "features": features,
        "visible": "binary",
        "hidden_init": {"name": "gaussian", "std": 0.01},
        "mean_field_steps": 10,
    }
    c.objective = {"name": "persistent_contrastive_divergence", "steps": 5}
    c.epochs = 60 if options.quick else 200
    c.optimizer = {
        "name": "sgd",
        "learning_rate": {
            "name": "linear_schedule",
            "init_value": 0.02,
            "end_value": 0.0,
            "transition_steps": c.epochs,
        },
    }
    c.checkpoint_every = 10
    c.evaluation = NO_ATTACK
    return c

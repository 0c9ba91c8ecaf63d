"""A deep Boltzmann machine on MNIST, and a classifier that starts from it ([salakhutdinov2009]).

Run:    python -m adv_jax.main --config=configs/dbm_mnist.py --workdir=RUN
        python -m adv_jax.main --config=configs/dbm_mnist.py:training=classifier,pretrained=RUN
        python -m adv_jax.main --config=configs/dbm_mnist.py:training=classifier,labels=100
Quick:  python -m adv_jax.main --config=configs/dbm_mnist.py:quick   (5,000 embedded digits)
Figure: python -m adv_jax.report maronas2016.boltzmann --workdir=RUN

Options, joined by commas:

    quick or paper
    training=machine|classifier the machine, or a perceptron of sigmoid units
    pretrained=RUN              a finished run to start from: the classifier from a machine's layers
    labels=full|100|1000        labels of the classifier, balanced by class

Two hidden layers of 500 and 1,000 units. Expectations over the data come from mean field, those
over the model from persistent chains ([maronas2016], sec. 3.6.1: an RBM with more hidden layers).

The paper's numbers for this machine on the test set: a variational bound of the log-likelihood of
-84.62 nats with log Z = 356.18 by annealed importance sampling, and an error of .95 % after
fine-tuning (1.01 % with three layers).

Deviations: the machine starts from random weights, as its greedy start, with doubled weights in
one direction, is not built. The paper's classifier sees the mean field of the second layer beside
the pixels; here it is a plain perceptron that starts from both layers. Adam fine-tunes it. Rates
and epochs are chosen here.

Results: docs/results.md
"""

from ml_collections import ConfigDict

from configs.common import base, parse_options, require_default, sigmoid_classifier


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(
        mode,
        training=("machine", "classifier"),
        pretrained=(None, str),
        labels=("full", 100, 1000),
    )

    c = base("dbm_mnist", {"name": "mnist"})
    features = (256, 512) if options.quick else (500, 1000)
    c.batch_size = 100
    if options.quick:
        c.data.source = "embedded"
    if options.training == "classifier":
        sigmoid_classifier(c, features, options)
        return c
    require_default(options, "training=classifier", pretrained=None, labels="full")
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
    c.evaluation = {"attacks": {}, "eps": (0.0,)}
    return c

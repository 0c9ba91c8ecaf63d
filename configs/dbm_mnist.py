"""A deep Boltzmann machine of two hidden layers on MNIST ([salakhutdinov2009]).

Run:    python -m adv_jax.main --config=configs/dbm_mnist.py:training=stacked --workdir=STACK
        python -m adv_jax.main --config=configs/dbm_mnist.py:pretrained=STACK --workdir=RUN
        python -m adv_jax.main --config=configs/mlp_mnist.py:net=dbm,pretrained=RUN
Quick:  python -m adv_jax.main --config=configs/dbm_mnist.py:quick   (5,000 embedded digits)
Figure: python -m adv_jax.report maronas2016.boltzmann --workdir=RUN

Options, joined by commas:

    quick or paper
    training=whole|stacked  the machine; or the two RBMs of its greedy start, one after another,
                            with weights doubled in one direction
    pretrained=STACK        starts the machine from a finished run of training=stacked; without it
                            the weights are random

Two hidden layers of 500 and 1,000 units. Expectations over the data come from mean field, those
over the model from persistent chains ([maronas2016], sec. 3.6.1: an RBM with more hidden layers).

The paper's numbers for this machine on the test set: a variational bound of the log-likelihood of
-84.62 nats with log Z = 356.18 by annealed importance sampling, and an error of .95 % after
fine-tuning (1.01 % with three layers).

Deviations: rates and epochs are chosen here; the RBMs train with persistent chains, the paper's by
contrastive divergence. The paper derives the greedy start without biases: see docs/experiments.md.

Results: papers/maronas2016/README.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import ENCODERS, NO_ATTACK, base, falling_sgd, greedy, parse_options

RATES = {"random": 0.02, "pretrained": 0.005}


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, training=("whole", "stacked"), pretrained=(None, str))
    stacked = options.training == "stacked"
    if stacked and options.pretrained:
        raise ValueError("pretrained must be unset with training=stacked")
    c = base("dbm_mnist", {"name": "mnist"})
    features = ENCODERS["quick" if options.quick else "paper"]["dbm"]
    c.batch_size = 100
    if options.quick:
        c.data.source = "embedded"
    c.model = {
        "name": "dbn" if stacked else "boltzmann",
        "shape": (28, 28, 1),
        "features": features,
        "visible": "binary",
        "hidden_init": {"name": "gaussian", "std": 0.01},
    }
    c.checkpoint_every = 10
    c.evaluation = NO_ATTACK
    c.objective = {"name": "persistent_contrastive_divergence", "steps": 1 if stacked else 5}
    if stacked:
        c.model.doubled = True
        # Doubled weights double the gradient and the change of an input.
        epochs, rate = (30, 0.05) if options.quick else (50, 0.0125)
        c.update(greedy(len(features), epochs=epochs, rate=rate))
        return c
    c.model.mean_field_steps = 10
    c.epochs = 60 if options.quick else 200
    rate = RATES["pretrained" if options.pretrained else "random"]
    c.optimizer = falling_sgd(c.epochs, rate)
    if options.pretrained:
        c.pretrained = {"workdir": options.pretrained, "part": ""}
    return c

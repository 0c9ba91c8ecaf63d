"""Adversarial back-propagation on MNIST: nets trained on FGSM examples ([nokland2015], Table 2).

Run:    python -m adv_jax.main --config=configs/backprop_mnist.py
        python -m adv_jax.main --config=configs/backprop_mnist.py:activation=tanh,width=1200
        python -m adv_jax.main --config=configs/backprop_mnist.py:width=400,method=plain
Quick:  python -m adv_jax.main --config=configs/backprop_mnist.py:quick   (two nets, 20 epochs)
Table:  python -m adv_jax.report nokland2015.table2 --workdir=RUN,RUN,...

Options, joined by commas:

    quick or paper
    method=adversarial|plain|dropout
    width=800|400|1200
    activation=relu|sigmoid|tanh

The paper's test error in %, mean over the last ten epochs +- spread of five runs:

    width    logistic       tanh           ReLU
    400      1.15 +- .08    1.04 +- .04    .83 +- .04
    800      1.00 +- .05    1.01 +- .02    .78 +- .03
    1200      .95 +- .03    1.07 +- .05    .78 +- .03

Deviations: [nokland2015] does not print its rates of dropout; here they are those of
[srivastava2014]. There is no validation set, as the number of epochs is given.
More: docs/experiments.md; results: docs/results.md.
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import add_pgd, base, parse_options

RATES = {"relu": 0.05, "sigmoid": 0.5, "tanh": 0.01}
LOSS = "binary_cross_entropy"


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(
        mode,
        method=("adversarial", "plain", "dropout"),
        width=(800, 400, 1200),
        activation=tuple(RATES),
    )

    c = base("backprop_mnist", {"name": "mnist"}, seeds=2 if options.quick else 5)
    init = {"name": "gaussian", "std": 0.01}
    c.model = {
        "name": "mlp",
        "features": (options.width,) * 2,
        "num_classes": 10,
        "activation": options.activation,
        "dropout": (0.2, 0.5, 0.5) if options.method == "dropout" else (),
        "hidden_init": init,
        "output_init": init,
    }
    attack = {"name": "fgsm", "norm": "linf", "loss": LOSS}
    c.objective = {"name": "cross_entropy", "loss": LOSS}
    if options.method == "adversarial":
        c.objective = {
            "name": "adversarial_backprop",
            "loss": LOSS,
            "attack": attack | {"eps": 0.08},
        }
    c.optimizer = {"name": "sgd", "learning_rate": RATES[options.activation]}
    c.epochs = 150
    c.batch_size = 10
    c.monitor_train = True
    c.checkpoint_every = 10
    c.checkpoints_kept = 2
    c.evaluation = {"attacks": {"fgsm": attack}, "eps": (0.0, 0.08, 0.25, 0.5)}
    if options.quick:
        c.data.source, c.epochs = "embedded", 20
        add_pgd(c)
    return c

"""Optimizers, regularizers and kinds of layers on MNIST, one at a time ([maronas2016], ch. 3).

Run:    python -m adv_jax.main --config=configs/rules_mnist.py
        python -m adv_jax.main --config=configs/rules_mnist.py:optimizer=bold_driver
        python -m adv_jax.main --config=configs/rules_mnist.py:regularizer=dropconnect
        python -m adv_jax.main --config=configs/rules_mnist.py:net=inception,regularizer=affine
Quick:  python -m adv_jax.main --config=configs/rules_mnist.py:quick   (5,000 embedded digits)

Options, joined by commas:

    quick or paper
    optimizer=sgd|momentum|nesterov|annealed|plateau|bold_driver|adagrad|adadelta|rmsprop|adam
    regularizer=none|l1|weight_decay|max_norm|dropout|dropconnect|shift|affine|morphology
    loss=cross_entropy|binary_cross_entropy|squared_error     the last two of ten logistic outputs
    net=mlp|average|inception|residual

The mlp has two layers of 800 ReLUs, as [wan2013]'s. l1, weight_decay and max_norm are settings of
SGD, so they need one of the first six optimizers. The residual net has no dropout or dropconnect.

[nokland2015] has these test errors in % of other works with 2x800 ReLUs: back-propagation 1.40 (by
its abstract; Table 1 misprints 1.49), DropConnect 1.20 ([wan2013]).

Deviations: [maronas2016] explains the rules without settings; all are chosen here, by hand and not
tuned. DropConnect draws one mask per batch and tests the mean weights; [wan2013] draws one mask per
image, and in tests a unit's input from a normal distribution. The bold driver does not take back an
epoch whose loss has risen, as [battiti1989]'s does.
More: docs/experiments.md. No result of this config is stored.
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import add_pgd, base, parse_options

SGD = {"name": "sgd", "learning_rate": 0.1}
OPTIMIZERS = {
    "sgd": SGD,
    "momentum": {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    "nesterov": {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9, "nesterov": True},
    "annealed": {
        "name": "sgd",
        "learning_rate": {"name": "cosine_decay_schedule", "init_value": 0.2, "decay_steps": 30},
    },
    "plateau": SGD | {"plateau": {"name": "reduce_on_plateau", "factor": 0.5, "patience": 2}},
    "bold_driver": SGD | {"plateau": {"name": "bold_driver", "increase": 1.05, "decrease": 0.5}},
    "adagrad": {"name": "adagrad", "learning_rate": 0.01},
    "adadelta": {"name": "adadelta", "learning_rate": 1.0},
    "rmsprop": {"name": "rmsprop", "learning_rate": 0.0005},
    "adam": {"name": "adam", "learning_rate": 0.001},
}
# The part of the config that each regularizer changes, and its settings there.
REGULARIZERS = {
    "none": ("model", {}),
    "l1": ("optimizer", {"l1": 1e-5}),
    "weight_decay": ("optimizer", {"weight_decay": 1e-4}),
    "max_norm": ("optimizer", {"max_norm": 3.0}),
    "dropout": ("model", {"dropout": 0.5}),
    "dropconnect": ("model", {"dropconnect": 0.5}),
    "shift": ("data", {"pad": 2}),
    "affine": ("data", {"rotation": 10.0, "zoom": 0.1, "shear": 0.1}),
    "morphology": ("data", {"morphology": 2}),
}
CONVOLUTIONS = {"name": "convnet", "kernel_size": 5, "pool": 2, "units": (200,)}
NETS = {
    "mlp": {"name": "mlp", "features": (800, 800)},
    "average": CONVOLUTIONS | {"stages": ((16,), (32,)), "pooling": "average"},
    "inception": CONVOLUTIONS | {"stages": ((16,), ((16, 16, 24, 4, 8, 8),)), "pooling": "max"},
    "residual": {"name": "preact_resnet", "stem": 8, "stages": (8, 16, 32), "blocks": 1},
}
HIDDEN_LAYERS = {"mlp": 2, "average": 3, "inception": 3}


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(
        mode,
        optimizer=tuple(OPTIMIZERS),
        regularizer=tuple(REGULARIZERS),
        loss=("cross_entropy", "binary_cross_entropy", "squared_error"),
        net=tuple(NETS),
    )
    c = base("rules_mnist", {"name": "mnist"})
    c.model = NETS[options.net] | {"num_classes": 10, "activation": "relu"}
    c.objective = {"name": "cross_entropy", "loss": options.loss}
    c.optimizer = OPTIMIZERS[options.optimizer]
    part, settings = REGULARIZERS[options.regularizer]
    if part == "optimizer" and c.optimizer.name != "sgd":
        allowed = f"a form of SGD with regularizer={options.regularizer}"
        raise ValueError(f"optimizer must be {allowed}, got {options.optimizer!r}")
    if options.regularizer in ("dropout", "dropconnect") and options.net == "residual":
        allowed = f"mlp, average or inception with regularizer={options.regularizer}"
        raise ValueError(f"net must be {allowed}, got 'residual'")
    if options.regularizer == "dropout":
        settings = {"dropout": (0.2, *(0.5,) * HIDDEN_LAYERS[options.net])}
    c[part].update(settings)
    c.epochs = 30
    c.batch_size = 100
    c.monitor_train = True
    if options.quick:
        c.data.source, c.epochs = "embedded", 10
        if options.optimizer == "annealed":
            c.optimizer.learning_rate.decay_steps = c.epochs
        add_pgd(c)
    return c

"""The target of optimizers, regularizers and kinds of layers, one at a time.

[maronas2016], ch. 3, explains them and prints no numbers. All start from the config rules_mnist:
two layers of 800 ReLUs, SGD and cross-entropy.
"""

from papers.running.target import Row, Run, Target

SEEDS = {"replicas.seeds": 3}
# options of rules_mnist -> label
VARIANTS = {
    "": "SGD, no regularizer",
    "optimizer=momentum": "momentum",
    "optimizer=nesterov": "Nesterov momentum",
    "optimizer=annealed": "annealed SGD",
    "optimizer=plateau": "SGD, rate halved on plateaus",
    "optimizer=bold_driver": "bold driver",
    "optimizer=adagrad": "AdaGrad",
    "optimizer=adadelta": "AdaDelta",
    "optimizer=rmsprop": "RMSProp",
    "optimizer=adam": "Adam",
    "regularizer=l1": "SGD, L1",
    "regularizer=weight_decay": "SGD, weight decay",
    "regularizer=max_norm": "SGD, largest norm of weights",
    "regularizer=dropout": "SGD, dropout",
    "regularizer=dropconnect": "SGD, DropConnect",
    "regularizer=shift": "SGD, shifted images",
    "regularizer=affine": "SGD, affine maps",
    "regularizer=morphology": "SGD, morphology",
    "loss=squared_error": "SGD, squared error",
    "loss=binary_cross_entropy": "SGD, binary cross-entropy",
    "net=average": "SGD, convolutions and average pooling",
    "net=inception": "SGD, an inception block",
    "net=residual": "SGD, residual blocks",
}


def variants() -> Target:
    """Ch. 3: test errors of rules_mnist with one option changed."""
    rows = tuple(
        Row(label, Run("rules_mnist", options, SEEDS | {"evaluation.eps": (0.0,)}))
        for options, label in VARIANTS.items()
    )
    title = "Optimizers, regularizers and kinds of layers on MNIST, one at a time"
    return Target("maronas2016.rules", title, rows)

"""Learning with a strong adversary, Table 1: five ways to train a multilayer perceptron on MNIST.

Run:    python -m adv_jax.main --config=configs/huang_mlp_mnist.py:method=lwa
        python -m adv_jax.main --config=configs/huang_mlp_mnist.py:method=normal --config.seed=101
        python -m adv_jax.main --config=configs/huang_mlp_mnist.py:method=lwa,fixed=runs/normal101
Quick:  python -m adv_jax.main --config=configs/huang_mlp_mnist.py:quick
Options, joined by commas: quick or paper; method=normal|dropout|goodfellow|lwa|lwa_rep;
fixed=WORKDIR of a finished run, whose model the Fixed column's examples are crafted on.

normal 100x100; dropout 200x200, half of the second layer's units dropped; goodfellow 500x500, on x
and x + r; lwa 500x500, on x + r alone (Algorithm 2); lwa_rep 200x500, on h + r with h the first
layer's activations (Algorithm 3). Inputs are bytes / 256, and sizes l2 lengths in these units,
1.5 in the table. The evaluation has its columns: clean, fixed, adv_loss_sign, adv_loss, adv_alpha.

The paper's accuracies in %, sizes l2 1.5: normal 98.0 clean, 32.0 fixed, 18.7 adv_loss_sign, 8.5
adv_loss, 7.3 adv_alpha; dropout 98.3, 33.7, 23.3, 11.5, 8.8; goodfellow 99.1, 95.5, 92.8, 72.4,
71.1; lwa 99.0, 97.2, 93.9, 86.1, 85.4; lwa_rep 98.6, 79.7, 81.9, 67.3, 64.6.

Measured, full MNIST, all epochs, seeds 1 to 3, the Fixed column crafted on seed 101
(results/huang.table1.json; 39 minutes on two busy cores): normal 97.9, 32.8, 17.5, 5.8, 5.3;
dropout 98.3, 41.6, 28.8, 11.2, 10.3; goodfellow 99.0, 95.2, 93.2, 72.3, 71.1; lwa 99.0, 97.3, 94.7,
87.3, 86.9; lwa_rep 98.6, 84.9, 79.6, 48.7, 47.6; the sd is at most 1.1. 5 of the 25 are
reproduced, lwa_rep's adv_loss is not, whose settings are ours, and the others are undecided.
With a gradient that float32 turns on sure rows (see `losses.cross_entropy`) normal had 38.0, 28.4
and 20.1 % in the middle columns, dropout 45.8, 41.9 and 32.5.

Source: Huang et al. 2015, sec. 7.2. The nets' sizes are the paper's, which thus compares nets of
different sizes. Optimiser, epochs, initial weights and the r of training, 1.7, are those of the
authors' program, which has other results than the paper; so are Goodfellow's r, the sign at l2
length 1.5, and the sum of both gradients, here their mean at twice the rate. It has no lwa_rep: the
layer, and epochs and r as of lwa, are ours. The paper prints 50,000 images to train on and 10,000;
its program trains on all 60,000, as here. What depends on r, which the paper does not print: after
a fifth of the epochs, seeds 1 to 3, accuracy in % under adv_loss (clean) with r of

                  .5           1            1.7          2.5          3.5
    goodfellow    48.2 (98.3)  62.1 (98.3)  69.3 (98.2)  72.5 (97.9)  73.7 (97.4)
    lwa           64.1 (98.6)  78.1 (98.6)  81.6 (98.0)  78.4 (96.4)  74.8 (25.0)
    lwa_rep       36.9 (97.9)  46.1 (97.9)  52.2 (97.8)  53.3 (97.3)  17.7 (16.7)

so that lwa is ahead up to 1.7 (p = 3e-4 and less); 2.5 and 3.5 are undecided:

    python -m launch.reproduce huang.training_c --budget=short
"""

from ml_collections import ConfigDict, config_dict

METHODS = ("normal", "dropout", "goodfellow", "lwa", "lwa_rep")
ADV_LOSS = {"name": "fgsm", "norm": "l2"}
ADV_LOSS_SIGN = {"name": "fgsm", "norm": "linf", "length": "l2"}
# method -> units, dropout, objective, learning rates, epochs at each.
NETS: dict[str, dict] = {
    "normal": {"features": (100, 100), "rates": (0.1, 0.01), "epochs": (30, 20)},
    "dropout": {
        "features": (200, 200),
        "dropout": (0.0, 0.0, 0.5),
        "rates": (0.1, 0.01),
        "epochs": (50, 30),
    },
    "goodfellow": {
        "features": (500, 500),
        "objective": {"name": "adversarial_mix", "attack": ADV_LOSS_SIGN | {"eps": 1.5}},
        "rates": (0.1, 0.01),
        "epochs": (50, 30),
    },
    "lwa": {
        "features": (500, 500),
        "objective": {"name": "lwa", "attack": ADV_LOSS | {"eps": 1.7}},
        "rates": (0.1, 0.02),
        "epochs": (50, 35),
    },
    "lwa_rep": {
        "features": (200, 500),
        "objective": {"name": "lwa_rep", "layer": 1, "attack": ADV_LOSS | {"eps": 1.7}},
        "rates": (0.1, 0.02),
        "epochs": (50, 35),
    },
}


def get_config(mode: str = "paper") -> ConfigDict:
    chosen = {"mode": "paper", "method": "lwa", "fixed": ""}
    for option in mode.split(","):
        key, is_given, value = option.partition("=")
        key, value = (key, value) if is_given else ("mode", key)
        allowed = {"mode": ("paper", "quick"), "method": METHODS}
        if not value or (key != "fixed" and value not in allowed.get(key, ())):
            legal = f"quick, paper, method={'|'.join(METHODS)}, fixed=WORKDIR"
            raise ValueError(f"mode has {option!r}; allowed are {legal}")
        chosen[key] = value
    net = NETS[chosen["method"]]

    c = ConfigDict()
    c.experiment = "huang_mlp_mnist"
    c.seed = 1
    c.replicas = ConfigDict(
        {"seeds": 1, "grid": config_dict.placeholder(object), "shards": 1}, convert_dict=False
    )
    c.data = ConfigDict({"name": "mnist", "source": "tfds", "dir": ""})
    c.data.num_valid, c.data.num_labels = 0, 0
    c.data.preprocess = ({"name": "pixel_scale", "mean": 0.0, "divisor": 256.0},)
    init = {"name": "uniform", "scale": 0.07}
    c.model = {
        "name": "mlp",
        "features": net["features"],
        "num_classes": 10,
        "activation": "relu",
        "dropout": net.get("dropout", ()),
        "hidden_init": init,
        "output_init": init,
    }
    c.objective = net.get("objective", {"name": "cross_entropy"})
    rate = {"name": "piecewise_constant", "values": net["rates"], "boundaries": net["epochs"][:1]}
    c.optimizer = {"name": "sgd", "learning_rate": rate}
    c.epochs = sum(net["epochs"])
    c.batch_size = 100
    c.patience = 0
    c.monitor_every = 1
    c.checkpoint_every = 10
    c.checkpoints_kept = 2
    c.tensorboard = False
    c.evaluation = {
        "attacks": {
            "adv_loss_sign": ADV_LOSS_SIGN,
            "adv_loss": ADV_LOSS,
            "adv_alpha": {"name": "adv_alpha", "norm": "l2"},
        },
        "eps": (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0),
    }
    if chosen["fixed"]:
        fixed = {"name": "transferred", "source_fn": chosen["fixed"], "attack": ADV_LOSS}
        c.evaluation.attacks.fixed = fixed
    if chosen["mode"] == "quick":
        c.data.source = "embedded"
        c.epochs, c.optimizer.learning_rate.boundaries = 15, (10,)
    return c

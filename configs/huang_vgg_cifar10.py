"""Learning with a strong adversary, Table 3: a net after VGG-D on CIFAR-10.

Run:    python -m adv_jax.main --config=configs/huang_vgg_cifar10.py:method=lwa
        python -m adv_jax.main --config=configs/huang_vgg_cifar10.py:method=normal --config.seed=101
        python -m adv_jax.main --config=configs/huang_vgg_cifar10.py:fixed=runs/normal101
Quick:  python -m adv_jax.main --config=configs/huang_vgg_cifar10.py:quick
Options, joined by commas: quick or paper; method=normal|dropout|lwa|lwa_rep; fixed=WORKDIR of a
finished run, whose model the Fixed column's examples are crafted on. There are no embedded colour
images: quick needs CIFAR-10 too, and is a narrow net for one epoch.

Two stages of three convolutions of 128 and of 256 maps, each followed by pooling; full layers of
2048, 2048 and 10 units. dropout drops half of both full layers' units, as lwa and lwa_rep do.
lwa_rep perturbs the first full layer's activations. Inputs are (byte - 117) / 256 of 28 x 28
pixels, cut at random in training and from the middle in tests; sizes are l2 lengths in these
units, .5 in the table.

The paper's accuracies in %, sizes l2 .5: normal 87.8 clean, 58.2 fixed, 48.6 adv_loss_sign, 41.6
adv_loss, 28.2 adv_alpha; dropout 89.4, 58.4, 45.4, 41.8, 29.1; lwa 83.8, 77.6, 60.6, 49.2, 52.0;
lwa_rep 84.2, 60.0, 64.1, 54.9, 56.0.

Measured here: the narrow nets of quick, seed 1, three epochs, a JPEG copy of CIFAR-10
(quick,method=lwa,fixed=RUN with --config.epochs=3, --config.model.dropout="()" for all but dropout,
and --config.objective.attack.eps=.1 or .2 for the r below; RUN is quick,method=normal, seed 101):
normal 40.8 clean, 37.4 fixed, 12.6, 9.0, 7.3; dropout 31.0, 29.8, 12.4, 10.2, 5.8; lwa with r .1
33.4, 32.4, 22.8, 19.0, 16.4; lwa_rep with r .2 38.0, 35.1, 16.3, 12.6, 10.0. With the r of the
full net neither narrow one learns. lwa, .3: 10.4 clean, and the gradient of six images of seven is
exactly 0 (the mean length of adv_loss is .068, not .5). lwa_rep, 1: 10.0 clean, while 41.3 % of the
training images are right with their activations perturbed. Numbers:
results/huang_vgg_cifar10_narrow_*.json.

Source: Huang et al. 2015, sec. 7.2. Pooling of 3 x 3, the r of lwa, .3, dropout, weight decay and
rates are those of the authors' program for lwa, which mirrors images too, scales them otherwise
and clips gradients to [-5, 5]. Its lwa_rep has batch norm, 100 epochs at .045 and 40 at .01, and r
at .25 times the length of h; here it has the net and rates of lwa, and r is 1.
"""

from ml_collections import ConfigDict, config_dict

ADV_LOSS = {"name": "fgsm", "norm": "l2"}
ADV_LOSS_SIGN = {"name": "fgsm", "norm": "linf", "length": "l2"}
OBJECTIVES: dict[str, dict] = {
    "normal": {"name": "cross_entropy"},
    "dropout": {"name": "cross_entropy"},
    "lwa": {"name": "lwa", "attack": ADV_LOSS | {"eps": 0.3}},
    "lwa_rep": {"name": "lwa_rep", "layer": 7, "attack": ADV_LOSS | {"eps": 1.0}},
}


def get_config(mode: str = "paper") -> ConfigDict:
    chosen = {"mode": "paper", "method": "lwa", "fixed": ""}
    for option in mode.split(","):
        key, is_given, value = option.partition("=")
        key, value = (key, value) if is_given else ("mode", key)
        allowed = {"mode": ("paper", "quick"), "method": tuple(OBJECTIVES)}
        if not value or (key != "fixed" and value not in allowed.get(key, ())):
            legal = f"quick, paper, method={'|'.join(OBJECTIVES)}, fixed=WORKDIR"
            raise ValueError(f"mode has {option!r}; allowed are {legal}")
        chosen[key] = value
    method = chosen["method"]

    c = ConfigDict()
    c.experiment = "huang_vgg_cifar10"
    c.seed = 1
    c.replicas = ConfigDict(
        {"seeds": 1, "grid": config_dict.placeholder(object), "shards": 1}, convert_dict=False
    )
    c.data = ConfigDict({"name": "cifar10", "source": "tfds", "dir": ""})
    c.data.num_valid, c.data.num_labels = 0, 0
    c.data.preprocess = ({"name": "pixel_scale", "mean": 117.0, "divisor": 256.0},)
    c.data.crop, c.data.mirror = 28, False
    c.model = {
        "name": "convnet",
        "stages": ((128, 128, 128), (256, 256, 256)),
        "kernel_size": 3,
        "units": (2048, 2048),
        "num_classes": 10,
        "activation": "relu",
        "dropout": () if method == "normal" else (0.0,) * 7 + (0.5, 0.5),
        "hidden_init": {"name": "he"},
        "output_init": {"name": "he"},
    }
    c.objective = OBJECTIVES[method]
    rate = {
        "name": "piecewise_constant",
        "values": (0.025, 0.003, 0.001, 0.0001),
        "boundaries": (50, 55, 60),
    }
    c.optimizer = {"name": "sgd", "learning_rate": rate, "weight_decay": 0.0001}
    c.epochs = 65
    c.batch_size = 128
    c.patience = 0
    c.monitor_every = 1
    c.checkpoint_every = 1
    c.checkpoints_kept = 2
    c.tensorboard = False
    c.evaluation = {
        "attacks": {
            "adv_loss_sign": ADV_LOSS_SIGN,
            "adv_loss": ADV_LOSS,
            "adv_alpha": {"name": "adv_alpha", "norm": "l2"},
        },
        "eps": (0.0, 0.5),
    }
    if chosen["fixed"]:
        fixed = {"name": "transferred", "source_fn": chosen["fixed"], "attack": ADV_LOSS}
        c.evaluation.attacks.fixed = fixed
    if chosen["mode"] == "quick":
        c.model.stages, c.model.units, c.epochs = ((8, 8, 8), (16, 16, 16)), (64, 64), 1
    return c

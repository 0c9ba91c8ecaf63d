"""Fully connected ladder network on MNIST, with or without adversarial noise (Maronas 2016).

Run:    python -m adv_jax.main --config=configs/ladder_mnist.py
        python -m adv_jax.main --config=configs/ladder_mnist.py:labels=100,noise=sgn
        python -m adv_jax.main --config=configs/ladder_mnist.py:table=13
        python -m adv_jax.main --config=configs/ladder_mnist.py:table=6,noise=udg
Quick:  python -m adv_jax.main --config=configs/ladder_mnist.py:quick   (5,000 embedded digits)

Options, joined by commas; those after table= change what the table says:

    quick or paper
    labels=full|1000|100
    training=ladder|bottom|gamma|supervised     all costs, the input's, the top's, or none
    noise=none|udg|sgn|1n|qn                    on the labelled input; tau from the table
    unlabelled_noise=none|udg|sgn|1n|qn         on the unlabelled input, by virtual labels; likewise
    std=0.3|0.25|0.2|0                          Gaussian noise of the input and of all layers
    epochs=150|170|200|220
    table=4 ... 14 and 17 ... 24

What needs several programs has an option: table=5 also std=0; table=6 noise=udg|sgn|1n|qn; table=7
noise=sgn|1n|qn; table=8 epochs=170|200|220; table=9 also std=0.3. Grids of tau are one program, and
tables 17 to 24 (4, 10 and 12 are their means) train ten seeds in one.

The thesis, test error in %; ten seeds: mean (sd):

    4, 17   all labels                                   .565 (.031)
    5       the same without unlabelled costs            .82; without any noise 1.10
    6       supervised, only adversarial noise           .77 (SGN .025) ... 1.45 (28N .25)
    7       supervised, adversarial and Gaussian noise   .76 (28N .025) ... 1.45 (28N .25)
    8       SGN on the labelled half                     .49 (.00045) ... .64
    9       28N on the labelled half                     .54 (.00025, std .3) ... .61
    10, 18  SGN .00045                                   .557 (.041)
    11      the same, and 28N on the unlabelled half     .48 (4.5e-8) ... .60
    12, 19  SGN .00045, 28N 4.5e-8                       .566 (.047); printed .560
    13      100 labels, SGN and 28N                      .91 (.045, .00045) ... 1.23
    14      1,000 labels, SGN and 28N                    .83 (4.5e-5, 4.5e-5) ... 1.15
    20      100 labels, no noise                         1.108 (.397)
    21      100 labels, SGN .00045, 28N 4.5e-7           1.225 (.543)
    22      100 labels, SGN .045, 28N .00045             1.084 (.406)
    23      1,000 labels, no noise                       .952 (.061)
    24      1,000 labels, SGN and 28N 4.5e-5             .932 (.070)

Everything that it chose, it chose on the test set.

Measured, full MNIST, 150 epochs, seeds 1, 2 and, with 100 labels, 3:

    all labels, no noise       .56, .63 %; under FGSM of eps .1 8.2 %, of .25 40.8 % (*)
    all labels, SGN .00045     .65, .61 %; under FGSM of eps .1 8.1 %, of .25 39.5 % (*)
    100 labels, no noise       1.01, 1.00, 1.04 %; under FGSM of eps .1 8.5 %, of .25 46.8 % (*)
    100 labels, table=22       1.04, 1.09, 1.06 %; under FGSM of eps .1 8.6 %, of .25 46.0 %
    1,000 labels, no noise     .89, .76 %
    1,000 labels, table=24     .92, .81 %

(*) Under attack by an earlier cross-entropy (before 75f2e28 and 59aeea9), whose gradient float32
turned on sure rows: the nets are to be attacked again; of the 100 labels that is seeds 1 and 2.
Clean errors are not affected.

Fewer epochs, full MNIST (results/maronas.table6.json, table7.json):

    table=6, seed 1           .82 (28N .025), .83 (1N .25), .91 (SGN .025) ... 4.30; 10 epochs
    table=7, seed 1           1.04 (28N .025), 1.05 (SGN .025) ... 10.16; 10 epochs

(The first four: results/ladder_mnist_full_none.json, ladder_mnist_full_sgn.json,
ladder_mnist_100_none.json, ladder_mnist_100_sgn.json, and with _seed3; 68 to 162 minutes for a pair
of seeds on two busy cores, 86 and 117 for the third on one. 1,000 labels:
results/maronas.table24.json, each seed by itself, joined.) Whether the noises gain is undecided:
SGN is worse by .09 on one seed and better by .02 on the other, both noises of table 22 are worse by
.03, .09 and .02 (paired t-test p = .17), those of table 24 by .03 and .05 (p = .16). With 100
labels the thesis' seeds spread widely (.397), these do not. The thesis has 6.87 % at .25 (sec.
5.4), for a gradient that it does not define. Through the statistics of the training set, with which
the net is tested, seed 1 with SGN has 39.4 % (*). Through those of the attacked batch of 100, as in
training, it has 7.4 % (*): the thesis seems to have taken it, and then the number tells nothing of
the net that is tested. Under random signs of .25 it has .71 % (thesis .61;
results/maronas/fig23_24.json). One seed decides neither. The thesis' net had no SGN; of ours
without it seed 3 with 100 labels has 47.4 %, 8.0 % through the statistics of the attacked batch and
1.14 % under random signs (results/maronas/fig23_24_100_none.json). Noise of .25 per pixel costs our
nets of Tables 6 and 7 2.8 to 10.2 %, the thesis' .9 to 1.5 %: one seed each. The other tables are
not measured yet.

Not as in the thesis, or not said there: the cost weights and layer noise for 100 and 1,000 labels
are those of the ladder's reference program. Its Adam adds eps to the uncorrected second moment,
optax's to the corrected one. Its learning rate is meant to decay as here, but did not at its last
version (--config.optimizer.learning_rate.end_value=.002 takes the decay away). The noise of the
unlabelled half, "norm", is taken for 28N. UDG is tau times the gradient of the batch's mean cost,
so each row's own gradient has the factor tau / 100. What the thesis leaves open of the gradient are
the fields objective.gradient_pass, virtual_labels, draw, statistics and objective.attack.constant,
see objectives/ladder.py. What they change, on the strongest noises of table 13 (20 epochs of the
embedded digits, seeds 1 and 2, results/maronas.open_points.json): 20.0 % (sd 1.8) as it is here,
and 19.1 to 21.2 % with one of the first four read otherwise; 91.6 % (sd 5.8) with the perturbation
differentiated by the update, as Theano does unless told otherwise. Two seeds decide none of these;
the thesis' cell has 1.04 % of the full MNIST, which speaks for a constant perturbation.
"""

from ml_collections import ConfigDict, config_dict

LAYERS = "1000-500-250-250-250-10"
BATCH_SIZE = 100
# labels -> training -> weights of the layers 0..6
WEIGHTS = {
    "full": {
        "ladder": (1000.0, 1.0, 0.01, 0.01, 0.01, 0.01, 0.01),
        "bottom": (2000.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        "gamma": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0),
        "supervised": (0.0,) * 7,
    },
    "1000": {
        "ladder": (2000.0, 20.0, 0.1, 0.1, 0.1, 0.1, 0.1),
        "bottom": (2000.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        "gamma": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0),
        "supervised": (0.0,) * 7,
    },
    "100": {
        "ladder": (1000.0, 10.0, 0.1, 0.1, 0.1, 0.1, 0.1),
        "bottom": (5000.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        "gamma": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5),
        "supervised": (0.0,) * 7,
    },
}
DENOISING = {
    "ladder": "gauss",
    "bottom": "gauss",
    "gamma": "0-0-0-0-0-0-gauss",
    "supervised": "0",
}
NOISES: dict[str, dict] = {
    "sgn": {"name": "fgsm", "norm": "linf"},
    "1n": {"name": "fgsm", "norm": "l2"},
    "qn": {"name": "fgsm", "norm": "rms"},
    "udg": {"name": "raw_gradient"},
}
# Where the learning rate begins to fall, as a fraction of the epochs.
DECAY_FROM = {"150": 0.67, "170": 0.67, "200": 0.58, "220": 0.45}
LADDER_TAUS = (0.00015, 0.00025, 0.00035, 0.00045)
SUPERVISED_TAUS = (0.25, 0.025, 0.0025, 0.00025)
GRID = {
    "tau": (0.000045, 0.00045, 0.0045, 0.045),
    "unlabelled_tau": (4.5e-9, 4.5e-7, 4.5e-6, 4.5e-5, 4.5e-4, 4.5e-3, 4.5e-1),
}
SGN = {"noise": "sgn", "tau": 0.00045}
# A tuple of taus is a grid.
TABLES: dict[str, dict] = {
    "5": {"training": "supervised"},
    "6": {"training": "supervised", "std": "0", "noise": "sgn", "tau": SUPERVISED_TAUS},
    "7": {"training": "supervised", "noise": "sgn", "tau": SUPERVISED_TAUS},
    "8": {"noise": "sgn", "tau": LADDER_TAUS},
    "9": {"noise": "qn", "std": "0.25", "tau": LADDER_TAUS},
    "11": {
        **SGN,
        "unlabelled_tau": (4.5e-9, 4.5e-8, 4.5e-7, 4.5e-6, 4.5e-5, 4.5e-4, 4.5e-3, 4.5e-2, 4.5e-1),
    },
    "13": {"labels": "100", "noise": "sgn", **GRID},
    "14": {"labels": "1000", "noise": "sgn", **GRID},
    "17": {"seeds": 10},
    "18": {"seeds": 10, **SGN},
    "19": {"seeds": 10, **SGN, "unlabelled_tau": 4.5e-8},
    "20": {"seeds": 10, "labels": "100"},
    "21": {"seeds": 10, "labels": "100", **SGN, "unlabelled_tau": 4.5e-7},
    "22": {"seeds": 10, "labels": "100", "noise": "sgn", "tau": 0.045, "unlabelled_tau": 0.00045},
    "23": {"seeds": 10, "labels": "1000"},
    "24": {"seeds": 10, "labels": "1000", "noise": "sgn", "tau": 4.5e-5, "unlabelled_tau": 4.5e-5},
}
TABLES |= {"4": TABLES["17"], "10": TABLES["18"], "12": TABLES["19"]}
ALLOWED = {
    "mode": ("paper", "quick"),
    "labels": tuple(WEIGHTS),
    "training": tuple(DENOISING),
    "noise": ("none", *NOISES),
    "unlabelled_noise": ("none", *NOISES),
    "std": ("0.3", "0.25", "0.2", "0"),
    "epochs": tuple(DECAY_FROM),
    "table": tuple(TABLES),
}


def get_config(mode: str = "paper") -> ConfigDict:
    chosen = _chosen(mode)
    labels, training = chosen["labels"], chosen["training"]
    # With 1,000 labels the reference has less noise in the layers; the input keeps its own.
    layer_std = chosen["std"] or ("0.2" if labels == "1000" else "0.3")

    c = ConfigDict()
    c.experiment = "ladder_mnist"
    c.seed = 1
    c.replicas = ConfigDict(
        {"seeds": chosen["seeds"], "grid": config_dict.placeholder(object), "shards": 1},
        convert_dict=False,
    )
    c.data = ConfigDict({"name": "mnist", "source": "tfds", "dir": "", "num_valid": 0})
    c.data.num_labels = 0 if labels == "full" else int(labels)
    c.model = {
        "name": "ladder",
        "layers": LAYERS,
        "activation": "relu",
        "noise_std": (float(chosen["std"] or 0.3), *(float(layer_std),) * 6),
        "denoising": DENOISING[training],
        "scale_softmax": True,
    }
    c.objective = ConfigDict(
        {
            "name": "ladder",
            "weights": WEIGHTS[labels][training],
            "gradient_pass": "corrupted",
            "virtual_labels": "corrupted",
            "draw": "fresh",
            "statistics": "batch",
        }
    )
    _add_noise(c, "attack", chosen["noise"], chosen["tau"])
    _add_noise(c, "unlabelled_attack", chosen["unlabelled_noise"], chosen["unlabelled_tau"])
    c.epochs = int(chosen["epochs"])
    decay_from = round(DECAY_FROM[chosen["epochs"]] * c.epochs, 1)
    c.batch_size = BATCH_SIZE
    c.patience = 0
    c.monitor_every = 10
    c.checkpoint_every = 1
    c.checkpoints_kept = 3
    c.tensorboard = False
    c.evaluation = {
        "attacks": {"fgsm": {"name": "fgsm", "norm": "linf"}},
        "eps": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
    }
    if chosen["mode"] == "quick":
        c.data.source = "embedded"
        c.epochs, decay_from = 20, 13.4
        c.monitor_every = 1
    c.optimizer = {
        "name": "adam",
        "learning_rate": {
            "name": "linear_schedule",
            "init_value": 0.002,
            "end_value": 0.0,
            "transition_begin": decay_from,
            "transition_steps": c.epochs - decay_from,
        },
    }
    return c


def _chosen(mode: str) -> dict:
    """What the options say, what their table says, and the defaults, in this order."""
    given: dict = {}
    for option in mode.split(","):
        key, _, value = option.rpartition("=")
        key = key or "mode"
        if value not in ALLOWED.get(key, ()):
            raise ValueError(f"mode has {option!r}; allowed are {ALLOWED}")
        given[key] = value
    defaults = {
        "mode": "paper",
        "labels": "full",
        "training": "ladder",
        "noise": "none",
        "std": None,
        "epochs": "150",
        "seeds": 1,
    }
    table = TABLES.get(given.get("table", ""), {})
    chosen = defaults | table | given
    if given.get("table") == "8" and chosen["epochs"] in ("200", "220"):
        chosen["tau"] = 0.00045
    if given.get("table") == "9" and chosen["std"] == "0.3":
        chosen["tau"] = (0.00025, 0.0025, 0.025)
    # What the thesis took without a search of its own (Tables 10, 12, 24).
    chosen.setdefault("tau", 0.000045 if chosen["labels"] == "1000" else 0.00045)
    chosen.setdefault("unlabelled_noise", "qn" if "unlabelled_tau" in table else "none")
    chosen.setdefault("unlabelled_tau", 4.5e-8)
    return chosen


def _add_noise(c: ConfigDict, field: str, noise: str, tau: float | tuple[float, ...]) -> None:
    """Adversarial noise of size tau, or a grid of sizes."""
    if noise == "none":
        return
    taus = tau if isinstance(tau, tuple) else (tau,)
    size = "eps"
    if noise == "udg":
        size, taus = "tau", tuple(value / BATCH_SIZE for value in taus)
    c.objective[field] = NOISES[noise] | {size: taus[0], "constant": True}
    if len(taus) > 1:
        c.replicas.grid = {**(c.replicas.grid or {}), f"objective.{field}.{size}": taus}

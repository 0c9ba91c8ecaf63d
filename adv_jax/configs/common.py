"""Options and fields that all configs share."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

EPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
# {mode: {net: units of its layers}} of the encoders that mlp_mnist starts from: of
# autoencoder_mnist, dbn_mnist and dbm_mnist.
ENCODERS = {
    "paper": {
        "deep": (1000, 500, 250, 30),
        "wide": (1000, 1000, 1000),
        "dbn": (500, 500, 2000),
        "dbm": (500, 1000),
    },
    "quick": {
        "deep": (256, 128, 64, 16),
        "wide": (256, 256, 256),
        "dbn": (256, 256, 512),
        "dbm": (256, 512),
    },
}
GENERATOR_LOSSES = ("non_saturating", "minimax")
# The sizes of noise that [maronas2016] searches: in Tables 8 and 9, and in 6 and 7.
LADDER_TAUS = (0.00015, 0.00025, 0.00035, 0.00045)
SUPERVISED_TAUS = (0.25, 0.025, 0.0025, 0.00025)
# Those of both noises, in Tables 13 to 16: of the labeled half, and of the unlabeled one for each.
GRID_TAUS = (4.5e-5, 4.5e-4, 4.5e-3, 4.5e-2)
FC_UNLABELED_TAUS = (4.5e-9, 4.5e-7, 4.5e-6, 4.5e-5, 4.5e-4, 4.5e-3, 4.5e-1)
CONV_UNLABELED_TAUS = (4.5e-9, 4.5e-7, 4.5e-5, 4.5e-3, 4.5e-1)
# The last block of Tables 15 and 16 prints 4.5e-4 where the others have 4.5e-3: as printed, and
# read as a misprint.
LAST_UNLABELED_TAUS = (4.5e-9, 4.5e-7, 4.5e-5, 4.5e-4, 4.5e-1)
CONV_BLOCKS = {"noise": "sgn", "tau": GRID_TAUS[:-1], "unlabeled_tau": CONV_UNLABELED_TAUS}
LAST_BLOCK: dict[str | None, dict[str, Any]] = {
    None: {},
    "last": {"tau": GRID_TAUS[-1], "unlabeled_tau": LAST_UNLABELED_TAUS},
    "regular": {"tau": GRID_TAUS[-1], "unlabeled_tau": CONV_UNLABELED_TAUS},
}
# The objectives of the models of the shallow-net thesis: clean, half adversarial and half noisy.
SHALLOW_OBJECTIVES: dict[str, dict[str, Any]] = {
    "A": {"name": "cross_entropy"},
    "B": {
        "name": "adversarial_mix",
        "alpha": 0.5,
        "attack": {"name": "fgsm", "norm": "linf", "eps": 0.25},
    },
    "C": {
        "name": "adversarial_mix",
        "alpha": 0.5,
        "attack": {"name": "gaussian_noise", "std": 0.25},
    },
}
NO_ATTACK = {"attacks": {}, "eps": (0.0,)}
# The nets of gan_mnist, and of games like it.
DENSE_GAN = {
    "shape": (28, 28, 1),
    "latent": 100,
    "generator_features": (256, 512),
    "discriminator_features": (512, 256),
    "activation": "leaky_relu",
    "dropout": (0.2, 0.5, 0.5),
}
_DECIMAL = r"(\d+\.?\d*|\.\d+)"
_KINDS = {
    str: ("a path", r".+"),
    int: ("a whole number from 1 on", r"[1-9]\d*"),
    # Also a fraction such as 8/255.
    float: ("a decimal number of at least 0", rf"{_DECIMAL}(/(?!0*\.?0*$){_DECIMAL})?"),
}


def parse_options(mode: str, **allowed: tuple | Mapping[Any, Mapping[str, Any]]) -> ConfigDict:
    """Returns the value of every option, given in `mode` or by default.

    >>> options = parse_options("quick,width=400", width=(800, int), net=("conv", "fc"))
    >>> options.quick, options.width, options.net
    (True, 400, 'conv')
    >>> parse_options("table=4", noise=("none", "sgn"), table={4: {"noise": "sgn", "tau": 0.1}})
    noise: sgn
    quick: false
    table: 4
    tau: 0.1
    <BLANKLINE>
    >>> parse_options("net=cnv", net=("conv", "fc"))
    Traceback (most recent call last):
    ValueError: net must be conv or fc, got 'cnv'; did you mean 'conv'?

    Args:
      mode: the text after the colon of --config: `quick` or `paper`, the default, and name=value,
        joined by commas.
      **allowed: for each option a tuple of its legal values, the default first. None as a default
        is not legal itself; `int`, `float` and `str` allow every value of that type. A mapping
        holds presets, {value: {name: value}}: the chosen one replaces the defaults of other
        options and adds names, whose defaults are in the preset None.

    Returns:
      {option: value} and `quick`, a bool.

    Raises:
      ValueError: an option or a value is unknown, or an option is given twice.
    """
    legal = {"mode": ("paper", "quick")} | {name: (*values,) for name, values in allowed.items()}
    given: dict[str, Any] = {}
    for option in mode.split(","):
        name, equals, text = option.partition("=")
        if not equals:
            name, text = "mode", option
        if name not in legal:
            raise _error("option", legal, name, near=legal)
        value = _value(name, text, legal)
        if name in given:
            raise ValueError(f"{name} must be given once, got {mode!r}")
        given[name] = value
    presets = {name: values for name, values in allowed.items() if isinstance(values, Mapping)}
    chosen = {name: None if name in presets else values[0] for name, values in legal.items()}
    for name, values in presets.items():
        chosen |= {**values.get(None, {}), **values.get(given.get(name), {})}
    chosen |= given
    return ConfigDict({"quick": chosen.pop("mode") == "quick"} | chosen, type_safe=False)


def base(experiment: str, data: Mapping[str, Any], *, seeds: int = 1) -> ConfigDict:
    """Returns the fields of every experiment with their most common values.

    A config adds `model`, `objective`, `optimizer`, `epochs` and `batch_size`.

    Args:
      experiment: the name of the config.
      data: the name of the data set, and the fields of `data` that differ from the ones below;
        `num_labels` 0 means that all training images have labels.
      seeds: the number of replicas; the first has the seed 1.
    """
    c = ConfigDict()
    c.experiment = experiment
    c.seed = 1
    grid = config_dict.placeholder(object)
    c.replicas = ConfigDict({"seeds": seeds, "grid": grid, "shards": 1}, convert_dict=False)
    c.data = {"source": "tfds", "dir": "", "num_valid": 0, "num_labels": 0, **data}
    c.patience = 0
    c.monitor_every = 1
    c.checkpoint_every = 1
    c.checkpoints_kept = 3
    c.trackers = ()
    c.evaluation = {"attacks": {"fgsm": {"name": "fgsm", "norm": "linf"}}, "eps": EPS}
    return c


def generator_game(experiment: str, *, epochs: int = 100, batch_size: int = 100) -> ConfigDict:
    """Returns the fields of a game of a generator and a discriminator on MNIST.

    A config adds `model` and `objective`.
    """
    c = base(experiment, {"name": "mnist"})
    c.optimizer = players_adam("generator", "discriminator")
    c.epochs = epochs
    c.batch_size = batch_size
    c.evaluation = NO_ATTACK
    return c


def shallow_net(
    experiment: str, data: Mapping[str, Any], *, model: str, width: int, num_classes: int = 10
) -> ConfigDict:
    """Returns the fields of a net of the shallow-net thesis, with one hidden layer.

    Args:
      experiment, data: as in `base`.
      model: A, B or C of `SHALLOW_OBJECTIVES`.
      width: hidden units.
      num_classes: of the data.
    """
    c = base(experiment, data)
    c.model = {
        "name": "mlp",
        "features": (width,),
        "num_classes": num_classes,
        "activation": "relu",
        "hidden_init": {"name": "sparse", "connections": 15},
        "output_init": {"name": "zero"},
    }
    c.objective = SHALLOW_OBJECTIVES[model]
    c.optimizer = {
        "name": "sgd",
        "learning_rate": 0.01,
        "momentum": {
            "name": "linear_schedule",
            "init_value": 0.5,
            "end_value": 0.99,
            "transition_steps": 9,
        },
    }
    c.epochs = 1500
    c.batch_size = 200
    c.patience = 100
    return c


def shorten(c: ConfigDict, *, epochs: int, every: int) -> None:
    """Sets the embedded data, and epochs of which every k-th is monitored and saved."""
    c.data.source = "embedded"
    c.epochs = epochs
    c.monitor_every = c.checkpoint_every = every


def players_adam(*names: str) -> dict[str, Any]:
    """Returns Adam with the settings of [radford2016] for each player of a game."""
    adam = {"name": "adam", "learning_rate": 2e-4, "b1": 0.5}
    return {"name": "players", **dict.fromkeys(names, adam)}


def ladder_objective(weights: tuple[float, ...]) -> dict[str, Any]:
    """Returns the `objective` of a ladder without adversarial noise; weights: of its layers."""
    return {
        "name": "ladder",
        "weights": weights,
        # [maronas2016] does not define the gradient of its noise; see docs/experiments.md.
        "gradient_pass": "corrupted",
        "virtual_labels": "corrupted",
        "draw": "fresh",
        "statistics": "batch",
    }


def add_pgd(c: ConfigDict) -> None:
    """Adds PGD of 10 steps to a quick evaluation, with the norm, bounds and loss of its FGSM.

    One step alone overestimates robust accuracy: nets trained on FGSM fool it.
    """
    specs = [spec.to_dict() for spec in c.evaluation.attacks.values()]
    fgsm = next((spec for spec in specs if spec["name"] == "fgsm" and "length" not in spec), None)
    if fgsm and not any(spec["name"] == "pgd" for spec in specs):
        c.evaluation.attacks.pgd = {**fgsm, "name": "pgd", "num_steps": 10}


def add_noise(
    c: ConfigDict,
    field: str,
    attack: Mapping[str, Any],
    tau: float | tuple[float, ...],
    *,
    size: str = "eps",
) -> None:
    """Sets the adversarial noise `objective.{field}` to the attack of size tau, or a grid of sizes.

    Args:
      size: the setting of the attack that tau is.
    """
    taus = tau if isinstance(tau, tuple) else (tau,)
    c.objective[field] = {**attack, size: taus[0], "constant": True}
    if len(taus) > 1:
        c.replicas.grid = {**(c.replicas.grid or {}), f"objective.{field}.{size}": taus}


def add_ladder_noises(c: ConfigDict, options: ConfigDict) -> None:
    """Sets the adversarial noises of a convolutional ladder: SGN, and norm noise without labels."""
    if options.noise == "sgn":
        add_noise(c, "attack", {"name": "fgsm", "norm": "linf"}, options.tau)
    if options.unlabeled_tau is not None:
        add_noise(c, "unlabeled_attack", {"name": "fgsm", "norm": "rms"}, options.unlabeled_tau)


def decaying_adam(epochs: int, decay_from: float) -> dict[str, Any]:
    """Returns Adam with a rate of .002 that falls linearly to 0 from epoch `decay_from` on."""
    return {
        "name": "adam",
        "learning_rate": {
            "name": "linear_schedule",
            "init_value": 0.002,
            "end_value": 0.0,
            "transition_begin": decay_from,
            "transition_steps": epochs - decay_from,
        },
    }


def falling_sgd(epochs: int, rate: float) -> dict[str, Any]:
    """Returns SGD whose rate falls linearly from `rate` to 0."""
    return {
        "name": "sgd",
        "learning_rate": {
            "name": "linear_schedule",
            "init_value": rate,
            "end_value": 0.0,
            "transition_steps": epochs,
        },
    }


def greedy(machines: int, *, epochs: int, rate: float) -> dict[str, Any]:
    """Returns `epochs` and `optimizer` of a stack of RBMs, one trained after another.

    The rate of an RBM falls from `rate` to 0 in ten equal parts of its own epochs.
    """
    parts = 10

    def owner(first: int) -> dict[str, Any]:
        return {
            "name": "sgd",
            "learning_rate": {
                "name": "piecewise_constant",
                "values": (0.0, *(rate * (1 - part / parts) for part in range(parts)), 0.0),
                "boundaries": tuple(first + part * epochs // parts for part in range(parts + 1)),
            },
            "weight_decay": 2e-4,
        }

    owners = {f"hidden{i + 1}": owner(i * epochs) for i in range(machines)}
    layers = {"name": "players", **owners}
    optimizer = {"name": "players", "encoder": layers, "decoder": layers}
    return {"epochs": machines * epochs, "optimizer": optimizer}


def _value(name: str, text: str, legal: Mapping[str, tuple]) -> Any:
    """Returns the value of an option from its text."""
    kinds = [kind for kind in legal[name] if isinstance(kind, type)]
    for kind in kinds:
        if re.fullmatch(_KINDS[kind][1], text, re.ASCII):
            return _real(text) if kind is float else kind(text)
    texts = _texts(legal[name])
    if kinds or text not in texts:
        # A bare word may be a value without the name of its option.
        pairs = [f"{key}={one}" for key, values in legal.items() for one in _texts(values)]
        near = [*texts, *pairs] if name == "mode" else texts
        raise _error(name, [_KINDS[kind][0] for kind in kinds] or texts, text, near)
    return texts[text]


def _real(text: str) -> float:
    """Returns the value of a decimal number or a fraction."""
    above, is_fraction, below = text.partition("/")
    return float(above) / float(below) if is_fraction else float(text)


def _texts(values: tuple) -> dict[str, Any]:
    """Returns {text on the command line: value} of an option's legal values."""
    named = [value for value in values if value is not None and not isinstance(value, type)]
    return {f"{value:g}" if isinstance(value, float) else str(value): value for value in named}


def _error(field: str, legal: Iterable[str], found: str, near: Iterable[str]) -> ValueError:
    """Returns the error for an unknown name, with the nearest legal one."""
    *others, last = legal
    allowed = f"{', '.join(others)} or {last}" if others else last
    close = difflib.get_close_matches(found, list(near), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return ValueError(f"{field} must be {allowed}, got {found!r}{hint}")

"""The fields of a config that are the runner's own: their types and ranges, and their check."""

import itertools
import math
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from adv_jax.runner.config import schema
from adv_jax.runner.config.document import ConfigError, import_paths, leaves, unknown
from adv_jax.runner.config.replicas import grid_of


class _Range(NamedTuple):
    """The allowed values of a number, from low to high; `above` excludes low, `below` high."""

    low: float
    high: float = math.inf
    whole: bool = False
    above: bool = False
    below: bool = False

    def allows(self, value: object) -> bool:
        expected = int if self.whole else int | float
        number = isinstance(value, expected) and not isinstance(value, bool)
        finite = number and abs(value) <= sys.float_info.max  # math.isfinite(10**400) raises.
        inside = finite and self.low <= value <= self.high
        excluded = (self.above and value == self.low) or (self.below and value == self.high)
        return inside and not excluded

    def __str__(self) -> str:
        number = "a whole number" if self.whole else "a number"
        if self.high < math.inf:
            return f"{number} from {self.low:.10g} to {'below ' * self.below}{self.high:.10g}"
        if self.above:
            return f"{number} above {self.low:g}"
        return f"{number} of at least {self.low:g}"


_COUNT, _COUNT_OR_NONE, _SIZE = _Range(1, whole=True), _Range(0, whole=True), _Range(0)

# By the last part of the field's path.
_RANGES = {
    # The last seed must fit into an int32 too.
    "seed": _Range(0, 2**30, whole=True),
    "seeds": _Range(1, 10_000, whole=True),
    "shards": _COUNT,
    "microbatches": _COUNT,
    "epochs": _COUNT,
    "batch_size": _COUNT,
    "num_valid": _COUNT_OR_NONE,
    "num_labels": _COUNT_OR_NONE,
    "patience": _COUNT_OR_NONE,
    "monitor_every": _COUNT,
    "replays": _COUNT,
    "rows": _COUNT,
    "checkpoint_every": _COUNT,
    "checkpoints_kept": _COUNT,
    "features": _COUNT,
    "adversary_features": _COUNT,
    "decoder_features": _COUNT,
    "discriminator_features": _COUNT,
    "encoder_features": _COUNT,
    "generator_features": _COUNT,
    "steps": _COUNT,
    "mean_field_steps": _COUNT,
    "connections": _COUNT,
    "num_classes": _COUNT,
    "weights": _SIZE,
    "noise_std": _SIZE,
    "gamma": _SIZE,
    "label_weight": _SIZE,
    "masking": _Range(0, 1),
    "eps": _SIZE,
    "tau": _SIZE,
    "std": _SIZE,
    "alpha": _Range(0, 1),
    "beta": _SIZE,
    "smoothing": _Range(0, 1),
    "weight": _SIZE,
    "aggressiveness": _Range(0, above=True),
    "temperature": _Range(0, above=True),
    "maps": _COUNT,
    "kernel_sizes": _COUNT,
    "pieces": _COUNT,
    "units": _COUNT,
    "unit_pieces": _COUNT,
    "pools": _Range(2, whole=True),  # in steps of 2
    "pads": _COUNT_OR_NONE,
    "learning_rate": _SIZE,
    "momentum": _Range(0, 1),
    "weight_decay": _SIZE,
    "l1": _SIZE,
    "increase": _Range(1),
    "decrease": _Range(0, 1),
    "max_norm": _SIZE,
    "convolution_scale": _SIZE,
    "dropout": _Range(0, 1, below=True),
    "dropconnect": _Range(0, 1, below=True),
    "half": _Range(0, 2, whole=True),
    "crop": _COUNT_OR_NONE,
    "pad": _COUNT_OR_NONE,
    "rotation": _Range(0, 180),
    "zoom": _Range(0, 0.9),
    "shear": _SIZE,
    "morphology": _COUNT_OR_NONE,
    "train_error": _Range(0, 1),
    "rate_scale": _Range(0, 1),
    "first_epoch": _COUNT,
}
# The fields that every run reads, and those that a config may omit.
_FIELDS: dict[str, Any] = {
    "experiment": str,
    "seed": int,
    "replicas": Mapping,
    "replicas.seeds": int,
    "replicas.grid": Mapping | None,
    "replicas.shards": int,
    "data": Mapping,
    "data.name": str,
    "data.source": str,
    "data.dir": str,
    "data.num_valid": int,
    "data.num_labels": int,
    "model": Mapping,
    "objective": Mapping,
    "optimizer": Mapping,
    "epochs": int,
    "batch_size": int,
    "patience": int,
    "monitor_every": int,
    "checkpoint_every": int,
    "checkpoints_kept": int,
    "tensorboard": bool,
    "evaluation": Mapping,
    "evaluation.attacks": Mapping,
    "evaluation.eps": tuple | list,
}
_OPTIONAL: dict[str, Any] = {
    "averaging": Mapping | None,
    "data.crop": int,
    "data.half": int,
    "data.mirror": bool,
    "data.morphology": int,
    "data.pad": int,
    "data.preprocess": object,  # Checked where it is bound.
    "data.rotation": int | float,
    "data.shear": int | float,
    "data.stratified": bool,
    "data.target": object,  # Also checked where it is bound.
    "data.zoom": int | float,
    "microbatches": int,
    "modules": Mapping,
    "monitor_attacks": Mapping | None,
    "monitor_attacks.eps": object,
    "monitor_attacks.names": tuple | list,
    "monitor_attacks.rows": int,
    "monitor_train": bool,
    "pretrained": Mapping | None,
    "pretrained.part": str,
    "pretrained.workdir": str,
    "replays": int,
    "stop": Mapping | None,
}
FIELDS = frozenset({*_FIELDS, *_OPTIONAL})
TEXTS = frozenset(field for field in FIELDS if (_FIELDS | _OPTIONAL).get(field) is str)
TYPE_NAMES: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    int | float: "a number",
    bool: "True or False",
    tuple: "a tuple",
    tuple | list: "a tuple",
}
_DOCUMENTS = "a text, a number of 32 bits, True, False, None, or a tuple or dict of them"
_STOPS = ("train_error", "rate_scale")


def check(config: Mapping[str, Any]) -> None:
    """Checks that a run can have this config: `check_fields`, then `validate`.

    Raises:
      ConfigError: names the field, what is allowed there and the value.
    """
    check_fields(config)
    validate(config)


def check_fields(config: Mapping[str, Any]) -> None:
    """Checks that a config has every field that runs read, each of the right type, and no other.

    The fields of `model`, `objective`, `optimizer` and of attacks belong to what they name, as do
    those of `data` if its source is "import". `modules` is added when a run starts: see `plugins`.

    Raises:
      ConfigError: names the field, what is allowed there and the value.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"config must be a dict, got {config!r}")
    _check_document(config)
    known = _FIELDS | _OPTIONAL
    for group in ("", "data", "replicas", "evaluation", "monitor_attacks", "pretrained"):
        legal = [path.rpartition(".")[2] for path in known if path.rpartition(".")[0] == group]
        node = config.get(group, {}) if group else config
        for name in node if isinstance(node, Mapping) else ():
            own = group == "data" and schema.is_import_path(node.get("name"))
            if name not in legal and not own:
                raise ConfigError(unknown(f"a field of {group or 'the config'}", name, legal))
    for path, expected in known.items():
        *parents, last = path.split(".")
        node: Any = config
        for parent in parents:
            node = node.get(parent) or {}
        if last in node:
            _check_type(path, node[last], expected)
        elif path in _FIELDS:
            raise ConfigError(f"{path} must be {TYPE_NAMES.get(expected, 'a dict')}, got none")
    experiment = config["experiment"]
    if not re.fullmatch(r"[\w-]+", experiment):  # It becomes a part of paths.
        raise ConfigError(f"experiment must be letters, digits, _ and -, got {experiment!r}")
    for name, spec in config["evaluation"]["attacks"].items():
        _check_type(f"evaluation.attacks.{name}", spec, Mapping)


def _check_document(config: Mapping[str, Any], prefix: str = "") -> None:
    """Raises ConfigError for a key or a value that a config cannot hold."""
    for key, value in config.items():
        path = f"{prefix}{key}"
        if not schema.is_key(key):
            raise ConfigError(f"a key must be a printable text, got {path!r}")
        if isinstance(value, Mapping):
            _check_document(value, f"{path}.")
        elif not schema.is_document(value):
            rule = _RANGES.get(path.rpartition(".")[2])
            allowed = f"{rule}, of 32 bits" if rule else _DOCUMENTS
            raise ConfigError(f"{path} must be {allowed}, got {value!r}")


def _check_type(path: str, value: Any, expected: Any) -> None:
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise ConfigError(f"{path} must be {TYPE_NAMES.get(expected, 'a dict')}, got {value!r}")


def validate(config: Mapping[str, Any]) -> None:
    """Checks the ranges of all numbers, including those of the grid.

    The settings of a function that an import path names may have any values.

    Raises:
      ConfigError: names the field, what is allowed there and the value.
    """
    own = {"modules", *(path.rpartition(".")[0] for path in import_paths(config))}
    for path, value in itertools.chain(leaves(config), grid_of(config).items()):
        part, _, name = path.rpartition(".")
        rule = None if part in own and path not in FIELDS else _RANGES.get(name)
        if rule is None or value is None:
            continue
        for number in value if isinstance(value, tuple | list) else (value,):
            if not rule.allows(number):
                raise ConfigError(f"{path} must be {rule}, got {number!r}")
    _check_stop(config.get("stop"), config["optimizer"])
    if watched := config.get("monitor_attacks"):
        _check_monitored(watched, config["evaluation"]["attacks"])
    if start := config.get("pretrained"):
        _check_given("pretrained", start, ("workdir", "part"))
    if config["patience"] and not config["data"]["num_valid"]:
        raise ConfigError(f"patience must be 0 without data.num_valid, got {config['patience']}")


def _check_stop(stop: Mapping[str, Any] | None, optimizer: Mapping[str, Any]) -> None:
    """Checks that `stop` has a train_error, and a rate_scale only for a plateau."""
    if stop and ("train_error" not in stop or set(stop) - set(_STOPS)):
        example = "{'train_error': .0001, 'rate_scale': .004} or without rate_scale"
        raise ConfigError(f"stop must be a dict such as {example}, got {dict(stop)!r}")
    if stop and "rate_scale" in stop and optimizer.get("plateau") is None:
        found = stop["rate_scale"]
        raise ConfigError(f"stop.rate_scale must be unset without optimizer.plateau, got {found!r}")


def _check_monitored(watched: Mapping[str, Any], attacks: Mapping[str, Any]) -> None:
    """Checks that `monitor_attacks` has its three fields and names attacks of the evaluation."""
    _check_given("monitor_attacks", watched, ("names", "eps", "rows"))
    for name in watched["names"]:
        if name not in attacks:
            raise ConfigError(unknown("an entry of monitor_attacks.names", name, attacks))


def _check_given(field: str, group: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raises ConfigError if a group of fields lacks one."""
    for name in names:
        if name not in group:
            raise ConfigError(f"{field}.{name} must be given, got none")

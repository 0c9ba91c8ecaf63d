"""The fields of a config that are the runner's own: their types and ranges, and their check."""

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from adv_jax.data.augmentation import OFF, augmented
from adv_jax.ranges import COUNT, Range, entries_of, stated
from adv_jax.runner.config.document import (
    ConfigError,
    check_document,
    is_import_path,
    leaves,
)
from adv_jax.runner.config.parts import ranges_of_parts
from adv_jax.runner.config.replicas import grid_of
from adv_jax.types import not_one_of

_COUNT_OR_NONE, _SIZE, _SHARE = "{0, 1, ...}", "[0, inf)", "[0, 1]"
# The runner's own fields that every run reads, and those that a config may omit, by their types.
# A text is the range of a number: of a whole one in braces. A part states those of its settings.
_FIELDS: dict[str, Any] = {
    "experiment": str,
    "seed": "{0, ..., 1073741824}",  # The last seed must fit into an int32 too.
    "replicas": Mapping,
    "replicas.seeds": "{1, ..., 10000}",
    "replicas.grid": Mapping | None,
    "replicas.shards": COUNT,
    "data": Mapping,
    "data.name": str,
    "data.source": str,
    "data.dir": str,
    "data.num_valid": _COUNT_OR_NONE,
    "data.num_labels": _COUNT_OR_NONE,
    "model": Mapping,
    "objective": Mapping,
    "optimizer": Mapping,
    "epochs": COUNT,
    "batch_size": COUNT,
    "patience": _COUNT_OR_NONE,
    "monitor_every": COUNT,
    "checkpoint_every": COUNT,
    "checkpoints_kept": COUNT,
    "trackers": tuple | list,
    "evaluation": Mapping,
    "evaluation.attacks": Mapping,
    "evaluation.eps": tuple | list,
}
_OPTIONAL: dict[str, Any] = {
    "averaging": Mapping | None,
    "data.crop": _COUNT_OR_NONE,
    "data.half": "{0, 1, 2}",
    "data.preprocess": object,  # Checked where it is bound.
    "data.stratified": bool,
    "data.target": object,  # Also checked where it is bound.
    "microbatches": COUNT,
    "model.weights": str,
    "modules": Mapping,
    "monitor_attacks": Mapping | None,
    "monitor_attacks.eps": _SIZE,
    "monitor_attacks.names": tuple | list,
    "monitor_attacks.rows": COUNT,
    "monitor_train": bool,
    "pretrained": Mapping | None,
    "pretrained.part": str,
    "pretrained.replica": _COUNT_OR_NONE,
    "pretrained.workdir": str,
    "replays": COUNT,
    "stop": Mapping | None,
    "stop.rate_scale": _SHARE,
    "stop.train_error": _SHARE,
    **{
        f"data.{name}": int | float if isinstance(off, float) else type(off)
        for name, off in OFF.items()
    },
}
# No attack has these names: NAME_error and the entry of result.json are of something else.
_MEASURES = ("worst_case", "test", "train", "valid")
# Optional group -> the fields that it needs.
NEEDED = {
    "monitor_attacks": ("names", "eps", "rows"),
    "pretrained": ("workdir", "part"),
    "replicas.grid": (),
    "stop": ("train_error",),
}
_STATED = _FIELDS | _OPTIONAL
_RANGES = {field: kind for field, kind in _STATED.items() if isinstance(kind, str)}
_RANGES["evaluation.eps"] = _SIZE  # of each entry
_TYPES = {
    field: (int if kind.startswith("{") else int | float) if isinstance(kind, str) else kind
    for field, kind in _STATED.items()
}
FIELDS = frozenset(_TYPES)
TEXTS = frozenset(field for field, expected in _TYPES.items() if expected is str)
TYPE_NAMES: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    int | float: "a number",
    bool: "True or False",
    tuple: "a tuple",
    tuple | list: "a tuple",
}


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
    _check_origin(config.get("data"))
    for group in ("", "data", "replicas", "evaluation", "monitor_attacks", "pretrained", "stop"):
        paths = [path for path in _TYPES if path.rpartition(".")[0] == group]
        legal = sorted(path.rpartition(".")[2] for path in paths)
        node = config.get(group, {}) if group else config
        for name in node if isinstance(node, Mapping) else ():
            own = group == "data" and is_import_path(node.get("name"))
            if name not in legal and not own:
                raise ConfigError(not_one_of(f"a field of {group or 'the config'}", name, legal))
    missing: dict[str, str] = {}  # path -> what it must be
    for path, expected in _TYPES.items():
        *parents, last = path.split(".")
        node: Any = config
        for parent in parents:
            node = node.get(parent) or {}
        if last in node:
            _check_type(path, node[last], expected)
        elif path in _FIELDS and ".".join(parents) not in missing:
            missing[path] = f"{path} must be {TYPE_NAMES.get(expected, 'a dict')}"
    if missing:
        named = [*missing.values()]
        if len(named) > 4:
            named[3:] = [f"and {len(named) - 3} more fields"]
        raise ConfigError(f"{', '.join(named)}, got none")
    check_document(config, ranges_of_fields(config))
    experiment = config["experiment"]
    if not re.fullmatch(r"[\w-]+", experiment):  # It becomes a part of paths.
        raise ConfigError(f"experiment must be letters, digits, _ and -, got {experiment!r}")
    for name, spec in config["evaluation"]["attacks"].items():
        # A dot would make it a path of fields; the others are measures of a run.
        if "." in name or name in _MEASURES:
            allowed = f"names without dots, other than {', '.join(_MEASURES)}"
            raise ConfigError(f"evaluation.attacks must have {allowed}, got {name!r}")
        _check_type(f"evaluation.attacks.{name}", spec, Mapping)


def _check_origin(data: Any) -> None:
    """Raises ConfigError if only one of data.name and data.source is that of one's own data."""
    if not isinstance(data, Mapping) or not {"name", "source"} <= data.keys():
        return
    name, source = data["name"], data["source"]
    if source == "import" and not is_import_path(name):
        allowed = "package.module:function for data.source 'import'"
        raise ConfigError(f"data.name must be {allowed}, got {name!r}")
    if source != "import" and is_import_path(name):
        raise ConfigError(f"data.source must be 'import' for data.name {name!r}, got {source!r}")


def ranges_of_fields(config: Mapping[str, Any]) -> dict[str, Range]:
    """Returns {path: range} of the runner's own fields, and of settings whose part states one."""
    of_images = {f"data.{name}": allowed for name, allowed in stated(augmented).items()}
    own = {path: Range.of(text) for path, text in _RANGES.items()}
    return own | ranges_of_parts(config) | of_images


def _check_type(path: str, value: Any, expected: Any) -> None:
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise ConfigError(f"{path} must be {TYPE_NAMES.get(expected, 'a dict')}, got {value!r}")


def validate(config: Mapping[str, Any]) -> None:
    """Checks the ranges of all numbers, including those of the grid.

    The settings of a function that an import path names may have any values.

    Raises:
      ConfigError: names the field, what is allowed there and the value.
    """
    ranges = ranges_of_fields(config)
    for path, value in itertools.chain(leaves(config), grid_of(config).items()):
        if path not in ranges or value is None:
            continue
        for number in _numbers(path, value):
            if not ranges[path].allows(number):
                raise ConfigError(f"{path} must be {ranges[path]}, got {number!r}")
    if stop := config.get("stop"):
        _check_stop(stop, config["optimizer"])
    if watched := config.get("monitor_attacks"):
        _check_monitored(watched, config["evaluation"]["attacks"])
    if start := config.get("pretrained"):
        _check_given("pretrained", start)
    if config.get("pretrained") and (file := config["model"].get("weights")):
        raise ConfigError(f"model.weights must be unset with pretrained, got {file!r}")
    if config["patience"] and not config["data"]["num_valid"]:
        raise ConfigError(f"patience must be 0 without data.num_valid, got {config['patience']}")


def _numbers(path: str, value: Any) -> Iterable[Any]:
    """Returns the numbers that a field holds: one, or those of a tuple, which may be nested.

    `evaluation.eps` is a flat tuple: a nested entry counts as no number, and is refused.
    """
    is_flat = path == "evaluation.eps" and isinstance(value, tuple | list)
    return value if is_flat else entries_of(value)


def _check_stop(stop: Mapping[str, Any], optimizer: Mapping[str, Any]) -> None:
    """Checks that `stop` has a train_error, and a rate_scale only for a plateau."""
    _check_given("stop", stop)
    if "rate_scale" in stop and optimizer.get("plateau") is None:
        found = stop["rate_scale"]
        raise ConfigError(f"stop.rate_scale must be unset without optimizer.plateau, got {found!r}")


def _check_monitored(watched: Mapping[str, Any], attacks: Mapping[str, Any]) -> None:
    """Checks that `monitor_attacks` has its three fields and names attacks of the evaluation."""
    if not attacks:
        allowed = "unset without evaluation.attacks"
        raise ConfigError(f"monitor_attacks must be {allowed}, got {watched!r}")
    _check_given("monitor_attacks", watched)
    if not watched["names"]:
        raise ConfigError("monitor_attacks.names must be one or more attacks, got ()")
    for name in watched["names"]:
        if not isinstance(name, str) or name not in attacks:
            raise ConfigError(not_one_of("an entry of monitor_attacks.names", name, attacks))


def _check_given(field: str, group: Mapping[str, Any]) -> None:
    """Raises ConfigError if an optional group lacks one of the fields that it needs."""
    for name in NEEDED[field]:
        if name not in group:
            raise ConfigError(f"{field}.{name} must be given, got none")

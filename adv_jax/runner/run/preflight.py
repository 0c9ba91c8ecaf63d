"""Checks a config against its data before anything is written."""

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import numpy as np
from flax.errors import FlaxError

from adv_jax.attacks import SIZES
from adv_jax.checks import check_bounds, check_width
from adv_jax.data import DataError, Dataset, augmentation
from adv_jax.evaluate import scale_of
from adv_jax.evaluate.checks import distance_of
from adv_jax.runner.config.binding import OBJECTIVE, OBJECTIVES
from adv_jax.runner.config.building import attack_of, first_state_of, trained_by
from adv_jax.runner.config.document import ConfigError, leaves, with_values
from adv_jax.runner.config.parts import Part
from adv_jax.runner.config.plugins import location
from adv_jax.runner.config.replicas import Replica, replicas
from adv_jax.runner.host.devices import layout
from adv_jax.runner.run.experiment import Experiment, Functions
from adv_jax.types import Attack, Bounds, LogitsFn, UserError, Variables

_P = ParamSpec("_P")
_T = TypeVar("_T")
# Errors that models, objectives and attacks raise for invalid settings.
_UNFIT = (ArithmeticError, AttributeError, FlaxError, LookupError, TypeError, ValueError)


class Checked(NamedTuple):
    """The results of tracing the functions of a replica.

    functions: replay the traced operations, as tracing a model again takes seconds. None with
      several shards or a stream, whose `epoch` takes other arguments, and while JAX is told to
      debug NaN.
    metrics: the names of an epoch's metrics.
    """

    functions: Functions | None
    metrics: set[str]


def check_fit(
    config: Mapping[str, Any], dataset: Dataset, devices: Sequence[jax.Device] | None = None
) -> None:
    """Checks the sizes and bounds of a config against the data and the devices.

    devices: of all processes; None: `jax.devices()`.

    Raises:
      ConfigError: a field does not fit the data or the devices.
      UserError: bounds are not (lo, hi); the processes cannot share the replicas evenly; JAX is
        told to disable jit.
      DataError: an image is outside the declared bounds of the data set.
    """
    if _options().jax_disable_jit:
        instead = "a run compiles its steps (JAX_DEBUG_NANS=1 finds the operation that returns NaN)"
        raise UserError(f"jax_disable_jit must be False, as {instead}, got True")
    check_batch_size(config, dataset)
    _check_shards(config, devices)
    if config["evaluation"]["attacks"] and not config["evaluation"]["eps"]:
        raise ConfigError("evaluation.eps must be one or more numbers of at least 0, got ()")
    watched, tested = config.get("monitor_attacks"), len(dataset.test.y)
    if watched and watched["rows"] > tested:
        allowed = f"1 to {tested}, the size of the test set"
        raise ConfigError(f"monitor_attacks.rows must be {allowed}, got {watched['rows']}")
    inputs = dataset.test.x.shape[1:]
    for field, off in augmentation.OFF.items():
        if (found := config["data"].get(field, off)) and len(inputs) != 3:
            inputs_are = f"the inputs of {dataset.name}, {inputs}, are not images"
            raise ConfigError(f"data.{field} must be {off}, as {inputs_are}, got {found}")
    low, high = _extremes(dataset)
    if dataset.bounds and not dataset.bounds[0] <= low <= high <= dataset.bounds[1]:
        raise DataError(
            f"{dataset.name} ({dataset.source}) must be within its bounds, {dataset.bounds}, "
            f"got values from {low:g} to {high:g}"
        )
    for path, bounds in leaves(config):
        if path.endswith(".bounds") and bounds is not None:
            check_bounds(bounds, name=path)
            if not bounds[0] <= low <= high <= bounds[1]:
                values = f"the values of the inputs, {low:g} to {high:g}"
                raise ConfigError(f"{path} must include {values}, got {bounds!r}")


def _options() -> Any:
    return jax.config  # Its attributes are dynamic.


def check_batch_size(config: Mapping[str, Any], dataset: Dataset) -> None:
    """Raises ConfigError if a batch exceeds the training set."""
    train = len(dataset.train.y) - config["data"]["num_valid"]
    if not config["batch_size"] <= train:
        allowed = f"1 to {train}, the size of the training set"
        raise ConfigError(f"batch_size must be {allowed}, got {config['batch_size']}")


def _check_shards(config: Mapping[str, Any], devices: Sequence[jax.Device] | None) -> None:
    """Raises UserError if batches do not fit the devices, shards or parts."""
    batch_size, shards = config["batch_size"], config["replicas"]["shards"]
    layout(len(replicas(config)), shards=shards, devices=devices)
    if batch_size % shards:
        raise ConfigError(
            f"replicas.shards must be a divisor of batch_size, {batch_size}, got {shards}"
        )
    own = batch_size // shards
    if own % config.get("microbatches", 1):
        raise ConfigError(
            f"microbatches must be a divisor of batch_size / replicas.shards, {own}, "
            f"got {config['microbatches']}"
        )


def _extremes(dataset: Dataset) -> tuple[float, float]:
    """Returns the smallest and the largest value of the inputs."""
    parts = dataset.train.x, dataset.test.x
    return min(part.min() for part in parts), max(part.max() for part in parts)


def _explaining(check: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorates check(config, dataset, replica, ...), so that it raises one line for bad settings.

    Raises:
      ConfigError: an unknown name or setting, or an error that tracing raised; of a user's module,
        any error.
    """

    @functools.wraps(check)
    def explained(*args: _P.args, **more: _P.kwargs) -> _T:
        given: Any = args
        config, dataset, replica, *rest = given
        try:
            return check(*args, **more)
        except Exception as error:
            if type(error) is UserError:  # Of a part.
                raise ConfigError(_reason(error)) from error
            is_known = isinstance(error, UserError)
            if is_known or not (isinstance(error, _UNFIT) or location(error)):
                raise
            if replica.overrides:
                # Raise the config's own error first, if it fails without the overrides too.
                own: Any = explained
                own(config, dataset, replica._replace(overrides={}), *rest, **more)
                raise ConfigError(
                    "replicas.grid must be fields that JAX can trace (launch.sweep varies the "
                    f"others), got {', '.join(replica.overrides)}"
                ) from error
            raise ConfigError(f"{_reason(error)}{location(error)}") from error

    return explained


@_explaining
def check_parts(
    config: Mapping[str, Any],
    dataset: Dataset,
    replica: Replica,
    sources: Mapping[str, LogitsFn],
    starts: Mapping[str, Any] = MappingProxyType({}),
    *,
    rows: Mapping[str, np.ndarray],
    packed: bool = False,
) -> Checked:
    """Traces all functions of a replica, so that invalid settings fail before training.

    Args:
      replica: the first one.
      starts: the output of `pretrained.starts`.
      packed: as in `Experiment.epoch`.

    Raises:
      ConfigError: as `check_settings`.
    """
    experiment, init = check_settings(config, dataset, replica, sources, starts)
    arrays, run = dataset.arrays(), init.out_info
    mine = {name: values[0] for name, values in rows.items()}
    epoch = jax.jit(partial(experiment.epoch, packed=packed)).trace(run, arrays, mine)
    run, trained = epoch.out_info
    for name, metric in trained.items():
        if metric.shape != trained["loss"].shape:
            raise ConfigError(f"objective must return metrics f32[], got {name}, an array")
    monitor = jax.jit(experiment.monitor).trace(run, arrays, mine)
    run, monitored = monitor.out_info
    evaluate = jax.jit(experiment.evaluate).trace(run, arrays, mine)
    is_whole = config["replicas"]["shards"] == 1 and dataset.stream is None
    # With jax_debug_nans the run traces once more, so that errors name the lines of the model.
    debugged = _options().jax_debug_nans
    functions = Functions(init, epoch, monitor, evaluate) if is_whole and not debugged else None
    return Checked(functions, {*trained, *monitored})


@_explaining
def check_settings(
    config: Mapping[str, Any],
    dataset: Dataset,
    replica: Replica,
    sources: Mapping[str, LogitsFn],
    starts: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Experiment, Any]:
    """Returns the functions of a replica and its traced `init`, after checks of all settings.

    No step of training is traced, which may take seconds.

    Raises:
      ConfigError: an unknown name or setting, or an error that tracing raised; of a user's module,
        any error.
    """
    # A shard's index exists only on its device.
    experiment = Experiment(with_values(config, {"replicas.shards": 1}), dataset, sources)
    _check_averaging(config)
    _check_task(config, experiment.predicts)
    _check_inputs(config, getattr(experiment.model, "input_bounds", None), dataset)
    _check_inner_objective(config["objective"].get("objective"))
    for point in dict.fromkeys((*each.overrides.items(),) for each in replicas(config)):
        _check_attacks(with_values(config, dict(point)), experiment, dataset.test.x.shape[1:])
    hyper = {path: np.float32(value) for path, value in replica.overrides.items()}
    start = jax.tree.map(lambda leaf: leaf[0], dict(starts))
    init = jax.jit(experiment.init).trace(np.int32(replica.seed), hyper, start)
    variables, x = init.out_info.state.variables, dataset.arrays()["test_x"][:2]
    _check_model(config, experiment, variables, x, dataset.num_classes)
    return experiment, init


def _check_averaging(config: Mapping[str, Any]) -> None:
    """Raises ConfigError if the average begins after the run."""
    first, epochs = (config.get("averaging") or {}).get("first_epoch", 1), config["epochs"]
    if first > epochs:
        allowed = f"1 to {epochs}, the number of epochs"
        raise ConfigError(f"averaging.first_epoch must be {allowed}, got {first}")


def _check_task(config: Mapping[str, Any], predicts: str) -> None:
    """Raises ConfigError if the objective trains models of another task."""
    name, model = config["objective"]["name"], config["model"]["name"]
    legal = trained_by(config["objective"])
    if legal is not None and predicts not in legal:
        raise ConfigError(
            f"model.name must be a model that predicts {' or '.join(map(repr, legal))}, as "
            f"objective.{name} trains it, got {model!r}, which predicts {predicts!r}"
        )


def _check_inputs(config: Mapping[str, Any], bounds: Bounds | None, dataset: Dataset) -> None:
    """Raises ConfigError if inputs are outside the bounds of the model."""
    low, high = _extremes(dataset) if bounds else (0, 0)
    if bounds and not bounds[0] <= low <= high <= bounds[1]:
        allowed = f"inputs from {bounds[0]} to {bounds[1]} for model.{config['model']['name']}"
        raise ConfigError(f"data must be {allowed}, got values from {low:g} to {high:g}")


def _check_inner_objective(spec: Mapping[str, Any] | None) -> None:
    """Raises ConfigError if an objective gives its attack to one that takes none."""
    if spec is None:
        return
    legal, takes_any = Part("objective.objective", spec, OBJECTIVES, OBJECTIVE).settings()
    if "attack" not in legal and not takes_any:
        takes = "an objective that takes an attack"
        raise ConfigError(f"objective.objective.name must be {takes}, got {spec['name']!r}")


def _check_attacks(
    config: Mapping[str, Any], experiment: Experiment, shape: tuple[int, ...]
) -> None:
    """Raises ConfigError for unknown norms and for sizes that exceed an attack's bounds."""
    for field, spec in config["objective"].items():
        if isinstance(spec, Mapping) and field != "objective":
            path = f"objective.{field}"
            unsized = {name: value for name, value in spec.items() if name not in SIZES}
            attack = attack_of(unsized, path, {}, free=SIZES)
            size = scale_of(attack)
            _check_attack(path, attack, f"{path}.{size}", spec.get(size), shape)
    most = max(config["evaluation"]["eps"], default=0)
    for name, attack in experiment.attacks.items():
        path = f"evaluation.attacks.{name}"
        _check_attack(path, attack, f"evaluation.eps of {path}", most, shape)


def _check_attack(
    path: str, attack: Attack, field: str, size: float | None, shape: tuple[int, ...]
) -> None:
    """Checks the norm of an attack, and its size, which is that of `field`."""
    try:
        norm = distance_of(attack)
    except ValueError as error:
        raise ConfigError(f"{path}.{error}") from error
    bounds = getattr(attack, "keywords", {}).get("bounds")
    if norm is not None and size is not None and bounds is not None:
        check_width(field, size, shape, norm, bounds)


def _reason(error: Exception) -> str:
    """Returns the error in one line, with its type where the message alone is unclear."""
    line = str(error).strip().partition("\n")[0]
    own = isinstance(error, FlaxError | TypeError | ValueError)
    return line if own and line else f"{type(error).__name__}: {line}"


def _check_model(
    config: Mapping[str, Any],
    experiment: Experiment,
    variables: Variables,
    x: np.ndarray,
    num_classes: int,
) -> None:
    """Raises ConfigError for a wrong number of classes, or for parts of a batch with a state."""
    # A model of images may know their classes too.
    known = getattr(experiment.model, "num_classes", num_classes)
    if experiment.predicts == "real" and known != num_classes:
        raise ConfigError(
            f"model.num_classes must be {num_classes}, the classes of data.name, got {known}"
        )
    if experiment.predicts == "labels":
        logits = jax.eval_shape(experiment.apply, variables, x).logits
        if logits.shape[-1] != num_classes:
            setting = f"; did you mean model.num_classes={num_classes}?"
            raise ConfigError(
                f"model must have {num_classes} classes, as data.name has, got {logits.shape[-1]}"
                f"{setting if hasattr(experiment.model, 'num_classes') else ''}"
            )
    elif experiment.predicts == "loss":
        _check_without_classes(config)
    if reason := needs_whole_batches(config, variables):
        parts = {
            "replicas.shards": config["replicas"]["shards"],
            "microbatches": config.get("microbatches", 1),
        }
        for field, count in parts.items():
            if count > 1:
                raise ConfigError(f"{field} must be 1 for {reason}, got {count}")


def needs_whole_batches(config: Mapping[str, Any], variables: Variables) -> str:
    """Returns what forbids `replicas.shards` and `microbatches`; "" if nothing does."""
    if "batch_stats" in variables:
        return "a model with batch normalization"
    objective = config["objective"]
    return f"objective.{objective['name']}" if first_state_of(objective) else ""


def _check_without_classes(config: Mapping[str, Any]) -> None:
    """Raises ConfigError for settings that need a model with classes."""
    settings = {"evaluation.attacks": config["evaluation"]["attacks"], "stop": config.get("stop")}
    for field, value in settings.items():
        if value:
            raise ConfigError(
                f"{field} must be empty, as the model has no classes, got {dict(value)}"
            )

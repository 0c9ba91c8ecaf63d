"""What is refused before anything is written: sizes, bounds, names and settings that do not fit."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.errors import FlaxError

from adv_jax.data import DataError, Dataset
from adv_jax.evaluate import norm_of, scale_of
from adv_jax.evaluate.checks import DISTANCES, check_distance
from adv_jax.runner.config import ConfigError, Replica, leaves, replicas, with_values
from adv_jax.runner.devices import layout
from adv_jax.runner.experiment import Experiment, attack_of
from adv_jax.types import Attack, LogitsFn, UserError, Variables

# What parts raise at settings that do not fit them, or each other.
_UNFIT = (ArithmeticError, AttributeError, FlaxError, LookupError, TypeError, ValueError)


def check_fit(config: Mapping[str, Any], dataset: Dataset) -> None:
    """Refuses sizes and bounds that do not fit the data.

    Raises:
      ConfigError: names the field.
      UserError: replicas that several processes cannot share evenly.
      DataError: an image is outside the bounds that the data set declares.
    """
    train = len(dataset.train.y) - config["data"]["num_valid"]
    batch_size, shards = config["batch_size"], config["replicas"]["shards"]
    if not batch_size <= train:
        raise ConfigError(f"batch_size is {batch_size}; allowed are 1 to {train}, the training set")
    if not 1 <= shards <= jax.device_count():
        devices = f"allowed are 1 to {jax.device_count()}, the devices here"
        raise ConfigError(f"replicas.shards is {shards}; {devices}")
    layout(len(replicas(config)), shards=shards)
    if batch_size % shards:
        raise ConfigError(f"replicas.shards is {shards}; it must divide batch_size, {batch_size}")
    if config["evaluation"]["attacks"] and not config["evaluation"]["eps"]:
        raise ConfigError("evaluation.eps is (); allowed are one or more numbers of at least 0")
    inputs = dataset.test.x.shape[1:]
    if config["data"].get("mirror") and len(inputs) != 3:
        raise ConfigError(
            f"data.mirror is True; allowed is False, the inputs of {dataset.name} being no "
            f"images, {inputs}"
        )
    low = min(dataset.train.x.min(), dataset.test.x.min())
    high = max(dataset.train.x.max(), dataset.test.x.max())
    if dataset.bounds and not dataset.bounds[0] <= low <= high <= dataset.bounds[1]:
        raise DataError(
            f"{dataset.name} ({dataset.source}): values from {low:g} to {high:g} found, allowed "
            f"are its bounds, {dataset.bounds}"
        )
    for path, bounds in leaves(config):
        if path.endswith(".bounds") and bounds is not None:
            pair = isinstance(bounds, tuple | list) and len(bounds) == 2
            if not pair or not all(isinstance(bound, int | float) for bound in bounds):
                raise ConfigError(f"{path} is {bounds!r}; allowed are two numbers, or None")
            if not bounds[0] <= low <= high <= bounds[1]:
                raise ConfigError(f"{path} is {bounds!r}; the inputs go from {low:g} to {high:g}")


def check_parts(
    config: Mapping[str, Any],
    dataset: Dataset,
    rows: Mapping[str, np.ndarray],
    replica: Replica,
    sources: Mapping[str, LogitsFn],
) -> set[str]:
    """Traces all that a replica will run: what a part refuses shows before anything is written.

    Returns:
      The names of what is measured in an epoch.

    Raises:
      ConfigError: an unknown name or setting, or the part's own words.
    """
    try:
        return _traced(config, dataset, rows, replica, sources)
    except UserError:
        raise
    except _UNFIT as error:
        if replica.overrides:
            # Where the config's own numbers do not fit either, that is what is wrong.
            check_parts(config, dataset, rows, replica._replace(overrides={}), sources)
            raise ConfigError(
                f"replicas.grid has {', '.join(replica.overrides)}; allowed are numbers that can "
                "be traced, for which one program serves all replicas: launch.sweep varies others"
            ) from error
        raise ConfigError(_reason(error)) from error


def _traced(
    config: Mapping[str, Any],
    dataset: Dataset,
    rows: Mapping[str, np.ndarray],
    replica: Replica,
    sources: Mapping[str, LogitsFn],
) -> set[str]:
    """`check_parts`, with errors as the parts raise them."""
    # A shard has to ask which one it is, and only knows on its device.
    experiment = Experiment(with_values(config, {"replicas.shards": 1}), dataset, sources)
    _check_attacks(with_values(config, replica.overrides), experiment, dataset.test.x.shape[1:])
    arrays = dataset.arrays()
    mine = {name: values[0] for name, values in rows.items()}
    hyper = {path: np.float32(value) for path, value in replica.overrides.items()}
    run = jax.eval_shape(experiment.init, np.int32(replica.seed), hyper)
    _check_model(config, experiment, run.state.variables, arrays["test_x"][:2], dataset.num_classes)
    run, trained = jax.eval_shape(experiment.epoch, run, arrays, mine)
    run, monitored = jax.eval_shape(experiment.monitor, run, arrays, mine)
    jax.eval_shape(experiment.evaluate, run, arrays, mine)
    return {*trained, *monitored}


def _check_attacks(
    config: Mapping[str, Any], experiment: Experiment, shape: tuple[int, ...]
) -> None:
    """Refuses unknown norms, and sizes that nothing within an attack's bounds can have."""
    for field, spec in config["objective"].items():
        if isinstance(spec, Mapping):
            path = f"objective.{field}"
            sizes = {f"{path}.{s} is": spec[s] for s in DISTANCES if spec.get(s) is not None}
            _check_attack(path, spec, attack_of(spec, path, {}), sizes, shape)
    eps = config["evaluation"]["eps"]
    for name, attack in experiment.attacks.items():
        sizes = {"evaluation.eps has": max(eps, default=0)} if scale_of(attack) in DISTANCES else {}
        spec = config["evaluation"]["attacks"][name]
        _check_attack(f"evaluation.attacks.{name}", spec, attack, sizes, shape)


def _check_attack(
    path: str,
    spec: Mapping[str, Any],
    attack: Attack,
    sizes: Mapping[str, float],
    shape: tuple[int, ...],
) -> None:
    """sizes: {the words before it: size}."""
    try:
        norm = norm_of(attack) or "linf"
    except ValueError as error:
        raise ConfigError(f"{path}.{error}") from error
    bounds = spec.get("bounds")
    if bounds is not None:
        for what, size in sizes.items():
            check_distance(what, size, shape, norm=norm, bounds=bounds, attack=path)


def _reason(error: Exception) -> str:
    """One line; what Python says of a missing key is the key alone."""
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
    """Refuses a model with another number of classes, and shards of one that couples its rows."""
    logits = jax.eval_shape(experiment.apply, variables, x).logits
    if logits.shape[-1] != num_classes:
        raise ConfigError(
            f"model has {logits.shape[-1]} classes; allowed are {num_classes}, those of data.name"
        )
    shards = config["replicas"]["shards"]
    if shards > 1 and "batch_stats" in variables:
        raise ConfigError(
            f"replicas.shards is {shards}; a model that normalises by its batch allows 1"
        )

"""Loads and preprocesses the data set of a config, and selects each replica's rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from adv_jax import data
from adv_jax.data import (
    Arrays,
    DataError,
    Dataset,
    arrays,
    augmentation,
    labeled_subset,
    preprocessing,
    split,
)
from adv_jax.data.preprocessing import Fit, Transform
from adv_jax.runner.config.binding import MAKER, PREPROCESSING, Registry, bind, named, settings
from adv_jax.runner.config.document import ConfigError
from adv_jax.runner.config.fields import FIELDS
from adv_jax.runner.config.plugins import error_line
from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.store.workdir import check_same_data, read_fitted
from adv_jax.types import UserError

_OURS: Registry = {}  # `data.load` knows the names of our data sets.


class Inputs(NamedTuple):
    """The data of a run.

    dataset: the preprocessed data set.
    rows: the output of `rows_of`.
    document: the entry "data" of result.json: name, source, SHA-256, and size of each subset.
    fitted: the arrays of the preprocessing, named "step.name"; None without preprocessing.
    """

    dataset: Dataset
    rows: dict[str, np.ndarray]
    document: dict[str, Any]
    fitted: dict[str, np.ndarray] | None


def load(config: Mapping[str, Any], runs: list[Replica], workdir: Path) -> Inputs:
    """Loads the data set and preprocesses it.

    Uses the preprocessing that the workdir has recorded. Without one, fits it on the whole training
    set, including all validation rows, as the replicas share it. The steps of `data.target` follow
    for the unlabeled training images and the test images. With `data.crop`, test images get a
    center crop here; training crops them at random.

    Args:
      config: the complete config; of `data`, preprocess, target, half and crop are optional.
      runs: its replicas.
      workdir: the workdir of this config, or a directory that does not exist yet.

    Raises:
      UserError: `data` is invalid; the data cannot be loaded; the workdir holds a run on other
        data, or its recorded arrays are damaged.
    """
    spec = config["data"]
    dataset = _dataset(spec)
    fits = {field: _fits(spec, field) for field in ("preprocess", "target")}
    _check_stream(config, dataset)
    dataset = _halved(dataset, spec.get("half", 0))
    rows = rows_of(config, dataset, runs)
    document = _document(dataset, rows)
    begun = check_same_data(workdir, document)
    crop = spec.get("crop", 0)
    if not any(fits.values()):
        return Inputs(_cropped(dataset, crop), rows, document, None)
    recorded = read_fitted(workdir) if begun else None
    dataset, fitted = _preprocessed(dataset, fits["preprocess"], recorded)
    target, target_fitted = _preprocessed(dataset, fits["target"], recorded, prefix="target.")
    if fits["target"]:
        dataset = _joined(dataset, target)
    return Inputs(_cropped(dataset, crop), rows, document, fitted | target_fitted)


def preprocessing_of(spec: Mapping[str, Any]) -> list[Any]:
    """Returns all preprocessing of the test images of a config's field `data`."""
    return [*spec.get("preprocess", ()), *spec.get("target", ())]


def rows_of(config: Mapping[str, Any], dataset: Dataset, replicas: list[Replica]) -> dict[str, Any]:
    """Returns the training rows of each replica: {"train", "valid", "labeled"}, i32[R, n].

    Raises:
      DataError: the sizes do not fit the data.
    """
    spec, labels = config["data"], dataset.train.y
    rows: dict[str, list[np.ndarray]] = {"train": [], "valid": [], "labeled": []}
    for replica in replicas:
        try:
            train, valid = split(
                labels,
                num_valid=spec["num_valid"],
                seed=replica.seed,
                stratified=spec.get("stratified", False),
            )
            subset = labeled_subset(
                labels[train],
                num_labels=spec["num_labels"] or len(train),
                num_classes=dataset.num_classes,
                seed=replica.seed,
            )
        except DataError as error:
            group = "data." if str(error).startswith(("num_valid", "num_labels")) else ""
            raise DataError(f"{group}{error}") from error
        for name, chosen in (("train", train), ("valid", valid), ("labeled", train[subset])):
            rows[name].append(chosen)
    return {name: np.stack(chosen) for name, chosen in rows.items()}


def _document(dataset: Dataset, rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns `Inputs.document`."""
    sizes = {name: int(of_replicas.shape[1]) for name, of_replicas in rows.items()}
    if dataset.stream:
        whole = dataset.stream.num_batches * dataset.stream.batch_size
        sizes |= {"train": whole, "labeled": whole}
    return {
        "name": dataset.name,
        "source": dataset.source,
        "sha256": dataset.sha256,
        "sizes": sizes | {"test": len(dataset.test.y)},
    }


def _dataset(spec: Mapping[str, Any]) -> Dataset:
    """Loads the data set of the config's field `data`, by name or by import path."""
    name, source = spec["name"], spec["source"]
    if source != "import":
        return data.load(name, source=source, dir=spec["dir"])
    taken, takes_any = settings(named(spec, _OURS, field="data", call=MAKER), MAKER)
    given = {key: value for key, value in spec.items() if f"data.{key}" not in FIELDS}
    if spec["dir"] or takes_any or "dir" in taken:
        given["dir"] = spec["dir"]
    load = bind({"name": name, **given}, _OURS, field="data", call=MAKER)
    try:
        found = load()
    except UserError:
        raise
    except Exception as error:  # It is the user's program.
        raise DataError(
            f"data.name must load a data set, got {name!r} ({error_line(error)})"
        ) from error
    return arrays.checked(found, origin=name)._replace(source="import")


def _check_stream(config: Mapping[str, Any], dataset: Dataset) -> None:
    """Raises ConfigError for settings that need the whole training set in memory."""
    if dataset.stream is None:
        return
    spec, of = config["data"], f"for the batches of {dataset.name}"
    off = {"num_valid": 0, "num_labels": 0, "half": 0, "preprocess": (), "target": ()}
    for field, value in off.items():
        if found := spec.get(field):
            raise ConfigError(f"data.{field} must be {value} {of}, got {found!r}")
    if config["batch_size"] != dataset.stream.batch_size:
        found = config["batch_size"]
        raise ConfigError(f"batch_size must be {dataset.stream.batch_size} {of}, got {found}")


def _halved(dataset: Dataset, half: int) -> Dataset:
    """Returns the data set with one of two disjoint halves of its training rows; 0: all.

    The halves have the classes in the same proportions, and are the same in all runs.
    """
    if not half:
        return dataset
    labels = dataset.train.y
    rows = split(labels, num_valid=len(labels) // 2, seed=0, stratified=True)[half - 1]
    return dataset._replace(train=Arrays(*(part[rows] for part in dataset.train)))


def _cropped(dataset: Dataset, size: int) -> Dataset:
    """Crops the test images to size x size pixels; 0 for no crop.

    Raises:
      ConfigError: the inputs are not images, or are smaller.
    """
    if not size:
        return dataset
    shape = dataset.test.x.shape[1:]
    if len(shape) != 3 or size > min(shape[:2]):
        raise ConfigError(
            f"data.crop must be 0 (none) to the height and width of the inputs of {dataset.name}, "
            f"{shape}, got {size}"
        )
    x = augmentation.center_crop(jnp.asarray(dataset.test.x), (size, size, shape[2]))
    return dataset._replace(test=dataset.test._replace(x=np.asarray(x)))


def _fits(data: Mapping[str, Any], field: str) -> list[tuple[str, Fit]]:
    """Returns the name and the fit of each step of a field of the config's `data`.

    Raises:
      ConfigError: an unknown name or setting, or the field is not a tuple of dicts.
    """
    specs, path = data.get(field, ()), f"data.{field}"
    if not isinstance(specs, tuple | list) or not all(isinstance(s, Mapping) for s in specs):
        example = "({'name': 'zca', 'regularizer': 0.1},)"
        raise ConfigError(f"{path} must be a tuple such as {example}, got {specs!r}")
    fits = [_fit(spec, f"{path}[{i}]") for i, spec in enumerate(specs)]
    return [(spec["name"], fit) for spec, fit in zip(specs, fits, strict=True)]


def _fit(spec: Mapping[str, Any], field: str) -> Fit:
    make = bind(spec, PREPROCESSING, field=field)
    try:
        return make()
    except UserError as error:
        raise ConfigError(f"{field}.{error}") from error


def _preprocessed(
    dataset: Dataset,
    fits: list[tuple[str, Fit]],
    recorded: Mapping[str, np.ndarray] | None,
    *,
    prefix: str = "",
) -> tuple[Dataset, dict[str, np.ndarray]]:
    """Applies the steps, recorded or fitted; returns their arrays, named "{prefix}step.name"."""
    fitted: dict[str, np.ndarray] = {}
    for i, (name, fit) in enumerate(fits):
        step = f"{prefix}{i}."
        if recorded is None:
            transform = fit(dataset.train.x)
        else:
            transform = preprocessing.restored(name, _of_step(step, recorded))
        dataset = _transformed(dataset, transform)
        fitted |= {f"{step}{field}": value for field, value in transform._asdict().items()}
    return dataset, fitted


def _of_step(step: str, fitted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a step, by name."""
    return {k.removeprefix(step): v for k, v in fitted.items() if k.startswith(step)}


def _transformed(dataset: Dataset, transform: Transform) -> Dataset:
    train, test = (
        part._replace(x=transform.apply(part.x)) for part in (dataset.train, dataset.test)
    )
    return dataset._replace(train=train, test=test, bounds=transform.bounds(dataset.bounds))


def _joined(source: Dataset, target: Dataset) -> Dataset:
    """Returns the labeled training images of the source, with all others of the target.

    Raises:
      ConfigError: the images of the domains differ in shape.
    """
    own, other = source.test.x.shape[1:], target.test.x.shape[1:]
    if own != other:
        raise ConfigError(f"data.target must keep the shape of the inputs, {own}, got {other}")
    bounds = None
    if source.bounds is not None and target.bounds is not None:
        (lo, hi), (its_lo, its_hi) = source.bounds, target.bounds
        bounds = float(min(lo, its_lo)), float(max(hi, its_hi))
    return target._replace(train=source.train, unlabeled=target.train.x, bounds=bounds)

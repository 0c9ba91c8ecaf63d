"""Loads and preprocesses the data set of a config, and selects each replica's rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from adv_jax import data
from adv_jax.data import Dataset, augmentation, preprocessing
from adv_jax.data.preprocessing import Fit, Transform
from adv_jax.runner.config import ConfigError, Replica, bind
from adv_jax.runner.experiment import rows_of
from adv_jax.runner.result import data_document
from adv_jax.runner.workdir import check_same_data, read_fitted


class Inputs(NamedTuple):
    """The data of a run.

    Attributes:
      dataset: the preprocessed data set.
      rows: the output of `experiment.rows_of`.
      document: the output of `result.data_document`.
      fitted: the arrays of the preprocessing, named "step.name"; None without preprocessing.
    """

    dataset: Dataset
    rows: dict[str, np.ndarray]
    document: dict[str, Any]
    fitted: dict[str, np.ndarray] | None


def load(config: Mapping[str, Any], runs: list[Replica], workdir: Path) -> Inputs:
    """Loads the data set and preprocesses it.

    Uses the preprocessing that the workdir has recorded. Without one, fits it on the whole training
    set, including all validation rows, as the replicas share it. With `data.crop`, test images get
    a center crop here; training crops them at random.

    Args:
      config: the complete config; `data.preprocess` and `data.crop` are optional.
      runs: its replicas.
      workdir: the workdir of this config, or a directory that does not exist yet.

    Raises:
      UserError: `data` is invalid; the data cannot be loaded; the workdir holds a run on other
        data, or its recorded arrays are damaged.
    """
    settings = config["data"]
    fits = _fits(settings.get("preprocess", ()))
    dataset = data.load(settings["name"], source=settings["source"], dir=settings["dir"])
    rows = rows_of(config, dataset, runs)
    document = data_document(dataset, rows)
    begun = check_same_data(workdir, document)
    crop = settings.get("crop", 0)
    if not fits:
        return Inputs(_cropped(dataset, crop), rows, document, None)
    recorded = read_fitted(workdir) if begun else None
    fitted: dict[str, np.ndarray] = {}
    for i, (name, fit) in enumerate(fits):
        if recorded is None:
            transform = fit(dataset.train.x)
        else:
            transform = preprocessing.restored(name, _of_step(i, recorded))
        dataset = _transformed(dataset, transform)
        fitted |= {f"{i}.{field}": value for field, value in transform._asdict().items()}
    return Inputs(_cropped(dataset, crop), rows, document, fitted)


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


def _fits(specs: Any) -> list[tuple[str, Fit]]:
    """Returns the name and the fit of each step.

    Raises:
      ConfigError: an unknown name or setting, or `specs` is not a tuple of dicts.
    """
    if not isinstance(specs, tuple | list) or not all(isinstance(s, Mapping) for s in specs):
        example = "({'name': 'zca', 'regularizer': 0.1},)"
        raise ConfigError(f"data.preprocess must be a tuple such as {example}, got {specs!r}")
    bound = [bind(s, preprocessing, field=f"data.preprocess[{i}]") for i, s in enumerate(specs)]
    return [(spec["name"], make()) for spec, make in zip(specs, bound, strict=True)]


def _of_step(i: int, fitted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of step i, by name."""
    prefix = f"{i}."
    return {k.removeprefix(prefix): v for k, v in fitted.items() if k.startswith(prefix)}


def _transformed(dataset: Dataset, transform: Transform) -> Dataset:
    train, test = (
        part._replace(x=transform.apply(part.x)) for part in (dataset.train, dataset.test)
    )
    return dataset._replace(train=train, test=test, bounds=transform.bounds(dataset.bounds))

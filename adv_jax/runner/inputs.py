"""What a run sees: the data set of its config, preprocessed, and which rows serve what."""

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
from adv_jax.runner.workdir import has_data, read_fitted


class Inputs(NamedTuple):
    """The data of a run.

    dataset: as the models take it.
    rows: of each replica, as `experiment.rows_of` gives them.
    document: `result.data_document`'s.
    fitted: the arrays of the preprocessing, as "step.name"; None: there is none.
    """

    dataset: Dataset
    rows: dict[str, np.ndarray]
    document: dict[str, Any]
    fitted: dict[str, np.ndarray] | None


def load(config: Mapping[str, Any], runs: list[Replica], workdir: Path) -> Inputs:
    """Loads the data set and preprocesses it, with the arrays that the workdir has recorded.

    Where it has recorded none, the preprocessing is fitted on all of the training set: replicas
    share it, so the images that each sets aside for validation count too.

    Args:
      config: the whole; `data.preprocess` and `data.crop` are optional. With a crop the images
        to test on are the middle of theirs; those to train on stay whole, to be cropped at random.
      runs: its replicas.
      workdir: of this config, or a directory that does not exist yet.

    Raises:
      UserError: a mistake in `data`; the source fails; the workdir holds a run on other data, or
        what it has recorded is damaged.
    """
    settings = config["data"]
    fits = _fits(settings.get("preprocess", ()))
    dataset = data.load(settings["name"], source=settings["source"], dir=settings["dir"])
    rows = rows_of(config, dataset, runs)
    document = data_document(dataset, rows)
    begun = has_data(workdir, document)
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
    """The same with test images of size x size pixels; 0: as they are.

    Raises:
      ConfigError: the inputs are no images as large as that.
    """
    if not size:
        return dataset
    shape = dataset.test.x.shape[1:]
    if len(shape) != 3 or size > min(shape[:2]):
        raise ConfigError(
            f"data.crop is {size}; allowed are 0 (none) to the height and width of the inputs of "
            f"{dataset.name}, {shape}"
        )
    x = augmentation.center_crop(jnp.asarray(dataset.test.x), (size, size, shape[2]))
    return dataset._replace(test=dataset.test._replace(x=np.asarray(x)))


def _fits(specs: Any) -> list[tuple[str, Fit]]:
    """The name and the fit of each step.

    Raises:
      ConfigError: an unknown name or setting, or no tuple of specs.
    """
    if not isinstance(specs, tuple | list) or not all(isinstance(s, Mapping) for s in specs):
        example = "({'name': 'zca', 'regularizer': 0.1},)"
        raise ConfigError(f"data.preprocess is {specs!r}; allowed is a tuple such as {example}")
    bound = [bind(s, preprocessing, field=f"data.preprocess[{i}]") for i, s in enumerate(specs)]
    return [(spec["name"], make()) for spec, make in zip(specs, bound, strict=True)]


def _of_step(i: int, fitted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of one step, under their own names."""
    prefix = f"{i}."
    return {k.removeprefix(prefix): v for k, v in fitted.items() if k.startswith(prefix)}


def _transformed(dataset: Dataset, transform: Transform) -> Dataset:
    train, test = (
        part._replace(x=transform.apply(part.x)) for part in (dataset.train, dataset.test)
    )
    return dataset._replace(train=train, test=test, bounds=transform.bounds(dataset.bounds))

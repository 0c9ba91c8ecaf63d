"""Draws images of data sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adv_jax import data
from adv_jax.runner.store.workdir import read_config
from adv_jax.style import canvas
from adv_jax.types import UserError
from papers.judging.documents import data_in_words
from papers.running.drawing import Drawing, picture
from papers.running.runs import only


def of_run(workdirs: Sequence[str], *, name: str) -> data.Dataset:
    """Loads the data set of a run, without the run's preprocessing.

    Args:
      workdirs: one run.
      name: the name of its data set.

    Raises:
      UserError: there are several runs, the run has other data, or they cannot be loaded.
    """
    workdir = only(workdirs)
    spec = read_config(Path(workdir))["data"]
    if spec["name"] != name:
        raise UserError(f"workdir must be a run on {name}, got {workdir} on {spec['name']}")
    return data.load(name, source=spec["source"], dir=spec["dir"])


def in_words(dataset: data.Dataset) -> str:
    """Returns the name of a data set, with "sample" or "copy" where it is one."""
    return data_in_words(_source(dataset) | {"sizes": {"train": len(dataset.train.y)}})


def with_source(drawing: Drawing, dataset: data.Dataset) -> Drawing:
    """Returns the drawing with the data set's origin in its document."""
    return drawing._replace(document={**drawing.document, "data": _source(dataset)})


def grid(images: np.ndarray, labels: np.ndarray, *, title: str, columns: int = 10) -> Drawing:
    """Draws the first examples of each class, one row per class.

    Args:
      images: f32[N, H, W, C] in [0, 1], with C = 1 (gray) or 3 (RGB).
      labels: i32[N].
      title: title above the images.
      columns: most examples per class.
    """
    classes = np.unique(labels)
    shown = [np.flatnonzero(labels == label)[:columns] for label in classes]
    _, height, across, channels = images.shape
    # One pixel between the images.
    sheet = np.ones((len(classes), height + 1, columns, across + 1, channels))
    for row, indices in enumerate(shown):
        for column, index in enumerate(indices):
            sheet[row, :height, column, :across] = images[index]
    sheet = sheet.reshape(len(classes) * (height + 1), columns * (across + 1), channels)[:-1, :-1]
    width, tall = 0.55 * columns + 0.6, 0.55 * len(classes) + 0.5
    figure, ((axes,),) = canvas(1, 1, title=title, width=width, height=tall)
    picture(axes, sheet)
    axes.set_yticks([(height + 1) * (row + 0.5) for row in range(len(classes))], classes)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.set_ylabel("class", rotation="vertical", ha="center")
    caption = f"The first {columns} examples of each class, in the order of the source."
    examples = {str(label): rows.tolist() for label, rows in zip(classes, shown, strict=True)}
    return Drawing(figure, {"caption": caption, "examples": examples})


def _source(dataset: data.Dataset) -> dict[str, object]:
    return {"name": dataset.name, "source": dataset.source, "sha256": dataset.sha256}

"""Draws images of data sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from adv_jax import data
from adv_jax.runner.store.workdir import read_config
from adv_jax.types import UserError
from papers.judging.documents import data_in_words
from papers.running.drawing import Drawing


def of_run(workdirs: Sequence[str], *, name: str) -> data.Dataset:
    """Loads the data set of a run, without the run's preprocessing.

    Args:
      workdirs: one run.
      name: the name of its data set.

    Raises:
      UserError: there are several runs, the run has other data, or they cannot be loaded.
    """
    if len(workdirs) > 1:
        raise UserError(f"workdir must be one run, got {', '.join(workdirs)}")
    spec = read_config(Path(workdirs[0]))["data"]
    if spec["name"] != name:
        raise UserError(f"workdir must be a run on {name}, got {workdirs[0]} on {spec['name']}")
    return data.load(name, source=spec["source"], dir=spec["dir"])


def in_words(dataset: data.Dataset) -> str:
    """Returns the name of a data set that tells copies and samples apart."""
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
    _, height, width, channels = images.shape
    # One pixel between the images.
    sheet = np.ones((len(classes), height + 1, columns, width + 1, channels))
    for row, indices in enumerate(shown):
        for column, index in enumerate(indices):
            sheet[row, :height, column, :width] = images[index]
    sheet = sheet.reshape(len(classes) * (height + 1), columns * (width + 1), channels)[:-1, :-1]
    figure = Figure(figsize=(0.55 * columns + 0.6, 0.55 * len(classes) + 0.5), dpi=120)
    figure.set_layout_engine("constrained")
    figure.suptitle(title, fontsize="medium")
    axes = figure.subplots()
    draw(axes, sheet)
    axes.set_yticks([(height + 1) * (row + 0.5) for row in range(len(classes))], classes)
    axes.tick_params(length=0)
    axes.set_ylabel("class")
    caption = f"The first {columns} examples of each class, in the order of the source."
    examples = {str(label): rows.tolist() for label, rows in zip(classes, shown, strict=True)}
    return Drawing(figure, {"caption": caption, "examples": examples})


def draw(axes, image: np.ndarray, *, low: float = 0, high: float = 1) -> None:
    """Draws an image f32[H, W, C], gray or RGB, with `low` as black and `high` as white."""
    scaled = np.clip((image - low) / (high - low), 0, 1)
    pixels = scaled.squeeze(-1) if image.shape[-1] == 1 else scaled
    axes.imshow(pixels, "gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _source(dataset: data.Dataset) -> dict[str, object]:
    return {"name": dataset.name, "source": dataset.source, "sha256": dataset.sha256}

"""Samples of image data sets.  [maronas2016, sec. 4.1, Figs. 10-13]"""

import math

import numpy as np
from matplotlib.figure import Figure

from adv_jax import data
from papers.drawing import Drawing

SCREEN = (2880, 1800, 15.4)  # pixels and inches of the screen in [maronas2016]
_DPI = math.hypot(*SCREEN[:2]) / SCREEN[2]


def digits() -> Drawing:
    """Fig. 10: ten examples of each digit of MNIST."""
    mnist = data.load("mnist", source="embedded")
    title = "Maronas 2016, Fig. 10: samples of MNIST (embedded digits)"
    return _with_source(grid(*mnist.test, title=title), mnist)


def digit() -> Drawing:
    """Fig. 11: one digit of MNIST, its pixels and its size on a screen."""
    mnist = data.load("mnist", source="embedded")
    images, labels = mnist.test
    title = f"Maronas 2016, Fig. 11: a {labels[0]} of MNIST (embedded digits)"
    return _with_source(close_up(images[0], title=title), mnist)


def grid(images: np.ndarray, labels: np.ndarray, *, title: str, columns: int = 10) -> Drawing:
    """Draws the first examples of each class, one row per class.  [Figs. 10, 12]

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


def close_up(image: np.ndarray, *, title: str) -> Drawing:
    """Draws an image enlarged, and in its size on a screen.  [Figs. 11, 13]

    Args:
      image: f32[H, W, C] in [0, 1], with C = 1 (gray) or 3 (RGB).
      title: title above the images.
    """
    # At the screen's resolution the small image has its true size.
    figure = Figure(figsize=(6, 3.5), dpi=_DPI)
    figure.suptitle(title, fontsize="medium")
    axes = figure.add_axes((0.06, 0.12, 0.45, 0.75))
    draw(axes, image)
    height, width, _ = image.shape
    axes.set_xticks(np.arange(width + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(height + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.35", linewidth=0.3)
    axes.tick_params(which="both", length=0)
    left, bottom = (round(inches * _DPI) for inches in (4.44, 1.7))
    figure.figimage(np.repeat(image, 3 // image.shape[-1], axis=-1), left, bottom)
    size = f"{25.4 * width / _DPI:.1f} mm"
    below = {
        0.285: f"(a) the {height} x {width} pixels",
        0.75: f"(b) {size} wide on {SCREEN[2]} inches of {SCREEN[0]} x {SCREEN[1]}",
    }
    for center, text in below.items():
        figure.text(center, 0.04, text, ha="center", fontsize="small")
    caption = f"{width} pixels are {size} wide where a screen has {_DPI:.1f} pixels in an inch."
    pixels = np.round(255 * image).astype(int).tolist()
    return Drawing(figure, {"caption": caption, "bytes": pixels})


def draw(axes, image: np.ndarray, *, low: float = 0, high: float = 1) -> None:
    """Draws an image f32[H, W, C], gray or RGB, with `low` as black and `high` as white."""
    scaled = np.clip((image - low) / (high - low), 0, 1)
    pixels = scaled.squeeze(-1) if image.shape[-1] == 1 else scaled
    axes.imshow(pixels, "gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _with_source(drawing: Drawing, dataset: data.Dataset) -> Drawing:
    source = {"name": dataset.name, "source": dataset.source, "sha256": dataset.sha256}
    return drawing._replace(document={**drawing.document, "data": source})

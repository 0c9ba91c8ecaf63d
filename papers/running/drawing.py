"""The type of a paper's figure, its drawing and its document, and helpers to draw."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

SEED = 0  # of what a figure draws at random
FIRST_SEED = "the first"  # `settings.seed` of a figure that draws the first seed of each run


class Table(NamedTuple):
    """A title, the names of the columns, and the rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Drawing(NamedTuple):
    """A reproduced figure or table of a paper.

    figure: the Matplotlib figure; None for a table.
    document: for JSON: "caption"; "settings", whose "chosen" lists the settings that the paper
      leaves open; "seed", if numbers are random; and the numbers.
    table: a table to print; None for a figure.
    """

    figure: Figure | None
    document: dict[str, Any]
    table: Table | None = None


def picture(
    axes: Axes,
    image: np.ndarray,
    *,
    above: str = "",
    beside: str = "",
    low: float = 0,
    high: float = 1,
    cmap: str = "gray",
) -> AxesImage:
    """Draws an image, without ticks, with a title and a name to its left.

    Args:
      axes: the panel.
      image: values f[H, W] or f[H, W, 1], or colors f[H, W, 3].
      above: the title.
      beside: the name.
      low, high: the values of black and white, or of the ends of `cmap`.
      cmap: colors of values.
    """
    is_color = image.ndim == 3 and image.shape[-1] == 3
    pixels = (
        np.clip((image - low) / (high - low), 0, 1) if is_color else image.reshape(*image.shape[:2])
    )
    drawn = axes.imshow(pixels, cmap, vmin=low, vmax=high, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(above, fontsize="small")
    axes.set_ylabel(beside, fontsize="small", rotation=0, ha="right", va="center")
    return drawn


def rounded(values: ArrayLike) -> Any:
    """Rounds to six significant digits and converts to floats or nested lists for JSON."""
    return np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[float])(values).tolist()


def first_layer(params: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Returns the weights of each unit of the first hidden layer as images: f[units, H, W].

    Args:
      params: parameters of an `mlp`; weight [W r + c, i] of unit i is drawn in row r, column c.
      shape: (H, W) of the inputs.
    """
    return np.asarray(params["hidden1"]["kernel"], float).T.reshape(-1, *shape)


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """Tiles images f[N, H, W] in rows of `columns`, with lines of NaN between them."""
    padded = np.pad(images, ((0, -len(images) % columns), (0, 1), (0, 1)), constant_values=np.nan)
    _, height, width = padded.shape
    rows = padded.reshape(-1, columns, height, width).swapaxes(1, 2)
    return rows.reshape(-1, columns * width)[:-1, :-1]

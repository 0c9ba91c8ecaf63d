"""What the figure of a paper is: the drawing, and in words and numbers what it shows."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

# Okabe and Ito's, told apart by the colour-blind: blue, vermilion, green, purple, orange, sky blue.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


class Table(NamedTuple):
    """A title, the names of the columns, and the rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Drawing(NamedTuple):
    """A figure of a paper, drawn again, or a table.

    figure: Matplotlib's; None: there is only the document.
    document: for JSON: "caption", a sentence or two; "settings", of which those that the paper
      leaves open are named in "chosen"; "seed" where numbers were drawn at random; and the numbers.
    table: what the command prints besides the caption, if there is one.
    """

    figure: Figure | None
    document: dict[str, Any]
    table: Table | None = None


def canvas(
    rows: int, columns: int, *, title: str, width: float = 5, height: float = 3.8, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure and its panels, [rows, columns], of so many inches each.

    options: of matplotlib's Figure.subplots.
    """
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=120)
    figure.suptitle(title, fontsize="medium", wrap=True)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def rounded(values: ArrayLike) -> Any:
    """Numbers as JSON has them, with six significant digits: a float, or lists of them."""
    return np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[float])(values).tolist()


def first_layer(params: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """The weights into each unit of the first hidden layer, as images: f[units, H, W].

    Args:
      params: of an `mlp`, whose weight W[w r + c, i] of unit i stands in row r and column c.
      shape: (H, W) of its inputs, w = W.
    """
    return np.asarray(params["hidden1"]["kernel"], float).T.reshape(-1, *shape)


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """f[N, H, W] side by side in rows of so many, a line of NaN between them."""
    padded = np.pad(images, ((0, -len(images) % columns), (0, 1), (0, 1)), constant_values=np.nan)
    _, height, width = padded.shape
    rows = padded.reshape(-1, columns, height, width).swapaxes(1, 2)
    return rows.reshape(-1, columns * width)[:-1, :-1]

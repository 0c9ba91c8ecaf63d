"""The one style of all charts: `style.mplstyle`, and what their panels share.

Functions that draw are decorated with `styled()`; they create figures by `figure` or `canvas` and
write them by `save`. A user's own Matplotlib settings are neither used nor changed.
"""

import functools
import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from adv_jax import attacks

Target = Path | BytesIO  # where a PNG goes

_FILE = Path(__file__).with_suffix(".mplstyle")
# Nine colors that stay apart with each kind of color blindness.
COLORS: tuple[str, ...] = tuple(
    matplotlib.rc_params_from_file(_FILE)["axes.prop_cycle"].by_key()["color"]
)
CLASS_COLORS = (*COLORS, "#F0E442")  # of ten classes; the last is too pale for lines
GRAY = "#777777"  # of marks that are no data: limits, targets
WORST_CASE = {"color": "0.85", "linewidth": 6, "zorder": 1}  # broad and behind the attacks

# Each has a color of its own. Any other name gets one too, and dashes, without a line here.
_OFTEN = ("fgsm", "pgd", "apgd", "auto_attack", "carlini_wagner", "deepfool", "gaussian_noise")
_OFTEN += ("square", "fab")
_DASHES = ((0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1)))
_MANY_LOOKS = len(COLORS) * len(_DASHES)
_MOST_ENDS = 10  # lines that are labeled at their ends
_WIDE = 8  # greatest value over least, from which on an axis is logarithmic
_FEW, _MANY = 2, 5  # decades with ticks at 1, 2 and 5; decades with plain numbers


@contextmanager
def styled() -> Iterator[None]:
    """Applies the style to all that is drawn inside; also a decorator."""
    with matplotlib.rc_context(fname=_FILE):
        yield


def plain(text: str) -> str:
    """Escapes each $ of a text, as Matplotlib reads a pair of them as a formula."""
    return text.replace("$", r"\$")


@styled()
def figure(width: float, height: float, *, title: str = "", **options: Any) -> Figure:
    """Creates an empty figure.

    Args:
      width, height: in inches.
      title: title above all panels, as it is: without formulas.
      **options: passed to `Figure`.
    """
    empty = Figure(figsize=(width, height), **options)
    if title:
        empty.suptitle(plain(title), wrap=True)
    return empty


@styled()
def canvas(
    rows: int,
    columns: int,
    *,
    title: str = "",
    width: float = 5,
    height: float = 3.8,
    **options: Any,
) -> tuple[Figure, np.ndarray]:
    """Creates a figure and its panels [rows, columns].

    Args:
      rows, columns: number of panels.
      title: title above the panels.
      width, height: size of a panel in inches.
      **options: passed to Figure.subplots.
    """
    empty = figure(width * columns, height * rows, title=title)
    return empty, empty.subplots(rows, columns, squeeze=False, **options)


@styled()
def save(drawn: Figure, target: Target, **options: Any) -> None:
    """Writes a figure as PNG, or as `format` says; ticks are styled only now."""
    drawn.savefig(target, **options)


def attack_style(name: str) -> dict[str, Any]:
    """Returns the color and the dashes of an attack, the same in all charts.

    The often drawn attacks have a color each, and each other attack of ours has a look that no
    other has. A name that begins with an often drawn one, as pgd_40 does, has its color and dashes.
    """
    known = next((n for n in _OFTEN if name == n or name.startswith(f"{n}_")), None)
    if name == known:
        return {"color": COLORS[_OFTEN.index(name)], "linestyle": "-"}
    dashes, color = divmod(_looks(tuple(attacks.__all__)).get(name, _look(name)), len(COLORS))
    if known and name not in attacks.__all__:
        color = _OFTEN.index(known)
    more = (0, (5, 1.5) + (1, 1.5) * dashes)  # dots, if there are more attacks than looks
    return {"color": COLORS[color], "linestyle": [*_DASHES, more][min(dashes, len(_DASHES))]}


@functools.cache
def _looks(names: tuple[str, ...]) -> dict[str, int]:
    """Returns a number for each name, its own `_look` or, if another name has it, a free one.

    >>> _looks(("fmn", "adv_alpha", "ddn"))
    {'adv_alpha': 24, 'ddn': 10, 'fmn': 25}
    """
    names = tuple(sorted({*names} - {*_OFTEN}))
    owners = {_look(name): name for name in reversed(names)}
    looks = {name: look for look, name in owners.items()}
    for name in names:
        start = _look(name)
        usual = (*range(start, _MANY_LOOKS), *range(start))
        numbers = itertools.chain(usual, itertools.count(_MANY_LOOKS))
        looks.setdefault(name, next(n for n in numbers if n not in looks.values()))
    return {name: looks[name] for name in names}


def _look(name: str) -> int:
    """Returns a number that depends on the name alone; any such number would do."""
    return zlib.crc32(name[::-1].encode()) % _MANY_LOOKS


def size_label(norms: Iterable[str | None]) -> str:
    """Returns the label of an axis of sizes: "eps (linf)", or "size" without a norm."""
    named = " or ".join(dict.fromkeys(filter(None, norms)))
    return f"eps ({named})" if named else "size"


def shares(axes: Axes, measure: str) -> None:
    """Makes the y axis that of a measure that is a share, from 0 to 1."""
    axes.set(ylabel=measure, ylim=(0, 1))


def band(axes: Axes, x: ArrayLike, values: np.ndarray, **look: Any) -> None:
    """Draws the mean of values f[R, E] over R, shaded from the lowest to the highest.

    Those that are NaN are left out; no column has them alone.

    look: of the line, as of `Axes.plot`.
    """
    (line,) = axes.plot(x, np.nanmean(values, axis=0), **look)
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def widen(axes: Axes, values: ArrayLike, *, x: bool = False) -> bool:
    """Makes the y axis (or x) logarithmic if the values differ much and are positive.

    Ticks are plain numbers, of more than five decades powers of ten. Linear axes stay as they are.

    Returns:
      Whether it is logarithmic.
    """
    values = np.asarray(values, float)
    if not values.size or values.min() <= 0 or values.max() <= _WIDE * values.min():
        return False
    decades = np.log10(values.max() / values.min())
    axis = axes.xaxis if x else axes.yaxis
    (axes.set_xscale if x else axes.set_yscale)("log")
    axis.set_minor_locator(NullLocator())
    if decades <= _MANY:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades <= _FEW else (1,)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    return True


def name_lines(axes: Axes) -> None:
    """Names each line at its right end, in its color; more than ten in a legend below."""
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    lines = {name: line if isinstance(line, Line2D) else line[0] for name, line in named.items()}
    if len(lines) > _MOST_ENDS:
        shown = [*lines.values()], [*map(plain, lines)]
        axes.legend(*shown, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
        return
    inches = axes.bbox.height / axes.figure.dpi
    space = 0.15 / inches  # of a line of text, in heights of the panel
    axes.get_ylim()  # Settles the limits.
    to_panel = axes.transScale + axes.transLimits
    last = {name: np.asarray(line.get_xydata(), float)[-1] for name, line in lines.items()}
    ends = {name: to_panel.transform(point)[1] for name, point in last.items()}
    names = sorted(ends, key=lambda name: ends[name])
    for name, y in zip(names, _apart(np.array([ends[name] for name in names]), space), strict=True):
        place = {"xy": (1, y), "xycoords": "axes fraction", "textcoords": "offset points"}
        words = {"color": _dark(lines[name]), "fontsize": "small", "va": "center"}
        axes.annotate(plain(name), xytext=(4, 0), **place, **words)


def matrix(axes: Axes, values: np.ndarray, names: Sequence[Any], *, form: str, top: float) -> None:
    """Draws a square matrix with its values written in, from 0 (white) to `top`.

    Args:
      values: f[M, M].
      names: names of the M rows and columns.
      form: format of a value, as "{:.3f}".
      top: the value of the darkest color.
    """
    axes.imshow(values, vmin=0, vmax=top, cmap="Blues")
    for (i, j), value in np.ndenumerate(values):
        color = "white" if value > 0.6 * top else "black"
        axes.text(j, i, form.format(value), ha="center", va="center", color=color, size="small")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(len(names)), [plain(str(name)) for name in names])
    if max(len(str(name)) for name in names) > 3:
        for text in axes.get_xticklabels():
            text.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)


def _apart(ends: np.ndarray, space: float) -> np.ndarray:
    """Moves ascending heights in [0, 1] up, or down from the top, until `space` is between them."""
    steps = space * np.arange(len(ends))
    up = np.maximum.accumulate(ends - steps) + steps
    return np.minimum(up, 1 + steps - steps[-1:])


def _dark(line: Line2D) -> Any:
    """Returns the color of a line's name; that of the pale worst case is gray."""
    color = line.get_color()
    return GRAY if color == WORST_CASE["color"] else color

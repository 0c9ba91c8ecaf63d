"""Weights as images.  [shallow-net thesis, sec. 3.4.5, Figs. 3.7, 3.8]

Weight W[28 r + c, i] of unit i is drawn in row r and column c.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from adv_jax.style import canvas
from adv_jax.types import UserError
from papers.running.drawing import FIRST_SEED, Drawing, first_layer, mosaic, picture, rounded
from papers.running.runs import trained_on
from papers.shallow_thesis.runs import LABELS, ShallowRun, read

NUM_CLASSES = 5  # 0 to 4
NUM_UNITS = 12
KINDS = ("clean", "adversarial")

Params = Mapping[str, Any]
Images = Callable[[Params, tuple[int, int]], np.ndarray]  # params, (H, W) -> f[N, H, W]


def class_images(workdirs: Sequence[str]) -> Drawing:
    """Fig. 3.7: W1 W2 of the classes 0 to 4, of clean and adversarial nets.

    Args:
      workdirs: one run of A and one of B per width; the shallow-net thesis has 800 and 2000.
    """
    figure, runs, scales, _ = _drawing(
        workdirs,
        "fig3.7",
        "W1 W2, classes 0 to 4",
        class_patterns,
        columns=NUM_CLASSES,
        height=1.5,
    )
    caption = (
        "Columns of W1 W2 for the classes 0 to 4. The shallow-net thesis sees no digits in them, "
        "neither with 800 nor with 2,000 units."
    )
    document = {
        "caption": caption,
        "settings": {
            "seed": FIRST_SEED,
            "classes": list(range(NUM_CLASSES)),
            "chosen": ["colors"],
        },
        "cut_off": scales,
        "runs": [run.about() for run in runs],
    }
    return Drawing(figure, document)


def unit_images(workdirs: Sequence[str]) -> Drawing:
    """Fig. 3.8: weights of hidden units, of clean and adversarial nets.

    Args:
      workdirs: one run of A and one of B per width; the shallow-net thesis has 100, 800 and 2000.
    """
    figure, runs, scales, params = _drawing(
        workdirs,
        "fig3.8",
        f"the first {NUM_UNITS} hidden units",
        unit_patterns,
        columns=4,
        height=3.6,
    )
    grains = {name: rounded(_grain_shown(*of_net)) for name, of_net in params.items()}
    values = ", ".join(f"{name}: {value:.2f}" for name, value in grains.items())
    caption = (
        "First-layer weights. Grain, the mean squared difference of neighboring weights (cut off "
        f"as drawn) over twice their variance, 1 for white noise and 0 if smooth: {values}. The "
        "shallow-net thesis sees more grain in the adversarial nets."
    )
    document = {
        "caption": caption,
        "settings": {"seed": FIRST_SEED, "units": NUM_UNITS, "chosen": ["units", "colors"]},
        "cut_off": scales,
        "grain": grains,
        "runs": [run.about() for run in runs],
    }
    return Drawing(figure, document)


def class_patterns(params: Params, shape: tuple[int, int]) -> np.ndarray:
    """Returns the columns of W1 W2 for the classes 0 to 4: f[5, H, W].

    Args:
      params: parameters of an `mlp` with one hidden layer.
      shape: (H, W) of its inputs.
    """
    product = _kernel(params, "hidden1") @ _kernel(params, "logits")
    return product.T[:NUM_CLASSES].reshape(-1, *shape)


def unit_patterns(params: Params, shape: tuple[int, int]) -> np.ndarray:
    """Returns the columns of W1 for the first 12 units, or fewer: f[<= 12, H, W]."""
    return first_layer(params, shape)[:NUM_UNITS]


def grain(images: ArrayLike) -> float:
    """Returns the mean of (w_p - w_q)^2 over adjacent pixels p, q, over twice the variance.

    It is 0 for smooth images and about 1 for independent values. The variance is the mean over
    images of the variance within each.

    Args:
      images: f[N, H, W].
    """
    w = np.asarray(images, float)
    across, down = (np.square(np.diff(w, axis=axis)) for axis in (2, 1))
    differences = (across.sum() + down.sum()) / (across.size + down.size)
    return float(differences / (2 * w.var(axis=(1, 2)).mean()))


def _drawing(
    workdirs: Sequence[str],
    name: str,
    what: str,
    images: Images,
    *,
    columns: int,
    height: float,
):
    """Draws the panels of `images`, a row per kind and a column per width.

    Returns:
      The figure, the runs, {net: `cut_off`}, and {net: (params, (H, W))}.

    Raises:
      UserError: `runs.read` raises, a panel lacks its run or has two, or the inputs are not images.
    """
    runs = read(workdirs, figure=name, methods=KINDS)
    by_panel = {(run.method, run.width): run for run in runs}
    widths = sorted({run.width for run in runs})
    if len(by_panel) < len(runs) or len(runs) < len(KINDS) * len(widths):
        found = ", ".join(f"{LABELS[run.method]} of {run.width} units" for run in runs)
        raise UserError(f"workdir must be one run of A and one of B per width, got {found}")
    what = f"{what}; {trained_on(runs, first=True)}"
    title = f"Shallow-net thesis, Fig. {name.removeprefix('fig')}: {what}"
    figure, rows = canvas(2, len(widths), title=title, width=5, height=height)
    scales, params = {}, {}
    for panels, kind in zip(rows, KINDS, strict=True):
        for axes, width in zip(panels, widths, strict=True):
            run = by_panel[kind, width]
            model = run.models()[0]
            shape = _image_shape(run, model.dataset.train.x.shape[1:])
            drawn = images(model.variables["params"], shape)
            label = f"{LABELS[kind]}, {width} units"
            scale = scales[label] = rounded(cut_off(drawn))
            params[label] = model.variables["params"], shape
            colors = {"cmap": "RdBu_r", "low": -scale, "high": scale}
            shown = picture(axes, mosaic(drawn, columns), above=label, **colors)
            figure.colorbar(shown, ax=axes, shrink=0.8, label="weight", extend="both")
    return figure, runs, scales, params


def cut_off(images: np.ndarray) -> float:
    """Returns the 98 % quantile of |w|, the end of the color scale; 1 if it is 0.

    The weights of the sparse initialization, 15 of 784 per unit, exceed the learned ones.
    """
    return float(np.quantile(np.abs(images), 0.98)) or 1.0


def _grain_shown(params: Params, shape: tuple[int, int]) -> float:
    units = first_layer(params, shape)
    return grain(np.clip(units, -cut_off(units), cut_off(units)))


def _image_shape(run: ShallowRun, shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 3 or shape[-1] != 1:
        raise UserError(f"workdir must be a run on gray images, got {run.path} with inputs {shape}")
    return shape[0], shape[1]


def _kernel(params: Params, layer: str) -> np.ndarray:
    return np.asarray(params[layer]["kernel"], float)

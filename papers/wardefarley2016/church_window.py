"""Church windows: the classes around test examples in a plane.  [wardefarley2016, sec. 1.2.3,
Figs. 1.2-1.4]

Pixel (h, v) of a window is the class of x + h u1 + v u2, with h and v from -eps to eps and
orthogonal u1 and u2. The source calls them unit vectors and has eps = .25. With l2 norm 1 this
would change a pixel by only .005, but it speaks of large perturbations. So .25 is read as the
change of a pixel along the sign of the gradient, and all directions get the l2 norm of a sign
vector, sqrt(n): the point is x + sqrt(n) (h u1 + v u2) with u1 and u2 of l2 norm 1. Pixels with
zero gradient do not change, which makes u1 shorter.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from adv_jax import norms
from adv_jax.loss_gradients import loss_gradient
from adv_jax.runner.run.trained import Trained
from adv_jax.style import CLASS_COLORS, canvas
from adv_jax.types import Array, Key, LogitsFn
from papers.judging.documents import data_in_words
from papers.running.drawing import SEED, Drawing, picture, rounded
from papers.wardefarley2016.defenses import net_of

EPS, HALF, GRID = 0.25, 20, 10  # HALF: half a window's pixels; GRID: windows per row and column
_SCALE = 4  # drawn pixels per pixel of a window
Plane = Callable[[LogitsFn, Array, Array, Key], tuple[Array, Array]]


def fgsm_and_random(logits_fn: LogitsFn, x: Array, y: Array, key: Key) -> tuple[Array, Array]:
    """Returns u1 along the sign of the loss gradient and a random u2 orthogonal to it.  [Fig. 1.2]

    Args:
      logits_fn: f32[B, *D] -> f32[B, K].
      x, y: inputs f32[B, *D] and classes i32[B].
      key: for u2.

    Returns:
      f32[B, *D] each: u1 with entries 1 / sqrt(n), -1 / sqrt(n) and 0; u2 of l2 norm 1. Both are 0
      if the gradient is 0.
    """
    gradient = loss_gradient(logits_fn, x, y, targeted=False)
    return _sign_and_rest(gradient, jax.random.normal(key, x.shape, x.dtype))


def random_and_random(logits_fn: LogitsFn, x: Array, y: Array, key: Key) -> tuple[Array, Array]:
    """Returns two random orthogonal directions of l2 norm 1: f32[B, *D] each.  [Fig. 1.3]"""
    first, second = jax.random.normal(key, (2, *x.shape), x.dtype)
    return _orthonormal(first, second)


def fgsm_and_gradient(logits_fn: LogitsFn, x: Array, y: Array, key: Key) -> tuple[Array, Array]:
    """Returns u1 of `fgsm_and_random` and the gradient's part orthogonal to it.  [Fig. 1.4]"""
    gradient = norms.rescaled(loss_gradient(logits_fn, x, y, targeted=False), "l2")
    return _sign_and_rest(gradient, gradient)


def _sign_and_rest(gradient: Array, second: Array) -> tuple[Array, Array]:
    """Returns sign(gradient) / sqrt(n) and the part of `second` orthogonal to it."""
    sign = norms.dual(gradient, "linf")
    return sign / math.sqrt(sign[0].size), _orthonormal(sign, second)[1]


def _orthonormal(first: Array, second: Array) -> tuple[Array, Array]:
    """Applies Gram-Schmidt to both directions: f32[B, *D] each, of l2 norm 1."""
    u1 = norms.rescaled(first, "l2")
    along = jax.vmap(jnp.vdot)(u1, second)
    return u1, norms.rescaled(second - jax.vmap(jnp.multiply)(along, u1), "l2")


def windows(logits_fn: LogitsFn, x: Array, u1: Array, u2: Array, *, eps: float) -> Array:
    """Returns the classes of x + sqrt(n) (h u1 + v u2), with h and v from -eps to eps.

    Args:
      logits_fn: f32[B, *D] -> f32[B, K].
      x, u1, u2: f32[B, *D]; n = prod(D).
      eps: half a window's width and height.

    Returns:
      i32[B, R, R] with R = 2 HALF + 1; rows are v, from -eps at the top, columns h. The central
      pixel is the class of x.
    """
    steps = eps * math.sqrt(x[0].size) * np.arange(-HALF, HALF + 1, dtype=np.float32) / HALF
    v, h = (grid.reshape(-1, *(1,) * (x.ndim - 1)) for grid in np.meshgrid(steps, steps)[::-1])

    def window(of_row: tuple[Array, Array, Array]) -> Array:
        x, u1, u2 = of_row
        return jnp.argmax(logits_fn(x[None] + h * u1[None] + v * u2[None]), axis=1).reshape(
            len(steps), -1
        )

    return jax.lax.map(window, (x, u1, u2))


def adversarial_and_random(run: Trained) -> Drawing:
    """Fig. 1.2: church windows along FGSM's direction and a random one.

    Args:
      run: a model of at most ten classes, the number of colors, and its data.
    """
    return _drawn(run, fgsm_and_random, "Fig. 1.2", "FGSM's direction", "a random direction")


def two_random(run: Trained) -> Drawing:
    """Fig. 1.3: church windows along two random directions.

    Args:
      run: see `adversarial_and_random`.
    """
    title = "a random direction"
    return _drawn(run, random_and_random, "Fig. 1.3", title, title)


def two_adversarial(run: Trained) -> Drawing:
    """Fig. 1.4: church windows along FGSM's direction and the rest of the gradient.

    Args:
      run: see `adversarial_and_random`.
    """
    rest = "the gradient's part orthogonal to it"
    return _drawn(run, fgsm_and_gradient, "Fig. 1.4", "FGSM's direction", rest)


def _drawn(run: Trained, plane: Plane, name: str, across: str, down: str) -> Drawing:
    """Draws the windows of the first GRID x GRID test examples."""
    x, y = (jnp.asarray(rows[: GRID * GRID]) for rows in run.dataset.test)

    @jax.jit
    def found(x: Array, y: Array) -> tuple[Array, Array]:
        u1, u2 = plane(run.logits_fn, x, y, jax.random.key(SEED))
        return windows(run.logits_fn, x, u1, u2, eps=EPS), norms.norm(u1, "l2") > 0

    classes, directed = (np.asarray(values) for values in found(x, y))
    labels = np.asarray(y)
    about = run.about
    trained = f"{name}: {net_of(run)}, {data_in_words(about['data'])}"
    title = f"{trained}\nacross {across}, down {down}, pixels by ±{EPS} along a sign vector"
    rows = -(-len(labels) // GRID)
    figure, panels = canvas(rows, GRID, title=title, width=1.05, height=1.25)
    for axes in panels.ravel():
        axes.axis("off")
    read_as = classes[:, HALF, HALF]
    for axes, *window in zip(panels.ravel(), classes, labels, read_as, directed, strict=False):
        _draw(axes, *window)
    shown = np.unique([*classes.ravel(), *labels])
    patches = [Patch(color=CLASS_COLORS[label], label=str(label)) for label in shown]
    own = Patch(facecolor="white", edgecolor="black", label="the class above the window")
    handles = [own, *patches]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    right = classes == labels[:, None, None]
    shares = {
        "all": right.mean(),
        "h < 0": right[:, :, :HALF].mean(),
        "h > 0": right[:, :, HALF + 1 :].mean(),
    }
    wrong = np.flatnonzero(read_as != labels)
    caption = (
        f"{trained}: the correct class, white, has {shares['all']:.1%} of the windows, "
        f"{shares['h < 0']:.1%} of their left halves and {shares['h > 0']:.1%} of the right; "
        f"{len(wrong)} of {len(labels)} examples are misclassified"
        f"{', which the title of a window tells' if wrong.size else ''}."
    )
    document: dict[str, Any] = {
        "caption": caption,
        "settings": {
            "eps": EPS,
            "pixels": 2 * HALF + 1,
            "across": across,
            "down": down,
            "chosen": {"directions": "of l2 length sqrt(n)", "examples": "the first of the test"},
        },
        "seed": SEED,
        "run": about,
        "correct_share": {part: rounded(share) for part, share in shares.items()},
        "windows": [
            {"label": int(label), "read_as": int(read), "correct_share": rounded(share)}
            for label, read, share in zip(labels, read_as, right.mean(axis=(1, 2)), strict=True)
        ],
        "misclassified": wrong.tolist(),
        "without_gradient": np.flatnonzero(~directed).tolist(),
    }
    return Drawing(figure, document)


def _draw(axes, classes: np.ndarray, label: int, read_as: int, directed: bool) -> None:
    """Draws a window i[R, R] in colors, the label white, with black lines between classes."""
    fine = classes.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
    colors = np.array([to_rgb(color) for color in CLASS_COLORS])
    image = np.where((fine == label)[..., None], 1, colors[fine])
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        border = fine[here] != fine[there]
        image[here][border] = image[there][border] = 0
    axes.axis("on")
    picture(axes, image)
    axes.spines[:].set_visible(True)
    words = [str(label)]
    if read_as != label:
        words.append(f"read as {read_as}")
    if not directed:
        words.append("no gradient")
    color = "black" if read_as == label else "red"
    axes.set_title(", ".join(words), fontsize=6, pad=2, color=color)

"""A linear model of one input under its own gradient.  [maronas2016, sec. 5.4, Figs. 21, 22]

Eqs. 43 to 55 argue with t = w x + b, C = (t^ - t)^2 / 2 and x~ = x + dC/dx. Eqs. 44 to 48 lack
w b: dC/dx = -w r with the residual r = t^ - w x - b, which becomes (1 + w^2) r at x~. The cost thus
grows by (1 + w^2)^2, unless w = 0 or r = 0. As printed, the residual becomes r + w^2 (r + b), and
eq. 54 fails for some r and r + b of opposite signs. The sample, w and b are chosen here.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.style import COLORS, canvas
from adv_jax.types import Array
from papers.running.drawing import Drawing, rounded

X, TARGET, B = 1.0, 1.0, 0.5  # the sample, and b of Fig. 22a
SLOPE = 0.8  # w of Fig. 21
W_GRID, B_GRID = np.linspace(-1.5, 1.5, 121), np.linspace(-1.5, 2.5, 121)
_NAMES = {"before": "before", "after": "after", "printed": "after, as printed (eq. 48)"}
_STYLES = {"before": "-", "after": "--", "printed": ":"}


def cost(x: Array | float, w: Array, b: Array) -> Array:
    """Eq. 43."""
    return (TARGET - (w * x + b)) ** 2 / 2


def corrupted(w: Array, b: Array) -> Array:
    """Eq. 45 with its w b: X + dC/dx."""
    return X + jax.grad(cost)(X, w, b)


def cost_after(w: Array, b: Array) -> Array:
    """Returns the cost of the corrupted sample."""
    return cost(corrupted(w, b), w, b)


def cost_as_printed(w: Array, b: Array) -> Array:
    """Eq. 48, halved as eq. 43 is."""
    return (TARGET - w * X - b + w**2 * (TARGET - w * X)) ** 2 / 2


def costs_over(w: np.ndarray, b: np.ndarray | float) -> dict[str, np.ndarray]:
    """Returns the costs before and after the noise for parameters of one shape, f64[...]."""
    functions = {"before": lambda w, b: cost(X, w, b), "after": cost_after}
    functions |= {"printed": cost_as_printed}
    w, b = np.broadcast_arrays(w, b)
    with jax.enable_x64(True):
        flat = jnp.asarray(w.ravel(), float), jnp.asarray(b.ravel(), float)
        found = {name: jax.vmap(function)(*flat) for name, function in functions.items()}
    return {name: np.asarray(values).reshape(w.shape) for name, values in found.items()}


def sample() -> Drawing:
    """Fig. 21: the model t = w x + b, and its residual at a sample with and without the noise."""
    with jax.enable_x64(True):
        x_adv = float(corrupted(jnp.float64(SLOPE), jnp.float64(B)))
    points = {"x": X, "x + dC/dx": x_adv}
    residuals = {name: TARGET - SLOPE * x - B for name, x in points.items()}
    title = "Maronas 2016, Fig. 21: the model t = w x + b, and eqs. 43 to 55 for one sample"
    figure, ((net, line),) = canvas(1, 2, title=title, width=4.6, height=3.8)
    _net(net)
    ends = np.array([-0.5, 1.5])
    line.plot(ends, SLOPE * ends + B, color="k", label=f"t = {SLOPE:g} x + {B:g}")
    line.axhline(TARGET, color="0.6", linestyle=":", label="target")
    for (name, x), color in zip(points.items(), COLORS, strict=False):
        line.plot([x, x], [TARGET, SLOPE * x + B], color=color, label=f"residual at {name}")
        line.plot([x], [SLOPE * x + B], "o", color=color)
    line.set(xlabel="x", ylabel="t")
    line.legend()
    factor = 1 + SLOPE**2
    caption = (
        f"The noise dC/dx moves x from {X:g} to {x_adv:.3f} and the residual from "
        f"{residuals['x']:.3f} to {residuals['x + dC/dx']:.3f}, by the factor 1 + w^2 = "
        f"{factor:.2f}."
    )
    numbers = {"inputs": points, "residuals": residuals}
    found = {name: {x: rounded(value) for x, value in of.items()} for name, of in numbers.items()}
    return Drawing(figure, _document(caption, ["sample", "w", "b"], {"w": SLOPE, "b": B, **found}))


def costs() -> Drawing:
    """Fig. 22: the cost over the parameters with and without adversarial noise."""
    over_w = costs_over(W_GRID, B)
    w, b = np.meshgrid(W_GRID, B_GRID)
    plane = costs_over(w, b)
    figure, ((curves, contours),) = canvas(
        1, 2, title="Maronas 2016, Fig. 22: the cost over the parameters", width=5, height=4
    )
    for (name, values), color in zip(over_w.items(), COLORS, strict=False):
        curves.plot(W_GRID, values, _STYLES[name], color=color, label=_NAMES[name])
    lower = W_GRID[over_w["printed"] < over_w["before"]]
    low, high = float(lower.min()), float(lower.max())
    curves.axvspan(low, high, color="0.92", zorder=0, label="eq. 54 fails")
    curves.set(xlabel="weight w", ylabel="cost C", ylim=(0, 3), title=f"(a) b = {B:g}")
    curves.legend(loc="upper center")
    levels = [0.05, 0.25, 0.75, 1.5, 2.5]
    for name, color in zip(("before", "after"), COLORS, strict=False):
        style = {"colors": color, "linestyles": _STYLES[name]}
        contours.contour(W_GRID, B_GRID, plane[name], levels, **style)
        contours.plot([], [], _STYLES[name], color=color, label=_NAMES[name])
    contours.plot(W_GRID, TARGET - W_GRID * X, color="k", linewidth=1, label="C = 0, both")
    levels_text = ", ".join(f"{level:g}" for level in levels)
    contours.set(xlabel="weight w", ylabel="bias b", title=f"(b) contours C = {levels_text}")
    contours.set_ylim(B_GRID[0], B_GRID[-1])
    contours.legend(loc="lower left")
    caption = (
        "The noise multiplies the cost of the sample by (1 + w^2)^2, so it keeps the zeros of the "
        "cost and makes it steeper the larger |w| is. Eqs. 44 to 48 as printed lack w b, and with "
        f"b = {B:g} their cost falls for w from {low:.3f} to {high:.3f}, against eq. 54."
    )
    numbers = {
        "b": B,
        "w": rounded(W_GRID),
        "cost": {name: rounded(values) for name, values in over_w.items()},
        "printed_is_lower": [rounded(low), rounded(high)],
    }
    return Drawing(figure, _document(caption, ["sample", "b", "grids"], numbers))


def _net(axes) -> None:
    """Draws the model's units as circles."""
    places = {"x": (0.1, 0.75), "1": (0.1, 0.25), "t": (0.85, 0.5)}
    for name, weight in {"x": "w", "1": "b"}.items():
        (x, y), top = places[name], places["t"]
        style = {"arrowstyle": "->", "shrinkA": 16, "shrinkB": 16}
        axes.annotate("", xy=top, xytext=(x, y), arrowprops=style)
        axes.text((x + top[0]) / 2, (y + top[1]) / 2 + 0.04, weight, ha="center")
    for name, place in places.items():
        axes.text(*place, name, ha="center", va="center", bbox={"boxstyle": "circle", "fc": "w"})
    axes.set(xlim=(0, 1), ylim=(0, 1), title="t = w x + b")
    axes.axis("off")


def _document(caption: str, chosen: list[str], numbers: dict[str, Any]) -> dict[str, Any]:
    settings = {"x": X, "target": TARGET, "chosen": chosen}
    return {"caption": caption, "settings": settings, **numbers}

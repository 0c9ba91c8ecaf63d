"""Cost surfaces of one unit with one input, t = A(w x + b).  [maronas2016, app. 2, Figs. 29-32]

[maronas2016] prints the costs, the threshold .5, and that both classes are Gaussian; means, spread,
number of samples and grid are chosen here. Two misprints are corrected: the missing minus sign of
the sigmoid, and the missing brackets after -1/N in the cross-entropy (eq. 60). The formula of the
root mean square is not printed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.style import COLORS, canvas
from adv_jax.types import Array
from papers.running.drawing import SEED, Drawing, rounded

Cost = Callable[[Array, Array], Array]  # outputs f[N], targets f[N] -> f[]

MEANS, STD, NUM_EACH, THRESHOLD = (-1.0, 1.0), 0.8, 50, 0.5
GRID = np.linspace(-8, 8, 41)  # of w, and of b
_FORMULAS = {"sigmoid": "t = 1 / (1 + exp(-(w x + b)))", "linear": "t = w x + b"}


class Surface(NamedTuple):
    """A cost over GRID x GRID; the first axis is b, the second w.

    values: f64[B, W].
    curvature: f64[B, W, 2], ascending eigenvalues of the Hessian with respect to (w, b).
    """

    values: np.ndarray
    curvature: np.ndarray

    @property
    def is_convex(self) -> bool:
        """Whether all curvatures on the grid are nonnegative up to rounding."""
        return bool(self.curvature.min() >= -1e-12 * self.curvature.max())

    def lowest(self) -> tuple[float, float, float]:
        """Returns w, b and the cost at the lowest point of the grid."""
        row, column = np.unravel_index(self.values.argmin(), self.values.shape)
        return float(GRID[column]), float(GRID[row]), float(self.values[row, column])


def samples(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws x f32[N] and targets f32[N], 0 or 1, one class after the other."""
    noise = jax.random.normal(jax.random.key(seed), (2, NUM_EACH), jnp.float32)
    x = np.array(MEANS, np.float32)[:, None] + STD * noise
    return np.asarray(x.ravel()), np.repeat([0, 1], NUM_EACH).astype(np.float32)


def squared_error(t: Array, target: Array) -> Array:
    """Eq. 61."""
    return ((target - t) ** 2).sum() / 2


def normalized(t: Array, target: Array) -> Array:
    """Eq. 62."""
    return squared_error(t, target) / len(target)


def root_mean_square(t: Array, target: Array) -> Array:
    """Returns the root mean square error, of which eq. 62 is said to be a case."""
    return jnp.sqrt(((target - t) ** 2).mean())


def of_sigmoid(cost: Cost) -> Cost:
    """Returns the cost as a function of the sigmoid's argument."""
    return lambda a, target: cost(jax.nn.sigmoid(a), target)


def cross_entropy(a: Array, target: Array) -> Array:
    """Eq. 60, corrected, with logits: log(1 - sigmoid(a)) = log sigmoid(-a)."""
    log_p, log_not_p = jax.nn.log_sigmoid(a), jax.nn.log_sigmoid(-a)
    return -(target * log_p + (1 - target) * log_not_p).mean()


def surface(cost: Cost, x: np.ndarray, target: np.ndarray) -> Surface:
    """Returns the cost of a = w x + b over the grid."""

    def at(p: Array) -> Array:
        return cost(p[0] * jnp.asarray(x, p.dtype) + p[1], jnp.asarray(target, p.dtype))

    with jax.enable_x64(True):
        points = jnp.stack(jnp.meshgrid(GRID, GRID), axis=-1)
        over_grid = lambda f: jax.jit(jax.vmap(jax.vmap(f)))(points)
        hessians = over_grid(jax.hessian(at))
        return Surface(np.asarray(over_grid(at)), np.linalg.eigvalsh(hessians))


def squared_errors() -> Drawing:
    """Fig. 29: the squared error of a sigmoid and of a linear unit."""
    costs = {"sigmoid": of_sigmoid(squared_error), "linear": squared_error}
    caption = (
        "The squared error is convex for the linear unit, and not for the sigmoid unit, where the "
        "Hessian has negative eigenvalues."
    )
    return _drawing("29: squared error (eq. 61)", caption, costs)


def normalizations() -> Drawing:
    """Fig. 30: the sum and the mean of squared errors of a sigmoid unit."""
    costs = {"sigmoid": of_sigmoid(squared_error), "sigmoid, normalized": of_sigmoid(normalized)}
    caption = f"One shape in two units: the sum is {2 * NUM_EACH} times the mean, everywhere."
    return _drawing("30: squared error (eq. 61), normalized (eq. 62)", caption, costs)


def root_mean_squares() -> Drawing:
    """Fig. 31: the root mean square of a sigmoid and of a linear unit."""
    costs = {"sigmoid": of_sigmoid(root_mean_square), "linear": root_mean_square}
    caption = (
        "The minima are those of Fig. 29 and the shape is another; of the linear unit it is convex "
        "still, the length of a vector that is linear in w and b."
    )
    return _drawing("31: root mean square", caption, costs)


def cross_entropies() -> Drawing:
    """Fig. 32: the cross-entropy of a sigmoid unit, which is convex."""
    caption = (
        "Maronas 2016 finds neither a concave nor a convex shape here, but the cross-entropy of a "
        "sigmoid unit is convex: no eigenvalue of its Hessian is negative."
    )
    title = "32: cross-entropy (eq. 60, corrected)"
    return _drawing(title, caption, {"sigmoid": cross_entropy})


def _drawing(what: str, caption: str, costs: dict[str, Cost]) -> Drawing:
    """Draws a panel per cost; its name starts with the unit's output."""
    x, target = samples(SEED)
    found = {name: surface(cost, x, target) for name, cost in costs.items()}
    figure, (panels,) = canvas(
        1,
        len(costs),
        title=f"Maronas 2016, Fig. {what}",
        width=5,
        height=4.2,
        subplot_kw={"projection": "3d"},
    )
    letters = ("(a) ", "(b) ") if len(costs) > 1 else ("",)
    for axes, letter, (name, of_grid) in zip(panels, letters, found.items(), strict=True):
        w, b, cost = of_grid.lowest()
        surface_style = {"cmap": "viridis", "antialiased": False, "rcount": 41, "ccount": 41}
        axes.plot_surface(*np.meshgrid(GRID, GRID), of_grid.values, **surface_style)
        axes.plot([w], [b], [cost], "o", color=COLORS[1], zorder=10)
        axes.set(xlabel="weight w", ylabel="bias b", zlabel="cost")
        ticks = np.linspace(GRID[0], GRID[-1], 5)
        axes.set(xticks=ticks, yticks=ticks)
        axes.zaxis.labelpad = 12
        axes.set_box_aspect(None, zoom=0.9)
        output, _, how = name.partition(",")
        shape = "convex" if of_grid.is_convex else "not convex"
        axes.set_title(
            f"{letter}{_FORMULAS[output]}{',' if how else ''}{how}: {shape}\n"
            f"lowest (red): w = {w:.1f}, b = {b:.1f}, cost {cost:.3g}",
            fontsize="medium",
        )
    settings = {"means": MEANS, "std": STD, "num_each": NUM_EACH, "threshold": THRESHOLD}
    return Drawing(
        figure,
        {
            "caption": caption,
            "settings": {**settings, "chosen": ["means", "std", "num_each", "grid"]},
            "seed": SEED,
            "x": rounded(x),
            "target": target.astype(int).tolist(),
            "grid": rounded(GRID),
            "surfaces": {name: _numbers(name, found[name], x, target) for name in found},
        },
    )


def _numbers(name: str, found: Surface, x: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    w, b, cost = found.lowest()
    # sigmoid(0) = .5
    decided = w * x + b >= (THRESHOLD if name == "linear" else 0)
    smallest = found.curvature[..., 0]
    row, column = np.unravel_index(smallest.argmin(), smallest.shape)
    return {
        "lowest": {"w": rounded(w), "b": rounded(b), "cost": rounded(cost)},
        "error_at_lowest": float(np.mean(decided != target)),
        "convex": found.is_convex,
        "smallest_curvature": {
            "value": rounded(smallest.min()),
            "w": rounded(GRID[column]),
            "b": rounded(GRID[row]),
        },
        "negative_curvature_share": rounded((smallest < -1e-12 * found.curvature.max()).mean()),
        "cost": rounded(found.values),
    }

"""Gradient descent with and without momentum.  [maronas2016, sec. 3.3.1, Figs. 3, 4]

[maronas2016] prints learning rates and iterations; costs, momenta and starts are chosen here. Its
Algorithm 2 uses only the last gradient; this is classical momentum, which accumulates gradients.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adv_jax.style import canvas
from adv_jax.types import Array
from papers.running.drawing import Drawing, rounded

Cost = Callable[[Array], Array]  # f32[P] -> f32[]
_STYLES = {"plain": "o-C0", "momentum": "s-C1"}  # [maronas2016] has momentum in red.


class Descent(NamedTuple):
    """The settings of a comparison."""

    start: tuple[float, ...]
    momentum: float
    learning_rate: float
    iterations: int


POOR_CONDITIONING = Descent((4.0, 1.0), momentum=0.5, learning_rate=0.1, iterations=15)
LOCAL_MINIMUM = Descent((2.0,), momentum=0.75, learning_rate=0.03, iterations=23)


def bowl(p: Array) -> Array:
    """(p0^2 + 18 p1^2) / 2: the ratio of the curvatures, 18, is the condition number."""
    return 0.5 * (p[0] ** 2 + 18 * p[1] ** 2)


def double_well(p: Array) -> Array:
    """(p^2 - 1)^2 + 0.3 p: a local minimum at p = .960 and the global one at p = -1.036."""
    return (p[0] ** 2 - 1) ** 2 + 0.3 * p[0]


def descend(
    cost: Cost, start: Sequence[float], optimizer: optax.GradientTransformation, iterations: int
) -> Array:
    """Runs an optimizer on exact gradients -> points f32[iterations + 1, P], with the start.

    Args:
      cost: a function of the parameters f32[P].
      start: P numbers.
      optimizer: it gets the cost as `value`.
    """
    update = optax.with_extra_args_support(optimizer).update
    first = jnp.array(start)

    def step(state, _):
        p, memory = state
        value, gradient = jax.value_and_grad(cost)(p)
        updates, memory = update(gradient, memory, p, value=value)
        p = optax.apply_updates(p, updates)
        return (p, memory), p

    _, points = jax.lax.scan(step, (first, optimizer.init(first)), length=iterations)
    return jnp.concatenate([first[None], points])


def poor_conditioning() -> Drawing:
    """Fig. 3: plain gradient descent and momentum in a narrow valley."""
    paths, costs = _compared(bowl, POOR_CONDITIONING)
    title = "Maronas 2016, Fig. 3: a poorly conditioned cost, (p₀² + 18 p₁²) / 2"
    figure, ((left, right),) = canvas(1, 2, title=title)
    p0, p1 = np.meshgrid(np.linspace(-1.5, 4.5, 121), np.linspace(-1.2, 1.3, 101))
    left.contour(p0, p1, bowl(jnp.stack([p0, p1])), levels=12, colors="0.8", linewidths=0.8)
    for name, path in paths.items():
        _line(left, *np.transpose(path), name=name)
        _line(right, np.arange(len(path)), costs[name], name=name)
    left.plot(0, 0, "k*", markersize=10, label="minimum")
    left.set(xlabel="parameter $p_0$", ylabel="parameter $p_1$")
    left.legend(loc="upper left")
    right.set(xlabel="iteration", ylabel="cost (log scale)", yscale="log")
    right.legend()
    last = {name: float(cost[-1]) for name, cost in costs.items()}
    caption = (
        f"After {POOR_CONDITIONING.iterations} iterations the cost is {last['plain']:.3g} without "
        f"momentum, which goes to and fro across the valley and creeps along it, and "
        f"{last['momentum']:.3g} with it."
    )
    return Drawing(figure, _document(caption, bowl, POOR_CONDITIONING, paths, costs))


def local_minimum() -> Drawing:
    """Fig. 4: momentum carries gradient descent out of a local minimum."""
    paths, costs = _compared(double_well, LOCAL_MINIMUM)
    title = "Maronas 2016, Fig. 4: a cost with a local minimum, (p² - 1)² + 0.3 p"
    figure, ((left, right),) = canvas(1, 2, title=title)
    p = jnp.linspace(-1.6, 2.1, 200)
    left.plot(p, double_well(p[None]), color="0.7", label="cost")
    for name, path in paths.items():
        _line(left, path[:, 0], costs[name], name=name)
        _line(right, np.arange(len(path)), path[:, 0], name=name)
    left.set(xlabel="parameter $p$", ylabel="cost")
    left.legend()
    right.set(xlabel="iteration", ylabel="parameter $p$")
    right.legend()
    ends = {name: float(path[-1, 0]) for name, path in paths.items()}
    caption = (
        f"From p = 2, plain gradient descent ends at {ends['plain']:.3f}, in the local minimum; "
        f"with momentum it crosses the barrier and ends at {ends['momentum']:.3f}, near the global "
        f"one."
    )
    return Drawing(figure, _document(caption, double_well, LOCAL_MINIMUM, paths, costs))


def _compared(cost: Cost, settings: Descent) -> tuple[dict[str, Array], dict[str, Array]]:
    """Returns the points f32[T + 1, P] and costs f32[T + 1] with and without momentum."""
    momenta = {"plain": None, "momentum": settings.momentum}
    paths = {
        name: descend(
            cost,
            settings.start,
            optax.sgd(settings.learning_rate, momentum),
            settings.iterations,
        )
        for name, momentum in momenta.items()
    }
    return paths, {name: jax.vmap(cost)(path) for name, path in paths.items()}


def _line(axes, x, y, *, name: str) -> None:
    axes.plot(x, y, _STYLES[name], markersize=4, linewidth=1, label=name)


def _document(
    caption: str,
    cost: Cost,
    settings: Descent,
    paths: Mapping[str, Array],
    costs: Mapping[str, Array],
) -> dict:
    formula = str(cost.__doc__).partition(":")[0]
    chosen = ["cost", "start", "momentum"]
    return {
        "caption": caption,
        "settings": {"cost": formula, **settings._asdict(), "chosen": chosen},
        "paths": {name: rounded(path) for name, path in paths.items()},
        "costs": {name: rounded(values) for name, values in costs.items()},
    }

"""All optimizers in the valley of Fig. 3.  [maronas2016, sec. 3.3, 3.3.1]

[maronas2016] names them without an experiment. Here each takes as many steps as in Fig. 3, with the
learning rate of a grid that ends at the lowest cost, among those that never rise above the start.
Without this limit AdaGrad and RMSProp win by a leap out of the valley: the squares of one huge
gradient then make the rate that solves a quadratic cost.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from adv_jax.runner.config.optimizer import optimizer
from adv_jax.style import COLORS, figure, name_lines, widen
from adv_jax.types import Array
from papers.maronas2016.optimization import POOR_CONDITIONING, bowl, descend
from papers.running.drawing import Drawing, rounded

ITERATIONS = POOR_CONDITIONING.iterations
RATES = np.geomspace(1e-3, 1e3, 121)
_SHOWN = (1e-9, 1e4)  # of the costs
_P0, _P1 = (-1.5, 4.5), (-1.4, 1.3)  # of the parameters
_RATE = "rate"  # in place of a learning rate, which is put there
SGD = {"name": "sgd", "learning_rate": _RATE}
ANNEALED = {"name": "cosine_decay_schedule", "init_value": _RATE, "decay_steps": ITERATIONS}
RULES: dict[str, dict[str, Any]] = {  # specs as a config has them
    "SGD": SGD,
    "momentum .5": SGD | {"momentum": POOR_CONDITIONING.momentum},
    "Nesterov .5": SGD | {"momentum": POOR_CONDITIONING.momentum, "nesterov": True},
    "annealed": SGD | {"learning_rate": ANNEALED},
    "Bold Driver": SGD | {"plateau": {"name": "bold_driver", "increase": 1.1, "decrease": 0.5}},
    "AdaGrad": {"name": "adagrad", "learning_rate": _RATE},
    "AdaDelta": {"name": "adadelta", "learning_rate": _RATE},
    "RMSProp": {"name": "rmsprop", "learning_rate": _RATE},
    "Adam": {"name": "adam", "learning_rate": _RATE},
}


def all_rules() -> Drawing:
    """Sec. 3.3.1: all optimizers in the valley of Fig. 3, each at its best learning rate."""
    paths = {name: np.asarray(paths_of(spec, RATES)) for name, spec in RULES.items()}
    costs = {name: _costs(np.moveaxis(path, -1, 0)) for name, path in paths.items()}
    last = {name: cost[:, -1] for name, cost in costs.items()}
    best = {name: _best(cost) for name, cost in costs.items()}
    numbers = {
        "rates": {name: rounded(RATES[i]) for name, i in best.items()},
        "paths": {name: rounded(paths[name][i]) for name, i in best.items()},
        "costs": {name: rounded(costs[name][i]) for name, i in best.items()},
        "ends": {name: rounded(np.clip(values, *_SHOWN)) for name, values in last.items()},
    }
    order = sorted(best, key=lambda name: last[name][best[name]])
    words = ", ".join(f"{name} {last[name][best[name]]:.2g}" for name in order)
    caption = (
        f"The cost after {ITERATIONS} iterations, each rule at the best of {len(RATES)} rates from "
        f"{RATES[0]:g} to {RATES[-1]:g} with which it never rises above the start: {words}. The "
        "valley lies along an axis, which favors rules with a rate for each parameter. Right, "
        f"costs below {_SHOWN[0]:g} or above {_SHOWN[1]:g} are left out."
    )
    chosen = ["cost", "start", "settings of the rules", "rates"]
    settings = {"start": POOR_CONDITIONING.start, "iterations": ITERATIONS, "chosen": chosen}
    document = {"caption": caption, "settings": settings | {"rules": RULES}, **numbers}
    return Drawing(drawn(document), document)


def drawn(document: Mapping[str, Any]) -> Figure:
    """Draws the path of each rule, and the costs of all over iterations and over rates."""
    title = "Maronas 2016, sec. 3.3.1: optimizers on the cost of Fig. 3, (p₀² + 18 p₁²) / 2"
    whole = figure(13, 4.2, title=title)
    ((left, right),) = whole.subfigures(1, 2, squeeze=False, width_ratios=(1.1, 2))
    panels = left.subplots(3, 3, sharex=True, sharey=True).ravel()
    middle, last = right.subplots(1, 2)
    p0, p1 = np.meshgrid(np.linspace(*_P0, 121), np.linspace(*_P1, 101))
    valley = _costs(np.stack([p0, p1]))
    for axes, color, name in zip(panels, COLORS, RULES, strict=True):
        axes.contour(p0, p1, valley, levels=12, colors="0.85", linewidths=0.6)
        axes.plot(*np.transpose(document["paths"][name]), "o-", markersize=2.5, color=color)
        axes.plot(0, 0, "k*", markersize=7)
        axes.set_title(name, color=color, fontsize="small")
        axes.set(xlim=_P0, ylim=_P1)
        axes.grid(False)
        middle.plot(document["costs"][name], "o-", markersize=2.5, color=color, label=name)
        ends = np.array(document["ends"][name])
        inside = (ends > _SHOWN[0]) & (ends < _SHOWN[1])
        last.plot(RATES, np.where(inside, ends, np.nan), color=color, label=name)
        last.plot(document["rates"][name], document["costs"][name][-1], "o", color=color, ms=6)
    left.supxlabel("parameter p₀")
    left.supylabel("parameter p₁")
    middle.set(xlabel="iteration", ylabel="cost")
    widen(middle, [cost for costs in document["costs"].values() for cost in costs])
    name_lines(middle)
    last.set(
        xlabel="learning rate, the dots the best", ylabel=f"cost after {ITERATIONS} iterations"
    )
    widen(last, RATES, x=True)
    widen(last, _SHOWN)
    return whole


def paths_of(spec: Mapping[str, Any], rates: np.ndarray) -> Array:
    """Returns the points of a rule with each rate: f32[R, iterations + 1, 2]."""

    def path(rate: Array) -> Array:
        built = optimizer(_with_rate(spec, rate), steps_per_epoch=1)
        return descend(bowl, POOR_CONDITIONING.start, built, ITERATIONS)

    with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and integers
        return jax.jit(jax.vmap(path))(jnp.asarray(rates, jnp.float32))


def _costs(p: np.ndarray) -> np.ndarray:
    """Returns the costs of points f[2, ...]; infinity where a rule has diverged."""
    values = np.asarray(bowl(jnp.asarray(p, jnp.float32)))
    return np.where(np.isnan(values), np.inf, values)


def _best(costs: np.ndarray) -> int:
    """Returns the index of the best rate, of costs f[R, iterations + 1]."""
    inside = costs.max(axis=1) <= costs[:, 0]
    return int(np.where(inside, costs[:, -1], np.inf).argmin())


def _with_rate(spec: Mapping[str, Any], rate: Array) -> dict[str, Any]:
    """Puts the rate into its place in a spec."""
    put = lambda value: _with_rate(value, rate) if isinstance(value, Mapping) else value
    return {key: rate if value == _RATE else put(value) for key, value in spec.items()}

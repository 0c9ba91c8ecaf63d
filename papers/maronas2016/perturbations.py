"""Adversarial noise on a linear model of the plane.  [maronas2016, sec. 6.2.1, Figs. 26, 27]

[maronas2016] prints w0 = -20, w1 = -40 and b = -40 of t = w0 x0 + w1 x1 + b, the threshold t = .5
and "minimum squared error", targets 1 and 0. It prints neither means nor spread; here the classes
are symmetric about the threshold, with class 1 where t > .5.

As |w| = 44.7, the lines t = 0 and t = 1 are only .022 apart. Least squares gives such weights only
if the means of the classes are at most as far apart. For a sample beyond its target's line, the
gradient (t - target) w of the squared error points away from the threshold.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import attacks
from adv_jax.style import canvas
from adv_jax.types import Array, LogitsFn
from papers.running.drawing import SEED, Drawing, rounded

W, B, THRESHOLD = (-20.0, -40.0), -40.0, 0.5
MEANS = ((0.0, 0.0), (-0.81, -1.62))  # of classes 0 and 1, symmetric about the threshold
STD, NUM_EACH = 0.3, 60
TAUS = {"UDG": 0.00025, "SGN": 0.25, "1N": 0.25}
_COLORS = ("C0", "C1")  # of the classes
Effects = dict[str, dict[str, float]]  # noise -> output of `effect`


class Points(NamedTuple):
    """Inputs x f32[N, 2] and classes y i32[N], 0 or 1."""

    x: Array
    y: Array


def points(seed: int) -> Points:
    """Draws both classes, one after the other."""
    noise = jax.random.normal(jax.random.key(seed), (2, NUM_EACH, 2), jnp.float32)
    x = jnp.float32(MEANS)[:, None] + STD * noise
    return Points(x.reshape(-1, 2), jnp.repeat(jnp.arange(2), NUM_EACH))


def output(x: Array) -> Array:
    """Returns t = w0 x0 + w1 x1 + b: f32[B, 2] -> f32[B]."""
    return x @ jnp.float32(W) + B


def squared_error_logits(x: Array) -> Array:
    """Returns logits f32[B, 3] whose cross-entropy with class 0 or 1 is 1 + (t - class)^2 / 2.

    The probabilities are exp(-1 - (t - k)^2 / 2), k = 0, 1, and the rest for an unused third class.
    Attacks on the cross-entropy thus ascend eq. 61.
    """
    log_p = -1 - (output(x)[:, None] - jnp.arange(2.0)[None]) ** 2 / 2
    rest = jnp.log1p(-jnp.exp(log_p).sum(1, keepdims=True))
    return jnp.concatenate([log_p, rest], axis=1)


def cross_entropy_logits(x: Array) -> Array:
    """Returns logits f32[B, 2] of mean 0 for a sigmoid unit with threshold t = .5."""
    half = (output(x) - THRESHOLD) / 2
    return jnp.stack([-half, half], axis=1)


def corrupted(logits_fn: LogitsFn, data: Points) -> dict[str, Array]:
    """Returns x + u for the noises of eqs. 57, 56, 58, each with its tau: f32[N, 2]."""
    noises = {
        "UDG": partial(attacks.raw_gradient, logits_fn, tau=TAUS["UDG"]),
        "SGN": partial(attacks.fgsm, logits_fn, eps=TAUS["SGN"]),
        "1N": partial(attacks.fgsm, logits_fn, eps=TAUS["1N"], norm="l2"),
    }
    return {name: jax.jit(noise)(*data) for name, noise in noises.items()}


def margins(x: Array, y: Array) -> Array:
    """Returns the distances from the threshold, negative on the wrong side: f32[B]."""
    return jnp.where(y == 1, 1, -1) * (output(x) - THRESHOLD) / np.hypot(*W)


def threshold() -> Drawing:
    """Fig. 26: two classes in the plane and the decision threshold."""
    data = points(SEED)
    title = "Maronas 2016, Fig. 26: feature space and decision threshold"
    figure, ((axes,),) = canvas(1, 1, title=title, width=6, height=5)
    _scatter(axes, data.x, data.y, labeled=True)
    _plane(axes)
    axes.legend(loc="lower right")
    apart = 1 / float(np.hypot(*W))
    caption = (
        f"The line -20 x0 - 40 x1 - 40 = 0.5 between two Gaussian classes. The printed weights "
        f"put the lines of the targets, t = 0 and t = 1, only {apart:.4f} apart; they are no fit "
        f"by least squares to classes further apart than that."
    )
    return Drawing(figure, _document(caption, data, {"targets_apart": rounded(apart)}))


def noises() -> Drawing:
    """Fig. 27: the classes under three adversarial noises."""
    data = points(SEED)
    costs = {"squared error": squared_error_logits, "cross-entropy": cross_entropy_logits}
    found = {cost: corrupted(logits_fn, data) for cost, logits_fn in costs.items()}
    title = (
        "Maronas 2016, Fig. 27: data with adversarial noise (faint: without); "
        "a-d as printed, e-h with another cost"
    )
    figure, rows = canvas(2, 4, title=title, width=3, height=3.8, sharex=True, sharey=True)
    for panels, letters, (cost, noisy) in zip(rows, ("abcd", "efgh"), found.items(), strict=True):
        for axes, x in zip(panels[:3], noisy.values(), strict=True):
            _scatter(axes, data.x, data.y, alpha=0.15)
            _scatter(axes, x, data.y, labeled=True)
        _arrows(panels[3], data, noisy)
        titles = [f"{name}, τ {tau:g}, {cost}" for name, tau in TAUS.items()]
        for axes, letter, text in zip(panels, letters, [*titles, f"samples, {cost}"], strict=True):
            axes.set_title(f"({letter}) {text}")
            _plane(axes)
            axes.label_outer()
    for axes in rows[0, [0, 3]]:
        axes.legend(loc="lower right")
    measured = {
        cost: {name: effect(data, x) for name, x in noisy.items()} for cost, noisy in found.items()
    }
    values = {cost: {n: rounded(x) for n, x in noisy.items()} for cost, noisy in found.items()}
    numbers = {"tau": TAUS, "measured": measured, "corrupted": values}
    return Drawing(figure, _document(_found(*measured.values()), data, numbers))


def effect(data: Points, x: Array) -> dict[str, float]:
    """Measures the noise x - data.x; rates are fractions, steps are in units of x.

    "towards" is the share of samples whose margin decreases.
    """
    before, after = margins(*data), margins(x, data.y)
    steps = jnp.linalg.norm(x - data.x, axis=1)
    found = {
        "mean_step": steps.mean(),
        "longest_step": steps.max(),
        "towards": (after < before).mean(),
        "error_before": (before < 0).mean(),
        "error": (after < 0).mean(),
    }
    return {name: rounded(value) for name, value in found.items()}


def _found(squared: Effects, entropy: Effects) -> str:
    """Returns the caption of Fig. 27."""
    percent = {name: f"{100 * entropy[name]['towards']:.0f} %" for name in TAUS}
    return (
        f"Squared error, as printed (a-d): {100 * squared['UDG']['towards']:.0f} % of the samples "
        f"move towards the threshold, for they lie beyond their target, and UDG moves each by half "
        f"its distance from there, {squared['UDG']['longest_step']:.2f} at most. Cross-entropy "
        f"(e-h): SGN moves {percent['SGN']} towards it, 1N {percent['1N']}; the longest step of "
        f"UDG, {entropy['UDG']['longest_step']:.1g} in float32, cannot be seen."
    )


def _scatter(axes, x: Array, y: Array, *, alpha: float = 0.8, labeled: bool = False) -> None:
    for k, color in enumerate(_COLORS):
        label = f"class {k}" if labeled else None
        axes.scatter(*x[y == k].T, s=9, color=color, alpha=alpha, label=label, linewidth=0)


def _arrows(axes, data: Points, noisy: dict[str, Array]) -> None:
    """Draws the first four samples of each class with an arrow per noise."""
    chosen = np.concatenate([np.flatnonzero(data.y == k)[:4] for k in range(2)])
    _scatter(axes, data.x[chosen], data.y[chosen])
    for (name, x), color in zip(noisy.items(), ("C2", "C3", "C4"), strict=True):
        start, step = data.x[chosen], (x - data.x)[chosen]
        style = {"units": "xy", "scale": 1, "scale_units": "xy", "width": 0.02}
        axes.quiver(*start.T, *step.T, angles="xy", color=color, label=name, **style)


def _plane(axes) -> None:
    """Draws the threshold and sets equal scales."""
    axes.axline((0, (THRESHOLD - B) / W[1]), slope=-W[0] / W[1], color="k", linewidth=1)
    axes.set(xlabel="$x_0$", ylabel="$x_1$", aspect="equal", xlim=(-2.2, 1.4), ylim=(-3.1, 1.6))


def _document(caption: str, data: Points, numbers: dict[str, Any]) -> dict[str, Any]:
    settings = {"w": W, "b": B, "threshold": THRESHOLD, "means": MEANS, "std": STD}
    return {
        "caption": caption,
        "settings": {**settings, "num_each": NUM_EACH, "chosen": ["means", "std", "num_each"]},
        "seed": SEED,
        "x": rounded(data.x),
        "y": data.y.tolist(),
        **numbers,
    }

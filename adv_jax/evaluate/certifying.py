"""Certified accuracy: margins that no perturbation of a size can push below a bound."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.checks import check_width, checked_count, own_keywords
from adv_jax.evaluate.auditing import issue
from adv_jax.evaluate.batching import over_batches
from adv_jax.evaluate.checks import (
    check_sequence_of_sizes,
    checked_data,
    checked_predictions,
)
from adv_jax.evaluate.compiled import Batched
from adv_jax.evaluate.progress import Progress, shown
from adv_jax.linear_bounds import METHODS, margin_bounds
from adv_jax.types import Array, Bounds, LogitsFn, Norm, check_choice, widened, working_dtype


class Certificate(NamedTuple):
    """The result of `certify`: NumPy arrays over E radii, N rows and K classes.

    eps: f[E], the radii.
    margins: f32[E, N, K], a lower bound of logit_y - logit_j over the ball; inf for j = y.
    certified: bool[E, N], whether the model classifies a row correctly and all its margins are
      above 0: it is classified correctly in the whole ball.
    accuracy: f[E], the share of certified rows, a lower bound of the accuracy under any attack.
    """

    eps: np.ndarray
    margins: np.ndarray
    certified: np.ndarray
    accuracy: np.ndarray


@own_keywords
def certify(
    logits_fn: LogitsFn,
    x: ArrayLike,
    y: ArrayLike,
    eps: Sequence[float],
    *,
    method: str = "crown",
    norm: Norm = "linf",
    bounds: Bounds | None = None,
    batch_size: int = 100,
    aux: Any = None,
    progress: Progress | bool = True,
) -> Certificate:
    """Returns lower bounds of the margins over the ball around each row, and what they certify.

        margins[e, i, j] <= min {logit_y(x') - logit_j(x') : ||x' - x_i|| <= eps_e, lo <= x' <= hi}

    It reads the jaxpr of logits_fn, so that any function of affine maps, convolutions, pooling and
    monotone activations (ReLU, leaky ReLU, ELU, softplus, tanh, sigmoid, exp and others) has
    bounds. On an affine function they are the minima. They are computed in float32 (float64 for
    float64), at the highest precision of products, without outward rounding: a margin within
    rounding of 0 proves nothing, as where all logits share a huge offset. So certified rows are
    those that the model itself also classifies correctly at x; elsewhere in the ball its rounding
    is not bounded.

    Methods, from cheap to tight:

        ibp        intervals, layer by layer; the last affine maps as one, into margins
        crown_ibp  linear bounds of the margins, pulled back to x through intervals of ibp
        crown      linear bounds of every layer too: passes for each unit that an activation sees

    Each takes the larger one of its bound and that of intervals, so crown_ibp is never below ibp.
    crown takes some hundred times as long as ibp.

    It holds for models whose rows do not interact; for others an `AuditWarning` is issued.

    Args:
      logits_fn: f32[B, *D] -> logits f32[B, K]; rows must not interact. With aux: (x, aux) ->
        logits.
      x, y: f[N, *D] and classes i32[N].
      eps: E radii >= 0, in units of x.
      method: "ibp", "crown_ibp" or "crown".
      norm: "linf", "l2", "l1" or "rms".
      bounds: (lo, hi) of valid inputs, numbers or arrays f[*D], or None. x must be inside. Under
        another norm than linf the bound is that of the ball or that of the largest box.
      batch_size: maximum number of rows per batch and device; crown keeps the coefficients of 64
        units for each row and layer.
      aux, progress: as in `evaluate`; progress wraps the batches of each radius.

    Raises:
      UserError: data, radii, bounds or the model are invalid; logits_fn has an operation without a
        bound, which the message names; the norm is unknown.

    Sources: [gowal2018], sec. 3; [zhang2018], sec. 3; [zhang2020], sec. 3.

    >>> x, y = jnp.array([[1., 0.], [.2, 0.]]), jnp.array([0, 0])
    >>> w = jnp.array([[1., -1.], [0., 0.]])  # Class 0 where the first entry is positive.
    >>> found = certify(lambda x: x @ w, x, y, [0, .5, 1.5])
    >>> found.margins[1, :, 1]
    array([ 1. , -0.6], dtype=float32)
    >>> found.accuracy
    array([1. , 0.5, 0. ])
    """
    batch_size = checked_count("batch_size", batch_size)
    x, y, aux = checked_data(x, y, aux, bounds=bounds)
    kind, radii = checked_ball(eps, norm, x, bounds)
    check_choice("method", method, METHODS)
    x = widened(x)
    clean, warnings = checked_predictions(logits_fn, x, y, aux, batch_size=batch_size)
    issue(warnings)
    bound = partial(_margins, method=method, norm=kind, bounds=bounds)
    program = Batched(bound, logits_fn, in_axes=(0, 0, 0, None))
    with shown(progress) as steps:
        found = [
            over_batches(
                lambda x, y, aux, size=size: program(x, y, aux, size),
                (x, y, aux),
                batch_size=batch_size,
                progress=steps,
                description=f"eps {size:g}",
            )
            for size in radii
        ]
    margins = np.moveaxis(np.stack(found), -1, 1)
    certified = (margins > 0).all(-1) & (clean["label"] == np.asarray(y))
    return Certificate(np.asarray(eps, float), margins, certified, certified.mean(-1))


def checked_ball(eps: Any, norm: Norm, x: Array, bounds: Bounds | None) -> tuple[str, np.ndarray]:
    """Returns the canonical norm and the radii f32[E].

    Raises:
      UserError: not one or more radii of at least 0 that the bounds allow; the norm is l0 or
        unknown.
    """
    kind = norms.canonical(norm, among=norms.CONVEX)
    check_sequence_of_sizes("eps", eps, x)
    if bounds is not None:
        check_width("eps", max(eps), x.shape[1:], kind, bounds)
    return kind, np.asarray(eps, working_dtype(x.dtype))


def _margins(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    aux: Any,
    eps: Array,
    *,
    method: str,
    norm: str,
    bounds: Bounds | None,
) -> Array:
    """Returns f[K, B]."""
    return jnp.moveaxis(
        margin_bounds(logits_fn, x, y, eps, method=method, norm=norm, bounds=bounds, aux=aux), 0, -1
    )

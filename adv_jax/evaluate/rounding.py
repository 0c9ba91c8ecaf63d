"""Adversarial images of a few bits: the values that a file of pixels can hold."""

import jax.numpy as jnp
import numpy as np

from adv_jax.checks import check_counts
from adv_jax.evaluate.balls import violations
from adv_jax.perturbations import choose
from adv_jax.types import Array, Attack, Bounds, UserError, working_dtype

_EXACT = 1e-3  # of a step between two values, for the rounding of x itself


def check_bits(bits: int | None, x: Array, bounds: Bounds | None) -> None:
    """Checks that x are images of that many bits.

    Raises:
      UserError: bits is not a whole number >= 1; bounds are missing; x is between two values.
    """
    if bits is None:
        return
    check_counts(bits=bits)
    if bounds is None:
        raise UserError(f"bounds must be (lo, hi) with bits={bits}, got None")
    low, high = (np.asarray(bound, np.float64) for bound in bounds)
    levels = (np.asarray(x, np.float64) - low) / (high - low) * (2**bits - 1)
    between = np.abs(levels - np.round(levels)) > _EXACT
    if between.any():
        raise UserError(
            f"x must be lo + k (hi - lo) / {2**bits - 1} with bits={bits} and the bounds {bounds}, "
            f"got {float(np.asarray(x)[between][0]):g}"
        )


def rounded(
    attack: Attack, x: Array, x_adv: Array, eps: Array, *, bits: int, bounds: Bounds
) -> Array:
    """Rounds x_adv to lo + k (hi - lo) / (2^bits - 1), inside the attack's ball and the bounds.

    A row is rounded to the nearest values, or toward x where these are outside the ball. Entries
    that end at x keep its bits.

    >>> from adv_jax import attacks
    >>> x, x_adv = jnp.array([[0., 1.]]), jnp.array([[.6, .8]])
    >>> rounded(attacks.fgsm, x, x_adv, jnp.float32(.7), bits=1, bounds=(0., 1.))
    Array([[0., 1.]], dtype=float32)
    >>> rounded(attacks.fgsm, x, x_adv, jnp.float32(1.), bits=1, bounds=(0., 1.))
    Array([[1., 1.]], dtype=float32)
    """
    dtype, count = working_dtype(x.dtype), 2**bits - 1
    low, high = (jnp.broadcast_to(jnp.asarray(bound, dtype), x.shape) for bound in bounds)
    at_x, level = (
        (value.astype(dtype) - low) / (high - low) * count
        for value in (x, jnp.clip(x_adv, low.astype(x.dtype), high.astype(x.dtype)))
    )
    start = jnp.round(at_x)

    def at(levels: Array) -> Array:
        return jnp.where(levels == start, x, (low + levels * (high - low) / count).astype(x.dtype))

    nearest = at(jnp.round(level))
    outside = violations(attack, x, nearest, eps, bounds=None).get("outside_ball")
    if outside is None:
        return nearest
    return choose(outside, at(start + jnp.trunc(level - start)), nearest)

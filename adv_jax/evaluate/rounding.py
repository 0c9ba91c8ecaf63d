"""Adversarial images of a few bits: the values that a file of pixels can hold."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.evaluate.balls import violations
from adv_jax.evaluate.traits import ball_of
from adv_jax.perturbations import choose
from adv_jax.types import Array, Attack, Bounds, UserError, working_dtype

_EXACT = 1e-3  # of a step between two values, for the rounding of x itself
_SHARES = (0.5, _EXACT, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)  # at which an entry moves away


def check_bits(bits: int | None, x: Array, bounds: Bounds | None) -> None:
    """Checks that x are images of that many bits.

    Raises:
      UserError: bounds are missing; x is between two values.
    """
    if bits is None:
        return
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
    attack: Attack,
    x: Array,
    x_adv: Array,
    eps: Array,
    *,
    bits: int,
    bounds: Bounds,
    fools: Callable[[Array], Array] = lambda x: jnp.zeros(len(x), bool),
) -> Array:
    """Rounds x_adv to lo + k (hi - lo) / (2^bits - 1), inside the attack's ball and the bounds.

    Each row becomes the first one inside the ball that fools the model, of several roundings: to
    the nearest values, away from x, and between these and toward x. If none fools, it is the
    nearest values, or those toward x where the nearest are outside the ball. Under linf no entry
    is rounded out of the ball. Entries that end at x keep its bits.

    fools: f[B, *D] -> bool[B].

    >>> from adv_jax import attacks
    >>> x, x_adv = jnp.array([[0., 1.]]), jnp.array([[.6, .8]])
    >>> rounded(attacks.fgsm, x, x_adv, jnp.float32(.7), bits=1, bounds=(0., 1.))
    Array([[0., 1.]], dtype=float32)
    >>> rounded(attacks.fgsm, x, x_adv, jnp.float32(1.), bits=1, bounds=(0., 1.))
    Array([[1., 1.]], dtype=float32)
    >>> fools = lambda x: x[:, 1] < .5
    >>> rounded(attacks.fgsm, x, x_adv, jnp.float32(1.), bits=1, bounds=(0., 1.), fools=fools)
    Array([[1., 0.]], dtype=float32)
    """
    dtype, count = working_dtype(x.dtype), 2**bits - 1
    low, high = (jnp.broadcast_to(jnp.asarray(bound, dtype), x.shape) for bound in bounds)
    at_x, level = (
        (value.astype(dtype) - low) / (high - low) * count
        for value in (x, jnp.clip(x_adv, low.astype(x.dtype), high.astype(x.dtype)))
    )
    start = jnp.round(at_x)
    way = level - start
    farthest = jnp.where(way < 0, start, count - start)
    if ball_of(attack) == "linf":
        farthest = jnp.minimum(farthest, jnp.floor(eps / (high - low) * count + _EXACT))

    def at(share: Array) -> Array:
        """Returns the values away from x where the rest of the way is `share` of a step or more."""
        steps = jnp.minimum(jnp.floor(jnp.abs(way) + 1 - share), farthest)
        levels = start + jnp.sign(way) * steps
        return jnp.where(levels == start, x, (low + levels * (high - low) / count).astype(x.dtype))

    def tried(kept: tuple[Array, Array], share: Array) -> tuple[tuple[Array, Array], None]:
        best, found = kept
        point = at(share)
        better = ~found & ~outside(point) & fools(point)
        return (choose(better, point, best), found | better), None

    def outside(point: Array) -> Array:
        inside = jnp.zeros(len(x), bool)
        return violations(attack, x, point, eps, bounds=None).get("outside_ball", inside)

    nearest, toward = at(jnp.asarray(0.5, dtype)), at(jnp.asarray(1 - _EXACT, dtype))
    begun = choose(outside(nearest), toward, nearest), jnp.zeros(len(x), bool)
    return jax.lax.scan(tried, begun, jnp.asarray(_SHARES, dtype))[0][0]

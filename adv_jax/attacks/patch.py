"""A patch that fools a model wherever it lies in an image."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.ndimage import map_coordinates
from jax.typing import ArrayLike

from adv_jax.attacks._attack import attack
from adv_jax.attacks._images import check_images, within_range
from adv_jax.checks import as_batch, check_bounds, check_box, checked_number, own_keywords
from adv_jax.loss_gradients import rate_fn, with_gradient
from adv_jax.losses import LOSSES
from adv_jax.perturbations import limits, or_one
from adv_jax.programs import run_compiled
from adv_jax.random import fold_in_rows, key_of_rows, row_keys
from adv_jax.types import (
    Array,
    Bounds,
    Key,
    LogitsFn,
    RowFn,
    RowTree,
    UserError,
    check_known,
    described,
    is_known,
    is_real,
    working_dtype,
)

Sizes = tuple[ArrayLike, ArrayLike]  # smallest and largest diameter, as shares of the sides

RATE = 0.05  # of Adam, in units of the bounds' width


def _check(settings: Mapping[str, Any]) -> None:
    _check_places(settings["sizes"], settings["max_angle"])
    check_box(settings["bounds"], needed_by="adversarial_patch")


@attack(
    size=None,
    needs_key=True,
    ranges={"learning_rate": "(0, inf)"},
    losses=LOSSES,
    check=_check,
)
def adversarial_patch(
    logits_fn: LogitsFn,
    x: Array,
    y: RowTree | None,
    *,
    bounds: Bounds,
    sizes: Sizes = (0.2, 0.5),
    max_angle: ArrayLike = 0.4,
    num_steps: int = 500,
    learning_rate: ArrayLike | None = None,
    loss: str | RowFn = "cross_entropy",
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key,
) -> Array:
    """Adversarial patch: a disc that fools the model at random places, sizes and angles.

        maximize mean_i E_t loss(A(patch, x_i, t), y_i)   over patches within the bounds,

    A(patch, x, t) = `place_patch`, by Adam in shares of the bounds' width; each step draws one t
    for each row. A batch learns together, so rows are not independent, and the result is the
    patch: place it in other images.

    Args:
      x: images f[B, h, w] or f[B, h, w, c], inside `bounds`.
      y: the labels to leave, or those to reach if targeted, as in the paper.
      bounds: (lo, hi), as in `fgsm`, finite, the same for all rows; required.
      sizes, max_angle: as in `place_patch`.
      num_steps: gradients of all rows, >= 1.
      learning_rate: of Adam, f32[], > 0, in units of x; None: .05 times the width of the bounds.
      loss: as in `pgd`.
      key: as in `place_patch`.
      logits_fn, aux, targeted: as in `fgsm`.

    Returns:
      f32[1, h, w] or f32[1, h, w, c], the patch, of which `place_patch` shows the disc.

    Raises:
      UserError: bounds, sizes, max_angle, num_steps or learning_rate out of range; x is not a
        batch of images; no key; and as `pgd`.

    Source: [brown2017], sec. 2 (there targeted).

    >>> x, y = jnp.zeros((2, 8, 8)), jnp.array([0, 0])
    >>> darkness = lambda x: jnp.stack([-x.sum((1, 2)), x.sum((1, 2))], axis=1)
    >>> patch = adversarial_patch(darkness, x, y, bounds=(0., 1.), key=jax.random.key(0))
    >>> float(patch[0, 4, 4])
    1.0
    """
    check_images(x, "adversarial_patch")
    check_bounds(bounds, (1, *x.shape[1:]))
    dtype, keys = working_dtype(x.dtype), row_keys(key, x.shape[0])
    rate = rate_fn(loss, logits_fn, x, y, targeted=targeted)
    lo, hi = (bound.astype(dtype) for bound in limits(x[:1], bounds))
    width = hi - lo
    # In shares of the width neither the step nor Adam's smallest gradient has a unit.
    step = RATE
    if learning_rate is not None:
        step = jnp.asarray(learning_rate, dtype) / or_one(width)
    near, angle, adam = x.astype(dtype), jnp.asarray(max_angle, dtype), optax.scale_by_adam()

    def descend(carry: tuple[Array, Any], count: Array) -> tuple[tuple[Array, Any], None]:
        share, state = carry
        now = fold_in_rows(keys, count)
        place = lambda share: _placed(near, lo + width * share, now, sizes, angle)
        placed, pull = jax.vjp(place, share)
        (gradient,) = pull(-with_gradient(rate, placed.astype(x.dtype))[1] / len(x))
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
            updates, state = adam.update(gradient, state)
        return (jnp.clip(share - step * jnp.asarray(updates), 0, 1), state), None

    share = jnp.full_like(x[:1], 0.5, dtype)
    (share, _), _ = jax.lax.scan(descend, (share, adam.init(share)), jnp.arange(num_steps))
    return jax.lax.stop_gradient(jnp.clip(lo + width * share, lo, hi))


@own_keywords
def place_patch(
    x: Array,
    patch: Array,
    *,
    sizes: Sizes = (0.2, 0.5),
    max_angle: ArrayLike = 0.4,
    key: Key,
) -> Array:
    """Places the disc of a patch in each image, at a random place, size and angle.

    The largest disc, or ellipse, in the patch is scaled to a share of the sides, rotated, shifted
    to a place inside the image, and replaces the pixels there, by bilinear interpolation. A disc of
    one pixel or less may lie between the centers of pixels and replace none.

    Args:
      x: images f[B, h, w] or f[B, h, w, c].
      patch: f32[1, h, w] or f32[1, h, w, c], as from `adversarial_patch`.
      sizes: (smallest, largest) diameter as a share of the sides, in (0, 1], drawn uniformly.
      max_angle: largest rotation either way, f32[], >= 0, in radians, drawn uniformly.
      key: one key, or key[B], one per row.

    Returns:
      f[B, h, w] or f[B, h, w, c] in the dtype of x, differentiable by the patch.

    Raises:
      UserError: sizes or max_angle out of range; x is not a batch of images; a patch of another
        shape; no key.

    Source: [brown2017], sec. 2, the operator A.

    >>> placed = place_patch(jnp.zeros((1, 8, 8)), jnp.ones((1, 8, 8)), key=jax.random.key(0))
    >>> 0 < float(placed.mean()) < 0.25  # A disc of at most half the side.
    True
    """
    _check_places(sizes, max_angle)
    x = as_batch(x)
    check_images(x, "place_patch")
    if not is_real(patch) or np.shape(patch) != (1, *x.shape[1:]):
        raise UserError(
            f"patch must have the shape of one image, {[1, *x.shape[1:]]}, got {described(patch)}"
        )
    check_known("patch", patch, np.isfinite, "finite numbers")
    dtype, key = working_dtype(x.dtype), key_of_rows(key, x.shape[0])
    patch, *numbers = (jnp.asarray(value, dtype) for value in (patch, *sizes, max_angle))

    def placed(x: Array, patch: Array, key: Key, smallest: Array, largest: Array, angle: Array):
        return _placed(x, patch, row_keys(key, x.shape[0]), (smallest, largest), angle)

    return run_compiled(placed, x, patch, key, *numbers)


def _placed(x: Array, patch: Array, keys: Key, sizes: Sizes, max_angle: Array) -> Array:
    """`place_patch` of checked arguments; keys: key[B]."""
    dtype, sides = working_dtype(x.dtype), x.shape[1:3]
    smallest, largest = (jnp.asarray(size, dtype) for size in sizes)
    pixels = patch[0].reshape(*sides, -1)
    center = jnp.asarray([(side - 1) / 2 for side in sides], dtype).reshape(2, 1, 1)
    half = jnp.asarray(sides, dtype).reshape(2, 1, 1) / 2
    grid = jnp.stack(jnp.meshgrid(*map(jnp.arange, sides), indexing="ij")).astype(dtype) - center

    def place(image: Array, key: Key) -> Array:
        draw = jax.random.uniform(key, (4,), dtype)
        size = smallest + draw[0] * (largest - smallest)
        angle = (2 * draw[1] - 1) * max_angle
        shift = (2 * draw[2:] - 1).reshape(2, 1, 1) * (1 - size) * half
        down, right = grid - shift
        cos, sin = jnp.cos(angle) / size, jnp.sin(angle) / size
        at = jnp.stack([cos * down + sin * right, cos * right - sin * down])
        shown = ((at / half) ** 2).sum(axis=0) <= 1
        channels = [
            within_range(map_coordinates(of, list(at + center), order=1, mode="nearest"), of)
            for of in jnp.moveaxis(pixels, -1, 0)
        ]
        disc = jnp.stack(channels, axis=-1).reshape(image.shape)
        return jnp.where(shown.reshape(*sides, *(1,) * (image.ndim - 2)), disc, image)

    return jax.vmap(place)(x.astype(dtype), keys).astype(x.dtype)


def _check_places(sizes: Sizes, max_angle: ArrayLike) -> None:
    if not isinstance(sizes, tuple | list) or len(sizes) != 2:
        raise UserError(f"sizes must be (smallest, largest), got {described(sizes)}")
    for size in sizes:
        checked_number("sizes", size, "(0, 1]")
    if all(map(is_known, sizes)):
        smallest, largest = np.asarray(sizes, float)
        if smallest > largest:
            raise UserError(f"sizes must be (smallest, largest), got {sizes}")
    checked_number("max_angle", max_angle, "[0, inf)")

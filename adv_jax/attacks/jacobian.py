"""The Jacobian of the classes by the input, and Huang's attack on the linear model it gives."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax.attacks._attack import attack
from adv_jax.attacks._linear_model import class_values, nearest_boundary, others, over_classes
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ONE_STEP
from adv_jax.loss_gradients import labels_at, margin
from adv_jax.losses import classes
from adv_jax.perturbations import perturbed
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, Norm, RowTree


@attack(size=None, logits=False)
def class_jacobian(
    logits_fn: LogitsFn, x: Array, of: str = "probs", *, aux: RowTree | None = None
) -> tuple[Array, Array]:
    """Returns the class values and their Jacobian by the input, J_k = d value_k / d x.

    One forward pass, then one backward pass per class: in blocks of 64 rows on accelerators, one
    after another on CPUs, so that memory besides the result does not grow with the classes.
    Probabilities sum to 1: the derivative of the most probable class is minus the sum of the
    others, without a pass.

    Args:
      logits_fn: f32[B, *D] -> f32[B, K]; rows must not interact.
      x: f[B, *D].
      of: "probs", the softmax of the logits, or "logits".
      aux: side inputs of the rows, as in `fgsm`.

    Returns:
      The values f32[B, K] and the Jacobian f32[B, K, *D], with 0 for NaN.

    Raises:
      UserError: unknown `of`; x, aux or the logits of a wrong shape or dtype; a model without a
        derivative.

    Source: [huang2015], Algorithm 1, which begins with it.

    >>> w = jnp.array([[1., -1.], [2., 0.]])  # At x = 0 both probabilities are 1/2.
    >>> class_jacobian(lambda x: x @ w, jnp.zeros((1, 2)))[1]
    Array([[[ 0.5,  0.5],
            [-0.5, -0.5]]], dtype=float32)
    """
    values, pullback = class_values(logits_fn, x, of)
    batch, count = values.shape
    rows = jnp.arange(batch)
    left_out = jnp.argmax(values, axis=1) if of == "probs" else jnp.full(batch, count)
    passes = count - 1 if of == "probs" else count

    def derivative(i: Array) -> tuple[Array, Array]:
        k = i + (i >= left_out).astype(i.dtype)  # i32[B], each class but left_out, in order
        of_k = pullback(jax.nn.one_hot(k, count, dtype=values.dtype))
        return k, of_k.astype(values.dtype)

    def fill(i: Array, jacobian: Array) -> Array:
        k, of_k = derivative(i)
        return jacobian.at[rows, k].set(of_k)

    def fill_block(i: Array, jacobian: Array) -> Array:
        k, of_k = jax.vmap(derivative)(i)
        return jacobian.at[rows, k].set(of_k)

    empty = jnp.zeros_like(values, shape=(batch, count, *x.shape[1:]))
    jacobian = over_classes(fill, fill_block, empty, passes=passes, batch=batch)
    if of == "probs":
        jacobian = jacobian.at[rows, left_out].set(-jacobian.sum(axis=1))
    return values, jacobian


@attack(rank=ONE_STEP)
def adv_alpha(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    norm: Norm = "l2",
    eps: ArrayLike | None = None,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    key: Key | None = None,
) -> Array:
    """Huang's Algorithm 1 (Adv_Alpha): a step to the nearest boundary of linearized probabilities.

        r_j = argmin ||r||  such that  a_j + <T_j, r> >= a_y + <T_y, r>,   a = softmax(logits),
            = (a_y - a_j) / ||v||_* * argmax_{||u|| <= 1} <v, u>,   v = T_j - T_y = d(a_j - a_y)/dx,

    with the class j != y of the shortest r_j. That is (a_y - a_j) times v / ||v||_2^2 under l2,
    sign(v) / ||v||_1 under linf and sign(v_k) / |v_k| * e_k with the largest |v_k| under l1.
    Classes with v = 0 are skipped; if all are, x is returned unchanged.

    Args:
      norm: "l2", "linf", "l1", "rms" or an alias (`norms.canonical`).
      eps: None: r, which ends on the boundary of the linear model; f32[] or f32[B], >= 0, in units
        of x and of the norm: r scaled to this length; or the radius of each feature, as in `fgsm`,
        in units of which r is shortest.
      logits_fn, x, y, bounds, mask, aux, key: as in `fgsm`; there is no targeted form.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient. A row that is misclassified at
      x is returned unchanged without eps; with eps it moves further into the wrong class, that of
      the most negative (a_y - a_j) / ||v||_*.

    Raises:
      UserError: as `fgsm`.

    Source: [huang2015], Prop. 3 and 4, Algorithm 1, sec. 6.1.2. Printed with the
    inequality reversed, without the square under l2 and without the sign under l1.

    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> logits_fn = lambda x: x @ w
    >>> adv_alpha(logits_fn, jnp.array([[.5, .5]]), jnp.array([0]), eps=2 ** .5)
    Array([[-0.5, -0.5]], dtype=float32)
    """
    region = Region.of(x, eps, norm, bounds, mask)
    y = classes(labels_at(logits_fn, x, y))
    probs, pullback = class_values(logits_fn, x, "probs")
    rivals = others(probs.shape[1], y)
    boundary = nearest_boundary(probs, pullback, y, rivals, norm, region.scale)
    length = region.radius
    if length is None:
        stays = (margin(probs, y) > 0).reshape(boundary.distance.shape)
        length = jnp.where(stays | jnp.isinf(boundary.distance), 0, boundary.distance)
    return perturbed(x, length * boundary.direction, bounds)

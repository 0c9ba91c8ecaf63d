"""Projected gradient ascent."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._best import Best
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.loss_gradients import rate_fn, with_gradient
from adv_jax.losses import LOSSES
from adv_jax.perturbations import choose, limits, moved, spread
from adv_jax.random import row_keys, split_rows
from adv_jax.types import (
    Array,
    Bounds,
    Key,
    LogitsFn,
    Mask,
    Norm,
    RowFn,
    RowTree,
    UserError,
    check_choice,
    working_dtype,
)

Carry = tuple[Array, Array, Any]  # r, x + r, the `Best` so far or None


@attack(rank=ITERATED, row_ranges={"step_size": "[0, inf)"}, losses=LOSSES, legal_norms=norms.ALL)
def pgd(
    logits_fn: LogitsFn,
    x: Array,
    y: RowTree | None,
    *,
    eps: ArrayLike,
    step_size: ArrayLike | None = None,
    num_steps: int = 40,
    norm: Norm = "linf",
    loss: str | RowFn = "cross_entropy",
    fooled: RowFn | None = None,
    restarts: int = 1,
    random_start: bool | None = None,
    start: Array | None = None,
    returns: str = "best",
    early_stop: bool = False,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Projected gradient ascent on a loss; returns each row's best or last point.

        x_{t+1} = P(x_t + step_size * argmax_{||r|| <= 1} <grad loss(x_t, y), r>),

    P projects onto the ball around x, then clips to the bounds. `bim` is the same without
    a random start. The best point is that of highest loss among those that
    fool the model, else among all, including x.

    Args:
      eps: radius of the ball, as in `fgsm`. Under l0, PGD_0, it is the number of features that may
        change, within the bounds.
      step_size: length of one step, f32[] or f32[B], in the same units, those of the feature of
        largest eps; None: 2.5 eps / num_steps. Under l0 it is the l1 norm of a step, and None is
        2.5 times the l1 width of the bounds / num_steps.
      num_steps: gradients per restart, >= 1.
      norm: "linf", "l2", "l1", "rms", "l0" or an alias (`norms.canonical`). An l1 step changes one
        feature, which stays at its bound: within bounds `apgd` is the attack for l1.
      loss: "cross_entropy" or "binary_cross_entropy" of logits and labels, as in `fgsm`; or a
        function (outputs, y) -> f[B], where outputs are what logits_fn returns, any tree of arrays,
        and y is None or any tree of arrays f[B, ...]. Targeted, it is descended.
      fooled: (outputs, y) -> bool[B], whether a point fools the model; None: it does if its class
        is not y, or is y if targeted. With a function for loss, or y f32[B, K] of K logistic
        outputs, None: only the loss counts.
      restarts: runs from independent starts, >= 1; more than one needs a random start.
      random_start: start uniformly in the ball (needs a key) instead of at x; None: if key is
        given and `start` is not.
      early_stop: a row keeps its first point that fools, and the attack ends when all rows have
        one. False: all steps are taken, and the point that fools has the highest loss.
      start: f[B, *D], the perturbation to begin with, projected first (warm start).
      returns: "best", or "last" for adversarial training: the last point, after exactly num_steps
        gradients. The best costs two more forward passes; "last" allows no restarts.
      key: for the starts: one key, or key[B], one per row.
      logits_fn, x, y, bounds, mask, aux, targeted: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: num_steps or restarts below 1; a random start without a key or with `start`;
        restarts without a random start or with "last"; "last" with an early stop; l0 without bounds
        and step_size, or with a random start; and as `fgsm`.

    Sources: [madry2018], sec. 2.1; the step of 2.5 eps / num_steps from its public program;
    [kurakin2017], sec. 2.2 (BIM); [croce2019sparse] (PGD_0).

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> pgd(lambda x: x @ w, jnp.array([[.5, .5]]), jnp.array([0]), eps=.1, num_steps=4)
    Array([[0.4, 0.4]], dtype=float32)
    """
    random_start = _starts_at_random(random_start, start, key)
    if restarts > 1 and not random_start:
        raise UserError(f"restarts must be 1 without key and random start, got {restarts}")
    check_choice("returns", returns, ("best", "last"))
    if returns == "last":
        _check_last(restarts, early_stop)
    region = Region.of(x, eps, norm, bounds, mask)
    step = _step(step_size, num_steps, region)
    rate = rate_fn(loss, logits_fn, x, y, targeted=targeted)
    zero = jnp.zeros_like(x, working_dtype(x.dtype))
    keys = split_rows(row_keys(key, x.shape[0]), restarts) if random_start else None

    def begun(key: Key | None) -> tuple[Array, Array]:
        if key is not None:
            r = region.drawn(key)
        elif start is not None:
            r = region.nearest(start)
        else:
            r = region.clipped(zero)
        return r, moved(x, r)

    # Carry the point: computed in the same iteration, XLA would fuse it into a convolution's
    # patches and recompute it for each use of a pixel.
    def climb(carry: Carry, _: None = None) -> tuple[Carry, None]:
        r, point, best = carry
        at, gradient = with_gradient(rate, point)
        if best is not None:
            best = better(best, Best(r, at.loss, at.fools))
        r = region.nearest(r + step * region.steepest(gradient))
        return (r, moved(x, r), best), None

    def better(best: Best, here: Best) -> Best:
        found = best.or_better(here)
        return choose(best.fools, best, found) if early_stop else found

    def run(best: Best | None, key: Key | None) -> Carry:
        first = (*begun(key), best)
        if early_stop:
            return _until_fooled(climb, first, num_steps)
        return jax.lax.scan(climb, first, length=num_steps)[0]

    def restart(best: Best, key: Key | None) -> tuple[Best, None]:
        r, point, best = run(best, key)
        return better(best, rated(r, point)), None

    def rated(r: Array, point: Array) -> Best:
        at = rate(point)
        return Best(r, at.loss.astype(r.dtype), at.fools)

    if returns == "last":
        r, _, _ = run(None, None if keys is None else keys[0])
    else:
        best, _ = jax.lax.scan(restart, rated(zero, x), keys, length=restarts)
        r = best.r
    return region.perturbed(r)


@attack(rank=ITERATED, row_ranges={"step_size": "[0, inf)"}, compiles=False)
def bim(
    logits_fn: LogitsFn,
    x: Array,
    y: RowTree | None,
    *,
    eps: ArrayLike,
    step_size: ArrayLike | None = None,
    num_steps: int = 10,
    norm: Norm = "linf",
    loss: str | RowFn = "cross_entropy",
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Basic iterative method (BIM, I-FGSM): `pgd` from x, without a random start; the last point.

    Args:
      eps, step_size, num_steps, norm, loss: as in `pgd`.
      logits_fn, x, y, bounds, mask, aux, targeted: as in `fgsm`.
      key: not used; every attack accepts one.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: as `pgd`.

    Source: [kurakin2017], sec. 2.2.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> bim(lambda x: x @ w, jnp.array([[.5, .5]]), jnp.array([0]), eps=.1)
    Array([[0.4, 0.4]], dtype=float32)
    """
    return pgd(
        logits_fn,
        x,
        y,
        returns="last",
        aux=aux,
        eps=eps,
        norm=norm,
        bounds=bounds,
        mask=mask,
        step_size=step_size,
        num_steps=num_steps,
        loss=loss,
        targeted=targeted,
    )


def _starts_at_random(random_start: bool | None, start: Array | None, key: Key | None) -> bool:
    """Returns random_start, or for None whether a key alone is given.

    Raises:
      UserError: a random start with `start` or without a key.
    """
    if random_start is None:
        return key is not None and start is None
    if random_start and start is not None:
        raise UserError("start must be None for random_start=True, got an array")
    if random_start and key is None:
        raise UserError("key must be a key of jax.random for random_start=True, got None")
    return random_start


def _check_last(restarts: int, early_stop: bool) -> None:
    if restarts > 1:
        raise UserError(f'restarts must be 1 for returns="last", got {restarts}')
    if early_stop:
        raise UserError('early_stop must be False for returns="last", got True')


def _until_fooled(
    climb: Callable[[Carry], tuple[Carry, None]], first: Carry, num_steps: int
) -> Carry:
    """Climbs until all rows are fooled, at most num_steps times."""

    def unfinished(carry: tuple[Array, Carry]) -> Array:
        count, (_, _, best) = carry
        return (count < num_steps) & ~best.fools.all()

    def step(carry: tuple[Array, Carry]) -> tuple[Array, Carry]:
        count, point = carry
        return count + 1, climb(point)[0]

    return jax.lax.while_loop(unfinished, step, (jnp.int32(0), first))[1]


def _step(step_size: ArrayLike | None, num_steps: int, region: Region) -> Array:
    """Returns the length of a step, f32[1 or B, 1, ..., 1].

    Raises:
      UserError: none is given under l0 without bounds, whose ball does not limit a change's size.
    """
    x, reach = region.x, region.radius
    if step_size is not None:
        return norms.per_row("step_size", step_size, x)
    if region.norm == "l0":
        if region.bounds is None:
            raise UserError("step_size must be given for l0 without bounds, got None")
        lo, hi = limits(x, region.bounds)
        reach = spread(norms.norm(jnp.broadcast_to(hi - lo, x.shape), "l1"), x)
    return 2.5 * reach / jnp.asarray(num_steps, reach.dtype)

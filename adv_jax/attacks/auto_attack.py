"""AutoAttack: several attacks in sequence, each on the rows not fooled so far."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax.attacks._attack import attack
from adv_jax.attacks._best import Best, Shortest
from adv_jax.attacks._blocks import AttackRows, on_survivors, rows_at_a_time
from adv_jax.attacks._dlr import aimed, dlr
from adv_jax.attacks._linear_model import most_probable_others
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ENSEMBLE
from adv_jax.attacks.apgd import ascend
from adv_jax.attacks.fab import approach, away
from adv_jax.attacks.square import random_search
from adv_jax.checks import checked_logits
from adv_jax.loss_gradients import labels_at, margin, rate_fn
from adv_jax.losses import classes, cross_entropy
from adv_jax.perturbations import choose
from adv_jax.random import fold_in_rows, row_keys
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
)

VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
MEMBERS = VERSIONS["standard"]
RESTARTS = {"standard": 1, "plus": 5, "rand": 1}  # of the members without targets but square
# (rows of a block, their rivals i32[b, T], number of the run, done bool[b]) -> Fooling; its result
# for rows that are done is ignored.
Member = Callable[..., "Fooling"]


class Fooling(NamedTuple):
    """Each row's perturbation that fools the model.

    r: f32[B, *D], 0 until one is found; fools: bool[B], whether one is found.
    """

    r: Array
    fools: Array


@attack(rank=ENSEMBLE, needs_key=True, minimal=True, legal_norms=("linf", "l2"))
def auto_attack(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    eps: ArrayLike,
    norm: Norm = "linf",
    num_steps: int = 100,
    num_targets: int = 9,
    num_queries: int = 5000,
    version: str = "standard",
    members: Sequence[str] | None = None,
    block_size: int | None = None,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    key: Key | None = None,
) -> Array:
    """AutoAttack: several attacks, each on the rows not fooled so far.

        apgd-ce   apgd on the cross-entropy, from random starts
        apgd-dlr  apgd on the difference of logits ratio, from random starts
        apgd-t    apgd on the targeted ratio, for each target
        fab       to the nearest of the boundaries of all targets, from x, then from random starts
        fab-t     to the boundary of one class, for each target
        square    by forward passes only

    The targets are the num_targets most probable other classes at x. A row keeps its first
    fooling perturbation; a row that is misclassified at x, or never fooled, is returned
    unchanged. With too few classes for a ratio (2, or 3 with a target) its numerator is used.

    Args:
      eps: radius of the ball, as in `fgsm`.
      norm: "linf" or "l2", or an alias.
      num_steps: steps of each run of apgd and fab, >= 1.
      num_targets: target classes, >= 1; at most K - 1 are used.
      num_queries: forward passes of square, >= 1.
      version: "standard": apgd-ce, apgd-t, fab-t and square, one start each; "plus": apgd-ce,
        apgd-dlr, fab (five starts each), square, apgd-t and fab-t; "rand", for random models:
        apgd-ce and apgd-dlr, one start each, with `expectation(stochastic_fn, 20)` as logits_fn.
      members: names of attacks of the version, which run in its order; None: all. One call for each
        of them, each on the result of the one before, equals one for all.
      block_size: rows to attack at a time, >= 1. Affects memory and speed, not the result. None:
        32 on a CPU, whose cache they suit, and all on an accelerator.
      key: one key, or key[B], one per row.
      logits_fn, x, y, bounds, mask, aux: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: another norm, version or member; a count below 1; no key; and as `fgsm`.

    Source: [croce2020], sec. 6; members, starts and targets of the versions: its public program.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> x, y = jnp.array([[.05, .1], [.5, .5]]), jnp.array([0, 0])
    >>> x_adv = auto_attack(lambda x: x @ w, x, y, eps=.1, num_steps=9, key=jax.random.key(0))
    >>> jnp.argmax(x_adv @ w, axis=1)
    Array([1, 0], dtype=int32)
    """
    names = _names(version, members)
    keys = row_keys(key, x.shape[0])
    region = Region.of(x, eps, norm, bounds, mask)
    y = classes(labels_at(logits_fn, x, y))
    logits = checked_logits(logits_fn(x), batch=x.shape[0])
    targets = most_probable_others(logits, y)[:, :num_targets]
    rows, size = AttackRows.of(logits_fn, y, keys, region), rows_at_a_time(block_size, x.shape[0])
    climb = partial(_apgd, norm=region.norm, num_steps=num_steps)
    to_boundary = partial(_fab, norm=region.norm, num_steps=num_steps)
    restarts = RESTARTS[version]
    runs_of = {
        "apgd-ce": (partial(climb, loss=cross_entropy), restarts),
        "apgd-dlr": (partial(climb, loss=_ratio), restarts),
        "apgd-t": (partial(climb, loss=None), targets.shape[1]),
        "fab": (partial(to_boundary, targeted=False), restarts),
        "fab-t": (partial(to_boundary, targeted=True), targets.shape[1]),
        "square": (partial(_square, norm=region.norm, num_queries=num_queries), 1),
    }
    # With eps = 0 there is nothing to search.
    done = (margin(logits, y) > 0) | (region.radius.reshape(-1) == 0)
    state = Fooling(jnp.zeros_like(x, region.radius.dtype), done)
    for number, name in enumerate(VERSIONS[version]):
        if name in names:
            member, runs = runs_of[name]
            keyed = rows._replace(keys=fold_in_rows(keys, number))
            state = _run(member, keyed, targets, state, runs, size)
    return region.perturbed(state.r)


def _names(version: str, members: Sequence[str] | None) -> frozenset[str]:
    """Returns the checked names of the attacks to run."""
    check_choice("version", version, VERSIONS)
    names = VERSIONS[version] if members is None else members
    if isinstance(names, str) or not names or not set(names) <= set(VERSIONS[version]):
        raise UserError(f"members must be among {', '.join(VERSIONS[version])}, got {members!r}")
    return frozenset(names)


def _run(
    member: Member, rows: AttackRows, rivals: Array, state: Fooling, runs: int, size: int
) -> Fooling:
    """Returns the state after `runs` runs of a member, one per target or start."""

    def run(number: Array, state: Fooling) -> Fooling:
        def attack(given: tuple[AttackRows, Array], before: Fooling) -> Fooling:
            rows, rivals = given
            keyed = rows._replace(keys=fold_in_rows(rows.keys, number))
            after = member(keyed, rivals, number, before.fools)
            fresh = after.fools & ~before.fools
            return Fooling(choose(fresh, after.r, before.r), before.fools | fresh)

        return on_survivors(attack, (rows, rivals), state, size)

    return jax.lax.fori_loop(0, runs, run, state)


def _apgd(
    rows: AttackRows,
    rivals: Array,
    number: Array,
    done: Array,
    *,
    loss: RowFn | None,
    norm: str,
    num_steps: int,
) -> Fooling:
    """Climbs the loss or, if it is None, the ratio targeted at the class of that number."""
    region = rows.region(norm)
    start = region.drawn(rows.keys)
    row_loss = loss
    if row_loss is None:
        target = rivals[:, number]
        row_loss = lambda logits, y: aimed(logits, y, target)
    best = ascend(
        rate_fn(row_loss, rows.logits_fn, rows.x, rows.y),
        region,
        Best.none(start, done),
        start,
        num_steps=num_steps,
        early_stop=True,
    )
    return Fooling(best.r, best.fools)


def _fab(
    rows: AttackRows,
    rivals: Array,
    number: Array,
    done: Array,
    *,
    targeted: bool,
    norm: str,
    num_steps: int,
) -> Fooling:
    """Goes to the class of that number or, untargeted, to all rivals from the start of it."""
    region = rows.region(norm)
    start, eps = jnp.zeros_like(rows.x, rows.radius.dtype), rows.radius.reshape(-1)
    found = Shortest(start, jnp.where(done, 0, jnp.inf).astype(eps.dtype))
    rivals = rivals[:, number, None] if targeted else rivals
    if not targeted:
        start = jnp.where(number == 0, start, away(rows.keys, region, found))
    walk = partial(approach, rows.logits_fn, region, rows.y, rivals)
    found = walk(found, start, num_steps=num_steps, enough=eps)
    return Fooling(found.r, found.length <= eps)


def _square(
    rows: AttackRows,
    rivals: Array,
    number: Array,
    done: Array,
    *,
    norm: str,
    num_queries: int,
) -> Fooling:
    del rivals, number
    rate = rate_fn(margin, rows.logits_fn, rows.x, rows.y)
    nothing = Best.none(jnp.zeros_like(rows.x, rows.radius.dtype), done)
    best = random_search(rate, rows.region(norm), nothing, rows.keys, num_queries=num_queries)
    return Fooling(best.r, best.fools)


def _ratio(logits: Array, y: Array) -> Array:
    """Returns the difference of logits ratio f32[B]; with 2 classes its numerator."""
    score = dlr if logits.shape[1] >= 3 else margin
    return score(logits, y)

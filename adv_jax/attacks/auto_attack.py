"""AutoAttack: four attacks in sequence, each on the rows not fooled so far."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._ball import random_start
from adv_jax.attacks._bare import compiled
from adv_jax.attacks._best import Best, Shortest
from adv_jax.attacks._blocks import Fooling, on_survivors
from adv_jax.attacks._climbing import rate_fn
from adv_jax.attacks._linear_model import most_probable_others
from adv_jax.attacks.apgd import ascend, difference, targeted_dlr
from adv_jax.attacks.fab import approach
from adv_jax.attacks.square import random_search
from adv_jax.checks import ball, check_counts, checked, checked_logits, linf_or_l2
from adv_jax.loss_gradients import classes, labels_at, margin
from adv_jax.losses import cross_entropy
from adv_jax.perturbations import limits, perturbed
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, Norm, RowTree, UserError

MEMBERS = ("apgd-ce", "apgd-t", "fab-t", "square")
Member = Callable[..., Fooling]  # (rows of a block, target i32[b], done bool[b]) -> Fooling


class Rows(NamedTuple):
    """Inputs of the attacks, by row: the model with its side inputs (`with_aux`), x, y i32[B],
    eps f32[B, 1, ..., 1], keys[B], rivals.

    bounds, scale: of one row for all, or of B rows.
    """

    logits_fn: LogitsFn
    x: Array
    y: Array
    eps: Array
    keys: Key
    rivals: Array
    bounds: Bounds | None
    scale: Array | None


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
    members: Sequence[str] = MEMBERS,
    block_size: int = 32,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    key: Key | None = None,
) -> Array:
    """AutoAttack, standard version: four attacks, each on the rows not fooled so far.

        apgd    on the cross-entropy, one random start
        apgd    on the targeted difference of logits ratio, for each target
        fab     to the boundary of one class, for each target (FAB-T)
        square  by forward passes only

    The targets are the num_targets most probable other classes at x. A row keeps its first
    fooling perturbation; a row that is misclassified at x, or never fooled, is returned
    unchanged. With 2 or 3 classes the targeted ratio is undefined, and its numerator is used.

    Args:
      eps: radius of the ball, as in `fgsm`.
      norm: "linf" or "l2", or an alias.
      num_steps: steps of each run of apgd and fab, >= 1.
      num_targets: target classes, >= 1; at most K - 1 are used.
      num_queries: forward passes of square, >= 1.
      members: names of the attacks to run: "apgd-ce", "apgd-t", "fab-t", "square", in this order.
        One call for each of them, each on the result of the one before, equals one for all.
      block_size: rows to attack at a time, >= 1. Affects memory and speed, not the result: about
        30 suit the cache of a CPU, an accelerator needs more.
      key: one key, or key[B], one per row.
      logits_fn, x, y, bounds, mask, aux: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      ValueError: another norm or member; a count below 1; no key; and as `fgsm`.

    Source: [croce2020], sec. 6, with the targeted attacks of its
    public program's standard version.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])
    >>> x, y = jnp.array([[.05, .1], [.5, .5]]), jnp.array([0, 0])
    >>> x_adv = auto_attack(lambda x: x @ w, x, y, eps=.1, num_steps=9, key=jax.random.key(0))
    >>> jnp.argmax(x_adv @ w, axis=1)
    Array([1, 0], dtype=int32)
    """
    check_counts(num_steps=num_steps, num_targets=num_targets)
    check_counts(num_queries=num_queries, block_size=block_size)
    if isinstance(members, str) or not members or not set(members) <= set(MEMBERS):
        raise UserError(f"members must be among {', '.join(MEMBERS)}, got {members!r}")
    kind = linf_or_l2(norm)
    x = checked(logits_fn, x, y, bounds, aux)
    keys = norms.row_keys(key, x.shape[0])
    eps, scale = ball(eps, x, kind, bounds, mask)
    return compiled(
        _auto_attack,
        logits_fn,
        x,
        y,
        jnp.broadcast_to(eps, (x.shape[0], *eps.shape[1:])),
        keys,
        scale,
        norm=kind,
        num_steps=num_steps,
        num_targets=num_targets,
        num_queries=num_queries,
        names=frozenset(members),
        block_size=block_size,
        bounds=bounds,
        aux=aux,
    )


def _auto_attack(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    eps: Array,
    keys: Key,
    scale: Array | None,
    *,
    norm: str,
    num_steps: int,
    num_targets: int,
    num_queries: int,
    names: frozenset[str],
    block_size: int,
    bounds: Bounds | None,
) -> Array:
    """`auto_attack` of checked arguments; eps: f32[B, 1, ..., 1]; keys: key[B]."""
    y = classes(labels_at(logits_fn, x, y))
    logits = checked_logits(logits_fn(x), batch=x.shape[0])
    box = None if bounds is None else limits(x.astype(eps.dtype), bounds)
    targets = most_probable_others(logits, y)[:, :num_targets]
    rows = Rows(logits_fn, x, y, eps, keys, targets, box, scale)
    setting = {"norm": norm}
    climb = partial(_apgd, **setting, num_steps=num_steps)
    members = (
        (partial(climb, loss=_cross_entropy), 1),
        (partial(climb, loss=_aimed), rows.rivals.shape[1]),
        (partial(_fab, **setting, num_steps=num_steps), rows.rivals.shape[1]),
        (partial(_square, **setting, num_queries=num_queries), 1),
    )
    # With eps = 0 there is nothing to search.
    done = (margin(logits, y) > 0) | (eps.reshape(-1) == 0)
    state = Fooling(jnp.zeros_like(x, eps.dtype), done)
    for number, (name, (member, runs)) in enumerate(zip(MEMBERS, members, strict=True)):
        if name in names:
            keyed = rows._replace(keys=_folded(keys, number))
            state = _run(member, keyed, state, runs, min(block_size, x.shape[0]))
    return perturbed(x, norms.project(state.r, eps, norm, scale), bounds)


def _run(member: Member, rows: Rows, state: Fooling, runs: int, block_size: int) -> Fooling:
    """Returns the state after `runs` runs of a member, one per target."""

    def run(rank: Array, state: Fooling) -> Fooling:
        def attack(rows: Rows, done: Array) -> Fooling:
            return member(rows._replace(keys=_folded(rows.keys, rank)), rows.rivals[:, rank], done)

        return on_survivors(attack, rows, state, block_size)

    return jax.lax.fori_loop(0, runs, run, state)


def _apgd(
    rows: Rows,
    target: Array,
    done: Array,
    *,
    loss: Callable[[Array, Array, Array], Array],
    norm: str,
    num_steps: int,
) -> Fooling:
    start = random_start(rows.keys, rows.x, rows.eps, norm, rows.bounds, rows.scale)
    row_loss = lambda logits, y: loss(logits, y, target)
    best = ascend(
        rate_fn(row_loss, rows.logits_fn, rows.x, rows.y),
        rows.x,
        Best(jnp.zeros_like(start), jnp.full_like(done, -jnp.inf, start.dtype), done),
        start,
        eps=rows.eps,
        norm=norm,
        num_steps=num_steps,
        bounds=rows.bounds,
        scale=rows.scale,
        until_fooled=True,
    )
    return Fooling(best.r, best.fools)


def _fab(
    rows: Rows,
    target: Array,
    done: Array,
    *,
    norm: str,
    num_steps: int,
) -> Fooling:
    start, eps = jnp.zeros_like(rows.x, rows.eps.dtype), rows.eps.reshape(-1)
    found = approach(
        rows.logits_fn,
        rows.x,
        rows.y,
        target[:, None],
        Shortest(start, jnp.where(done, 0, jnp.inf).astype(eps.dtype)),
        start,
        norm=norm,
        num_steps=num_steps,
        bounds=rows.bounds,
        scale=rows.scale,
        enough=eps,
    )
    return Fooling(found.r, found.length <= eps)


def _square(
    rows: Rows,
    target: Array,
    done: Array,
    *,
    norm: str,
    num_queries: int,
) -> Fooling:
    del target
    r = jnp.zeros_like(rows.x, rows.eps.dtype)
    best = random_search(
        rate_fn(margin, rows.logits_fn, rows.x, rows.y),
        rows.x,
        Best(r, jnp.full_like(done, -jnp.inf, r.dtype), done),
        rows.keys,
        eps=rows.eps,
        norm=norm,
        num_queries=num_queries,
        bounds=rows.bounds,
        scale=rows.scale,
    )
    return Fooling(best.r, best.fools)


def _cross_entropy(logits: Array, y: Array, target: Array) -> Array:
    del target
    return cross_entropy(logits, y)


def _aimed(logits: Array, y: Array, target: Array) -> Array:
    score = targeted_dlr if logits.shape[1] >= 4 else difference
    return score(logits, y, target)


def _folded(keys: Key, number: Array | int) -> Key:
    """key[B] -> key[B]."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)

"""A substitute for a model of which only the predicted classes are known."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax import attacks
from adv_jax.checks import (
    as_batch,
    ball,
    check_function,
    check_logits,
    checked_apply,
    checked_count,
    own_keywords,
    traced_model,
)
from adv_jax.random import one_key
from adv_jax.step import TrainState, TrainStep
from adv_jax.types import (
    Apply,
    Array,
    Batch,
    Bounds,
    Key,
    LogitsFn,
    UserError,
    Variables,
    check_callable,
    described,
    host_array,
)

Victim = Callable[[np.ndarray], Any]  # f[B, *D] -> classes i32[B]


class Substitute(NamedTuple):
    """A substitute and what its victim was asked.

    logits_fn: f[B, *D] -> f[B, K], the substitute, for any attack.
    variables: of the substitute.
    x, y: f[Q, *D] and i32[Q], all queries and the victim's answers.
    """

    logits_fn: LogitsFn
    variables: Variables
    x: Array
    y: Array


@own_keywords
def substitute(
    victim: Victim,
    x: Array,
    *,
    apply: Apply,
    step: TrainStep,
    state: TrainState,
    rounds: int = 6,
    eps: ArrayLike = 0.1,
    epochs: int = 10,
    batch_size: int = 100,
    bounds: Bounds | None = None,
    key: Key,
) -> Substitute:
    """Trains a substitute for a model that returns classes alone, and lets us attack it.

        S_{t+1} = S_t  and  {x + eps sign(d p_y(x) / dx) : x in S_t},   y = victim(x),

    p the substitute's probabilities after `epochs` epochs on S_t: each round doubles the queries
    (Jacobian-based dataset augmentation). Training goes on from round to round. Craft examples on
    the result, and show them to the victim: `attacks.fgsm(found.logits_fn, x, y, eps=...)`, or
    `attacks.transferred` with source_fn=found.logits_fn.

    Args:
      victim: NumPy f[B, *D] -> classes, integers [B]. It may be any program. It is called
        rounds + 1 times, with N, N, 2 N, 4 N, ... rows, and asked about each row once.
      x: f[N, *D], the first queries, some of each class.
      apply: of the substitute's model (`models.apply_fn`), of as many classes as the victim.
      step: (state, batch) -> (state, metrics), as made by `step.make_step`.
      state: the initial state, as made by `step.init_state`.
      rounds: how often the queries are doubled, >= 1: N 2^rounds in all, which must fit into
        memory.
      eps: the step of the augmentation under linf, f[] or f[1, *D], in units of x.
      epochs: before the first round and after each, >= 1.
      batch_size: rows of a step, >= 1; all N if they are fewer. The rows left over at the end of
        an epoch are not used in it.
      bounds: (lo, hi) of the queries, or None for no clipping.
      key: one key, for the order of the rows.

    Raises:
      UserError: before the victim is asked: a count below 1; more rows than fit into memory; no
        key; apply, step or state of another kind; and as `attacks.fgsm`. Later: the victim returns
        anything but N classes of the substitute; the substitute diverges.

    Source: [papernot2017], sec. 4, Algorithm 1; there the substitute is trained anew in each round.

    >>> import optax
    >>> from flax import linen as nn
    >>> from adv_jax import models, objectives
    >>> from adv_jax.step import init_state, make_step
    >>> victim = lambda x: (x[:, 0] > x[:, 1]).astype(int)
    >>> x = jax.random.uniform(jax.random.key(0), (10, 2))
    >>> model, optimizer = nn.Dense(2), optax.sgd(1.)
    >>> apply = models.apply_fn(model)
    >>> step = make_step(partial(objectives.cross_entropy, apply), optimizer)
    >>> state = init_state(models.init(model, jax.random.key(1), x), optimizer, seed=0)
    >>> given = {"apply": apply, "step": step, "state": state, "key": jax.random.key(2)}
    >>> found = substitute(victim, x, rounds=2, epochs=20, **given)
    >>> found.y.shape, found.logits_fn(jnp.array([[.2, .8], [.9, .1]])).argmax(axis=1).tolist()
    ((40,), [0, 1])
    """
    check_function(victim, name="victim")
    rounds, epochs = checked_count("rounds", rounds), checked_count("epochs", epochs)
    batch_size = checked_count("batch_size", batch_size)
    if not isinstance(state, TrainState):
        raise UserError(f"state must be made by step.init_state, got a {type(state).__name__}")
    key = one_key(key)
    first = as_batch(x, bounds)
    size, most = min(len(first), batch_size), len(first) << min(rounds, 64)
    if np.shape(eps)[:1] not in ((), (1,)):
        raise UserError(f"eps must be one real number, as for all queries, got {described(eps)}")
    ball(eps, first[:size], "linf", bounds)
    apply = checked_apply(apply)
    logits = traced_model(_logits_fn(apply, state), first, name="apply")
    check_logits(logits, batch=len(first), name="apply")
    _check_step(step, state, {"x": first[:size], "y": jnp.zeros(size, jnp.int32)})
    asked = partial(_asked, victim, logits.shape[1])
    # The shape is the same in all rounds, so that one program trains.
    try:
        queries = np.zeros((most, *first.shape[1:]), first.dtype)
    except (MemoryError, ValueError):
        found = f"{rounds}, so {len(first)} * 2^{rounds} rows in all"
        raise UserError(f"rounds must leave queries that fit into memory, got {found}") from None
    answers, known = np.zeros(most, np.int32), len(first)
    queries[:known], answers[:known] = first, asked(np.asarray(first))
    train = jax.jit(partial(_epoch, step))
    for count in range(rounds + 1):
        if count:
            of_victim = queries[:known], answers[:known]
            more = _toward(_logits_fn(apply, state), *of_victim, eps, bounds, size)
            queries[known : 2 * known], answers[known : 2 * known] = more, asked(more)
            known *= 2
        arrays = {"x": jnp.array(queries), "y": jnp.array(answers)}
        for epoch in range(epochs):
            order = _order(jax.random.fold_in(key, count * epochs + epoch), known, most)
            batches = np.resize(order, (most // size, size))
            state = train(state, arrays, batches, known // size)
        _require_finite(state, f"after the training of round {count}")
    logits_fn, asked_for = _logits_fn(apply, state), map(jnp.asarray, (queries, answers))
    return Substitute(logits_fn, state.variables, *asked_for)


def _check_step(step: TrainStep, state: TrainState, batch: Batch) -> None:
    """Traces a step; raises UserError unless it is one of `make_step`."""
    check_callable(step, "step", such_as="step.make_step(objective, optimizer)")
    found = traced_model(step, state, batch, name="step", takes=("state", "batch"))
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[0], TrainState):
        allowed = "(state, metrics), as that of step.make_step"
        raise UserError(f"step must return {allowed}, got a {type(found).__name__}")


def _asked(victim: Victim, num_classes: int, x: np.ndarray) -> np.ndarray:
    """Returns the victim's classes i32[B] after checking them."""
    found = victim(x.copy())  # It may write into its input.
    y = host_array(found)
    if y is None or y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        allowed = f"classes i32[B] with B = {len(x)}"
        raise UserError(f"victim must return {allowed}, got {described(found)}")
    if (bad := y[(y < 0) | (y >= num_classes)]).size:
        last = num_classes - 1
        raise UserError(f"victim must return classes from 0 to {last}, as apply, got {bad[0]}")
    return y.astype(np.int32)


def _toward(
    logits_fn: LogitsFn,
    x: np.ndarray,
    y: np.ndarray,
    eps: ArrayLike,
    bounds: Bounds | None,
    size: int,
) -> np.ndarray:
    """Returns each row after a step that raises the probability of its class, `size` at a time."""
    moved = np.empty_like(x)
    for first in range(0, len(x), size):
        # The last rows may be those of the block before, as a shorter block is another program.
        first = min(first, len(x) - size)
        rows = slice(first, first + size)
        # The sign of the gradient of p_y is that of -cross-entropy, which does not underflow.
        batch = map(jnp.asarray, (x[rows], y[rows]))
        moved[rows] = attacks.fgsm(logits_fn, *batch, eps=eps, bounds=bounds, targeted=True)
    return moved


def _order(key: Key, rows: int, most: int) -> np.ndarray:
    """Returns the rows in random order, i32[rows], by a permutation of `most`."""
    order = np.asarray(jax.random.permutation(key, most))
    return order[order < rows]


def _epoch(
    step: TrainStep, state: TrainState, arrays: Batch, batches: Array, count: Array
) -> TrainState:
    """Returns the state after steps on the first `count` batches of rows, i32[S, B]."""

    def advance(i: Array, state: TrainState) -> TrainState:
        return step(state, jax.tree.map(lambda array: array[batches[i]], arrays))[0]

    return jax.lax.fori_loop(0, count, advance, state)


def _require_finite(state: TrainState, when: str) -> None:
    finite = (jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state.variables))
    if not all(finite):
        raise UserError(
            f"the substitute's variables must be finite, got NaN or infinity {when}: "
            "it diverges with this step"
        )


def _logits_fn(apply: Apply, state: TrainState) -> LogitsFn:
    return lambda x: apply(state.variables, x).logits

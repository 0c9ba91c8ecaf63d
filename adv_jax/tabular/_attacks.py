"""Attacks among the valid rows of a table."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax.attacks import attack, traits_of
from adv_jax.loss_gradients import margin, rate_fn, with_gradient
from adv_jax.losses import log_odds
from adv_jax.perturbations import choose
from adv_jax.random import fold_in_rows, row_keys, split_rows
from adv_jax.tabular._constraints import Constraints
from adv_jax.tabular._repair import Reach
from adv_jax.types import Array, Key, LogitsFn, Norm, RowTree, UserError, check_callable, described


class Found(NamedTuple):
    """Each row's best point so far f[B, D], its loss f[B], and whether it fools, bool[B]."""

    point: Array
    loss: Array
    fools: Array

    def or_better(self, other: "Found") -> "Found":
        """Takes points that fool before others, then those of no lower loss."""
        no_lower = (other.fools == self.fools) & (other.loss >= self.loss)
        return choose((other.fools & ~self.fools) | no_lower, other, self)


def _check(settings: Mapping[str, Any]) -> None:
    _check_constraints(settings["constraints"])
    settings["constraints"].check(settings["x"])


def _check_constraints(constraints: Any) -> None:
    if not isinstance(constraints, Constraints):
        raise UserError(f"constraints must be tabular.Constraints, got {described(constraints)}")


@attack(check=_check, confined=True)
def climb(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    eps: ArrayLike,
    constraints: Constraints,
    norm: Norm = "linf",
    num_steps: int = 40,
    restarts: int = 1,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Projected gradient ascent whose points are repaired to valid rows before each gradient.

        z_{t+1} = P(z_t) + 2 eps 2^(-6 t / T) dual(grad loss(v_t)),   v_t = repair(z_t)

    P projects onto the ball, then clips to the box of bounds and directions. The gradient is taken
    at the valid row v_t and moves z_t, whose integers and groups are not rounded (straight
    through); its real columns are those of v_t. `Constraints.project` describes the repair. The
    loss is the log odds of the other classes, which has the direction of the cross-entropy.

    In a ball of eps, a change of category has the length 1 under linf, sqrt(2) under l2 and 2
    under l1, and a step of an integer 1: a smaller eps never changes them. Columns of other scale
    get `costs` in the constraints, or an eps of their own, f[1, D].

    Args:
      x: f[B, D], valid rows. Traced ones are checked by `evaluate.evaluate` alone: elsewhere call
        `constraints.check(x)` before.
      eps: radius of the ball of ||costs * (x_adv - x)||, a number, f32[B] or f32[1 or B, D].
      constraints: the rules; its bounds stand for the keyword `bounds` of other attacks.
      norm: "linf", "l2", "l1", "rms" or an alias.
      num_steps: T, gradients of each restart, >= 1.
      restarts: >= 1; the first starts at x, the others at random points and need a key.
      logits_fn, y, aux, targeted: as in `attacks.fgsm`.

    Returns:
      f[B, D] in the dtype of x, valid rows: those that fool the model, and x where none does.

    Raises:
      UserError: a row of x breaks a rule; restarts without a key; and as `attacks.fgsm`.

    Source: after CAPGD, [simonetto2024], whose step size adapts as that of Auto-PGD does; here it
    halves six times.
    """
    if restarts > 1 and key is None:
        raise UserError(f"restarts must be 1 without a key, got {restarts}")
    reach = Reach.of(constraints, x, eps, norm)
    rate = rate_fn(log_odds, logits_fn, x, y, targeted=targeted)
    real = constraints.real

    def step(count: Array, state: tuple[Array, Found]) -> tuple[Array, Found]:
        z, best = state
        point = reach.repaired(z)
        at, gradient = with_gradient(rate, point)
        size = 2 * reach.radius * jnp.exp2(-6 * count / num_steps)
        z = jnp.where(real, point.astype(z.dtype), reach.nearest(z))
        ahead = z + size * reach.steepest(gradient)
        return ahead, best.or_better(Found(point, at.loss, at.fools))

    def restart(best: Found, turn: Array) -> tuple[Found, None]:
        start = reach.near
        if restarts > 1:
            keys = fold_in_rows(row_keys(key, x.shape[0]), turn)
            start = jnp.where(turn == 0, start, reach.nearest(reach.drawn(keys)))
        return jax.lax.fori_loop(0, num_steps + 1, step, (start, best))[1], None

    best, _ = jax.lax.scan(restart, Found(x, *rate(x)[:2]), jnp.arange(restarts))
    return jax.lax.stop_gradient(choose(best.fools, best.point, x))


@attack(gradient=False, needs_key=True, confined=True, check=_check)
def search(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    eps: ArrayLike,
    constraints: Constraints,
    norm: Norm = "linf",
    num_queries: int = 1000,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """Random search among valid rows: keeps a move that does not lower the margin.

    A move redraws some columns of the best row so far, at least one, a group as a whole, and
    repairs the row. How many is drawn anew for each row and query: each with the probability
    2^-k, k uniform from 0 to log2 D. Half of the values drawn are at the limits of a column. The
    logits need no derivative, and may be steps: of a model that tells its decisions alone, as
    2 one_hot(class), the search is a random walk. A row stops when it fools the model.

    Args:
      num_queries: forward passes after that at x, >= 1.
      key: one key, or key[B], one per row.
      logits_fn, x, y, eps, constraints, norm, aux, targeted: as in `climb`.

    Returns:
      f[B, D] in the dtype of x, valid rows: those that fool the model, and x where none does.

    Raises:
      UserError: a row of x breaks a rule; no key; and as `attacks.fgsm`.
    """
    reach = Reach.of(constraints, x, eps, norm)
    rate = rate_fn(margin, logits_fn, x, y, targeted=targeted)
    keys, width = row_keys(key, x.shape[0]), constraints.num_features
    leader = np.arange(width)
    for group in constraints.one_hot:
        leader[list(group)] = group[0]

    def moves(key: Key) -> Array:
        """Draws the columns that change, bool[D]."""
        of_share, of_columns, of_one = jax.random.split(key, 3)
        halvings = jax.random.randint(of_share, (), 0, int(np.log2(width)) + 1)
        chosen = jax.random.uniform(of_columns, (width,)) < jnp.exp2(-halvings.astype(jnp.float32))
        one = leader == jnp.asarray(leader)[jax.random.randint(of_one, (), 0, width)]
        return chosen[leader] | one

    def query(state: tuple[Array, Found]) -> tuple[Array, Found]:
        count, best = state
        of_values, of_moves = split_rows(fold_in_rows(keys, count))
        z = jnp.where(
            jax.vmap(moves)(of_moves), reach.drawn(of_values), best.point.astype(reach.lo.dtype)
        )
        point = reach.repaired(z)
        at = rate(point)
        tried = best.or_better(Found(point, at.loss, at.fools))
        return count + 1, choose(best.fools, best, tried)

    def unfinished(state: tuple[Array, Found]) -> Array:
        count, best = state
        return (count < num_queries) & ~best.fools.all()

    first = jnp.int32(0), Found(x, *rate(x)[:2])
    _, best = jax.lax.while_loop(unfinished, query, first)
    return jax.lax.stop_gradient(choose(best.fools, best.point, x))


def valid_only(attack: Callable[..., Array], constraints: Constraints) -> Callable[..., Array]:
    """Returns the attack with x in place of each example that is no valid change of x.

    So an evaluation counts invalid examples as failures. The signature and the traits are those
    of the attack, but it is confined.

    Raises:
      UserError: the attack is no function, or the constraints are no `Constraints`; when the
        result is called: as `Constraints.check`.

    >>> from adv_jax.attacks import fgsm
    >>> w, x, y = jnp.array([[1., -1.], [2., 0.]]), jnp.array([[.5, 0.]]), jnp.array([0])
    >>> valid_only(fgsm, Constraints(2, fixed=[1]))(lambda x: x @ w, x, y, eps=.1)
    Array([[0.5, 0. ]], dtype=float32)
    """
    check_callable(attack, "attack", such_as="attacks.fgsm")
    _check_constraints(constraints)

    @functools.wraps(attack)
    def attacked(logits_fn: LogitsFn, x: Array, y: RowTree | None, **settings: Any) -> Array:
        constraints.check(x)
        x_adv = attack(logits_fn, x, y, **settings)
        return choose(constraints.valid(x, x_adv), x_adv, jnp.asarray(x))

    if (traits := traits_of(attack)) is not None:
        attacked.traits = traits._replace(confined=True)  # pyrefly: ignore[missing-attribute]
    return attacked

"""Runs an attack only on the rows that are not fooled yet, with fixed shapes."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from adv_jax.attacks._region import Region
from adv_jax.perturbations import limits
from adv_jax.types import Array, Bounds, Key, LogitsFn, UserError

_CPU_BLOCK = 32  # rows whose activations suit the cache of a CPU


class _State(Protocol):
    @property
    def fools(self) -> Array: ...


Tree = TypeVar("Tree")
State = TypeVar("State", bound=_State)


class AttackRows(NamedTuple):
    """Inputs of an attack, by row: the model with its side inputs (`with_aux`), x, labels, keys[B].

    radius, bounds, scale: as in `Region`, of one row for all or of B rows.
    """

    logits_fn: LogitsFn
    x: Array
    y: Any
    keys: Key
    radius: Any
    bounds: Bounds | None
    scale: Array | None

    @classmethod
    def of(cls, logits_fn: LogitsFn, y: Any, keys: Key, region: Region) -> "AttackRows":
        x, radius, _, bounds, scale = region
        box = None if bounds is None else limits(x.astype(radius.dtype), bounds)
        return cls(_explaining_fixed_rows(logits_fn, len(x)), x, y, keys, radius, box, scale)

    def region(self, norm: str) -> Region:
        """Returns the points that an attack on these rows may reach."""
        return Region(self.x, self.radius, norm, self.bounds, self.scale)


def _explaining_fixed_rows(fn: LogitsFn, batch: int) -> Partial:
    """Returns fn, which raises UserError if it fails for another number of rows than `batch`."""
    func, aux = (fn.func, fn.args) if isinstance(fn, Partial) else (fn, ())

    def called(*inputs: Any) -> Any:
        try:
            return func(*inputs)
        except Exception as error:
            if isinstance(error, UserError) or (rows := len(inputs[-1])) == batch:
                raise
            raise UserError(
                f"logits_fn must take any rows of x, got one that fails at {rows} of {batch}: give "
                f"arrays that go with the rows as aux, or block_size={batch}"
            ) from error

    return Partial(called, *aux)


def rows_at_a_time(block_size: int | None, batch: int) -> int:
    """Returns the rows of a block; for None 32 on a CPU, and all of the batch on an accelerator."""
    if block_size is None:
        with jax.ensure_compile_time_eval():
            device = next(iter(jnp.zeros(()).devices()))  # one where the attack will run
        block_size = _CPU_BLOCK if device.platform == "cpu" else batch
    return min(block_size, batch)


def on_survivors(
    attack: Callable[[Tree, State], State], rows: Tree, state: State, size: int
) -> State:
    """Attacks the rows that are not fooled yet, `size` rows at a time; returns the new state.

    Sorted first, these rows fill the fewest blocks. The result does not depend on the blocks if
    the attack treats rows independently.

    Args:
      attack: (rows of a block, their state) -> their new state. It leaves the state of rows that
        fool already as it is.
      rows: trees of arrays with B rows, or with one row for all.
      state: arrays with B rows; `fools` is bool[B].
      size: rows of a block, at most B.
    """
    batch, count = len(state.fools), (~state.fools).sum()
    if size == batch:  # Rows that lie on several devices stay there.
        return jax.lax.cond(count > 0, lambda: attack(rows, state), lambda: state)
    order = jnp.argsort(state.fools, stable=True)
    order = jnp.pad(order, (0, -len(order) % size), mode="edge")

    def block(carry: tuple[Array, State]) -> tuple[Array, State]:
        start, state = carry
        which = jax.lax.dynamic_slice_in_dim(order, start, size)
        here, before = jax.tree.map(lambda a: a[which] if len(a) == batch else a, (rows, state))
        after = attack(here, before)
        return start + size, jax.tree.map(lambda a, b: a.at[which].set(b), state, after)

    start = jnp.zeros((), count.dtype)
    return jax.lax.while_loop(lambda carry: carry[0] < count, block, (start, state))[1]

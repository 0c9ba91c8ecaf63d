"""Small arrays of parameters as one vector, inside a loop of steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.step import TrainState
from adv_jax.types import Batch, Key, Objective, Variables


class Packing:
    """Small arrays of parameters as one vector, for a loop of steps with few kernels.

    On a GPU each array costs a launch or more in every step. Only for an optimizer that works entry
    by entry: it sees neither the names of the packed arrays nor their norms.
    """

    def __init__(self, params: Any, *, limit: int) -> None:
        """Packs the arrays of f32 with at most `limit` entries, if there are two or more.

        params: a tree of arrays, or of their shapes and dtypes.
        """
        self._leaves, self._tree = jax.tree.flatten(params)
        small = [leaf.dtype == jnp.float32 and leaf.size <= limit for leaf in self._leaves]
        self._small = small if sum(small) > 1 else []

    def pack(self, tree: Any) -> Any:
        """Returns a tree like params as (f32[n], the other leaves)."""
        if not self._small:
            return tree
        leaves = list(zip(jax.tree.leaves(tree), self._small, strict=True))
        small = [leaf.ravel() for leaf, is_small in leaves if is_small]
        return jnp.concatenate(small), [leaf for leaf, is_small in leaves if not is_small]

    def unpack(self, packed: Any) -> Any:
        """The inverse of `pack`."""
        if not self._small:
            return packed
        vector, others = packed
        sizes = [leaf.size for leaf, small in zip(self._leaves, self._small, strict=True) if small]
        parts = iter(jnp.split(vector, np.cumsum(sizes)[:-1]))
        rest = iter(others)
        leaves = (
            next(parts).reshape(leaf.shape) if is_small else next(rest)
            for leaf, is_small in zip(self._leaves, self._small, strict=True)
        )
        return jax.tree.unflatten(self._tree, leaves)

    def objective(self, objective: Objective) -> Objective:
        """Returns the objective of variables whose parameters are packed."""
        if not self._small:
            return objective
        unpack = jax.custom_vjp(self.unpack)
        # Autodiff would add up a padded vector for each array.
        unpack.defvjp(lambda packed: (self.unpack(packed), None), lambda _, g: (self.pack(g),))

        def of_packed(variables: Variables, batch: Batch, *, key: Key) -> Any:
            return objective({**variables, "params": unpack(variables["params"])}, batch, key=key)

        return of_packed

    def state(self, state: TrainState) -> TrainState:
        """Packs the parameters, and what the optimizer has for each entry of them."""
        is_like = lambda part: jax.tree.structure(part) == self._tree
        return self._mapped(state, self.pack, is_like)

    def unpacked(self, state: TrainState) -> TrainState:
        """The inverse of `state`."""
        packed = jax.tree.structure(state.params)
        return self._mapped(state, self.unpack, lambda part: jax.tree.structure(part) == packed)

    def _mapped(
        self, state: TrainState, fn: Callable[[Any], Any], is_like: Callable[[Any], bool]
    ) -> TrainState:
        if not self._small:
            return state
        each = lambda part: fn(part) if is_like(part) else part
        opt_state = jax.tree.map(each, state.opt_state, is_leaf=is_like)
        return state.replace(params=fn(state.params), opt_state=opt_state)

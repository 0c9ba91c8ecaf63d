"""Computations of rows on meshes of devices, without a word about meshes in their bodies.

In `jax.shard_map` the type of an array says over which mesh axes it varies; on a mesh with Explicit
axes it says how the array is sharded. Both must agree between the branches of a loop, so a body
that starts a loop from constants fails there. Here, bodies get inputs that vary alike, from which
they derive the state of their loops, and run with automatic axes; the model alone keeps its mesh.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
from jax.sharding import NamedSharding, PartitionSpec
from jax.tree_util import Partial

from adv_jax.types import Array

Tree = TypeVar("Tree")
Fn = Callable[[Array], Any]


def on_mesh(body: Callable[..., Any], fns: Any, x: Array, *arrays: Any, **settings: Any) -> Any:
    """Returns body(fns, x, *arrays, **settings), whatever the types of x, the arrays and fns.

    Inside `shard_map`, x and the arrays vary over all axes over which one of them, or fns at x,
    does. Explicit axes are automatic in the body and explicit again in fns.

    Args:
      body: the results have the rows as first axis.
      fns: a tree of functions f[b, *D] -> f[b, ...], each a model.
      x: f[B, *D].
      arrays: trees of arrays, or None.
    """
    axes = jax.sharding.get_abstract_mesh().manual_axes
    # An index varies, unless types do not tell, as in `pmap` and with check_vma=False.
    if axes and jax.typeof(jax.lax.axis_index(axes)).manual_axis_type.varying:
        at_x = [jax.make_jaxpr(fn)(x).out_avals for fn in jax.tree.leaves(fns, is_leaf=callable)]
        x, arrays = vary_alike((x, arrays), *itertools.chain(*at_x))
    sharding = jax.typeof(x).sharding
    if not sharding.mesh.explicit_axes:
        return body(fns, x, *arrays, **settings)
    fns = jax.tree.map(partial(_explicit, sharding), fns, is_leaf=callable)
    found = automatic(partial(body, **settings), by_rows(x))(fns, x, *arrays)
    like_x = lambda a: jax.sharding.reshard(a, sharding) if a.shape == x.shape else a
    return jax.tree.map(like_x, found)


def automatic(fn: Callable[..., Any], sharding: NamedSharding) -> Callable[..., Any]:
    """Returns fn with automatic axes in place of Explicit ones; sharding: of its results."""
    axes = sharding.mesh.explicit_axes
    return jax.sharding.auto_axes(fn, axes=axes, out_sharding=sharding) if axes else fn


def by_rows(x: Array) -> NamedSharding:
    """Returns the sharding of the first axis of x, for a result with the same rows."""
    sharding = jax.typeof(x).sharding
    return NamedSharding(sharding.mesh, PartitionSpec(sharding.spec[0]))


def vary_alike(tree: Tree, *others: Any) -> Tree:
    """Returns a tree whose arrays vary over the same axes of `shard_map`: all that occur.

    others: types of further arrays, as `jax.typeof` returns them, whose axes count too.
    """
    types = [*map(jax.typeof, jax.tree.leaves(tree)), *others]
    union = frozenset().union(*(array.manual_axis_type.varying for array in types))

    def cast(leaf: Any) -> Any:
        missing = tuple(sorted(union - jax.typeof(leaf).manual_axis_type.varying))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree)


def _explicit(sharding: NamedSharding, fn: Fn) -> Partial:
    """Returns fn with Explicit axes, to be called where they are automatic.

    sharding: of x. A batch that it does not divide is replicated.
    fn: arrays that a `Partial` holds have the rows of x, and stay its leaves.
    """
    mesh, (rows, *rest) = sharding.mesh, sharding.spec
    split = rows if isinstance(rows, tuple) else (rows,)
    shards = math.prod(mesh.shape[axis] for axis in split if axis is not None)
    fn, held = (fn.func, fn.args) if isinstance(fn, Partial) else (fn, ())

    def called(*inputs: Any) -> Any:
        *held, x = inputs
        first = None if len(x) % shards else rows
        specs = (*jax.tree.map(lambda _: PartitionSpec(first), held), PartitionSpec(first, *rest))
        return jax.sharding.explicit_axes(fn, axes=mesh.explicit_axes, in_sharding=specs)(*inputs)

    return Partial(called, *held)

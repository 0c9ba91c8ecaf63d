"""Compiled functions of models over batches, one part for each device."""

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from adv_jax import programs
from adv_jax.checks import callback_errors
from adv_jax.evaluate.batching import mesh_sharding
from adv_jax.meshes import on_mesh
from adv_jax.step import over_devices
from adv_jax.types import Array

_ADDRESS = re.compile(r"\b0x[0-9a-f]+")


class Batched:
    """(x, *arrays) -> body(fns, x, *arrays) over a leading axis of parts, one for each device.

    It is compiled once for equal jaxprs. If x lies on a mesh, its only part lies on it too.

    Args:
      body: its results are f[..., B], rows last; rows must not interact.
      fns: a tree of models.
      in_axes: as in jax.vmap, one number or one for x and each array; None: all parts share it.

    >>> import jax.numpy as jnp
    >>> double = Batched(lambda fn, x, c: c * fn(x), jnp.abs, in_axes=(0, None))
    >>> double(-jnp.ones((1, 2)), 2.)
    Array([[2., 2.]], dtype=float32)
    """

    def __init__(
        self, body: Callable[..., Any], fns: Any, *, in_axes: tuple[int | None, ...] | int = 0
    ):
        self._body, self._fns, self._in_axes = body, fns, in_axes
        self._at: dict[Any, tuple[programs.Traced, Callable[..., Any]]] = {}  # by shapes
        self._there = jax.jit(self._on_mesh)

    def __call__(self, x: Array, *arrays: Any) -> Any:
        if mesh_sharding(x) is not None:
            return self._there(x, *arrays)
        args = x, *arrays
        traced, mapped = self._prepared(args)
        leaves = mapped(*traced.arrays, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(traced.outputs), leaves)

    def trace(self, *args: Any) -> None:
        """Traces the body for args of these shapes; a call with them does not trace it again."""
        if mesh_sharding(args[0]) is not None:
            self._there.eval_shape(*args)
        else:
            self._prepared(args)

    def fingerprint(self, *args: Any) -> str:
        """Returns the SHA-256 of the operations and the arrays of the body at the shapes of args.

        It is the same in all processes.
        """
        traced, _ = self._prepared(args)
        found = hashlib.sha256(_ADDRESS.sub("", f"{traced.jaxpr.jaxpr}").encode())
        for array in traced.arrays:
            found.update(programs.array_values(array).tobytes())
        return found.hexdigest()

    def calls_back(self, *args: Any) -> bool:
        """Returns whether the body calls Python at the shapes of args."""
        return programs.calls_back(self._prepared(args)[0].jaxpr.jaxpr)

    def _on_mesh(self, *args: Any) -> Any:
        def rows_first(fns: Any, *part: Any) -> Any:
            return jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), self._body(fns, *part))

        only = [
            arg if axis is None else jax.tree.map(lambda leaf: leaf[0], arg)
            for arg, axis in zip(args, self._axes(args), strict=True)
        ]
        found = on_mesh(rows_first, self._fns, *only)
        return jax.tree.map(lambda a: jnp.moveaxis(a, 0, -1)[None], found)

    def _prepared(self, args: tuple[Any, ...]) -> tuple[programs.Traced, Callable[..., Any]]:
        leaves, tree = jax.tree.flatten(args)
        shapes = tree, tuple((np.shape(leaf), _dtype(leaf)) for leaf in leaves)
        if shapes not in self._at:
            given = zip(args, self._axes(args), strict=True)
            axes = [axis for arg, axis in given for _ in jax.tree.leaves(arg)]
            like = [_of_one_device(leaf, axis) for leaf, axis in zip(leaves, axes, strict=True)]
            body = partial(self._body, self._fns)
            # The attack's gradients are traced in the body.
            traced = programs.traced(body, *jax.tree.unflatten(tree, like), derivatives=False)
            self._at[shapes] = traced, _program(traced, axes, shapes)
        return self._at[shapes]

    def _axes(self, args: tuple[Any, ...]) -> Sequence[int | None]:
        axes = self._in_axes
        return axes if isinstance(axes, tuple) else [axes] * len(args)


def _program(traced: programs.Traced, axes: list[int | None], shapes: Any) -> Callable[..., Any]:
    """Returns the compiled function (*arrays, *leaves) -> leaves, from the cache or new."""
    # One axis for each leaf. Fewer, one for each argument, would be ambiguous to pmap.
    axes = [None] * len(traced.arrays) + axes

    def build() -> Callable[..., Any]:
        jaxpr = programs.without_arrays(traced)
        run = jaxpr_as_fun(jaxpr)
        if programs.calls_back(jaxpr.jaxpr):
            return _one_by_one(jax.jit(run), axes)
        # By default pmap spans all processes, which may evaluate different numbers of batches.
        devices = jax.local_devices() if jax.process_count() > 1 else None
        return over_devices(run, devices, in_axes=tuple(axes))

    types = tuple((np.shape(array), array.dtype) for array in traced.arrays)
    return programs.cached((traced.key, tuple(axes), shapes, types), build)


def _one_by_one(run: Callable[..., Any], axes: Sequence[int | None]) -> Callable[..., Any]:
    """Runs the parts one after another on one device.

    Python calls back one thread at a time, and callbacks from several CPU devices deadlock.
    """
    first = next(i for i, axis in enumerate(axes) if axis is not None)

    def part(leaves: tuple[Any, ...], i: int) -> list[Any]:
        return [a if axis is None else a[i] for a, axis in zip(leaves, axes, strict=True)]

    def every(*leaves: Any) -> list[Any]:
        with callback_errors():
            found = [jax.device_get(run(*part(leaves, i))) for i in range(len(leaves[first]))]
        return [np.stack(parts) for parts in zip(*found, strict=True)]

    return every


def _of_one_device(leaf: Any, axis: int | None) -> jax.ShapeDtypeStruct:
    shape = np.shape(leaf)
    return jax.ShapeDtypeStruct(shape if axis is None else shape[1:], _dtype(leaf))


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jax.dtypes.result_type(leaf)

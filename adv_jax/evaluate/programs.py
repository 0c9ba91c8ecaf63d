"""Compiled programs of evaluations, kept for the next call with an equal model.

The key of a program is the text of its jaxpr and the shapes. The arrays of the model and of the
attack are arguments, so a program holds no model, and other weights reuse it.
"""

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from adv_jax.evaluate.batching import mesh_sharding
from adv_jax.meshes import on_mesh
from adv_jax.step import over_devices
from adv_jax.types import Array

MAX_PROGRAMS = 16  # Each takes up to 750 of the 65,530 memory maps of a process on Linux.
_ADDRESS = re.compile(r"\b0x[0-9a-f]+")

_CALLBACK = re.compile(r"\b(pure|io)_callback\[")

_programs: OrderedDict[Any, Callable[..., Any]] = OrderedDict()
_lock = threading.Lock()


class _Traced(NamedTuple):
    """A function traced at the shapes of one device.

    text: its jaxpr, equal for equal functions; tree: the structure of its result.
    """

    jaxpr: ClosedJaxpr
    text: str
    tree: Any


class Program:
    """(x, *arrays) -> body(fns, x, *arrays) over a leading axis of parts, one for each device.

    It is compiled once for equal jaxprs. If x lies on a mesh, its only part lies on it too.

    Args:
      body: its results are f[..., B], rows last; rows must not interact.
      fns: a tree of models.
      in_axes: as in jax.vmap, of x and the arrays; None for one that all parts share.

    >>> import jax.numpy as jnp
    >>> double = Program(lambda fn, x, c: c * fn(x), jnp.abs, in_axes=(0, None))
    >>> double(-jnp.ones((1, 2)), 2.)
    Array([[2., 2.]], dtype=float32)
    """

    def __init__(
        self, body: Callable[..., Any], fns: Any, *, in_axes: tuple[int | None, ...] | int = 0
    ):
        self._body, self._fns, self._in_axes = body, fns, in_axes  # One axis is that of all.
        self._at: dict[Any, tuple[_Traced, Callable[..., Any]]] = {}  # by shapes
        self._there = jax.jit(self._on_mesh)

    def __call__(self, x: Array, *arrays: Any) -> Any:
        if mesh_sharding(x) is not None:
            return self._there(x, *arrays)
        args = x, *arrays
        traced, mapped = self._prepared(args)
        leaves = mapped(*traced.jaxpr.consts, *jax.tree.leaves(args))
        return jax.tree.unflatten(traced.tree, leaves)

    def fingerprint(self, *args: Any) -> str:
        """Returns the SHA-256 of the operations and the arrays of the body at the shapes of args.

        It does not depend on the process.
        """
        traced, _ = self._prepared(args)
        found = hashlib.sha256(_ADDRESS.sub("", traced.text).encode())
        for array in traced.jaxpr.consts:
            found.update(_values(array).tobytes())
        return found.hexdigest()

    def _on_mesh(self, *args: Any) -> Any:
        def rows_first(fns: Any, *part: Any) -> Any:
            return jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), self._body(fns, *part))

        only = [
            arg if axis is None else jax.tree.map(lambda leaf: leaf[0], arg)
            for arg, axis in zip(args, self._axes(args), strict=True)
        ]
        found = on_mesh(rows_first, self._fns, *only)
        return jax.tree.map(lambda a: jnp.moveaxis(a, 0, -1)[None], found)

    def _prepared(self, args: tuple[Any, ...]) -> tuple[_Traced, Callable[..., Any]]:
        leaves, tree = jax.tree.flatten(args)
        shapes = tree, tuple((_shape(leaf), _dtype(leaf)) for leaf in leaves)
        if shapes not in self._at:
            given = zip(args, self._axes(args), strict=True)
            axes = [axis for arg, axis in given for _ in jax.tree.leaves(arg)]
            like = [_of_one_device(leaf, axis) for leaf, axis in zip(leaves, axes, strict=True)]
            traced = _traced(partial(self._body, self._fns), jax.tree.unflatten(tree, like))
            self._at[shapes] = traced, _program(traced, axes, shapes)
        return self._at[shapes]

    def _axes(self, args: tuple[Any, ...]) -> Sequence[int | None]:
        axes = self._in_axes
        return axes if isinstance(axes, tuple) else [axes] * len(args)


def _traced(fn: Callable[..., Any], like: tuple[Any, ...]) -> _Traced:
    # A new function each time: JAX's trace of fn is stale once fn closes over other arrays.
    jaxpr, shape = jax.make_jaxpr(lambda *args: fn(*args), return_shape=True)(*like)
    return _Traced(jaxpr, f"{jaxpr.jaxpr}", jax.tree.structure(shape))


def _program(traced: _Traced, axes: list[int | None], shapes: Any) -> Callable[..., Any]:
    """Returns the compiled function (*consts, *leaves) -> leaves, from the cache or new."""
    jaxpr, consts = traced.jaxpr.jaxpr, traced.jaxpr.consts
    # An axis for each leaf: as a prefix, pmap takes them for one of each leaf if there are as many.
    axes = [None] * (count := len(consts)) + axes

    def build() -> Callable[..., Any]:
        def run(*leaves: Any) -> list[Any]:
            return jaxpr_as_fun(ClosedJaxpr(jaxpr, leaves[:count]))(*leaves[count:])

        if _CALLBACK.search(traced.text):
            return _one_by_one(jax.jit(run), axes)
        # By default pmap spans all processes, which may evaluate different numbers of batches.
        devices = jax.local_devices() if jax.process_count() > 1 else None
        return over_devices(run, devices, in_axes=tuple(axes))

    # A Python function or an array inside the jaxpr: the program would keep it alive.
    if _ADDRESS.search(traced.text) or any(_inner_consts(jaxpr)):
        return build()
    key = traced.text, tuple(axes), shapes, tuple((np.shape(c), c.dtype) for c in consts)
    with _lock:
        program = _programs.pop(key, None) or build()
        _programs[key] = program
        while len(_programs) > MAX_PROGRAMS:
            _programs.popitem(last=False)
    return program


def _one_by_one(run: Callable[..., Any], axes: Sequence[int | None]) -> Callable[..., Any]:
    """Runs the parts one after another on one device.

    Python calls back one thread at a time, and callbacks from several CPU devices deadlock.
    """
    first = next(i for i, axis in enumerate(axes) if axis is not None)

    def part(leaves: tuple[Any, ...], i: int) -> list[Any]:
        return [a if axis is None else a[i] for a, axis in zip(leaves, axes, strict=True)]

    def every(*leaves: Any) -> list[Any]:
        found = [jax.device_get(run(*part(leaves, i))) for i in range(len(leaves[first]))]
        return [np.stack(parts) for parts in zip(*found, strict=True)]

    return every


def _of_one_device(leaf: Any, axis: int | None) -> jax.ShapeDtypeStruct:
    shape = _shape(leaf)
    return jax.ShapeDtypeStruct(shape if axis is None else shape[1:], _dtype(leaf))


def _shape(leaf: Any) -> tuple[int, ...]:
    return leaf.shape if hasattr(leaf, "shape") else np.shape(leaf)


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jax.dtypes.result_type(leaf)


def _values(array: Any) -> np.ndarray:
    key = jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(array) if key else array)


def _inner_consts(jaxpr: Jaxpr) -> Iterator[Any]:
    """Yields the arrays that are held by the loops and calls inside a jaxpr."""
    for value in jax.tree.leaves([eqn.params for eqn in jaxpr.eqns], is_leaf=_is_jaxpr):
        if isinstance(value, ClosedJaxpr):
            yield from (True for _ in value.consts)
        if _is_jaxpr(value):
            yield from _inner_consts(getattr(value, "jaxpr", value))


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)

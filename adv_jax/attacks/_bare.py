"""A call outside `jit`, as one compiled program that the next call of its kind finds again.

JAX compiles a loop that is called bare anew each time, and keeps each program: a few thousand calls
end the process. Here a program belongs to what it computes: the attack, its settings, the shapes,
and the operations of the model, whose arrays are arguments. So other weights and another lambda of
the same model need no other program, no program holds a model, and the oldest programs are dropped.
"""

import contextlib
import contextvars
import operator
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from adv_jax.types import Array, Bounds

MOST_PROGRAMS = 64  # Of auto_attack, 750 memory maps each; a Linux process may have 65,530.

Fn = Callable[[Array], Array]


class Model(NamedTuple):
    """A function f[B, *D] -> f[B, ...] by its operations at one shape, and the arrays it reads.

    like: shape and type of x; traced: the function there.
    operations: all that it does, and its derivative.
    own: filled where a program has read arrays that are no arguments: it is for this model alone.
    """

    fn: Fn
    like: Any
    traced: ClosedJaxpr
    operations: str
    own: list[Array]


_called: contextvars.ContextVar[Model] = contextvars.ContextVar("called")
_programs: OrderedDict[Any, Callable[..., Any]] = OrderedDict()
_lock = threading.Lock()


def compiled(
    body: Callable[..., Any],
    fn: Fn,
    x: Array,
    *arrays: Any,
    bounds: Bounds | None,
    **settings: Any,
) -> Any:
    """body(fn, x, *arrays, bounds, **settings), in one program unless one is being traced already.

    Args:
      body: a function of a module, which closes over nothing.
      fn: f[B, *D] -> f[B, ...], differentiable; no gradient flows to what it closes over.
      x: f[B, *D].
      arrays: trees of arrays, or None.
      bounds: as of an attack.
      settings: hashable, or whole numbers of any type.
    """
    for name, value in settings.items():
        if isinstance(value, np.ndarray | jax.Array):
            settings[name] = operator.index(value)
    settings["bounds"] = None if bounds is None else (float(bounds[0]), float(bounds[1]))
    if is_tracing():
        return body(fn, x, *arrays, **settings)
    model = _model(fn, x)
    inputs = model.traced.consts, x, arrays
    leaves, tree = jax.tree.flatten(inputs)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    key = body, model.operations, tuple(sorted(settings.items())), tree, shapes
    token = _called.set(model)
    try:
        return _program(key, body, settings)(*inputs)
    finally:
        _called.reset(token)
        if model.own:
            with _lock:
                _programs.pop(key, None)


def is_tracing() -> bool:
    """Whether what JAX computes now would be staged into a program."""
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def _model(fn: Fn, x: Array) -> Model:
    """What fn does at x and on the way back, by which two functions are equal or not."""

    def both(x: Array) -> tuple[Array, tuple[Array]]:
        y, pullback = jax.vjp(fn, x)
        return y, pullback(y)

    traced = _traced(fn, x)
    operations = f"{traced.jaxpr}"
    # Where fn has no derivative, a search by queries alone needs none.
    with contextlib.suppress(Exception):
        operations += f"{jax.make_jaxpr(both)(x).jaxpr}"
    return Model(fn, jax.typeof(x), traced, operations, [])


def _traced(fn: Fn, x: Any) -> ClosedJaxpr:
    # A new function each time: what JAX remembers of fn is out of date once fn closes over others.
    return jax.make_jaxpr(lambda x: fn(x))(x)


def _program(key: Any, body: Callable[..., Any], settings: dict[str, Any]) -> Callable[..., Any]:
    """The compiled body, from the last few programs or a new one."""

    def run(consts: list[Array], x: Array, arrays: tuple[Any, ...]) -> Any:
        return body(_replayed(_called.get(), jax.lax.stop_gradient(consts)), x, *arrays, **settings)

    with _lock:
        program = _programs.setdefault(key, jax.jit(run))
        _programs.move_to_end(key)
        while len(_programs) > MOST_PROGRAMS:
            _programs.popitem(last=False)
    return program


def _replayed(model: Model, consts: list[Array]) -> Fn:
    """The model with these in place of the arrays that it reads, for inputs of any batch."""

    def fn(x: Array) -> Array:
        like = jax.typeof(x)
        if (like.shape, like.dtype) == (model.like.shape, model.like.dtype):
            traced, given = model.traced, consts
        else:
            traced = _traced(model.fn, like)
            given = _matched(model, traced.consts, consts)
        (y,) = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, given))(x)
        return y

    return fn


def _matched(model: Model, found: list[Array], consts: list[Array]) -> list[Array]:
    """The arguments for the arrays that the model reads at another shape: the same, in order."""
    if len(found) == len(consts) and all(map(_equal, found, model.traced.consts)):
        return consts
    model.own.extend(found)
    return found


def _equal(a: Array, b: Array) -> bool:
    if a is b:
        return True
    known = not any(isinstance(array, jax.core.Tracer) for array in (a, b))
    return known and a.dtype == b.dtype and np.array_equal(a, b)

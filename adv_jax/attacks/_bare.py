"""Caches the compiled programs of attacks that are called outside `jit`.

Outside `jit`, JAX compiles every operation alone, some 200 for a step on a LeNet; it recompiles a
loop in each call and keeps every program, so that a few thousand calls exhaust the process. The
cache key is the attack, its settings, the shapes and the operations of the model, whose arrays are
arguments. Other weights, or another lambda of the same model, reuse the program; no program holds
a model, and the least recently used programs are dropped.
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

from adv_jax.checks import check_flags, is_known, is_tracing, logit_flags
from adv_jax.convolution import fast_in_loops
from adv_jax.meshes import on_mesh
from adv_jax.types import Array, Bounds

MAX_PROGRAMS = 64  # auto_attack takes 750 memory maps each; Linux allows 65,530 per process.

Fn = Callable[[Array], Array]


class Model(NamedTuple):
    """A function f[B, *D] -> f[B, ...], traced at one shape.

    like: shape and dtype of x; traced: the jaxpr of fn there.
    operations: the jaxprs of fn and its derivative, as text.
    own: arrays that a program holds because they are not among its arguments. If there are any,
      the program is not reused.
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
    logits: bool = True,
    **settings: Any,
) -> Any:
    """Returns body(fn, x, *arrays, bounds, **settings), compiled unless JAX is tracing already.

    Convolutions and poolings of fn are made fast in the loops of attacks (`fast_in_loops`).

    Args:
      body: a module-level function, without closure.
      fn: f[B, *D] -> f[B, ...]; no gradient flows to the arrays it closes over.
      x: f[B, *D].
      arrays: trees of arrays, or None.
      bounds: as in `fgsm`.
      logits: fn returns logits. Outside tracing those at x are checked, in the same program.
      settings: hashable, or integers of any dtype.

    Raises:
      UserError: logits are not finite or look like probabilities.
    """
    for name, value in settings.items():
        if isinstance(value, np.ndarray | jax.Array):
            settings[name] = operator.index(value)
    settings["bounds"] = None if bounds is None else (float(bounds[0]), float(bounds[1]))
    if is_tracing():
        return on_mesh(body, fast_in_loops(fn), x, *arrays, **settings)
    model = _model(fn, x)
    inputs = model.traced.consts, x, arrays
    leaves, tree = jax.tree.flatten(inputs)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    key = body, model.operations, logits, tuple(sorted(settings.items())), tree, shapes
    token = _called.set(model)
    try:
        found, flags = _program(key, body, logits, settings)(*inputs)
    finally:
        _called.reset(token)
        if model.own:
            with _lock:
                _programs.pop(key, None)
    if logits and is_known(flags["finite"]):
        check_flags(jax.device_get(flags), "x")
    return found


def check_logits_at(fn: Fn, x: Array, bounds: Bounds | None) -> None:
    """Checks the logits at x as `compiled` does, for an attack that is not compiled."""
    compiled(_nothing, fn, x, bounds=bounds)


def _nothing(fn: Fn, x: Array, *, bounds: Bounds | None) -> None:
    del fn, x, bounds


def _model(fn: Fn, x: Array) -> Model:
    """Traces fn and its vjp at x; functions with equal jaxprs share a program."""

    def both(x: Array) -> tuple[Array, tuple[Array]]:
        y, pullback = jax.vjp(fn, x)
        return y, pullback(y)

    traced = _traced(fn, x)
    operations = f"{traced.jaxpr}"
    # fn may lack a derivative: attacks by forward passes alone do not need one.
    with contextlib.suppress(Exception):
        operations += f"{jax.make_jaxpr(both)(x).jaxpr}"
    return Model(fn, jax.typeof(x), traced, operations, [])


def _traced(fn: Fn, x: Any) -> ClosedJaxpr:
    # A new function each time: JAX's trace of fn is stale once fn closes over other arrays.
    return jax.make_jaxpr(lambda x: fn(x))(x)


def _program(
    key: Any, body: Callable[..., Any], logits: bool, settings: dict[str, Any]
) -> Callable[..., Any]:
    """Returns the compiled body and the flags of the logits at x, from the cache or new."""

    def run(consts: list[Array], x: Array, arrays: tuple[Any, ...]) -> tuple[Any, dict[str, Array]]:
        fn = _replayed(_called.get(), jax.lax.stop_gradient(consts))
        flags = logit_flags(fn(x)) if logits else {}
        return on_mesh(body, fn, x, *arrays, **settings), flags

    with _lock:
        program = _programs.setdefault(key, jax.jit(run))
        _programs.move_to_end(key)
        while len(_programs) > MAX_PROGRAMS:
            _programs.popitem(last=False)
    return program


def _replayed(model: Model, consts: list[Array]) -> Fn:
    """Returns the model's function with its arrays replaced by `consts`, for any batch size."""

    def fn(x: Array) -> Array:
        like = jax.typeof(x)
        if (like.shape, like.dtype) == (model.like.shape, model.like.dtype):
            traced, given = model.traced, consts
        else:
            traced = _traced(model.fn, like)
            given = _matched(model, traced.consts, consts)
        return fast_in_loops(lambda x: jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, given))(x)[0])(x)

    return fn


def _matched(model: Model, found: list[Array], consts: list[Array]) -> list[Array]:
    """Returns `consts` if the model reads the same arrays at another shape, else `found`."""
    if len(found) == len(consts) and all(map(_equal, found, model.traced.consts)):
        return consts
    model.own.extend(found)
    return found


def _equal(a: Array, b: Array) -> bool:
    if a is b:
        return True
    known = not any(isinstance(array, jax.core.Tracer) for array in (a, b))
    return known and a.dtype == b.dtype and np.array_equal(a, b)

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

from adv_jax.checks import check_finite, check_flags, is_known, is_tracing, logit_flags, with_aux
from adv_jax.convolution import fast_in_loops
from adv_jax.loss_gradients import Rated, with_gradient
from adv_jax.meshes import on_mesh
from adv_jax.types import Array, Bounds, RowTree, UserError, working_dtype

MAX_PROGRAMS = 64  # auto_attack takes 750 memory maps each; Linux allows 65,530 per process.

Fn = Callable[..., Any]  # (x f[B, *D]) or (x, aux) -> a tree of f[B, ...]


class Model(NamedTuple):
    """A function of x, or of x and aux, traced at one shape.

    like: shapes and dtypes of the arguments; traced: the jaxpr of fn there.
    outputs: the structure of fn's result.
    operations: the jaxprs of fn and its derivative, as text.
    own: arrays that a program holds because they are not among its arguments. If there are any,
      the program is not reused.
    """

    fn: Fn
    like: Any
    traced: ClosedJaxpr
    outputs: Any
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
    aux: RowTree | None = None,
    logits: bool = True,
    decisions: bool = False,
    **settings: Any,
) -> Any:
    """Returns body(fn, x, *arrays, bounds, **settings), compiled unless JAX is tracing already.

    The body calls fn with x alone: with side inputs it gets `with_aux(fn, aux)`.
    Convolutions and poolings of fn are made fast in the loops of attacks (`fast_in_loops`).

    Args:
      body: a module-level function, without closure.
      fn: f[B, *D] -> a tree of f[B, ...], or with side inputs (f[B, *D], aux) -> tree; no gradient
        flows to aux and to the arrays it closes over.
      x: f[B, *D].
      arrays: trees of arrays, or None.
      bounds: as in `fgsm`; arguments of the program, also where they are numbers.
      aux: as in `fgsm`.
      logits: fn returns logits; else it may return `Rated`. Outside tracing the logits, or the loss
        and its gradient, are checked at x, in the same program.
      decisions: the body uses the argmax of the logits alone; these may be probabilities.
      settings: hashable, or integers of any dtype.

    Raises:
      UserError: logits are not finite or look like probabilities; a loss is not finite, or its
        gradient is NaN.
    """
    for name, value in settings.items():
        if isinstance(value, np.ndarray | jax.Array):
            settings[name] = operator.index(value)
    bounds = as_arrays(bounds, x)
    aux = jax.lax.stop_gradient(aux)
    if is_tracing():
        return run_on_mesh(
            body, with_aux(fast_in_loops(fn), aux), x, *arrays, bounds=bounds, **settings
        )
    model = _model(fn, (x,) if aux is None else (x, aux))
    inputs = model.traced.consts, x, aux, arrays, bounds
    leaves, tree = jax.tree.flatten(inputs)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    options = tuple(sorted(settings.items()))
    key = body, model.operations, model.outputs, logits, options, tree, shapes
    token = _called.set(model)
    try:
        found, flags = _program(key, body, logits, settings)(*inputs)
    finally:
        _called.reset(token)
        if model.own:
            with _lock:
                _programs.pop(key, None)
    if all(map(is_known, flags.values())):
        flags = jax.device_get(flags)
        if not logits:
            _check_loss(flags)
        else:
            check_finite(flags["finite"], "x") if decisions else check_flags(flags, "x")
    return found


def run_on_mesh(
    body: Callable[..., Any],
    fn: Fn,
    x: Array,
    *arrays: Any,
    bounds: Bounds | None,
    **settings: Any,
) -> Any:
    """Returns body(fn, x, *arrays, bounds, **settings) on the mesh of x (`on_mesh`)."""

    def of_arrays(fn: Fn, x: Array, bounds: Any, *arrays: Any) -> Any:
        return body(fn, x, *arrays, bounds=bounds, **settings)

    return on_mesh(of_arrays, fn, x, bounds, *arrays)


def as_arrays(bounds: Bounds | None, x: Array) -> Bounds | None:
    """Returns the bounds as arrays of the dtype in which x is attacked."""
    if bounds is None:
        return None
    dtype = working_dtype(x.dtype)
    lo, hi = (b if isinstance(b, jax.Array) else np.asarray(b, dtype) for b in bounds)
    return lo, hi


def check_at(
    fn: Fn,
    x: Array,
    bounds: Bounds | None,
    aux: RowTree | None = None,
    *,
    logits: bool = True,
) -> None:
    """Checks the logits or the loss at x as `compiled` does, for an attack that is not compiled."""
    compiled(_nothing, fn, x, bounds=bounds, aux=aux, logits=logits)


def _nothing(fn: Fn, x: Array, *, bounds: Bounds | None) -> None:
    del fn, x, bounds


def _loss_flags(fn: Fn, x: Array) -> dict[str, Array]:
    """Returns the rows with a usable {"loss", "gradient"}, bool[B], if fn returns `Rated`."""
    at = fn(x)
    if not isinstance(at, Rated):
        return {}
    flags = {"loss": jnp.isfinite(at.loss)}
    if at.unit is not None:
        _, gradient = with_gradient(fn, x)
        flags["gradient"] = ~jnp.isnan(gradient).reshape(len(x), -1).any(axis=1)
    return flags


def _check_loss(flags: dict[str, np.ndarray]) -> None:
    """Checks the flags that `_loss_flags` gives for all rows.

    Raises:
      UserError: the loss of a row is not finite, or its gradient is NaN.
    """
    words = {
        "loss": "loss must return finite numbers, got NaN or infinity",
        "gradient": "loss must have a gradient by x, got NaN",
    }
    for name, usable in flags.items():
        if bad := int((~usable).sum()):
            raise UserError(f"{words[name]} for {bad} of {len(usable)} rows of x")


def _model(fn: Fn, inputs: tuple[Any, ...]) -> Model:
    """Traces fn and its vjp by x; functions with equal jaxprs share a program."""

    def both(x: Array, *aux: RowTree) -> tuple[list[Array], tuple[Array]]:
        y, pullback = jax.vjp(lambda x: _floats(fn(x, *aux)), x)
        return y, pullback(y)

    traced, outputs = _traced(fn, inputs)
    operations = f"{traced.jaxpr}"
    # fn may lack a derivative: attacks by forward passes alone do not need one.
    with contextlib.suppress(Exception):
        operations += f"{jax.make_jaxpr(both)(*inputs).jaxpr}"
    return Model(fn, jax.tree.map(jax.typeof, inputs), traced, outputs, operations, [])


def _floats(outputs: Any) -> list[Array]:
    return [leaf for leaf in jax.tree.leaves(outputs) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _traced(fn: Fn, inputs: tuple[Any, ...]) -> tuple[ClosedJaxpr, Any]:
    """Returns the jaxpr of fn and the structure of its result."""
    # A new function each time: JAX's trace of fn is stale once fn closes over other arrays.
    traced, outputs = jax.make_jaxpr(lambda *inputs: fn(*inputs), return_shape=True)(*inputs)
    return traced, jax.tree.structure(outputs)


def _program(
    key: Any, body: Callable[..., Any], logits: bool, settings: dict[str, Any]
) -> Callable[..., Any]:
    """Returns the compiled body and the flags of the logits at x, from the cache or new."""

    def run(
        consts: list[Array],
        x: Array,
        aux: RowTree | None,
        arrays: tuple[Any, ...],
        bounds: Bounds | None,
    ) -> tuple[Any, dict[str, Array]]:
        fn = with_aux(_replayed(_called.get(), jax.lax.stop_gradient(consts)), aux)
        flags = logit_flags(fn(x)) if logits else _loss_flags(fn, x)
        return run_on_mesh(body, fn, x, *arrays, bounds=bounds, **settings), flags

    with _lock:
        program = _programs.setdefault(key, jax.jit(run))
        _programs.move_to_end(key)
        while len(_programs) > MAX_PROGRAMS:
            _programs.popitem(last=False)
    return program


def _replayed(model: Model, consts: list[Array]) -> Fn:
    """Returns the model's function with its arrays replaced by `consts`, for any batch size."""

    def fn(*inputs: Any) -> Any:
        like = jax.tree.map(jax.typeof, inputs)
        if _shapes(like) == _shapes(model.like):
            traced, given = model.traced, consts
        else:
            traced, _ = _traced(model.fn, like)
            given = _matched(model, traced.consts, consts)
        replay = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, given))
        outputs = fast_in_loops(replay)(*jax.tree.leaves(inputs))
        return jax.tree.unflatten(model.outputs, outputs)

    return fn


def _shapes(tree: Any) -> list[tuple[Any, Any]]:
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


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

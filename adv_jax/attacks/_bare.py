"""Runs the bodies of attacks: compiled, if they are called outside `jit` (`adv_jax.programs`)."""

import contextvars
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from adv_jax import programs
from adv_jax.attacks._hoisting import hoisted
from adv_jax.checks import check_finite, check_flags, logit_flags, traced_model, with_aux
from adv_jax.convolution import fast_in_loops
from adv_jax.loss_gradients import Rated, labels_at, loss_flags
from adv_jax.losses import with_dtype
from adv_jax.meshes import on_mesh
from adv_jax.row_flags import check_noted, noted_flags, rows_flagged
from adv_jax.types import Array, Bounds, RowTree, check_known, dtype_of, is_known, working_dtype

Fn = Callable[..., Any]  # (x f[B, *D]) or (x, aux) -> a tree of f[B, ...]


class Model(NamedTuple):
    """A function of x, or of x and aux, traced at one shape.

    own: arrays that a program holds because they are not among its arguments. If there are any,
      the program is not reused.
    """

    fn: Fn
    like: list[Any]  # shapes and dtypes of the leaves of the arguments
    traced: programs.Traced
    own: list[Array]


_called: contextvars.ContextVar[Model] = contextvars.ContextVar("called")


def run_body(
    body: Callable[..., Any],
    fn: Fn,
    x: Array,
    *arrays: Any,
    bounds: Bounds | None,
    aux: RowTree | None = None,
    name: str = "logits_fn",
    logits: bool = True,
    decisions: bool = False,
    constant: bool = True,
    check: Callable[..., tuple[Any, ...]] = lambda outputs, *arrays: arrays,
    **settings: Any,
) -> Any:
    """Returns body(fn, x, *arrays, bounds, **settings), compiled unless JAX is tracing already.

    The body calls fn with x alone: with side inputs it gets `with_aux(fn, aux)`.
    Convolutions and poolings of fn are made fast in the loops of attacks (`fast_in_loops`).

    Args:
      body: a module-level function, without closure.
      fn: f[B, *D] -> a tree of f[B, ...], or with side inputs (f[B, *D], aux) -> tree; no gradient
        flows to aux, nor to the arrays it closes over if constant.
      x: f[B, *D].
      arrays: trees of arrays, or None.
      bounds: as in `fgsm`; arguments of the program, also where they are numbers.
      aux: as in `fgsm`.
      name: of fn, for messages.
      logits: fn returns logits, or `Rated`. Outside tracing the logits, or the loss and its
        gradient, are checked at x, in the same program. Else the body may note flags of its own.
      decisions: the body uses the argmax of the logits alone; these may be probabilities.
      check: (shapes and dtypes of what fn returns, *arrays) -> the arrays to pass on, outside
        tracing.
      settings: hashable.

    Raises:
      UserError: fn cannot be traced; logits are not finite or look like probabilities; a loss is
        not finite, or its gradient is NaN.
    """
    bounds = as_arrays(bounds, x)
    aux = jax.lax.stop_gradient(aux)
    if programs.is_tracing():
        return run_on_mesh(
            body, with_aux(fast_in_loops(fn), aux), x, *arrays, bounds=bounds, **settings
        )
    inputs = (x,) if aux is None else (x, aux)
    with programs.plain_errors():
        found = traced_model(fn, *inputs, name=name, by=programs.traced)
        arrays = check(found.outputs, *arrays)
    model = Model(fn, _shapes(inputs), found, [])
    given = found.arrays, x, aux, arrays, bounds
    tree, others = jax.tree.structure(given), jax.tree.leaves((arrays, bounds))
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in others)
    options = tuple(sorted(settings.items()))
    outputs = jax.tree.structure(found.outputs)
    key = body, found.key, outputs, logits, constant, options, tree, shapes
    token = _called.set(model)
    try:
        with programs.plain_errors():
            program = programs.cached(key, lambda: _program(body, logits, constant, settings))
            found, flags = program(*given)
    finally:
        _called.reset(token)
        if model.own:
            programs.dropped(key)
    if all(map(is_known, flags.values())):
        _check(jax.device_get(flags), decisions=decisions)
    return found


def run_on_mesh(
    body: Callable[..., Any],
    fn: Fn,
    x: Array,
    *arrays: Any,
    bounds: Bounds | None,
    outputs: Any = None,
    **settings: Any,
) -> Any:
    """Returns body(fn, x, *arrays, bounds, **settings) on the mesh of x (`on_mesh`).

    What does not depend on x is computed before the body (`hoisted`).

    outputs: what fn returns at x, which the body then need not compute; None: unknown.
    """

    def of_arrays(fn: Fn, at: Array, bounds: Any, *arrays: Any) -> Any:
        fn = hoisted(fn, at)
        if outputs is not None and at is x:
            fn = _reusing_outputs(fn, x, outputs)
        return body(fn, at, *arrays, bounds=bounds, **settings)

    return on_mesh(of_arrays, fn, x, bounds, *arrays)


def _reusing_outputs(fn: Partial, x: Array, outputs: Any) -> Partial:
    """Returns fn, which gives these outputs for x itself, so that a service is not asked twice."""
    known = jax.tree.leaves((fn.args, x))

    def called(*inputs: Any) -> Any:
        given = jax.tree.leaves(inputs)
        is_x = len(given) == len(known) and all(map(operator.is_, given, known))
        return outputs if is_x else fn.func(*inputs)

    return Partial(called, *fn.args)


def as_arrays(bounds: Bounds | None, x: Array) -> Bounds | None:
    """Returns the bounds as arrays of the dtype in which x is attacked."""
    if bounds is None:
        return None
    dtype = working_dtype(x.dtype)
    lo, hi = (b if isinstance(b, jax.Array) else np.asarray(b, dtype) for b in bounds)
    return lo, hi


def given_or_predicted(
    fn: Fn, x: Array, y: Array | None, aux: RowTree | None, *, targeted: bool
) -> Array:
    """Returns `labels_at` x of a model with side inputs: the prediction is compiled and checked.

    Raises:
      UserError: known integers of y have more than 32 bits; as `run_body`.
    """
    if y is not None and jnp.issubdtype(dtype_of(y), jnp.integer):
        check_fits(y, jnp.int32, "classes of 32 bits")
        y = with_dtype(y, jnp.int32)
    if y is not None or targeted:
        return labels_at(fn, x, y, targeted=targeted)
    return run_body(_predicted, fn, x, bounds=None, aux=aux)


def _predicted(fn: Fn, x: Array, *, bounds: None) -> Array:
    del bounds
    return labels_at(fn, x, None)


def check_fits(y: Any, dtype: Any, what: str) -> None:
    """Raises UserError for known integers that a narrower dtype would wrap; `what` it holds."""
    least, most = int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max)
    if jnp.iinfo(dtype_of(y)).max > most:
        check_known("y", y, lambda label: (label >= least) & (label <= most), what)


def _program(
    body: Callable[..., Any], logits: bool, constant: bool, settings: dict[str, Any]
) -> Callable[..., Any]:
    """Returns the compiled body, whose result is that and the flags of the model at x."""

    def run(
        own: list[Array],
        x: Array,
        aux: RowTree | None,
        arrays: tuple[Any, ...],
        bounds: Bounds | None,
    ) -> tuple[Any, dict[str, Array]]:
        own = jax.lax.stop_gradient(own) if constant else own
        model = _called.get()
        fn = with_aux(_replayed(model, own), aux)
        outputs = fn(x) if logits else None
        # XLA computes equal passes once, unless they call Python.
        known = outputs if programs.calls_back(model.traced.jaxpr.jaxpr) else None
        given = {"bounds": bounds, "outputs": known, **settings}
        if logits:
            return run_on_mesh(body, fn, x, *arrays, **given), _flags(fn, x, outputs)
        with noted_flags() as noted:
            found = run_on_mesh(body, fn, x, *arrays, **given)
        return found, rows_flagged(noted, len(x))

    return jax.jit(run)


def _flags(fn: Fn, x: Array, at: Any) -> dict[str, Array]:
    """Returns what is checked of the logits, or of a loss of the user, at x: bool[B] each.

    at: fn(x).
    """
    if not isinstance(at, Rated):
        return logit_flags(at)
    return {**(at.flags or {}), **loss_flags(fn, x)}


def _check(flags: Mapping[str, np.ndarray], *, decisions: bool) -> None:
    """Checks the `_flags` of all rows.

    Raises:
      UserError: as `run_body`.
    """
    if "finite" in flags:
        check_finite(flags["finite"], "x") if decisions else check_flags(flags)
    check_noted(flags)


def _replayed(model: Model, arrays: list[Array]) -> Fn:
    """Returns the model's function with its arrays replaced, for any batch size."""

    def fn(*inputs: Any) -> Any:
        found, given = model.traced, arrays
        if _shapes(inputs) != model.like:
            found = programs.traced(model.fn, *jax.tree.map(jax.typeof, inputs))
            given = _matched(model, found.arrays, arrays)
        replay = lambda *leaves: programs.replayed(found.jaxpr, given, leaves)
        outputs = fast_in_loops(replay)(*jax.tree.leaves(inputs))
        return jax.tree.unflatten(jax.tree.structure(found.outputs), outputs)

    return fn


def _shapes(tree: Any) -> list[tuple[Any, Any]]:
    return [(leaf.shape, leaf.dtype) for leaf in map(jax.typeof, jax.tree.leaves(tree))]


def _matched(model: Model, found: list[Array], arrays: list[Array]) -> list[Array]:
    """Returns `arrays` if the model reads the same ones at another shape, else `found`."""
    if len(found) == len(arrays) and all(map(_equal, found, model.traced.arrays)):
        return arrays
    model.own.extend(found)
    return found


def _equal(a: Array, b: Array) -> bool:
    if a is b:
        return True
    known = is_known(a) and is_known(b)
    return known and a.dtype == b.dtype and np.array_equal(a, b)

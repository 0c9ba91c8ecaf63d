"""Calls of attacks: checks of their arguments, then the body, compiled unless JAX is tracing."""

import contextlib
import contextvars
import inspect
import operator
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import programs
from adv_jax.attacks._bare import check_loss, loss_flags
from adv_jax.attacks._climbing import check_kinds, checked_start, loss_of_logits, rating
from adv_jax.attacks._traits import NOISE, Traits
from adv_jax.checks import (
    as_batch,
    ball,
    check_counts,
    check_finite,
    check_flags,
    check_function,
    check_logits,
    check_range,
    check_rows,
    checked_labels,
    is_known,
    is_tracing,
    logit_flags,
    traced,
    with_aux,
)
from adv_jax.convolution import fast_in_loops
from adv_jax.loss_gradients import Rated, labels_at
from adv_jax.meshes import on_mesh
from adv_jax.random import key_of_rows
from adv_jax.types import Array, Bounds, RowFn, RowTree, UserError, working_dtype

Fn = Callable[..., Any]  # (x f[B, *D]) or (x, aux) -> a tree of f[B, ...]
Settings = dict[str, Any]


class Body(NamedTuple):
    """The function of an attack, and what is checked before it runs.

    fn: (logits_fn, x, y, *, settings) -> x_adv, traceable. In it aux is None, and loss is a name,
      or None if logits_fn returns `Rated`.
    ranges: of real settings, one number for all rows, such as {"rho": "[0, 1]"}.
    row_ranges: of those that may also be f32[B].
    losses: by name, if it climbs one of them or a function of the user; else None.
    sparse: the attack knows the norm l0.
    check: (settings) -> None, of what settings forbid each other before losses become `Rated`.
    """

    fn: Callable[..., Array]
    traits: Traits = Traits(size=None)
    ranges: Mapping[str, str] = {}
    row_ranges: Mapping[str, str] = {}
    losses: Mapping[str, RowFn] | None = None
    sparse: bool = False
    check: Callable[[Settings], None] | None = None

    @property
    def reads_model(self) -> bool:
        """Whether it calls the model; noise does not look at logits_fn, y and aux."""
        return self.traits.rank != NOISE


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


def called(body: Body, fn: Fn, x: Array, y: RowTree | None, settings: Settings) -> Array:
    """Returns the result of an attack.

    Without tracing, the arguments and the logits at x are checked, and the body is compiled once
    for equal operations of the model, equal shapes and equal settings other than real numbers.

    Raises:
      UserError: an argument is out of range; as `as_batch` and `ball`; the model is no traceable
        function of x, its logits are not finite f32[B, K] or look like probabilities, or y has
        another form.
    """
    if body.reads_model:
        check_function(fn)
    else:
        fn, y, settings = _unchanged, None, settings | {"aux": None}
    batch = as_batch(x, settings.get("bounds"))
    if body.check is not None:
        body.check(settings)
    bounds, aux = settings.pop("bounds", None), settings.pop("aux", None)
    _check_settings(body, settings)
    constant = settings.get("constant", True)
    x = batch if constant else jnp.asarray(x)
    check_rows("aux", aux, batch=x.shape[0])
    _check_size(body, batch, bounds, settings)
    if settings.get("key") is not None:
        settings["key"] = key_of_rows(settings["key"], len(batch))
    if "start" in settings:
        settings["start"] = checked_start(settings["start"], batch)
    if body.losses is not None:
        fn, y, aux = _folded(body, fn, x, y, aux, settings)
    static = {name: settings.pop(name) for name in [*settings] if _is_static(body, name, settings)}
    settings |= {"y": y}
    aux = jax.lax.stop_gradient(aux)
    bounds = as_arrays(bounds, x)
    if is_tracing():
        return _run(body, with_aux(fast_in_loops(fn), aux), x, settings, bounds, static)
    inputs = (x,) if aux is None else (x, aux)
    with _plain_errors():
        found = traced(fn, *inputs, by=programs.traced)
    model = Model(fn, _shapes(inputs), found, [])
    if body.reads_model:
        _check_outputs(model.traced.outputs, y, batch=x.shape[0])
    given = model.traced.arrays, x, aux, settings, bounds
    leaves, tree = jax.tree.flatten(given)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    options = tuple(sorted(static.items()))
    key = body.fn, model.traced.key, options, tree, shapes
    token = _called.set(model)
    try:
        with _plain_errors():
            program = programs.cached(key, lambda: _program(body, static))
            found, flags = program(*given)
    finally:
        _called.reset(token)
        if model.own:
            programs.dropped(key)
    if all(map(is_known, flags.values())):
        _check(jax.device_get(flags), decisions=body.traits.decisions)
    return found


def as_arrays(bounds: Bounds | None, x: Array) -> Bounds | None:
    """Returns the bounds as arrays of the dtype in which x is attacked."""
    if bounds is None:
        return None
    dtype = working_dtype(x.dtype)
    lo, hi = (b if isinstance(b, jax.Array) else np.asarray(b, dtype) for b in bounds)
    return lo, hi


def _folded(
    body: Body,
    fn: Fn,
    x: Array,
    y: RowTree | None,
    aux: RowTree | None,
    settings: Settings,
) -> tuple[Fn, RowTree | None, RowTree | None]:
    """Returns fn, y and aux, of which a loss or a criterion of the user has become a part.

    Their operations are then in the model's jaxpr, by which programs are known, and the arrays that
    they close over are arguments of the program. Sets loss and fooled to None.
    """
    loss, fooled = settings["loss"], settings.get("fooled")
    named = body.losses or {}
    check_kinds(loss, fooled, named)
    is_named = isinstance(loss, str)
    if is_named:
        # K targets of K logistic outputs are no class.
        logistic = loss in ("binary_cross_entropy", "squared_error")
        if fooled is None and not (logistic and y is not None and np.ndim(y) == 2):
            return fn, y, aux
        if y is None:
            y = called(_PREDICTION, fn, x, None, {"aux": aux})
        loss = loss_of_logits(named[loss])
    check_rows("y", y, batch=x.shape[0])
    settings |= {"loss": None} | ({"fooled": None} if "fooled" in settings else {})
    kinds = {"gradient": body.traits.gradient, "of_logits": is_named}
    rate = rating(fn, loss, fooled, targeted=settings.get("targeted", False), **kinds)
    return rate, None, (aux, y)


def _predicted(logits_fn: Fn, x: Array, y: None) -> Array:
    return labels_at(logits_fn, x, y)


_PREDICTION = Body(_predicted)


def _unchanged(x: Array) -> Array:
    return x


def _check_settings(body: Body, settings: Settings) -> None:
    """Checks the counts, which become Python's, and the real numbers of which a range is given."""
    parameters = _parameters(body)
    given = {n: v for n, v in settings.items() if v is not None or not _may_be_none(parameters[n])}
    for name in given.keys() & {n for n, p in parameters.items() if _is_count(p)}:
        check_counts(**{name: given[name]})
        settings[name] = operator.index(given[name])
    for name, interval in (*body.ranges.items(), *body.row_ranges.items()):
        if name in given:
            check_range(name, given[name], interval, per_row=name in body.row_ranges)


def _may_be_none(parameter: inspect.Parameter) -> bool:
    return type(None) in _members(parameter.annotation) or parameter.default is None


def _is_count(parameter: inspect.Parameter) -> bool:
    return _members(parameter.annotation) - {type(None)} == {int}


def _check_size(body: Body, x: Array, bounds: Bounds | None, settings: Settings) -> None:
    """Checks the radius and the mask where their values are known."""
    name = body.traits.size
    if name is None:
        return
    norm = body.traits.norm or settings.get("length") or settings.get("norm", "linf")
    box = bounds if name == "eps" else None  # The others bound no perturbation.
    optional = _may_be_none(_parameters(body)[name])
    kinds = {"name": name, "sparse": body.sparse, "optional": optional}
    ball(settings[name], x, norm, box, settings.get("mask"), **kinds)


def _check_outputs(outputs: Any, y: Any, *, batch: int) -> None:
    """Checks the logits, or the result of a function of the user, and the labels."""
    if isinstance(outputs, Rated):
        return
    check_logits(outputs, batch=batch)
    if y is not None:
        checked_labels(y, outputs)


def _is_static(body: Body, name: str, settings: Settings) -> bool:
    """Returns whether a program is compiled for the value of a setting."""
    annotation = _parameters(body)[name].annotation
    if annotation is inspect.Parameter.empty:
        return not isinstance(settings[name], float | np.ndarray | jax.Array)
    return jax.Array not in _members(annotation)


def _parameters(body: Body) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(body.fn).parameters


def _members(annotation: Any) -> set[Any]:
    """Returns the types of a union, or the only type."""
    return {*typing.get_args(annotation)} or {annotation}


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Drops the notes that JAX adds to errors of invalid input raised while it traces."""
    try:
        yield
    except UserError as error:
        error.__notes__ = []
        raise


def _run(body: Body, fn: Fn, x: Array, settings: Any, bounds: Any, static: Settings) -> Array:
    """Runs the body on the mesh of x (`on_mesh`)."""
    named = {name: None for name in ("bounds", "aux") if name in _parameters(body)}

    def of_arrays(fn: Fn, x: Array, settings: Settings, bounds: Bounds | None) -> Array:
        given = named | ({"bounds": bounds} if "bounds" in named else {})
        arrays = {name: value for name, value in settings.items() if name != "y"}
        return body.fn(fn, x, settings["y"], **arrays, **given, **static)

    return on_mesh(of_arrays, fn, x, settings, bounds)


def _program(body: Body, static: Settings) -> Callable[..., Any]:
    """Returns the compiled body, whose result is that and the flags of the logits at x."""

    def run(own: Any, x: Array, aux: RowTree | None, settings: Any, bounds: Any) -> Any:
        if static.get("constant", True):
            own = jax.lax.stop_gradient(own)
        fn = with_aux(_replayed(_called.get(), own), aux)
        flags = _flags(fn, x) if body.reads_model else {}
        return _run(body, fn, x, settings, bounds, static), flags

    return jax.jit(run)


def _flags(fn: Fn, x: Array) -> dict[str, Array]:
    """Returns what is checked of the logits, or of a loss of the user, at x: bool[B] each."""
    at = fn(x)
    if isinstance(at, Rated):
        return {**(at.flags or {}), **loss_flags(fn, x)}
    return logit_flags(at)


def _check(flags: dict[str, np.ndarray], *, decisions: bool) -> None:
    """Checks the `_flags` of all rows."""
    if "finite" in flags:
        check_finite(flags["finite"], "x") if decisions else check_flags(flags, "x")
    check_loss(flags)


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

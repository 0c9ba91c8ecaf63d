"""Calls of attacks: checks of their arguments, then the body, compiled unless JAX is tracing."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import annotations, norms
from adv_jax.annotations import catch_all, function_name, is_optional, members_of
from adv_jax.attacks._bare import Fn, run_body
from adv_jax.attacks._climbing import checked_start, folded
from adv_jax.attacks._traits import NOISE, Traits
from adv_jax.checks import (
    WRAP,
    array_of_lists,
    as_batch,
    ball,
    check_batched,
    check_booleans,
    check_function,
    check_logits,
    check_rows,
    checked_count,
    checked_labels,
    checked_number,
    traceable,
    with_aux,
)
from adv_jax.loss_gradients import Rated, loss_flags
from adv_jax.random import key_of_rows
from adv_jax.ranges import Range
from adv_jax.row_flags import note_flags
from adv_jax.types import Array, Bounds, RowFn, RowTree, dtype_of, is_known, is_real

Settings = dict[str, Any]
cached_parameters = functools.cache(annotations.parameters_of)
_NONE = {type(None)}


class Body(NamedTuple):
    """The function of an attack, and what is checked before it runs.

    fn: (logits_fn, x, y, *, settings) -> x_adv, traceable, with any names of the first three. The
      third has no default, or fn has no labels. In it aux is None, and loss is the function
      of its name, or None if logits_fn returns `Rated`.
    ranges: of settings that are one number for all rows, such as {"rho": "[0, 1]"}; see
      `adv_jax.ranges`.
    row_ranges: of those that may also be f32[B].
    losses: by name, if it climbs one of them or a function of the user; else None.
    legal_norms: those that it knows, of `norms.ALL`.
    logits: logits_fn returns logits, which are checked.
    check: (arguments by name, but for the model) -> None; more checks, made on the arguments as the
      user passed them.
    """

    fn: Callable[..., Any]
    traits: Traits
    ranges: Mapping[str, str] = {}
    row_ranges: Mapping[str, str] = {}
    losses: Mapping[str, RowFn] | None = None
    legal_norms: Sequence[str] = norms.CONVEX
    logits: bool = True
    check: Callable[[Settings], None] | None = None

    @property
    def reads_model(self) -> bool:
        """Whether it calls the model; noise does not look at logits_fn, y and aux."""
        return self.traits.rank != NOISE

    @property
    def reads_logits(self) -> bool:
        """Whether what the model returns is checked as logits."""
        return self.reads_model and self.logits


def called(body: Body, fn: Fn, x: Array, settings: Settings) -> Any:
    """Returns the result of an attack.

    Without tracing, the arguments and the logits at x are checked, and the body is compiled once
    for equal operations of the model, equal shapes and equal settings other than real numbers.

    Raises:
      UserError: an argument is out of range; as `as_batch` and `ball`; the model is no traceable
        function of x, its logits are not finite f32[B, K] or look like probabilities, or y has
        another form.
    """
    model_name = next(iter(cached_parameters(body.fn)))
    if body.reads_model:
        check_function(fn, name=model_name)
    batch = as_batch(x, settings.get("bounds"))
    if body.check is not None:
        body.check(settings | {"x": batch})
    labels = labels_name(body.fn)
    y = None if labels is None else settings.pop(labels)
    if not body.reads_model:
        fn, y, settings = _unchanged, None, settings | {"aux": None}
    y = array_of_lists(y)
    bounds, aux = settings.pop("bounds", None), settings.pop("aux", None)
    settings = _checked_settings(body, batch, bounds, settings)
    constant = settings.get("constant", True)
    x = batch if constant else jnp.asarray(x)
    check_rows("aux", aux, batch=x.shape[0])
    fn, y, aux, settings = _with_loss(body, fn, x, y, aux, settings)
    static = {n: _as_plain(settings.pop(n)) for n in [*settings] if _is_static(body, n, settings)}
    settings = {n: _as_number(body, n, value) for n, value in settings.items()}
    both = f"{function_name(body.fn)} and {model_name}"
    with traceable(both, _instead(body, settings), model=model_name):
        return run_body(
            _attacked,
            fn,
            x,
            y,
            settings,
            bounds=bounds,
            aux=aux,
            name=model_name,
            logits=body.reads_logits,
            decisions=body.traits.decisions,
            constant=constant,
            check=functools.partial(_check_outputs, body, fn, x),
            function=body.fn,
            static=tuple(sorted(static.items())),
        )


def _checked_settings(body: Body, x: Array, bounds: Bounds | None, settings: Settings) -> Settings:
    """Returns the settings as the body takes them: lists as arrays, a key for each row."""
    settings = {n: _as_array(v, static=_is_static(body, n, settings)) for n, v in settings.items()}
    _check_numbers(body, settings)
    _check_size(body, x, bounds, settings)
    if settings.get("key") is not None:
        settings["key"] = key_of_rows(settings["key"], len(x))
    if "start" in settings:
        settings["start"] = checked_start(settings["start"], x)
    return settings


def _with_loss(
    body: Body, fn: Fn, x: Array, y: RowTree | None, aux: RowTree | None, settings: Settings
) -> tuple[Fn, RowTree | None, RowTree | None, Settings]:
    """Returns the model, labels, side inputs and settings, if on a loss those of `folded`."""
    if body.losses is None:
        return fn, y, aux, settings
    fn, y, aux, loss = folded(
        fn,
        x,
        y,
        aux,
        loss=settings["loss"],
        fooled=settings.get("fooled"),
        named=body.losses,
        targeted=settings.get("targeted", False),
        gradient=body.traits.gradient,
    )
    settings = settings | {"loss": None if loss is None else body.losses[loss]}
    if loss is None:
        settings |= {"fooled": None} if "fooled" in settings else {}
        note_flags(functools.partial(loss_flags, with_aux(fn, aux), x))
    return fn, y, aux, settings


def _instead(body: Body, settings: Settings) -> str:
    """Returns the advice on code that needs the value of a traced setting, `traceable`."""
    names = [n for n, v in settings.items() if v is not None and n not in (body.traits.size, "key")]
    kinds = f", annotate {' and '.join(names)} as bool, int or str" if names else ""
    return f"use jnp.where{kinds}, or {WRAP}"


def _attacked(
    fn: Fn,
    x: Array,
    y: RowTree | None,
    arrays: Settings,
    *,
    bounds: Bounds | None,
    function: Callable[..., Any],
    static: tuple[tuple[str, Any], ...],
) -> Any:
    """Calls the function of an attack; aux is a part of fn."""
    own = {"bounds": bounds, "aux": None}
    parameters = cached_parameters(function)
    given = {
        name: value
        for name, value in own.items()
        if name in parameters or (catch_all(parameters) and value is not None)
    }
    labels = () if labels_name(function) is None else (y,)
    return function(fn, x, *labels, **arrays, **dict(static), **given)


def _unchanged(x: Array) -> Array:
    return x


def _check_numbers(body: Body, settings: Settings) -> None:
    """Checks counts and flags, which become Python's, and real numbers with a range."""
    parameters, kinds = cached_parameters(body.fn), _kinds_of(body.fn)
    needed = {name for name, parameter in parameters.items() if not is_optional(parameter)}
    given = {n: v for n, v in settings.items() if v is not None or n in needed}
    for name, interval in (*body.ranges.items(), *body.row_ranges.items()):
        if name in given:
            checked_number(name, given[name], interval, per_row=name in body.row_ranges)
    for name in given.keys() & counts_of(body.fn):
        settings[name] = checked_count(name, given[name])
    for name in given.keys() & {n for n in parameters if kinds[n] - _NONE == {bool}}:
        check_booleans(**{name: given[name]})
        settings[name] = bool(given[name])


def _as_array(value: Any, *, static: bool) -> Any:
    """Returns a list of numbers or bools as an array; a tuple too, unless it stays a static one."""
    sequence = isinstance(value, list) or (type(value) is tuple and not static)
    return jnp.asarray(value) if sequence and dtype_of(value).kind in "biuf" else value


def _as_number(body: Body, name: str, value: Any) -> Any:
    """Returns one known real number as Python's: of any other type it would need a new program."""
    if not (is_real(value) and is_known(value)) or np.ndim(value):
        return value
    number = np.asarray(value).item()
    return number if isinstance(number, int) and not _is_real(body, name) else float(number)


def _is_real(body: Body, name: str) -> bool:
    """Returns whether a setting is a real number, which may be written as an integer.

    Its annotation is float, or its range is real: ArrayLike, which has int too, may be an index.
    """
    ranges, kinds = {**body.ranges, **body.row_ranges}, _kinds_of(body.fn).get(name, set())
    if name == body.traits.size or (name in ranges and not Range.of(ranges[name]).whole):
        return True
    return float in kinds and int not in kinds


def _as_plain(value: Any) -> Any:
    """Returns an array without axes as a number, by which programs are told apart."""
    return value.item() if isinstance(value, np.ndarray | jax.Array) else value


def _check_size(body: Body, x: Array, bounds: Bounds | None, settings: Settings) -> None:
    """Checks the radius and the mask where their values are known."""
    name = body.traits.size
    if name is None:
        return
    norm = body.traits.norm or settings.get("length") or settings.get("norm", "linf")
    box = bounds if name == "eps" else None  # The others bound no perturbation.
    optional = is_optional(cached_parameters(body.fn)[name])
    ball(
        settings[name],
        x,
        norm,
        box,
        settings.get("mask"),
        name=name,
        legal_norms=body.legal_norms,
        optional=optional,
    )


def _check_outputs(
    body: Body, fn: Fn, x: Array, outputs: Any, y: Any, settings: Settings
) -> tuple[Any, Settings]:
    """Checks the logits; returns checked labels, and the settings. `Rated` checks its own."""
    if not body.reads_logits or isinstance(outputs, Rated):
        return y, settings
    if getattr(outputs, "ndim", 2) == 1 and len(outputs) != len(x):
        check_batched(fn, x)
    check_logits(outputs, batch=len(x))
    return None if y is None else checked_labels(y, outputs), settings


def _is_static(body: Body, name: str, settings: Settings) -> bool:
    """Returns whether a program is compiled for the value of a setting; else it is an argument."""
    value, kinds = settings[name], _kinds_of(body.fn).get(name, {inspect.Parameter.empty})
    unknown = any(kind is inspect.Parameter.empty or isinstance(kind, str) for kind in kinds)
    if isinstance(value, np.ndarray | jax.Array):
        is_number = is_real(value) or jnp.issubdtype(dtype_of(value), jnp.bool_)
        if unknown or np.ndim(value) or not is_number or not is_known(value):
            return False
        # One number, as of a norm, may stand for a value that Python branches on.
        return jax.Array not in kinds and not kinds.isdisjoint((int, bool, str))
    if unknown:  # A text names what only type checkers import.
        return not isinstance(value, float | np.floating) and not _is_real(body, name)
    return jax.Array not in kinds and kinds - _NONE != {float}


def labels_name(function: Callable[..., Any]) -> str | None:
    """Returns the name of the third argument, the labels; None if a call needs but two."""
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    needed = [p for p in cached_parameters(function).values() if p.default is p.empty]
    names = [p.name for p in needed if p.kind in kinds]
    return names[2] if len(names) > 2 else None


@functools.cache
def counts_of(function: Callable[..., Any]) -> frozenset[str]:
    """Returns the names of the settings of a function that are whole numbers, of at least 1."""
    kinds = _kinds_of(function)
    return frozenset(name for name, members in kinds.items() if members - _NONE == {int})


@functools.cache
def _kinds_of(function: Callable[..., Any]) -> dict[str, set[Any]]:
    """Returns the types that each parameter of a function accepts, by its annotation."""
    return {name: _members(p.annotation) for name, p in cached_parameters(function).items()}


def _members(annotation: Any) -> set[Any]:
    """Returns the types of a union or of the parts of a tuple, or the only type."""
    members = get_args(annotation) if get_origin(annotation) is tuple else members_of(annotation)
    return {annotation} if members == (annotation,) else set().union(*map(_members, members))

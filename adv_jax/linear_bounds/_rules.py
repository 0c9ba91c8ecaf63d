"""Bounds the values of a jaxpr: a rule for each primitive whose input depends on x."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn

from adv_jax.linear_bounds._tape import Tape, Value
from adv_jax.programs import bound, evaluated_jaxpr
from adv_jax.types import Array, UserError

Operation = Callable[..., Any]

# Affine in all inputs, and nondecreasing: their values at the ends are the ends of their values.
_NONDECREASING = {
    *("add", "add_any", "broadcast_in_dim", "concatenate", "copy", "cumsum", "dynamic_slice"),
    *("gather", "pad", "reduce_sum", "reduce_window_sum", "reshape", "rev", "slice", "split"),
    *("squeeze", "stack", "transpose"),
}
# Linear in one input, the others being constant.
_PRODUCTS = {"conv_general_dilated", "div", "dot_general", "mul", "neg"}
# Element-wise and nondecreasing, with the shape that `lines` needs.
_ACTIVATIONS = {
    **dict.fromkeys(("exp", "exp2", "expm1"), "convex"),
    **dict.fromkeys(("log", "log1p", "sqrt"), "concave"),
    **dict.fromkeys(("erf", "logistic", "tanh"), "sigmoid"),
}
# Functions of jax.nn that branch on x. They are convex and nondecreasing if their second argument,
# the slope or alpha, is in [0, 1].
_CONVEX = {"elu": jax.nn.elu, "leaky_relu": jax.nn.leaky_relu, "softplus": jax.nn.softplus}
# Calls -> the parameter that holds the function.
_CALLS = {
    **dict.fromkeys(("closed_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
    **dict.fromkeys(("checkpoint", "jit", "pjit", "remat2"), "jaxpr"),
}


def run(tape: Tape, traced: ClosedJaxpr, args: list[Any]) -> list[Any]:
    """Evaluates a jaxpr whose arguments are arrays, or values of the tape; so are its results.

    Raises:
      UserError: no rule bounds a primitive.
    """
    apply = lambda eqn: lambda *args: _apply(tape, eqn, list(args))
    return evaluated_jaxpr(traced.jaxpr, [*traced.consts, *args], apply)


def _apply(tape: Tape, eqn: JaxprEqn, args: list[Any]) -> list[Any]:
    """Returns the results of an equation."""
    name, results = eqn.primitive.name, bound(eqn, eqn.params)
    depend = [isinstance(arg, Value) for arg in args]
    if not any(depend):
        return results(*args)
    if name in _CALLS and not _is_convex(eqn, args):
        return run(tape, _closed(eqn.params[_CALLS[name]]), args)
    if name == "cond" and (platforms := eqn.params.get("branches_platforms")):
        # All branches compute the same; that of other platforms has XLA's own operations.
        branch = eqn.params["branches"][platforms.index(None) if None in platforms else 0]
        return run(tape, branch, args[1:])
    if name == "stop_gradient":  # The identity, of which the derivative is not.
        return args
    if narrower := _narrower(eqn, args):
        raise _refusal(f"{name} with a result in {narrower}")
    if name in _DECOMPOSED:
        return _DECOMPOSED[name](tape, eqn, args)
    if name == "split":
        parts = range(len(eqn.outvars))
        return [_nondecreasing(tape, lambda *a, i=i: results(*a)[i], args) for i in parts]
    operation = lambda *args: results(*args)[0]
    if name in _NONDECREASING or (name == "select_n" and not depend[0]) or _widens(eqn):
        return [_nondecreasing(tape, operation, args)]
    if name == "sub":
        return [_difference(tape, operation, args)]
    if name in _PRODUCTS:
        if name == "div" and depend[1]:
            raise _refusal("div by a value that depends on x")
        if sum(depend) > 1:
            raise _refusal(f"{name} of two values that depend on x")
        return [_product(tape, operation, args)]
    if name in _ACTIVATIONS:
        return [tape.activation(operation, _ACTIVATIONS[name], args[0])]
    if name in _CALLS:
        fn = lambda t: operation(t, *args[1:])
        return [tape.activation(fn, "convex", args[0])]
    raise _refusal(f"the primitive {name}")


def _refusal(found: str) -> UserError:
    return UserError(
        "logits_fn must be made of affine maps, convolutions, pooling and monotone activations in "
        f"float32 to have bounds, got {found}"
    )


def _closed(jaxpr: Any) -> ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def _narrower(eqn: JaxprEqn, args: list[Any]) -> str:
    """Returns the dtype of a float result of fewer bits than a value, which rounds it, or ""."""
    bits = max(jnp.finfo(arg.lower.dtype).bits for arg in args if isinstance(arg, Value))
    avals: list[Any] = [var.aval for var in eqn.outvars]
    floats = (aval.dtype for aval in avals if jnp.issubdtype(aval.dtype, jnp.floating))
    return next((str(dtype) for dtype in floats if jnp.finfo(dtype).bits < bits), "")


def _widens(eqn: JaxprEqn) -> bool:
    """Returns whether an equation converts to a float that holds x without rounding."""
    if eqn.primitive.name != "convert_element_type":
        return False
    avals: list[Any] = [eqn.invars[0].aval, eqn.outvars[0].aval]
    before, after = (aval.dtype for aval in avals)
    return jnp.issubdtype(after, jnp.floating) and jnp.finfo(after).bits >= jnp.finfo(before).bits


def _is_convex(eqn: JaxprEqn, args: list[Any]) -> bool:
    """Returns whether an equation calls a function of `_CONVEX`, by its name and its jaxpr."""
    fn = _CONVEX.get(eqn.params.get("name", ""))
    if fn is None or not isinstance(args[0], Value) or "jaxpr" not in eqn.params:
        return False
    settings = args[1:]
    unknown = (jax.core.Tracer, Value)
    if len(settings) > 1 or any(isinstance(a, unknown) or jnp.ndim(a) for a in settings):
        return False
    own = jax.make_jaxpr(fn)(*(var.aval for var in eqn.invars))
    same = str(own.jaxpr.eqns[0].params.get("jaxpr")) == str(eqn.params["jaxpr"])
    return same and all(0 <= float(setting) <= 1 for setting in settings)


def _ends(args: list[Any], end: str) -> list[Any]:
    return [getattr(arg, end) if isinstance(arg, Value) else arg for arg in args]


def _nondecreasing(tape: Tape, operation: Operation, args: list[Any]) -> Value:
    interval = operation(*_ends(args, "lower")), operation(*_ends(args, "upper"))
    return _affine(tape, operation, args, interval)


def _difference(tape: Tape, operation: Operation, args: list[Any]) -> Value:
    (a, b), (c, d) = _ends(args, "lower"), _ends(args, "upper")
    return _affine(tape, operation, args, (operation(a, d), operation(c, b)))


def _product(tape: Tape, operation: Operation, args: list[Any]) -> Value:
    """Adds a linear map, of weights w: w . middle +- |w| . radius."""
    pairs = zip(_ends(args, "lower"), _ends(args, "upper"), args, strict=True)
    middle, radius = zip(
        *(
            ((a + b) / 2, (b - a) / 2) if isinstance(arg, Value) else (arg, jnp.abs(arg))
            for a, b, arg in pairs
        ),
        strict=True,
    )
    middle, radius = operation(*middle), jnp.abs(operation(*radius))
    return _affine(tape, operation, args, (middle - radius, middle + radius))


def _affine(
    tape: Tape, operation: Operation, args: list[Any], interval: tuple[Array, Array]
) -> Value:
    parents = tuple(arg for arg in args if isinstance(arg, Value))
    zeros = [jnp.zeros_like(parent.lower) for parent in parents]

    def of_parents(*arrays: Array) -> Array:
        rest = iter(arrays)
        return operation(*(next(rest) if isinstance(arg, Value) else arg for arg in args))

    def pull(c: Array) -> tuple[tuple[Array, ...], Array]:
        at_zero, transpose = jax.vjp(of_parents, *zeros)
        return transpose(c), (c * at_zero).sum()

    straight = all(parent.straight for parent in parents)
    return tape.add(Value(*interval, parents, pull, straight=straight))


def _maximum(tape: Tape, eqn: JaxprEqn, args: list[Any]) -> list[Any]:
    """max(a, b) = b + max(a - b, 0) for two values, whose difference may have tight bounds."""
    if not all(isinstance(arg, Value) for arg in args):
        value = next(arg for arg in args if isinstance(arg, Value))
        constant = next(arg for arg in args if not isinstance(arg, Value))
        larger = lambda t: jnp.maximum(t, jnp.broadcast_to(constant, t.shape))
        return [tape.activation(larger, "convex", value)]
    lower, upper = (jnp.maximum(*_ends(args, end)) for end in ("lower", "upper"))
    (found,) = _inlined(tape, lambda a, b: b + jnp.maximum(a - b, 0), args)
    found.lower, found.upper = jnp.fmax(found.lower, lower), jnp.fmin(found.upper, upper)
    # Intervals stop here: this one is tighter than those of the parts.
    found.affine = False
    return [found]


def _minimum(tape: Tape, eqn: JaxprEqn, args: list[Any]) -> list[Any]:
    return _inlined(tape, lambda a, b: -jnp.maximum(-a, -b), args)


def _clamped(tape: Tape, eqn: JaxprEqn, args: list[Any]) -> list[Any]:
    return _inlined(tape, lambda lo, x, hi: jnp.minimum(jnp.maximum(x, lo), hi), args)


def _largest(tape: Tape, eqn: JaxprEqn, args: list[Any]) -> list[Any]:
    """The maximum over axes."""
    axes = eqn.params["axes"]

    def largest(x: Array) -> Array:
        first = jnp.moveaxis(x, axes, range(len(axes)))
        return _largest_part(first.reshape(-1, *first.shape[len(axes) :]))

    return _inlined(tape, largest, args)


def _largest_part(parts: Array) -> Array:
    """Returns the maximum over the first axis, by halves: each step is one operation to bound."""
    while len(parts) > 1:
        half = len(parts) // 2
        larger = jnp.maximum(parts[:half], parts[half : 2 * half])
        parts = jnp.concatenate([larger, parts[2 * half :]]) if len(parts) % 2 else larger
    return parts[0]


def _max_pool(tape: Tape, eqn: JaxprEqn, args: list[Any]) -> list[Any]:
    """Max-pooling, as the maximum of strided slices."""
    params = eqn.params
    if {*params["base_dilation"]} != {1}:
        raise _refusal("reduce_window_max with base_dilation")
    strides, dilation = params["window_strides"], params["window_dilation"]
    config = [(int(low), int(high), 0) for low, high in params["padding"]]
    aval: Any = eqn.outvars[0].aval

    def pool(x: Array, least: Array) -> Array:
        x = jax.lax.pad(x, least, config)

        def part(place: tuple[int, ...]) -> Array:
            first = [i * d for i, d in zip(place, dilation, strict=True)]
            end = [i + (n - 1) * s + 1 for i, n, s in zip(first, aval.shape, strides, strict=True)]
            return jax.lax.slice(x, first, end, strides)

        places = itertools.product(*map(range, params["window_dimensions"]))
        return _largest_part(jnp.stack([*map(part, places)]))

    # Instead of -inf, whose product with 0 is NaN.
    return _inlined(tape, pool, [*args, args[0].lower.min()])


def _inlined(tape: Tape, fn: Operation, args: list[Any]) -> list[Any]:
    """Returns the results of a function in other primitives."""
    return run(tape, jax.make_jaxpr(fn)(*_ends(args, "lower")), args)


_DECOMPOSED = {
    "clamp": _clamped,
    "max": _maximum,
    "min": _minimum,
    "reduce_max": _largest,
    "reduce_window_max": _max_pool,
}

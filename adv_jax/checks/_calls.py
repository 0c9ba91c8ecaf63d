"""The errors of JAX and Flax in a call of a model, as one line of ours."""

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp

from adv_jax.annotations import unwrapped
from adv_jax.types import UserError, check_callable

_ASKS_FOR_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
# Flax's errors for a dropout without a key, and for statistics that are updated while JAX traces.
_TRAINING = (
    flax.errors.InvalidRngError,
    flax.errors.ModifyScopeVariableError,
    flax.errors.TraceContextError,
)

# JAX's messages, whose types it shares with errors of the user.
_NO_DERIVATIVE = re.compile(
    r"do(es)? not support (JVP|autodiff|differentiation)|Reverse-mode differentiation does not work"
    r"|ifferentiation rule .*not implemented|Transpose rule .*not implemented"
)
_NO_VMAP = re.compile(r"vmap_method|vmap is only supported|[Bb]atching rule .*not implemented")
_OF_CALLBACK = re.compile(r"^(?:\S+\.)?UserError: (.+)\Z", re.MULTILINE)  # A traceback's last line.
_MANY_KEYS = re.compile(r"(\w+) accepts a single key, but was given a key array of shape (\(.*?\))")
_NO_KEY = re.compile(r"unexpected PRNG key type <class 'NoneType'>")


@contextlib.contextmanager
def arity(name: str, fn: Any, takes: Sequence[str], keywords: Sequence[str] = ()) -> Iterator[None]:
    """Converts the TypeError of a function that does not take as many arguments to one line.

    Raises:
      UserError: the error of the context, if fn cannot be called with the arguments and keywords
        named.
    """
    try:
        yield
    except TypeError as error:
        if (found := _other_parameters(fn, takes, keywords)) is None:
            raise
        legal = ", ".join([*takes, *(("*", *keywords) if keywords else ())])
        allowed = {
            "x": "a function of x alone (or of x and aux, if aux is given)",
            "x, aux": "a function of (x, aux), as aux is given",
        }.get(legal, f"a function of ({legal})")
        raise UserError(f"{name} must be {allowed}, got one of {found}") from error


def check_takes(name: str, fn: Any, *forms: Sequence[str]) -> None:
    """Checks that a function takes the arguments of one of the forms, without calling it.

    A function without a signature, as some builtins are, passes.

    Raises:
      UserError: it takes those of no form, or is not a function.
    """
    check_callable(fn, name)
    found = [_other_parameters(fn, takes) for takes in forms]
    if None not in found:
        allowed = " or ".join(f"({', '.join(takes)})" for takes in forms)
        raise UserError(f"{name} must be a function of {allowed}, got one of {found[0]}")


def _other_parameters(fn: Any, takes: Sequence[str], keywords: Sequence[str] = ()) -> str | None:
    """Returns the parameters of a function that cannot take the arguments named, in words.

    keywords: those given by name.

    None: it takes them, or it has no signature.
    """
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # It is no function, or a builtin without a signature.
        return None
    try:
        signature.bind(*takes, **dict.fromkeys(keywords))
    except TypeError:
        bare = [
            p.replace(annotation=p.empty, default=p.empty) for p in signature.parameters.values()
        ]
        return str(inspect.Signature(bare))
    return None


@contextlib.contextmanager
def _arity_of_model(name: str, fn: Any, takes: Sequence[str]) -> Iterator[None]:
    """As `arity`, in an attack, which may raise a TypeError of its own: Python's names fn."""
    try:
        yield
    except TypeError as error:
        own = unwrapped(fn)
        own = inspect.unwrap(own if hasattr(own, "__qualname__") else type(own).__call__)
        if str(error).startswith(f"{getattr(own, '__qualname__', name)}() "):
            with arity(name, fn, takes):
                raise
        raise


# The advice on code of NumPy.
WRAP = "wrap NumPy by jax.pure_callback, a model by adv_jax.bridges.black_box"


@contextlib.contextmanager
def traceable(
    name: str,
    instead: str = f"use jnp.where, or {WRAP}",
    *,
    model: str | None = None,
) -> Iterator[None]:
    """Converts errors of JAX and Flax for common mistakes to one line that names the function.

    instead: the advice on code that needs the value of a traced array.
    model: the name of the model among several functions.

    Raises:
      UserError: a function called in this context needs the value of a traced array, or is a model
        in training mode, which draws random numbers or updates its statistics.
    """
    try:
        yield
    except _ASKS_FOR_VALUES as error:
        raise UserError(
            f"{name} must be made of jax.numpy operations, got some that ask for values, as "
            f"NumPy's, float() and if do: {instead}"
        ) from error
    except _TRAINING as error:
        raise UserError(
            f"{model or name} must be a model in evaluation mode, got one that draws random "
            "numbers or updates its state: call model.eval() in Flax NNX (no nnx.jit), pass "
            "train=False in Linen, or attacks.expectation of it"
        ) from error


@contextlib.contextmanager
def callback_errors() -> Iterator[None]:
    """Converts JAX's report of a UserError that Python has raised in a callback to this error."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # Outside a program JAX raises a ValueError, as does much else.
        of_jax = isinstance(error, jax.errors.JaxRuntimeError) or "allback error" in str(error)
        if of_jax and (found := _OF_CALLBACK.search(str(error).rstrip())):
            raise UserError(found[1]) from None
        raise


@contextlib.contextmanager
def explained(
    name: str,
    fn: Any,
    *inputs: Any,
    gradient: bool,
    instead: Iterable[str],
    model: str = "logits_fn",
) -> Iterator[None]:
    """Converts JAX's errors for what a model or an attack lacks; the user's own pass as they are.

    Args:
      name: of the attack.
      fn, inputs: the model and what it is called with: x, or x and aux.
      gradient: the attack needs the derivative.
      instead: names of attacks that do not, if any.
      model: the name of fn.

    Raises:
      UserError: the model works, but without a derivative or under vmap, or it calls Python that
        raises UserError; the attack draws with all rows' keys as with one, or without a key.
    """
    try:
        with callback_errors(), _arity_of_model(model, fn, ("x", "aux")[: len(inputs)]):
            yield
    except Exception as error:  # Any: each operation raises its own.
        origin: BaseException = error
        while isinstance(origin, UserError) and origin.__cause__ is not None:
            origin = origin.__cause__  # An inner attack has converted it; name the outer one.
        said = str(origin)
        if isinstance(origin, UserError) or not _traces(fn, *inputs):
            raise
        if found := _MANY_KEYS.match(said):
            raise UserError(
                f"{name} must draw each row with its own key, by norms.sample or jax.vmap over "
                f"random.row_keys(key, len(x)), got jax.random.{found[1]} of keys {found[2]}"
            ) from origin
        if _NO_KEY.match(said):
            raise UserError(
                f"key must be jax.random.key(seed) or one key per row, as {name} draws, got None"
            ) from origin
        if gradient and _NO_DERIVATIVE.search(said) and not has_derivative(fn, *inputs):
            names = ", ".join([*instead, "transferred", "evaluate.substitute"])
            others = f", or use {names}" if instead else ""
            raise UserError(
                f"{name} must have a logits_fn with a derivative, got one without, as "
                f"jax.pure_callback and loops of unknown length are: give it one by "
                f"jax.custom_vjp{others}"
            ) from origin
        of_two = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), inputs)
        mapped = jax.vmap(functools.partial(_derivative, fn) if gradient else fn)
        if _NO_VMAP.search(said) and not _traces(mapped, *of_two):
            raise UserError(
                f"{name} must have a logits_fn that jax.vmap can map, got one that it cannot: "
                'pass vmap_method="sequential" to jax.pure_callback'
            ) from origin
        raise


def has_derivative(fn: Callable[..., Any], x: Any, *aux: Any) -> bool:
    """Returns whether JAX can pull a gradient by x back through a model that it can trace.

    x, aux: arrays or their shapes; fn returns a tree of arrays.
    """
    return _traces(functools.partial(_derivative, fn), x, *aux)


def _derivative(fn: Callable[..., Any], x: Any, *aux: Any) -> Any:
    outputs, pullback = jax.vjp(lambda x: _floats(fn(x, *aux)), x)
    return pullback(outputs)


def _floats(outputs: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(outputs) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _traces(fn: Callable[..., Any], *inputs: Any) -> bool:
    try:
        # A new function each time: JAX's trace of fn is stale once fn closes over other arrays.
        jax.eval_shape(lambda *inputs: fn(*inputs), *inputs)
    except Exception:  # Any: each operation raises its own.
        return False
    return True

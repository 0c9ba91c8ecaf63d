"""Checks of a model, its logits and the labels."""

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.tree_util import Partial

from adv_jax import losses, norms
from adv_jax.checks._values import is_known
from adv_jax.types import (
    Apply,
    Array,
    Output,
    RowTree,
    UserError,
    described,
    dtype_of,
    host_array,
    working_dtype,
)

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
_OF_VARIABLES = ("apply", "init", "init_with_output", "__call__")  # Methods of a Flax module.
_OUTPUT = "an adv_jax.types.Output, as models.apply_fn(model) does"
_MANY_KEYS = re.compile(r"(\w+) accepts a single key, but was given a key array of shape (\(.*?\))")
_NO_KEY = re.compile(r"unexpected PRNG key type <class 'NoneType'>")


def check_function(
    fn: Any,
    *,
    name: str = "logits_fn",
    allowed: str = "a function of x alone",
    instead: str = "pass lambda x: model.apply(variables, x)",
) -> None:
    """Raises UserError for a value that is not a function, for a class, and for an unbound module.

    allowed, instead: what it must be, and the advice, for the message.
    """
    if any(kind.__module__.split(".")[0] == "torch" for kind in type(fn).__mro__):
        raise UserError(
            f"{name} must be made of JAX operations, got the torch module {type(fn).__name__}: "
            f"pass adv_jax.bridges.from_torch({name})"
        )
    if not callable(fn) or isinstance(fn, type) or _is_unbound(fn):
        owner = f"{type(fn.__self__).__name__}.{fn.__name__}" if inspect.ismethod(fn) else ""
        found = f"the class {fn.__name__}" if isinstance(fn, type) else f"a {type(fn).__name__}"
        raise UserError(f"{name} must be {allowed}, got {owner or found}: {instead}")


def with_aux(fn: Callable[..., Any], aux: RowTree | None) -> Callable[[Array], Any]:
    """Returns x -> fn(x, aux), or fn(x) without side inputs.

    The function is a pytree with the leaves of aux: rows that are taken from it are the function
    of these rows. x is the batch of aux, or k copies of it in a row.

    Raises:
      UserError: when called with other rows.

    >>> add = with_aux(lambda x, aux: x + aux, jnp.array([1., 2.]))
    >>> add(jnp.zeros(4))
    Array([1., 2., 1., 2.], dtype=float32)
    """
    if aux is None:
        return Partial(fn)

    def bound(aux: RowTree, x: Array) -> Any:
        size = next(map(len, jax.tree.leaves(aux)), len(x))  # aux may be a tree without arrays
        copies, rest = divmod(len(x), size)
        if rest:
            raise UserError(
                f"an attack without the keyword aux must call logits_fn with all {size} rows, as "
                f"aux goes with them, got {len(x)} rows"
            )
        if copies != 1:
            aux = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * copies), aux)
        return fn(x, aux)

    return Partial(bound, aux)


def traced(
    fn: Callable[..., Any],
    *inputs: Any,
    name: str = "logits_fn",
    takes: Sequence[str] = ("x", "aux"),
    by: Callable[..., Any] = jax.eval_shape,
) -> Any:
    """Returns the shapes and dtypes of a function's result, without computing it.

    Args:
      inputs: x f[B, *D], or a ShapeDtypeStruct, and the function's other arguments.
      takes: their names.
      by: what traces the function.

    Raises:
      UserError: as `traceable`, `arity` and `check_batched`.
    """
    try:
        with traceable(name), arity(name, fn, takes[: len(inputs)]):
            return by(lambda *inputs: _array(fn(*inputs), name), *inputs)
    except Exception as error:
        if isinstance(error, UserError):
            raise
        check_batched(fn, *inputs)
        if _takes_one(fn, *inputs):
            raise UserError(
                f"{name} must take a batch, {described(inputs[0])}, got a model of one "
                "example: "
                "pass jax.vmap(model)"
            ) from error
        raise


@contextlib.contextmanager
def arity(name: str, fn: Any, takes: Sequence[str]) -> Iterator[None]:
    """Converts the TypeError of a function that does not take as many arguments to one line.

    Raises:
      UserError: the error of the context, if fn cannot be called with the arguments named.
    """
    try:
        yield
    except TypeError as error:
        try:
            parameters = inspect.signature(fn)
        except (TypeError, ValueError):  # It is no function, or a builtin without a signature.
            raise error from None
        try:
            parameters.bind(*takes)
        except TypeError:
            found = ", ".join(parameters.parameters)
            legal = ", ".join(takes)
            allowed = {
                "x": "a function of x alone (or of x and aux, if aux is given)",
                "x, aux": "a function of (x, aux), as aux is given",
            }.get(legal, f"a function of ({legal})")
            raise UserError(f"{name} must be {allowed}, got one of ({found})") from error
        raise


@contextlib.contextmanager
def _arity_of_model(name: str, fn: Any, takes: Sequence[str]) -> Iterator[None]:
    """As `arity`, in an attack, which may raise a TypeError of its own: Python's names fn."""
    try:
        yield
    except TypeError as error:
        own = fn
        while isinstance(own, functools.partial):
            own = own.func
        own = inspect.unwrap(own if hasattr(own, "__qualname__") else type(own).__call__)
        if str(error).startswith(f"{getattr(own, '__qualname__', name)}() "):
            with arity(name, fn, takes):
                raise
        raise


def check_batched(fn: Callable[..., Any], x: Any, *others: Any) -> None:
    """Raises UserError if a model that fails for x maps x[None] to logits [1, K]."""
    one = jax.ShapeDtypeStruct((1, *x.shape), x.dtype)
    if not others and len(_shape_of(fn, one)) == 2:
        found = f"{described(x)}, one input to logits_fn"
        raise UserError(f"x must be a batch f32[B, *D], got {found}: pass x[None]")


@contextlib.contextmanager
def traceable(
    name: str, instead: str = "wrap a model of NumPy by adv_jax.bridges.black_box"
) -> Iterator[None]:
    """Converts errors of JAX and Flax for common mistakes to one line that names the function.

    instead: the advice on code that needs the value of a traced array.

    Raises:
      UserError: a function called in this context needs the value of a traced array, or is a model
        in training mode, which draws random numbers or updates its statistics.
    """
    try:
        yield
    except _ASKS_FOR_VALUES as error:
        raise UserError(
            f"{name} must be made of jax.numpy operations, which can be traced, got some that ask "
            f"for values, as NumPy's, float() and if do: {instead}"
        ) from error
    except _TRAINING as error:
        raise UserError(
            f"{name} must be a model in evaluation mode, got one that draws random numbers or "
            "updates its state, as dropout and batch normalization do in training, and nnx.jit "
            "always: call model.eval() in Flax NNX, and the model itself; or pass train=False in "
            "Linen, as the model names it"
        ) from error


def checked_apply(apply: Any) -> Apply:
    """Returns `apply`, which raises UserError if it is none or returns bare logits.

    Three rows of logits would be taken for the three entries of an Output. It also raises for
    variables without "params", if Flax fails with them: a function of yours may take others.
    """

    def applied(*args: Any, **options: Any) -> Any:
        try:
            output = apply(*args, **options)
        except flax.errors.FlaxError as error:
            variables = args[0] if args else options.get("variables")
            if isinstance(variables, Mapping) and variables and "params" not in variables:
                found = described(variables)
                raise UserError(f"variables must be a dict with params, got {found}") from error
            raise
        is_output = isinstance(output, tuple) and len(output) == len(Output._fields)
        if "method" not in options and not is_output:
            raise UserError(f"apply must return {_OUTPUT}, got {described(output)}")
        return output

    if not callable(apply) or isinstance(apply, nn.Module):
        raise UserError(f"apply must be a function that returns {_OUTPUT}, got {described(apply)}")
    return applied


@contextlib.contextmanager
def callback_errors() -> Iterator[None]:
    """Converts JAX's report of a UserError that Python has raised in a callback to this error."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if found := _OF_CALLBACK.search(str(error).rstrip()):
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


def checked_logits(logits: Array, *, batch: int) -> Array:
    """Returns logits f[B, K] as float32, or as float64 where they are, `losses.unfused`.

    Raises:
      UserError: as `check_logits`.
    """
    check_logits(logits, batch=batch)
    return losses.unfused(logits.astype(working_dtype(logits.dtype)))


def check_logits(logits: Any, *, batch: int, name: str = "logits_fn") -> None:
    """Checks the shape and dtype of logits, or of the result of `traced`.

    name: of the function that returned them.

    Raises:
      UserError: not one array f[B, K] of floats, or a single class.
    """
    allowed, found = f"logits f32[B, K] with B = {batch}", f"a {type(logits).__name__}"
    if isinstance(logits, jax.Array | jax.ShapeDtypeStruct):
        found = described(logits)
        if logits.ndim == 2 and logits.shape[0] == batch:
            if not jnp.issubdtype(logits.dtype, jnp.floating):
                allowed = "logits of floating point, which have a gradient"
            elif logits.shape[1] < 2:
                allowed = "logits of 2 classes or more ([0, z] for one logistic output z)"
            else:
                return
    raise UserError(f"{name} must return {allowed}, got {found}")


def logit_flags(logits: Any) -> dict[str, Any]:
    """Returns {"finite", "probabilities": bool[B]} for the rows of logits f[B, K], NumPy or traced.

    The sum of a row of probabilities may be 0.01 off, as in bfloat16.
    """
    # Clipped, as the sum of huge logits would overflow.
    sums_to_one = abs(logits.astype("float32").clip(0, 2).sum(axis=1) - 1) < 1e-2
    return {
        "finite": (abs(logits) < float("inf")).all(axis=1),
        "probabilities": (logits >= 0).all(axis=1) & sums_to_one,
    }


def check_flags(flags: Mapping[str, np.ndarray], where: str) -> None:
    """Checks the flags that `logit_flags` gives for all rows.

    Raises:
      UserError: as `check_finite`, or all rows are probabilities.
    """
    check_finite(flags["finite"], where)
    if flags["probabilities"].all():
        raise UserError(
            "logits_fn must return logits, the values before the softmax or the jnp.log of it, "
            "got rows >= 0 that sum to 1, which look like probabilities: their gradients vanish"
        )


def check_finite(finite: np.ndarray, where: str) -> None:
    """Checks that a model has not diverged.

    Args:
      finite: bool[..., N], whether the logits of a row are finite.
      where: the inputs, in words.

    Raises:
      UserError: some are not.
    """
    if bad := bad_rows(finite):
        raise UserError(
            f"logits_fn must return finite logits, got NaN or infinity for {bad} of {where}"
        )


def bad_rows(good: np.ndarray) -> str:
    """Returns the number of rows of bool[..., N] that are False somewhere, in words; "" if none.

    >>> bad_rows(np.array([[True, False, True], [True, True, False]]))
    '2 of 3 rows'
    """
    bad = int((~good).reshape(-1, good.shape[-1]).any(0).sum())
    return f"{bad} of {good.shape[-1]} rows" if bad else ""


def checked_labels(y: Any, logits: Any) -> Array:
    """Returns y as a JAX array: i32[B], or f32[B, K] like the logits.

    Integers i32[B, 1] become i32[B]; a one-hot i32[B, K] becomes f32[B, K].

    Args:
      logits: f32[B, K], or a ShapeDtypeStruct.

    Raises:
      UserError: another shape or dtype; where values are known: not classes, or not weights.
    """
    given = y
    y = losses.as_labels(_flat(y, logits), logits, name="y")
    if is_known(y) and y.ndim == 2:
        values = np.asarray(y, np.float64)
        bad = values[~((values >= 0) & (values < np.inf))]
        if bad.size:
            raise UserError(f"y must be finite weights of at least 0, got {bad[0]:g}")
        if np.asarray(given).dtype.kind in "iu":
            other = values[values.sum(axis=1) != 1]
            if other.size:
                raise UserError(
                    f"y must be classes i32[B], or one-hot i32[B, K], got the row {other[0]}"
                )
    return y


def _flat(y: Any, logits: Any) -> Any:
    """Returns integers [B, 1] as [B], and [B, K] as weights; else y."""
    if jnp.issubdtype(dtype_of(y), jnp.integer) and np.ndim(y) == 2:
        if np.shape(y) == (logits.shape[0], 1):
            return losses.on_host(y).reshape(-1)
        if np.shape(y) == logits.shape:
            return losses.with_dtype(y, working_dtype(logits.dtype))
    return y


def array_of_lists(y: Any) -> Any:
    """Returns nested lists of numbers as a NumPy array; all else, as trees of arrays, as it is."""
    leaves = jax.tree.leaves(y)
    if not isinstance(y, list | tuple) or not leaves or any(map(np.ndim, leaves)):
        return y
    array = host_array(y)
    return array if norms.is_real(array) else y


def _array(output: Any, name: str) -> Any:
    """Returns the output of a model; raises UserError if the logits are a field of it."""
    if not hasattr(output, "shape") and hasattr(output, "logits"):
        raise UserError(
            f"{name} must return the array of logits, got a {type(output).__name__}: "
            "return output.logits"
        )
    return output


def _takes_one(fn: Callable[..., Any], *inputs: Any) -> bool:
    """Whether fn maps one example f[*D], and its side inputs, to a vector."""
    one = lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
    return len(_shape_of(fn, *jax.tree.map(one, inputs))) == 1


def _shape_of(fn: Callable[..., Any], *inputs: Any) -> tuple[int, ...]:
    """Returns the shape of the array that fn returns; () if it fails or returns something else."""
    try:
        return getattr(jax.eval_shape(fn, *inputs), "shape", ())
    except Exception:  # Any: the model's own.
        return ()


def _is_unbound(fn: Any) -> bool:
    """Whether it is a Flax module without its variables, or model.apply; other methods may work."""
    if inspect.ismethod(fn) and fn.__name__ not in _OF_VARIABLES:
        return False
    module = fn.__self__ if inspect.ismethod(fn) else fn
    return isinstance(module, nn.Module) and module.scope is None

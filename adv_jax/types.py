"""Type aliases shared by the package, with their shapes; the error of invalid input, and its words.

Shapes are written `dtype[axes]`: B batch, K classes, *D the axes of one input, R replicas.
"""

import importlib.metadata
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adv_jax.suggestions import suggestion

Array = jax.Array
Key = jax.Array  # a typed key of jax.random.key
LogitsFn = Callable[..., Array]  # f32[B, *D] -> f32[B, K]; (x, aux) -> f32[B, K] with aux
RowTree = Any  # a pytree of arrays f[B, ...]: labels of any form, side inputs
RowFn = Callable[[Any, Any], Array]  # (outputs of a model, y) -> f[B], or bool[B]
Limit = float | Array | np.ndarray  # a number, f[*D] or f[B, *D]
Bounds = tuple[Limit, Limit]  # (lo, hi) of the input values
Mask = Array | np.ndarray  # bool or 0 and 1, broadcast to x: what may be changed
Norm = str | float  # "linf", "l2", "l1", "rms", "l0" or an alias
Batch = Mapping[str, Array]  # {"x": f32[B, *D], "y": i32[B], ...}
Variables = Mapping[str, Any]  # {"params": ..., **model_state}, as Flax keeps them
Metrics = dict[str, Array]  # name -> f32[]


def working_dtype(dtype: Any) -> Any:
    """Returns the dtype to compute in: float64 for float64, else float32.

    Raises:
      UserError: a float of 8 bits or fewer, which JAX promotes to no other.
    """
    if jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < 2:
        raise UserError(f"floats must have 16 bits or more, got {jnp.dtype(dtype).name}")
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(dtype, jnp.float32)


def widened(x: Array) -> Array:
    """Returns an array in its working dtype."""
    return x.astype(working_dtype(x.dtype))


class Output(NamedTuple):
    """The output of `apply(variables, x, *, train, key)`.

    logits: f32[B, K], before any softmax.
    extras: named intermediates, listed in each model's docstring.
    model_state: the collections other than "params" after this pass, `{}` if unchanged.
    """

    logits: Array
    extras: Mapping[str, Any]
    model_state: Mapping[str, Any]


Apply = Callable[..., Output]  # (variables, x, *, train=False, key=None, ...) -> Output
Attack = Callable[..., Array]  # (logits_fn, x, y, *, key=None) -> f32[B, *D]
Aux = tuple[Mapping[str, Any], Metrics]  # (model_state, metrics)
Objective = Callable[..., tuple[Array, Aux]]  # (variables, batch, *, key) -> (loss f32[], Aux)


class UserError(ValueError):
    """Invalid user input; the one-line message names the field, the legal values and the value."""


def install_hint(extra: str) -> str:
    """Returns the command that installs an optional dependency.

    In a clone it names the extra. A wheel is on no index, so its users get the packages by name.
    """
    if (Path(__file__).parents[1] / "pyproject.toml").is_file():
        return f"pip install -e '.[{extra}]'"
    of_extra = re.compile(rf"""(.*?) *; *extra == ['"]{extra}['"]""")
    lines = map(of_extra.fullmatch, importlib.metadata.requires("adv_jax") or ())
    return " ".join(["pip install", *(f"'{line[1]}'" for line in lines if line)])


def dtype_of(value: Any) -> Any:
    """Returns the dtype of what JAX takes for an array, traced or not; else NumPy's of objects.

    JAX takes no array with a mask, or of another byte order than the machine's.

    >>> dtype_of([1, 2.]), dtype_of(np.ones(2, ">f4")), dtype_of("a")
    (dtype('float64'), dtype('O'), dtype('O'))
    """
    try:
        array = value if hasattr(value, "dtype") else np.asarray(value)
        if isinstance(array, np.ndarray | np.generic):
            jax.typeof(array)
        return array.dtype if isinstance(array, jax.Array) else np.dtype(array.dtype)
    except (TypeError, ValueError):  # Also a ragged list, and a list of traced numbers.
        return np.dtype(object)


def is_real(value: Any) -> bool:
    """Returns whether the dtype of a value, traced or not, is integer or floating.

    >>> [is_real(value) for value in (1, [.1, .2], True, "1", None, 1j, [[1], [1, 2]])]
    [True, True, False, False, False, False, False]
    """
    dtype = dtype_of(value)
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)


def is_known(value: Any) -> bool:
    """Returns whether the values are known. Inside jit, vmap or grad they are not."""
    return not isinstance(value, jax.core.Tracer)


def host_array(value: Any) -> np.ndarray | None:
    """Returns an array, tensor or nested list as a NumPy array.

    None: a ragged list, other Python objects, a traced array, and an array with a mask, which NumPy
    would drop.

    >>> host_array([[1, 2], [3, 4]]).shape, host_array([[1], [1, 2]]), host_array(np.ma.ones(2))
    ((2, 2), None, None)
    """
    try:
        found = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # PyTorch raises the last one.
        return None
    return None if found.dtype.hasobject or isinstance(value, np.ma.MaskedArray) else found


def check_choice(name: str, value: Any, allowed: Collection[str | int]) -> None:
    """Raises UserError for a value that is not one of the allowed names or numbers.

    >>> check_choice("pooling", "maxx", ["max", "average"])
    Traceback (most recent call last):
    adv_jax.types.UserError: pooling must be one of max, average, got 'maxx'; did you mean 'max'?
    """
    if not isinstance(value, str | int) or value not in allowed:
        raise UserError(not_one_of(name, value, allowed))


def not_one_of(
    name: str,
    value: Any,
    allowed: Iterable[str | int],
    *,
    also: str = "",
    elsewhere: Iterable[str] = (),
) -> str:
    """Returns the message for a value that is not one of the allowed names or numbers.

    Args:
      name: what has the value.
      allowed: the names and numbers to list.
      also: what else is allowed, as " or a function".
      elsewhere: names of other groups, which may be suggested too.

    >>> not_one_of("model.name", "mpl", ["lenet", "mlp"])
    "model.name must be one of lenet, mlp, got 'mpl'; did you mean 'mlp'?"
    >>> not_one_of("a setting of own:Net", "width", [])
    "a setting of own:Net must be left out, got 'width'"
    """
    names = [*map(str, allowed)]
    if not names:
        return f"{name} must be left out, got {described(value)}"
    near = suggestion(value, [*names, *elsewhere]) if isinstance(value, str) else ""
    return f"{name} must be one of {', '.join(names)}{also}, got {described(value)}{near}"


def check_known(
    name: str, value: Any, holds: Callable[[np.ndarray], np.ndarray], allowed: str
) -> None:
    """Checks the numbers of `value` with `holds`, unless they are traced.

    Raises:
      UserError: names `allowed` and the first number that fails.
    """
    if not is_known(value):
        return
    numbers = np.asarray(value)  # JAX overflows when it compares an int32 with 2^32.
    bad = numbers[~holds(numbers)]
    if bad.size:
        raise UserError(f"{name} must be {allowed}, got {bad[0]}")


def check_variables(variables: Any) -> None:
    """Raises UserError unless variables are a dict {"params": ..., **model_state}."""
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise UserError(f"variables must be a dict with params, got {described(variables)}")


def check_callable(fn: Any, name: str, *, such_as: str = "") -> None:
    """Raises UserError unless the argument of that name is a function."""
    if not callable(fn):
        allowed = f"a function such as {such_as}" if such_as else "a function"
        raise UserError(f"{name} must be {allowed}, got {described(fn)}")


def check_optimizer(optimizer: Any, name: str = "optimizer") -> None:
    """Raises UserError for anything but a transformation of optax."""
    if not isinstance(optimizer, optax.GradientTransformation):
        allowed = "an optax transformation such as optax.sgd(0.1)"
        raise UserError(f"{name} must be {allowed}, got {described(optimizer)}")


def described(value: Any) -> str:
    """Returns a value in one line: dtype and shape of an array, the first entries of a list.

    An array without axes is its value where that is known.

    >>> described((0, np.ones((28, 28), np.float32)))
    '(0, float32[28, 28])'
    >>> described(["a"] * 9)
    "['a', 'a', 'a', 'a', ...]"
    >>> described(np.ones(3, ">f4")), described(np.ma.ones(3))
    ('>f4[3]', 'masked float64[3]')
    >>> described(jax.ShapeDtypeStruct((), np.float32)), described(np.float32(1))
    ('float32[]', 'np.float32(1.0)')
    >>> described({"a": np.ones((2, 3)), "b": 1})
    '{a: float64[2, 3], b: 1}'
    >>> described(described)
    'the function described'
    >>> described([0.1]), described((0.1,))
    ('[0.1]', '(0.1,)')
    >>> described(10**400)
    'an int, 10000000000000000000...'
    """
    if isinstance(value, dict):
        parts = [f"{name}: {described(part)}" for name, part in list(value.items())[:4]]
        return "{" + ", ".join(parts + ["..."] * (len(value) > 4)) + "}"
    if isinstance(value, tuple | list):
        parts = [described(part) for part in value[:4]] + ["..."] * (len(value) > 4)
        text = ", ".join(parts)
        if isinstance(value, list):
            return f"[{text}]"
        return f"({text},)" if len(value) == 1 else f"({text})"
    shape = list(np.shape(value))
    unknown = isinstance(value, jax.core.Tracer | jax.core.ShapedArray | jax.ShapeDtypeStruct)
    text = f"{_dtype_name(value)}{shape}" if shape or unknown else _on_one_line(value)
    if len(text) <= 100:
        return text
    kind = type(value).__name__
    start = f", {text[:20]}..." if isinstance(value, str | int) else ""
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}{start}"


def described_array(value: Any) -> str:
    """Returns `described` of an array, and of all else the name of its class."""
    return described(value) if hasattr(value, "dtype") else f"a {type(value).__name__}"


def _on_one_line(value: Any) -> str:
    if inspect.isfunction(value):
        return f"the function {value.__name__}"
    # Python refuses the digits of an integer that has more than 4,300.
    is_huge = isinstance(value, int) and value.bit_length() > 10_000
    return hex(value) if is_huge else " ".join(repr(value).split())


def _dtype_name(array: Any) -> str:
    """Returns the name of a dtype, and what else keeps an array from JAX: byte order or a mask."""
    native = getattr(array.dtype, "isnative", True)
    name = getattr(array.dtype, "name", array.dtype) if native else array.dtype.str
    return f"masked {name}" if isinstance(array, np.ma.MaskedArray) else name

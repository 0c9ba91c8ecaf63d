"""Checks of a model."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.tree_util import Partial

from adv_jax.annotations import accepts, parameters_of, unwrapped
from adv_jax.checks._calls import arity, traceable
from adv_jax.programs import is_jitted
from adv_jax.types import (
    Apply,
    Array,
    Attack,
    LogitsFn,
    Output,
    RowTree,
    UserError,
    described,
    described_array,
    dtype_of,
)

_OF_VARIABLES = ("apply", "init", "init_with_output", "__call__")  # Methods of a Flax module.
_OUTPUT = "an adv_jax.types.Output, as models.apply_fn(model) does"


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
        found = f"the class {fn.__name__}" if isinstance(fn, type) else described_array(fn)
        raise UserError(f"{name} must be {allowed}, got {owner or found}: {instead}")


def check_like_x(name: str, x_adv: Any, x: Array) -> None:
    """Raises UserError unless what the attack of that name returns has the shape and dtype of x."""
    for kind in ("shape", "dtype"):
        if getattr(x_adv, kind, None) != getattr(x, kind):
            raise UserError(
                f"{name} must return an array of the {kind} of x, {described(x)}, "
                f"got {described_array(x_adv)}"
            )


def _with_key(attack: Attack) -> Attack:
    """Returns the attack, which may get a key although it takes none: objectives pass it one."""
    try:
        parameters = parameters_of(attack)
    except ValueError:  # The call says what is wrong.
        return attack
    if accepts(parameters, ("logits_fn", "x", "y"), ("key",)):
        return attack

    @functools.wraps(attack)
    def called(*args: Any, key: Any = None, **settings: Any) -> Array:
        del key
        return attack(*args, **settings)

    return called


def like_x(attack: Attack, name: str) -> Attack:
    """Returns the attack of that name, which raises UserError for an output unlike x.

    Broadcast, one row of another shape would train a model on other examples.
    """
    attack = _with_key(attack)

    @functools.wraps(attack)
    def checked(logits_fn: LogitsFn, x: Array, *args: Any, **settings: Any) -> Array:
        x_adv = attack(logits_fn, x, *args, **settings)
        check_like_x(name, x_adv, x)
        return x_adv

    return checked


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


def traced_model(
    fn: Any,
    *inputs: Any,
    name: str = "logits_fn",
    takes: Sequence[str] = ("x", "aux"),
    by: Callable[..., Any] = jax.eval_shape,
) -> Any:
    """Returns what `by` makes of a model, as the shapes and dtypes of its result; computes nothing.

    Args:
      inputs: x f[B, *D], or a ShapeDtypeStruct, and the function's other arguments.
      takes: their names.
      by: what traces the function.

    Raises:
      UserError: as `traceable`, `arity` and `check_batched`.
    """
    try:
        with traceable(name), arity(name, fn, takes[: len(inputs)]):
            if is_jitted(fn):  # Inside another function jit would not use its own trace.
                _array(fn.eval_shape(*inputs), name)
                return by(fn, *inputs)
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


def check_batched(fn: Callable[..., Any], x: Any, *others: Any) -> None:
    """Raises UserError if a model that fails for x maps x[None] to logits [1, K]."""
    one = jax.ShapeDtypeStruct((1, *x.shape), x.dtype)
    if not others and len(_shape_of(fn, one)) == 2:
        found = f"{described(x)}, one input to logits_fn"
        raise UserError(f"x must be a batch f32[B, *D], got {found}: pass x[None]")


def checked_apply(apply: Any) -> Apply:
    """Returns `apply`, which raises UserError unless it maps (variables, x, ...) to an Output.

    Three rows of logits would be taken for the three entries of an Output. It also raises for
    variables without "params", if Flax fails with them: a function of yours may take others.
    """

    def applied(*args: Any, **options: Any) -> Any:
        takes = [*("variables", "x")[: len(args)], *("..." for _ in args[2:])]
        try:
            with arity("apply", apply, takes, [*options]):
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

    own = unwrapped(apply)
    own = unwrapped(own.__wrapped__) if is_jitted(own) else own
    # `apply` of a module returns logits alone, and passes train and key on to the module.
    is_of_module = isinstance(getattr(own, "__self__", own), nn.Module)
    if not callable(apply) or is_of_module:
        raise UserError(f"apply must be a function that returns {_OUTPUT}, got {described(apply)}")
    return applied


def _array(output: Any, name: str) -> Any:
    """Returns the output of a model; raises UserError if logits are its field, or for a text."""
    if not hasattr(output, "shape") and hasattr(output, "logits"):
        raise UserError(
            f"{name} must return the array of logits, got a {type(output).__name__}: "
            "return output.logits"
        )
    arrays = ("dtype", "__jax_array__")
    found = [leaf for leaf in jax.tree.leaves(output) if not any(hasattr(leaf, a) for a in arrays)]
    if any(dtype_of(leaf).hasobject for leaf in found):
        raise UserError(f"{name} must return logits f32[B, K], got {described(output)}")
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

"""Functions that initialize and apply a Linen module, ours or the user's."""

import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from adv_jax.types import Apply, Array, Key, Output, UserError, Variables

# Keyword of the mode -> its value in training.
_MODES = {"train": True, "training": True, "deterministic": False}


def apply_fn(model: nn.Module) -> Apply:
    """Returns `apply(variables, *inputs, train=False, key=None, method=None, ...) -> Output`.

    The module must return logits, or (logits, extras) with extras a mapping. The mode is passed by
    the module's keyword train, training or deterministic, if it has one.

    variables: {"params": ..., **model_state}.
    inputs: f32[B, *D], one for `__call__`; `method` names another method of the module, which
      receives all further keywords.
    key: for noise and dropout; not needed without them.

    Raises:
      UserError: the model is no Linen module; raised by `apply`, if the module returns something
        else, or has no such method, or one of other arguments.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> model, x = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(3)]), jnp.ones((2, 5))
    >>> apply_fn(model)(init(model, jax.random.key(0), x), x).logits.shape
    (2, 3)
    """
    _check_linen(model)

    def apply(
        variables: Variables,
        *inputs: Array,
        train: bool = False,
        key: Key | None = None,
        method: str | None = None,
        **options: Any,
    ) -> Output:
        rngs = None if key is None else {"noise": key, "dropout": key}
        mutable = [name for name in variables if name != "params"] if train else []
        options |= _mode(model, method, train=train)
        try:
            found, model_state = model.apply(
                variables, *inputs, rngs=rngs, mutable=mutable, method=method, **options
            )
        except TypeError:
            _check_arguments(model, method, inputs, options)
            raise
        logits, extras = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
        if not hasattr(logits, "dtype") or not isinstance(extras, Mapping):
            raise UserError(
                f"{type(model).__name__} must return logits f32[B, K] or (logits, extras), got a "
                f"{type(found).__name__}"
            )
        return Output(logits, extras, model_state)

    return apply


def init(model: nn.Module, key: Key, x: Array) -> Variables:
    """Returns initial variables of a Linen module for inputs like x f32[B, *D]."""
    _check_linen(model)
    return model.init(key, x, **_mode(model, None, train=True))


def _check_linen(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(f"model must be a module of Flax Linen, got a {type(model).__name__}")


def _mode(model: nn.Module, method: str | None, *, train: bool) -> dict[str, Any]:
    """Returns the keyword of the mode with its value; {} if the method has none."""
    call = getattr(type(model), method or "__call__", None)
    if call is None:
        raise UserError(f"model must have a method {method!r}, got {type(model).__name__}")
    accepted = inspect.signature(call).parameters
    return {name: bool(train) == value for name, value in _MODES.items() if name in accepted}


def _check_arguments(
    model: nn.Module, method: str | None, inputs: tuple[Array, ...], options: Mapping[str, Any]
) -> None:
    """Raises UserError unless the method takes the arguments, such as a `layer` that it needs."""
    name = method or "__call__"
    try:
        inspect.signature(getattr(type(model), name)).bind(model, *inputs, **options)
    except TypeError as error:
        allowed = ", ".join([*("x" for _ in inputs), *options])
        own = f"{type(model).__name__}.{name}"
        raise UserError(f"model must have a method {name}({allowed}), got {own}: {error}") from None

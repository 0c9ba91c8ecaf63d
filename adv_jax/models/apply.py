"""The one function that runs a Linen module `(x, *, train) -> (logits, extras)`."""

from typing import Any

import flax.linen as nn

from adv_jax.types import Apply, Array, Key, Output, Variables


def apply_fn(model: nn.Module) -> Apply:
    """`apply(variables, *inputs, train=False, key=None, method=None, ...) -> Output` of a module.

    variables: {"params": ..., **model_state}.
    inputs: f32[B, *D], one for the usual pass; `method` names another pass of the module, and
      further keywords are that pass's own.
    key: of the pass's noise and dropout; a pass that draws none needs none.
    """

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
        (logits, extras), model_state = model.apply(
            variables,
            *inputs,
            train=train,
            rngs=rngs,
            mutable=mutable,
            method=method,
            **options,
        )
        return Output(logits, extras, model_state)

    return apply


def init(model: nn.Module, key: Key, x: Array) -> Variables:
    """Fresh variables of a module for inputs like x f32[B, *D]."""
    return model.init(key, x, train=True)

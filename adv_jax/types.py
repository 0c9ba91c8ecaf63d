"""The aliases that every room shares, with their shapes.

Shapes are written `dtype[axes]`: B batch, K classes, *D the axes of one input, R replicas.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array  # a typed key of jax.random.key
LogitsFn = Callable[[Array], Array]  # f32[B, *D] -> f32[B, K]
Bounds = tuple[float, float]  # (lo, hi) of one input value
Norm = str | float  # "linf", "l2", "l1", "rms" or an alias of one of them
Batch = Mapping[str, Array]  # {"x": f32[B, *D], "y": i32[B], ...}
Variables = Mapping[str, Any]  # {"params": ..., **model_state}, as Flax keeps them
Metrics = dict[str, Array]  # name -> f32[]


class Output(NamedTuple):
    """What `apply(variables, x, *, train, key)` gives.

    logits: f32[B, K], before any softmax.
    extras: named intermediates, as each model's docstring lists them.
    model_state: the collections other than "params" after this pass, `{}` when none changed.
    """

    logits: Array
    extras: Mapping[str, Any]
    model_state: Mapping[str, Any]


Apply = Callable[..., Output]  # (variables, x, *, train=False, key=None, ...) -> Output
Attack = Callable[..., Array]  # (logits_fn, x, y, *, key=None) -> f32[B, *D]
Aux = tuple[Mapping[str, Any], Metrics]  # (model_state, metrics)
Objective = Callable[..., tuple[Array, Aux]]  # (variables, batch, *, key) -> (loss f32[], Aux)


class UserError(ValueError):
    """Something that the user gave cannot be used; the message is one line that says what to do.

    It names the field or the file, the value found and what is allowed.
    """

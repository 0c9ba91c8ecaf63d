"""Type aliases shared by the package, with their shapes.

Shapes are written `dtype[axes]`: B batch, K classes, *D the axes of one input, R replicas.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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
    """Returns the dtype to compute in, whatever the input's: float64 for float64, else float32."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(dtype, jnp.float32)


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

"""Counts the operations of a traced function's products, with the lengths of its loops.

XLA's own count takes the body of a loop once, however often it runs.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import Jaxpr, JaxprEqn

from adv_jax.programs import nested


class Flops(NamedTuple):
    """Operations in matrix products and convolutions, a multiply and an add being two.

    count: with each loop of known length in full.
    open_ended: whether a loop of unknown length was counted once.
    """

    count: float
    open_ended: bool

    def __add__(self, other: Any) -> "Flops":
        return Flops(self.count + other.count, self.open_ended or other.open_ended)

    def __mul__(self, times: Any) -> "Flops":
        return Flops(times * self.count, self.open_ended)


def product_flops(fn: Callable[..., Any], *args: Any) -> Flops:
    """Returns the operations of fn's products on an accelerator.

    args: arrays, or their shapes and dtypes.

    >>> a, b = jax.ShapeDtypeStruct((2, 3), "float32"), jax.ShapeDtypeStruct((3, 5), "float32")
    >>> product_flops(lambda a, b: a @ b, a, b)
    Flops(count=60, open_ended=False)
    """
    return _of_jaxpr(jax.make_jaxpr(fn)(*args).jaxpr)


def _of_jaxpr(jaxpr: Jaxpr) -> Flops:
    return sum(map(_of_equation, jaxpr.eqns), Flops(0, False))


def _of_equation(eqn: JaxprEqn) -> Flops:
    params, name = eqn.params, eqn.primitive.name
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = _shape(eqn.invars[0])
        return Flops(2 * _size(eqn) * math.prod(left[axis] for axis in contracted), False)
    if name == "conv_general_dilated":
        kernel = _shape(eqn.invars[1])
        out_channels = kernel[params["dimension_numbers"].rhs_spec[0]]
        return Flops(2 * _size(eqn) * math.prod(kernel) // out_channels, False)
    if name == "scan":
        return _of_jaxpr(params["jaxpr"].jaxpr) * params["length"]
    if name == "while":
        return _of_jaxpr(params["body_jaxpr"].jaxpr)._replace(open_ended=True)
    if name == "cond":
        return max(_of_jaxpr(params["branches"][i].jaxpr) for i in _accelerated(params))
    if name == "custom_linear_solve":  # Its other functions are for derivatives.
        return _of_jaxpr(params["jaxprs"].solve.jaxpr)
    return sum(map(_of_jaxpr, nested(eqn)), Flops(0, False))


def _size(eqn: JaxprEqn) -> int:
    return math.prod(_shape(eqn.outvars[0]))


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _accelerated(params: dict[str, Any]) -> list[int]:
    """Returns the branches that an accelerator may take."""
    platforms = params.get("branches_platforms")
    everyone = range(len(params["branches"]))
    return [i for i in everyone if platforms is None or platforms[i] is None] or [*everyone]

"""Replaces the convolutions of any JAX function by ones that are fast inside `lax` loops.

On CPUs, XLA runs a convolution in a loop some 16 times slower than outside unless its images are
NHWC and its kernel HWIO (JAX issue 12868). Derivatives never are: their kernel is transposed to
HWOI. An attack on a plain convolutional net is such a loop.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.lax import ConvDimensionNumbers

from adv_jax.convolution._conv import conv_on_cpu
from adv_jax.convolution._pooling import max_pool_2x2
from adv_jax.meshes import automatic
from adv_jax.programs import bound, evaluated_jaxpr, new_jaxpr
from adv_jax.types import Array

Operation = Callable[..., list[Array]]

# Operations whose author has given the derivatives, as for `conv`.
_OWN_DERIVATIVES = ("custom_jvp_call", "custom_vjp_call")


def fast_in_loops(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Returns fn with convolutions and poolings whose derivatives are fast inside `lax` loops.

    The result and its derivatives equal fn's up to rounding. On CPUs, two-dimensional convolutions
    of stride 1 become `conv`, other ones and all derivatives get the memory layout that XLA runs
    fast in loops, and max-pooling over 2 x 2 pixels becomes `max_pool_2x2`. On other platforms
    nothing changes. Convolutions inside `jit`, `scan`, `while_loop`, `cond` and `checkpoint` are
    replaced too, not those of functions with derivatives of their own (`custom_vjp`).

    Attacks do this to `logits_fn` by themselves; use it for a plain model that is trained in a
    loop, for example.

    Args:
      fn: (*trees of arrays, **options) -> tree of arrays, pure. It is traced at each call.

    Returns:
      A function like fn that supports reverse mode (`grad`, `vjp`) of any order; forward mode
      (`jvp`) only if nothing was replaced.

    >>> import flax.linen as nn
    >>> net, x = nn.Conv(4, (3, 3)), jnp.ones((2, 8, 8, 1))
    >>> params = net.init(jax.random.key(0), x)
    >>> fast = fast_in_loops(net.apply)
    >>> bool(jnp.allclose(fast(params, x), net.apply(params, x), atol=1e-6))
    True
    """

    @functools.wraps(fn)
    def fast(*args: Any, **options: Any) -> Any:
        traced, out = new_jaxpr(functools.partial(fn, **options), *args)
        return jax.tree.unflatten(jax.tree.structure(out), _run(traced, jax.tree.leaves(args)))

    return fast


def _run(traced: ClosedJaxpr, args: list[Array]) -> list[Array]:
    """Evaluates a jaxpr with its slow operations replaced."""
    return evaluated_jaxpr(traced.jaxpr, [*traced.consts, *args], _operation)


def _operation(eqn: JaxprEqn) -> Operation:
    """Returns the operation that takes the place of an equation."""
    name, params = eqn.primitive.name, eqn.params
    if name == "conv_general_dilated":
        return _on_cpu(_fast_conv(eqn), eqn)
    if name == "reduce_window_max" and (pool := _fast_pool(eqn)):
        return _on_cpu(pool, eqn)
    if name not in _OWN_DERIVATIVES and params.get("branches_platforms") is None:
        params = {key: _rewritten(value) for key, value in params.items()}
    return bound(eqn, params)


def _rewritten(param: Any) -> Any:
    """Rewrites a parameter that is a jaxpr or a tuple of jaxprs."""
    if type(param) is tuple:  # not a NamedTuple, as the implementation of a key is
        return tuple(map(_rewritten, param))
    if isinstance(param, ClosedJaxpr):
        return jax.make_jaxpr(lambda *args: _run(param, list(args)))(*param.in_avals)
    if isinstance(param, Jaxpr) and not param.constvars:
        return _rewritten(ClosedJaxpr(param, ())).jaxpr
    return param


def _on_cpu(fast: Callable[..., Array], eqn: JaxprEqn) -> Operation:
    """Returns an operation that is `fast` on CPUs and else that of the equation."""
    aval: Any = eqn.outvars[0].aval
    slow, sharding = bound(eqn, eqn.params), aval.sharding
    branches = {"cpu": automatic(fast, sharding), "default": lambda *args: slow(*args)[0]}
    return lambda *args: [jax.lax.platform_dependent(*args, **branches)]


def _fast_conv(eqn: JaxprEqn) -> Callable[[Array, Array], Array]:
    """Returns a convolution that is fast in loops: `conv` if it can compute it."""
    names = eqn.params["dimension_numbers"]
    to_images, to_maps = (_channels_last(spec) for spec in (names.lhs_spec, names.out_spec))
    outputs, inputs, *space = names.rhs_spec
    if _is_plain(eqn):
        convolved = functools.partial(conv_on_cpu, tuple(eqn.params["padding"]))
    else:
        convolved = _conv_in_layout(eqn)

    def fast(x: Array, kernel: Array) -> Array:
        y = convolved(x.transpose(to_images), kernel.transpose(*space, inputs, outputs))
        return y.transpose(np.argsort(to_maps))

    return fast


def _is_plain(eqn: JaxprEqn) -> bool:
    """Returns whether `conv_on_cpu` can compute a convolution."""
    params = eqn.params
    avals: list[Any] = [var.aval for var in (*eqn.invars, *eqn.outvars)]
    dtypes = {aval.dtype for aval in avals}
    return (
        len(params["padding"]) == 2
        and min(map(min, params["padding"])) >= 0  # A negative one crops.
        and {*params["window_strides"], *params["lhs_dilation"], *params["rhs_dilation"]} == {1}
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and len(dtypes) == 1
        and jnp.issubdtype(dtypes.pop(), jnp.floating)
    )


def _conv_in_layout(eqn: JaxprEqn) -> Callable[[Array, Array], Array]:
    """Returns any convolution of channels-last operands whose derivatives have this layout too."""
    last = len(eqn.params["dimension_numbers"].lhs_spec) - 1
    space = range(last - 1)
    channels_last = (0, last, *(axis + 1 for axis in space))
    layout = ConvDimensionNumbers(channels_last, (last, last - 1, *space), channels_last)
    # Not in the context of the equation, whose mesh may have Explicit axes.
    bound = functools.partial(eqn.primitive.bind, **eqn.params | {"dimension_numbers": layout})

    @jax.custom_vjp
    def convolved(x: Array, kernel: Array) -> Array:
        return bound(x, kernel)

    def pull_back(operands: tuple[Array, Array], g: Array) -> Any:
        gradients = lambda x, kernel, g: jax.vjp(bound, x, kernel)[1](g)
        return fast_in_loops(gradients)(*operands, g)

    convolved.defvjp(lambda *operands: (convolved(*operands), operands), pull_back)
    return convolved


def _channels_last(spec: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the permutation of axes to batch, space, channels."""
    batch, channels, *space = spec
    return batch, *space, channels


def _fast_pool(eqn: JaxprEqn) -> Callable[[Array], Array] | None:
    """Returns `max_pool_2x2` over the axes of a pooling, None if it is another kind of pooling."""
    params = eqn.params
    window = params["window_dimensions"]
    axes = [axis for axis, size in enumerate(window) if size == 2]
    others = [axis for axis, size in enumerate(window) if size == 1]
    ones = {*params["base_dilation"], *params["window_dilation"]}
    if (
        len(axes) != 2
        or not others
        or len(others) + 2 != len(window)
        or params["window_strides"] != window
        or ones != {1}
        or any(map(any, params["padding"]))
    ):
        return None
    order = (*others[:-1], *axes, others[-1])

    def pool(x: Array) -> Array:
        x = x.transpose(order)
        y = max_pool_2x2(x.reshape(-1, *x.shape[-3:]))
        return y.reshape(*x.shape[:-3], *y.shape[1:]).transpose(np.argsort(order))

    return pool

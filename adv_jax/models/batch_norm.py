"""Normalization by the statistics of a batch, with a derivative of few passes over memory."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from adv_jax.types import Array, working_dtype

EPS = 1e-10  # A larger eps changes constant pixels and dead units.
Moments = tuple[Array, Array]  # mean and biased variance of each channel, f32[..., 1, C]


class BatchNorm(nn.Module):
    """Normalizes each channel over all images and pixels, then scales and shifts it.

    In training it takes the statistics of this batch, and stores its mean and unbiased variance in
    "batch_stats"; otherwise it takes the stored ones. They are those of the last batch, without a
    moving average, and should first be averaged over the training set, as a run does for its tests.
    It computes in float32, also for inputs in bfloat16.
    """

    eps: float = 1e-5

    @nn.compact
    def __call__(self, h: Array, *, train: bool) -> Array:
        """f[B, ..., C] -> f[B, ..., C] in the dtype of h."""
        channels = h.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        rows = h.reshape(-1, *channels).astype(working_dtype(h.dtype))
        if train:
            y, moments = scaled_batch_norm(rows, scale, bias, self.eps)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                unbiased = len(rows) / max(len(rows) - 1, 1)
                mean.value, var.value = moments[0].ravel(), moments[1].ravel() * unbiased
        else:
            z = normalize(rows, (mean.value[None], var.value[None]), self.eps)
            y = z * scale[None] + bias[None]
        return y.reshape(h.shape).astype(h.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def batch_norm(a: Array, eps: float = EPS) -> tuple[Array, Moments]:
    """Returns (a - mean) / sqrt(var + eps) over the rows of f[..., N, C], and the moments.

    Gradients flow through the moments. Autodiff would store a - mean and pass over f[..., N, C]
    several times more.

    >>> z, (mean, var) = batch_norm(jnp.array([[1.], [3.]]))
    >>> z.ravel(), mean.item(), var.item()
    (Array([-1.,  1.], dtype=float32), 2.0, 1.0)
    """
    moments = batch_moments(a)
    return normalize(a, moments, eps), moments


def batch_moments(a: Array) -> Moments:
    """Returns mean and biased variance over the rows of f[..., N, C]."""
    return jax.lax.platform_dependent(a, cpu=_two_passes, default=_one_pass)


def _two_passes(a: Array) -> Moments:
    return a.mean(-2, keepdims=True), a.var(-2, keepdims=True)


def _one_pass(a: Array) -> Moments:
    """Takes both sums of distances from the first row, so that neither waits for the other.

    Little cancels: that row is among the others, so (mean - row)^2 is at most N times the variance.
    """
    row = jax.lax.stop_gradient(a[..., :1, :])
    distance = a - row
    sums = sums_over_rows(distance, jnp.square(distance))
    mean, square = (total / a.shape[-2] for total in sums)
    return row + mean, jnp.maximum(square - jnp.square(mean), 0)


def normalize(a: Array, moments: Moments, eps: float = EPS) -> Array:
    """Returns (a - mean) / sqrt(var + eps) of f[..., N, C]."""
    mean, var = moments
    return (a - mean) / jnp.sqrt(var + eps)


def _forward(a: Array, eps: float) -> tuple[tuple[Array, Moments], tuple[Array, Array]]:
    z, (mean, var) = batch_norm(a, eps)
    return (z, (mean, var)), (z, var)


def _backward(
    eps: float, saved: tuple[Array, Array], cotangents: tuple[Array, Moments]
) -> tuple[Array]:
    z, var = saved
    g, by_moments = cotangents
    return (_pull_batch_norm(z, jnp.sqrt(var + eps), g, sums_over_rows(g, g * z), by_moments),)


batch_norm.defvjp(_forward, _backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def scaled_batch_norm(a: Array, scale: Array, bias: Array, eps: float) -> tuple[Array, Moments]:
    """Returns `batch_norm` of f[N, C] times scale f[C] plus bias f[C], and the moments.

    Its derivative takes two sums over the rows; normalization and scaling in turn take four.
    """
    z, moments = batch_norm(a, eps)
    return z * scale[None] + bias[None], moments


def _forward_scaled(a: Array, scale: Array, bias: Array, eps: float) -> tuple[Any, Any]:
    z, (mean, var) = batch_norm(a, eps)
    return (z * scale[None] + bias[None], (mean, var)), (z, var, scale)


def _backward_scaled(
    eps: float, saved: tuple[Array, Array, Array], cotangents: tuple[Array, Moments]
) -> tuple[Array, Array, Array]:
    z, var, scale = saved
    g, by_moments = cotangents
    by_bias, by_scale = sums_over_rows(g, g * z)
    of_z = by_bias * scale[None], by_scale * scale[None]
    by_a = _pull_batch_norm(z, jnp.sqrt(var + eps), g * scale[None], of_z, by_moments)
    return by_a, by_scale[0].astype(scale.dtype), by_bias[0].astype(scale.dtype)


scaled_batch_norm.defvjp(_forward_scaled, _backward_scaled)


def _pull_batch_norm(
    z: Array, std: Array, g: Array, sums: tuple[Array, ...], by_moments: Moments
) -> Array:
    """Pulls g, the cotangent of z, and by_moments, those of the moments, back to a.

    sums: of g and of g * z over the rows.
    """
    rows = z.shape[-2]
    # Through z and through the moments themselves: d mean / da = 1 / N, d var / da = 2 std z / N.
    by_z, of_mean, of_var = _pull_normalize(z, std, g, sums)
    by_mean, by_var = by_moments[0] + of_mean, by_moments[1] + of_var
    return by_z + (by_mean + 2 * std * by_var * z) / rows


@jax.custom_vjp
def normalize_by(a: Array, moments: Moments) -> Array:
    """Computes `normalize`, with the derivatives by both moments in one pass over f[..., N, C]."""
    return normalize(a, moments)


def _forward_by(a: Array, moments: Moments) -> tuple[Array, tuple[Array, Array]]:
    z = normalize(a, moments)
    return z, (z, jnp.sqrt(moments[1] + EPS))


def _backward_by(saved: tuple[Array, Array], g: Array) -> tuple[Array, Moments]:
    z, std = saved
    by_a, by_mean, by_var = _pull_normalize(z, std, g, sums_over_rows(g, g * z))
    return by_a, (by_mean, by_var)


normalize_by.defvjp(_forward_by, _backward_by)


def _pull_normalize(
    z: Array, std: Array, g: Array, sums: tuple[Array, ...]
) -> tuple[Array, Array, Array]:
    """Returns the derivatives of z = (a - mean) / std by a, mean and var, applied to g.

    sums: of g and of g * z over the rows.
    """
    sum_g, sum_gz = sums
    return g / std, -sum_g / std, -sum_gz / (2 * jnp.square(std))


def sums_over_rows(*arrays: Array) -> tuple[Array, ...]:
    """Returns the sums f[..., 1, C] over the rows of several f[..., N, C].

    On a GPU in one pass; XLA:CPU is several times faster with one for each.
    """
    each = lambda *arrays: tuple(a.sum(-2, keepdims=True) for a in arrays)
    return jax.lax.platform_dependent(*arrays, cpu=each, default=_summed_together)


@jax.custom_jvp
def _summed_together(*arrays: Array) -> tuple[Array, ...]:
    zeros = tuple(jnp.zeros((), a.dtype) for a in arrays)
    add = lambda totals, rows: tuple(map(jax.lax.add, totals, rows))
    totals = jax.lax.reduce(arrays, zeros, add, (arrays[0].ndim - 2,))
    return tuple(jnp.expand_dims(total, -2) for total in totals)


# JAX has no derivative of a reduction of several arrays.
@_summed_together.defjvp
def _(arrays: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Any, Any]:
    return _summed_together(*arrays), tuple(t.sum(-2, keepdims=True) for t in tangents)

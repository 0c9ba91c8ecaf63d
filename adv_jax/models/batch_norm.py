"""Normalization by the statistics of a batch, with a derivative of few passes over memory."""

from functools import partial

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
            z, moments = batch_norm(rows, self.eps)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                unbiased = len(rows) / max(len(rows) - 1, 1)
                mean.value, var.value = moments[0].ravel(), moments[1].ravel() * unbiased
        else:
            z = normalize(rows, (mean.value[None], var.value[None]), self.eps)
        return (z * scale[None] + bias[None]).reshape(h.shape).astype(h.dtype)


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
    return a.mean(-2, keepdims=True), a.var(-2, keepdims=True)


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
    g, (by_mean, by_var) = cotangents
    rows, std = z.shape[-2], jnp.sqrt(var + eps)
    # Through z and through the moments themselves: d mean / da = 1 / N, d var / da = 2 std z / N.
    through_mean = by_mean - g.sum(-2, keepdims=True) / std
    through_var = 2 * std * by_var - (g * z).sum(-2, keepdims=True) / std
    return (g / std + (through_mean + through_var * z) / rows,)


batch_norm.defvjp(_forward, _backward)

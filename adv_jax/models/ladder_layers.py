"""The linear maps of a ladder network's layers, up and down, and its denoising functions.

Arrays are f32[*G, B, *S] as in `models.ladder`. "Channels" are the last axis.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling

from adv_jax.convolution import Padding, conv, max_pool_2x2
from adv_jax.models.batch_norm import sums_over_rows
from adv_jax.models.initializers import fan_in
from adv_jax.models.ladder_spec import DENOISING, LayerSpec
from adv_jax.types import Array, UserError

PADDING: dict[str, Padding] = {"convv": "VALID", "convf": "FULL"}
INVERSE_PADDING: dict[str, Padding] = {"convv": "FULL", "convf": "VALID"}


class Up(nn.Module):
    """A layer's linear map or pooling, before normalization, without biases.

    The mean over all pixels is scaled by sqrt(3) times their width, as in the reference.
    number: of the layer, from 1.
    """

    layer: LayerSpec
    number: int

    @nn.compact
    def __call__(self, h: Array) -> Array:
        """f32[*G, B, *S] -> f32[*G, B, *S'].

        Raises:
          UserError: the kernel of a valid convolution exceeds the image, or globalmeanpool:H:W
            does not match it.
        """
        kind = self.layer.kind
        if kind == "fc":
            return _product(self, h.reshape(*lead(h.shape), -1), self.layer.units)
        if kind == "globalmeanpool":
            return self._averaged(h)
        return _as_images(self._pooled if kind == "maxpool" else self._convolved, h)

    def _averaged(self, h: Array) -> Array:
        said, there = (self.layer.height, self.layer.width), h.shape[-3:-1]
        if said not in ((0, 0), there):
            raise UserError(
                "layer {} of model.layers must be globalmeanpool above {} x {} pixels, got "
                "'globalmeanpool:{}:{}'".format(self.number, *there, *said)
            )
        # The reference's factor: normalization cancels it, but z_hat is compared on this scale.
        return h.mean((-3, -2)) * (math.sqrt(3) * h.shape[-2])

    def _convolved(self, images: Array) -> Array:
        kind, units, size = self.layer[:3]
        height, width = images.shape[1:3]
        if kind == "convv" and size > min(height, width):
            raise UserError(
                f"layer {self.number} of model.layers must have K <= {min(height, width)} above "
                f"{height} x {width} pixels, got 'convv:{units}:{size}:1:1'"
            )
        return _conv(self, images, units, size, PADDING[kind])

    def _pooled(self, images: Array) -> Array:
        _, height, width, _ = images.shape
        # An odd last row or column is pooled alone, as in the reference.
        filling = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
        return max_pool_2x2(jnp.pad(images, filling, constant_values=-jnp.inf))


class Down(nn.Module):
    """The decoder's map of a layer: shaped as its transpose, with separate weights.

    shape: S, of the layer below.
    """

    layer: LayerSpec
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, z_hat: Array) -> Array:
        """f32[*G, B, *S'] -> f32[*G, B, *S]."""
        kind, shape = self.layer.kind, (*lead(z_hat.shape), *self.shape)
        if kind == "fc":
            return _product(self, z_hat, math.prod(self.shape)).reshape(shape)
        if kind == "globalmeanpool":
            return jnp.broadcast_to(z_hat[..., None, None, :], shape)
        if kind == "maxpool":
            spread = z_hat.repeat(2, axis=-3).repeat(2, axis=-2)
            return spread[..., : self.shape[0], : self.shape[1], :]
        return _as_images(self._convolved, z_hat)

    def _convolved(self, images: Array) -> Array:
        padding = INVERSE_PADDING[self.layer.kind]
        return _conv(self, images, self.shape[-1], self.layer.size, padding)


class Gauss(nn.Module):
    """z_hat = (z - mu(u)) v(u) + mu(u), optimal for a Gaussian z.  [Eq. 38]

    mu = a1 sigmoid(a2 u + a3) + a4 u + a5 and v = a6 sigmoid(a7 u + a8) + a9 u + a10, with ten
    parameters per channel, initialized to z_hat = 0.
    """

    @nn.compact
    def __call__(self, z: Array, u: Array) -> Array:
        """z, noisy, and u from above: f32[N, C] -> z_hat f32[N, C]."""
        return gauss(z, u, *_channels(self, "a", u, (0, 1, 0, 0, 0) * 2))


@jax.custom_vjp
def gauss(z: Array, u: Array, *a: Array) -> Array:
    """Computes z_hat of `Gauss`: z, u f32[N, C] and ten a f32[1, C] -> f32[N, C].

    Autodiff sums over the rows once for each a, which on a GPU are ten kernels; here they are two.
    """
    mu = a[0] * jax.nn.sigmoid(a[1] * u + a[2]) + a[3] * u + a[4]
    v = a[5] * jax.nn.sigmoid(a[6] * u + a[7]) + a[8] * u + a[9]
    return (z - mu) * v + mu


def _pull_gauss(inputs: tuple[Array, ...], t: Array) -> tuple[Array, ...]:
    z, u, *a = inputs
    p, q = jax.nn.sigmoid(a[1] * u + a[2]), jax.nn.sigmoid(a[6] * u + a[7])
    mu = a[0] * p + a[3] * u + a[4]
    v = a[5] * q + a[8] * u + a[9]
    by_mu, by_v = t * (1 - v), t * (z - mu)
    # By the arguments of the sigmoids.
    by_p, by_q = by_mu * a[0] * p * (1 - p), by_v * a[5] * q * (1 - q)
    by_u = by_p * a[1] + by_mu * a[3] + by_q * a[6] + by_v * a[8]
    of_mu = (by_mu * p, by_p * u, by_p, by_mu * u, by_mu)
    of_v = (by_v * q, by_q * u, by_q, by_v * u, by_v)
    # In the memory that the threads of a GPU share, ten sums at once do not fit; five do.
    return t * v, by_u, *sums_over_rows(*of_mu), *sums_over_rows(*of_v)


gauss.defvjp(lambda *inputs: (gauss(*inputs), inputs), _pull_gauss)


class Sig(nn.Module):
    """z_hat = a1 + a2 z + a3 u + a4 z u + b1 sigmoid(c1 + c2 z + c3 u + c4 z u).

    Used by the reference program before its final paper. Initialized to a2 = c2 = b1 = 1, else 0.
    """

    @nn.compact
    def __call__(self, z: Array, u: Array) -> Array:
        """z, noisy, and u from above: f32[N, C] -> z_hat f32[N, C]."""
        a = _channels(self, "a", u, (0, 1, 0, 0))
        (b,) = _channels(self, "b", u, (1,))
        c = _channels(self, "c", u, (0, 1, 0, 0))
        bilinear = lambda w: w[0] + w[1] * z + w[2] * u + w[3] * z * u
        return bilinear(a) + b * jax.nn.sigmoid(bilinear(c))


DENOISERS = dict(zip(DENOISING, (Gauss, Sig), strict=True))


def lead(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns (*G, B) of (*G, B, *S): rows have one or three axes, so odd ranks have groups."""
    return shape[: 1 + len(shape) % 2]


def _channels(module: nn.Module, letter: str, u: Array, starts: tuple[float, ...]) -> list[Array]:
    """Returns parameters letter1, letter2, ... f32[channels], initialized to `starts`.

    They have as many axes as u, to broadcast with it.
    """
    values = (
        module.param(f"{letter}{i}", nn.initializers.constant(start, jnp.float32), u.shape[-1:])
        for i, start in enumerate(starts, start=1)
    )
    return [jnp.expand_dims(value, range(u.ndim - 1)) for value in values]


def _product(module: nn.Module, h: Array, units: int) -> Array:
    return h @ module.param("kernel", fan_in(), (h.shape[-1], units))


def _conv(module: nn.Module, images: Array, maps: int, size: int, padding: Padding) -> Array:
    # Uniform, with the variance of the normal matrices, as in the reference.
    init = variance_scaling(1.0, "fan_in", "uniform")
    kernel = module.param("kernel", init, (size, size, images.shape[-1], maps))
    return conv(images, kernel, padding=padding)


def _as_images(fn, h: Array) -> Array:
    """Applies fn of f32[B, H, W, C] to f32[*G, B, H, W, C]."""
    out = fn(h.reshape(-1, *h.shape[-3:]))
    return out.reshape(*lead(h.shape), *out.shape[1:])

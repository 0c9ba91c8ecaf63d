"""The fully connected ladder network.  [Rasmus et al. 2015; Maronas 2016, sec. 5.3]

Layers are counted 0..L, layer 0 being the input. z(l) is always the normalised pre-activation,
before beta and gamma. G is an axis of groups (the labelled and the unlabelled half), which share
the weights but not the batch statistics.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from adv_jax.models.activations import activation_fn
from adv_jax.models.initializers import fan_in
from adv_jax.random import normal
from adv_jax.types import Array

BATCH_NORM_EPS = 1e-10  # A larger one changes constant pixels and dead units.
Moments = tuple[Array, Array]  # mean and biased variance, each f32[*G, 1, D_l] or f32[D_l]


class Encoding(NamedTuple):
    """One pass through the encoder.

    z: L+1 arrays f32[*G, B, D_l], normalised and, in the corrupted pass, noisy; z[0] the input.
    moments: those of the pre-activations of layers 1..L that normalised them.
    logits: f32[*G, B, K], the input of the softmax.
    """

    z: tuple[Array, ...]
    moments: tuple[Moments, ...]
    logits: Array


class Encoder(nn.Module):
    """z(l) = BN(W(l) h(l-1)) + noise(l), h(l) = act(gamma (z(l) + beta)); softmax on top."""

    features: Sequence[int]
    activation: str
    noise_std: Sequence[float]

    @nn.compact
    def __call__(
        self, x: Array, *, noisy: bool = False, moments: Sequence[Moments] | None = None
    ) -> Encoding:
        """x: f32[*G, B, D]. `moments` of the layers 1..L replace those of the batch."""
        act = activation_fn(self.activation)
        h = self._corrupt(x, 0) if noisy else x
        z, used = [h], []
        for layer, units in enumerate(self.features, start=1):
            a = nn.Dense(units, use_bias=False, kernel_init=fan_in(), name=f"W{layer}")(h)
            used.append(moments[layer - 1] if moments else _moments(a))
            z_l = _normalise(a, used[-1])
            z.append(self._corrupt(z_l, layer) if noisy else z_l)
            shifted = z[-1] + self.param(f"beta{layer}", nn.initializers.zeros, (units,))
            h = act(shifted)
        # Only the softmax is scaled: behind a ReLU the next layer's weights do what gamma would.
        logits = shifted * self.param("gamma", nn.initializers.ones, (self.features[-1],))
        return Encoding(tuple(z), tuple(used), logits)

    def _corrupt(self, z: Array, layer: int) -> Array:
        return z + self.noise_std[layer] * normal(self.make_rng("noise"), z.shape)


class Combinator(nn.Module):
    """The `gauss` denoising function z_hat = (z - mu(u)) v(u) + mu(u).  [Maronas 2016, eq. 38]

    mu = a1 sigmoid(a2 u + a3) + a4 u + a5 and v = a6 sigmoid(a7 u + a8) + a9 u + a10, with ten
    parameters for each unit, which begin so that z_hat = 0.
    """

    @nn.compact
    def __call__(self, z_noisy: Array, u: Array) -> Array:
        """z_noisy, u: f32[B, D_l] -> z_hat f32[B, D_l]."""
        one, zero = nn.initializers.ones, nn.initializers.zeros
        inits = (zero, one, zero, zero, zero) * 2
        a = [self.param(f"a{i}", init, u.shape[1:]) for i, init in enumerate(inits, start=1)]
        mu = a[0] * jax.nn.sigmoid(a[1] * u + a[2]) + a[3] * u + a[4]
        v = a[5] * jax.nn.sigmoid(a[6] * u + a[7]) + a[8] * u + a[9]
        return (z_noisy - mu) * v + mu


class Decoder(nn.Module):
    """u(l) = BN(V(l+1) z_hat(l+1)), z_hat(l) = g(z_noisy(l), u(l)); on top u(L) = BN(softmax)."""

    bottom: int

    @nn.compact
    def __call__(self, z_noisy: Sequence[Array], top: Array) -> dict[int, Array]:
        """z_noisy: L+1 arrays f32[B, D_l]; top: f32[B, K] -> {l: z_hat(l) f32[B, D_l]}."""
        z_hat = {}
        u = top
        for layer in reversed(range(self.bottom, len(z_noisy))):
            units = z_noisy[layer].shape[-1]
            if z_hat:
                name = f"V{layer + 1}"
                dense = nn.Dense(units, use_bias=False, kernel_init=fan_in(), name=name)
                u = dense(z_hat[layer + 1])
            u = _normalise(u, _moments(u))
            z_hat[layer] = Combinator(name=f"g{layer}")(z_noisy[layer], u)
        return z_hat


class Ladder(nn.Module):
    """Ladder network: a classifier whose layers are denoised from above while it trains.

    features: units of layers 1..L, the last being the number of classes.
    activation: of layers 1..L-1.
    noise_std: of the Gaussian noise at layers 0..L of the corrupted pass, in units of the input
      and of the normalised pre-activations.
    bottom: the lowest layer to be reconstructed: 0 for the whole ladder, L for the Gamma model.
    """

    features: Sequence[int] = (1000, 500, 250, 250, 250, 10)
    activation: str = "relu"
    noise_std: Sequence[float] = (0.3,) * 7
    bottom: int = 0

    def setup(self) -> None:
        if len(self.noise_std) != len(self.features) + 1:
            raise ValueError(
                f"model.noise_std has {len(self.noise_std)} entries; allowed are "
                f"{len(self.features) + 1}: one for the input and for each of model.features"
            )
        if not 0 <= self.bottom <= len(self.features):
            raise ValueError(
                f"model.bottom is {self.bottom}; allowed are 0 to {len(self.features)}"
            )
        self.encoder = Encoder(self.features, self.activation, self.noise_std)
        self.decoder = Decoder(self.bottom)
        self.stored_moments = [
            (
                self.variable("batch_stats", f"mean{layer}", jnp.zeros, (units,)),
                self.variable("batch_stats", f"var{layer}", jnp.ones, (units,)),
            )
            for layer, units in enumerate(self.features, start=1)
        ]

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, dict[str, tuple]]:
        """The clean path, which classifies: f32[B, *D] -> logits f32[B, K], {"z": L+1 arrays}.

        `train` normalises by this batch and stores its mean and unbiased variance as the model's
        "batch_stats"; otherwise the stored ones are used, which are to be averaged over the
        training set beforehand.
        """
        if not train:
            stored = [(mean.value, var.value) for mean, var in self.stored_moments]
            clean = self.encoder(_flat(x), moments=stored)
            return clean.logits, {"z": clean.z}
        if x.shape[0] < 2:
            raise ValueError(
                "batch_size is 1; a model that normalises by its batch needs at least 2"
            )
        clean = self.encoder(_flat(x))
        if self.is_initializing():
            self.decoder(clean.z, clean.logits)
        elif self.is_mutable_collection("batch_stats"):
            unbiased = x.shape[0] / (x.shape[0] - 1)
            for (mean, var), moments in zip(self.stored_moments, clean.moments, strict=True):
                mean.value, var.value = moments[0][0], moments[1][0] * unbiased
        return clean.logits, {"z": clean.z}

    def corrupted(self, x: Array, *, train: bool = True) -> tuple[Array, dict[str, tuple]]:
        """The noisy path on batch statistics: f32[B, *D] -> logits f32[B, K], {"z": ...}."""
        del train  # There is no other form of this pass.
        noisy = self.encoder(_flat(x), noisy=True)
        return noisy.logits, {"z": noisy.z}

    def autoencode(
        self, labelled: Array, unlabelled: Array, target: Array, *, train: bool = True
    ) -> tuple[Array, dict[str, dict[int, Array]]]:
        """What the costs of training read, and nothing else.

        Args:
          labelled: f32[B, *D], input of the corrupted pass of the labelled half.
          unlabelled: f32[B, *D], input of the corrupted pass of the unlabelled half.
          target: f32[B, *D], input of the clean pass of the unlabelled half.

        Returns:
          The corrupted logits of the labelled half, f32[B, K], and {"z": ..., "z_hat": ...} of
          the unlabelled half, each {l: f32[B, D_l]}: the clean targets, and the reconstructions
          normalised by the clean pass's batch statistics (eq. 33; layer 0 has none).
        """
        del train
        noisy = self.encoder(jnp.stack([_flat(labelled), _flat(unlabelled)]), noisy=True)
        clean = self.encoder(_flat(target))
        z_hat = self.decoder([z[1] for z in noisy.z], jax.nn.softmax(noisy.logits[1]))
        for layer in z_hat.keys() - {0}:
            z_hat[layer] = _normalise(z_hat[layer], clean.moments[layer - 1])
        targets = {layer: clean.z[layer] for layer in z_hat}
        return noisy.logits[0], {"z": targets, "z_hat": z_hat}


def _moments(a: Array) -> Moments:
    """f32[*G, B, D] -> mean and biased variance over the batch, f32[*G, 1, D] each."""
    return a.mean(-2, keepdims=True), a.var(-2, keepdims=True)


def _normalise(a: Array, moments: Moments) -> Array:
    mean, var = moments
    return (a - mean) / jnp.sqrt(var + BATCH_NORM_EPS)


def _flat(x: Array) -> Array:
    """f32[B, *D] -> f32[B, D]."""
    return x.reshape(x.shape[0], -1)

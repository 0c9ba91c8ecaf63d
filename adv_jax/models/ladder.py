"""The ladder network: fully connected or convolutional.  [rasmus2015] [maronas2016, 5.3]

Layers are counted 0..L; layer 0 is the input. z(l) is the normalized pre-activation, before beta
and gamma. Arrays are f32[*G, B, *S], S = (D,) or (H, W, C). G = (3,) for the passes of a training
step: the corrupted ones of both halves of a batch, labeled and unlabeled, and the clean one of the
latter, which share the weights but not the batch statistics. G = () for one pass, as XLA:CPU
reduces over a batch behind an axis of 1 ten times as slowly.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from adv_jax.models.activations import activation_fn
from adv_jax.models.batch_norm import Moments, batch_moments, batch_norm, normalize, normalize_by
from adv_jax.models.checks import check_floats
from adv_jax.models.ladder_layers import DENOISERS, Down, Up, lead
from adv_jax.models.ladder_spec import LayerSpec, parse_denoising, parse_layers
from adv_jax.random import normal
from adv_jax.ranges import ranged
from adv_jax.types import Array, Key, UserError, described


class Encoding(NamedTuple):
    """The values of the encoder's passes.

    z: L+1 arrays f32[*G, B, *S_l], normalized and, in corrupted passes, noisy; z[0] the input.
    moments: of the pre-activations of layers 1..L, used to normalize them.
    logits: f32[*G, B, K], the input of the softmax.
    """

    z: tuple[Array, ...]
    moments: tuple[Moments, ...]
    logits: Array


class Encoder(nn.Module):
    """z(l) = BN(W(l) h(l-1)) + noise(l), h(l) = act(gamma (z(l) + beta)); softmax on top.

    Pooling layers are normalized and noisy like the others, but have no beta and no activation.
    """

    layers: Sequence[LayerSpec]
    activation: str
    noise_std: Sequence[float]
    scale_softmax: bool

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        noisy: bool = False,
        first: int = 0,
        frozen: bool = False,
        moments: Sequence[Moments] | None = None,
        offsets: Sequence[Array] = (),
    ) -> Encoding:
        """Encodes x f32[*G, B, *S]: three passes of which the last stays clean, or one.

        A `noisy` pass is corrupted, each half with its own noise; `first` is the half of a single
        one.

        `moments` of the layers 1..L replace those of the batch; `frozen` detaches those. `offsets`
        of the layers 1..L, f32[*G, B, *S_l], are added to z(l), as noise is.
        """
        act, top = activation_fn(self.activation), len(self.layers)
        key = self.make_rng("noise") if noisy else None
        h = x if key is None else self._corrupted(x, key, [], first)
        z, used = [h], []
        for number, layer in enumerate(self.layers, start=1):
            a = Up(layer, number, name=f"W{number}")(h)
            if moments or frozen:
                used.append(moments[number - 1] if moments else _frozen_moments(a))
                h = _normalize(a, used[-1])
            else:
                h, own = _batch_norm(a)
                used.append(own)
            h = h if key is None else self._corrupted(h, key, z, first)
            h = h + offsets[number - 1] if offsets else h
            z.append(h)
            if number == top or not layer.pools:
                beta = self.param(f"beta{number}", nn.initializers.zeros, h.shape[-1:], jnp.float32)
                h = _per_channel(jnp.add, h, beta)
            if number < top and not layer.pools:
                h = act(h)
        # Only the softmax has a gamma: after a ReLU it is redundant with the next layer's weights.
        if self.scale_softmax:
            gamma = self.param("gamma", nn.initializers.ones, h.shape[-1:], jnp.float32)
            h = _per_channel(jnp.multiply, h, gamma)
        return Encoding(tuple(z), tuple(used), h)

    def _corrupted(self, z: Array, key: Key, below: Sequence[Array], first: int) -> Array:
        """Adds noise to a layer, with the numbers of the key after those of the layers below."""
        std = self.noise_std[len(below)]
        if not isinstance(std, jax.Array) and not std:  # Draws would take a fifth of a CPU's step.
            return z
        shape = z.shape if len(lead(z.shape)) == 1 else (2, *z.shape[1:])
        noise = draws(key, shape, first=first, start=sum(_of_half(b.shape) for b in below))
        if shape != z.shape:  # The clean pass has none.
            noise = jnp.concatenate([noise, jnp.zeros_like(noise[:1])])
        return z + (std * noise).astype(jnp.result_type(z))


class Decoder(nn.Module):
    """u(l) = BN(V(l+1) z_hat(l+1)), z_hat(l) = g(z_noisy(l), u(l)); on top u(L) = BN(softmax)."""

    layers: Sequence[LayerSpec]
    denoising: Sequence[str]

    @nn.compact
    def __call__(self, z_noisy: Sequence[Array], top: Array) -> dict[int, Array]:
        """Decodes L+1 arrays f32[B, *S_l] and f32[B, K] to {l: z_hat(l) f32[B, *S_l]}."""
        z_hat: dict[int, Array] = {}
        u = top
        for number in reversed(range(len(z_noisy))):
            if self.denoising[number] == "0":
                break
            z = z_noisy[number]
            if z_hat:
                above = number + 1
                u = Down(self.layers[number], z.shape[1:], name=f"V{above}")(z_hat[above])
            u, _ = _batch_norm(u)
            denoise = DENOISERS[self.denoising[number]](name=f"g{number}")
            z_hat[number] = _per_channel(denoise, z, _by_channel(u))
        return z_hat


@ranged(noise_std="[0, inf)")
class Ladder(nn.Module):
    """Ladder network: a classifier with a decoder that denoises its layers in training.

    layers: 1..L as a string (`ladder_spec`); the units or maps of the last are the classes.
    activation: of the layers 1..L-1, a name in `activations.ACTIVATIONS`.
    noise_std: of the Gaussian noise at layers 0..L of the corrupted pass, in units of the input
      and of the normalized pre-activations.
    denoising: functions of the layers 0..L (`ladder_spec`): "gauss" for the whole ladder,
      "0-...-0-gauss" for the Gamma model, "0" for supervised training.
    scale_softmax: whether the logits have a gamma.
    """

    layers: str = "1000-500-250-250-250-10"
    activation: str = "relu"
    noise_std: Sequence[float] = (0.3,) * 7
    denoising: str = "gauss"
    scale_softmax: bool = True

    def setup(self) -> None:
        layers = parse_layers(self.layers)
        if len(self.noise_std) != len(layers) + 1:
            raise UserError(
                f"model.noise_std must have {len(layers) + 1} entries, one for the input and one "
                f"for each layer of model.layers, got {len(self.noise_std)}"
            )
        denoising = parse_denoising(self.denoising, len(layers))
        self.encoder = Encoder(layers, self.activation, self.noise_std, self.scale_softmax)
        self.decoder = Decoder(layers, denoising)
        self.reconstructs = denoising[-1] != "0"
        self.stored_moments = [
            (
                self.variable("batch_stats", f"mean{number}", jnp.zeros, (channels,), jnp.float32),
                self.variable("batch_stats", f"var{number}", jnp.ones, (channels,), jnp.float32),
            )
            for number, channels in enumerate(_channels(layers), start=1)
        ]

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, dict[str, tuple]]:
        """Classifies by the clean path: f32[B, *D] -> logits f32[B, K], {"z": L+1 arrays}.

        `train` normalizes by this batch and stores its mean and unbiased variance in
        "batch_stats"; otherwise the stored ones are used, which should first be averaged over the
        training set.
        """
        if not train:
            stored = [(mean.value, var.value) for mean, var in self.stored_moments]
            return _outputs(self.encoder(self._inputs(x), moments=stored))
        clean = self.encoder(self._of_batch(x))
        if self.is_initializing():
            if self.reconstructs:
                self.decoder(clean.z, clean.logits)
        elif self.is_mutable_collection("batch_stats"):
            # Counts images, not pixels, in convolutional layers too, as in the reference.
            unbiased = x.shape[0] / (x.shape[0] - 1)
            for (mean, var), moments in zip(self.stored_moments, clean.moments, strict=True):
                mean.value, var.value = moments[0].ravel(), moments[1].ravel() * unbiased
        return _outputs(clean)

    def on_batch(
        self,
        x: Array,
        *,
        noisy: bool,
        half: int,
        frozen: bool,
        offsets: Sequence[Array] = (),
        train: bool = True,
    ) -> tuple[Array, dict[str, tuple]]:
        """Encodes one half with its batch's statistics, for attacks, without storing them.

        Args:
          x: f32[B, *D].
          noisy: the corrupted pass, else the clean one.
          half: 0, labeled, or 1, unlabeled; given the key of `autoencode`, the noise is the same.
          frozen: detach the statistics; else gradients run through them.
          offsets: f32[B, *S_l], added to z(l) of the layers 1..L; () for none.

        Returns:
          logits f32[B, K], {"z": L+1 arrays}.
        """
        del train  # This pass always uses batch statistics.
        x = self._of_batch(x)
        return _outputs(self.encoder(x, noisy=noisy, first=half, frozen=frozen, offsets=offsets))

    def autoencode(
        self,
        labeled: Array,
        unlabeled: Array,
        target: Array,
        *,
        offsets: Sequence[Array] = (),
        train: bool = True,
    ) -> tuple[Array, dict[str, Any]]:
        """Computes the inputs of the training costs.

        Args:
          labeled: f32[B, *D], input of the corrupted pass of the labeled half.
          unlabeled: f32[B, *D], input of the corrupted pass of the unlabeled half.
          target: f32[B, *D], input of the clean pass of the unlabeled half.
          offsets: f32[2, B, *S_l], added to z(l) of the layers 1..L in the corrupted passes of both
            halves; () for none.

        Returns:
          The corrupted logits of the labeled half, f32[B, K], and for the unlabeled half "z",
          the L+1 clean targets f32[B, *S_l], and "z_hat": {l: f32[B, *S_l]}, reconstructions
          normalized by the clean pass's batch statistics (eq. 33), except in layer 0.
        """
        del train
        if not self.reconstructs:  # No cost reads the unlabeled half.
            clean = self.encoder(self._of_batch(target))
            of_labeled = [offset[0] for offset in offsets]
            noisy = self.encoder(self._of_batch(labeled), noisy=True, offsets=of_labeled)
            return noisy.logits, {"z": clean.z, "z_hat": {}}
        # In one pass, which on a GPU takes as few kernels as that of one half.
        passes = self.encoder(
            jnp.stack([self._of_batch(x) for x in (labeled, unlabeled, target)]),
            noisy=True,
            offsets=[jnp.concatenate([both, jnp.zeros_like(both[:1])]) for both in offsets],
        )
        z_hat = self.decoder([z[1] for z in passes.z], jax.nn.softmax(passes.logits[1]))
        for layer in z_hat.keys() - {0}:
            mean, var = passes.moments[layer - 1]
            z_hat[layer] = _normalize(z_hat[layer], (mean[2], var[2]), normalize_by)
        return passes.logits[0], {"z": tuple(z[2] for z in passes.z), "z_hat": z_hat}

    def _of_batch(self, x: Array) -> Array:
        """Returns `_inputs` of rows that are normalized by their own statistics."""
        if x.shape[0] == 1:
            legal = "2 rows or more (batch_size of a config) for batch statistics"
            raise UserError(f"x must have {legal}, got {described(x)}")
        return self._inputs(x)

    def _inputs(self, x: Array) -> Array:
        """Reshapes f32[B, *D] to f32[B, D], or f32[B, H, W, C] if layer 1 is a convolution."""
        check_floats(x)
        if self.encoder.layers[0].kind == "fc":
            return x.reshape(x.shape[0], -1)
        if x.ndim not in (3, 4):
            raise UserError(
                f"model.layers must be fc:UNITS for inputs of shape {x.shape[1:]}, which are not "
                f"images, got {self.layers!r}"
            )
        return x.reshape(*x.shape, *(1,) * (4 - x.ndim))


def draws(key: Key, shape: tuple[int, ...], *, first: int, start: int = 0) -> Array:
    """Draws standard normals f32[*G, B, *S]; each half from `first` on has its own block.

    start: as in `normal`.
    """
    if len(lead(shape)) == 1:
        return normal(key, shape, block=first, start=start)
    halves = range(first, first + shape[0])
    return jnp.stack([normal(key, shape[1:], block=half, start=start) for half in halves])


def _of_half(shape: tuple[int, ...]) -> int:
    """Returns the entries of a half of f32[*G, B, *S]."""
    return math.prod(shape[len(lead(shape)) - 1 :])


def _outputs(encoding: Encoding) -> tuple[Array, dict[str, tuple]]:
    return encoding.logits, {"z": encoding.z}


def _channels(layers: Sequence[LayerSpec]) -> list[int]:
    """Returns the units or maps of the layers 1..L; pooling keeps those below it."""
    channels: list[int] = []
    for layer in layers:
        channels.append(layer.units or channels[-1])
    return channels


def _batch_norm(a: Array) -> tuple[Array, Moments]:
    """`batch_norm` of f32[*G, B, *S] over batch and pixels."""
    z, moments = batch_norm(_by_channel(a))
    return z.reshape(a.shape), moments


def _frozen_moments(a: Array) -> Moments:
    """Returns the moments of f32[*G, B, *S] over batch and pixels, as constants."""
    return batch_moments(_by_channel(jax.lax.stop_gradient(a)))


def _normalize(
    a: Array, moments: Moments, fn: Callable[[Array, Moments], Array] = normalize
) -> Array:
    """Normalizes f32[*G, B, *S] by the moments of each channel."""
    return _per_channel(lambda a, *moments: fn(a, moments), a, *moments)


def _per_channel(fn: Callable[..., Array], a: Array, *others: Array) -> Array:
    """Applies fn(f32[*G, N, C], *others), which keeps the shape, to f32[*G, B, *S].

    others: as `_by_channel(a)`, or one value for each channel: f32[C].
    """
    rows = _by_channel(a)
    lift = lambda other: jnp.expand_dims(other, range(rows.ndim - other.ndim))
    return fn(rows, *map(lift, others)).reshape(a.shape)


def _by_channel(a: Array) -> Array:
    """Reshapes to f32[*G, N, C]: XLA:CPU reduces faster over one axis than over B, H and W."""
    return a.reshape(*lead(a.shape)[:-1], -1, a.shape[-1])

"""Boltzmann machines, restricted and deep, and deep belief networks."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer, constant

from adv_jax.generative import boltzmann
from adv_jax.generative.boltzmann import EVEN, ODD, Machine, Side, Visible
from adv_jax.generative.models.autoencoder import Biases, Layers
from adv_jax.models.checks import check_shape
from adv_jax.models.initializers import gaussian
from adv_jax.models.layered import Extras
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, Bounds, Key, UserError

_CHAIN = 1000  # Gibbs steps before a sample


@ranged(features=COUNT)
class _Stack(nn.Module):
    """Layers of binary hidden units above images.

    The parts of the parameters are "encoder", the weights and biases of the hidden layers, from
    which an `mlp` of sigmoid units may start, and "decoder", {"hidden1": f[D], ...}, the biases of
    the units below them. The fields are those of `Boltzmann`.
    """

    predicts: ClassVar[str] = "loss"
    shape: Sequence[int] = (28, 28, 1)
    features: Sequence[int] = (500,)
    visible: Visible = "binary"
    hidden_init: Initializer = gaussian(0.01)

    @property
    def input_bounds(self) -> Bounds | None:
        return (0, 1) if self.visible == "binary" else None

    def setup(self) -> None:
        if not self.features:
            raise UserError(f"model.features must have a hidden layer, got {self.features}")
        sizes = [*itertools.pairwise((math.prod(self.shape), *self.features))]
        self.encoder = Layers(sizes, self.hidden_init)

    def __call__(self, x: Array) -> tuple[Array, Extras]:
        """f[B, *D] -> means of the top layer f[B, D_L], {"hidden1": means f[B, D_1], ...}."""
        hidden = self._encoded(self._flat(x))
        return hidden[-1], {f"hidden{number}": h for number, h in enumerate(hidden, start=1)}

    def reconstruct(self, x: Array) -> Array:
        """Returns the means of the visible units given the means of the hidden ones: f[B, *D]."""
        return self._decoded(self._encoded(self._flat(x))).reshape(x.shape)

    def row_loss(self, x: Array) -> Array:
        """Returns the error of the reconstruction: f[B].

        Binary units: the cross-entropy in nats, without the noise of samples; Gaussian ones: half
        the squared error. It says nothing about Z: `measures.log_partition` gives a likelihood.
        """
        x, found = self._flat(x), self._decoded(self._encoded(self._flat(x)))
        if self.visible == "gaussian":
            return jnp.sum((found - x) ** 2, axis=1) / 2
        # Keep log(1 - p) finite where p rounds to 1.
        p = jnp.clip(found, 1e-6, 1 - 1e-6)
        return -jnp.sum(x * jnp.log(p) + (1 - x) * jnp.log1p(-p), axis=1)

    def _encoded(self, x: Array) -> Sequence[Array]:
        """Returns the means of the hidden layers."""
        raise NotImplementedError

    def _decoded(self, hidden: Sequence[Array]) -> Array:
        """Returns the means of the visible units."""
        raise NotImplementedError

    def _drawn(self, x: Array) -> Array:
        """Draws binary visible units, whose probabilities x are; Gaussian ones are x."""
        return boltzmann.draw(x, self.make_rng("noise")) if self.visible == "binary" else x

    def _flat(self, x: Array) -> Array:
        """f[B, *D] -> f[B, D].

        Raises:
          UserError: as `check_shape`.
        """
        check_shape(x, self.shape)
        return x.reshape(len(x), -1)


@ranged(mean_field_steps=COUNT)
class Boltzmann(_Stack):
    """A Boltzmann machine: restricted (RBM) with one hidden layer, deep (DBM) with several.

    The parameters of an RBM are those of a DBN of one layer.

    predicts: see `models`.
    shape: of an image.
    features: units of the hidden layers.
    visible: "binary" for values in [0, 1], which are probabilities of 1, or "gaussian" of unit
      variance for real values.
    hidden_init: of the weights; biases start at 0.
    mean_field_steps: of a DBM, see `boltzmann.mean_field`; an RBM needs none.

    Sources: [salakhutdinov2008], sec. 2; [salakhutdinov2009]; [hinton2012guide], sec. 8.1 (the
    weights of the start).
    """

    mean_field_steps: int = 10

    def setup(self) -> None:
        super().setup()
        self.decoder = Biases((math.prod(self.shape),))

    @staticmethod
    def converted(params: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the parameters of a `DBN` as those of a deep machine.

        It keeps the weights. An inner layer has the mean of its biases in the RBM below it and in
        the RBM above it, as its prior is the geometric mean of theirs. Other parameters stay.

        Source: [salakhutdinov2009], sec. 3.1 (without biases).
        """
        if "params" in params:
            raise UserError(f"params must be those of a DBN alone, got {', '.join(params)}")
        encoder, decoder = dict(params.get("encoder", {})), params.get("decoder", {})
        for number in range(1, len(encoder)):
            name, from_above = f"hidden{number}", decoder.get(f"hidden{number + 1}")
            if name in encoder and from_above is not None and not isinstance(from_above, Mapping):
                bias = (encoder[name]["bias"] + from_above) / 2
                encoder[name] = {**encoder[name], "bias": bias}
        return {**params, **({"encoder": encoder} if encoder else {})}

    def machines(self, x: Array) -> tuple[Array, dict[str, Any]]:
        """Returns x and {"machines": (the machine,), "data": (its even layers at x,)}.

        v is drawn from x, if the units are binary; the hidden layers are means, detached.
        """
        machine = self._machine()
        fixed = jax.lax.stop_gradient(machine)
        even = boltzmann.mean_field(fixed, self._drawn(self._flat(x)), self.mean_field_steps)
        return x, {"machines": (machine,), "data": (even,)}

    def sample(self, like: Array, *, steps: int = _CHAIN) -> Array:
        """Returns as many images as `like` has rows, means of the visible units of Gibbs chains.

        The chains start at random units.
        """
        key_chain, key_last = jax.random.split(self.make_rng("noise"))
        machine = self._machine()
        even = _chain(machine, len(like), key_chain, steps)
        odd = boltzmann.sample(machine, even, key_last)
        return boltzmann.means(machine, odd, ODD)[0].reshape(like.shape)

    def _encoded(self, x: Array) -> list[Array]:
        machine = self._machine()
        even = boltzmann.mean_field(machine, x, self.mean_field_steps)
        odd = boltzmann.means(machine, even)
        return boltzmann.in_order(even, odd)[1:]

    def _decoded(self, hidden: Sequence[Array]) -> Array:
        return boltzmann.means(self._machine(), tuple(hidden[::2]), ODD)[0]

    def _machine(self) -> Machine:
        (visible_bias,) = self.decoder.all
        kernels, biases = zip(*((h.kernel, h.bias) for h in self.encoder.all), strict=True)
        return Machine(visible_bias, kernels, biases, visible=self.visible)


@ranged(visible_mean="(0, 1)")
class NormalizedRBM(Boltzmann):
    """An RBM of binary units whose log Z is a parameter: log p(v) = -F(v) - log_normalizer.

    Contrastive divergence would leave "log_normalizer" as it is; `noise_contrastive_estimation`
    trains it with the others, which are those of the RBM. It starts at log Z of the machine
    without weights.

    predicts, shape, features, visible, hidden_init: as in `Boltzmann`; one hidden layer, "binary".
    visible_mean: of the pixels at the start, in (0, 1): the biases are its log-odds.

    Sources: [gutmann2010], sec. 2.1; [hinton2012guide], sec. 8.1 (the biases of the start).
    """

    visible_mean: float = 0.5

    def setup(self) -> None:
        _Stack.setup(self)
        if len(self.features) != 1:
            raise UserError(f"model.features must have one hidden layer, got {self.features}")
        if self.visible != "binary":
            raise UserError(f"model.visible must be binary, got {self.visible!r}")
        width = math.prod(self.shape)
        log_odds = math.log(self.visible_mean) - math.log1p(-self.visible_mean)
        # log(1 + exp(log_odds)) of each visible unit, log 2 of each hidden one.
        log_z = -width * math.log1p(-self.visible_mean) + self.features[0] * math.log(2)
        self.decoder = Biases((width,), constant(log_odds))
        self.log_normalizer = self.param("log_normalizer", constant(log_z), ())

    def log_density(self, x: Array) -> Array:
        """Returns log p of images x of zeros and ones, f[B, *D]: f[B] in nats."""
        return -boltzmann.free_energy(self._machine(), (self._flat(x),)) - self.log_normalizer


class DBN(_Stack):
    """A deep belief network: each hidden layer is that of an RBM on the layer below it.

    Unrolled, it is an autoencoder with tied weights.

    predicts, shape, features, visible, hidden_init: as in `Boltzmann`.
    doubled: whether the RBMs are `boltzmann.doubled`, from which a deep machine starts.

    Sources: [hinton2006]; [maronas2016], sec. 3.6.2 and Fig. 9; [salakhutdinov2009], sec. 3.1.
    """

    doubled: bool = False

    def setup(self) -> None:
        if self.doubled and len(self.features) < 2:
            raise UserError(
                "model.features must have at least two layers with model.doubled, got "
                f"{self.features}"
            )
        super().setup()
        self.decoder = Biases((math.prod(self.shape), *self.features[:-1]))

    def machines(self, x: Array) -> tuple[Array, dict[str, Any]]:
        """Returns x and {"machines": the RBMs, "data": (v,) of each}.

        v of an RBM is drawn from the means of the layer below it, detached.
        """
        v, *lower = [self._flat(x), *jax.lax.stop_gradient(self._encoded(self._flat(x)))[:-1]]
        noise = lambda: self.make_rng("noise")
        data = [self._drawn(v), *(boltzmann.draw(h, noise()) for h in lower)]
        rbms = self._rbms()
        pairs = zip(rbms, data, strict=True)
        return x, {"machines": rbms, "data": tuple(_copied(*pair, EVEN) for pair in pairs)}

    def sample(self, like: Array, *, steps: int = _CHAIN) -> Array:
        """Returns as many images as `like` has rows, means of the visible units.

        Gibbs chains of the top RBM, from random units, then a pass downwards that draws each layer.
        """
        key_chain, key_top, *keys = jax.random.split(self.make_rng("noise"), len(self.features) + 1)
        rbms = self._rbms()
        even = _chain(rbms[-1], len(like), key_chain, steps)
        units = boltzmann.sample(rbms[-1], even, key_top)
        for machine, key in zip(reversed(rbms[1:]), keys, strict=True):
            units = boltzmann.sample(machine, units, key, ODD)
        (v,) = boltzmann.means(rbms[0], units, ODD)
        return v[:, : math.prod(self.shape)].reshape(like.shape)

    def _encoded(self, x: Array) -> list[Array]:
        hidden = [x]
        for machine, units in zip(self._rbms(), self.features, strict=True):
            (means,) = boltzmann.means(machine, _copied(machine, hidden[-1], EVEN))
            hidden.append(means[:, :units])
        return hidden[1:]

    def _decoded(self, hidden: Sequence[Array]) -> Array:
        found = hidden[-1]
        below = (math.prod(self.shape), *self.features[:-1])
        for machine, units in zip(reversed(self._rbms()), reversed(below), strict=True):
            (means,) = boltzmann.means(machine, _copied(machine, found, ODD), ODD)
            found = means[:, :units]
        return found

    def _rbms(self) -> tuple[Machine, ...]:
        parts = zip(self.decoder.all, self.encoder.all, strict=True)
        lowest, *upper = (Machine(below, (h.kernel,), (h.bias,)) for below, h in parts)
        rbms = (lowest.replace(visible=self.visible), *upper)
        return boltzmann.doubled(rbms) if self.doubled else rbms


def _copied(machine: Machine, units: Array, given: int) -> Side:
    """Returns units f[B, D] once for each copy that the machine has of them."""
    (width,) = machine.units(given)
    return (jnp.tile(units, (1, width // units.shape[1])),)


def _chain(machine: Machine, rows: int, key: Key, steps: int) -> Side:
    """Returns the even layers of Gibbs chains that start at odd units drawn with 1/2."""
    key_start, key_first, key_chain = jax.random.split(key, 3)
    keys = jax.random.split(key_start, len(machine.units(ODD)))
    odd = tuple(
        boltzmann.draw(jnp.full((rows, units), 0.5), key)
        for key, units in zip(keys, machine.units(ODD), strict=True)
    )
    return boltzmann.gibbs(
        machine, boltzmann.sample(machine, odd, key_first, ODD), key_chain, steps
    )

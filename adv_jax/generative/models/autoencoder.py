"""The autoencoder: dense layers from an image to a code, and back."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
import optax
from flax.linen.initializers import Initializer, zeros_init

from adv_jax.models.activations import activation_fn
from adv_jax.models.checks import check_shape
from adv_jax.models.initializers import fan_in
from adv_jax.models.layered import Extras
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import Array, Bounds, UserError


@ranged(features=COUNT)
class Autoencoder(nn.Module):
    """Dense layers to a code h_L, and as many back to the image.

        h_l = act(h_{l-1} W_l + b_l),  h_0 = x
        g_{l-1} = act(g_l V_l + c_l),  g_L = h_L

    The outputs g_0 V_1 + c_1 are the image itself, or its log-odds. The parts of the parameters are
    "encoder", {"hidden1": {kernel, bias}, ...}, named as those of an `mlp`, which may start from
    it, and "decoder", whose "hidden1" leads back from h_1 to x. With tied weights V_l = W_l^T the
    decoder has biases only, {"hidden1": f[D], ...}.

    shape: of an image.
    features: units of each layer of the encoder; the last one is the code.
    activation: a name in `activations.ACTIVATIONS`.
    linear_code: whether h_L has no activation.
    tied: whether the decoder's weights are the transposed ones of the encoder.
    loss: of a reconstruction, a sum over all values: the cross-entropy in nats of Bernoulli
      variables whose log-odds are the outputs, or the squared error.
    hidden_init: of the weights; biases start at 0.

    Sources: [hinton2006science]; [vincent2010]; [maronas2016], sec. 3.6.3.
    """

    predicts: ClassVar[str] = "loss"

    shape: Sequence[int] = (28, 28, 1)
    features: Sequence[int] = (1000, 500, 250, 30)
    activation: str = "relu"
    linear_code: bool = False
    tied: bool = False
    loss: Literal["cross_entropy", "squared_error"] = "cross_entropy"
    hidden_init: Initializer = fan_in()

    @property
    def input_bounds(self) -> Bounds | None:
        return (0, 1) if self.loss == "cross_entropy" else None

    def setup(self) -> None:
        if not self.features:
            raise UserError("model.features must have one entry or more, got ()")
        sizes = [*itertools.pairwise((math.prod(self.shape), *self.features))]
        self.act = activation_fn(self.activation)
        self.encoder = Layers(sizes, self.hidden_init)
        back = [(units, inputs) for inputs, units in sizes]
        biases = [inputs for inputs, _ in sizes]
        self.decoder = Biases(biases) if self.tied else Layers(back, self.hidden_init)

    def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Extras]:
        """f[B, *D] -> code f[B, D_L], {"hidden1": f[B, D_1], ...}, the activations."""
        if self.is_initializing():
            self.reconstruct(x)
        hidden = self._encoded(x, len(self.features))
        return hidden[-1], {f"hidden{number}": h for number, h in enumerate(hidden[1:], start=1)}

    def reconstruct(self, x: Array, *, depth: int | None = None) -> Array:
        """Returns the image that the first `depth` layers, or all, make of x: f[B, *D]."""
        most = len(self.features)
        depth = most if depth is None else depth
        if not 1 <= depth <= most:
            raise UserError(f"depth must be from 1 to {most}, got {depth}")
        return self._shown(self._outputs(self._encoded(x, depth)[-1], depth))

    def decode(self, code: Array) -> Array:
        """f[B, D_L] -> images f[B, *shape]."""
        return self._shown(self._outputs(code))

    def row_loss(self, x: Array, clean: Array | None = None, *, train: bool = False) -> Array:
        """Returns the loss of the reconstruction of x from itself, or of `clean` from x: f[B]."""
        outputs = self._outputs(self._encoded(x, len(self.features))[-1])
        return self._loss(outputs, x if clean is None else clean)

    def layer_loss(self, h: Array, clean: Array, *, layer: int, train: bool = False) -> Array:
        """Returns the loss of a layer's own autoencoder, that of `clean` from h: f[B].

        h, clean: inputs of the layer, f[B, *D_{layer-1}].

        Raises:
          UserError: the loss is a cross-entropy, and the activations are not probabilities.
        """
        outputs = self._down(self._up(self._flat(h), layer), layer)
        if layer > 1 and self.loss == "squared_error":
            outputs = self.act(outputs)
        elif layer > 1 and self.activation != "sigmoid":
            loss = f"squared_error for layers of {self.activation} units"
            raise UserError(f"model.loss must be {loss}, got {self.loss}")
        return self._loss(outputs, clean)

    def _encoded(self, x: Array, depth: int) -> list[Array]:
        """Returns x and the activations of the first layers, f[B, D_l]."""
        check_shape(x, self.shape)
        hidden = [self._flat(x)]
        for layer in range(1, depth + 1):
            hidden.append(self._up(hidden[-1], layer))
        return hidden

    def _outputs(self, h: Array, depth: int | None = None) -> Array:
        """Returns the image, or its log-odds, of the activations of a layer: f[B, D]."""
        for layer in range(depth or len(self.features), 1, -1):
            h = self.act(self._down(h, layer))
        return self._down(h, 1)

    def _up(self, h: Array, layer: int) -> Array:
        linear = self.linear_code and layer == len(self.features)
        values = self.encoder.all[layer - 1](h)
        return values if linear else self.act(values)

    def _down(self, h: Array, layer: int) -> Array:
        part: Any = self.decoder.all[layer - 1]
        if not self.tied:
            return part(h)
        return h @ self.encoder.all[layer - 1].kernel.T + part[None]

    def _shown(self, outputs: Array) -> Array:
        values = nn.sigmoid(outputs) if self.loss == "cross_entropy" else outputs
        return values.reshape(len(values), *self.shape)

    def _loss(self, outputs: Array, clean: Array) -> Array:
        clean = self._flat(clean)
        if self.loss == "squared_error":
            return jnp.sum((outputs - clean) ** 2, axis=1)
        return jnp.sum(optax.sigmoid_binary_cross_entropy(outputs, clean), axis=1)

    def _flat(self, x: Array) -> Array:
        return x.reshape(len(x), -1)


class Layer(nn.Module):
    """A dense layer whose weights can be read."""

    inputs: int
    units: int
    kernel_init: Initializer

    def setup(self) -> None:
        self.kernel = self.param("kernel", self.kernel_init, (self.inputs, self.units))
        self.bias = self.param("bias", zeros_init(), (self.units,))

    def __call__(self, h: Array) -> Array:
        return h @ self.kernel + self.bias[None]


class Layers(nn.Module):
    """The layers "hidden1", "hidden2", ... of sizes (inputs, units)."""

    sizes: Sequence[tuple[int, int]]
    kernel_init: Initializer

    def setup(self) -> None:
        self.all = [
            Layer(*sizes, self.kernel_init, name=f"hidden{number}")
            for number, sizes in enumerate(self.sizes, start=1)
        ]


class Biases(nn.Module):
    """The biases "hidden1", "hidden2", ... of layers of so many units."""

    units: Sequence[int]
    bias_init: Initializer = zeros_init()

    def setup(self) -> None:
        self.all = [
            self.param(f"hidden{number}", self.bias_init, (units,))
            for number, units in enumerate(self.units, start=1)
        ]

"""The training tasks of the benchmarks and the matrix products of their steps."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

SIDE = 28  # pixels
INPUTS, CLASSES = SIDE**2, 10
CIFAR = (32, 32, 3)  # shape of CIFAR-10's images
CHECKED = 100  # images of which the attacked nets' logits are compared
PEAK_SIZE = 2048  # size of the square matrix product that measures peak speed
PEAK_STEPS = 4  # such products per timed block
EPS = 0.25  # eps of FGSM in the shallow-net thesis
ALPHA = 0.5  # weight of the clean term in the adversarial mix
BACKPROP_EPS = 0.08  # eps of adversarial back-propagation in [nokland2015]
LWA_EPS = 1.2  # l2 eps of learning with a strong adversary, from the code of [huang2015]
LADDER_NOISE = 0.3  # std of the noise in each layer
LADDER_EPS = 0.00045  # eps of the adversarial noise on a ladder's labeled half
LATENT = 100  # inputs of a GAN's generator
DROPOUT = (0.2, 0.5, 0.5)  # of its discriminator: of the image and of each hidden layer


class Product(NamedTuple):
    """The matrix product f32[rows, inner] @ f32[inner, columns]."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inner * self.columns


def peak_of(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Returns the peak speed, the best of all sides and rounds, by the seconds of their blocks."""
    flops = PEAK_STEPS * Product(PEAK_SIZE, PEAK_SIZE, PEAK_SIZE).flops
    gflops = {side: [flops / value / 1e9 for value in values] for side, values in seconds.items()}
    return {"gflops": max(map(max, gflops.values())), "size": PEAK_SIZE, "sides": gflops}


class Task(NamedTuple):
    """One training step to time.

    title: title in the tables.
    objective: "cross_entropy" or "adversarial_mix" of the MLP; "backprop" or
      "adversarial_backprop" with ten logistic outputs; "lenet" or "lwa" of LeNet; "ladder" of the
      fully connected ladder network, "gamma" of a convolutional one with top-layer denoising;
      "gan" of a generator and a discriminator.
    features: units of the hidden layers; for LeNet two convolutions and a layer; a ladder's
      include the classes; those of "gamma" are layers of `models.ladder`; of a GAN the
      generator's, and in reverse the discriminator's.
    batch_size: number of labeled rows, and of unlabeled rows of a ladder.
    optimizer: spec for `adv_jax.runner.config.optimizer`; of a GAN, of each player.
    steps: steps per timed block.
    weights: denoising weights of a ladder's layers 0..L.
    plain: the same task without adversarial noise on a ladder's labeled half; the two are
      compared with each other, not with PyTorch.
    image: height, width and channels of a convolutional ladder's images.
    activation: of a ladder's layers, a name in `models.activations.ACTIVATIONS`.
    scale_softmax: as in `models.ladder`.
    """

    title: str
    objective: str
    features: tuple[int | str, ...]
    batch_size: int
    optimizer: dict[str, Any]
    steps: int
    weights: tuple[float, ...] = ()
    plain: str = ""
    image: tuple[int, int, int] = (SIDE, SIDE, 1)
    activation: str = "relu"
    scale_softmax: bool = True

    @property
    def is_ladder(self) -> bool:
        return bool(self.weights)

    @property
    def is_lenet(self) -> bool:
        return self.objective in {"lenet", "lwa"}

    @property
    def products(self) -> list[Product]:
        return _PRODUCTS[self.objective](self)

    @property
    def flops(self) -> int:
        """The FLOPs of the matrix products of one step, without element-wise operations."""
        return sum(product.flops for product in self.products)


class Weights(NamedTuple):
    """A matrix f32[inner, columns] that multiplies the values at each place of a row."""

    places: int
    inner: int
    columns: int


def _matrices(*widths: int) -> list[Weights]:
    return [Weights(1, a, b) for a, b in pairwise(widths)]


def _convolutions(task: Task) -> list[Weights]:
    layers, (side, _, channels) = [], task.image
    for word in task.features:
        kind, *numbers = word.split(":")
        if kind == "maxpool":
            side = (side + 1) // 2
        elif kind == "globalmeanpool":
            side = 1
        else:
            maps, size = int(numbers[0]), 1 if kind == "fc" else int(numbers[1])
            above = side + size - 1 if kind == "convf" else side - size + 1
            # A full convolution is the transpose of a valid one; zeros of the border do not count.
            layers.append(Weights(min(side, above) ** 2, size**2 * channels, maps))
            side, channels = above, maps
    return layers


def _forward(rows: int, layers: list[Weights]) -> list[Product]:
    return [Product(rows * places, a, b) for places, a, b in layers]


def _weight_gradients(rows: int, layers: list[Weights]) -> list[Product]:
    return [Product(a, rows * places, b) for places, a, b in layers]


def _input_gradients(rows: int, layers: list[Weights]) -> list[Product]:
    return [Product(rows * places, b, a) for places, a, b in layers]


def _trained(rows: int, layers: list[Weights]) -> list[Product]:
    """Returns the products of the forward and backward pass without the input's gradient."""
    return (
        _forward(rows, layers)
        + _weight_gradients(rows, layers)
        + _input_gradients(rows, layers[1:])
    )


def _cross_entropy(task: Task) -> list[Product]:
    return _trained(task.batch_size, _matrices(INPUTS, *task.features, CLASSES))


def _adversarial_mix(task: Task) -> list[Product]:
    """Returns the products; the attack and the clean term share a forward pass."""
    layers = _matrices(INPUTS, *task.features, CLASSES)
    trained = _trained(task.batch_size, layers)
    return trained + _input_gradients(task.batch_size, layers) + trained


def _adversarial_backprop(task: Task) -> list[Product]:
    """Returns the products of the attack's pass and of the training pass."""
    layers = _matrices(INPUTS, *task.features, CLASSES)
    found = _forward(task.batch_size, layers) + _input_gradients(task.batch_size, layers)
    return found + _trained(task.batch_size, layers)


def _lenet(task: Task) -> list[Product]:
    return _trained(task.batch_size, _lenet_layers(task))


def _lwa(task: Task) -> list[Product]:
    """Returns the products of the attack's pass and of the training pass."""
    layers = _lenet_layers(task)
    found = _forward(task.batch_size, layers) + _input_gradients(task.batch_size, layers)
    return found + _lenet(task)


def _lenet_layers(task: Task) -> list[Weights]:
    """Returns the weights: 5 x 5 on 28 x 28 and on 12 x 12 pixels, then full layers on 4 x 4."""
    first, second, units = task.features
    convolutions = [Weights(24**2, 5**2, first), Weights(8**2, 5**2 * first, second)]
    return convolutions + _matrices(4**2 * second, units, CLASSES)


def _ladder(task: Task) -> list[Product]:
    """Returns the products of `_encoder` and of the decoder on the unlabeled half."""
    rows, widths = task.batch_size, (INPUTS, *task.features)
    down = _matrices(*widths[::-1])
    decoder = _forward(rows, down) + _weight_gradients(rows, down) + _input_gradients(rows, down)
    return _encoder(task, _matrices(*widths)) + decoder


def _gamma(task: Task) -> list[Product]:
    return _encoder(task, _convolutions(task))


def _encoder(task: Task, layers: list[Weights]) -> list[Product]:
    """Returns the products of the noisy pass, the unlabeled half's clean pass and the attack."""
    rows = task.batch_size
    attack = _forward(rows, layers) + _input_gradients(rows, layers) if task.plain else []
    return _trained(2 * rows, layers) + _trained(rows, layers) + attack


def _gan(task: Task) -> list[Product]:
    """Returns the products; both players share the forward pass of the generated images."""
    rows = task.batch_size
    generator = _matrices(LATENT, *task.features, INPUTS)
    discriminator = _matrices(INPUTS, *task.features[::-1], 1)
    to_images = _input_gradients(rows, discriminator)
    return _trained(2 * rows, discriminator) + to_images + _trained(rows, generator)


_PRODUCTS = {
    "cross_entropy": _cross_entropy,
    "adversarial_mix": _adversarial_mix,
    "backprop": _cross_entropy,
    "adversarial_backprop": _adversarial_backprop,
    "lenet": _lenet,
    "lwa": _lwa,
    "ladder": _ladder,
    "gamma": _gamma,
    "gan": _gan,
}
_SGD = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.5}
_PLAIN_SGD = {"name": "sgd", "learning_rate": 0.05}
_LENET_SGD = {"name": "sgd", "learning_rate": 0.1}
_ADAM = {"name": "adam", "learning_rate": 0.002}
_GAN_ADAM = {"name": "adam", "learning_rate": 0.0002, "b1": 0.5}
_FC = (1000, 500, 250, 250, 250, 10)
_FC_WEIGHTS = (1000.0, 10.0, 0.1, 0.1, 0.1, 0.1, 0.1)
_CONV_SMALL = (
    "convf:32:5:1:1",
    "maxpool:2:2",
    "convv:64:3:1:1",
    "convf:64:3:1:1",
    "maxpool:2:2",
    "convv:128:3:1:1",
    "convv:10:1:1:1",
    "globalmeanpool",
    "fc:10",
)
_CONV_LARGE = (
    "convv:96:3:1:1",
    "convf:96:3:1:1",
    "convf:96:3:1:1",
    "maxpool:2:2",
    "convv:192:3:1:1",
    "convf:192:3:1:1",
    "convv:192:3:1:1",
    "maxpool:2:2",
    "convv:192:3:1:1",
    "convv:192:1:1:1",
    "convv:10:1:1:1",
    "globalmeanpool",
)
_FC_LADDER = Task("FC ladder, 100 + 100", "ladder", _FC, 100, _ADAM, 10, _FC_WEIGHTS)
_GAMMA = Task(
    "Conv-Small Gamma, 100 + 100", "gamma", _CONV_SMALL, 100, _ADAM, 2, (0.0,) * 9 + (1.0,)
)

TASKS = {
    "ladder": _FC_LADDER,
    "ladder_sgn": _FC_LADDER._replace(title="FC ladder, SGN", plain="ladder"),
    "conv_small": _GAMMA,
    "conv_large": _GAMMA._replace(
        title="Conv-Large Gamma, 100 + 100",
        features=_CONV_LARGE,
        weights=(0.0,) * 12 + (4.0,),
        image=CIFAR,
        activation="leaky_relu",
        scale_softmax=False,
    ),
    "conv_small_sgn": _GAMMA._replace(title="Conv-Small Gamma, SGN", plain="conv_small"),
    "mlp_10": Task("784-400-400-10, batch 10", "cross_entropy", (400, 400), 10, _SGD, 500),
    "mlp_10_mix": Task(
        "784-400-400-10, batch 10, FGSM mix", "adversarial_mix", (400, 400), 10, _SGD, 250
    ),
    "mlp_200": Task("784-800-10, batch 200", "cross_entropy", (800,), 200, _SGD, 50),
    "mlp_200_mix": Task(
        "784-800-10, batch 200, FGSM mix", "adversarial_mix", (800,), 200, _SGD, 25
    ),
    "backprop": Task(
        "784-400-400-10, logistic outputs, batch 10", "backprop", (400, 400), 10, _PLAIN_SGD, 500
    ),
    "adversarial": Task(
        "784-400-400-10, logistic outputs, batch 10, adversarial back-propagation",
        "adversarial_backprop",
        (400, 400),
        10,
        _PLAIN_SGD,
        250,
    ),
    "lenet": Task("LeNet 20-50-400, batch 100", "lenet", (20, 50, 400), 100, _LENET_SGD, 20),
    "lwa": Task("LeNet 20-50-400, batch 100, LWA", "lwa", (20, 50, 400), 100, _LENET_SGD, 10),
    "gan": Task(
        "GAN 100-256-512-784 and 784-512-256-1, batch 100", "gan", (256, 512), 100, _GAN_ADAM, 50
    ),
}


def batch_rows(task: Task, num_examples: int, *, seed: int) -> np.ndarray:
    """Draws the rows of the labeled and the unlabeled half of each step: i32[steps, 2, B]."""
    shape = (task.steps, 2, task.batch_size)
    return np.random.default_rng(seed).integers(num_examples, size=shape, dtype=np.int32)


def cifar_shaped(x: np.ndarray) -> np.ndarray:
    """Pads digits f32[N, 28, 28, 1] by zeros and repeats their channel -> f32[N, 32, 32, 3]."""
    margin = (CIFAR[0] - SIDE) // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    return padded.repeat(CIFAR[2], axis=3)

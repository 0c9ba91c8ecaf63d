"""What is trained in the benchmarks, and the matrix products that one step needs."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

INPUTS, CLASSES = 784, 10
PEAK_SIZE = 2048  # of the square product that stands for the machine's peak
PEAK_STEPS = 4  # such products in one timed block
EPS = 0.25  # of the fast gradient sign method, as in the shallow-net thesis
ALPHA = 0.5  # share of the clean term in the adversarial mix
BACKPROP_EPS = 0.08  # of adversarial back-propagation, as in its paper
LADDER_NOISE = (0.3,) * 7
LADDER_WEIGHTS = (1000.0, 10.0, 0.1, 0.1, 0.1, 0.1, 0.1)


class Product(NamedTuple):
    """f32[rows, inner] @ f32[inner, columns]."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inner * self.columns


class Task(NamedTuple):
    """One training step to be timed.

    objective: "cross_entropy", "adversarial_mix" or "ladder"; or with ten logistic outputs
      "backprop" or "adversarial_backprop". The ladder has the ladder network as its model, the
      others the MLP.
    features: units of the hidden layers; the ladder's include the classes.
    batch_size: rows of each kind (the ladder has as many labelled as unlabelled).
    optimizer: as `adv_jax.optimizers` reads it.
    steps: in one timed block.
    """

    title: str
    objective: str
    features: tuple[int, ...]
    batch_size: int
    optimizer: dict[str, Any]
    steps: int

    @property
    def products(self) -> list[Product]:
        return _PRODUCTS[self.objective](self)

    @property
    def flops(self) -> int:
        """Of the matrix products of one step; what is element-wise is not counted."""
        return sum(product.flops for product in self.products)


def _forward(rows: int, widths: tuple[int, ...]) -> list[Product]:
    return [Product(rows, a, b) for a, b in pairwise(widths)]


def _weight_gradients(rows: int, widths: tuple[int, ...]) -> list[Product]:
    return [Product(a, rows, b) for a, b in pairwise(widths)]


def _input_gradients(rows: int, widths: tuple[int, ...]) -> list[Product]:
    return [Product(rows, b, a) for a, b in pairwise(widths)]


def _trained(rows: int, widths: tuple[int, ...]) -> list[Product]:
    """Forward and backward pass of a net whose input needs no gradient."""
    return (
        _forward(rows, widths)
        + _weight_gradients(rows, widths)
        + _input_gradients(rows, widths[1:])
    )


def _cross_entropy(task: Task) -> list[Product]:
    return _trained(task.batch_size, (INPUTS, *task.features, CLASSES))


def _adversarial_mix(task: Task) -> list[Product]:
    """The attack's forward pass is the clean term's, counted once."""
    widths = (INPUTS, *task.features, CLASSES)
    trained = _trained(task.batch_size, widths)
    return trained + _input_gradients(task.batch_size, widths) + trained


def _adversarial_backprop(task: Task) -> list[Product]:
    """A pass that finds the perturbation, and one that is learnt from."""
    widths = (INPUTS, *task.features, CLASSES)
    found = _forward(task.batch_size, widths) + _input_gradients(task.batch_size, widths)
    return found + _trained(task.batch_size, widths)


def _ladder(task: Task) -> list[Product]:
    """Corrupted pass of both halves, clean pass and decoder of the unlabelled half."""
    rows, up = task.batch_size, (INPUTS, *task.features)
    down = up[::-1]
    decoder = _forward(rows, down) + _weight_gradients(rows, down) + _input_gradients(rows, down)
    return _trained(2 * rows, up) + _trained(rows, up) + decoder


_PRODUCTS = {
    "cross_entropy": _cross_entropy,
    "adversarial_mix": _adversarial_mix,
    "backprop": _cross_entropy,
    "adversarial_backprop": _adversarial_backprop,
    "ladder": _ladder,
}
_SGD = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.5}
_PLAIN_SGD = {"name": "sgd", "learning_rate": 0.05}
_ADAM = {"name": "adam", "learning_rate": 0.002}
_FC = (1000, 500, 250, 250, 250, 10)

TASKS = {
    "ladder": Task("FC ladder, 100 + 100", "ladder", _FC, 100, _ADAM, 10),
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
}


def batch_rows(task: Task, num_examples: int, *, seed: int) -> np.ndarray:
    """i32[steps, 2, B]: the rows of the labelled and of the unlabelled half of each step."""
    shape = (task.steps, 2, task.batch_size)
    return np.random.default_rng(seed).integers(num_examples, size=shape, dtype=np.int32)

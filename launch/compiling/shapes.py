"""Data sets of noise in the shapes of those of the configs: all that a compiler reads of them."""

import numpy as np

from adv_jax.data import Dataset, from_arrays
from adv_jax.data.covtype import NUM_CLASSES, NUM_FEATURES, NUM_ROWS


def mnist() -> Dataset:
    """Returns the shapes of MNIST."""
    return _images("mnist", (28, 28), train=60_000, test=10_000)


def cifar10() -> Dataset:
    """Returns the shapes of CIFAR-10."""
    return _images("cifar10", (32, 32, 3), train=50_000, test=10_000)


def covtype() -> Dataset:
    """Returns the shapes of Covertype, of which a fifth is for testing."""
    draw = np.random.default_rng(0).random
    num_test = NUM_ROWS // 5
    train, test = (
        (draw((size, NUM_FEATURES), np.float32), np.arange(size) % NUM_CLASSES)
        for size in (NUM_ROWS - num_test, num_test)
    )
    return from_arrays("covtype", train=train, test=test)


def imagenet() -> Dataset:
    """Returns images of ImageNet's size and classes: those of one batch, as of a stream."""
    return _images("imagenet", (224, 224, 3), train=256, test=256, num_classes=1000)


def _images(
    name: str, shape: tuple[int, ...], *, train: int, test: int, num_classes: int = 10
) -> Dataset:
    draw = np.random.default_rng(0).integers
    parts = (
        (draw(256, size=(size, *shape), dtype=np.uint8), np.arange(size) % num_classes)
        for size in (train, test)
    )
    return from_arrays(name, train=next(parts), test=next(parts), num_classes=num_classes)

"""A linear model and labels; about a quarter of them contradict the model."""

import numpy as np
import pytest

FEATURES, CLASSES = 6, 4


def make(rows, seed=0):
    rng = np.random.default_rng(seed)
    w, b = rng.normal(size=(FEATURES, CLASSES)), rng.normal(size=CLASSES)
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    y = np.argmax(x @ w + b, axis=1)
    y = np.where(rng.uniform(size=rows) < 0.25, rng.integers(CLASSES, size=rows), y)
    return w.astype(np.float32), b.astype(np.float32), x, y.astype(np.int32)


@pytest.fixture(scope="session")
def problem():
    """(rows, seed) -> w f32[6, 4], b f32[4], x f32[rows, 6], y i32[rows]."""
    return make

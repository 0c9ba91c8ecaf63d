"""A small data set of points in classes, experiments on it, and trees of their arrays."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.data import Arrays, Dataset
from adv_jax.runner.config.document import with_values

CLASSES, FEATURES, TRAIN, TEST = 4, 5, 48, 30
# The same sums in another order or fusion: a few float32 roundings.
same = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
PLATEAU = {"name": "reduce_on_plateau", "factor": 0.5, "patience": 1}


def points():
    """Returns noisy points around a center for each class; x[:, 0] is the row number."""
    rng = np.random.default_rng(0)
    centers = 2 * rng.normal(size=(CLASSES, FEATURES))

    def arrays(n):
        y = (np.arange(n) * 7 % CLASSES).astype(np.int32)
        x = (centers[y] + rng.normal(size=(n, FEATURES))).astype(np.float32)
        x[:, 0] = np.arange(n)
        return Arrays(x, y)

    return Dataset("points", "made up", {}, arrays(TRAIN), arrays(TEST), CLASSES, (-9.0, 99.0))


def document(**changes):
    """A small legal config; keys of `changes` are paths with __ for the dot."""
    config = {
        "seed": 1,
        "replicas": {"seeds": 1, "grid": None, "shards": 1},
        "data": {"num_valid": 0, "num_labels": 0},
        "model": {"name": "mlp", "features": (), "num_classes": CLASSES},
        "objective": {"name": "cross_entropy"},
        "optimizer": {"name": "sgd", "learning_rate": 0.01, "momentum": 0.5},
        "batch_size": 8,
        "patience": 0,
        "evaluation": {"attacks": {}, "eps": (0.0, 0.5)},
    }
    return with_values(config, {path.replace("__", "."): v for path, v in changes.items()})


def arrays_of(dataset):
    return jax.tree.map(jnp.asarray, dataset.arrays())


def alone(tree, i=0):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def jnp_tree(tree):
    return jax.tree.map(jnp.asarray, tree)

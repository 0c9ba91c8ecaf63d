"""Small nets with every kind of layer that has bounds, and points of a ball."""

import functools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import models

IMAGE = (4, 6, 6, 2)


class Stack(nn.Module):
    """Convolution, then functions of images, then logits; features of the layers are few."""

    layers: tuple = ()

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(3, (3, 3), strides=2)(x)
        for layer in self.layers:
            x = layer(x)
        return nn.Dense(3)(x.reshape(len(x), -1))


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Dense(5)(x.reshape(len(x), -1))
        h = h + nn.Dense(5)(nn.relu(nn.Dense(5)(h))) - nn.tanh(h)
        parts = jnp.split(jnp.stack([h, 2 * h], axis=1), 2, axis=1)
        return nn.Dense(3)(jnp.concatenate([*parts, parts[0] / 3], axis=2).sum(1))


def _pools(x):
    # The second window is cut by the border of the image.
    kept = nn.max_pool(x, (2, 2), padding="SAME"), nn.max_pool(x, (3, 2), (2, 1), padding="SAME")
    return jnp.concatenate([part.reshape(len(part), -1) for part in kept], axis=1)


def _averages(x):
    # Flax's avg_pool divides by an integer, which strict promotion forbids.
    return nn.pool(x, 0.0, jax.lax.add, (2, 2), (1, 1), "VALID") / 4


NETS = {
    "relu": lambda: models.mlp(features=(8, 6), num_classes=3),
    "lenet": lambda: models.lenet(features=(2, 3, 4), num_classes=3),
    "max_pool": lambda: Stack((jnp.tanh, _pools)),
    "tanh": lambda: models.mlp(features=(8, 6), num_classes=3, activation="tanh"),
    "sigmoid": lambda: models.mlp(features=(8, 6), num_classes=3, activation="sigmoid"),
    "leaky_relu": lambda: models.mlp(features=(8, 6), num_classes=3, activation="leaky_relu"),
    "residual": Residual,
    "avg_pool": lambda: Stack((nn.softplus, _averages)),
    "batch_norm": lambda: Stack((nn.BatchNorm(use_running_average=True), nn.elu)),
    "clipped": lambda: Stack((lambda x: jnp.clip(x, -0.5, 0.8), nn.relu6, jax.checkpoint(jnp.exp))),
    "maxout": lambda: models.maxout(features=(4, 3), pieces=3, num_classes=3),
    "log": lambda: Stack((nn.relu, lambda x: jnp.log1p(x) - jnp.sqrt(x + 1))),
}


def images(name, seed=0):
    """Returns x f32[4, ...] in [0, 1] for a net."""
    shape = (4, 16, 16, 1) if name == "lenet" else IMAGE
    return jax.random.uniform(jax.random.key(seed), shape)


@functools.cache
def _traced(name):
    """Returns the shapes of the variables of a net, and (variables, x) -> logits."""
    net = NETS[name]()
    shapes = jax.eval_shape(partial(models.init, net), jax.random.key(0), images(name))
    apply = models.apply_fn(net)
    return shapes, lambda variables, x: apply(variables, x).logits


def built(name, seed=0):
    """Returns random variables and (variables, x) -> logits of a net."""
    rng, (shapes, logits) = np.random.default_rng(seed), _traced(name)

    def drawn(path, leaf):
        values = rng.normal(size=leaf.shape) / max(1, np.prod(leaf.shape[:-1])) ** 0.5
        return np.float32(abs(values) + 0.5 if path[0].key == "batch_stats" else values)

    return jax.tree_util.tree_map_with_path(drawn, shapes), logits


def points(rng, x, eps, norm="linf", bounds=None, count=200):
    """Returns random points f64[count, *x.shape] of the ball, half of them on its sphere."""
    r = rng.normal(size=(count, *x.shape))
    if norm == "linf":
        r = np.where(
            np.arange(count).reshape(-1, *(1,) * x.ndim) % 4 < 2, np.sign(r), r.clip(-1, 1)
        )
    flat = r.reshape(count, len(x), -1)
    order = {"linf": np.inf, "l2": 2, "rms": 2, "l1": 1}[norm]
    length = np.linalg.norm(flat, order, axis=2)
    if norm == "rms":
        length = length / np.sqrt(flat.shape[2])
    depth = np.where(np.arange(count) % 2, rng.uniform(size=count), 1)[:, None]
    shape = (count, len(x), *(1,) * (x.ndim - 1))
    x_adv = np.float64(x) + r * (eps * depth / length).reshape(shape)
    return x_adv if bounds is None else x_adv.clip(*bounds)


def margins(logits, y):
    """Returns logit_y - logit_j of logits f[..., B, K]: f[..., B, K], inf for j = y."""
    logits = np.float64(logits)
    rows = np.arange(len(y))
    found = logits[..., rows, y][..., None] - logits
    found[..., rows, y] = np.inf
    return found

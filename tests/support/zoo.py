"""Broken defenses around honest nets, each with the expected words of the audit's warning.

Some attack breaks each of them. They are small versions of the defenses in [athalye2018],
[carlini2019] and [tramer2020].
"""

import functools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import nets
import numpy as np
from jax.experimental import io_callback

from adv_jax import attacks, models


class BatchNorm(nn.Module):
    """A 784-64-10 net with batch normalization."""

    @nn.compact
    def __call__(self, x, *, train=False):
        h = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(64)(x))
        return nn.Dense(10)(nn.relu(h)), {}


class Conv(nn.Module):
    """Two convolutions with pooling, for flat rows."""

    @nn.compact
    def __call__(self, x, *, train=False):
        net = models.convnet(stages=((4,), (8,)), kernel_size=3, units=())
        return net(x.reshape(-1, 28, 28, 1), train=train)


MLP = models.mlp(features=(100,))
# name -> module, and what it is trained under.
NETS = {
    "linear": (models.mlp(features=()), "plain"),
    "relu": (MLP, "plain"),
    "tanh": (models.mlp(features=(50,), activation="tanh"), "plain"),
    "conv": (Conv(), "plain"),
    "dropout": (models.mlp(features=(100,), dropout=(0.2, 0.5)), "plain"),
    "batch norm": (BatchNorm(), "plain"),
    "fgsm": (MLP, "fgsm"),
    "pgd": (MLP, "pgd"),
}


@functools.cache
def honest(name, seed=0):
    """Returns the logits_fn of a net trained for a few epochs."""
    module, attack = NETS[name]
    return nets.fit(module, attack=nets.TRAINING_ATTACKS[attack], epochs=4, seed=seed).logits_fn


@functools.cache
def leaking():
    """Returns a net trained only on FGSM with eps .5, whose steps leak the label."""
    attack = partial(attacks.fgsm, eps=0.5, bounds=nets.BOUNDS)
    return nets.fit(MLP, attack=attack, alpha=0.0, epochs=10).logits_fn


def scaled(factor):
    return lambda logits_fn: lambda x: factor * logits_fn(x)


def behind(prepare):
    """Returns a defense that changes the input."""
    return lambda logits_fn: lambda x: logits_fn(prepare(x))


coins = np.random.default_rng(0)


def masked_on_the_host(x):
    """Keeps half of the pixels, drawn in every pass."""
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return x * io_callback(lambda: (coins.uniform(size=x.shape) < 0.5).astype(x.dtype), shape)


def masked_at_tracing(x):
    """Keeps half of the pixels, drawn at tracing: another half for every attack."""
    return x * (coins.uniform(size=(1, *x.shape[1:])) < 0.5).astype(x.dtype)


def masked_by_the_input(x):
    """Keeps half of the pixels, drawn with a key made of the row."""

    def mask(row):
        bits = jax.lax.bitcast_convert_type(row.sum(), jnp.uint32)
        return jax.random.bernoulli(jax.random.fold_in(jax.random.key(0), bits), 0.5, row.shape)

    return x * jax.vmap(mask)(jax.lax.stop_gradient(x)).astype(x.dtype)


def with_gradient_of(substitute):
    """Returns a defense with the values of the net and the gradient substitute(gradient)."""

    def defend(logits_fn):
        @jax.custom_vjp
        def defended(x):
            return logits_fn(x)

        def forward(x):
            return jax.vjp(logits_fn, x)

        def backward(pullback, cotangent):
            return (substitute(pullback(cotangent)[0]),)

        defended.defvjp(forward, backward)
        return defended

    return defend


def shattered(x):
    """Adds a small, steep ripple, which makes the direction of the gradient useless."""
    return x + 0.01 * jnp.sin(1e4 * x)


FGSM = partial(attacks.fgsm, bounds=nets.BOUNDS)
TIMID = partial(attacks.pgd, bounds=nets.BOUNDS, num_steps=2, step_size=1e-3, random_start=False)


class Broken(NamedTuple):
    """A broken defense: logits_fn -> logits_fn, words of the warning, attacks and eps to use."""

    defend: Callable
    words: str
    attacks: dict[str, Callable] = {"fgsm": FGSM}
    eps: tuple[float, ...] = (0.0, 0.1)


ZERO = "gradients are exactly 0 (gradient masking)"

BROKEN = {
    "logits times 1,000": Broken(scaled(1e3), "the logits saturate the softmax"),
    "logits clipped": Broken(lambda f: lambda x: jnp.clip(f(x), -1, 1), ZERO),
    "the class as a one-hot row": Broken(
        lambda f: lambda x: 9.0 * jax.nn.one_hot(jnp.argmax(f(x), 1), 10), ZERO
    ),
    "input rounded to 5 levels": Broken(behind(lambda x: jnp.round(4 * x) / 4), ZERO),
    "input thresholded": Broken(behind(lambda x: (x > 0.5).astype(x.dtype)), ZERO),
    "mask drawn in every pass": Broken(
        behind(masked_on_the_host), "the model draws random numbers"
    ),
    "mask drawn in every program": Broken(
        behind(masked_at_tracing), "the model draws random numbers"
    ),
    "mask drawn from the input": Broken(behind(masked_by_the_input), "gradients are misleading"),
    "gradient with its sign turned": Broken(
        with_gradient_of(jnp.negative), "gradients are misleading"
    ),
    "gradient of shuffled pixels": Broken(
        with_gradient_of(lambda g: jnp.roll(g, 391, axis=1)), "gradients are misleading"
    ),
    "gradient under noise": Broken(
        with_gradient_of(lambda g: g + 9 * jnp.abs(g).max() * jnp.sin(1e6 * g)),
        "gradients are misleading",
    ),
    "gradient shattered": Broken(behind(shattered), "gradients are misleading"),
    "attack of timid steps": Broken(
        lambda f: f, "the attacks are too weak", {"pgd": TIMID}, eps=(0.5,)
    ),
}
# Nets that are broken by their training or mode.
BROKEN_NETS = {
    "dropout in training mode": Broken(
        lambda: partial(honest("dropout"), train=True, key=jax.random.key(0)),
        "batch normalization or dropout is in training mode",
    ),
    "batch normalization in training mode": Broken(
        lambda: partial(honest("batch norm"), train=True),
        "batch normalization or dropout is in training mode",
    ),
    "trained on single steps alone": Broken(leaking, "label leaking", eps=(0.5,)),
}


def noisy(logits_fn):
    return lambda x, key: logits_fn(x + 0.3 * jax.random.normal(key, x.shape, x.dtype))


def masked(logits_fn):
    return lambda x, key: logits_fn(x * jax.random.bernoulli(key, 0.5, x.shape).astype(x.dtype))


def in_levels(count):
    return lambda x: jnp.round((count - 1) * x) / (count - 1)


# Defenses whose gradient is declared, by EOT and BPDA.
DECLARED = {
    "8 levels under BPDA": behind(attacks.straight_through(in_levels(8))),
    "noise under EOT": lambda f: attacks.expectation(noisy(f), 10),
    "masks under EOT": lambda f: attacks.expectation(masked(f), 10),
    "threshold under BPDA": behind(
        attacks.straight_through(
            lambda x: (x > 0.5).astype(x.dtype), lambda x: jax.nn.sigmoid(10 * (x - 0.5))
        )
    ),
}
_turned = with_gradient_of(jnp.negative)
# Declared gradients that are wrong.
MISDECLARED = {
    "turned gradient under BPDA": lambda f: DECLARED["8 levels under BPDA"](_turned(f)),
    "turned gradient under EOT": lambda f: attacks.expectation(noisy(_turned(f)), 10),
    "BPDA by the negative": behind(attacks.straight_through(in_levels(8), jnp.negative)),
}

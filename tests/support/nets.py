"""Three small nets trained on the 4,000 embedded digits, and the 1,000 test digits."""

import functools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from adv_jax import attacks, data, models, objectives
from adv_jax.step import init_state, make_step, over_steps

EPS, EPOCHS, BATCH = 0.1, 20, 100
BOUNDS = (0.0, 1.0)
TRAINING_ATTACKS = {
    "plain": None,
    "fgsm": partial(attacks.fgsm, eps=EPS, bounds=BOUNDS),
    "pgd": partial(attacks.pgd, eps=EPS, bounds=BOUNDS, num_steps=7),
}


class Net(NamedTuple):
    """A trained 784-100-10 net: params as Flax has them, logits_fn f32[B, 784] -> f32[B, 10]."""

    params: dict
    logits_fn: object


@functools.cache
def digits():
    """Returns the test digits: x f32[1000, 784] in [0, 1], y i32[1000]."""
    x, y = data.load("mnist", source="embedded", dir="").test
    return jnp.asarray(x).reshape(len(y), -1), jnp.asarray(y)


@functools.cache
def trained(name):
    return fit(models.mlp(features=(100,)), attack=TRAINING_ATTACKS[name])


def fit(model, *, attack=None, alpha=0.5, epochs=EPOCHS, seed=0):
    """Trains a module (x f32[B, 784], *, train) -> (logits, extras), and returns a Net.

    attack: the loss is alpha of the clean and 1 - alpha of the adversarial loss; None: clean.
    seed: seed of the weights.
    """
    x, y = data.load("mnist", source="embedded", dir="").train
    x, y = jnp.asarray(x).reshape(len(y), -1), jnp.asarray(y)
    apply = models.apply_fn(model)
    objective = partial(objectives.cross_entropy, apply)
    if attack:
        objective = partial(objectives.adversarial_mix, apply, attack=attack, alpha=alpha)
    optimizer = optax.adam(2e-3)
    state = init_state(models.init(model, jax.random.key(seed), x[:2]), optimizer, seed=seed)
    steps = jax.jit(over_steps(make_step(objective, optimizer)))
    for epoch in range(epochs):
        order = jax.random.permutation(jax.random.key(epoch), len(y)).reshape(-1, BATCH)
        state, _ = steps(state, {"x": x[order], "y": y[order], "unlabeled": x[order]})
    variables = state.variables
    return Net(variables["params"], partial(logits_of, apply, variables))


def logits_of(apply, variables, x, **options):
    """Returns the logits of a `models.apply_fn`; options: `train` and `key`."""
    return apply(variables, x, **options).logits


def accuracy(logits_fn, x, y):
    return float(jnp.mean(jnp.argmax(logits_fn(x), axis=1) == y))

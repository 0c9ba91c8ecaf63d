"""substitute: against Algorithm 1 in NumPy, and on victims that are not JAX programs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from sklearn.linear_model import LogisticRegression

from adv_jax import attacks, data, models, objectives
from adv_jax.evaluate import substitute
from adv_jax.step import init_state, make_step
from adv_jax.types import UserError

RNG = np.random.default_rng(0)
X = RNG.uniform(0.2, 0.8, (12, 5)).astype(np.float32)
W = RNG.normal(size=(5, 3))
KEY = jax.random.key(0)


def linear_victim(x):
    return (x.astype(np.float64) @ W).argmax(axis=1)


def parts(model, optimizer, x):
    """The arguments of a substitute: apply, step and state."""
    apply = models.apply_fn(model)
    state = init_state(models.init(model, KEY, x), optimizer, seed=0)
    step = make_step(partial(objectives.cross_entropy, apply), optimizer)
    return {"apply": apply, "step": step, "state": state, "key": KEY}


def published(x, kernel, bias, *, rounds, eps, epochs, rate):
    """Algorithm 1 of [papernot2017] with softmax regression and SGD on 12 rows, in float64."""

    def probabilities(x):
        odds = np.exp(x @ kernel + bias)
        return odds / odds.sum(axis=1, keepdims=True)

    for count in range(rounds + 1):
        y = linear_victim(x)
        if count:
            p = probabilities(x)
            # The Jacobian of the softmax: dp_y/dx = p_y (w_y - sum_k p_k w_k).
            own = p[np.arange(len(x)), y]
            slope = own[:, None] * (kernel.T[y] - p @ kernel.T)
            x = np.concatenate([x, np.clip(x + eps * np.sign(slope), 0, 1)])
            y = linear_victim(x)
        for epoch in range(epochs):
            key = jax.random.fold_in(KEY, count * epochs + epoch)
            order = np.asarray(jax.random.permutation(key, 12 * 2**rounds))
            for rows in order[order < len(x)].reshape(-1, 12):
                error = (probabilities(x[rows]) - np.eye(3)[y[rows]]) / 12
                kernel, bias = kernel - rate * x[rows].T @ error, bias - rate * error.sum(axis=0)
    return x, y, kernel, bias


@pytest.mark.slow
def test_a_linear_substitute_is_that_of_the_published_algorithm_and_asks_each_query_once():
    asked = []

    def victim(x):
        assert type(x) is np.ndarray
        asked.append(x)
        return linear_victim(x)

    settings = {"rounds": 2, "eps": 0.07, "epochs": 3}
    given = parts(nn.Dense(3), optax.sgd(0.5), X)
    first = jax.tree.map(np.float64, given["state"].params)
    expected = published(np.float64(X), first["kernel"], first["bias"], rate=0.5, **settings)
    found = substitute(victim, jnp.asarray(X), bounds=(0, 1), **given, **settings)
    params = found.variables["params"]
    for ours, theirs in zip(
        (found.x, found.y, params["kernel"], params["bias"]), expected, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert [len(x) for x in asked] == [12, 12, 24]
    np.testing.assert_array_equal(np.concatenate(asked), found.x)


@pytest.mark.slow
def test_examples_of_a_substitute_fool_a_scikit_learn_model_that_noise_does_not():
    digits = data.load("mnist", source="embedded")
    flat = lambda x: np.asarray(x).reshape(len(x), -1)
    victim = LogisticRegression(C=0.01, max_iter=500).fit(
        flat(digits.train.x[::4]), digits.train.y[::4]
    )
    x, y = jnp.asarray(digits.test.x[::2]), digits.test.y[::2]
    first = jnp.asarray(digits.test.x[1::5])
    given = parts(models.mlp(features=(100,), num_classes=10), optax.adam(0.01), first)
    found = substitute(lambda x: victim.predict(flat(x)), first, rounds=3, bounds=(0, 1), **given)
    error = lambda x: float((victim.predict(flat(x)) != y).mean())
    crafted = attacks.fgsm(found.logits_fn, x, y, eps=0.3, bounds=(0, 1))
    noise = attacks.sign_noise(found.logits_fn, x, y, eps=0.3, bounds=(0, 1), key=KEY)
    assert error(crafted) > error(noise) + 0.3


@pytest.mark.slow
def test_a_step_for_each_feature_moves_the_queries_by_it():
    given = {"victim": linear_victim, "x": jnp.asarray(X), "epochs": 1, "rounds": 1}
    steps = np.linspace(0, 0.2, X.shape[1], dtype=np.float32)[None]
    found = substitute(**given | parts(nn.Dense(3), optax.sgd(0.5), X) | {"eps": steps})
    np.testing.assert_allclose(
        np.abs(found.x[len(X) :] - X), np.repeat(steps, len(X), 0), atol=1e-6
    )


def test_a_substitute_that_diverges_is_told_by_its_round():
    given = parts(nn.Dense(3), optax.sgd(jnp.inf), X)
    with pytest.raises(UserError, match="got NaN or infinity after the training of round 0"):
        substitute(linear_victim, X, **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"victim": 3}, "victim must be a function of x alone, got a int"),
        (
            {"victim": lambda x: x},
            r"victim must return classes i32\[B\] with B = 12, got float32\[12, 5\]",
        ),
        (
            {"victim": lambda x: np.arange(12)},
            "victim must return classes from 0 to 2, as apply, got 3",
        ),
        (
            {"victim": lambda x: [[1], [2, 3]]},
            r"victim must return classes i32\[B\] with B = 12, got \[\[1\], \[2, 3\]\]",
        ),
        ({"rounds": 0}, "rounds must be a whole number of at least 1, got 0"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"key": None}, "key must be one key of jax.random, got None"),
        ({"state": {"params": {}}}, "state must be made by step.init_state, got a dict"),
        ({"eps": np.full(12, 0.1)}, "eps must be one real number, as for all queries, got float64"),
        ({"eps": -1.0}, "eps must be a finite number of at least 0, got -1"),
        ({"x": np.zeros((2, 3), np.int32)}, r"x must be a batch f32\[B, \*D\] of floats, got"),
        (
            {"n_epochs": 3},
            "substitute must get keywords of its own, got 'n_epochs'; did you mean 'e",
        ),
        ({"apply": None}, "apply must be a function that returns an adv_jax.types.Output, as mod"),
        (
            {"apply": lambda variables, x: x},
            r"apply must return an adv_jax.types.Output, .*, got float32\[12, 5\]",
        ),
        ({"step": None}, "step must be a function such as step.make_step.*, got None"),
        (
            {"step": lambda state, batch: state},
            r"step must return \(state, metrics\), as that of step.make_step, got a TrainState",
        ),
    ],
)
def test_substitute_refuses_bad_arguments(change, message):
    given = {"victim": linear_victim, "x": jnp.asarray(X), "epochs": 1}
    with pytest.raises(UserError, match=message) as caught:
        substitute(**given | parts(nn.Dense(3), optax.sgd(0.5), X) | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"eps": -1.0},
        {"eps": 2.0},
        {"step": lambda state, batch: 0},
        {"rounds": 50},
        {"rounds": 20_000},
    ],
)
def test_bad_settings_are_refused_before_the_victim_is_asked(change):
    asked = []
    given = {"victim": asked.append, "x": jnp.asarray(X), "bounds": (0.0, 1.0)}
    with pytest.raises(UserError, match="^(eps|step|rounds) must"):
        substitute(**given | parts(nn.Dense(3), optax.sgd(0.5), X) | change)
    assert asked == []

"""Output distribution matching: the losses against NumPy, and each player's gradient."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import generative, models, objectives

KEY = jax.random.key(0)
MODEL = generative.models.judged(features=(5,), layer=0, adversary_features=(4,), num_classes=3)
RNG = np.random.default_rng(0)
X, U = (jnp.asarray(RNG.uniform(size=(n, 6)), jnp.float32) for n in (4, 8))
BATCH = {"x": X, "y": jnp.array([0, 2, 1, 1]), "unlabeled": U}
APPLY = models.apply_fn(MODEL)


@cache
def initial():
    return models.init(MODEL, jax.random.key(1), X)


def own_losses(variables, weight):
    """The losses of both players in terms of the critic's log D and log (1 - D)."""
    judge = lambda outputs: jax.nn.log_softmax(APPLY(variables, outputs, method="judge").logits)
    fake = judge(jax.nn.softmax(APPLY(variables, U).logits))
    real = judge(jnp.eye(3)[BATCH["y"]])
    labeled = jax.nn.log_softmax(APPLY(variables, X).logits)[jnp.arange(4), BATCH["y"]]
    return {
        "classifier": -labeled.mean() - weight * fake[:, 1].mean(),
        "adversary": -real[:, 1].mean() - fake[:, 0].mean(),
    }


@pytest.mark.slow
def test_the_metrics_are_the_losses_and_what_the_critic_thinks():
    _, (_, metrics) = generative.objectives.output_matching(
        APPLY, initial(), BATCH, key=KEY, weight=0.4
    )
    logits = lambda x: np.float64(APPLY(initial(), x).logits)
    d = lambda outputs: oracles.softmax(
        np.float64(APPLY(initial(), jnp.float32(outputs), method="judge").logits)
    )
    real, fake = d(np.eye(3)[[0, 2, 1, 1]]), d(oracles.softmax(logits(U)))
    expected = {
        "classifier_loss": oracles.cross_entropies(logits(X), np.array(BATCH["y"])).mean()
        - 0.4 * np.log(fake[:, 1]).mean(),
        "adversary_loss": -np.log(real[:, 1]).mean() - np.log(fake[:, 0]).mean(),
        "labels": real[:, 1].mean(),
        "predictions": fake[:, 1].mean(),
        "accuracy": (logits(X).argmax(axis=1) == np.array(BATCH["y"])).mean(),
    }
    found = {name: float(value) for name, value in metrics.items()}
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_each_player_has_the_gradient_of_its_own_loss():
    total = lambda params: generative.objectives.output_matching(
        APPLY, {"params": params}, BATCH, key=KEY, weight=0.4
    )[0]
    found = jax.grad(total)(initial()["params"])
    for player in ("classifier", "adversary"):
        own = lambda params, player=player: own_losses({"params": params}, 0.4)[player]
        expected = jax.grad(own)(initial()["params"])[player]
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), found[player], expected)


@pytest.mark.slow
def test_without_weight_the_classifier_learns_from_the_labels_alone():
    def gradient(objective, **options):
        loss = lambda params: objective(APPLY, {"params": params}, BATCH, key=KEY, **options)[0]
        return jax.grad(loss)(initial()["params"])["classifier"]

    found = gradient(generative.objectives.output_matching, weight=0.0)
    expected = gradient(objectives.cross_entropy)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), found, expected)

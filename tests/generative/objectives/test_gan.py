"""The losses of a GAN, against NumPy, and what theory says about them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_after
from scipy.stats import norm

from adv_jax import generative, models
from adv_jax.generative.objectives.gan import REAL, constant
from adv_jax.types import Output

KEY = jax.random.key(0)
MODEL = generative.models.gan(
    shape=(2, 3, 1), latent=4, generator_features=(5,), discriminator_features=(6,)
)
X = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 2, 3, 1)), jnp.float32)
BATCH = {"x": X, "y": jnp.zeros(8, jnp.int32)}
APPLY, VARIABLES = models.apply_fn(MODEL), models.init(MODEL, jax.random.key(1), X)
LOSSES = ("non_saturating", "minimax")


def log_sigmoid(s):
    return -np.logaddexp(0, -s)


def scores_of_generated(variables):
    """The discriminator's scores of the samples that a step with KEY draws, f[B]."""
    key_z, _, _ = jax.random.split(KEY, 3)
    images = APPLY(variables, X, train=True, key=key_z, method="sample").logits
    return APPLY(variables, images).logits[:, REAL]


def own_losses(variables, loss):
    """The losses of both players by the textbook, in terms of the scores log D / (1 - D)."""
    real, generated = APPLY(variables, X).logits[:, REAL], scores_of_generated(variables)
    discriminator = -jnp.mean(jax.nn.log_sigmoid(real)) - jnp.mean(jax.nn.log_sigmoid(-generated))
    if loss == "minimax":
        return {
            "discriminator": discriminator,
            "generator": jnp.mean(jax.nn.log_sigmoid(-generated)),
        }
    return {"discriminator": discriminator, "generator": -jnp.mean(jax.nn.log_sigmoid(generated))}


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_the_metrics_are_the_losses_and_the_probabilities(loss):
    _, (_, metrics) = generative.objectives.gan(
        APPLY, VARIABLES, BATCH, key=KEY, generator_loss=loss
    )
    real = np.float64(APPLY(VARIABLES, X).logits[:, REAL])
    generated = np.float64(scores_of_generated(VARIABLES))
    generator = {
        "non_saturating": -log_sigmoid(generated).mean(),
        "minimax": log_sigmoid(-generated).mean(),
    }
    expected = {
        "discriminator_loss": -log_sigmoid(real).mean() - log_sigmoid(-generated).mean(),
        "generator_loss": generator[loss],
        "real": np.exp(log_sigmoid(real)).mean(),
        "generated": np.exp(log_sigmoid(generated)).mean(),
    }
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(expected, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", slow_after(1, LOSSES))
def test_each_player_has_the_gradient_of_its_own_loss(loss):
    def total(params):
        return generative.objectives.gan(
            APPLY, {"params": params}, BATCH, key=KEY, generator_loss=loss
        )[0]

    found = jax.grad(total)(VARIABLES["params"])
    for player in ("generator", "discriminator"):
        own = lambda params, player=player: own_losses({"params": params}, loss)[player]
        expected = jax.grad(own)(VARIABLES["params"])[player]
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), found[player], expected)


def test_constant_detaches_the_named_players_only():
    def squares(params):
        leaves = jax.tree.leaves(constant({"params": params}, ["generator"]))
        return sum(jnp.sum(leaf**2) for leaf in leaves)

    gradients = jax.grad(squares)(VARIABLES["params"])
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients["generator"]))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, VARIABLES["params"]["discriminator"])
    jax.tree.map(np.testing.assert_array_equal, gradients["discriminator"], doubled)


class Scores:
    """A game of numbers: the generator holds its samples, and scores are linear in an image."""

    @staticmethod
    def apply(variables, x, *, train, key, method=None):
        del train, key
        params = variables["params"]
        if method == "sample":
            return Output(jnp.broadcast_to(params["generator"], x.shape), {}, {})
        line = params["discriminator"]
        score = line["slope"] * x + line["height"]
        return Output(jnp.concatenate([jnp.zeros_like(score), score], axis=1), {}, {})


@pytest.mark.parametrize("score", [-8.0, -3.0, 0.0, 3.0])
def test_the_generator_s_gradient_has_the_factor_of_its_loss(score):
    # d log(1 - D) / ds = -D and d -log D / ds = -(1 - D): minimax saturates where D is near 0.
    d = 1 / (1 + np.exp(-score))
    for loss, factor in (("minimax", -d), ("non_saturating", -(1 - d))):

        def total(sample, loss=loss):
            params = {"generator": sample, "discriminator": {"slope": 1.0, "height": 0.0}}
            batch = {"x": jnp.ones((4, 1)), "y": jnp.zeros(4, jnp.int32)}
            options = {"key": KEY, "generator_loss": loss}
            return generative.objectives.gan(Scores.apply, {"params": params}, batch, **options)[0]

        assert jax.grad(total)(jnp.float32(score)) == pytest.approx(factor, rel=1e-4)


@pytest.mark.slow
def test_the_best_discriminator_of_two_normal_distributions_is_the_ratio_of_densities():
    # log D / (1 - D) = log p(x) / q(x), which is linear in x for equal variances.
    rng = np.random.default_rng(1)
    real, generated = (jnp.asarray(rng.normal(mean, 1, (20_000, 1))) for mean in (1, 0))

    @jax.jit
    def gradient(line):
        def loss(line):
            params = {"generator": generated, "discriminator": line}
            batch = {"x": real, "y": jnp.zeros(len(real), jnp.int32)}
            return generative.objectives.gan(Scores.apply, {"params": params}, batch, key=KEY)[0]

        return jax.grad(loss)(line)

    line = {"slope": jnp.zeros(()), "height": jnp.zeros(())}
    for _ in range(200):
        line = jax.tree.map(lambda a, g: a - g, line, gradient(line))
    at = np.linspace(-1, 2, 7)
    found = 1 / (1 + np.exp(-(float(line["slope"]) * at + float(line["height"]))))
    expected = norm.pdf(at, 1) / (norm.pdf(at, 1) + norm.pdf(at, 0))
    np.testing.assert_allclose(found, expected, atol=0.02)

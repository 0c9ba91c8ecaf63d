"""The losses of a categorical GAN, against NumPy, and each player's gradient."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import generative, models

KEY = jax.random.key(0)
MODEL = generative.models.catgan(
    shape=(2, 3, 1),
    latent=4,
    generator_features=(5,),
    discriminator_features=(6,),
    num_classes=3,
)
RNG = np.random.default_rng(0)
X, U = (jnp.asarray(RNG.uniform(size=(n, 2, 3, 1)), jnp.float32) for n in (4, 8))
BATCH = {"x": X, "y": jnp.array([0, 2, 1, 1]), "unlabeled": U}
APPLY = models.apply_fn(MODEL)


@cache
def initial():
    return models.init(MODEL, jax.random.key(1), X)


def generated(variables):
    """The images that a step with KEY draws."""
    key_z, *_ = jax.random.split(KEY, 4)
    return APPLY(variables, U, train=True, key=key_z, method="sample").logits


def entropies(logits, xp=np):
    """The mean entropy of rows of logits, and the entropy of the mean prediction."""
    p = xp.exp(logits - logits.max(axis=1, keepdims=True))
    p = p / p.sum(axis=1, keepdims=True)
    mean = p.mean(axis=0)
    return -(p * xp.log(p)).sum(axis=1).mean(), -(mean * xp.log(mean)).sum()


def own_losses(variables, weight, xp=np):
    """The losses of both players by the paper's definitions, in terms of the probabilities."""
    number = lambda a: np.float64(a) if xp is np else a
    logits = lambda images: number(APPLY(variables, images).logits)
    sure, classes = entropies(logits(U), xp)
    unsure, spread = entropies(logits(generated(variables)), xp)
    labeled = jax.nn.log_softmax(APPLY(variables, X).logits)
    supervised = -number(labeled)[np.arange(4), np.array(BATCH["y"])].mean()
    return {
        "discriminator": -classes + sure - unsure + weight * supervised,
        "generator": -spread + unsure,
    }, {"real_entropy": sure, "generated_entropy": unsure, "classes_entropy": classes}


@pytest.mark.slow
def test_the_metrics_are_the_losses_and_the_entropies():
    loss, (_, metrics) = generative.objectives.catgan(APPLY, initial(), BATCH, key=KEY, weight=0.7)
    losses, entropies_of = own_losses(initial(), 0.7)
    right = np.asarray(APPLY(initial(), X).logits).argmax(axis=1) == np.asarray(BATCH["y"])
    named = {f"{player}_loss": value for player, value in losses.items()}
    expected = named | entropies_of | {"accuracy": right.mean()}
    found = {name: float(value) for name, value in metrics.items()}
    assert found == pytest.approx(expected, abs=1e-5)
    assert float(loss) == pytest.approx(sum(losses.values()), abs=1e-5)


@pytest.mark.slow
def test_each_player_has_the_gradient_of_its_own_loss():
    total = lambda params: generative.objectives.catgan(
        APPLY, {"params": params}, BATCH, key=KEY, weight=0.7
    )[0]
    found = jax.grad(total)(initial()["params"])
    for player in ("generator", "discriminator"):
        own = lambda params, player=player: own_losses({"params": params}, 0.7, jnp)[0][player]
        expected = jax.grad(own)(initial()["params"])[player]
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), found[player], expected)


@pytest.mark.slow
def test_without_weight_the_labels_have_no_influence():
    grad = jax.grad(
        lambda params, batch: generative.objectives.catgan(
            APPLY, {"params": params}, batch, key=KEY, weight=0.0
        )[0]
    )
    other = BATCH | {"y": jnp.array([1, 0, 0, 2])}
    found, expected = (grad(initial()["params"], batch) for batch in (BATCH, other))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
def test_predictions_of_one_class_alone_are_finite():
    # A mean probability of 0 in float32, which has no logarithm.
    params = jax.tree.map(lambda leaf: 1e4 * leaf, initial()["params"])
    total = lambda params: generative.objectives.catgan(APPLY, {"params": params}, BATCH, key=KEY)[
        0
    ]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(total)(params)))


def test_the_discriminator_is_a_classifier_of_all_classes():
    logits, extras, _ = APPLY(initial(), X)
    layers = initial()["params"]["discriminator"]
    h = 2 * np.float64(X).reshape(4, 6) - 1
    h = h @ np.float64(layers["hidden1"]["kernel"]) + np.float64(layers["hidden1"]["bias"])
    h = np.where(h > 0, h, 0.1 * h)
    np.testing.assert_allclose(extras["hidden1"], h, atol=1e-5)
    np.testing.assert_allclose(
        oracles.softmax(np.float64(logits)),
        oracles.softmax(h @ np.float64(layers["logits"]["kernel"])),
        atol=1e-5,
    )

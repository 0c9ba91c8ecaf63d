"""The losses of VAE, VAE-GAN and adversarial autoencoders, and the gradients of their players."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_after

from adv_jax import generative, models

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, U = (jnp.asarray(RNG.uniform(size=(8, 2, 3, 1)), jnp.float32) for _ in range(2))
BATCH = {"x": X, "y": jnp.arange(8) % 4, "unlabeled": U}
CODED = {"shape": (2, 3, 1), "latent": 3, "encoder_features": (5,), "decoder_features": (4,)}
AUTOENCODER = {"shape": (2, 3, 1), "latent": 3, "features": (5,), "discriminator_features": (6,)}
SETTINGS = {
    "vae": CODED,
    "vae_gan": CODED | {"discriminator_features": (6, 5)},
    "adversarial_autoencoder": AUTOENCODER,
    "semi_supervised_autoencoder": AUTOENCODER | {"num_classes": 4},
}
GAMMA, WEIGHT, LABEL_WEIGHT, LAYER = 0.3, 2.0, 5.0, 2


@cache
def net(name):
    """A model's apply and its variables."""
    model = getattr(generative.models, name)(**SETTINGS[name])
    return models.apply_fn(model), models.init(model, jax.random.key(1), X)


def softplus(s):
    return np.logaddexp(0, s)


def of_vae_gan(variables):
    """The losses of the three players in textbook form, with the draws of a step with KEY."""
    key_code, key_sample, _ = jax.random.split(KEY, 3)
    apply = partial(net("vae_gan")[0], variables)
    code = apply(X, key=key_code, method="infer")
    rebuilt, sampled = (
        apply(code.logits, method="decode").logits,
        apply(X, key=key_sample, method="sample").logits,
    )
    score = lambda images: apply(images).logits[:, 1]
    features = lambda images: apply(images).extras[f"hidden{LAYER}"]
    error = jnp.sum((features(X) - features(rebuilt)) ** 2, axis=1).mean() / 2
    minus_log = lambda score: jax.nn.softplus(-score).mean()
    fooled = minus_log(score(rebuilt)) + minus_log(score(sampled))
    told = minus_log(score(X)) + minus_log(-score(rebuilt)) + minus_log(-score(sampled))
    return {
        "encoder": code.extras["divergence"].mean() + error,
        "decoder": GAMMA * error + fooled,
        "discriminator": told,
    }


def of_autoencoder(name, variables):
    """The losses of the three players in textbook form, with the draws of a step with KEY."""
    apply = partial(net(name)[0], variables)
    code = apply(U, method="encode").logits
    images = apply(code, method="decode").logits
    squares = jnp.sum((images - U) ** 2, axis=(1, 2, 3)).mean()
    prior = apply(U, key=KEY, method="prior").logits
    minus_log = lambda score: jax.nn.softplus(-score).sum(axis=1).mean()
    score = lambda code: apply(code, method="judge").logits
    encoder = squares + WEIGHT * minus_log(score(code))
    if name == "semi_supervised_autoencoder":
        log_p = jax.nn.log_softmax(apply(X).logits)
        encoder += LABEL_WEIGHT * -log_p[jnp.arange(8), BATCH["y"]].mean()
    told = minus_log(score(prior)) + minus_log(-score(code))
    return {"encoder": encoder, "decoder": squares, "discriminator": told}


GAMES = {
    "semi_supervised_autoencoder": (
        {"weight": WEIGHT, "label_weight": LABEL_WEIGHT},
        partial(of_autoencoder, "semi_supervised_autoencoder"),
    ),
    "vae_gan": ({"gamma": GAMMA, "layer": LAYER}, of_vae_gan),
    "adversarial_autoencoder": (
        {"weight": WEIGHT},
        partial(of_autoencoder, "adversarial_autoencoder"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_after(1, GAMES))
def test_each_player_has_the_gradient_of_its_own_loss(name):
    (apply, variables), (settings, own_losses) = net(name), GAMES[name]
    objective = partial(
        getattr(generative.objectives, name), apply, batch=BATCH, key=KEY, **settings
    )
    total = lambda params: objective({"params": params})[0]
    found = jax.jit(jax.grad(total))(variables["params"])
    own = jax.jit(jax.jacrev(lambda params: own_losses({"params": params})))(variables["params"])
    for player in ("encoder", "decoder", "discriminator"):
        expected = own[player][player]
        assert any(leaf.any() for leaf in jax.tree.leaves(expected))
        close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
        jax.tree.map(close, found[player], expected)


@pytest.mark.slow
def test_the_loss_of_a_vae_is_the_mean_of_its_rows_with_both_terms_as_metrics():
    apply, variables = net("vae")
    loss, (_, metrics) = generative.objectives.vae(apply, variables, BATCH, key=KEY)
    rows = apply(variables, X, key=KEY, method="row_loss")
    assert float(loss) == pytest.approx(float(rows.logits.mean()), rel=1e-6)
    assert metrics.keys() == {"reconstruction", "divergence"}
    assert float(sum(metrics.values())) == pytest.approx(float(loss), rel=1e-6)


@pytest.mark.slow
def test_the_metrics_of_a_vae_gan_are_the_losses_of_its_players_in_numpy():
    apply, variables = net("vae_gan")
    settings = {"key": KEY, "gamma": GAMMA, "layer": LAYER}
    loss, (_, metrics) = generative.objectives.vae_gan(apply, variables, BATCH, **settings)
    key_code, key_sample, _ = jax.random.split(KEY, 3)
    code = apply(variables, X, key=key_code, method="infer")
    images = {
        "real": X,
        "rebuilt": apply(variables, code.logits, method="decode").logits,
        "sampled": apply(variables, X, key=key_sample, method="sample").logits,
    }
    judged = {name: apply(variables, value) for name, value in images.items()}
    scores = {name: np.float64(output.logits[:, 1]) for name, output in judged.items()}
    features = {name: np.float64(output.extras["hidden2"]) for name, output in judged.items()}
    error = ((features["real"] - features["rebuilt"]) ** 2).sum(axis=1).mean() / 2
    divergence = np.float64(code.extras["divergence"]).mean()
    fooled = softplus(-scores["rebuilt"]).mean() + softplus(-scores["sampled"]).mean()
    told = softplus(-scores["real"]).mean()
    told += softplus(scores["rebuilt"]).mean() + softplus(scores["sampled"]).mean()
    expected = {
        "encoder_loss": divergence + error,
        "decoder_loss": GAMMA * error + fooled,
        "discriminator_loss": told,
        "divergence": divergence,
        "feature_distance": error,
    }
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(expected, 1e-5)
    losses = ("encoder_loss", "decoder_loss", "discriminator_loss")
    assert float(loss) == pytest.approx(sum(expected[name] for name in losses), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", slow_after(1, ["semi_supervised_autoencoder", "adversarial_autoencoder"])
)
def test_the_metrics_of_an_adversarial_autoencoder_are_its_terms_in_numpy(name):
    (apply, variables), (settings, _) = net(name), GAMES[name]
    loss, (_, metrics) = getattr(generative.objectives, name)(
        apply, variables, BATCH, key=KEY, **settings
    )
    code = apply(variables, U, method="encode").logits
    images = np.float64(apply(variables, code, method="decode").logits)
    prior = apply(variables, U, key=KEY, method="prior").logits
    of_code, of_prior = (
        np.float64(apply(variables, codes, method="judge").logits) for codes in (code, prior)
    )
    expected = {
        "decoder_loss": ((images - np.float64(U)) ** 2).sum(axis=(1, 2, 3)).mean(),
        "fooling_loss": softplus(-of_code).sum(axis=1).mean(),
        "discriminator_loss": (softplus(-of_prior) + softplus(of_code)).sum(axis=1).mean(),
    }
    expected["encoder_loss"] = expected["decoder_loss"] + WEIGHT * expected["fooling_loss"]
    if name == "semi_supervised_autoencoder":
        logits = np.float64(apply(variables, X).logits)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        expected["supervised"] = -log_p[np.arange(8), BATCH["y"]].mean()
        expected["accuracy"] = float(np.mean(logits.argmax(axis=1) == np.asarray(BATCH["y"])))
        expected["encoder_loss"] += LABEL_WEIGHT * expected["supervised"]
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(expected, 1e-5)
    total = expected["encoder_loss"] + expected["discriminator_loss"]
    assert float(loss) == pytest.approx(total, rel=1e-5)


@pytest.mark.slow
def test_only_the_inputs_of_the_encoder_of_an_adversarial_autoencoder_are_noisy():
    apply, variables = net("semi_supervised_autoencoder")
    seen = {}

    def spy(variables, inputs, *, method="logits", **settings):
        seen.setdefault(method, []).append(inputs)
        given = {} if method == "logits" else {"method": method}
        return apply(variables, inputs, **settings, **given)

    noisy = partial(generative.objectives.semi_supervised_autoencoder, spy, key=KEY, noise_std=0.3)
    many = {name: jnp.tile(value, (64, *[1] * (value.ndim - 1))) for name, value in BATCH.items()}
    _, (_, metrics) = noisy(variables, many)
    for inputs, clean in zip((*seen["encode"], *seen["logits"]), ["unlabeled", "x"], strict=True):
        noise = np.float64(inputs - many[clean])
        assert noise.mean() == pytest.approx(0, abs=0.02)
        assert noise.std() == pytest.approx(0.3, rel=0.05)
    images = np.float64(apply(variables, *seen["decode"], method="decode").logits)
    squares = ((images - np.float64(many["unlabeled"])) ** 2).sum(axis=(1, 2, 3)).mean()
    assert float(metrics["decoder_loss"]) == pytest.approx(squares, rel=1e-5)


def test_a_layer_that_the_discriminator_lacks_is_refused():
    sentence = "objective.layer must be a hidden layer of the discriminator, 1 to 2, got 3"
    with pytest.raises(ValueError, match=sentence):
        generative.objectives.vae_gan(*net("vae_gan"), BATCH, key=KEY, gamma=1.0, layer=3)

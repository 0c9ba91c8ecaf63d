"""The losses of games with labels and with levels, against NumPy and the players' own losses."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import exhaustive_after

from adv_jax import generative, models
from adv_jax.types import UserError

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).uniform(size=(6, 4, 4, 1)), jnp.float32)
Y = jnp.asarray([0, 1, 2, 0, 1, 2], jnp.int32)
BATCH = {"x": X, "y": Y}
DENSE = {"shape": (4, 4, 1), "latent": 3, "generator_features": (5,)}
MODELS = {
    "conditional_gan": generative.models.conditional_gan(
        **DENSE, discriminator_features=(6,), num_classes=3
    ),
    "dcgan": generative.models.dcgan(shape=(4, 4, 1), latent=3, maps=(4, 2)),
    "lapgan": generative.models.lapgan(**DENSE, halvings=1, maps=2, discriminator_features=(6,)),
}
APPLY = {name: models.apply_fn(model) for name, model in MODELS.items()}


@functools.cache
def initial(name):
    """The variables of a model; collecting the tests computes nothing."""
    return models.init(MODELS[name], jax.random.key(1), X)


GAMES = {
    "catgan": generative.models.catgan(**DENSE, discriminator_features=(6,), num_classes=3),
    "vae_gan": generative.models.vae_gan(shape=(4, 4, 1), latent=3),
    "adversarial_autoencoder": generative.models.adversarial_autoencoder(shape=(4, 4, 1), latent=3),
    "output_matching": generative.models.judged(features=(5,), layer=0, num_classes=3),
    "domain_adversarial": generative.models.judged(features=(5,), num_classes=3),
    "censored": generative.models.censored(features=(5,)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_a_part_that_belongs_to_no_player_is_refused(name):
    model = GAMES[name]
    variables = models.init(model, jax.random.key(1), X)
    shared = {"params": {**variables["params"], "trunk": jnp.ones(2)}}
    batch = {**BATCH, "unlabeled": X}
    options = {"gamma": 1.0} if name == "vae_gan" else {}
    with pytest.raises(UserError, match="the parts of the model must be the players .*, trunk$"):
        getattr(generative.objectives, name)(
            models.apply_fn(model), shared, batch, key=KEY, **options
        )


def log_sigmoid(s):
    return -np.logaddexp(0, -np.float64(s))


def game(name, **options):
    """The game of a model: loss, state and metrics."""
    objective = getattr(generative.objectives, "gan" if name == "dcgan" else name)
    loss, (state, metrics) = objective(APPLY[name], initial(name), BATCH, key=KEY, **options)
    return loss, state, metrics


def scores(name, params, key, x, *given, **options):
    """The scores log D / (1 - D) of real images and of samples of a level, in training."""
    run = partial(APPLY[name], initial(name) | {"params": params}, train=True, **options)
    key_z, key_real, key_generated = jax.random.split(key, 3)
    images = run(x, *given, key=key_z, method="sample").logits
    real = run(x, *given, key=key_real).logits[:, 1]
    return real, run(images, *given, key=key_generated).logits[:, 1]


def levels(name):
    """{number appended to the names of a level: (key, images, what is given, options)}."""
    if name == "conditional_gan":
        return {"": (KEY, X, (Y,), {})}
    if name == "dcgan":
        return {"": (KEY, X, (), {})}
    found = {}
    for level in (0, 1):
        band = APPLY[name](initial(name), X, method="band", level=level)
        own = jax.random.fold_in(KEY, level)
        found[str(level)] = own, band.logits, tuple(band.extras.values()), {"level": level}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("loss", exhaustive_after(1, ["non_saturating", "minimax"]))
@pytest.mark.parametrize("name", exhaustive_after(1, MODELS))
def test_the_metrics_of_each_level_are_the_losses_and_the_probabilities(name, loss):
    total, _, metrics = game(name, generator_loss=loss)
    for number, (key, x, given, options) in levels(name).items():
        real, generated = scores(name, initial(name)["params"], key, x, *given, **options)
        expected = {
            "discriminator_loss": -log_sigmoid(real).mean() - log_sigmoid(-generated).mean(),
            "generator_loss": -log_sigmoid(generated).mean()
            if loss == "non_saturating"
            else log_sigmoid(-generated).mean(),
            "real": np.exp(log_sigmoid(real)).mean(),
            "generated": np.exp(log_sigmoid(generated)).mean(),
        }
        prefix = f"level{number}_" if number else ""
        found = {measure: float(metrics[f"{prefix}{measure}"]) for measure in expected}
        assert found == pytest.approx(expected, rel=1e-4)
    losses = [v for k, v in metrics.items() if k.endswith("_loss")]
    assert float(total) == pytest.approx(float(sum(losses)), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_each_player_has_the_gradient_of_its_own_loss_in_its_own_level(name):
    objective = getattr(generative.objectives, "gan" if name == "dcgan" else name)

    def total(params):
        return objective(APPLY[name], initial(name) | {"params": params}, BATCH, key=KEY)[0]

    def own(params, of_generator, key, x, given, options):
        real, generated = scores(name, params, key, x, *given, **options)
        if of_generator:
            return -jax.nn.log_sigmoid(generated).mean()
        return -jax.nn.log_sigmoid(real).mean() - jax.nn.log_sigmoid(-generated).mean()

    params = initial(name)["params"]
    found = jax.grad(total)(params)
    for number, where in levels(name).items():
        for player in ("generator", "discriminator"):
            part = f"{player}_{number}" if number else player
            expected = jax.grad(own)(params, player == "generator", *where)[part]
            jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), found[part], expected)


@pytest.mark.slow
def test_labels_of_other_images_change_the_loss():
    other = BATCH | {"y": Y[::-1]}
    loss = lambda batch: generative.objectives.conditional_gan(
        APPLY["conditional_gan"], initial("conditional_gan"), batch, key=KEY
    )[0]
    assert float(loss(other)) != float(loss(BATCH))


@pytest.mark.slow
def test_the_statistics_are_those_of_the_generated_images():
    apply, variables = APPLY["dcgan"], initial("dcgan")
    _, state, _ = game("dcgan")
    key_z, _, _ = jax.random.split(KEY, 3)
    drawn = apply(variables, X, train=True, key=key_z, method="sample")
    judged = apply(variables, drawn.logits, train=True).model_state["batch_stats"]
    expected = {
        "generator": drawn.model_state["batch_stats"]["generator"],
        "discriminator": judged["discriminator"],
    }
    jax.tree.map(np.testing.assert_allclose, dict(state["batch_stats"]), expected)


@pytest.mark.parametrize("parts", [("generator",), ("generator", "discriminator", "encoder")])
def test_a_part_of_two_players_or_of_none_is_refused(parts):
    params = {part: {} for part in parts}
    words = f"the players of the game, generator, discriminator, got {', '.join(parts)}$"
    with pytest.raises(UserError, match=words):
        generative.objectives.gan(APPLY["dcgan"], {"params": params}, BATCH, key=KEY)


@pytest.mark.slow
def test_a_model_without_levels_is_no_pyramid():
    words = "the players of the game, generator_0, discriminator_0, got "
    with pytest.raises(UserError, match=words):
        generative.objectives.lapgan(APPLY["dcgan"], initial("dcgan"), BATCH, key=KEY)

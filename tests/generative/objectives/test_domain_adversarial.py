"""Features that hide something: NumPy losses, and reversal as a game of two players."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import generative, models
from adv_jax.generative.objectives.gan import constant
from adv_jax.types import UserError

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, U = (jnp.asarray(RNG.uniform(size=(rows, 6)), jnp.float32) for rows in (4, 3))
BATCH = {"x": X, "y": jnp.array([3, 2, 1, 1]), "unlabeled": U}
SMALL = {"features": (5, 4), "layer": 1, "adversary_features": (3,), "activation": "tanh"}
DOMAINS = generative.models.judged(num_classes=4, **SMALL)
CENSORED = generative.models.censored(num_classes=2, **SMALL)
# objective -> its model, what the features are read of, the labels, and what is hidden.
GAMES = {
    "domain_adversarial": (
        DOMAINS,
        jnp.concatenate([X, U]),
        np.array(BATCH["y"]),
        np.repeat([0, 1], [4, 3]),
    ),
    "censored": (CENSORED, X, np.array([1, 1, 0, 0]), np.array([1, 0, 1, 1])),
}


def parts(name):
    """(objective, apply, variables) of a game."""
    model = GAMES[name][0]
    return getattr(generative.objectives, name), models.apply_fn(model), models.init(model, KEY, X)


def outputs(name, apply, variables):
    """Logits of the labels' predictions and of the adversary, through the features."""
    _, x, labels, _ = GAMES[name]
    h = apply(variables, x, method="represent").logits
    logits = apply(variables, h[: len(labels)], method="classify").logits
    return logits, apply(variables, h, method="judge").logits


def own_losses(name, apply, variables):
    """The losses of the classifier and the adversary, without any reversal."""
    _, _, labels, hidden = GAMES[name]
    pairs = zip(outputs(name, apply, variables), (labels, hidden), strict=True)
    own = lambda logits, y: -jax.nn.log_softmax(logits)[jnp.arange(len(y)), y].mean()
    return [own(*pair) for pair in pairs]


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_the_metrics_are_the_losses_and_the_shares_of_right_guesses(name):
    objective, apply, variables = parts(name)
    loss, (_, metrics) = objective(apply, variables, BATCH, key=KEY, weight=0.3)
    logits, guesses = map(np.float64, outputs(name, apply, variables))
    _, _, labels, hidden = GAMES[name]
    expected = {
        "classifier_loss": oracles.cross_entropies(logits, labels).mean(),
        "adversary_loss": oracles.cross_entropies(guesses, hidden).mean(),
        "accuracy": (logits.argmax(axis=1) == labels).mean(),
        "guessed": (guesses.argmax(axis=1) == hidden).mean(),
    }
    assert {k: float(v) for k, v in metrics.items()} == pytest.approx(expected, rel=1e-5)
    total = expected["classifier_loss"] + expected["adversary_loss"]
    assert float(loss) == pytest.approx(total, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.0, 0.3])
@pytest.mark.parametrize("name", GAMES)
def test_gradient_reversal_is_the_game_of_two_players(name, weight):
    objective, apply, variables = parts(name)

    def game(params):
        """The sum of the players' losses, each with the other's parameters constant."""
        detached = lambda player: constant({"params": params}, [player])
        classifier, fooled = own_losses(name, apply, detached("adversary"))
        _, adversary = own_losses(name, apply, detached("classifier"))
        return (classifier - weight * fooled) + adversary

    def reversal(params):
        return objective(apply, {"params": params}, BATCH, key=KEY, weight=weight)[0]

    found, expected = (jax.grad(loss)(variables["params"]) for loss in (reversal, game))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_the_gradients_of_the_players_equal_finite_differences(name):
    objective, apply, variables = parts(name)
    loss = lambda params: objective(apply, {"params": params}, BATCH, key=KEY, weight=0.3)[0]
    found, params = jax.grad(loss)(variables["params"]), variables["params"]
    for player, own in (("classifier", (1, -0.3)), ("adversary", (0, 1))):
        kernel = params[player]["hidden1"]["kernel"]

        def value(kernel, player=player, own=own):
            layer = params[player]["hidden1"] | {"kernel": jnp.float32(kernel)}
            moved = params | {player: params[player] | {"hidden1": layer}}
            return np.dot(own, own_losses(name, apply, {"params": moved}))

        expected = oracles.numerical_gradient(value, kernel, step=1e-2)
        np.testing.assert_allclose(found[player]["hidden1"]["kernel"], expected, atol=2e-4)


@pytest.mark.slow
def test_domains_need_unlabeled_images():
    objective, apply, variables = parts("domain_adversarial")
    with pytest.raises(ValueError, match="batch must have unlabeled, got x, y"):
        objective(apply, variables, {"x": X, "y": BATCH["y"]}, key=KEY)


def test_domains_of_another_shape_are_refused():
    objective, apply, variables = parts("domain_adversarial")
    says = r"^unlabeled must be inputs of the shape \[6\], as x, got float32\[3, 5\]$"
    with pytest.raises(UserError, match=says):
        objective(apply, variables, {**BATCH, "unlabeled": U[:, :5]}, key=KEY)


def test_class_weights_of_the_source_are_labels_too():
    objective, apply, variables = parts("domain_adversarial")
    weights = jax.nn.one_hot(BATCH["y"], 4)
    loss, _ = objective(apply, variables, {**BATCH, "y": weights}, key=KEY)
    assert float(loss) == pytest.approx(float(objective(apply, variables, BATCH, key=KEY)[0]))


@pytest.mark.parametrize("label", [4, -1])
def test_a_label_of_no_public_and_private_class_is_refused(label):
    objective, apply, variables = parts("censored")
    y = jnp.array([3, 0, 1, label])
    with pytest.raises(UserError, match=f"^y must be classes from 0 to 3, got {label}$"):
        objective(apply, variables, {"x": X, "y": y}, key=KEY)

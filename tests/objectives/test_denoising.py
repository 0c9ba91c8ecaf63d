"""objectives.denoising and models.denoised: against NumPy, with a fixed classifier."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks, models, objectives
from adv_jax.types import UserError

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Y = RNG.uniform(size=(4, 2, 3)).astype("f"), np.array([0, 1, 2, 1])
C = RNG.normal(size=(6, 3)).astype("f")
BATCH = {"x": jnp.asarray(X), "y": jnp.asarray(Y)}


def classifier(x):
    return x.reshape(len(x), -1) @ C


@pytest.fixture(scope="module")
def stacked():
    model = models.denoised(classifier_fn=classifier, features=(5,))
    variables = models.init(model, jax.random.key(1), BATCH["x"])
    return models.apply_fn(model), variables


def autoencoded(params, x):
    """Returns the output of an autoencoder with one hidden ReLU layer, in float64."""
    layers = jax.tree.map(np.float64, params["autoencoder"])
    h = np.float64(x).reshape(len(x), -1)
    h = np.maximum(h @ layers["hidden1"]["kernel"] + layers["hidden1"]["bias"], 0)
    return (h @ layers["logits"]["kernel"] + layers["logits"]["bias"]).reshape(x.shape)


@pytest.mark.slow
def test_the_classifier_gets_the_output_of_the_autoencoder(stacked):
    apply, variables = stacked
    logits, extras, _ = apply(variables, BATCH["x"])
    expected = autoencoded(variables["params"], X)
    np.testing.assert_allclose(extras["denoised"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, classifier(expected), rtol=1e-4, atol=1e-5)
    assert list(variables) == ["params"] and list(variables["params"]) == ["autoencoder"]


def test_the_loss_is_the_squared_distance_to_the_clean_input(stacked):
    apply, variables = stacked
    attack = partial(attacks.transferred, source_fn=classifier, attack=attacks.fgsm, eps=0.2)
    loss, (_, metrics) = objectives.denoising(apply, variables, BATCH, key=KEY, attack=attack)
    # FGSM on the classifier alone: the gradient by x is C (p - onehot).
    logits = np.float64(X).reshape(4, -1) @ C
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    x_adv = X + 0.2 * np.sign((p - np.eye(3)[Y]) @ C.T).reshape(X.shape)
    denoised = autoencoded(variables["params"], x_adv)
    assert float(loss) == pytest.approx(((denoised - X) ** 2).mean(), rel=1e-5)
    accuracy = (classifier(denoised).argmax(axis=1) == Y).mean()
    assert float(metrics["adversarial_accuracy"]) == pytest.approx(accuracy)


def test_an_attack_on_the_stack_gets_autoencoder_and_classifier(stacked):
    apply, variables = stacked

    def attack(logits_fn, x, y, *, key):
        np.testing.assert_array_equal(logits_fn(x), apply(variables, x).logits)
        return x + 1

    loss, _ = objectives.denoising(apply, variables, BATCH, key=KEY, attack=attack)
    expected = ((autoencoded(variables["params"], X + 1) - X) ** 2).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_classifier_without_its_parameters_is_refused():
    model = models.denoised(classifier_fn=models.mlp(num_classes=3), features=(5,))
    with pytest.raises(ValueError, match="^classifier_fn must be a function .*, got a MLP"):
        models.init(model, KEY, BATCH["x"])


def test_a_model_without_an_autoencoder_is_refused():
    model = models.mlp(features=(), num_classes=3)
    variables = models.init(model, KEY, BATCH["x"])
    with pytest.raises(UserError, match=r"extras\['denoised'\], as models.denoised does, got "):
        objectives.denoising(
            models.apply_fn(model), variables, BATCH, key=KEY, attack=partial(attacks.fgsm, eps=0.1)
        )

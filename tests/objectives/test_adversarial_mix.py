"""objectives.adversarial_mix: by hand on a linear model, and by finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from linear_net import linear

from adv_jax import attacks, models, objectives
from adv_jax.types import Output

KEY = jax.random.key(0)

# The model of the arithmetic below: x = (.5, .5) has the logits (1.5, -.5). Its class 1 has the
# probability p = 1 / (1 + e^2) = .119203. With y = 0 the gradient of the loss by x is
# W (p - onehot) = p (-1 - 1, -2 - 0) = (-.238406, -.238406), of the signs (-, -).
W = np.array([[1.0, -1.0], [2.0, 0.0]], np.float32)
X, Y = np.array([[0.5, 0.5]], np.float32), np.array([0])


def mix(w=W, x=X, y=Y, *, apply=linear, **kwargs):
    batch = {"x": jnp.asarray(x), "y": jnp.asarray(y)}
    return objectives.adversarial_mix(apply, {"params": jnp.asarray(w)}, batch, key=KEY, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_adversarial_mix_equals_the_mix_of_both_losses_by_hand(alpha):
    # FGSM of eps .1 gives (.4, .4) with the logits (1.2, -.4). The losses are
    # ln(1 + e^-2) = .126928 and ln(1 + e^-1.6) = .183901.
    loss, (_, metrics) = mix(attack=partial(attacks.fgsm, eps=0.1), alpha=alpha)
    assert float(loss) == pytest.approx(alpha * 0.126928 + (1 - alpha) * 0.183901, abs=1e-6)
    assert float(metrics["accuracy"]) == float(metrics["adversarial_accuracy"]) == 1


def test_clean_and_adversarial_accuracy_are_counted_on_their_inputs():
    # eps 1.1 gives (-.6, -.6) with the logits (-1.8, .6): wrong, where the clean row was right.
    # ln(1 + e^2.4) = 2.486836, and half of .126928 + 2.486836 is 1.306882.
    loss, (_, metrics) = mix(attack=partial(attacks.fgsm, eps=1.1))
    assert float(loss) == pytest.approx(1.306882, abs=1e-6)
    assert float(metrics["accuracy"]) == 1
    assert float(metrics["adversarial_accuracy"]) == 0


@pytest.mark.slow
def test_alpha_is_a_half_by_default_and_may_be_traced():
    attack = partial(attacks.fgsm, eps=0.1)
    alphas = jnp.array([0.0, 0.5, 0.9])
    losses = jax.jit(jax.vmap(lambda alpha: mix(attack=attack, alpha=alpha)[0]))(alphas)
    expected = np.array([0, 0.5, 0.9]) * 0.126928 + np.array([1, 0.5, 0.1]) * 0.183901
    np.testing.assert_allclose(losses, expected, atol=1e-6)
    assert float(mix(attack=attack)[0]) == pytest.approx(float(losses[1]), rel=1e-6)
    # d loss / d alpha is the difference of the two terms.
    slope = jax.grad(lambda alpha: mix(attack=attack, alpha=alpha)[0])(0.5)
    assert float(slope) == pytest.approx(0.126928 - 0.183901, abs=1e-6)


def test_the_eps_of_adversarial_mix_may_be_traced():
    losses = jax.jit(jax.vmap(lambda eps: mix(attack=partial(attacks.fgsm, eps=eps))[0]))(
        jnp.array([0.0, 0.1])
    )
    np.testing.assert_allclose(losses, [0.126928, (0.126928 + 0.183901) / 2], atol=1e-6)


def random_problem():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 3)), rng.normal(size=(6, 4)), rng.integers(0, 3, size=6)


def smooth_adversarial(w, x, y, eps):
    """x + eps g / ||g||_2, whose derivative by w is not 0, in NumPy."""
    gradient = (oracles.softmax(x @ w) - np.eye(3)[y]) @ w.T
    return x + eps * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)


def numpy_mix(w, x, x_adv, y, alpha):
    j = lambda x: oracles.cross_entropies(x @ w, y).mean()
    return alpha * j(x) + (1 - alpha) * j(x_adv)


@pytest.mark.slow
def test_the_update_takes_the_perturbation_as_a_constant():
    w, x, y = random_problem()
    eps, alpha = 0.7, 0.3
    attack = partial(attacks.fgsm, eps=eps, norm="l2")
    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(lambda w: mix(w, x, y, attack=attack, alpha=alpha)[0])(
            jnp.asarray(w)
        )
        value, gradient = float(value), np.asarray(gradient)
    x_adv = smooth_adversarial(w, x, y, eps)
    assert value == pytest.approx(numpy_mix(w, x, x_adv, y, alpha), rel=1e-9)
    constant = oracles.numerical_gradient(lambda w: numpy_mix(w, x, x_adv, y, alpha), w)
    np.testing.assert_allclose(gradient, constant, rtol=1e-5, atol=1e-8)
    # The derivative through the attack would be another.
    through = oracles.numerical_gradient(
        lambda w: numpy_mix(w, x, smooth_adversarial(w, x, y, eps), y, alpha), w
    )
    assert np.abs(through - constant).max() > 0.01


@pytest.mark.slow
def test_the_attack_of_adversarial_mix_gets_the_detached_current_model_without_dropout():
    w, x, y = random_problem()
    calls = []

    def apply(variables, x, *, train=False, key=None):
        calls.append((train, key, x))
        return Output(x @ variables["params"], {}, {})

    def attack(logits_fn, x, y, *, key):
        return x + logits_fn(x).sum()

    gradient = jax.grad(lambda w: mix(w, x, y, apply=apply, attack=attack, alpha=0.0)[0])(
        jnp.float32(w)
    )
    trains = [train for train, _, _ in calls]
    assert trains == [False, True, True]
    assert calls[0][1] is None
    x_adv = x + (x @ w).sum()
    expected = oracles.numerical_gradient(lambda w: numpy_mix(w, x, x_adv, y, 0), w)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_same_dropout_shares_the_mask_of_the_adversarial_term_alone():
    model = models.mlp(features=(30,), num_classes=3, dropout=(0.2, 0.5))
    apply, x = models.apply_fn(model), jnp.ones((5, 8))
    variables = models.init(model, jax.random.key(1), x)
    logits = []

    def recorded(*args, **kwargs):
        output = apply(*args, **kwargs)
        logits.append(np.asarray(output.logits))
        return output

    def look(logits_fn, x, y, *, key):
        logits_fn(x)
        return x

    batch = {"x": x, "y": jnp.zeros(5, int)}
    options = {"key": KEY, "attack": look, "same_dropout": True}
    objectives.adversarial_mix(recorded, variables, batch, **options)
    attacked, clean, adversarial = logits
    # All rows are equal, so that only dropout makes them differ.
    assert len(np.unique(attacked, axis=0)) == 5
    np.testing.assert_array_equal(attacked, adversarial)
    assert not np.array_equal(clean, adversarial)


def test_the_model_state_comes_from_the_clean_pass():
    def apply(variables, x, *, train=False, key=None):
        state = {"batch_stats": x.mean(axis=0)} if train else {}
        return Output(x @ variables["params"], {}, state)

    _, (state, _) = mix(apply=apply, attack=partial(attacks.fgsm, eps=0.1))
    np.testing.assert_array_equal(state["batch_stats"], [0.5, 0.5])


@pytest.mark.slow
def test_the_attack_and_the_two_passes_have_three_keys():
    keys = []

    def apply(variables, x, *, train=False, key=None):
        keys.append(key)
        return Output(x @ variables["params"], {}, {})

    def attack(logits_fn, x, y, *, key):
        keys.append(key)
        return x

    mix(apply=apply, attack=attack)
    assert len({jax.random.key_data(key).tobytes() for key in keys}) == len(keys) == 3

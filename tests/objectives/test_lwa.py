"""objectives.lwa and lwa_rep: the closed form, the printed algorithms by hand, and identities."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from linear_net import linear
from marks import exhaustive_after

from adv_jax import attacks, losses, models, objectives

KEY = jax.random.key(0)


def batch_of(x, y):
    return {"x": jnp.asarray(x), "y": jnp.asarray(y)}


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("linf", 1), ("l1", np.inf)])
def test_lwa_on_a_linear_model_of_two_classes_is_the_closed_form(norm, order):
    # With u = w_1 - w_0 and z = +1 for class 1: log(1 + exp(-(z u.x - c |u|_*))), appendix A.
    rng = np.random.default_rng(0)
    w, x, y, c = rng.normal(size=(5, 2)), rng.normal(size=(20, 5)), rng.integers(0, 2, 20), 0.4
    u, z = w[:, 1] - w[:, 0], 2 * y - 1
    expected = np.logaddexp(0, -(z * (x @ u) - c * np.linalg.norm(u, ord=order))).mean()
    attack = partial(attacks.fgsm, norm=norm, eps=c)
    with jax.enable_x64(True):
        loss, _ = objectives.lwa(
            linear, {"params": jnp.asarray(w)}, batch_of(x, y), key=KEY, attack=attack
        )
    assert float(loss) == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_lwa_updates_on_adversarial_samples_alone_as_constants():
    rng = np.random.default_rng(1)
    w, x, y, c = rng.normal(size=(4, 3)), rng.normal(size=(6, 4)), rng.integers(0, 3, 6), 0.7
    gradient = (oracles.softmax(x @ w) - np.eye(3)[y]) @ w.T
    x_adv = x + c * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    attack = partial(attacks.fgsm, norm="l2", eps=c)

    def loss(w):
        return objectives.lwa(linear, {"params": w}, batch_of(x, y), key=KEY, attack=attack)[0]

    with jax.enable_x64(True):
        value, found = jax.value_and_grad(loss)(jnp.asarray(w))
        value, found = float(value), np.asarray(found)
    fixed = lambda w: oracles.cross_entropies(x_adv @ w, y).mean()
    assert value == pytest.approx(fixed(w), rel=1e-9)
    np.testing.assert_allclose(found, oracles.numerical_gradient(fixed, w), rtol=1e-5, atol=1e-8)


def net_with(dropout):
    """A net of two hidden layers, its variables, and a batch."""
    model = models.mlp(features=(6, 5), num_classes=3, activation="tanh", dropout=dropout)
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(8, 4)).astype(np.float32), rng.integers(0, 3, 8)
    return models.apply_fn(model), models.init(model, jax.random.key(1), x), batch_of(x, y)


@pytest.fixture(scope="module")
def net():
    return net_with(())


@pytest.mark.parametrize("dropout", [pytest.param((), marks=pytest.mark.slow), (0.0, 0.0, 0.5)])
@pytest.mark.parametrize(
    "make",
    exhaustive_after(
        2,
        [
            partial(objectives.lwa, attack=partial(attacks.fgsm, norm="l2", eps=0.0)),
            partial(objectives.lwa_rep, layer=1, attack=partial(attacks.fgsm, norm="l2", eps=0.0)),
            partial(objectives.lwa_rep, layer=2, attack=partial(attacks.adv_alpha, eps=0.0)),
            partial(
                objectives.adversarial_backprop,
                attack=partial(attacks.fgsm, eps=0.0),
                loss="cross_entropy",
            ),
        ],
    ),
)
def test_lwa_without_an_adversary_is_plain_training_bit_for_bit(make, dropout):
    apply, variables, batch = net_with(dropout)

    def updates(objective):
        loss = lambda params: objective(apply, {"params": params}, batch, key=KEY)[0]
        return jax.jit(jax.value_and_grad(loss))(variables["params"])

    found, expected = updates(make), updates(objectives.cross_entropy)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("layer", exhaustive_after(1, [1, 2]))
@pytest.mark.parametrize(
    "attack",
    exhaustive_after(
        1,
        [partial(attacks.fgsm, norm="l2", eps=0.6), partial(attacks.adv_alpha, norm="l2", eps=0.6)],
    ),
    ids=["adv_loss", "adv_alpha"],
)
def test_the_gradients_of_lwa_rep_equal_the_printed_algorithm(net, layer, attack):
    apply, variables, batch = net
    x, y = batch["x"], batch["y"]
    h1, h2, top = (variables["params"][name] for name in ("hidden1", "hidden2", "logits"))
    dense = lambda p, h: h @ p["kernel"] + p["bias"][None]
    lower = {
        1: lambda params, x: jnp.tanh(dense(params[0], x)),
        2: lambda params, x: jnp.tanh(dense(params[1], jnp.tanh(dense(params[0], x)))),
    }[layer]
    upper = {
        1: lambda params, h: dense(params[1], jnp.tanh(dense(params[0], h))),
        2: lambda params, h: dense(params[0], h),
    }[layer]
    low, high = ((h1,), (h2, top)) if layer == 1 else ((h1, h2), (top,))
    # Algorithm 3: lines 2 to 6, the pseudo-samples; 9 and 10, the upper half; 11 and 12, the lower.
    h = lower(low, x)
    h_adv = attack(lambda h: upper(high, h), h, y)
    loss = lambda high, h: losses.cross_entropy(upper(high, h), y).mean()
    by_high, by_h = jax.grad(loss, argnums=(0, 1))(high, h_adv)
    (by_low,) = jax.vjp(lambda low: lower(low, x), low)[1](by_h)
    expected = dict(zip(("hidden1", "hidden2", "logits"), (*by_low, *by_high), strict=True))

    def objective(params):
        return objectives.lwa_rep(
            apply, {"params": params}, batch, key=KEY, attack=attack, layer=layer
        )[0]

    found = jax.grad(objective)(variables["params"])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), found, expected)
    plain = jax.grad(lambda p: objectives.cross_entropy(apply, {"params": p}, batch, key=KEY)[0])(
        variables["params"]
    )
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), found, plain)
    assert all(difference > 1e-3 for difference in jax.tree.leaves(apart))


@pytest.mark.slow
def test_the_radius_of_relative_lwa_rep_is_a_share_of_the_length_of_the_representation(net):
    apply, variables, batch = net
    # The rows' lengths differ; the last one, tanh(0), has length 0 and stays.
    x = jnp.concatenate([batch["x"] * jnp.arange(8.0)[:, None], jnp.zeros((1, 4))])
    y, c = jnp.append(batch["y"], 1), 0.25
    params = jax.tree.map(np.float64, variables["params"])
    dense = lambda name, h: h @ params[name]["kernel"] + params[name]["bias"]
    h = np.tanh(dense("hidden2", np.tanh(dense("hidden1", np.float64(x)))))
    residual = oracles.softmax(dense("logits", h)) - np.eye(3)[y]
    g = residual @ params["logits"]["kernel"].T
    length = lambda rows: np.linalg.norm(rows, axis=1, keepdims=True)
    r = c * length(h) * g / length(g)
    assert length(r)[-1] == 0 < 1.4 * length(r)[3] < length(r)[5]

    def objective(params):
        return objectives.lwa_rep(
            apply,
            {"params": params},
            {"x": x, "y": y},
            key=KEY,
            attack=partial(attacks.fgsm, norm="l2", eps=c),
            layer=2,
            relative=True,
        )[0]

    def of_constant_r(params):
        points = apply({"params": params}, x, method="represent", layer=2).logits + jnp.float32(r)
        logits = apply({"params": params}, points, method="classify", layer=2).logits
        return losses.cross_entropy(logits, y).mean()

    value, found = jax.value_and_grad(objective)(variables["params"])
    expected = oracles.cross_entropies(dense("logits", h + r), np.asarray(y)).mean()
    assert float(value) == pytest.approx(expected, rel=1e-5)
    same = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(same, found, jax.grad(of_constant_r)(variables["params"]))


@pytest.mark.parametrize("layer", [0, 3])
def test_lwa_rep_refuses_a_layer_that_does_not_exist(net, layer):
    apply, variables, batch = net
    with pytest.raises(ValueError, match=f"layer must be a hidden layer, 1 to 2, got {layer}"):
        objectives.lwa_rep(
            apply, variables, batch, key=KEY, attack=partial(attacks.fgsm, eps=0.1), layer=layer
        )

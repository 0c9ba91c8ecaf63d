"""mi_fgsm and vmi_fgsm beside the published updates in NumPy, and their limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks, norms
from adv_jax.random import row_keys
from adv_jax.types import UserError

RNG = np.random.default_rng(0)
W_IN, W_OUT = RNG.normal(size=(6, 5)), RNG.normal(size=(5, 3))
X, Y = RNG.uniform(0.2, 0.8, (4, 6)), np.array([0, 2, 1, 1])
EPS, STEPS = 0.15, 6


def logits_fn(x):
    return jnp.tanh(x @ jnp.asarray(W_IN, jnp.float32)) @ jnp.asarray(W_OUT, jnp.float32)


def gradient(x):
    """The gradient of the cross-entropy in float64, by hand."""
    hidden = np.tanh(x @ W_IN)
    z = hidden @ W_OUT
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return ((p - np.eye(3)[Y]) @ W_OUT.T * (1 - hidden**2)) @ W_IN.T


def published(norm, decay, sign=1):
    """[dong2018], Algorithm 1 (linf) and sec. 3.3 (l2)."""
    x, g = X.copy(), np.zeros_like(X)
    for _ in range(STEPS):
        slope = sign * gradient(x)
        g = decay * g + slope / np.abs(slope).sum(axis=1, keepdims=True)
        unit = np.sign(g) if norm == "linf" else g / np.linalg.norm(g, axis=1, keepdims=True)
        x = np.clip(x + EPS / STEPS * unit, 0, 1)
    return x


run = functools.partial(
    attacks.mi_fgsm, logits_fn, jnp.asarray(X, jnp.float32), Y, eps=EPS, num_steps=STEPS
)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("decay", [0.7, 1.0])
def test_mi_fgsm_equals_the_published_update(norm, decay):
    x_adv = run(norm=norm, decay=decay, bounds=(0, 1))
    np.testing.assert_allclose(x_adv, published(norm, decay), atol=1e-5)


def test_a_target_is_descended():
    x_adv = run(targeted=True, bounds=(0, 1))
    np.testing.assert_allclose(x_adv, published("linf", 1.0, sign=-1), atol=1e-5)


def test_without_momentum_it_is_bim_and_with_it_another_attack():
    bim = functools.partial(attacks.bim, logits_fn, jnp.asarray(X, jnp.float32), Y, eps=EPS)
    plain = bim(step_size=EPS / STEPS, num_steps=STEPS)
    np.testing.assert_allclose(run(decay=0.0), plain, atol=1e-6)
    assert bool((jnp.abs(run(decay=1.0) - plain) > 1e-3).any())


def test_bim_is_pgd_from_x_and_ignores_the_key():
    x = jnp.asarray(X, jnp.float32)
    expected = attacks.pgd(logits_fn, x, Y, eps=EPS, num_steps=10, returns="last")
    found = attacks.bim(logits_fn, x, Y, eps=EPS, key=jax.random.key(0))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("setting", ["decay", "beta"])
@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_a_decay_or_a_beta_out_of_range_is_refused(setting, value):
    with pytest.raises(UserError, match=rf"^{setting} must be a finite number of at least 0, got "):
        tuned(**{setting: value})


KEY, NEIGHBORS, BETA = jax.random.key(3), 4, 1.5
tuned = functools.partial(
    attacks.vmi_fgsm,
    logits_fn,
    jnp.asarray(X, jnp.float32),
    Y,
    eps=EPS,
    num_steps=STEPS,
    num_neighbors=NEIGHBORS,
    beta=BETA,
    key=KEY,
)


def neighbors(norm="linf"):
    """Draws of the unit ball, float64[STEPS, NEIGHBORS, 4, 6], with the keys of `vmi_fgsm`."""
    split = jax.vmap(jax.random.split, (0, None), 1)
    steps = [split(keys, NEIGHBORS) for keys in split(row_keys(KEY, 4), STEPS)]
    like = jnp.zeros_like(X, jnp.float32)
    return np.float64([[norms.sample(keys, like, 1.0, norm) for keys in step] for step in steps])


def published_with_variance(norm, sign=1):
    """[wang2021], Algorithm 1; under l2 the neighborhood and the steps are l2 balls."""
    x, g, v = X.copy(), np.zeros_like(X), np.zeros_like(X)
    for draws in neighbors(norm):
        slope = sign * gradient(x)
        g = g + (slope + v) / np.abs(slope + v).sum(axis=1, keepdims=True)
        v = np.mean([sign * gradient(x + BETA * EPS * draw) for draw in draws], axis=0) - slope
        unit = np.sign(g) if norm == "linf" else g / np.linalg.norm(g, axis=1, keepdims=True)
        x = np.clip(x + EPS / STEPS * unit, 0, 1)
    return x


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_vmi_fgsm_equals_the_published_update(norm):
    x_adv = tuned(norm=norm, bounds=(0, 1))
    np.testing.assert_allclose(x_adv, published_with_variance(norm), atol=1e-5)
    assert float(jnp.abs(x_adv - run(norm=norm, bounds=(0, 1))).max()) > 1e-3


@pytest.mark.slow
def test_vmi_fgsm_descends_to_a_target():
    x_adv = tuned(targeted=True, bounds=(0, 1))
    np.testing.assert_allclose(x_adv, published_with_variance("linf", sign=-1), atol=1e-5)


@pytest.mark.slow
def test_vmi_fgsm_without_a_neighborhood_or_on_a_linear_loss_is_mi_fgsm():
    np.testing.assert_allclose(tuned(beta=0.0), run(), atol=1e-6)
    linear = {"loss": lambda z, y: z[:, 0] - z[:, 1]}
    net = lambda x: x @ jnp.asarray(W_IN, jnp.float32)
    args = net, jnp.asarray(X, jnp.float32), Y
    expected = attacks.mi_fgsm(*args, eps=EPS, norm="l2", **linear)
    found = attacks.vmi_fgsm(*args, eps=EPS, norm="l2", key=KEY, **linear)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("key", [None, jax.random.split(KEY, 3)])
def test_vmi_fgsm_refuses_no_key_and_keys_of_other_rows(key):
    with pytest.raises(UserError, match="^key must be "):
        tuned(key=key)


@pytest.mark.exhaustive
@pytest.mark.parametrize("targeted", [False, True])
def test_vmi_fgsm_equals_that_of_torchattacks_for_its_draws(monkeypatch, targeted):
    torch = pytest.importorskip("torch", reason="needs the extra oracle")
    torchattacks = pytest.importorskip("torchattacks", reason="needs the extra oracle")

    class Net(torch.nn.Module):
        def forward(self, x):
            w_in, w_out = (torch.tensor(w, dtype=torch.float32) for w in (W_IN, W_OUT))
            return torch.tanh(x.flatten(1) @ w_in) @ w_out

    draws = iter(torch.tensor(neighbors(), dtype=torch.float32).reshape(-1, 4, 1, 1, 6))
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, low, high: high * next(draws))
    options = {"eps": EPS, "alpha": EPS / STEPS, "steps": STEPS, "N": NEIGHBORS, "beta": BETA}
    attack = torchattacks.VMIFGSM(Net(), **options)
    if targeted:
        attack.set_mode_targeted_by_label(quiet=True)
    images = torch.tensor(X, dtype=torch.float32).reshape(4, 1, 1, 6)
    there = attack(images, torch.tensor(Y)).reshape(4, 6).numpy()
    assert next(draws, None) is None
    np.testing.assert_allclose(tuned(targeted=targeted, bounds=(0, 1)), there, atol=1e-5)

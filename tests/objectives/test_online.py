"""objectives.online: step for step as scikit-learn, and the closed forms of the sources."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import slow_after
from sklearn.linear_model import SGDClassifier

from adv_jax import models, objectives
from adv_jax.step import init_state, make_step, over_steps
from adv_jax.types import UserError

CLASSES, INPUTS = 3, 5
MODEL = models.mlp(features=(), num_classes=CLASSES, output_init=models.initializers.zero())


def rows(size=60, seed=0):
    """Three noisy clusters that overlap; the third row is 0."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, size)
    x = rng.normal(size=(CLASSES, INPUTS))[y] + rng.normal(size=(size, INPUTS))
    x[2] = 0
    return x.astype(np.float32), y


@partial(jax.jit, static_argnums=0)
def _trained(objective, x, y):
    state = init_state(models.init(MODEL, jax.random.key(0), x), optax.sgd(1.0), seed=0)
    step = make_step(partial(objective, models.apply_fn(MODEL)), optax.sgd(1.0))

    def recorded(state, batch):
        state, _ = step(state, batch)
        return state, state.params["logits"]

    return over_steps(recorded)(state, {"x": x[:, None], "y": y[:, None]})[1]


def trained(objective, x, y):
    """The weights f32[T, K, D] and biases f32[T, K] after each row."""
    found = _trained(objective, jnp.asarray(x), jnp.asarray(y))
    return np.asarray(found["kernel"]).swapaxes(1, 2), np.asarray(found["bias"])


# scikit-learn's Perceptron and PassiveAggressiveClassifier are these settings.
PEERS = {
    "perceptron": ({"loss": "perceptron", "learning_rate": "constant", "eta0": 1.0}, {}),
    "pa1": ({"loss": "hinge", "learning_rate": "pa1"}, {"form": "pa1", "aggressiveness": 0.05}),
    "pa2": ({"loss": "hinge", "learning_rate": "pa2"}, {"form": "pa2", "aggressiveness": 0.05}),
}


@pytest.mark.parametrize("name", slow_after(1, PEERS))
def test_every_step_is_that_of_scikit_learn(name):
    settings, ours = PEERS[name]
    if "aggressiveness" in ours:
        settings = {**settings, "eta0": ours["aggressiveness"]}
    rule = objectives.passive_aggressive if ours else objectives.perceptron
    x, y = rows()
    weights, biases = trained(partial(rule, **ours), x, y)
    peer = SGDClassifier(penalty=None, shuffle=False, **settings)
    moved = 0
    for i, (row, label) in enumerate(zip(x, y, strict=True)):
        before = 0 if i == 0 else peer.coef_.copy()
        peer.partial_fit(row[None], [label], classes=range(CLASSES))
        moved += bool(np.any(peer.coef_ != before))
        np.testing.assert_allclose(weights[i], peer.coef_, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(biases[i], peer.intercept_, rtol=1e-4, atol=1e-5)
    assert 10 < moved < 60


FORMS = ("pa1", "pa", "pa2")


def row_loss(form, z, x, y, aggressiveness):
    batch = {"x": x[None], "y": jnp.array([y])}
    apply = lambda variables, x, *, train, key: (z[None], {}, {})
    settings = {"form": form, "aggressiveness": aggressiveness}
    return objectives.passive_aggressive(apply, {}, batch, key=jax.random.key(0), **settings)[0]


@pytest.mark.slow
@pytest.mark.parametrize("form", slow_after(1, FORMS))
def test_the_loss_is_the_closed_form_and_its_slope_the_rule_of_crammer_2006(form):
    z = np.array([0.3, -3.0, -0.5, 2.0])
    x, c = np.array([0.6, -1.0]), 0.7
    t = np.array([1, -1, -1, -1])
    hinge, n = np.maximum(1 - t * z, 0), 1.36
    tau = {"pa": hinge / n, "pa1": np.minimum(c, hinge / n), "pa2": hinge / (n + 1 / (2 * c))}
    slope = jax.grad(lambda z: row_loss(form, z, jnp.float32(x), 0, c))(jnp.float32(z))
    np.testing.assert_allclose(slope, -t * tau[form], rtol=1e-5)
    huber = np.where(hinge < c * n, hinge**2 / (2 * n), c * hinge - c**2 * n / 2)
    expected = {"pa": hinge**2 / (2 * n), "pa1": huber, "pa2": hinge**2 / (2 * n + 1 / c)}
    found = row_loss(form, jnp.float32(z), jnp.float32(x), 0, c)
    np.testing.assert_allclose(found, expected[form].sum(), rtol=1e-5)


@pytest.mark.slow
def test_the_unbounded_rule_reaches_a_margin_of_1_and_a_little_more_by_its_bias():
    # [crammer2006], eq. 3: passive where the hinge is 0, else just aggressive enough.
    x, y = rows(seed=4)[0], np.array([1])
    [weights], [biases] = trained(partial(objectives.passive_aggressive, form="pa"), x[:1], y)
    margins = np.where(np.arange(CLASSES) == 1, 1, -1) * (weights @ x[0])
    np.testing.assert_allclose(margins, 1, rtol=1e-5)
    np.testing.assert_allclose(np.abs(biases), 1 / np.square(x[0]).sum(), rtol=1e-5)


def test_least_mean_squares_is_the_rule_of_widrow_and_hoff():
    x, y = rows(20)
    x = x / 4  # The rate 1 is stable below |x|^2 = 2.
    weights, biases = trained(objectives.least_mean_squares, x, y)
    w, b = np.zeros((CLASSES, INPUTS)), np.zeros(CLASSES)
    for i, (row, label) in enumerate(zip(np.float64(x), y, strict=True)):
        error = np.where(np.arange(CLASSES) == label, 1, -1) - (w @ row + b)
        w, b = w + np.outer(error, row), b + error
        np.testing.assert_allclose(weights[i], w, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(biases[i], b, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_a_perceptron_makes_at_most_the_mistakes_of_novikoffs_bound():
    # Separable with margin g by a unit vector through the origin: at most (R / g)^2 mistakes.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)).astype(np.float32)
    x = x[np.abs(x[:, 0]) > 0.3]
    y = (x[:, 0] > 0).astype(int)
    with_bias = np.square(x).sum(1).max() + 1
    padded = np.pad(x, ((0, 0), (0, INPUTS - 2)))
    weights = trained(objectives.perceptron, padded, y)[0][:, 1]
    mistakes = (np.diff(weights, axis=0, prepend=0) != 0).any(axis=1).sum()
    assert 1 <= mistakes <= with_bias / 0.3**2


def test_an_unknown_form_is_refused_with_the_legal_ones():
    with pytest.raises(ValueError, match="form must be one of pa, pa1, pa2, got 'pa3'"):
        row_loss("pa3", jnp.zeros(2), jnp.ones(2), 0, 1.0)


def test_an_aggressiveness_of_0_is_refused():
    with pytest.raises(ValueError, match="aggressiveness must be a finite number above 0, got 0"):
        row_loss("pa2", jnp.zeros(2), jnp.ones(2), 0, 0.0)


def test_the_squares_of_bytes_do_not_overflow():
    z, x = jnp.float32([0.3, -3.0]), jnp.array([200, 7], jnp.uint8)
    expected = row_loss("pa", z, x.astype(jnp.float32), 0, 1.0)
    np.testing.assert_array_equal(row_loss("pa", z, x, 0, 1.0), expected)


@pytest.mark.parametrize("name", ["perceptron", "least_mean_squares", "passive_aggressive"])
def test_labels_of_another_number_of_rows_are_refused(name):
    x, y = rows()
    variables = models.init(MODEL, jax.random.key(0), x)
    with pytest.raises(UserError, match=r"^y must have the 60 rows of x, got int64\[7\]$"):
        getattr(objectives, name)(models.apply_fn(MODEL), variables, {"x": x, "y": y[:7]}, key=None)

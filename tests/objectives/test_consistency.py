"""objectives.consistency: the loss and its gradient in NumPy, and its parts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.spatial.distance import jensenshannon

from adv_jax import attacks, objectives
from adv_jax.types import Output

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, SECOND = RNG.normal(size=(2, 6, 5))
Y, W = RNG.integers(0, 3, size=6), RNG.normal(size=(5, 3))
R = RNG.normal(size=5)


def linear(variables, x, *, train=False, key=None):
    return Output(x @ variables["params"], {}, {"seen": x.sum()})


def by_r(logits_fn, x, y, *, key):
    return x + R[None]


def consistency(w, *, batch=None, **settings):
    batch = batch or {"x": jnp.asarray(X), "second": jnp.asarray(SECOND), "y": jnp.asarray(Y)}
    return objectives.consistency(linear, {"params": w}, batch, key=KEY, **settings)


def expected(w, weight, temperature):
    """SciPy's distance is the square root of the divergence."""
    logits = [(x + R) @ w for x in (X, SECOND)]
    p, q = (oracles.softmax(z / temperature) for z in logits)
    divergence = np.mean([jensenshannon(a, b) ** 2 for a, b in zip(p, q, strict=True)])
    cost = np.mean([oracles.cross_entropies(z, Y).mean() for z in logits])
    return cost + weight * divergence, divergence


@pytest.mark.parametrize(("weight", "temperature"), [(0.0, 0.5), (1.0, 0.5), (2.5, 1.0)])
def test_consistency_and_its_gradient_equal_the_numpy_version(weight, temperature):
    loss = partial(consistency, attack=by_r, weight=weight, temperature=temperature)
    with jax.enable_x64(True):
        found = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(W))
        (value, (state, metrics)), gradient = jax.tree.map(np.asarray, found)
    cost, divergence = expected(W, weight, temperature)
    assert float(value) == pytest.approx(cost, rel=1e-6)
    assert float(metrics["divergence"]) == pytest.approx(divergence, rel=1e-6) and divergence > 0.01
    numerical = oracles.numerical_gradient(lambda w: expected(w, weight, temperature)[0], W)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-5, atol=1e-8)
    assert float(state["seen"]) == pytest.approx(X.sum() + SECOND.sum() + 12 * R.sum())


@pytest.mark.slow
def test_equal_augmentations_are_lwa():
    batch = {"x": jnp.asarray(X, "f"), "y": jnp.asarray(Y)}
    attack = partial(attacks.fgsm, eps=0.3)
    w = jnp.asarray(W, "f")
    lwa, _ = objectives.lwa(linear, {"params": w}, batch, key=KEY, attack=attack)
    loss, (_, metrics) = consistency(w, batch=batch | {"second": batch["x"]}, attack=attack)
    assert float(loss) == pytest.approx(float(lwa), rel=1e-6)
    assert abs(float(metrics["divergence"])) < 1e-7


def test_a_second_augmentation_of_other_rows_is_refused():
    with pytest.raises(ValueError, match="second must be like x, .*, got "):
        consistency(W, batch={"x": X, "y": Y, "second": X[:2]}, attack=by_r)


def test_a_batch_without_a_second_augmentation_is_refused():
    with pytest.raises(ValueError) as error:
        consistency(W, batch={"x": X, "y": Y}, attack=by_r)
    assert str(error.value) == (
        "batch must have second, another augmentation of x (in a config, by settings of data such "
        "as data.mirror), got x, y"
    )

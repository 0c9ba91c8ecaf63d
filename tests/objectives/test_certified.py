"""objectives.certified: by hand on a linear model, and above every loss in the ball."""

import bounded_nets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_net import linear

from adv_jax import models, objectives
from adv_jax.losses import loss_fn

KEY = jax.random.key(0)
# x = (.5, .5) has the logits (1.5, -.5), whose difference falls by 4 eps: the weights of it are
# (2, 2).
W = np.array([[1.0, -1.0], [2.0, 0.0]], np.float32)
BATCH = {"x": jnp.array([[0.5, 0.5]]), "y": jnp.array([0])}


@pytest.mark.parametrize("kappa", [0.0, 0.25, 1.0])
def test_the_loss_is_that_of_the_least_margins(kappa):
    # ln(1 + e^-2) = .126928; the margin in the ball of eps .1 is 1.6, ln(1 + e^-1.6) = .183901.
    options = {"key": KEY, "eps": 0.1, "kappa": kappa}
    loss, (_, metrics) = objectives.certified(linear, {"params": W}, BATCH, **options)
    assert float(loss) == pytest.approx(kappa * 0.126928 + (1 - kappa) * 0.183901, abs=1e-5)
    assert float(metrics["accuracy"]) == float(metrics["certified_accuracy"]) == 1


def test_a_row_is_certified_as_long_as_its_margin_is_positive():
    for eps, certified in ((0.49, 1), (0.51, 0)):
        _, (_, metrics) = objectives.certified(linear, {"params": W}, BATCH, key=KEY, eps=eps)
        assert float(metrics["accuracy"]) == 1
        assert float(metrics["certified_accuracy"]) == certified


@pytest.mark.slow
def test_no_point_of_the_ball_has_a_larger_loss():
    variables, logits = bounded_nets.built("relu")
    x, y = bounded_nets.images("relu"), jnp.array([0, 1, 2, 1])
    apply = models.apply_fn(bounded_nets.NETS["relu"]())
    options = {"key": KEY, "eps": 0.1, "kappa": 0.0}
    bound, _ = objectives.certified(apply, variables, {"x": x, "y": y}, **options)
    x_adv = jnp.float32(bounded_nets.points(np.random.default_rng(0), x, 0.1))
    losses = jax.vmap(lambda x: loss_fn("cross_entropy")(logits(variables, x), y))(x_adv)
    assert float(losses.max(axis=0).mean()) <= float(bound)


@pytest.mark.slow
def test_inputs_of_16_bits_and_classes_of_any_integers_have_the_same_loss():
    expected, _ = objectives.certified(linear, {"params": W}, BATCH, key=KEY, eps=0.1)
    coarse = {"params": jnp.bfloat16(W)}, {**BATCH, "x": jnp.bfloat16(BATCH["x"])}
    fine = jax.tree.map(jnp.float32, coarse[0]), {**BATCH, "x": jnp.float32(coarse[1]["x"])}
    # The model gets x in float32, and multiplies it by weights of bfloat16.
    with jax.numpy_dtype_promotion("standard"):
        found, _ = objectives.certified(linear, *coarse, key=KEY, eps=0.1, kappa=0.0)
    rounded, _ = objectives.certified(linear, *fine, key=KEY, eps=0.1, kappa=0.0)
    assert found.dtype == jnp.float32
    assert float(found) == pytest.approx(float(rounded), abs=1e-6)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        batch = {"x": jnp.array([[0.5, 0.5]]), "y": jnp.array([0])}
        params = {"params": jnp.asarray(W, float)}
        found, _ = objectives.certified(linear, params, batch, key=jax.random.key(0), eps=0.1)
        assert float(found) == pytest.approx(float(expected), abs=1e-6)

"""A model that diverges where an attack leads has no accuracy there: all evaluations refuse it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks, evaluate
from adv_jax.types import UserError

X, Y = np.array([[0.5], [-3.0], [0.6]], np.float32), np.zeros(3, np.int32)


def diverging(x):
    """Class 0 below 1, NaN above; argmax takes NaN for class 0."""
    return jnp.where(x > 1, jnp.nan, 1.0) * jnp.hstack([1 + 0 * x, x])


def sound(x):
    return jnp.hstack([1 + 0 * x, x])


@pytest.mark.parametrize(
    "evaluation",
    [
        lambda fgsm: evaluate.evaluate(diverging, X, Y, {"fgsm": fgsm}, eps=[0, 0.9]),
        lambda fgsm: evaluate.evaluate_batches(diverging, [(X, Y)], {"fgsm": fgsm}, eps=[0.9]),
        lambda fgsm: evaluate.transfer({"a": sound, "b": diverging}, X, Y, fgsm, eps=0.9),
        lambda fgsm: evaluate.minimal_eps(diverging, X, Y, fgsm, high=0.9),
        lambda fgsm: evaluate.curves(
            diverging, X, Y, {"fgsm": fgsm}, eps=[0, 0.9], batch_size=2, key=None
        ),
    ],
    ids=["evaluate", "evaluate_batches", "transfer", "minimal_eps", "curves"],
)
def test_a_model_that_is_nan_under_attack_is_refused(evaluation):
    bad = int((X + np.float32(0.9) > 1).sum())
    with pytest.raises(UserError) as caught:
        evaluation(attacks.fgsm)
    assert re.fullmatch(
        f"logits_fn must return finite logits, got NaN or infinity for {bad} of 3 rows of x "
        "(under fgsm|after a step along the gradient)",
        str(caught.value),
    )


@pytest.mark.parametrize("attack", [attacks.pgd, attacks.apgd, attacks.auto_attack])
def test_attacks_that_keep_their_best_example_hide_no_logits_of_nan(attack):
    """They return x if the logits at every other point are NaN, which no row of x_adv shows."""
    with pytest.raises(UserError, match="of 3 rows of x after a step along the gradient$"):
        evaluate.evaluate(diverging, X, Y, {"own": attack}, eps=[0.9], key=jax.random.key(0))

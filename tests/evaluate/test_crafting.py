"""A model whose logits at an example are NaN has no accuracy there: all evaluations refuse it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_after

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
    assert str(caught.value) == (
        f"logits_fn must return finite logits, got NaN or infinity for {bad} of 3 rows of x under "
        "fgsm"
    )


@pytest.mark.slow
@pytest.mark.parametrize("attack", slow_after(1, [attacks.apgd, attacks.pgd, attacks.auto_attack]))
def test_logits_of_nan_that_an_attack_hides_are_named_by_the_audit(attack):
    """These attacks return x where the logits at every other point are NaN."""
    x, y = np.tile(X, (10, 1)), np.tile(Y, 10)
    message = "66.7 % of the rows .* after a single linf step"
    with pytest.warns(evaluate.AuditWarning, match=message):
        evaluate.evaluate(diverging, x, y, {"own": attack}, eps=[0.9], key=jax.random.key(0))

"""evaluate with bounds of each feature, masked attacks and l0."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks, evaluate

W = np.array([[1.0, -1.0], [2.0, 0.0], [-1.0, 3.0]], np.float32)
X = np.float32(np.random.default_rng(0).uniform(size=(40, 3)) * [1, 10, 0.1])
Y = np.asarray((X - X.mean(0)) @ W).argmax(1)
BOUNDS = (np.zeros(3, np.float32), np.float32([1, 10, 0.1]))
MASK = np.array([True, False, True])


def logits_fn(x):
    return (x - jnp.asarray(X.mean(0))[None]) @ jnp.asarray(W)


@pytest.fixture(scope="module")
def found():
    chosen = {
        "free": partial(attacks.fgsm, bounds=None),
        "clipped": partial(attacks.fgsm, bounds=BOUNDS),
        "masked": partial(attacks.fgsm, bounds=BOUNDS, mask=MASK),
    }
    with pytest.warns(evaluate.AuditWarning) as issued:
        found = evaluate.evaluate(logits_fn, X, Y, chosen, eps=[0.0, 0.5], bounds=BOUNDS)
    return found, [str(warning.message) for warning in issued]


@pytest.mark.slow
def test_leaving_the_bounds_of_a_feature_is_counted(found):
    # Each third feature, whose width is .1, leaves its bounds.
    assert found[0].audit.outside_bounds == {"free": 1, "clipped": 0, "masked": 0}
    assert found[1] == [
        "free leaves the bounds (float32[3], float32[3]) in 100 % of the rows: they are not valid "
        "inputs; pass bounds=(float32[3], float32[3])"
    ]


@pytest.mark.slow
def test_the_step_of_the_audit_is_clipped_to_the_bounds_of_each_feature(found):
    # Clipped steps of the size of the attack are as good as it.
    assert found[0].audit.one_step == {"linf": 0}


@pytest.mark.slow
def test_no_warning_of_gray_inputs_for_masked_attacks_which_cannot_make_them():
    # Half the width of the widest feature, 5, would make all inputs equal.
    chosen = {"masked": partial(attacks.fgsm, bounds=BOUNDS, mask=MASK)}
    audit = evaluate.evaluate(logits_fn, X, Y, chosen, eps=[5.0], bounds=BOUNDS).audit
    assert audit.at_gray == audit.one_step == {}


@pytest.mark.slow
def test_a_changed_feature_is_the_unit_of_an_l0_ball():
    chosen = {"pgd": partial(attacks.pgd, norm="l0", bounds=BOUNDS, num_steps=3)}
    audit = evaluate.evaluate(logits_fn, X, Y, chosen, eps=[1, 2], bounds=BOUNDS).audit
    assert audit.outside_ball == {"pgd": 0} and audit.one_step == {}

    def wide(logits_fn, x, y, *, eps, norm="l0", key=None):
        return x + 0.001 * eps

    with pytest.warns(evaluate.AuditWarning, match="wide leaves its l0 ball in 100 % of the rows"):
        evaluate.evaluate(logits_fn, X, Y, {"wide": wide}, eps=[1])


def test_bounds_of_rows_are_refused():
    bounds = (0, np.full(X.shape, 10.0))
    with pytest.raises(ValueError, match=r"bounds must be .* broadcast to x, \[1, 3\], got \(0, "):
        evaluate.evaluate(logits_fn, X, Y, {"fgsm": attacks.fgsm}, eps=[0.1], bounds=bounds)

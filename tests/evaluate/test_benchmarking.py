"""benchmark against AutoAttack in one call and the exact robustness of a linear model."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks, evaluate
from adv_jax.data import Arrays, Dataset
from adv_jax.types import UserError

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def two_classes():
    """Returns x f32[40, 5] in [0.3, 0.7], y, logits_fn, and each row's linf distance, signed."""
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=5), rng.uniform(0.3, 0.7, (40, 5))
    score = (x - 0.5) @ w
    y = (score < 0).astype(np.int32)
    y[:4] = 1 - y[:4]
    distance = np.where(np.arange(40) < 4, -1, np.abs(score) / np.abs(w).sum())
    w, x = jnp.asarray(w, jnp.float32), x.astype(np.float32)

    def logits_fn(x):
        score = (x - 0.5) @ w
        return jnp.stack([score, -score], axis=1)

    return x, y, logits_fn, distance


@pytest.mark.slow
def test_the_record_has_the_exact_accuracies_of_a_linear_model_and_is_json(two_classes):
    x, y, logits_fn, distance = two_classes
    eps = float(np.quantile(distance, 0.6))
    # Two batches, and blocks of 3 rows on each device.
    batches = [(x[:25], y[:25]), (x[25:], y[25:])]
    found = evaluate.benchmark(logits_fn, batches, eps=eps, name="linear", batch_size=3, key=KEY)
    assert json.loads(json.dumps(found)) == found
    assert (found["n"], found["clean"]) == (40, 0.9)
    assert found["robust"] == pytest.approx((distance > eps).mean()) == pytest.approx(0.4)
    accuracies = list(found["attacks"].values())
    assert accuracies == sorted(accuracies, reverse=True)
    assert list(found["attacks"]) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert accuracies[-1] == found["robust"]
    assert (found["name"], found["threat_model"], found["eps"]) == ("linear", "Linf", eps)
    assert found["warnings"] == [] and found["seconds"] > 0


@pytest.mark.slow
def test_members_in_sequence_equal_auto_attack_bit_for_bit(two_classes):
    x, y, _, _ = two_classes
    # A wave, on which each member fools rows of its own.
    w = jnp.asarray(np.random.default_rng(1).normal(size=(5, 4)), jnp.float32)
    logits_fn = lambda x: jnp.sin(25 * x @ w)
    settings = {"eps": 0.02, "num_steps": 3, "num_targets": 2, "num_queries": 9, "key": KEY}
    y = jnp.argmax(logits_fn(x), axis=1)
    whole = attacks.auto_attack(logits_fn, x, y, **settings)
    x_adv, fooled = x, []
    for member in ("apgd-ce", "apgd-t", "fab-t", "square"):
        x_adv = attacks.auto_attack(logits_fn, x_adv, y, **settings, members=(member,))
        fooled.append(int((jnp.argmax(logits_fn(x_adv), axis=1) != y).sum()))
    np.testing.assert_array_equal(x_adv, whole)
    assert 0 < fooled[0] < fooled[-1]


@pytest.mark.slow
def test_a_data_set_gives_its_test_rows_and_bounds(two_classes):
    x, y, logits_fn, _ = two_classes
    test = Arrays(x, y)
    digits = Dataset("points", "files", {}, Arrays(x[:0], y[:0]), test, 2, (0.25, 0.75))
    found = evaluate.benchmark(logits_fn, digits, threat_model="L2", eps=0.0)
    assert (found["bounds"], found["n"]) == ([0.25, 0.75], 40)
    assert found["robust"] == found["clean"] == 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("threat_model", "eps"), [("Linf", 8 / 255), ("L2", 0.5)])
def test_the_radius_is_the_usual_one_of_the_norm(two_classes, threat_model, eps):
    x, y, logits_fn, _ = two_classes
    assert evaluate.benchmark(logits_fn, (x[:2], y[:2]), threat_model=threat_model)["eps"] == eps


@pytest.mark.parametrize("threat_model", ["L1", "corruptions", 3, True])
def test_another_threat_model_is_refused(two_classes, threat_model):
    x, y, logits_fn, _ = two_classes
    with pytest.raises(UserError, match='threat_model must be "Linf" or "L2", got'):
        evaluate.benchmark(logits_fn, (x, y), threat_model=threat_model)


@pytest.mark.parametrize("data", [None, 3, np.zeros((2, 3))])
def test_data_of_another_form_are_refused_by_their_name(two_classes, data):
    with pytest.raises(
        UserError, match=r"^data must be arrays \(x, y\), a Dataset, or an iterable"
    ):
        evaluate.benchmark(two_classes[2], data)


@pytest.mark.parametrize("bounds", [5, (1.0,), "01"])
def test_bounds_of_another_form_are_refused(two_classes, bounds):
    x, y, logits_fn, _ = two_classes
    with pytest.raises(UserError, match=r"bounds must be \(lo, hi\) with lo < hi, got"):
        evaluate.benchmark(logits_fn, (x, y), bounds=bounds)


@pytest.mark.parametrize("members", [(), "square", ("square", "pgd")])
def test_unknown_members_of_auto_attack_are_refused(two_classes, members):
    x, y, logits_fn, _ = two_classes
    with pytest.raises(UserError, match="members must be among apgd-ce, apgd-t, fab-t, square, g"):
        attacks.auto_attack(logits_fn, x, y, eps=0.1, members=members, key=KEY)

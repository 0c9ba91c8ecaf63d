"""bits: adversarial images on the grid of 8-bit pixels, in ball and bounds, scored as rounded."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from adv_jax import attacks, evaluate
from adv_jax.evaluate.rounding import rounded
from adv_jax.types import UserError

ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}


@pytest.mark.slow
@given(
    arrays.arrays(np.uint8, (3, 5)),
    arrays.arrays(np.float32, (3, 5), elements=st.floats(-1, 1, width=32)),
    st.sampled_from(sorted(ORDERS)),
    st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-0.5, 2.0)]),
)
def test_rounded_images_lie_on_the_grid_in_the_ball_and_the_bounds(pixels, r, norm, bounds):
    low, high = bounds
    x = (low + pixels * (high - low) / 255).astype(np.float32)
    x_adv = np.clip(x + 0.1 * r, low, high).astype(np.float32)
    eps = np.linalg.norm(x_adv - x, ORDERS[norm], axis=1).max()
    attack = partial(attacks.fgsm, norm=norm)
    found = np.float64(rounded(attack, x, x_adv, jnp.float32(eps), bits=8, bounds=bounds))
    levels = (found - low) / (high - low) * 255
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert (found >= low - 1e-6).all() and (found <= high + 1e-6).all()
    assert (np.linalg.norm(found - x, ORDERS[norm], axis=1) <= eps * (1 + 1e-5) + 2e-6).all()
    assert np.abs(found - x_adv).max() <= (high - low) / 255 * (1 + 1e-4)


@pytest.mark.slow
def test_a_step_of_whole_levels_is_kept():
    x = (np.arange(30, dtype=np.float32).reshape(3, 10) * 8) / 255
    x_adv = x + np.float32(8 / 255) * np.sign(np.arange(-5, 25).reshape(3, 10))
    x_adv = np.clip(x_adv, 0, 1).astype(np.float32)
    found = rounded(attacks.fgsm, x, x_adv, jnp.float32(8 / 255), bits=8, bounds=(0, 1))
    np.testing.assert_allclose(found, x_adv, atol=2e-7)


@pytest.mark.slow
def test_what_is_scored_is_the_rounded_image_in_the_file(tmp_path):
    # 100 x - 50: class 1 above .5. The step from 125/255 by .0115 crosses .5, at 127.9/255; it is
    # rounded back to 127/255, which does not.
    x = np.array([[125 / 255]], np.float32)
    logits_fn = lambda x: jnp.hstack([50 - 100 * x, 100 * x - 50])
    run = partial(
        evaluate.evaluate_batches,
        logits_fn,
        [(x, [0])],
        {"fgsm": attacks.fgsm},
        eps=[0.0115],
        bounds=(0, 1),
        examples=True,
    )
    assert run(folder=tmp_path / "exact").worst_case == 0
    assert run(folder=tmp_path / "8 bits", bits=8).worst_case == 1
    written = np.load(tmp_path / "8 bits" / "00000.npz")["examples/fgsm"]
    np.testing.assert_allclose(written, [[[127 / 255]]], atol=1e-7)
    assert jax.tree.leaves(logits_fn(written[0]).argmax(1)) == [0]


@pytest.mark.slow
@pytest.mark.parametrize("attack", [attacks.deepfool, attacks.fmn])
def test_rounding_does_not_undo_minimal_examples_where_the_ball_has_room(attack):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(8, 3)).astype(np.float32)
    x = (rng.integers(64, 192, (40, 8)) / 255).astype(np.float32)
    fn = lambda x: x @ w
    y, few = np.argmax(x @ w, axis=1), {"num_steps": 20}
    run = partial(
        evaluate.evaluate, fn, x, y, {"a": partial(attack, **few)}, eps=[1.0], bounds=(0, 1)
    )
    exact, found = run(), run(bits=8)
    nearest = np.round(attack(fn, x, y, eps=1.0, bounds=(0, 1), **few) * 255) / 255
    assert (np.argmax(nearest @ w, axis=1) == y).mean() > found.worst_case[0]
    assert found.worst_case[0] == exact.worst_case[0] == 0
    assert found.audit.outside_ball == found.audit.outside_bounds == {"a": 0}


def test_an_entry_is_rounded_away_from_x_only_inside_the_linf_ball():
    x, x_adv = np.float32([[0, 0, 1]]), np.float32([[2.3, 1.2, -0.1]]) / 255 + np.float32([0, 0, 1])
    for eps, expected in [(3, [3, 2, 254]), (2.5, [2, 2, 254]), (1.1, [1, 1, 254])]:
        seen = []

        def fools(point, seen=seen):
            jax.debug.callback(lambda point: seen.append(np.round(point * 255).tolist()), point)
            return jnp.zeros(1, bool)

        size = jnp.float32(eps / 255)
        rounded(attacks.fgsm, x, x_adv, size, bits=8, bounds=(0, 1), fools=fools)
        jax.effects_barrier()
        assert [expected] in seen and np.abs(np.array(seen) - x * 255).max() <= eps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bounds": None}, "bounds must be (lo, hi) with bits=8, got None"),
        ({"bits": 0}, "bits must be a whole number of at least 1, got 0"),
        (
            {"x": [[0.5]]},
            "x must be lo + k (hi - lo) / 255 with bits=8 and the bounds (0, 1), got 0.5",
        ),
    ],
)
def test_images_that_are_not_of_these_bits_are_refused(change, message):
    settings = {"bits": 8, "bounds": (0, 1), "x": [[0.2]]} | change
    x = np.array(settings.pop("x"), np.float32)
    with pytest.raises(UserError) as error:
        evaluate.evaluate(
            lambda x: jnp.hstack([x, 1 - x]), x, [0], {"a": attacks.fgsm}, eps=[0.1], **settings
        )
    assert str(error.value) == message

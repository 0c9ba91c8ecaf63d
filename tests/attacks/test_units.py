"""No default of an attack has a unit: x -> s x + t gives the same examples in those units.

A power of two for s is exact in floating point, so that the examples are equal bit for bit however
many decisions an attack takes; other factors and shifts hold up to rounding.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import nets
import numpy as np
import pytest
from marks import exhaustive_after

from adv_jax import attacks

B, SHAPE, K = 6, (2, 3), 4
RNG = np.random.default_rng(3)
X = jnp.float32(RNG.uniform(0.1, 0.9, size=(B, *SHAPE)))
W_IN, W_OUT = jnp.float32(RNG.normal(size=(6, 7))), jnp.float32(RNG.normal(size=(7, K)))
EACH = jnp.float32(2.0 ** RNG.permutation(np.arange(-8, 14, 4)).reshape(1, *SHAPE))
KEY = jax.random.key(0)


def small_net(x):
    return jnp.tanh((x - 0.5).reshape(len(x), -1) @ W_IN) @ W_OUT


Y = jnp.argmax(small_net(X), axis=1)


class Case(NamedTuple):
    """attack: called with its default settings, and `options` that have no unit.

    size: its eps in [0, 1], or None where the default is None.
    each: it takes an eps for each feature. bounds: it needs them.
    steps: rounding decides which of several paths it takes, so that only exact factors are equal.
    quick: it is tested by default, one for each kind of default.
    """

    attack: Callable
    size: float | None = None
    options: dict = {}
    each: bool = True
    bounds: bool = False
    steps: bool = False
    quick: bool = False


def on_itself(logits_fn, x, y, **options):
    return attacks.transferred(logits_fn, x, y, source_fn=logits_fn, attack=attacks.fgsm, **options)


def to_the_next_row(logits_fn, x, y, **options):
    return attacks.feature_adversary(logits_fn, x, jnp.roll(x, 1, axis=0), **options)


def universal(logits_fn, x, y, **options):
    return x + attacks.universal_perturbation(logits_fn, x, y, **options)


def patched(logits_fn, x, y, **options):
    patch = attacks.adversarial_patch(logits_fn, x, y, **options)
    return jnp.broadcast_to(patch, x.shape)


KEYED = {"key": KEY}
CASES = {
    "fgsm": Case(attacks.fgsm, 0.1),
    "transferred": Case(on_itself, 0.1),
    "pgd": Case(attacks.pgd, 0.1, quick=True),
    "pgd-keyed-l2": Case(attacks.pgd, 0.3, KEYED | {"norm": "l2"}),
    "pgd-l0": Case(attacks.pgd, None, {"norm": "l0", "eps": 2}, each=False, bounds=True),
    "bim": Case(attacks.bim, 0.1),
    "mi_fgsm": Case(attacks.mi_fgsm, 0.1),
    "adv_alpha": Case(attacks.adv_alpha),
    "apgd": Case(attacks.apgd, 0.1, steps=True),
    "apgd-l1": Case(attacks.apgd, 0.5, {"norm": "l1"}, steps=True),
    "auto_attack": Case(attacks.auto_attack, 0.1, KEYED, steps=True),
    "square": Case(attacks.square, 0.1, KEYED, steps=True),
    "square-l2": Case(attacks.square, 0.3, KEYED | {"norm": "l2"}, steps=True),
    "virtual_adversarial": Case(attacks.virtual_adversarial, 0.1, KEYED, quick=True),
    "deepfool": Case(attacks.deepfool, quick=True),
    "deepfool-linf": Case(attacks.deepfool, None, {"norm": "linf"}),
    "fab": Case(attacks.fab, steps=True),
    "ddn": Case(attacks.ddn, steps=True, quick=True),
    "fmn": Case(attacks.fmn, steps=True, quick=True),
    "fmn-linf": Case(attacks.fmn, None, {"norm": "linf"}, steps=True),
    "fmn-l0": Case(attacks.fmn, None, {"norm": "l0"}, each=False, steps=True),
    "ead": Case(attacks.ead, steps=True),
    "carlini_wagner": Case(attacks.carlini_wagner, bounds=True, steps=True),
    "lbfgs": Case(attacks.lbfgs, steps=True, quick=True),
    "feature_adversary": Case(to_the_next_row, 0.2, steps=True),
    "hop_skip_jump": Case(attacks.hop_skip_jump, None, KEYED, steps=True),
    "boundary": Case(attacks.boundary, None, KEYED, steps=True),
    "jsma": Case(attacks.jsma, None, {"gamma": 0.7}, each=False, quick=True),
    "universal_perturbation": Case(universal, 0.1),
    "adversarial_patch": Case(patched, None, KEYED | {"num_steps": 5}, each=False, bounds=True),
    "rubbish": Case(attacks.rubbish, None, KEYED, each=False, quick=True),
    "sign_noise": Case(attacks.sign_noise, 0.1, KEYED),
    "uniform_noise": Case(attacks.uniform_noise, 0.1, KEYED),
}
# An attack that has no case of its own gets the usual one.
OTHERS = [name for name in attacks.__all__ if getattr(attacks, name).traits.size == "eps"]
CASES = {name: Case(getattr(attacks, name), 0.1, KEYED) for name in OTHERS} | CASES


def with_and_without_bounds(condition, unbounded, needs_bounds=lambda case: case.bounds):
    """Parametrizes over the cases with a property; `unbounded` marks those without bounds."""
    return pytest.mark.parametrize(
        ("name", "bounded"),
        [
            pytest.param(
                name,
                bounded,
                marks=unbounded if not bounded else () if case.quick else pytest.mark.exhaustive,
            )
            for name, case in CASES.items()
            for bounded in (True, False)
            if condition(case) and (bounded or not needs_bounds(case))
        ],
    )


def run(name, s=1.0, t=0.0, *, bounded, each=False, **given):
    """Returns the examples of s x + t in units of [0, 1]."""
    case = CASES[name]
    s, t = (jnp.broadcast_to(jnp.float32(v), (1, *SHAPE)) for v in (s, t))
    options = case.options | given
    if bounded:
        options["bounds"] = (t, s + t) if each else (float(t.min()), float((s + t).max()))
    if case.each and each:
        options["eps"] = (5.0 if case.size is None else case.size) * s
    elif case.size is not None:
        options["eps"] = case.size * float(s.max())
    x_adv = case.attack(lambda z: small_net((z - t) / s), s * X + t, Y, **options)
    return np.asarray((x_adv - t) / s)


def moves(x_adv):
    return np.any(x_adv != np.asarray(X), axis=(1, 2))


@with_and_without_bounds(lambda case: True, pytest.mark.exhaustive)
def test_examples_in_units_of_another_size_are_the_same(name, bounded):
    expected = run(name, bounded=bounded)
    assert moves(expected).mean() >= 0.5
    for s in (2.0**-8, 2.0**13):
        np.testing.assert_array_equal(run(name, s, bounded=bounded), expected)


@with_and_without_bounds(lambda case: not case.steps, pytest.mark.slow)
def test_examples_after_a_change_of_unit_and_origin_are_the_same_up_to_rounding(name, bounded):
    expected = run(name, bounded=bounded)
    for s, t in ((255.0, 0.0), (1 / 255, 0.0), (1e4, -3e3), (2.0, -1.0)):
        np.testing.assert_allclose(run(name, s, t, bounded=bounded), expected, atol=2e-3)


# A patch lies on any pixel, and l0 keeps the largest changes in units of x.
@with_and_without_bounds(
    lambda case: case.attack is not patched and case.options.get("norm") != "l0",
    pytest.mark.exhaustive,
    needs_bounds=lambda case: case.bounds or not case.each,
)
def test_examples_in_units_of_each_feature_are_the_same(name, bounded):
    expected = run(name, bounded=bounded, each=True)
    assert moves(expected).mean() >= 0.5
    # The largest feature, by which slopes are divided first, is another one.
    np.testing.assert_allclose(run(name, EACH, bounded=bounded, each=True), expected, atol=2e-3)


# Settings with a unit: the power of the unit, and the value in [0, 1].
GIVEN = {
    "ddn": {"step_size": (1, 0.5), "initial_eps": (1, 0.3)},
    "fmn": {"step_size": (1, 0.5)},
    "lbfgs": {"initial_const": (2, 0.1)},
    "ead": {"beta": (1, 0.02), "initial_const": (2, 0.1)},
    "carlini_wagner": {"initial_const": (2, 0.1)},
    "virtual_adversarial": {"xi": (1, 0.1)},
    "jsma": {"theta": (1, 0.3)},
    "adversarial_patch": {"learning_rate": (1, 0.02)},
    "rubbish": {"std": (1, 0.4)},
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "lbfgs" else pytest.mark.slow) for n in GIVEN]
)
def test_a_given_number_is_in_units_of_x(name):
    def given(s):
        return {key: value * s**power for key, (power, value) in GIVEN[name].items()}

    expected = run(name, bounded=True, **given(1.0))
    assert np.any(expected != run(name, bounded=True))
    np.testing.assert_array_equal(run(name, 2.0**8, bounded=True, **given(2.0**8)), expected)


@pytest.mark.slow
def test_patches_in_units_of_each_channel_are_the_same():
    x, each = X.reshape(B, 1, 2, 3), jnp.float32([[[[1, 2.0**-8, 2.0**12]]]])
    patches = [
        attacks.adversarial_patch(
            lambda z, s=s: small_net(z / s), s * x, Y, bounds=(0 * s, s), num_steps=50, key=KEY
        )
        / s
        for s in (jnp.ones_like(each), each)
    ]
    np.testing.assert_allclose(*patches, atol=1e-5)
    assert np.any(np.abs(patches[0] - 0.5) > 0.3)


@pytest.fixture(scope="module")
def linear():
    """200 rows in [0, 1], a linear net and its predictions."""
    rng = np.random.default_rng(0)
    x = jnp.float32(rng.uniform(size=(200, 20)))
    w = jnp.float32(rng.normal(size=(20, 5)))
    return x, w, jnp.argmax(x @ w, axis=1)


def left(attack, logits_fn, x, y, **options):
    """Returns the accuracy under the attack."""
    x_adv = attack(logits_fn, x, y, **options)
    return float(jnp.mean(jnp.argmax(logits_fn(x_adv), axis=1) == y))


@pytest.mark.slow
@pytest.mark.parametrize("s", [1.0, 255.0])
@pytest.mark.parametrize("attack", [attacks.lbfgs, attacks.fmn, attacks.ddn])
def test_the_smallest_perturbation_of_a_linear_net_is_found_in_bytes_too(attack, s, linear):
    x, w, y = linear
    assert left(attack, lambda z: (z / s) @ w, s * x, y, bounds=(0, s)) == 0


@pytest.mark.parametrize("attack", [attacks.ddn, attacks.fmn])
def test_features_of_very_different_size_are_fooled_in_units_of_eps(attack):
    rng = np.random.default_rng(0)
    std = jnp.float32([[1e4, 1, 10]])
    x = std * jnp.float32(rng.normal(size=(100, 3)))
    w = jnp.float32(rng.normal(size=(3, 3)))
    logits_fn = lambda z: (z / std) @ w
    y = jnp.argmax(logits_fn(x), axis=1)
    assert left(attack, logits_fn, x, y, eps=100 * std) == 0


@pytest.mark.slow
@pytest.mark.parametrize("attack", exhaustive_after(1, [attacks.lbfgs, attacks.fmn]))
def test_every_digit_is_fooled_in_bytes_too(attack):
    x, y = (rows[:100] for rows in nets.digits())
    net = nets.trained("plain").logits_fn
    for s in (1.0, 255.0):
        assert left(attack, lambda z, s=s: net(z / s), s * x, y, bounds=(0, s)) == 0


@pytest.mark.exhaustive
def test_ten_steps_of_deepfool_fool_as_many_digits_in_bytes():
    x, y = (rows[:100] for rows in nets.digits())
    net = nets.trained("pgd").logits_fn
    accuracies = [
        left(
            partial(attacks.deepfool, num_steps=10, norm="l1"),
            lambda z, s=s: net(z / s),
            s * x,
            y,
            bounds=(0, s),
        )
        for s in (1.0, 255.0)
    ]
    assert accuracies[0] < 0.95
    assert abs(accuracies[0] - accuracies[1]) <= 0.02

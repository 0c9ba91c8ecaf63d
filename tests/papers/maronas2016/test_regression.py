"""The one-dimensional argument of [maronas2016], sec. 5.4, against NumPy."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from papers.maronas2016 import regression

NUMBERS = st.floats(-3, 3)


def residual(x, w, b):
    return 1 - w * x - b


@pytest.mark.slow
@given(NUMBERS, NUMBERS)
def test_the_noise_multiplies_the_cost_by_the_square_of_1_plus_w_squared(w, b):
    found = regression.costs_over(np.array([w]), b)
    before = residual(1, w, b) ** 2 / 2
    np.testing.assert_allclose(found["before"], before, atol=1e-12)
    np.testing.assert_allclose(found["after"], (1 + w**2) ** 2 * before, rtol=1e-9, atol=1e-12)
    # Eqs. 44 to 46 as printed: the step w^2 x - w t^.
    as_printed = residual(1 + w**2 - w, w, b) ** 2 / 2
    np.testing.assert_allclose(found["printed"], as_printed, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_the_printed_equations_agree_without_a_bias_and_fail_eq_54_with_one():
    w = np.linspace(-2, 2, 41)
    without = regression.costs_over(w, 0.0)
    np.testing.assert_allclose(without["printed"], without["after"], rtol=1e-9, atol=1e-12)
    low, high = regression.costs().document["printed_is_lower"]
    # r = -.3 and r + b = .2 at w = .8: the residual becomes -.3 + .64 * .2 = -.172.
    assert low < 0.8 < high
    found = regression.costs_over(np.array([0.8]), 0.5)["printed"]
    np.testing.assert_allclose(found, 0.172**2 / 2, rtol=1e-9)


def test_the_noise_is_the_gradient_by_finite_differences():
    with jax.enable_x64(True):
        ahead, behind = (float(regression.cost(1 + h, 0.8, 0.5)) for h in (1e-6, -1e-6))
        moved = float(regression.corrupted(0.8, 0.5))
    assert moved - 1 == pytest.approx((ahead - behind) / 2e-6, rel=1e-6)

"""Agreement of two nets on wrong classes, by hand."""

import numpy as np
import pytest

from papers.wardefarley2016.agreement import agreement


def test_agreement_by_hand():
    # Four that a net gets right, then four of class 0 and two of class 1 that fool both.
    y = np.array([0, 0, 1, 2, 0, 0, 0, 0, 1, 1])
    a = np.array([0, 1, 1, 2, 1, 1, 1, 2, 0, 2])
    b = np.array([1, 0, 0, 2, 1, 1, 2, 2, 2, 0])
    found = agreement(a, b, y, num_classes=4)
    assert found["both_wrong"] == pytest.approx(6 / 10)
    # Of class 0 the first, second and fourth agree, of class 1 none.
    assert found["same"] == pytest.approx(3 / 6)
    # Class 0: 4 (3/4 2/4 + 1/4 2/4) = 2 of 4; class 1: 2 (1/2 1/2 + 1/2 1/2) = 1 of 2.
    assert found["by_chance"] == pytest.approx(3 / 6)


def test_equal_nets_agree_and_independent_ones_as_often_as_by_chance():
    rng = np.random.default_rng(0)
    y, a, b = rng.integers(0, 10, (3, 100_000))
    assert agreement(a, a, y, num_classes=10)["same"] == 1
    found = agreement(a, b, y, num_classes=10)
    assert found["by_chance"] == pytest.approx(1 / 9, abs=1e-3)
    assert found["same"] == pytest.approx(1 / 9, abs=4 * np.sqrt(8 / 81 / 81_000))

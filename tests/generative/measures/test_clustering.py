"""The best names of clusters, against all permutations."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adv_jax.generative.measures import matched_classes
from adv_jax.types import UserError

CLASSES = st.lists(st.integers(0, 3), min_size=12, max_size=12).map(np.array)


@given(CLASSES, CLASSES)
def test_no_other_permutation_agrees_more_often(clusters, labels):
    found = matched_classes(clusters, labels, num_classes=4)
    agreements = lambda names: np.sum(np.take(names, clusters) == labels)
    assert sorted(found) == [0, 1, 2, 3]
    best = max(agreements(names) for names in itertools.permutations(range(4)))
    assert agreements(found) == best


def test_permuted_labels_are_found_again():
    names, labels = np.array([2, 0, 3, 1]), np.arange(40) % 4
    found = matched_classes(np.argsort(names)[labels], labels, num_classes=4)
    np.testing.assert_array_equal(found, names)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        (np.eye(3, dtype=int), r"^clusters must be integers \[N\], N >= 1, got int64\[3, 3\]$"),
        (np.ones(3), r"^clusters must be integers \[N\], N >= 1, got float64\[3\]$"),
        (np.zeros(0, int), r"^clusters must be integers \[N\], N >= 1, got int64\[0\]$"),
        ([[0], [1, 2]], r"^clusters must be integers \[N\], N >= 1, got \[\[0\], \[1, 2\]\]$"),
        (np.array([-1, 0, 1]), "^clusters must be from 0 to 2, got -1$"),
        (np.array([0, 1, 3]), "^clusters must be from 0 to 2, got 3$"),
    ],
)
def test_what_is_no_class_is_refused(clusters, message):
    with pytest.raises(UserError, match=message):
        matched_classes(clusters, np.arange(3), num_classes=3)


def test_clusters_and_labels_of_different_rows_are_refused():
    with pytest.raises(UserError, match="labels must be 3, as clusters are, got 2"):
        matched_classes(np.zeros(3, int), np.zeros(2, int), num_classes=2)

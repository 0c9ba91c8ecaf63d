"""Splits and subsets: disjoint, balanced, functions of the seed."""

import jax
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adv_jax import data

_seeds = st.integers(0, 2**31 - 1)
_labels = st.lists(st.integers(0, 4), min_size=2, max_size=60).map(np.array)


@given(_labels, st.data(), _seeds)
def test_split_is_disjoint_balanced_and_a_function_of_the_seed(labels, draw, seed):
    num_valid = draw.draw(st.integers(0, len(labels) - 1))
    train, valid = data.split(labels, num_valid=num_valid, seed=seed)
    assert train.dtype == valid.dtype == np.int32
    assert len(valid) == num_valid
    np.testing.assert_array_equal(np.sort(np.concatenate([train, valid])), np.arange(len(labels)))
    # As even as possible: a class that got two fewer than another has nothing left to give.
    total, taken = (np.bincount(part, minlength=5) for part in (labels, labels[valid]))
    assert all(taken[c] >= taken.max() - 1 or taken[c] == total[c] for c in range(5))
    again = data.split(labels.copy(), num_valid=num_valid, seed=seed)
    np.testing.assert_array_equal(again[1], valid)


@given(st.lists(st.integers(1, 8), min_size=5, max_size=5), st.data(), _seeds)
def test_labeled_subset_is_balanced_and_grows_with_the_number(counts, draw, seed):
    labels = np.array(draw.draw(st.permutations(np.repeat(np.arange(5), counts).tolist())))
    per_class = draw.draw(st.integers(1, min(counts)))
    assume(5 * per_class < len(labels))
    chosen = data.labeled_subset(labels, num_labels=5 * per_class, num_classes=5, seed=seed)
    assert chosen.dtype == np.int32
    assert len(np.unique(chosen)) == 5 * per_class
    np.testing.assert_array_equal(np.bincount(labels[chosen], minlength=5), per_class)
    if per_class > 1:
        fewer = data.labeled_subset(labels, num_labels=5, num_classes=5, seed=seed)
        assert set(fewer) < set(chosen)


def test_all_labels_may_be_unbalanced():
    labels = np.array([0, 0, 1, 2, 2, 2, 1])
    chosen = data.labeled_subset(labels, num_labels=7, num_classes=3, seed=0)
    np.testing.assert_array_equal(chosen, np.arange(7))


def test_seeds_and_purposes_choose_different_examples():
    labels = np.arange(1000) % 10
    chosen = [data.labeled_subset(labels, num_labels=100, num_classes=10, seed=s) for s in (0, 1)]
    valid = data.split(labels, num_valid=100, seed=0)[1]
    for other in (chosen[1], valid):
        assert len(set(chosen[0]) & set(other)) < 30  # 10 expected of independent draws


def test_stored_choices_of_a_seed_stay_reproducible():
    labels = np.arange(40) % 4
    # Frozen: stored indices of old runs must stay reproducible.
    assert data.split(labels, num_valid=4, seed=7)[1].tolist() == [6, 23, 32, 37]
    chosen = data.labeled_subset(labels, num_labels=4, num_classes=4, seed=7)
    assert chosen.tolist() == [11, 22, 25, 36]


def test_labeled_subset_chooses_each_example_equally_often():
    labels = np.arange(20) % 2
    counts = np.zeros(20)
    for seed in range(400):
        counts[data.labeled_subset(labels, num_labels=4, num_classes=2, seed=seed)] += 1
    assert counts.min() > 50
    assert counts.max() < 110


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_labels": 15},
            "num_labels must be a multiple of num_classes=10 from 10 .*got 15",
        ),
        ({"num_labels": 0}, "num_labels must be .*got 0"),
        ({"num_labels": -10}, "num_labels must be .*got -10"),
        ({"num_labels": 90}, "num_labels must be .* from 10 to 40, or all 60, got 90"),
        ({"num_labels": 50}, "num_labels must be .*got 50"),
        ({"num_labels": 10.0}, "num_labels must be .*got 10.0"),
        ({"num_classes": 9}, "num_classes must be a whole number of at least 10, got 9"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": -1, "num_labels": 60}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": True}, "seed must be a whole number of at least 0, got True"),
        (
            {"num_classes": 11},
            "num_labels must be all 60, as class 10 has no examples, got 20",
        ),
        (
            {"num_classes": 10**13},
            "num_labels must be all 60, as class 10 has no examples, got 20",
        ),
        (
            {"labels": np.array([0, 10**13]), "num_labels": 1, "num_classes": 10**13 + 1},
            "num_labels must be all 2, as class 1 has no examples, got 1",
        ),
        ({"labels": np.ma.zeros(3, int)}, "labels must be an array .* got masked int64"),
        ({"labels": np.zeros((3, 2), int)}, "labels must be integers .*got int64"),
        ({"labels": np.zeros(3)}, "labels must be integers .*got float64"),
        ({"labels": np.array([], int)}, "labels must be"),
        ({"labels": np.array([0, -1])}, "labels must be integers >= 0, got -1"),
    ],
)
def test_labeled_subset_refuses_bad_arguments(change, message):
    labels = np.concatenate([np.arange(40) % 10, np.arange(20) % 9])  # four nines, more of the rest
    good = {"labels": labels, "num_labels": 20, "num_classes": 10, "seed": 0}
    arguments = good | change
    labels = arguments.pop("labels")
    with pytest.raises(data.DataError, match=message) as error:
        data.labeled_subset(labels, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("num_valid", [-1, 10, 2.5, "3", True])
def test_split_refuses_a_bad_num_valid(num_valid):
    with pytest.raises(data.DataError, match="num_valid must be a whole number from 0 to 9, got"):
        data.split(np.arange(10), num_valid=num_valid, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": False}, "seed must be a whole number of at least 0, got False"),
        ({"seed": jax.random.key(0)}, "seed must be a whole number of at least 0, got Array("),
        ({"stratified": "no"}, "stratified must be True or False, got 'no'"),
    ],
)
def test_split_refuses_a_bad_seed_or_flag_in_one_line(settings, message):
    with pytest.raises(data.DataError) as error:
        data.split(np.arange(10), **{"num_valid": 3, "seed": 0} | settings)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_numbers_may_be_scalars_of_numpy_and_jax():
    labels = np.arange(12) % 3
    for of in (np.int64, np.uint8, jax.numpy.int32):
        same = data.split(labels, num_valid=of(3), seed=of(1), stratified=np.True_)
        expected = data.split(labels, num_valid=3, seed=1, stratified=True)
        np.testing.assert_array_equal(same[0], expected[0])
        order = data.epoch_order(of(1), of(2), of(12))
        np.testing.assert_array_equal(order, data.epoch_order(1, 2, 12))


def test_epoch_order_is_a_permutation_of_seed_and_epoch():
    order = data.epoch_order(3, 5, 100)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
    key = jax.random.fold_in(jax.random.key(3), 5)
    np.testing.assert_array_equal(order, jax.random.permutation(key, 100))
    np.testing.assert_array_equal(order, data.epoch_order(jax.random.key(3), 5, 100))
    assert (order != data.epoch_order(3, 6, 100)).any()
    assert (order != data.epoch_order(4, 5, 100)).any()
    assert (data.epoch_order(0, 5, 100) != data.epoch_order(2**32 - 1, 5, 100)).any()


def test_epoch_order_is_traceable_in_seed_and_epoch():
    seeds = jax.numpy.arange(3)
    traced = jax.jit(jax.vmap(data.epoch_order, in_axes=(0, None, None)), static_argnums=2)(
        seeds, 2, 50
    )
    for seed in range(3):
        np.testing.assert_array_equal(traced[seed], data.epoch_order(seed, 2, 50))


@pytest.mark.parametrize(
    ("epoch", "n", "message"),
    [
        (-1, 5, "epoch must be a whole number from 0 to 4294967295, got -1"),
        (1.5, 5, "epoch must be a whole number from 0 to 4294967295, got 1.5"),
        (0, -5, "n must be a whole number of at least 0, got -5"),
        (0, 2.5, "n must be a whole number of at least 0, got 2.5"),
    ],
)
def test_epoch_order_refuses_a_bad_epoch_and_a_bad_number(epoch, n, message):
    with pytest.raises(data.DataError) as error:
        data.epoch_order(0, epoch, n)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "seed",
    [
        *(1.5, None, "a", True, np.arange(2)),
        *(-1, 2**32, 2**40, -(2**63)),  # JAX takes them for smaller ones.
        jax.random.split(jax.random.key(0), 3),
    ],
)
def test_epoch_order_refuses_a_bad_seed(seed):
    allowed = r"key_or_seed must be one typed key or a whole number from 0 to 2\^32 - 1, got "
    with pytest.raises(data.DataError, match=allowed) as error:
        data.epoch_order(seed, 0, 5)
    assert "\n" not in str(error.value)


def test_epoch_order_refuses_a_traced_batch_of_keys():
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.raises(data.DataError, match="must be one typed key or .*, got key<fry"):
        jax.jit(data.epoch_order, static_argnums=2)(keys, 0, 5)

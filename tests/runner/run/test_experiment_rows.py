"""Experiments: training rows and their order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from points import CLASSES, TRAIN, alone, arrays_of, document

from adv_jax.data import Arrays, DataError, Dataset
from adv_jax.runner.config.binding import OBJECTIVES
from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.run.experiment import Experiment
from adv_jax.runner.run.inputs import rows_of

# Rows


def test_rows_are_balanced_disjoint_and_labeled_within_training(dataset):
    config = document(data__num_valid=12, data__num_labels=8)
    rows = rows_of(config, dataset, [Replica(s, {}) for s in (1, 2, 5)])
    sizes = {"train": TRAIN - 12, "valid": 12, "labeled": 8}
    assert {name: chosen.shape for name, chosen in rows.items()} == {
        name: (3, size) for name, size in sizes.items()
    }
    for train, valid, labeled in zip(*rows.values(), strict=True):
        assert sorted([*train, *valid]) == list(range(TRAIN))
        assert set(labeled) < set(train)
        assert len(set(labeled)) == 8
        for chosen in (train, valid, labeled):
            counts = np.bincount(dataset.train.y[chosen], minlength=CLASSES)
            assert set(counts) == {len(chosen) // CLASSES}


def test_rows_are_functions_of_the_seed_alone(dataset):
    config = document(data__num_valid=12, data__num_labels=8)
    together = rows_of(config, dataset, [Replica(s, {"a": s}) for s in (1, 2, 1)])
    single = rows_of(config, dataset, [Replica(2, {})])
    for name, chosen in together.items():
        np.testing.assert_array_equal(chosen[0], chosen[2])
        np.testing.assert_array_equal(chosen[1], single[name][0])
        assert set(chosen[0]) != set(chosen[1])


def test_all_training_rows_are_labeled_without_a_number(dataset):
    rows = rows_of(document(data__num_valid=6), dataset, [Replica(1, {})])
    np.testing.assert_array_equal(rows["labeled"], rows["train"])
    assert rows["train"].shape == (1, TRAIN - 6)
    rows = rows_of(document(), dataset, [Replica(1, {})])
    np.testing.assert_array_equal(rows["labeled"][0], np.arange(TRAIN))
    assert rows["valid"].shape == (1, 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data__num_labels": 6}, "^data.num_labels must be a multiple of num_classes=4 .*, got 6"),
        ({"data__num_labels": 52}, "^data.num_labels must be .* or all 48, got 52"),
        (
            {"data__num_valid": 12, "data__num_labels": 40},
            "^data.num_labels must be .* or all 36, got 40",
        ),
        ({"data__num_valid": TRAIN}, "^data.num_valid must be a whole number from 0 to 47, got 48"),
    ],
)
def test_sizes_that_do_not_fit_the_data_are_refused_in_words(dataset, change, says):
    with pytest.raises(DataError, match=f"^{says}$"):
        rows_of(document(**change), dataset, [Replica(1, {})])


# The order of an epoch


@pytest.fixture
def recorder(monkeypatch):
    """An objective that learns nothing; its metrics are the rows of each batch."""

    def recorder(apply, variables, batch, *, key):
        del apply, key
        metrics = {"y": batch["y"], "labeled": batch["x"][:, 0]}
        metrics["unlabeled"] = batch["unlabeled"][:, 0]
        loss = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(variables["params"]))
        return loss, ({}, metrics)

    monkeypatch.setitem(OBJECTIVES, "recorder", recorder)


def visits(dataset, *, seeds=(1,), epochs=2, **changes):
    """(rows of a replica, {metric: i[epochs, steps, B]}) for each seed."""
    config = document(objective__name="recorder", **changes)
    rows = rows_of(config, dataset, [Replica(s, {}) for s in seeds])
    experiment, arrays = Experiment(config, dataset), arrays_of(dataset)
    epoch = jax.jit(experiment.epoch)
    found = []
    for i, seed in enumerate(seeds):
        run, metrics = experiment.init(jnp.int32(seed), {}), []
        for _ in range(epochs):
            run, measured = epoch(run, arrays, alone(rows, i))
            metrics.append({name: np.asarray(v).astype(int) for name, v in measured.items()})
        assert run.state.step == epochs * experiment.steps_per_epoch
        found.append(
            (
                alone(rows, i),
                {
                    name: np.stack([m[name] for m in metrics])
                    for name in ("y", "labeled", "unlabeled")
                },
            )
        )
    return found


@pytest.mark.slow
def test_an_epoch_visits_a_permutation_that_depends_on_seed_and_epoch(dataset, recorder):
    found = visits(dataset, seeds=(1, 3), data__num_valid=8)
    orders = []
    for seed, (rows, metrics) in zip((1, 3), found, strict=True):
        assert metrics["unlabeled"].shape == (2, 5, 8)
        for epoch in range(2):
            key = jax.random.fold_in(jax.random.key(seed), epoch)
            order = rows["train"][jax.random.permutation(key, 40)]
            np.testing.assert_array_equal(metrics["unlabeled"][epoch].ravel(), order)
            assert sorted(order) == sorted(rows["train"])
            orders.append(tuple(order))
    assert len(set(orders)) == 4


def test_with_all_labels_both_halves_of_a_batch_are_the_same_images(dataset, recorder):
    for num_labels in (0, 40):
        [(_, metrics)] = visits(dataset, data__num_valid=8, data__num_labels=num_labels)
        np.testing.assert_array_equal(metrics["labeled"], metrics["unlabeled"])
        np.testing.assert_array_equal(metrics["y"], dataset.train.y[metrics["labeled"]])


def test_few_labeled_rows_are_visited_equally_often_in_each_epoch(dataset, recorder):
    [(rows, metrics)] = visits(dataset, data__num_labels=12)
    np.testing.assert_array_equal(metrics["y"], dataset.train.y[metrics["labeled"]])
    for epoch in range(2):
        visited = metrics["labeled"][epoch].ravel()
        row, times = np.unique(visited, return_counts=True)
        np.testing.assert_array_equal(row, rows["labeled"])
        assert set(times) == {48 // 12}
        # A label comes back only after all others came.
        for i in range(0, 48, 12):
            assert len(set(visited[i : i + 12])) == 12
        np.testing.assert_array_equal(np.sort(metrics["unlabeled"][epoch].ravel()), np.arange(48))
    assert (metrics["labeled"][0] != metrics["labeled"][1]).any()


def test_labels_that_do_not_divide_the_epoch_differ_by_one_visit_at_most(dataset, recorder):
    [(rows, metrics)] = visits(dataset, data__num_labels=20)
    for visited in metrics["labeled"]:
        _, times = np.unique(visited, return_counts=True)
        assert len(times) == len(rows["labeled"])
        assert sorted(set(times)) == [2, 3]  # 48 visits of 20 rows.


def test_rows_that_do_not_fill_a_batch_are_left_for_another_epoch(dataset, recorder):
    [(rows, metrics)] = visits(dataset, epochs=3, data__num_valid=5)
    assert metrics["unlabeled"].shape == (3, 5, 8)
    left = [set(rows["train"]) - set(visited.ravel()) for visited in metrics["unlabeled"]]
    assert [len(rest) for rest in left] == [3, 3, 3]
    assert len({frozenset(rest) for rest in left}) > 1


# Augmentation


@pytest.fixture
def keeper(monkeypatch):
    """An objective that learns nothing; its metrics are the images of each batch."""

    def keeper(apply, variables, batch, *, key):
        del apply, key
        loss = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(variables["params"]))
        return loss, ({}, {k: value for k, value in batch.items() if k != "y"})

    monkeypatch.setitem(OBJECTIVES, "keeper", keeper)


def seen(pad, mirror=False, crop=0):
    """The images of an epoch, f[48, 3, 3, 1] each, and those of the data set in that order."""
    x = 1 + np.arange(TRAIN * 9, dtype=np.float32).reshape(TRAIN, 3, 3, 1)
    y = (np.arange(TRAIN) % CLASSES).astype(np.int32)
    images = Dataset("images", "made up", {}, Arrays(x, y), Arrays(x[:4], y[:4]), CLASSES, None)
    if crop:
        images = images._replace(test=Arrays(x[:4, :crop, :crop], y[:4]))
    config = document(objective__name="keeper", data__pad=pad, data__mirror=mirror)
    rows = alone(rows_of(config, images, [Replica(1, {})]))
    experiment = Experiment(config, images)
    run = experiment.init(jnp.int32(1), {})
    _, metrics = jax.jit(experiment.epoch)(run, arrays_of(images), rows)
    found = {
        name: np.asarray(metrics[name]).reshape(-1, *images.test.x.shape[1:])
        for name in metrics.keys() - {"loss"}
    }
    order = jax.random.permutation(jax.random.fold_in(jax.random.key(1), 0), TRAIN)
    return found, x[rows["train"][order]]


@pytest.mark.slow
def test_padded_images_are_shifted_with_zeros_outside(keeper):
    found, images = seen(pad=2)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    shifts = [(i, j) for i in range(5) for j in range(5)]
    for name in found:
        at = [
            [shift for shift in shifts if (whole[shift[0] :, shift[1] :][:3, :3] == part).all()]
            for whole, part in zip(padded, found[name], strict=True)
        ]
        assert all(at) and len({shift for (shift, *_) in at}) > 10


@pytest.mark.slow
def test_the_second_augmentation_is_another_one_of_the_same_images(keeper):
    found, images = seen(pad=0)
    np.testing.assert_array_equal(found["x"], images)
    assert "second" not in found
    found, images = seen(pad=0, mirror=True)
    turned = {name: (found[name] != images).any((1, 2, 3)) for name in found}
    for name in found:
        np.testing.assert_array_equal(
            np.where(turned[name][:, None, None, None], images[:, :, ::-1], images), found[name]
        )
    # Each pair of draws occurs: 48 times 1/4, with a standard deviation of 3.
    pairs = turned["x"].astype(int) + 2 * turned["second"]
    assert np.bincount(pairs, minlength=4).min() >= 3


@pytest.mark.slow
def test_the_second_augmentation_has_crops_of_its_own(keeper):
    found, _ = seen(pad=0, crop=2)
    same = (found["x"] == found["second"]).all((1, 2, 3))
    assert found["x"].shape == found["second"].shape == (TRAIN, 2, 2, 1)
    assert same.any() and not same.all()


# Replays


def test_replays_repeat_each_batch_and_count_as_steps(dataset):
    config = document(
        objective__name="free",
        objective__eps=0.5,
        optimizer__momentum=0.0,
        optimizer__learning_rate={
            "name": "piecewise_constant",
            "values": (0.0, 1.0),
            "boundaries": (1,),
        },
    ) | {"replays": 3}
    rows = alone(rows_of(config, dataset, [Replica(1, {})]))
    experiment = Experiment(config, dataset)
    assert experiment.steps_per_epoch == 3 * TRAIN // 8
    first = experiment.init(jnp.int32(1), {})
    assert first.state.variables["perturbation"]["r"].shape == (8, 5)
    epoch = jax.jit(experiment.epoch)
    run, metrics = epoch(first, arrays_of(dataset), rows)
    assert run.state.step == experiment.steps_per_epoch and metrics["loss"].shape == (TRAIN // 8,)
    # The rate of the first epoch is 0, for all its replays.
    jax.tree.map(np.testing.assert_array_equal, run.state.params, first.state.params)
    assert np.abs(run.state.variables["perturbation"]["r"]).max() == 0.5
    later, _ = epoch(run, arrays_of(dataset), rows)
    assert (
        np.abs(
            later.state.params["logits"]["kernel"] - first.state.params["logits"]["kernel"]
        ).max()
        > 0
    )

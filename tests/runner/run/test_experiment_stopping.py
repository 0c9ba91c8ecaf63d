"""Experiments: best models and early stopping."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from points import FEATURES, PLATEAU, alone, arrays_of, document, jnp_tree, same, stack

from adv_jax.data import Arrays, Dataset
from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.run.experiment import Experiment
from adv_jax.runner.run.inputs import rows_of
from adv_jax.step import over_replicas

# Early stopping

VALID = 15
# Class c is right for c + 1 of these, so that a model which always says c has a known error.
VALID_LABELS = np.repeat(np.arange(5), np.arange(1, 6))


@cache
def monitored(patience):
    """(experiment, a compiled `monitor` of two replicas) on constant inputs."""
    x = np.zeros((VALID + 5, FEATURES), np.float32)
    y = np.concatenate([VALID_LABELS, np.arange(5)]).astype(np.int32)
    dataset = Dataset("constant", "", {}, Arrays(x, y), Arrays(x[:10], y[5:15]), 5, (0.0, 1.0))
    config = document(model__num_classes=5, data__num_valid=VALID, batch_size=5)
    experiment = Experiment(config | {"patience": patience}, dataset)
    rows = {"valid": np.arange(VALID), "train": np.arange(VALID, VALID + 5)}
    rows["labeled"] = rows["train"]
    arrays = arrays_of(dataset)
    assert experiment.steps_per_epoch == 1  # so that the step is the epoch
    monitor = lambda run: experiment.monitor(run, arrays, jnp_tree(rows))
    return experiment, jax.jit(over_replicas(monitor)), y[5:15]


def saying(run, classes, epoch):
    """Returns two replicas that always predict classes[r]; the kernel encodes the epoch."""
    bias = jnp.stack([jnp.eye(5)[c] for c in classes])
    kernel = jnp.full((2, FEATURES, 5), float(epoch))
    params = {"logits": {"bias": bias, "kernel": kernel}}
    return run._replace(state=run.state.replace(params=params, step=jnp.full(2, epoch)))


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9),
    st.sampled_from([0, 1, 3]),
)
def test_each_replica_keeps_the_best_model_and_stops_after_patience(said, patience):
    experiment, monitor, test_labels = monitored(patience)
    run = stack([experiment.init(jnp.int32(seed), {}) for seed in (1, 2)])
    best, best_epoch, stopped = [np.inf, np.inf], [0, 0], [False, False]
    for epoch, classes in enumerate(said, start=1):
        run, metrics = monitor(saying(run, classes, epoch))
        for r, c in enumerate(classes):
            error = 1 - (c + 1) / VALID
            same(metrics["valid_error"][r], error)
            same(metrics["test_error"][r], np.mean(test_labels != c))
            same(metrics["test_confidence"][r], np.e / (np.e + 4))
            if not stopped[r]:
                if error < best[r]:
                    best[r], best_epoch[r] = error, epoch
                elif patience:
                    stopped[r] = epoch - best_epoch[r] == patience
        same(run.best_error, best)
        assert run.best_epoch.tolist() == best_epoch
        assert run.stopped.tolist() == stopped
        # The kept model is the one of that epoch, whole; the state goes on.
        marks = run.best["params"]["logits"]["kernel"]
        np.testing.assert_array_equal(marks[:, 0, 0], best_epoch)
        kept = [int(b) for b in jnp.argmax(run.best["params"]["logits"]["bias"], axis=1)]
        assert kept == [said[e - 1][r] for r, e in enumerate(best_epoch)]
        assert run.state.params["logits"]["kernel"][0, 0, 0] == epoch


@pytest.mark.slow
def test_no_model_is_kept_and_no_replica_stops_without_a_validation_set(dataset):
    config = document() | {"patience": 1}
    experiment = Experiment(config, dataset)
    rows = alone(rows_of(config, dataset, [Replica(1, {})]))
    run = experiment.init(jnp.int32(1), {})
    assert run.best == {}
    monitor = jax.jit(experiment.monitor)
    for _ in (1, 2, 3):
        run, metrics = monitor(run, arrays_of(dataset), rows)
        assert set(metrics) == {"test_error", "test_confidence"}
    assert not run.stopped
    assert run.best == {}
    assert run.best_epoch == 0


# Rules to stop


def linear_errors(params, x, y):
    """Share of the rows that softmax regression gets wrong, in float64."""
    logits = np.float64(x) @ np.float64(params["kernel"]) + np.float64(params["bias"])
    return np.mean(logits.argmax(axis=1) != y)


def test_the_training_error_is_measured_on_the_clean_training_rows(dataset):
    config = document(data__num_valid=12) | {"monitor_train": True}
    experiment = Experiment(config, dataset)
    rows = alone(rows_of(config, dataset, [Replica(1, {})]))
    run = experiment.init(jnp.int32(1), {})
    run, metrics = jax.jit(experiment.monitor)(run, arrays_of(dataset), rows)
    train = dataset.train
    expected = linear_errors(
        run.state.params["logits"], train.x[rows["train"]], train.y[rows["train"]]
    )
    assert 0 < expected < 1
    same(metrics["train_error"], expected)
    assert not run.stopped


@pytest.mark.parametrize(("wrong", "stops"), [(0, True), (1, True), (2, False)])
def test_a_stop_at_a_training_error_of_1e_4_is_one_image_in_ten_thousand(wrong, stops):
    x, y = np.zeros((10_000, 1), np.float32), np.zeros(10_000, np.int32)
    y[:wrong] = 1
    dataset = Dataset("zeros", "", {}, Arrays(x, y), Arrays(x[:2], y[:2]), 2, (0.0, 1.0))
    config = document(model__num_classes=2) | {"stop": {"train_error": 0.0001}}
    experiment = Experiment(config, dataset)
    rows = {"train": np.arange(10_000), "valid": np.arange(0)}
    rows["labeled"] = rows["train"]
    run = experiment.init(jnp.int32(1), {})
    says_0 = {"logits": {"kernel": jnp.zeros((1, 2)), "bias": jnp.array([1.0, 0.0])}}
    run = run._replace(state=run.state.replace(params=says_0))
    run, metrics = jax.jit(experiment.monitor)(run, arrays_of(dataset), jnp_tree(rows))
    assert float(metrics["train_error"]) == np.float32(wrong / 10_000)
    assert bool(run.stopped) == stops


@pytest.mark.slow
def test_a_rate_that_was_halved_often_enough_stops_the_training(dataset):
    config = document(optimizer__plateau=PLATEAU, optimizer__learning_rate=0.0)
    config["stop"] = {"train_error": 0.0, "rate_scale": 0.5**3}
    experiment, arrays = Experiment(config, dataset), arrays_of(dataset)
    rows = alone(rows_of(config, dataset, [Replica(1, {})]))
    epoch, monitor = jax.jit(experiment.epoch), jax.jit(experiment.monitor)
    run, stopped = experiment.init(jnp.int32(1), {}), []
    for _ in range(5):
        run, _ = epoch(run, arrays, rows)
        run, _ = monitor(run, arrays, rows)
        stopped.append(bool(run.stopped))
    # At rate 0 the first epoch is the best, and the next three halve the rate.
    assert stopped == [False, False, False, True, True]

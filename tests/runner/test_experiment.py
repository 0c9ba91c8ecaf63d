"""Experiments: rows and their order, early stopping, test statistics, replicas as one program."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adv_jax import evaluate, objectives
from adv_jax.data import Arrays, DataError, Dataset
from adv_jax.runner.config import ConfigError, Replica, replicas, with_values
from adv_jax.runner.experiment import Experiment, rows_of
from adv_jax.runner.program import Program
from adv_jax.step import over_replicas

CLASSES, FEATURES, TRAIN, TEST = 4, 5, 48, 30
# The same sums in another order or fusion: a few float32 roundings.
same = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def dataset():
    """Noisy points around a centre for each class; x[:, 0] is the number of the row."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(CLASSES, FEATURES))

    def arrays(n):
        y = (np.arange(n) * 7 % CLASSES).astype(np.int32)
        x = (centres[y] + rng.normal(size=(n, FEATURES))).astype(np.float32)
        x[:, 0] = np.arange(n)
        return Arrays(x, y)

    return Dataset("points", "made up", {}, arrays(TRAIN), arrays(TEST), CLASSES, (-9.0, 99.0))


def document(**changes):
    """A small legal config; keys of `changes` are paths with __ for the dot."""
    config = {
        "seed": 1,
        "replicas": {"seeds": 1, "grid": None, "shards": 1},
        "data": {"num_valid": 0, "num_labels": 0},
        "model": {"name": "mlp", "features": (), "num_classes": CLASSES},
        "objective": {"name": "cross_entropy"},
        "optimizer": {"name": "sgd", "learning_rate": 0.01, "momentum": 0.5},
        "batch_size": 8,
        "patience": 0,
        "evaluation": {"attacks": {}, "eps": (0.0, 0.5)},
    }
    return with_values(config, {path.replace("__", "."): v for path, v in changes.items()})


def arrays_of(dataset):
    return jax.tree.map(jnp.asarray, dataset.arrays())


def alone(tree, i=0):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


# Rows


def test_rows_are_balanced_disjoint_and_labelled_within_training(dataset):
    config = document(data__num_valid=12, data__num_labels=8)
    rows = rows_of(config, dataset, [Replica(s, {}) for s in (1, 2, 5)])
    sizes = {"train": TRAIN - 12, "valid": 12, "labelled": 8}
    assert {name: chosen.shape for name, chosen in rows.items()} == {
        name: (3, size) for name, size in sizes.items()
    }
    for train, valid, labelled in zip(*rows.values(), strict=True):
        assert sorted([*train, *valid]) == list(range(TRAIN))
        assert set(labelled) < set(train)
        assert len(set(labelled)) == 8
        for chosen in (train, valid, labelled):
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


def test_without_a_number_all_training_rows_are_labelled(dataset):
    rows = rows_of(document(data__num_valid=6), dataset, [Replica(1, {})])
    np.testing.assert_array_equal(rows["labelled"], rows["train"])
    assert rows["train"].shape == (1, TRAIN - 6)
    rows = rows_of(document(), dataset, [Replica(1, {})])
    np.testing.assert_array_equal(rows["labelled"][0], np.arange(TRAIN))
    assert rows["valid"].shape == (1, 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data__num_labels": 6}, "num_labels must be a multiple of num_classes=4 .*, got 6"),
        ({"data__num_labels": 52}, "num_labels must be .* or all 48, got 52"),
        (
            {"data__num_valid": 12, "data__num_labels": 40},
            "num_labels must be .* or all 36, got 40",
        ),
        ({"data__num_valid": TRAIN}, "num_valid must be an integer from 0 to 47, got 48"),
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
        metrics = {"y": batch["y"], "labelled": batch["x"][:, 0]}
        metrics["unlabelled"] = batch["unlabelled"][:, 0]
        loss = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(variables["params"]))
        return loss, ({}, metrics)

    monkeypatch.setattr(objectives, "recorder", recorder, raising=False)
    monkeypatch.setattr(objectives, "__all__", [*objectives.__all__, "recorder"])


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
                    for name in ("y", "labelled", "unlabelled")
                },
            )
        )
    return found


def test_an_epoch_visits_the_permutation_of_its_seed_and_number(dataset, recorder):
    found = visits(dataset, seeds=(1, 3), data__num_valid=8)
    orders = []
    for seed, (rows, metrics) in zip((1, 3), found, strict=True):
        assert metrics["unlabelled"].shape == (2, 5, 8)
        for epoch in range(2):
            key = jax.random.fold_in(jax.random.key(seed), epoch)
            order = rows["train"][jax.random.permutation(key, 40)]
            np.testing.assert_array_equal(metrics["unlabelled"][epoch].ravel(), order)
            assert sorted(order) == sorted(rows["train"])
            orders.append(tuple(order))
    assert len(set(orders)) == 4


def test_with_all_labels_both_halves_of_a_batch_are_the_same_images(dataset, recorder):
    for num_labels in (0, 40):
        [(_, metrics)] = visits(dataset, data__num_valid=8, data__num_labels=num_labels)
        np.testing.assert_array_equal(metrics["labelled"], metrics["unlabelled"])
        np.testing.assert_array_equal(metrics["y"], dataset.train.y[metrics["labelled"]])


def test_few_labels_are_gone_through_equally_often_in_each_epoch(dataset, recorder):
    [(rows, metrics)] = visits(dataset, data__num_labels=12)
    np.testing.assert_array_equal(metrics["y"], dataset.train.y[metrics["labelled"]])
    for epoch in range(2):
        visited = metrics["labelled"][epoch].ravel()
        row, times = np.unique(visited, return_counts=True)
        np.testing.assert_array_equal(row, rows["labelled"])
        assert set(times) == {48 // 12}
        # A label comes back only after all others came.
        for i in range(0, 48, 12):
            assert len(set(visited[i : i + 12])) == 12
        np.testing.assert_array_equal(np.sort(metrics["unlabelled"][epoch].ravel()), np.arange(48))
    assert (metrics["labelled"][0] != metrics["labelled"][1]).any()


def test_labels_that_do_not_divide_the_epoch_differ_by_one_visit_at_most(dataset, recorder):
    [(rows, metrics)] = visits(dataset, data__num_labels=20)
    for visited in metrics["labelled"]:
        _, times = np.unique(visited, return_counts=True)
        assert len(times) == len(rows["labelled"])
        assert sorted(set(times)) == [2, 3]  # 48 visits of 20 rows.


def test_rows_that_fill_no_batch_wait_for_another_epoch(dataset, recorder):
    [(rows, metrics)] = visits(dataset, epochs=3, data__num_valid=5)
    assert metrics["unlabelled"].shape == (3, 5, 8)
    left = [set(rows["train"]) - set(visited.ravel()) for visited in metrics["unlabelled"]]
    assert [len(rest) for rest in left] == [3, 3, 3]
    assert len({frozenset(rest) for rest in left}) > 1


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
    rows["labelled"] = rows["train"]
    arrays = arrays_of(dataset)
    assert experiment.steps_per_epoch == 1  # so that the step is the epoch
    monitor = lambda run: experiment.monitor(run, arrays, jnp_tree(rows))
    return experiment, jax.jit(over_replicas(monitor)), y[5:15]


def jnp_tree(tree):
    return jax.tree.map(jnp.asarray, tree)


def saying(run, classes, epoch):
    """Two replicas whose models always say classes[r]; the kernel marks the epoch."""
    bias = jnp.stack([jnp.eye(5)[c] for c in classes])
    kernel = jnp.full((2, FEATURES, 5), float(epoch))
    params = {"logits": {"bias": bias, "kernel": kernel}}
    return run._replace(state=run.state.replace(params=params, step=jnp.full(2, epoch)))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9),
    st.sampled_from([0, 1, 3]),
)
def test_each_replica_keeps_its_best_model_and_stops_when_patience_is_over(said, patience):
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


def test_without_a_validation_set_nothing_is_kept_and_nothing_stops(dataset):
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


def test_the_training_error_is_that_of_the_clean_rows_to_train_on(dataset):
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
def test_a_training_error_of_one_in_ten_thousand_is_one_image_of_as_many(wrong, stops):
    x, y = np.zeros((10_000, 1), np.float32), np.zeros(10_000, np.int32)
    y[:wrong] = 1
    dataset = Dataset("zeros", "", {}, Arrays(x, y), Arrays(x[:2], y[:2]), 2, (0.0, 1.0))
    config = document(model__num_classes=2) | {"stop": {"train_error": 0.0001}}
    experiment = Experiment(config, dataset)
    rows = {"train": np.arange(10_000), "valid": np.arange(0)}
    rows["labelled"] = rows["train"]
    run = experiment.init(jnp.int32(1), {})
    says_0 = {"logits": {"kernel": jnp.zeros((1, 2)), "bias": jnp.array([1.0, 0.0])}}
    run = run._replace(state=run.state.replace(params=says_0))
    run, metrics = jax.jit(experiment.monitor)(run, arrays_of(dataset), jnp_tree(rows))
    assert float(metrics["train_error"]) == np.float32(wrong / 10_000)
    assert bool(run.stopped) == stops


PLATEAU = {"name": "reduce_on_plateau", "factor": 0.5, "patience": 1}


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
    # Nothing is learnt at the rate 0: the first epoch is the best, the next three halve.
    assert stopped == [False, False, False, True, True]


@pytest.mark.parametrize("shards", [1, 2])
def test_a_stopped_replica_stands_still_while_another_goes_on(dataset, shards):
    if jax.local_device_count() < 2 * shards:
        pytest.skip(f"XLA_FLAGS gives fewer than {2 * shards} devices")
    config = document(
        replicas__grid={"optimizer.learning_rate": (0.01, 1e-6)},
        replicas__shards=shards,
        optimizer__plateau=PLATEAU,
    )
    config["stop"] = {"train_error": 0.5}
    runs = replicas(config)
    rows = rows_of(config, dataset, runs)
    program = Program(Experiment(config, dataset), dataset, rows, runs, shards=shards)
    state, epochs = program.init(), 0
    while not program.fetch(state.stopped)[0]:
        state, _ = program.epoch(state)
        state, _ = program.monitor(state)
        epochs += 1
    assert epochs <= 30
    saved = program.fetch(state)
    assert saved.stopped.tolist() == [True, False]
    assert saved.state.step.tolist() == [epochs * program.steps_per_epoch] * 2
    for _ in (1, 2):
        state, metrics = program.epoch(state)
        assert not metrics["loss"][0].any() and metrics["loss"][1].all()  # it takes no steps
        state, _ = program.monitor(state)
    later = program.fetch(state)
    # What a checkpoint holds of it, the optimizer's state included, is the same bit for bit.
    jax.tree.map(np.testing.assert_array_equal, alone(later), alone(saved))
    assert later.state.step[1] == (epochs + 2) * program.steps_per_epoch
    moved = later.state.params["logits"]["kernel"][1] != saved.state.params["logits"]["kernel"][1]
    assert moved.any()


# Test statistics and evaluation


def ladder_document(**changes):
    config = document(batch_size=10, **changes)
    model = {"name": "ladder", "layers": f"6-{CLASSES}", "noise_std": (0.3, 0.3, 0.3)}
    config["model"] = model | {"activation": "relu"}
    config["objective"] = {"name": "ladder", "weights": (1.0, 0.1, 0.1)}
    return config


def test_test_variables_average_means_and_unbiased_variances_of_labelled_batches(dataset):
    config = ladder_document(data__num_labels=24, data__num_valid=4)
    experiment = Experiment(config, dataset)
    rows = alone(rows_of(config, dataset, [Replica(4, {})]))
    variables = experiment.init(jnp.int32(4), {}).state.variables
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda v: v + rng.normal(size=v.shape).astype(np.float32), variables)
    found = jax.jit(experiment.test_variables)(variables, arrays_of(dataset), rows)
    encoder = jax.tree.map(lambda v: np.asarray(v, float), variables["params"]["encoder"])
    moments = {"mean1": [], "var1": [], "mean2": [], "var2": []}
    for start in (0, 10):  # Four rows fill no batch.
        h = dataset.train.x[rows["labelled"][start : start + 10]].astype(float)
        for layer in (1, 2):
            a = h @ encoder[f"W{layer}"]["kernel"]
            moments[f"mean{layer}"].append(a.mean(0))
            moments[f"var{layer}"].append(a.var(0, ddof=1))
            z = (a - a.mean(0)) / np.sqrt(a.var(0) + 1e-10)
            h = np.maximum(z + encoder[f"beta{layer}"], 0)
    assert found["batch_stats"].keys() == moments.keys()
    for name, values in moments.items():
        assert not np.allclose(*values, rtol=0.01)
        same(found["batch_stats"][name], np.mean(values, axis=0))
    jax.tree.map(np.testing.assert_array_equal, found["params"], variables["params"])


def test_fewer_labels_than_a_batch_are_one_batch(dataset):
    config = ladder_document(data__num_labels=8)
    experiment = Experiment(config, dataset)
    rows = alone(rows_of(config, dataset, [Replica(4, {})]))
    variables = experiment.init(jnp.int32(4), {}).state.variables
    found = experiment.test_variables(variables, arrays_of(dataset), jnp_tree(rows))
    kernel = np.asarray(variables["params"]["encoder"]["W1"]["kernel"], float)
    a = dataset.train.x[rows["labelled"]].astype(float) @ kernel
    same(found["batch_stats"]["mean1"], a.mean(0))
    same(found["batch_stats"]["var1"], a.var(0, ddof=1))


def test_a_model_without_batch_statistics_is_tested_as_it_is(dataset):
    experiment = Experiment(document(), dataset)
    variables = experiment.init(jnp.int32(0), {}).state.variables
    assert experiment.test_variables(variables, {}, {}) is variables


def linear_reference(params, x, y, eps):
    """Accuracy of softmax regression under FGSM of each eps, row by row in float64."""
    w, b = (np.asarray(params["logits"][name], float) for name in ("kernel", "bias"))
    right = np.zeros(len(eps))
    for row, label in zip(x.astype(float), y, strict=True):
        logits = row @ w + b
        p = np.exp(logits - logits.max())
        step = np.sign(w @ (p / p.sum() - np.eye(CLASSES)[label]))
        right += [np.argmax((row + e * step) @ w + b) == label for e in eps]
    return right / len(y)


@pytest.mark.parametrize("num_valid", [0, 8])
def test_evaluation_is_of_the_best_model_if_there_is_one_else_of_the_last(dataset, num_valid):
    config = document(data__num_valid=num_valid)
    config["evaluation"]["attacks"] = {"fgsm": {"name": "fgsm"}, "n": {"name": "uniform_noise"}}
    experiment = Experiment(config, dataset)
    rows = alone(rows_of(config, dataset, [Replica(1, {})]))
    run = experiment.init(jnp.int32(1), {})
    rng = np.random.default_rng(2)
    kernels = rng.normal(size=(2, FEATURES, CLASSES)).astype(np.float32)
    kernels[:, 0] = 0  # The number of the row tells nothing.
    first, last = (
        {"logits": {"kernel": k, "bias": np.zeros(CLASSES, np.float32)}} for k in kernels
    )
    run = run._replace(
        best={"params": first} if num_valid else {}, state=run.state.replace(params=last)
    )
    result = jax.jit(experiment.evaluate)(run, arrays_of(dataset), rows)
    test = dataset.test
    chosen, other = (first, last) if num_valid else (last, first)
    expected = linear_reference(chosen, test.x, test.y, (0.0, 0.5))
    assert expected[0] != linear_reference(other, test.x, test.y, (0.0,))[0]
    same(result.clean.accuracy, expected[0])
    assert set(result.attacks) == {"fgsm", "n"}
    same(result.attacks["fgsm"].accuracy, expected)
    same(result.attacks["n"].accuracy[0], expected[0])


def test_without_attacks_only_clean_measures_are_taken(dataset):
    experiment = Experiment(document(), dataset)
    rows = alone(rows_of(document(), dataset, [Replica(1, {})]))
    run = experiment.init(jnp.int32(1), {})
    result = experiment.evaluate(run, arrays_of(dataset), rows)
    assert result.attacks == {}
    measured = evaluate.clean(
        experiment.logits_fn(run, arrays_of(dataset), rows), dataset.test.x, dataset.test.y
    )
    same(result.clean, measured)


# Replicas as one program


def trained(config, dataset, *, measured=True):
    """(weights, losses, errors, evaluation) of a program, each with the replicas in front."""
    runs = replicas(config)
    rows = rows_of(config, dataset, runs)
    shards = config["replicas"]["shards"]
    program = Program(Experiment(config, dataset), dataset, rows, runs, shards=shards)
    state, losses, errors = program.init(), [], {}
    for _ in (1, 2):
        state, metrics = program.epoch(state)
        losses.append(metrics["loss"])
        if measured:
            state, errors = program.monitor(state)
    fetched = program.fetch(state)
    params = fetched.best["params"] if fetched.best else fetched.state.params
    evaluation = program.evaluate(state) if measured else {}
    return params, np.concatenate(losses, axis=1), errors, evaluation


def test_a_program_of_seeds_and_a_grid_is_each_run_alone(dataset):
    config = document(seed=3, data__num_valid=8, data__num_labels=20)
    attack = {"name": "fgsm", "norm": "l2", "eps": 0.1}
    config["objective"] = {"name": "adversarial_mix", "alpha": 0.5, "attack": attack}
    config["evaluation"]["attacks"] = {"n": {"name": "uniform_noise"}}
    grid = {"objective.attack.eps": (0.1, 1.5), "optimizer.learning_rate": (0.002, 0.01)}
    several = with_values(config, {"replicas.grid": grid, "replicas.seeds": 2})
    together = trained(several, dataset)
    runs = replicas(several)
    assert len(runs) == 8
    # One of them, as each is a program of its own; a grid of eight differs in every loss below.
    bound = with_values(config, runs[5].overrides | {"seed": runs[5].seed})
    jax.tree.map(same, alone(together, 5), alone(trained(bound, dataset)))
    assert len(np.unique(together[1][:, -1])) == 8


def test_shards_of_the_batches_are_one_device_with_all_of_them(dataset):
    if jax.local_device_count() < 4:
        pytest.skip("XLA_FLAGS gives fewer than four devices")
    config = document(replicas__seeds=2, data__num_labels=12)
    whole = trained(config, dataset, measured=False)
    sharded = with_values(config, {"replicas.shards": 2})
    halves = trained(sharded, dataset, measured=False)
    jax.tree.map(same, halves, whole)
    assert whole[1].shape == (2, 2 * TRAIN // 8)


@pytest.fixture
def counted(dataset, monkeypatch):
    """A program of four replicas, and a list that gets an entry whenever an epoch is traced."""
    traces = []

    def counted(apply, variables, batch, *, key):
        traces.append(1)
        return objectives.cross_entropy(apply, variables, batch, key=key)

    monkeypatch.setattr(objectives, "counted", counted, raising=False)
    monkeypatch.setattr(objectives, "__all__", [*objectives.__all__, "counted"])
    config = document(objective__name="counted", replicas__seeds=4)
    runs = replicas(config)
    rows = rows_of(config, dataset, runs)
    return Program(Experiment(config, dataset), dataset, rows, runs, shards=1), traces


def test_after_the_first_epoch_nothing_is_compiled(counted, caplog):
    program, _ = counted

    def epoch(state):
        state, _ = program.epoch(state)
        state, _ = program.monitor(state)
        program.fetch(state)
        return state

    with jax.log_compiles():
        state = epoch(program.init())
        assert "Compiling" in caplog.text  # or this test would see nothing
        caplog.clear()
        epoch(epoch(state))
    assert "Compiling" not in caplog.text


def test_all_epochs_are_one_compilation_and_a_restart_repeats_them_bit_for_bit(counted):
    program, traces = counted
    state, _ = program.epoch(program.init())
    saved, once = program.fetch(state), len(traces)
    assert once > 0
    for _ in (2, 3):
        state, _ = program.monitor(state)
        state, _ = program.epoch(state)
    assert len(traces) == once
    whole = program.fetch(state)
    assert whole.state.step.tolist() == [3 * program.steps_per_epoch] * 4
    state = program.place(saved)
    for _ in (2, 3):
        state, _ = program.epoch(state)
    jax.tree.map(np.testing.assert_array_equal, program.fetch(state), whole)


def test_a_restart_compiles_an_epoch_once(counted):
    program, traces = counted
    state = program.place(program.fetch(program.init()))
    state, _ = program.epoch(state)
    once = len(traces)
    program.epoch(state)
    assert len(traces) == once


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.name", "mpl", "model.name must be one of "),
        ("objective.name", "cross", "objective.name must be one of "),
        ("optimizer.name", "adm", "optimizer.name must be one of adam, sgd, got 'adm'; did you"),
        ("model.feature", 3, "a setting of model.mlp must be one of "),
        (
            "evaluation.attacks",
            {"a": {"name": "fgms"}},
            "evaluation.attacks.a.name must be one of ",
        ),
        (
            "evaluation.attacks",
            {"a": {"name": "fgsm", "esp": 1}},
            "a setting of evaluation.attacks.a.fgsm must be one of ",
        ),
        (
            "objective.attack",
            {"name": "fgsm"},
            "objective.attack.eps must be given, as fgsm needs it",
        ),
        (
            "objective.attack",
            {"name": "fgsm", "eps": 1},
            "a setting of objective.cross_entropy must be",
        ),
        ("model.hidden_init", {"name": "spars"}, "model.hidden_init.name must be one of"),
    ],
)
def test_mistakes_show_when_the_parts_are_built(dataset, path, value, message):
    with pytest.raises(ConfigError) as error:
        Experiment(with_values(document(), {path: value}), dataset)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)

"""Replicas as one program: each is a run alone, and all of them are compiled once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import short_run
from marks import exhaustive_after
from points import PLATEAU, TRAIN, alone, document, same

from adv_jax import objectives
from adv_jax.runner.config.binding import OBJECTIVES
from adv_jax.runner.config.document import with_values
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.run.experiment import Experiment
from adv_jax.runner.run.inputs import rows_of
from adv_jax.runner.run.preflight import check_parts
from adv_jax.runner.run.preparing import prepared
from adv_jax.runner.run.program import Program


def trained(config, dataset, *, measured=True):
    """(weights, losses, errors, evaluation) of a program, each with the replicas in front."""
    runs = replicas(config)
    rows = rows_of(config, dataset, runs)
    shards = config["replicas"]["shards"]
    program = Program(Experiment(config, dataset), dataset, rows, runs, shards=shards)
    state, losses, errors = program.init(), [], {}
    for _ in (1, 2):
        state, metrics = program.epoch(state, 0)
        losses.append(metrics["loss"])
        if measured:
            state, errors = program.monitor(state)
    fetched = program.layout.fetch(state)
    params = fetched.best["params"] if fetched.best else fetched.state.params
    evaluation = program.evaluate(state) if measured else {}
    return params, np.concatenate(losses, axis=1), errors, evaluation


@pytest.mark.slow
def test_a_program_of_seeds_and_a_grid_equals_single_runs(dataset):
    config = document(seed=3, data__num_valid=8, data__num_labels=20)
    attack = {"name": "fgsm", "norm": "l2", "eps": 0.1}
    config["objective"] = {"name": "adversarial_mix", "alpha": 0.5, "attack": attack}
    config["evaluation"]["attacks"] = {"n": {"name": "uniform_noise"}}
    grid = {"objective.attack.eps": (0.1, 1.5), "optimizer.learning_rate": (0.002, 0.01)}
    several = with_values(config, {"replicas.grid": grid, "replicas.seeds": 2})
    together = trained(several, dataset)
    runs = replicas(several)
    assert len(runs) == 8
    # Only one is compared, as each takes a compilation; the eight losses below all differ.
    bound = with_values(config, runs[5].overrides | {"seed": runs[5].seed})
    jax.tree.map(same, alone(together, 5), alone(trained(bound, dataset)))
    assert len(np.unique(together[1][:, -1])) == 8


@pytest.mark.slow
def test_a_program_with_two_shards_equals_one_device(dataset):
    if jax.local_device_count() < 4:
        pytest.skip("XLA_FLAGS gives fewer than four devices")
    config = document(replicas__seeds=2, data__num_labels=12)
    whole = trained(config, dataset, measured=False)
    sharded = with_values(config, {"replicas.shards": 2})
    halves = trained(sharded, dataset, measured=False)
    jax.tree.map(same, halves, whole)
    assert whole[1].shape == (2, 2 * TRAIN // 8)


@pytest.fixture
def traces(monkeypatch):
    """A list that gets an entry whenever an epoch of the objective "counted" is traced."""
    traces = []

    def counted(apply, variables, batch, *, key):
        traces.append(1)
        return objectives.cross_entropy(apply, variables, batch, key=key)

    monkeypatch.setitem(OBJECTIVES, "counted", counted)
    return traces


@pytest.fixture
def counted(dataset, traces):
    """A program of four replicas, and its traces."""
    config = document(objective__name="counted", replicas__seeds=4)
    runs = replicas(config)
    rows = rows_of(config, dataset, runs)
    return Program(Experiment(config, dataset), dataset, rows, runs, shards=1), traces


@pytest.mark.slow
def test_nothing_is_compiled_after_the_first_epoch(counted, caplog):
    program, _ = counted

    def epoch(state):
        state, _ = program.epoch(state, 0)
        state, _ = program.monitor(state)
        program.layout.fetch(state)
        return state

    with jax.log_compiles():
        state = epoch(program.init())
        assert "Compiling" in caplog.text  # or this test would see nothing
        caplog.clear()
        epoch(epoch(state))
    assert "Compiling" not in caplog.text


@pytest.mark.slow
def test_programs_compiled_ahead_in_threads_train_bit_for_bit_as_others(counted, caplog):
    program, traces = counted
    expected = program.epoch(program.init(), 0)
    expected = program.layout.fetch(program.monitor(expected[0])[0]), expected[1]
    program.compile()
    once = len(traces)
    with jax.log_compiles():
        state, metrics = program.epoch(program.init(), 0)
        state, _ = program.monitor(state)
        program.evaluate(state)
        # And from what a checkpoint holds.
        state, _ = program.epoch(program.layout.place(program.layout.fetch(state)), 0)
    assert len(traces) == once
    assert not [line for line in caplog.messages if "epoch" in line or "evaluate" in line]
    saved = program.layout.fetch(program.monitor(program.epoch(program.init(), 0)[0])[0])
    jax.tree.map(np.testing.assert_array_equal, (saved, metrics), expected)


@pytest.mark.slow
def test_all_epochs_compile_once_and_a_restart_repeats_each_bit_for_bit(counted):
    program, traces = counted
    state, _ = program.epoch(program.init(), 0)
    saved, once = program.layout.fetch(state), len(traces)
    assert once > 0
    for _ in (2, 3):
        state, _ = program.monitor(state)
        state, _ = program.epoch(state, 0)
    assert len(traces) == once
    whole = program.layout.fetch(state)
    assert whole.state.step.tolist() == [3 * program.steps_per_epoch] * 4
    state = program.layout.place(saved)
    for _ in (2, 3):
        state, _ = program.epoch(state, 0)
    jax.tree.map(np.testing.assert_array_equal, program.layout.fetch(state), whole)


@pytest.mark.slow
def test_a_run_is_not_traced_again_after_its_check_and_trains_bit_for_bit(dataset, traces):
    config = document(objective__name="counted", replicas__seeds=2, data__num_valid=8, epochs=1)
    runs = replicas(config)
    rows, experiment = rows_of(config, dataset, runs), Experiment(config, dataset)
    checked = check_parts(config, dataset, runs[0], {}, rows=rows)
    once = len(traces)
    assert once > 0
    found = []
    for traced in (checked.functions, None):
        program = Program(experiment, dataset, rows, runs, shards=1, traced=traced)
        state, metrics = program.epoch(program.init(), 0)
        found.append((program.layout.fetch(state), metrics))
        assert (len(traces) > once) == (traced is None)
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_the_functions_of_shards_are_not_those_that_were_checked(dataset):
    config = document(replicas__shards=2, epochs=1)
    runs = replicas(config)
    checked = check_parts(config, dataset, runs[0], {}, rows=rows_of(config, dataset, runs))
    assert checked.functions is None and "loss" in checked.metrics


@pytest.mark.slow
def test_a_prepared_run_replays_what_was_checked_unless_someone_debugs(tmp_path):
    config = short_run.document()
    made = lambda: prepared(config, tmp_path / "run").traced
    assert made() is not None
    with jax.debug_nans(True):
        assert made() is None


@pytest.mark.slow
def test_a_restart_compiles_an_epoch_once(counted):
    program, traces = counted
    state = program.layout.place(program.layout.fetch(program.init()))
    state, _ = program.epoch(state, 0)
    once = len(traces)
    program.epoch(state, 0)
    assert len(traces) == once


@pytest.mark.slow
@pytest.mark.parametrize("shards", exhaustive_after(1, [1, 2]))
def test_a_stopped_replica_stays_constant_while_another_trains(dataset, shards):
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
    while not program.layout.fetch(state.stopped)[0]:
        state, _ = program.epoch(state, 0)
        state, _ = program.monitor(state)
        epochs += 1
    assert epochs <= 30
    saved = program.layout.fetch(state)
    assert saved.stopped.tolist() == [True, False]
    assert saved.state.step.tolist() == [epochs * program.steps_per_epoch] * 2
    for _ in (1, 2):
        state, metrics = program.epoch(state, 0)
        assert not metrics["loss"][0].any() and metrics["loss"][1].all()  # it takes no steps
        state, _ = program.monitor(state)
    later = program.layout.fetch(state)
    # Its part of a checkpoint, with the optimizer's state, stays equal bit for bit.
    jax.tree.map(np.testing.assert_array_equal, alone(later), alone(saved))
    assert later.state.step[1] == (epochs + 2) * program.steps_per_epoch
    moved = later.state.params["logits"]["kernel"][1] != saved.state.params["logits"]["kernel"][1]
    assert moved.any()


@pytest.mark.slow
def test_an_epoch_on_packed_parameters_is_that_on_each_array(dataset):
    config = document(optimizer={"name": "adam", "learning_rate": 0.01})
    run, (rows,) = Experiment(config, dataset), [rows_of(config, dataset, replicas(config))]
    own = jax.tree.map(lambda leaf: leaf[0], rows)
    state, arrays = run.init(jnp.int32(0), {}), dataset.arrays()
    found, expected = (
        jax.jit(partial(run.epoch, packed=packed))(state, arrays, own) for packed in (True, False)
    )
    jax.tree.map(same, found, expected)

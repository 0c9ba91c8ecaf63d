"""The directories of a sweep's trials."""

import json

import numpy as np
import pytest

from adv_jax.types import UserError
from launch import _trials as trials

CONFIG = {
    "experiment": "small",
    "seed": 5,
    "replicas": {"seeds": 2, "grid": {"objective.eps": (0.1, 0.2)}, "shards": 1},
    "objective": {"eps": 0.3},
    "batch_size": 50,
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "trial"
    trials.prepare(path, CONFIG)
    return path


def write_lines(path, lines, torn=""):
    text = "".join(json.dumps(line) + "\n" for line in lines) + torn
    (path / "metrics.jsonl").write_text(text)


def epoch(number, errors, **others):
    return [
        {"epoch": number, "replica": i, "valid_error": error, **others}
        for i, error in errors.items()
    ]


def test_the_value_of_a_point_is_the_mean_over_seeds_of_the_lowest_error(path):
    lines = [
        *epoch(1, {0: 0.5, 1: 0.9, 2: 0.3, 3: 0.9}),
        *epoch(2, {0: 0.6, 1: 0.1, 2: 0.7, 3: 0.4}),
    ]
    write_lines(path, lines, torn='{"epoch": 3, "repl')
    (start, _), (first, early), (last, best) = trials.progress(path, "valid_error")
    assert (start, first) == (0, 1)
    np.testing.assert_allclose(early, [0.7, 0.6])
    # Replicas 0 and 1 are eps .1: (.5 + .1) / 2 = .3; 2 and 3 are eps .2: (.3 + .4) / 2 = .35.
    assert last == 2
    np.testing.assert_allclose(best, [0.3, 0.35])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("5", "must have an epoch and a replica in each line, got 5"),
        ('{"valid_error": 0.1, "replica": 0}', "must have an epoch and a replica in each line"),
        ('{"epoch": 1, "replica": 9, "valid_error": 0.1}', "must have lines of 4 replicas, got in"),
        ('{"epoch": 1, "replica": 0, "valid_error": "x"}', "must have numbers alone, got valid_er"),
    ],
)
def test_a_damaged_line_of_a_trial_is_refused_in_one_line(path, line, says):
    (path / "metrics.jsonl").write_text(f"{line}\n")
    with pytest.raises(UserError, match=says) as refused:
        trials.progress(path, "valid_error")
    assert "metrics.jsonl" in str(refused.value) and "\n" not in str(refused.value)


def test_the_value_of_a_point_is_infinite_before_the_metric_is_measured(path):
    np.testing.assert_array_equal(trials.progress(path, "valid_error")[-1][1], [np.inf, np.inf])
    write_lines(path, [{"epoch": 1, "replica": 0, "loss": 2.0}])
    ((last, best),) = trials.progress(path, "valid_error")
    assert last == 0
    np.testing.assert_array_equal(best, [np.inf, np.inf])


def test_the_status_of_a_trial_follows_from_its_files(path):
    assert trials.status(path) == trials.INTERRUPTED
    (path / "trial.log").write_text("epoch 1\nerror: batch_size is 0\n")
    assert (trials.status(path), trials.failure(path)) == (trials.FAILED, "batch_size is 0")
    assert not trials.is_settled(path)
    (path / "trial.log").write_text("error: batch_size is 0\nepoch 1\n")
    assert trials.status(path) == trials.INTERRUPTED  # It runs again.
    trials.note_stop(path, 3)
    assert trials.status(path) == trials.STOPPED and trials.is_settled(path)
    (path / "result.json").write_text("{}")
    assert trials.status(path) == trials.FINISHED and trials.is_settled(path)


def test_preparing_a_trial_twice_changes_nothing(path):
    before = (path / "config.json").stat().st_mtime_ns
    trials.prepare(path, CONFIG)
    assert (path / "config.json").stat().st_mtime_ns == before
    assert trials.known(path.parent) == [path]


def test_rows_have_a_line_for_each_point_the_best_first_and_the_unmeasured_last(path, tmp_path):
    write_lines(path, epoch(4, {0: 0.5, 1: 0.3, 2: 0.2, 3: 0.4}))
    errors = [0.52, 0.32, 0.22, 0.42]
    result = {"data": {}, "replicas": [{"test_error": error} for error in errors]}
    (path / "result.json").write_text(json.dumps(result))
    failed = tmp_path / "worse"
    trials.prepare(failed, CONFIG | {"batch_size": 70})
    trials.note_failure(failed, "no space")
    rows = trials.table_rows(
        [failed, path], ["batch_size", "objective.eps"], "valid_error", "test_error"
    )
    found = [(row["batch_size"], row["objective.eps"], row["valid_error"]) for row in rows]
    expected = [(50, 0.2, 0.3), (50, 0.1, 0.4), (70, 0.1, None), (70, 0.2, None)]
    assert found == [(b, e, v and pytest.approx(v)) for b, e, v in expected]
    assert [row["test_error"] for row in rows] == pytest.approx([0.32, 0.42, None, None])
    assert [row["status"] for row in rows] == ["finished"] * 2 + ["failed"] * 2
    assert trials.counts([failed, path]) == "1 finished, 1 failed"


def test_the_test_measure_is_that_of_the_results_whatever_the_metric(path, tmp_path):
    assert trials.test_measure([path]) == "test_error"
    write_lines(path, epoch(1, dict.fromkeys(range(4), 0.5)))
    result = {"data": {}, "replicas": [{"test_loss": 90.0}] * 4}
    (path / "result.json").write_text(json.dumps(result))
    measure = trials.test_measure([path])
    rows = trials.table_rows([path], ["objective.eps"], "valid_error", measure)
    assert [row["test_loss"] for row in rows] == [90.0, 90.0]


def test_a_trial_that_was_stopped_early_has_a_test_error_if_that_is_the_metric(path):
    lines = [
        {"epoch": 1, "replica": i, "test_error": e} for i, e in enumerate((0.5, 0.3, 0.2, 0.4))
    ]
    write_lines(path, lines)
    trials.note_stop(path, 1)
    found = [
        row["test_error"]
        for row in trials.table_rows([path], ["objective.eps"], "test_error", "test_error")
    ]
    assert found == pytest.approx([0.3, 0.4])


def test_a_trial_that_has_not_ended_is_listed_after_those_that_have(path, tmp_path):
    """Before it diverged, its error may have been the lowest."""
    for number, error in (("better", 0.1), ("best", 0.05)):
        trials.prepare(tmp_path / number, CONFIG | {"batch_size": 70})
        write_lines(tmp_path / number, epoch(1, dict.fromkeys(range(4), error)))
    trials.note_failure(tmp_path / "best", "loss is inf")
    write_lines(path, epoch(1, dict.fromkeys(range(4), 0.9)))
    (path / "stopped.json").write_text("{}")
    rows = trials.table_rows(trials.known(tmp_path), ["objective.eps"], "valid_error", "test_error")
    assert [row["status"] for row in rows[::2]] == ["stopped early", "failed", "interrupted"]


def test_a_trial_that_has_diverged_runs_apart_if_it_has_several_points(path, tmp_path):
    assert not trials.runs_apart(path)
    trials.note_divergence(path)
    assert trials.runs_apart(path)
    one = tmp_path / "one"
    trials.prepare(one, CONFIG | {"replicas": {"seeds": 3, "grid": {"objective.eps": (0.1,)}}})
    trials.note_divergence(one)
    assert not trials.runs_apart(one)

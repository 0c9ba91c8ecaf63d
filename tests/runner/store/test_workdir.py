"""The workdir: one directory, one config, one process; files whole or not at all."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from adv_jax.runner.store.workdir import (
    Workdir,
    WorkdirError,
    default_path,
    read_config,
    read_metrics,
    read_result,
    writing,
)

CONFIG = {
    "experiment": "test",
    "seed": 0,
    "replicas": {"seeds": 1, "grid": None, "shards": 1},
    "model": {"features": (8, 10)},
}


def test_a_config_with_tuples_is_accepted_again(tmp_path):
    for _ in range(2):
        with Workdir(tmp_path / "a" / "b", CONFIG) as files:
            assert files.result() is None
    written = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert written == CONFIG | {"model": {"features": [8, 10]}}


def test_a_grid_in_another_order_is_another_one(tmp_path):
    grid = {"seed": (1, 2), "epochs": (3, 4)}
    Workdir(tmp_path, {"config": CONFIG, "grid": grid}).__exit__()
    reversed_grid = dict(reversed(grid.items()))
    with pytest.raises(WorkdirError, match=r"grid is \[\('epochs', .* but was \[\('seed', "):
        Workdir(tmp_path, {"config": CONFIG, "grid": reversed_grid})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 3}, "seed is 3 but was 0"),
        ({"model": {"features": (8,)}}, "model.features is [8] but was [8, 10]"),
        ({"model": {}}, "model.features is unset but was [8, 10]"),
        ({"epochs": 2}, "epochs is 2 but was unset"),
        (
            {"replicas": {"seeds": 1, "grid": {"a.b": (0.1,)}, "shards": 1}},
            "replicas.grid is [('a.b', [0.1])] but was None",
        ),
    ],
)
def test_another_config_is_refused_with_the_fields_that_differ(tmp_path, change, says):
    Workdir(tmp_path, CONFIG).__exit__()
    with pytest.raises(WorkdirError, match="holds a run of another config") as caught:
        Workdir(tmp_path, CONFIG | change)
    assert str(caught.value).endswith(f"another config: {says}")
    with Workdir(tmp_path, CONFIG):  # the refusal has changed nothing, and holds no lock
        pass


def test_the_same_grid_in_another_order_is_refused(tmp_path):
    # The order is that of the replicas, whose states would get the settings of others.
    def of(*paths):
        grid = dict.fromkeys(paths, (0.1, 0.2))
        return CONFIG | {"replicas": {"seeds": 1, "grid": grid, "shards": 1}}

    with Workdir(tmp_path, of("a", "b")):
        pass
    with pytest.raises(WorkdirError, match=r"replicas.grid is \[\('b', .* but was \[\('a', "):
        Workdir(tmp_path, of("b", "a"))


def test_the_folder_of_a_sweep_is_not_taken_for_that_of_a_run(tmp_path):
    sweep = {"experiment": "small", "metric": "valid_error", "config": CONFIG, "grid": {}}
    for name, own, other, said in (
        ("sweep", sweep, CONFIG, "a run, got {}, which holds a sweep: its runs are in the folder "),
        ("run", CONFIG, sweep, "a sweep, got {}, which holds a run"),
    ):
        path = tmp_path / name
        with Workdir(path, own):
            pass
        with Workdir(path, own):  # It is resumed.
            pass
        says = f"^workdir must be a new folder or that of {said.format(path)}"
        with pytest.raises(WorkdirError, match=says):
            Workdir(path, other)
    says = "^workdir must be the directory of a run, got .*/sweep, which holds a sweep: its runs"
    with pytest.raises(WorkdirError, match=says):
        read_config(tmp_path / "sweep")


@pytest.mark.parametrize("part", ["checkpoints", "data.json", "metrics.jsonl", "result.json"])
def test_parts_of_a_run_without_its_config_are_refused(tmp_path, part):
    with Workdir(tmp_path, CONFIG):
        (tmp_path / part).touch()
    (tmp_path / "config.json").unlink()
    message = f"must hold a run with its config.json, got {part} alone: choose another one"
    with pytest.raises(WorkdirError, match=message):
        Workdir(tmp_path, CONFIG)
    assert not (tmp_path / "config.json").exists()


def test_a_second_open_of_a_workdir_is_refused_until_the_first_is_closed(tmp_path):
    with (
        Workdir(tmp_path, CONFIG),
        pytest.raises(WorkdirError, match="in use by another") as caught,
    ):
        Workdir(tmp_path, CONFIG)
    assert str(tmp_path) in str(caught.value)
    with Workdir(tmp_path, CONFIG):
        pass


def test_a_killed_process_leaves_no_lock(tmp_path):
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); "
    wait = "print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold + wait, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(WorkdirError, match="in use"):
            Workdir(tmp_path, CONFIG)
        process.kill()
    with Workdir(tmp_path, CONFIG):
        pass


@pytest.mark.parametrize(
    ("name", "read"),
    [("config.json", None), ("result.json", "result"), ("metrics.jsonl", "metrics")],
)
def test_a_damaged_file_of_a_workdir_is_named(tmp_path, name, read):
    with Workdir(tmp_path, CONFIG) as files:
        (tmp_path / name).write_bytes(b'\xff{"half": \n')
        with pytest.raises(WorkdirError, match="is damaged, it is not JSON") as caught:
            getattr(files, read)() if read else files.__exit__() or Workdir(tmp_path, CONFIG)
        assert str(tmp_path / name) in str(caught.value)


REPLICA = '{"test_error": 0.1}'


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("result.json", "[1]", "result.json must be a JSON object, got [1]"),
        ("result.json", "{}", "result.json: data must be a dict, got None"),
        (
            "result.json",
            '{"data": {}, "replicas": 3}',
            "result.json: replicas must be a list of dicts with a test_error or test_loss each, "
            "got 3",
        ),
        (
            "result.json",
            '{"data": {}, "replicas": [{"seed": 1}]}',
            "replicas must be a list of dicts with a test_error or test_loss each, "
            "got [{'seed': 1}]",
        ),
        (
            "result.json",
            f'{{"data": {{}}, "replicas": [{REPLICA}], "warnings": 5}}',
            "result.json: warnings must be a list of texts, got 5",
        ),
        ("result.json", '{"data": {}, "replicas": []}', "test_loss each, got []"),
        (
            "result.json",
            f'{{"data": {{}}, "replicas": [{REPLICA}], "evaluation": 5}}',
            "evaluation must be a dict, got 5",
        ),
        *(
            (
                "result.json",
                f'{{"data": {{}}, "replicas": [{REPLICA}], "evaluation": {curves}}}',
                "evaluation.fgsm must be a dict of eps and the error of each replica at each, got ",
            )
            for curves in (
                *('{"fgsm": 5}', '{"fgsm": {"eps": [0.1]}}'),
                '{"fgsm": {"eps": "x", "error": [[0.1]]}}',
                '{"fgsm": {"eps": [0.1], "error": [[0.1, 0.2]]}}',
                '{"fgsm": {"eps": [0.1], "error": [[0.1], [0.2]]}}',
                '{"fgsm": {"eps": [0.1], "error": [["a"]]}}',
            )
        ),
        (
            "metrics.jsonl",
            '{"epoch": 1, "replica": 0, "loss": "x2"}\n',
            "metrics.jsonl must have numbers alone, got loss 'x2'",
        ),
        (
            "metrics.jsonl",
            '{"epoch": 1, "replica": -1}\n',
            "must have an epoch and a replica in each line, got {'epoch': 1, 'replica': -1}",
        ),
        (
            "metrics.jsonl",
            '{"epoch": 1, "loss": "%s"}\n' % ("x" * 99),
            "must have an epoch and a replica in each line, got {'epoch': 1, 'loss': 'xxx",
        ),
    ],
)
def test_a_file_with_wrong_content_names_the_field_and_the_value(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    read = {"result.json": read_result, "metrics.jsonl": read_metrics}[name]
    with pytest.raises(WorkdirError, match=re.escape(says)) as caught:
        read(tmp_path)
    assert len(str(caught.value)) < len(str(tmp_path)) + 150


def test_metrics_are_rewound_to_an_epoch_and_a_torn_line_is_dropped(tmp_path):
    with Workdir(tmp_path, CONFIG) as files:
        files.rewind_metrics(0)
        for epoch in (1, 2, 3):
            files.append_metrics({"epoch": epoch, "replica": i, "loss": 0.5} for i in range(2))
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"epoch": 2, "rep')
        files.rewind_metrics(2)
        kept = [(line["epoch"], line["replica"]) for line in files.metrics()]
        assert kept == [(1, 0), (1, 1), (2, 0), (2, 1)]
        files.append_metrics([{"epoch": 3, "replica": 0}])
        assert files.metrics()[-1] == {"epoch": 3, "replica": 0}
        files.rewind_metrics(0)
        assert files.metrics() == []


@pytest.mark.parametrize(
    ("logged", "stopped", "lacks"),
    [
        ({0: [1, 2, 3], 1: [1, 2, 3]}, [False, False], None),
        ({0: [1], 1: [1, 2, 3]}, [True, False], None),
        ({0: [1, 2, 3], 1: [1, 2]}, [True, True], None),
        # Lines that a power cut removed at the end or in the middle.
        ({0: [1, 2, 3], 1: [1, 2]}, [False, False], (2, 1, 2, 3)),
        ({0: [1, 3], 1: [1, 2, 3]}, [False, False], (2, 0, 3, 3)),
        ({}, [False], (0, 0, 0, 3)),
        # The first may have stopped so early, the second has not.
        ({0: [1], 1: [1, 2]}, [True, False], (2, 1, 2, 3)),
        ({0: [1, 3], 1: [1, 2, 3]}, [True, False], (2, 0, 3, 3)),
        ({1: [1, 2, 3]}, [True, False], (0, 0, 0, 1)),
        # With the last one that stops the run ends, so that one has reached epoch 3.
        ({0: [1, 2]}, [True], (2, 0, 2, 3)),
    ],
)
def test_metrics_with_fewer_epochs_than_the_checkpoint_are_refused(
    tmp_path, logged, stopped, lacks
):
    with Workdir(tmp_path, CONFIG) as files:
        files.rewind_metrics(0)
        files.check_metrics(0, [False] * len(stopped))
        for i, epochs in logged.items():
            files.append_metrics({"epoch": epoch, "replica": i} for epoch in epochs)
        if lacks is None:
            files.check_metrics(3, stopped)
            return
        with pytest.raises(WorkdirError) as caught:
            files.check_metrics(3, stopped)
    count, i, last, needed = lacks
    assert str(caught.value) == (
        f"{tmp_path / 'metrics.jsonl'} must have a line of replica {i} for each of the epochs 1 to "
        f"{needed}, got {count} lines, the last for epoch {last}; use a new workdir, or delete the "
        "checkpoints of this one"
    )


DATA = {"name": "mnist", "source": "files", "sha256": {"a": "1"}, "sizes": {"train": 3}}


def test_rows_are_restored_and_written_once(tmp_path):
    rows = {"train": np.arange(6, dtype=np.int32).reshape(2, 3), "valid": np.zeros((2, 0), int)}
    with Workdir(tmp_path, CONFIG) as files:
        files.record_data(DATA, rows)
        first = (tmp_path / "rows.npz").stat().st_mtime_ns
        files.record_data(DATA, rows)
    assert (tmp_path / "rows.npz").stat().st_mtime_ns == first
    assert json.loads((tmp_path / "data.json").read_text()) == DATA
    with np.load(tmp_path / "rows.npz") as loaded:
        assert set(loaded) == {"train", "valid"}  # and no entry for an argument of NumPy's
        np.testing.assert_array_equal(loaded["train"], rows["train"])


@pytest.mark.parametrize("content", [b"", b"PK", None], ids=["empty", "torn", "gone"])
def test_rows_that_are_damaged_are_written_again_and_other_rows_refused(tmp_path, content):
    rows = {"train": np.arange(6, dtype=np.int32).reshape(2, 3)}
    file = tmp_path / "rows.npz"
    with Workdir(tmp_path, CONFIG) as files:
        files.record_data(DATA, rows)
        whole = file.read_bytes()
        file.unlink() if content is None else file.write_bytes(content)
        files.record_data(DATA, rows)
        assert file.read_bytes() == whole
        with pytest.raises(WorkdirError, match=r"rows.npz must hold the rows that this"):
            files.record_data(DATA, {"train": rows["train"][:, ::-1]})
    assert file.read_bytes() == whole


def test_other_data_are_refused_with_the_fields_that_differ(tmp_path):
    with Workdir(tmp_path, CONFIG) as files:
        files.record_data(DATA, {})
        other = DATA | {"sha256": {"a": "2"}, "sizes": {"train": 4}}
        with pytest.raises(WorkdirError) as error:
            files.record_data(other, {})
    assert str(error.value) == (
        f"workdir {tmp_path} holds a run on other data: sha256, sizes of {tmp_path / 'data.json'} "
        "differ"
    )
    assert json.loads((tmp_path / "data.json").read_text()) == DATA


def test_a_run_whose_data_document_is_lost_is_not_resumed(tmp_path):
    with Workdir(tmp_path, CONFIG) as files:
        files.record_data(DATA, {})
        files.checkpoints.mkdir()
        (tmp_path / "data.json").unlink()
        with pytest.raises(WorkdirError, match="with checkpoints must have its data.json, got non"):
            files.record_data(DATA | {"sha256": "another"}, {})
    assert not (tmp_path / "data.json").exists()


def test_a_file_in_place_of_the_figures_is_refused_at_the_start(tmp_path):
    (tmp_path / "figures").touch()
    with pytest.raises(WorkdirError, match="figures must be a folder, got a file$"):
        Workdir(tmp_path, CONFIG)


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch):
    with Workdir(tmp_path, CONFIG) as files:
        first = {"data": {}, "replicas": [json.loads(REPLICA)], "seconds": 1}
        files.write_result(first)

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(WorkdirError, match="cannot be written: No space left on device"):
            files.write_result(first | {"seconds": 2})
        assert files.result() == first
    assert not list(tmp_path.glob("*.part"))


def test_writing_names_the_path_of_os_errors_and_passes_others_on(tmp_path):
    says = f"^{tmp_path} cannot be written: Is a directory$"
    with pytest.raises(WorkdirError, match=says), writing(tmp_path):
        tmp_path.open("w")
    with pytest.raises(ZeroDivisionError), writing(tmp_path):
        raise ZeroDivisionError


def test_the_default_path_depends_on_every_field_of_the_config_only():
    path = default_path(CONFIG)
    assert path.parent.name == "runs" and path.name.startswith("test-")
    assert default_path(dict(reversed(CONFIG.items()))) == path
    assert default_path(CONFIG | {"seed": 1}) != path
    assert default_path(CONFIG | {"model": {"features": [8, 10]}}) == path


def test_a_path_without_room_for_the_files_of_a_run_is_refused_at_the_start(tmp_path):
    path = tmp_path
    while len(str(path)) < 4000:
        path /= "x" * 50
    with pytest.raises(WorkdirError, match="cannot be written: File name too long$"):
        Workdir(path, {})
    assert list(tmp_path.iterdir()) == []

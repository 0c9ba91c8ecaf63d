"""Trackers: TensorBoard, MLflow in a folder and wandb offline get the lines of metrics.jsonl."""

import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from urllib.parse import quote

import pytest
import short_run
from short_run import serve

from adv_jax.runner.config.document import ConfigError, with_values
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.run import trackers, training
from adv_jax.runner.run.trackers import Tracked, Trackers
from adv_jax.runner.store.checkpoint import Checkpoints

ROOT = Path(__file__).parents[3]
LINES = [
    {"epoch": epoch, "replica": i, "seed": 3 + i, "loss": 1.0 / (epoch + i), "accuracy": 0.5}
    for epoch in (1, 2, 3)
    for i in (0, 1)
]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in trackers.shared(Path("any")):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def tracked(workdir, *, done=0):
    workdir.mkdir(exist_ok=True)
    config = short_run.document(seeds=2)
    return Tracked(workdir, config, replicas(config), done)


def track(name, workdir, lines, *, done=0):
    """Tracks lines as a run does; returns the warnings."""
    said = []
    with Trackers([name], tracked(workdir, done=done), said.append) as running:
        running.log(lines)
    return said


def stopped_and_resumed(name, workdir):
    """Tracks two epochs, then as a run that has saved only the first; returns the warnings."""
    said = []
    running = Trackers([name], tracked(workdir), said.append)
    running.log(LINES[:4])
    running.__exit__(KeyboardInterrupt)
    return said + track(name, workdir, LINES[2:], done=1)


def numbers(replica):
    """{(metric, epoch): value} of a replica."""
    return {
        (name, line["epoch"]): line[name]
        for line in LINES
        if line["replica"] == replica
        for name in ("loss", "accuracy")
    }


def events(folder: Path) -> list[tuple[str, int, float]]:
    """Returns (tag, step, value) of the event files in a folder, parsed by hand.

    A record is u64 length, u32 CRC, the bytes of a protobuf Event, u32 CRC. In Event, field 2 is
    the step and 5 the summary; in a Summary, 1 is a Value with 1 the tag and 2 a float.
    """
    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = dict(fields(content[12 : 12 + length]))
            content = content[12 + length + 4 :]
            if 5 in event:
                value = dict(fields(dict(fields(event[5]))[1]))
                number = struct.unpack("<f", value[2])[0]
                found.append((value[1].decode(), event.get(2, 0), number))
    return found


def fields(message: bytes):
    """(number, value) of the fields of a protobuf message."""

    def varint(at):
        value, shift = 0, 0
        while True:
            value |= (message[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if message[at - 1] < 0x80:
                return value, at

    at = 0
    while at < len(message):
        key, at = varint(at)
        if key & 7 == 0:
            value, at = varint(at)
        else:
            size, at = varint(at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
            value, at = message[at : at + size], at + size
        yield key >> 3, value


def test_tensorboard_gets_every_number_of_each_replica(tmp_path):
    assert track("tensorboard", tmp_path, LINES) == []
    assert "tensorflow" not in sys.modules
    for i in (0, 1):
        found = events(tmp_path / "tensorboard" / str(i))
        assert {(name, epoch): value for name, epoch, value in found} == pytest.approx(numbers(i))
        assert len(found) == len(numbers(i))


def test_tensorboard_events_mark_the_step_of_a_resumed_run(tmp_path):
    assert stopped_and_resumed("tensorboard", tmp_path) == []
    content = b"".join(f.read_bytes() for f in (tmp_path / "tensorboard" / "0").iterdir())
    # SessionLog (field 7 of Event) with status START (field 1 = 1), at step 2 (field 2 of Event):
    # readers drop what has this step or a later one and was written before.
    assert re.search(rb"\x10\x02\x3a\x02\x08\x01", content)


@pytest.mark.slow
def test_mlflow_has_a_run_for_each_replica_which_a_resumed_run_continues(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    folder = tmp_path / "a net, %20?"
    assert stopped_and_resumed("mlflow", folder) == []
    assert (folder / "mlflow.db").is_file()
    client = mlflow.MlflowClient(f"sqlite:///{quote(str(folder))}/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    found = client.search_runs([experiment.experiment_id], order_by=["params.seed"])
    assert [run.info.run_name for run in found] == [f"{folder.name}/{i}" for i in (0, 1)]
    for i, run in enumerate(found):
        history = {
            (name, metric.step): metric.value
            for name in ("loss", "accuracy")
            for metric in client.get_metric_history(run.info.run_id, name)
        }
        assert history == numbers(i)
        assert len(client.get_metric_history(run.info.run_id, "loss")) == 3  # None twice.
        assert (run.info.status, run.data.tags["group"]) == ("FINISHED", folder.name)
        assert run.data.params["seed"] == str(3 + i)
        assert run.data.params["model.features"] == "[8]"


def test_mlflow_makes_no_experiment_that_it_finds(monkeypatch):
    # A server that is gone is asked once, as its client retries for minutes.
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    errors = SimpleNamespace(MlflowException=RuntimeError)
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", errors)
    tracker, found = object.__new__(trackers.MLflow), SimpleNamespace(experiment_id="7")
    made = lambda name: pytest.fail("It is made.")
    tracker._client = SimpleNamespace(
        get_experiment_by_name=lambda name: found, create_experiment=made
    )
    assert tracker._experiment("small") == "7"


@pytest.mark.slow
def test_the_trials_of_a_sweep_are_one_experiment_of_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, [ROOT, ROOT / "tests" / "support"])))
    for name, value in trackers.shared(tmp_path).items():
        monkeypatch.setenv(name, value)
    program = f"""
import runpy, sys
from pathlib import Path
track = runpy.run_path({__file__!r})["track"]
assert track("mlflow", Path(sys.argv[1]), []) == []"""
    # At the same time, as trials begin: both find no file.
    paths = [str(tmp_path / trial) for trial in ("one", "two")]
    processes = [subprocess.Popen([sys.executable, "-c", program, path]) for path in paths]
    assert [process.wait() for process in processes] == [0, 0]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name(tmp_path.name)
    found = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["group"] for run in found) == ["one", "one", "two", "two"]


def chunks(content: bytes):
    """The records of a .wandb file, a log of LevelDB after 7 bytes: u32 CRC, u16 length, u8 kind.

    A record is whole (kind 1), or has a first, middle and last part (2, 3, 4). No header of a part
    crosses a block of 32 KiB.
    """
    at, record = 7, b""
    while at < len(content):
        if -at % 32768 < 7:
            at += -at % 32768
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield record
            record = b""


def wandb_runs(workdir):
    """{id: ({(metric, epoch): value}, message of the run)} of the offline runs in a workdir."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = {}
    for file in sorted(workdir.glob("wandb/offline-run-*/*.wandb")):
        records: list[Record] = []
        ends = time.monotonic() + 30  # wandb's own process may still write what has ended.
        while not any(record.HasField("exit") for record in records) and time.monotonic() < ends:
            records = [Record.FromString(chunk) for chunk in chunks(file.read_bytes())]
        (run,) = (record.run for record in records if record.HasField("run"))
        values, _ = found.setdefault(run.run_id, ({}, run))
        for record in records:
            for item in record.history.item:
                name = item.key or item.nested_key[0]
                if not name.startswith("_"):
                    values[name, record.history.step.num] = float(item.value_json)
    return found


@pytest.mark.slow
def test_wandb_has_a_run_for_each_replica_which_a_resumed_run_continues(tmp_path):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    assert stopped_and_resumed("wandb", tmp_path / "net") == []
    assert len([*(tmp_path / "net" / "wandb").glob("offline-run-*")]) == 4
    found = wandb_runs(tmp_path / "net")
    assert len(found) == 2
    for i, id in enumerate(sorted(found)):
        values, run = found[id]
        assert values == pytest.approx(numbers(i))
        assert (run.project, run.run_group, run.display_name) == ("small", "net", f"net/{i}")
        config = {item.key or item.nested_key[0]: item.value_json for item in run.config.update}
        assert config["seed"] == str(3 + i)


class Failing:
    """A tracker that takes one line."""

    def __init__(self, run):
        self.lines = []

    def log(self, line):
        if self.lines:
            raise ConnectionError("the server is gone\nand more")
        self.lines.append(line)

    def close(self, *, finished):
        raise AssertionError("It has failed.")


def test_a_tracker_that_fails_is_left_with_one_warning_and_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", (Failing, "numpy"))
    said = []
    with Trackers(["mlflow", "tensorboard"], tracked(tmp_path), said.append) as running:
        running.log(LINES[:2])
        running.log(LINES[2:])
    assert said == [
        "warning: mlflow failed and is left (ConnectionError: the server is gone); metrics.jsonl "
        "has every line"
    ]
    assert len(events(tmp_path / "tensorboard" / "1")) == 6


class Hanging:
    """A tracker that keeps one line, after a while, and then has no answer."""

    kept: ClassVar[list] = []

    def __init__(self, run):
        self.kept.clear()

    def log(self, line):
        time.sleep(0.05 if not self.kept else 3600)
        self.kept.append(line)

    def close(self, *, finished):
        raise AssertionError("It has failed.")


def test_a_tracker_that_hangs_is_left_with_one_warning_and_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "_FOR_A_LINE", 0.5)
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", (Hanging, "numpy"))
    said, began = [], time.monotonic()
    with Trackers(["mlflow", "tensorboard"], tracked(tmp_path), said.append) as running:
        for line in LINES:
            running.log([line])
    assert time.monotonic() - began < 30
    assert said == [
        "warning: mlflow failed and is left (TimeoutError: no answer in 0.5 s); metrics.jsonl has "
        "every line"
    ]
    assert Hanging.kept == LINES[:1]
    assert len(events(tmp_path / "tensorboard" / "1")) == 6


def test_a_tracker_that_exits_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(Failing, "log", lambda *_: sys.exit("no key"))
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", (Failing, "numpy"))
    (said,) = track("mlflow", tmp_path, LINES)
    assert "mlflow failed and is left (RuntimeError: it exited with no key)" in said


@pytest.mark.parametrize("hung", ["__init__", "close"])
def test_a_tracker_that_hangs_at_the_ends_is_left(hung, tmp_path, monkeypatch):
    class AtAnEnd(Failing):
        def close(self, *, finished):
            pass

    monkeypatch.setattr(AtAnEnd, hung, lambda *_, **__: time.sleep(3600))
    monkeypatch.setattr(trackers, "_FOR_THE_REST", 0.5)
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", (AtAnEnd, "numpy"))
    said = track("mlflow", tmp_path, LINES[:1])
    assert len(said) == 1 and "(TimeoutError: no answer in 0.5 s)" in said[0]


@pytest.mark.slow
def test_a_run_whose_tracker_hangs_saves_and_ends(tmp_path):
    program = f"""
import runpy
from adv_jax.runner.run import trackers, training
names = runpy.run_path({__file__!r})
trackers._FOR_A_LINE = 0.5
trackers.TRACKERS["mlflow"] = (names["Hanging"], "numpy")
training.run(names["short_run"].document() | {{"trackers": ("mlflow",)}}, {str(tmp_path / "run")!r})
"""
    environment = {"PYTHONPATH": os.pathsep.join(map(str, [ROOT, ROOT / "tests" / "support"]))}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("warning: mlflow failed and is left") == 1
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.slow
def test_an_epoch_is_tracked_before_it_is_saved(tmp_path, monkeypatch):
    order, save = [], Checkpoints.save

    class Noting(Failing):
        def log(self, line):
            order.append(f"log {line['epoch']}")

        def close(self, *, finished):
            order.append("close")

    def saving(self, epoch, *args):
        order.append(f"save {epoch}")
        return save(self, epoch, *args)

    digits = short_run.few_digits(80, 20)
    serve(monkeypatch, digits)
    monkeypatch.setattr(Checkpoints, "save", saving)
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", (Noting, "numpy"))
    training.run(short_run.document() | {"trackers": ("mlflow",)}, tmp_path)
    assert order == ["log 1", "save 1", "log 2", "save 2", "close"]


@pytest.mark.slow
def test_a_run_whose_tracker_fails_equals_one_without(tmp_path, monkeypatch, capsys):
    digits = short_run.few_digits(80, 20)
    serve(monkeypatch, digits)
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", (Failing, "numpy"))
    plain = short_run.document()
    training.run(plain | {"trackers": ("mlflow",)}, tmp_path / "tracked")
    assert capsys.readouterr().out.count("warning: mlflow failed and is left") == 1
    training.run(plain, tmp_path / "plain")
    short_run.assert_same_run(tmp_path / "tracked", tmp_path / "plain", epochs=2)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ("tensorbord",),
            "an entry of trackers must be one of mlflow, .*; did you mean 'tensorboa",
        ),
        ((3,), "an entry of trackers must be one of mlflow, tensorboard, wandb, got 3"),
        (("mlflow", "mlflow"), "trackers must have each name once, got 'mlflow' twice"),
        (
            ("tensorboard", "wandb"),
            "trackers must be of installed packages, got 'wandb' without wandb: pip ",
        ),
    ],
)
def test_unknown_trackers_and_missing_packages_are_refused_before_a_run(
    names, says, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=says):
        training.run(with_values(short_run.document(), {"trackers": names}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_importing_training_imports_no_tracker():
    packages = "{'mlflow', 'tensorboardX', 'wandb'}"
    program = (
        f"import sys, adv_jax.runner.run.training; sys.exit(bool({packages} & {{*sys.modules}}))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)

"""Files with random damage are read or refused in one line, never with a traceback."""

import collections
import gzip
import random
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from fabricated import finish

import papers.running.trainings
from adv_jax import data
from adv_jax.data import covtype, idx
from adv_jax.runner.store.checkpoint import Checkpoints
from adv_jax.runner.store.verified import digest
from adv_jax.runner.store.workdir import Workdir, read_config, read_fitted, read_metrics
from adv_jax.types import UserError
from papers.pages.report import heading
from papers.running import stored
from papers.running.budget import BUDGETS
from papers.running.comparison import compare
from papers.running.records import read_lines
from papers.running.runs import finished
from papers.running.target import Measure, Row, Run, Target
from papers.running.trainings import check_alike, plan

RESULTS = Path(__file__).parents[2] / "papers"


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Changes one to three bytes, truncates, or inserts bytes."""
    changed = bytearray(content)
    kind = draw.choice(("change", "change", "change", "cut", "insert"))
    if kind == "change":
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(changed))
            changed[at] = draw.choice((draw.randrange(256), changed[at] ^ 1 << draw.randrange(8)))
    elif kind == "cut":
        del changed[draw.randrange(len(changed)) :]
    else:
        changed[(at := draw.randrange(len(changed))) : at] = draw.randbytes(draw.randint(1, 9))
    return bytes(changed)


def fuzz(file, read, count, *, seed=0):
    """Reads a file `count` times with damage, then intact -> counts of "read" and "refused"."""
    content, draw, seen = file.read_bytes(), random.Random(seed), collections.Counter()
    for _ in range(count):
        file.write_bytes(harmed := damaged(content, draw))
        try:
            read()
            seen["read"] += 1
        except UserError as error:
            seen["refused" if str(error) and "\n" not in str(error) else f"{error}"] += 1
        except BaseException as error:
            at = [i for i, (a, b) in enumerate(zip(harmed, content, strict=False)) if a != b][:3]
            raise AssertionError(f"{file}, bytes {at}: {type(error).__name__}: {error}") from error
    file.write_bytes(content)
    read()
    print(file.name, dict(seen))
    assert seen.keys() <= {"read", "refused"}
    return seen


# 5,000 of each format: 5 minutes of one core for this file.
counts = pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.exhaustive)])


@pytest.mark.slow
@counts
@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_idx_files_are_read_or_refused(tmp_path, count, zipped):
    content = struct.pack(">BBBBIII", 0, 0, 8, 3, 9, 4, 5) + random.Random(0).randbytes(180)
    (tmp_path / "images").write_bytes(gzip.compress(content) if zipped else content)

    def read():
        images, _ = idx.read(tmp_path / "images", shape=(4, 5))
        assert images.shape == (9, 4, 5)

    fuzz(tmp_path / "images", read, count)


@counts
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_cifar10_files_are_read_or_refused(tmp_path, count, packed):
    record = bytes([3]) + random.Random(0).randbytes(3072)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for name in names:
        (folder / name).write_bytes(record * 2)
    file = folder / names[2]
    if packed:
        base = tmp_path / "cifar-10-binary"
        file = tmp_path / shutil.make_archive(base, "gztar", tmp_path, folder.name)
        shutil.rmtree(folder)

    def read():
        cifar = data.load("cifar10", source="files", dir=str(tmp_path))
        assert cifar.train.x.shape == (10, 32, 32, 3) and set(cifar.train.y) <= set(range(10))

    fuzz(file, read, count)


@counts
def test_a_damaged_covertype_file_is_read_or_refused(tmp_path, count, monkeypatch):
    monkeypatch.setattr(covtype, "NUM_ROWS", 20)
    line = b"2596,51,3,258,0,510,221,232,148,6279,1," + b"0," * 43
    content = b"".join(line + b"%d\n" % (i % 7 + 1) for i in range(20))
    (tmp_path / "covtype.data").write_bytes(content)

    def read():
        loaded = data.load("covtype", source="files", dir=str(tmp_path))
        assert len(loaded.train.y) == 16 and set(loaded.train.y) <= set(range(7))

    fuzz(tmp_path / "covtype.data", read, count)


CONFIG = {
    "experiment": "test",
    "seed": 0,
    "replicas": {"seeds": 1, "grid": None, "shards": 1},
    "data": {"name": "mnist", "preprocess": ({"name": "zca", "regularizer": 0.1},)},
    "model": {"features": (8, 10)},
}
RESULT = {
    "experiment": "test",
    "data": {"name": "mnist", "source": "files"},
    "replicas": [{"seed": 0, "overrides": {}, "test_error": 0.1, "confidence": 0.9, "epochs": 3}],
    "evaluation": {"fgsm": {"eps": [0.0, 0.1], "error": [[0.1, 0.5]]}},
    "seconds": 1.5,
}
DATA = {"name": "mnist", "source": "files", "sha256": {"a": "1"}, "sizes": {"train": 3}}
ROWS = {"train": np.arange(6, dtype=np.int32).reshape(2, 3)}


@pytest.fixture
def workdir(tmp_path):
    """Returns the workdir of a made-up run of three epochs."""
    fitted = {"0.mean": np.arange(40.0), "0.matrix": np.eye(40)}
    with Workdir(tmp_path / "run", CONFIG) as files:
        files.record_data(DATA, ROWS, fitted)
        files.rewind_metrics(0)
        files.append_metrics({"epoch": e, "replica": 0, "seed": 0, "loss": 1 / e} for e in (1, 2))
        files.write_result(RESULT)
    return files.path


def opened(workdir):
    """Reads the files of a workdir as a run does."""
    with Workdir(workdir, CONFIG) as files:
        files.record_data(DATA, ROWS)
        files.result()
        files.rewind_metrics(2)
        files.check_metrics(2, [False])


@pytest.mark.slow
@counts
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.json", read_config),
        ("config.json", opened),
        ("data.json", opened),
        ("metrics.jsonl", read_metrics),
        ("metrics.jsonl", opened),
        ("preprocess.npz", read_fitted),
        ("result.json", finished),
        ("result.json", opened),
    ],
)
def test_damaged_files_of_a_workdir_are_read_or_refused(workdir, count, name, read):
    seen = fuzz(workdir / name, lambda: read(workdir), count)
    assert seen["refused"] > count / 20


RUN = Run("quickstart", "", {"replicas.seeds": 2, "epochs": 4, "evaluation.eps": (0.0, 0.2)})
TARGET = Target(
    "maronas2016.small",
    "a net that nobody trained",
    rows=(
        Row("last two epochs", RUN, "maronas2016.table5.row1.col1", measure=Measure(last=2)),
        Row("confidence", RUN, measure=Measure("confidence"), metric="confidence"),
        Row("FGSM", RUN, measure=Measure("error", "fgsm", 0.2)),
    ),
)


@pytest.mark.slow
@counts
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "result.json"])
def test_damaged_files_of_a_comparison_are_read_or_refused(tmp_path, count, name):
    """Reads the files of a finished run as `launch.reproduce` does, up to the chart."""
    trainings = plan(TARGET, BUDGETS["paper"], runs=tmp_path, data={})
    (training,) = trainings.values()
    finish(training, lambda replica, eps: 0.1)

    def read():
        result = papers.running.trainings.result_of(training)
        check_alike({training.workdir: result}, more_to_come=False)
        lines = read_lines(training.workdir, training.config, result)
        found = compare(TARGET, BUDGETS["paper"], trainings, {RUN.key: result}, {RUN.key: lines})
        assert heading(found) and np.isfinite([row["mean"] for row in found["rows"]]).all()

    seen = fuzz(training.workdir / name, read, count)
    assert seen["refused"] > count / 20


# 1,500: 5 minutes of one core.
@pytest.mark.slow
@pytest.mark.parametrize("count", [40, pytest.param(1500, marks=pytest.mark.exhaustive)])
def test_a_damaged_checkpoint_is_skipped_or_restored_intact(tmp_path, count):
    """Damages the newest of two checkpoints: one of both is restored as saved."""
    tree = {
        epoch: {"w": np.random.default_rng(epoch).random((20, 3), np.float32), "step": np.int32(9)}
        for epoch in (1, 2)
    }
    with Checkpoints(tmp_path / "whole", kept=2) as checkpoints:
        for epoch in (1, 2):
            checkpoints.save(epoch, tree[epoch], {"seconds": 1.5})
    draw, seen = random.Random(0), collections.Counter()
    for _ in range(count):
        folder = tmp_path / "copy"
        shutil.copytree(tmp_path / "whole", folder)
        files = sorted(f for f in (folder / "2").rglob("*") if f.is_file() and f.stat().st_size)
        file = draw.choice(files)
        file.write_bytes(damaged(file.read_bytes(), draw))
        with Checkpoints(folder, kept=2) as checkpoints:
            found = checkpoints.restore(tree[1])
        where = f"{file.relative_to(folder)}: {found.warnings}"
        assert found.epoch in (1, 2) and digest(found.tree) == digest(tree[found.epoch]), where
        assert (found.epoch == 1) == bool(found.warnings), where
        assert all("\n" not in warning for warning in found.warnings)
        seen[found.epoch] += 1
        shutil.rmtree(folder)
    print("checkpoints", dict(seen))
    assert seen[1] > count / 10


@pytest.mark.slow
@counts
@pytest.mark.parametrize("name", ["fig3.3.json", "runs/shallow_mnist_A.json"])
def test_damaged_results_of_papers_are_read_or_refused(tmp_path, count, name):
    folder = tmp_path / "shallow_thesis/results"
    (folder / "runs").mkdir(parents=True)
    shutil.copy(RESULTS / "shallow_thesis/results" / name, folder / name)
    seen = fuzz(folder / name, lambda: stored.read(tmp_path), count)
    assert seen["refused"] > count / 20

"""The copy of a campaign for another machine: what it takes, and what it refuses."""

import gzip
import io
import json
import resource
import tarfile
import threading

import pytest
from fabricated import finish

from adv_jax.runner.store.writing import locked
from adv_jax.types import UserError
from launch import _carry
from papers.pages.report import reproduce
from papers.running.budget import BUDGETS
from papers.running.target import Row, Run, Target
from papers.running.trainings import plan

RUN = Run("rules_mnist", "", {"replicas.seeds": 3, "evaluation.eps": (0.0, 0.25)})
TARGET = Target("wardefarley2016.made", "made", (Row("row", RUN),))


def archive(files, end=True, kind=tarfile.REGTYPE):
    """Returns the bytes of a plain archive {name: content}."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as members:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            members.addfile(member, io.BytesIO(content))
    return written.getvalue() if end else written.getvalue().rstrip(b"\0")


RUNS = {"runs/a/config.json": b"{}", "runs/a/metrics.jsonl": b"text" * 1000}
WHOLE = archive(RUNS)
PACKED = gzip.compress(WHOLE, mtime=0)  # Workers must collect equal names.


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("carry.tar", b"text", "its end is missing"),
        ("carry.tar", WHOLE[:1024], "its end is missing"),  # ends between two files
        ("carry.tar", WHOLE[:3000], "its end is missing"),
        ("carry.tgz", b"text", "Not a gzipped file"),
        ("carry.tgz", PACKED[: len(PACKED) // 2], "ended before the end-of-stream marker"),
        ("carry.tgz", PACKED[:30] + b"x" * 30 + PACKED[60:], "decompressing"),
        ("carry.tgz", gzip.compress(bytes(1_000_001), mtime=0), "more than 1 MB"),
        ("carry.tar", archive({"../../outside": b"x"}), "outside is no file inside of it"),
        ("carry.tar", archive({"/elsewhere": b"x"}), "elsewhere is no file inside of it"),
        ("carry.tar", archive({"runs/a": b"x"}, kind=tarfile.SYMTYPE), "a is no file inside of it"),
        ("carry.tar", archive({"thesis.txt": b"x"}), "it has thesis.txt"),
        ("carry.tar", archive({"runs/a/thesis.txt": b"x"}), "runs/a has no config.json"),
    ],
)
def test_an_archive_that_this_command_did_not_write_is_refused_in_one_line(
    tmp_path, monkeypatch, name, content, reason
):
    monkeypatch.setattr(_carry, "MAX_BYTES", 1_000_000)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="^--carry must be a folder or an archive") as refused:
        _carry.unpack(tmp_path / name, tmp_path / "runs", tmp_path / "results")
    assert reason in str(refused.value) and "\n" not in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} <= {name, f".{name}.lock"}


@pytest.mark.parametrize("name", ["carry.zip", "carry.tar.bz2", "carry.gz", "carry.json.gz"])
@pytest.mark.parametrize("read", [_carry.unpack, _carry.further])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path, name, read):
    with pytest.raises(UserError) as refused:
        read(tmp_path / name, tmp_path / "runs", tmp_path / "results")
    assert str(refused.value) == (
        "--carry must be a folder, without a suffix if it is new, or an archive (.tar, .tgz, "
        f".tar.gz), got {tmp_path / name}"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["runs", ".", "mine"])
def test_a_folder_with_anything_else_is_never_replaced(tmp_path, folder):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match="^--carry must be "):
        _carry.unpack(tmp_path / folder, tmp_path / "runs", tmp_path / "results")


@pytest.mark.parametrize("name", ["carry", "carry.tar", "carry.tgz", "my.carry.tar.gz"])
def test_a_copy_of_many_small_files_is_not_larger_than_its_limit(tmp_path, name, monkeypatch):
    monkeypatch.setattr(_carry, "MAX_BYTES", 300_000)
    loads = []
    for i in range(20):
        workdir = tmp_path / "runs" / f"run-{i}"
        deep = workdir / "checkpoints/2" / ("deep" * 25)
        deep.mkdir(parents=True)
        (workdir / "config.json").write_text("{}")
        for j in range(9):
            (deep / f"{j}").write_bytes(bytes(4096 if j % 2 else 3000))
        loads.append(_carry.of_run(workdir, float(i), weights=True))
    left = _carry.pack(tmp_path / name, loads)
    files = [path for path in (tmp_path / name, *(tmp_path / name).rglob("*")) if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= 300_000
    # Those that save most time come first.
    kept = _carry.unpack(tmp_path / name, tmp_path / "there", tmp_path / "results")
    assert sorted(kept) == sorted({f"run-{i}" for i in range(20)} - {path.name for path in left})
    assert "run-19" in kept and "run-0" not in kept


@pytest.mark.parametrize("name", ["carry", "carry.tar"])
def test_a_copy_that_cannot_be_written_leaves_the_last_one_and_no_part(tmp_path, name):
    workdir = tmp_path / "runs/run"
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text("{}")
    load = _carry.of_run(workdir, 1.0, weights=False)
    _carry.pack(tmp_path / name, [load])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))  # as a full disk
    try:
        with pytest.raises(UserError, match=f"{name} cannot be written: File too large"):
            _carry.pack(tmp_path / name, [load])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in tmp_path.iterdir()} == {"runs", name}
    assert _carry.unpack(tmp_path / name, tmp_path / "there", tmp_path / "results") == ["run"]


@pytest.mark.slow
def test_a_carried_result_replaces_a_smaller_one_only(tmp_path):
    def written(folder, budget, error):
        for training in plan(TARGET, BUDGETS[budget], runs=tmp_path / folder, data={}).values():
            finish(training, lambda replica, eps: error)
        where = {"runs": tmp_path / folder, "results": tmp_path / folder, "data": {}}
        reproduce(TARGET, BUDGETS[budget], **where)
        return TARGET.file(tmp_path / folder)

    def mean(folder):
        return json.loads(TARGET.file(tmp_path / folder).read_text())["rows"][0]["mean"]

    full, short = written("full", "paper", 0.01), written("short", "short", 0.5)
    for here, there, kept in (("full", short, 1.0), ("new", short, 50.0), ("short", full, 1.0)):
        carry = tmp_path / f"to-{here}.tar"
        _carry.pack(carry, [_carry.of_result(there, there.parents[2])])
        _carry.unpack(carry, tmp_path / "runs", tmp_path / here)
        assert mean(here) == pytest.approx(kept), here
        suffixes = {path.suffix for path in TARGET.file(tmp_path / here).parent.iterdir()}
        assert suffixes == {".json", ".csv", ".png"}


def test_a_second_process_waits_for_the_copy(tmp_path):
    order = []

    def second():
        with _carry.locked_copy(tmp_path / "carry.tar"):
            order.append("second")

    with _carry.locked_copy(tmp_path / "carry.tar"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    with locked(tmp_path / "other"), locked(tmp_path / "carry.tar"):
        pass  # another name is another lock

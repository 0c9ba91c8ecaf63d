"""A file of a workdir emptied, halved or with a flipped bit: one error line or equal results."""

import re
import shutil
import signal
from pathlib import Path

import pytest
from short_run import TINY, assert_same_run

EPOCHS = 3
ARGV = [*TINY[:4], f"--config.epochs={EPOCHS}", "--config.evaluation.eps=(0.0, 0.1)"]
EVALUATE = ["--attacks=fgsm", "--eps=0", "--num_examples=50"]


def emptied(content: bytes) -> bytes:
    return b""


def halved(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    return bytes(changed)


@pytest.fixture(scope="module")
def workdirs(commands, tmp_path_factory):
    """Returns the folder of a finished and a stopped run."""
    folder = tmp_path_factory.mktemp("workdirs")
    assert commands.run(*ARGV, f"--workdir={folder / 'finished'}").status == 0
    process = commands.start(*ARGV, f"--workdir={folder / 'stopped'}")
    process.wait_for("epoch 1/")
    process.signal(signal.SIGTERM)
    assert process.finish().status == 128 + signal.SIGTERM
    return folder


def files(workdir: Path) -> list[Path]:
    """Returns the names of the files with content; of checkpoints only those of the newest."""
    newest = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    found = [path for path in workdir.rglob("*") if path.is_file() and path.stat().st_size]
    kept = [p for p in found if newest in p.parents or "checkpoints" not in str(p.parent)]
    return sorted(path.relative_to(workdir) for path in kept)


# 110 damages, 7 minutes of one core; tests/runner has some.
@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", [emptied, halved, flipped])
@pytest.mark.parametrize("state", ["stopped", "finished"])
def test_a_damaged_file_is_reported_in_one_line_or_changes_no_result(
    commands, workdirs, tmp_path, state, damage
):
    refused = same = 0
    for name in files(workdirs / state):
        workdir = tmp_path / "run"
        shutil.copytree(workdirs / state, workdir)
        (workdir / name).write_bytes(damage((workdir / name).read_bytes()))
        done = commands.run(*ARGV, f"--workdir={workdir}")
        if done.status == 0 and state == "finished":
            assert "holds the finished run" in done.out
            done = commands.run(f"--workdir={workdir}", *EVALUATE, module="adv_jax.evaluate")
        if done.status:
            assert done.status == 1 and re.fullmatch(r"error: [^\n]+\n", done.err), (name, done)
            refused += 1
        else:
            assert done.err == "", (name, done)
            # metrics.jsonl and result.json have no checksum: a number in them may be another one.
            if name.name not in ("metrics.jsonl", "result.json"):
                assert_same_run(workdir, workdirs / "finished", epochs=EPOCHS)
            same += 1
        shutil.rmtree(workdir)
    print(f"{state}, {damage.__name__}: {refused} refused, {same} the same")

"""Checkpoints are restored bit for bit or, if damaged, not at all."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import pytest
import tensorstore
from command_line import ROOT
from marks import exhaustive_after

from adv_jax.runner.store.checkpoint import Checkpoints
from adv_jax.runner.store.verified import digest, reason
from adv_jax.types import UserError


def tree(epoch: int, size: int = 1000) -> dict:
    """Returns arrays of several types and ranks, with -0., NaN and a subnormal."""
    random = np.random.default_rng(epoch)
    return {
        "w": random.normal(size=(size, 3)).astype(np.float32),
        "odd": np.array([-0.0, np.nan, np.inf, 1e-45], np.float32),
        "step": np.int32(epoch),
        "stopped": np.array([True, False]),
        "empty": {},
    }


def saved(folder, *epochs: int, kept: int = 3):
    """Saves `tree(epoch)` of each epoch."""
    with Checkpoints(folder, kept=kept) as checkpoints:
        for epoch in epochs:
            checkpoints.save(epoch, tree(epoch), {"seconds": epoch / 7})
        checkpoints.finish()
    return folder


def restored(folder):
    with Checkpoints(folder, kept=3) as checkpoints:
        return checkpoints.restore(tree(0))


def test_the_newest_checkpoint_is_restored_bit_for_bit(tmp_path):
    found = restored(saved(tmp_path, 1, 2))
    assert (found.epoch, found.notes, found.warnings) == (2, {"seconds": 2 / 7}, [])
    assert digest(found.tree) == digest(tree(2)) != digest(tree(1))
    assert found.tree["odd"].tobytes() == tree(2)["odd"].tobytes()


def test_a_checkpoint_under_the_name_of_another_epoch_is_set_aside(tmp_path):
    saved(tmp_path, 1, 2, 3)
    shutil.rmtree(tmp_path / "3")
    (tmp_path / "2").rename(tmp_path / "3")
    found = restored(tmp_path)
    assert (found.epoch, digest(found.tree)) == (1, digest(tree(1)))
    assert found.warnings == [
        "checkpoint of epoch 3 is damaged and set aside: its folder was renamed, it is of epoch 2"
    ]


def test_an_empty_folder_restores_no_tree(tmp_path):
    assert restored(tmp_path / "new") == (0, None, {}, [])


# Orbax and TensorStore read a pattern, a cloud, a folder or no text in these names.
NAMES = [
    "lr[.1]",
    "a]b",
    "a\\b",
    "**",
    "gs:",
    "\udcff",
    "%41",
    "$HOME",
    "~",
    "a\nb",
    " é漢 ",
    "x" * 255,
]


@pytest.mark.parametrize("name", exhaustive_after(5, NAMES))
def test_checkpoints_in_a_folder_of_any_name_are_restored(tmp_path, name):
    found = restored(saved(tmp_path / name, 1, 2))
    assert (found.epoch, found.warnings) == (2, [])
    assert digest(found.tree) == digest(tree(2))
    assert [path.name for path in tmp_path.iterdir()] == [name]  # Nothing is written elsewhere.


@pytest.mark.slow
def test_checkpoints_are_restored_where_temporary_folders_have_brackets(tmp_path, monkeypatch):
    (tmp_path / "[tmp]").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "[tmp]"))
    assert restored(saved(tmp_path / "lr[.1]", 1, 2)).epoch == 2


@pytest.mark.slow
def test_checkpoints_with_paths_near_the_limit_of_the_system_are_restored(tmp_path):
    folder = tmp_path
    while len(str(folder)) < 3700:
        folder /= "x" * 200
    assert restored(saved(folder, 1, 2)).epoch == 2


@pytest.mark.parametrize("name", exhaustive_after(1, ["tree/manifest.ocdbt", "notes/metadata"]))
def test_a_file_that_cannot_be_opened_is_an_error_and_nothing_is_renamed(tmp_path, name):
    saved(tmp_path, 1, 2)
    file = tmp_path / "2" / name
    kept = file.rename(tmp_path / "kept")
    file.symlink_to(file.name)  # A loop: even root cannot open it.
    where = rf"checkpoint of epoch 2 in {tmp_path} cannot be read: Too many levels of symbolic"
    with pytest.raises(UserError, match=where):
        restored(tmp_path)
    assert (tmp_path / "1").is_dir() and (tmp_path / "2").is_dir()
    kept.replace(file)
    assert restored(tmp_path).epoch == 2


@pytest.mark.slow
def test_the_oldest_checkpoints_are_deleted(tmp_path):
    saved(tmp_path, 1, 2, 3, 4, 5, kept=2)
    assert {path.name for path in tmp_path.iterdir()} == {"4", "5"}


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t | {"w": t["w"] + np.float32(1e-7)},
        lambda t: t | {"w": t["w"].astype(np.float64)},
        lambda t: t | {"w": t["w"].T},
        lambda t: t | {"odd": np.abs(t["odd"])},
        lambda t: {"v" if key == "w" else key: value for key, value in t.items()},
    ],
    ids=["value", "dtype", "shape", "sign of zero", "name"],
)
def test_the_digest_sees_every_change(change):
    assert digest(change(tree(1))) != digest(tree(1))


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, truncate, lambda file: file.unlink()])
def test_damage_to_any_file_restores_an_intact_checkpoint(tmp_path, damage):
    """Damages each file of the newest checkpoint in turn; some files do not matter."""
    saved(tmp_path / "0", 1, 2)
    names = [f.relative_to(tmp_path / "0") for f in (tmp_path / "0" / "2").rglob("*")]
    names = [name for name in names if (tmp_path / "0" / name).is_file()]
    fallen_back = []
    for name in names:
        folder = tmp_path / str(name).replace("/", "_")
        subprocess.run(["cp", "-r", tmp_path / "0", folder], check=True)
        if not (folder / name).stat().st_size:
            continue
        damage(folder / name)
        found = restored(folder)
        assert digest(found.tree) == digest(tree(found.epoch))
        if found.epoch == 1:
            (warning,) = found.warnings
            assert warning.startswith("checkpoint of epoch 2 is damaged and set aside: ")
            assert "\n" not in warning
            assert not (folder / "2").exists()  # so that epoch 2 can be saved again
            assert (folder / "2.damaged").is_dir()  # Nothing is lost that another may read.
            fallen_back.append(name)
        else:
            assert found.epoch == 2 and found.warnings == []
    assert any("/d/" in str(name) for name in fallen_back)  # at least the arrays' own bytes
    assert any("notes" in str(name) for name in fallen_back)


@pytest.mark.slow
def test_an_epoch_can_be_saved_again_after_a_damaged_checkpoint(tmp_path):
    saved(tmp_path, 1, 2)
    for file in (tmp_path / "2").rglob("d/*"):
        flip(file)
    with Checkpoints(tmp_path, kept=3) as checkpoints:
        assert checkpoints.restore(tree(0)).epoch == 1
        checkpoints.save(2, tree(2), {})
        checkpoints.finish()
    assert restored(tmp_path).epoch == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        lambda known: known | {"metriks": 1, "item_hajdlers": 2},
        lambda known: known | {"commit_timestamp_nsecs": 10**40},
        lambda known: known | {"commit_timestamp_nsecs": "x"},
        lambda known: list(known),
    ],
    ids=["unknown names", "a time beyond all", "a time that is none", "no object"],
)
def test_damage_to_the_metadata_of_orbax_is_harmless(tmp_path, changed):
    note = saved(tmp_path, 1, 2) / "2" / "_CHECKPOINT_METADATA"
    note.write_text(json.dumps(changed(json.loads(note.read_text()))))
    found = restored(tmp_path)
    assert (found.epoch, digest(found.tree), found.warnings) == (2, digest(tree(2)), [])
    assert {path.name for path in saved(tmp_path, 3).iterdir()} == {"1", "2", "3"}


def failure(checkpoints):
    """Returns the error message of `check`."""
    try:
        checkpoints.check()
    except UserError as error:
        return str(error)


def test_a_failed_write_is_reported_before_the_next_save(small_disk):
    with Checkpoints(small_disk, kept=5) as checkpoints:
        checkpoints.save(1, tree(1, 300_000), {})
        end = time.monotonic() + 60
        while not (error := failure(checkpoints)):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert "epoch 1 cannot be written: No space left on device" in error
        assert list(small_disk.iterdir()) == []  # What was written of it does not fill the disk.


@pytest.mark.slow
def test_an_error_names_each_checkpoint_if_all_are_damaged(tmp_path):
    saved(tmp_path, 1, 2, 3)
    for file in tmp_path.rglob("d/*"):
        truncate(file)
    found = restored(tmp_path)
    assert (found.epoch, found.tree) == (0, None)
    assert [warning.split()[3] for warning in found.warnings] == ["3", "2", "1"]


def part_of(rows: slice, epoch: int) -> dict:
    whole = {"w": tree(epoch)["w"], "step": np.full(1000, epoch, np.int32)}
    return {name: leaf[rows] for name, leaf in whole.items()}


def saved_by_two(folder, monkeypatch, *epochs: int):
    """Saves rows 0 to 599 of each epoch as process 0, and the others as process 1."""
    parts = [range(600), range(600, 1000)]
    with Checkpoints(folder, kept=3, parts=parts) as first:
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        with Checkpoints(folder, kept=3, parts=parts) as second:
            for epoch in epochs:
                second.save(epoch, part_of(slice(600, 1000), epoch), {"seconds": 1.0})
                second.finish()
                assert not (folder / str(epoch)).exists()  # It is not whole yet.
                monkeypatch.undo()
                first.save(epoch, part_of(slice(600), epoch), {"seconds": 1.0})
                first.finish()
                monkeypatch.setattr(jax, "process_index", lambda: 1)
        monkeypatch.undo()
    return folder


@pytest.mark.slow
def test_the_parts_of_two_processes_are_one_checkpoint(tmp_path, monkeypatch):
    folder = saved_by_two(tmp_path, monkeypatch, 1, 2)
    assert {path.name for path in folder.iterdir()} == {"1", "2"}
    like = part_of(slice(1000), 0)
    with Checkpoints(folder, kept=3) as checkpoints:
        found = checkpoints.restore(like)
        assert (found.epoch, digest(found.tree)) == (2, digest(part_of(slice(1000), 2)))
        assert found.notes == {"seconds": 1.0}
        # As another number of processes resumes.
        some = checkpoints.restore(like, range(500, 700)).tree
        assert digest(some) == digest(part_of(slice(500, 700), 2))
        later = checkpoints.restore_epoch(1, like, range(900, 1000)).tree
        assert digest(later) == digest(part_of(slice(900, 1000), 1))


@pytest.mark.slow
@pytest.mark.parametrize(("part", "damage"), [("600-1000", flip), ("0-600", shutil.rmtree)])
def test_a_checkpoint_with_a_damaged_or_missing_part_is_set_aside(
    tmp_path, monkeypatch, part, damage
):
    damaged = saved_by_two(tmp_path, monkeypatch, 1, 2) / "2" / part
    for path in damaged.rglob("d/*") if damage is flip else [damaged]:
        damage(path)
    with Checkpoints(tmp_path, kept=3) as checkpoints:
        # The parts of other processes count, too.
        found = checkpoints.restore(part_of(slice(1000), 0), range(600))
    assert (found.epoch, digest(found.tree)) == (1, digest(part_of(slice(600), 1)))
    assert found.warnings[0].startswith("checkpoint of epoch 2 is damaged and set aside: ")
    assert (tmp_path / "2.damaged").is_dir()


def test_a_checkpoint_that_lacks_the_part_of_an_ended_process_is_deleted(tmp_path):
    def lose_the_other():
        with Checkpoints(tmp_path, kept=3, parts=[range(600), range(600, 1000)]) as checkpoints:
            checkpoints.save(1, part_of(slice(600), 1), {})
            raise ZeroDivisionError  # As if the other process had ended.

    with pytest.raises(ZeroDivisionError):
        lose_the_other()
    with Checkpoints(tmp_path, kept=3) as checkpoints:
        assert checkpoints.restore(part_of(slice(1000), 0)).epoch == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_kill_during_a_save_leaves_the_previous_checkpoint(tmp_path):
    """Kills a process that saves continuously, at ten moments."""
    paths = [str(ROOT), str(ROOT / "tests/runner/store"), str(ROOT / "tests/support")]
    program = f"""
import sys
sys.path[:0] = {paths}
from pathlib import Path
from test_checkpoint import Checkpoints, tree
with Checkpoints(Path({str(tmp_path)!r}), kept=2) as checkpoints:
    like = tree(0, 200_000)
    first = checkpoints.restore(like).epoch
    for epoch in range(first + 1, 1000):
        checkpoints.save(epoch, tree(epoch, 200_000), {{}})
        checkpoints.finish()
        print(epoch, flush=True)
"""
    random = np.random.default_rng(0)
    last = 0
    for _ in range(3):
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            line = process.stdout.readline()
            time.sleep(random.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
            assert line, process.stderr.read()
        last = int(rest[-1] if rest else line)
        with Checkpoints(tmp_path, kept=2) as checkpoints:
            found = checkpoints.restore(tree(0, 200_000))
        assert found.warnings == []
        assert found.epoch in (last, last + 1)
        assert digest(found.tree) == digest(tree(found.epoch, 200_000))
        assert not list(tmp_path.glob("*.part*"))


@pytest.fixture
def small_disk(mounted):
    """A file system of 2 MB."""
    return mounted("2m")


@pytest.mark.parametrize("surfaces", ["save", "finish", "close"])
def test_a_full_disk_is_reported_in_one_line_and_the_last_checkpoint_stays(
    small_disk, capfd, surfaces
):
    """Orbax writes in the background, so that the error surfaces in the next call."""
    like = tree(0, 40_000)  # 480 kB, and random numbers cannot be compressed

    def fill_the_disk():
        with Checkpoints(small_disk, kept=9) as checkpoints:
            checkpoints.save(1, tree(1, 40_000), {})
            checkpoints.finish()
            checkpoints.save(2, tree(2, 200_000), {})
            if surfaces == "save":
                checkpoints.save(3, tree(3, 40_000), {})
            if surfaces == "finish":
                checkpoints.finish()

    with pytest.raises(UserError) as caught:
        fill_the_disk()
    assert str(caught.value) == (
        f"checkpoint of epoch 2 cannot be written: No space left on device; kept: epoch 1 in "
        f"{small_disk}"
    )
    assert capfd.readouterr().err == ""
    with Checkpoints(small_disk, kept=9) as checkpoints:
        found = checkpoints.restore(like)
        assert found.epoch == 1 and digest(found.tree) == digest(tree(1, 40_000))
        checkpoints.save(2, tree(2, 40_000), {})  # there is space again
        checkpoints.finish()
        assert checkpoints.restore(like).epoch == 2


def test_a_failed_save_does_not_hide_the_error_that_ends_the_run(small_disk):
    def fail():
        with Checkpoints(small_disk, kept=5) as checkpoints:
            checkpoints.save(1, tree(1, 300_000), {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


@pytest.mark.parametrize(
    "change", [{"new": np.zeros(3)}, {"w": np.zeros((999, 3), np.float32)}, {"step": np.float32(0)}]
)
def test_a_tree_of_another_version_is_refused_and_kept(tmp_path, change):
    saved(tmp_path, 1, 2)
    other = tree(0) | change
    with (
        Checkpoints(tmp_path, kept=3) as checkpoints,
        pytest.raises(UserError, match="checkpoint of epoch 2 in .* by another version"),
    ):
        checkpoints.restore(other)
    assert restored(tmp_path).epoch == 2


def test_saving_restores_the_unraisable_hook_and_the_log_level(tmp_path):
    before = sys.unraisablehook, logging.getLogger("absl").level
    saved(tmp_path, 1)
    assert (sys.unraisablehook, logging.getLogger("absl").level) == before


def test_the_cause_of_an_error_stands_in_the_line_however_long_its_path_is(tmp_path):
    folder = tmp_path / ("long" * 60)
    kvstore = {"driver": "file", "path": str(folder)}
    spec = {"driver": "zarr", "kvstore": kvstore, "metadata": {"shape": [3]}, "create": True}
    with pytest.raises(ValueError) as caught:
        tensorstore.open(spec).result()
    said = reason(caught.value)
    assert said.startswith("Error opening") and said.endswith('"dtype" must be specified')
    assert len(said) < 320 and "\n" not in said


def test_checkpoints_that_are_gone_are_not_taken_for_none(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", kept=1) as checkpoints:
        (tmp_path / "checkpoints").rmdir()
        with pytest.raises(
            UserError, match="checkpoints cannot be read: No such file or directory$"
        ):
            checkpoints.restore({})

"""Folders are checked before the work whose results they take."""

import errno
import fcntl
import os
import tempfile
import threading
from pathlib import Path

import pytest

from adv_jax.runner.store.writing import (
    WorkdirError,
    check_file,
    check_writable,
    replace,
    write_files,
)


def test_a_folder_that_does_not_exist_yet_is_writable_and_is_not_made(tmp_path):
    check_writable(tmp_path / "new" / "[folder]")
    assert list(tmp_path.iterdir()) == []
    write_files({tmp_path / "new" / "[folder]" / "file": b"content"})
    assert (tmp_path / "new" / "[folder]" / "file").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("file", "must be a folder, got a file"),
        ("file/below", "cannot be written: Not a directory"),
        ("x" * 256, "cannot be written: File name too long"),
        ("new/" + "x" * 256, "cannot be written: File name too long"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, folder, reason):
    (tmp_path / "file").touch()
    with pytest.raises(WorkdirError, match=f" {reason}$"):
        check_writable(tmp_path / folder)


def test_a_read_only_folder_is_refused_with_the_reason_of_the_system(tmp_path, monkeypatch):
    def refused(*_, **__):  # Root may write everywhere.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(WorkdirError, match="cannot be written: Permission denied$"):
        check_writable(tmp_path)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("folder", "must be a file, got a folder"),
        ("pipe", "must be a file, got a device or a pipe"),
        ("file/below", "must be a folder, got a file"),
        ("new/" + "x" * 251, "cannot be written: File name too long"),  # With .part it has 256.
    ],
)
def test_a_file_that_cannot_be_written_is_refused(tmp_path, file, reason):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WorkdirError, match=f" {reason}$"):
        check_file(tmp_path / file)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, which takes no files")
def test_a_file_system_that_takes_no_files_is_refused():
    with pytest.raises(WorkdirError, match="^/proc/x cannot be written: "):
        check_writable(Path("/proc/x"))


def test_the_longest_name_of_a_file_is_written_and_a_check_leaves_no_file(tmp_path):
    check_file(path := tmp_path / "new" / ("x" * 250))
    assert list(tmp_path.iterdir()) == []
    write_files({path: b"content"})
    check_file(path)
    assert path.read_bytes() == b"content"


def test_files_that_belong_together_change_together_or_not_at_all(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.json"
    write_files({first: b"old a", second: b"old b"})
    (tmp_path / "b.json.part").mkdir()  # The second file cannot be written.
    with pytest.raises(WorkdirError, match="b.json cannot be written: Is a directory$"):
        write_files({first: b"new a", second: b"new b"})
    assert (first.read_bytes(), second.read_bytes()) == (b"old a", b"old b")
    assert not (tmp_path / "a.csv.part").exists()


def test_stale_files_are_deleted_after_those_that_replace_them_are_written(tmp_path):
    new, stale, other = (tmp_path / name for name in ("new", "stale", "other"))
    write_files({new: b"old", stale: b"old", other: b"old"})
    (tmp_path / "new.part").mkdir()
    with pytest.raises(WorkdirError):
        write_files({new: b"new"}, stale=[stale])
    assert stale.exists()
    (tmp_path / "new.part").rmdir()
    write_files({new: b"new"}, stale=[stale, tmp_path / "missing"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "new": b"new",
        "other": b"old",
    }


def test_a_file_that_another_process_is_writing_is_not_mixed_with_ours(tmp_path):
    path, part = tmp_path / "file", tmp_path / "file.part"
    with part.open("ab") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        theirs.write(b"the half of theirs, ")
        theirs.flush()
        ours = threading.Thread(target=replace, args=(path, b"ours"))
        ours.start()
        ours.join(timeout=0.3)
        assert ours.is_alive()  # It waits.
        theirs.write(b"and the rest")
        theirs.flush()
        part.replace(path)
        assert path.read_bytes() == b"the half of theirs, and the rest"
    ours.join()
    assert path.read_bytes() == b"ours"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_overwritten(tmp_path):
    (tmp_path / "file.part").write_bytes(b"a longer content than ours")
    replace(tmp_path / "file", b"ours")
    assert (tmp_path / "file").read_bytes() == b"ours"


def test_writers_of_the_same_files_in_another_order_do_not_wait_for_each_other_forever(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"

    def write(paths, content):
        for _ in range(50):
            write_files(dict.fromkeys(paths, content))

    writers = [
        threading.Thread(target=write, args=(paths, content), daemon=True)
        for paths, content in (((first, second), b"forth"), ((second, first), b"back"))
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=30)
        assert not writer.is_alive()
    assert first.read_bytes() == second.read_bytes()

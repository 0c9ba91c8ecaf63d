"""Folders are checked before the work whose results they take."""

import os

import pytest

from adv_jax.runner.store.writing import WorkdirError, check_writable, write_file


def test_a_folder_that_does_not_exist_yet_is_writable_and_is_not_made(tmp_path):
    check_writable(tmp_path / "new" / "[folder]")
    assert list(tmp_path.iterdir()) == []
    write_file(tmp_path / "new" / "[folder]" / "file", b"content")
    assert (tmp_path / "new" / "[folder]" / "file").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("file", "File exists"),
        ("file/below", "Not a directory"),
        ("x" * 256, "File name too long"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, folder, reason):
    (tmp_path / "file").touch()
    with pytest.raises(WorkdirError, match=f"cannot be written: {reason}$"):
        check_writable(tmp_path / folder)


def test_a_read_only_folder_is_refused_with_the_reason_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # Root may write everywhere.
    with pytest.raises(WorkdirError, match="cannot be written: Permission denied$"):
        check_writable(tmp_path)

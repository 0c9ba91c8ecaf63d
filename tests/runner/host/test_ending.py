"""Ctrl-C, and standard output that cannot be written: no traceback, no saved epoch is lost."""

import contextlib
import errno
import os
import re
import signal

import pytest
from marks import exhaustive_after
from short_run import TINY, assert_same_run

from adv_jax.runner.host.ending import without_traceback

FULL = "error: standard output cannot be written: No space left on device\n"
COMMANDS = {
    "adv_jax": "--help",
    "adv_jax.main": "--version",
    "adv_jax.evaluate": "--help",
    "adv_jax.report": "--list",
    "launch.reproduce": "--list",
    "launch.join": "--help",
    "launch.sweep": "--version",
}


@contextlib.contextmanager
def pipe():
    """Yields the path of a pipe for another process to write to, and its reading end."""
    reader, writer = os.pipe()
    try:
        with open(reader) as stream:
            yield f"/proc/{os.getpid()}/fd/{writer}", stream
    finally:
        os.close(writer)


@pytest.mark.parametrize("command", exhaustive_after(2, COMMANDS))
def test_a_full_disk_behind_standard_output_is_reported_in_one_line(commands, command):
    done = commands.run(COMMANDS[command], module=command, tty="/dev/full")
    assert (done.status, done.err) == (1, FULL)


@pytest.mark.parametrize("command", exhaustive_after(2, COMMANDS))
def test_a_closed_pipe_ends_a_command_silently_with_the_status_of_sigpipe(commands, command):
    with pipe() as (path, reader):
        reader.close()
        done = commands.run(COMMANDS[command], module=command, tty=path)
    assert (done.status, done.err) == (128 + signal.SIGPIPE, "")


def test_an_error_is_reported_although_the_output_is_a_closed_pipe(commands, tmp_path):
    with pipe() as (path, reader):
        reader.close()
        done = commands.run("--workdir=" + str(tmp_path), module="adv_jax.evaluate", tty=path)
    assert done.status == 1
    assert re.fullmatch(r"error: workdir must be [^\n]+: no config.json\n", done.err)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENAMETOOLONG, errno.ENOSPC])
def test_a_file_that_the_system_refuses_ends_a_command_in_one_line(number):
    with pytest.raises(SystemExit) as ended, without_traceback():
        raise OSError(number, os.strerror(number), "runs/mine")
    assert ended.value.code == f"error: runs/mine cannot be used: {os.strerror(number)}"


def test_a_full_disk_ends_a_command_in_one_line():
    with (
        pytest.raises(SystemExit) as ended,
        without_traceback(),
        open("/dev/full", "w") as file,
    ):
        file.write("x" * 100_000)
    assert ended.value.code == "error: a file cannot be written: No space left on device"


def test_a_missing_file_of_the_program_keeps_its_traceback():
    with pytest.raises(FileNotFoundError), without_traceback():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "adv_jax/lost")


def test_ctrl_c_ends_a_command_in_one_line_with_the_status_of_sigint(capfd):
    def interrupted():
        with without_traceback():
            print("half of the work")
            raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        interrupted()
    assert ended.value.code == 128 + signal.SIGINT
    assert capfd.readouterr() == ("half of the work\n", "stopped\n")


@pytest.mark.slow
def test_a_training_whose_output_breaks_saves_the_epoch_and_resumes(
    commands, uninterrupted, tmp_path
):
    argv = [*TINY, "--config.checkpoint_every=50", f"--workdir={tmp_path / 'run'}"]
    with pipe() as (path, reader):
        process = commands.start(*argv, tty=path)
        while not reader.readline().startswith("epoch 3/"):
            assert process.running()
        reader.close()
        done = process.finish()
    assert (done.status, done.err) == (128 + signal.SIGPIPE, "")
    full = commands.run(*argv, tty="/dev/full")
    assert (full.status, full.err) == (1, FULL)
    resumed = commands.run(*argv)
    assert (resumed.status, resumed.err) == (0, "")
    assert int(re.search(r"resumed after epoch (\d+)\n", resumed.out)[1]) >= 3
    assert_same_run(tmp_path / "run", uninterrupted)

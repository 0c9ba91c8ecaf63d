"""A trial's process ends with the one that has started it, and saves its epoch before."""

import os
import signal
import subprocess
import sys

from command_line import environment

TRIAL = """
import os, signal, sys, time
from launch.trial import end_with

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # As Ray's workers do.
end_with(os.getppid())
told = lambda signum, _: os.write(1, signal.Signals(signum).name.encode() + b" ")
signal.signal(signal.SIGINT, told)
signal.signal(signal.SIGTERM, told)
os.write(1, f"{os.getpid()} ".encode())
end = time.monotonic() + 60
while os.getppid() == int(sys.argv[1]) and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.5)
"""
PARENT = f"""
import os, subprocess, sys, threading, time

subprocess.Popen([sys.executable, "-c", {TRIAL!r}, str(os.getpid())])
threads = [threading.Thread(target=time.sleep, args=(0.3 * i,), daemon=True) for i in range(9)]
for thread in threads:
    thread.start()
time.sleep(60)
"""


def started() -> tuple[subprocess.Popen, int]:
    """A process with threads, and the number of a trial that it has started."""
    command = [sys.executable, "-c", PARENT]
    parent = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE)
    return parent, int(word(parent))


def word(parent: subprocess.Popen) -> bytes:
    """The next one that the trial prints."""
    found = os.read(parent.stdout.fileno(), 1)
    while not found.endswith(b" "):
        found += os.read(parent.stdout.fileno(), 1)
    return found


def test_a_trial_is_told_once_that_its_parent_was_killed():
    """Linux tells it of each thread of the parent: the same signal twice would stop it at once."""
    parent, _ = started()
    parent.kill()
    assert parent.communicate(timeout=60)[0] == b"SIGINT "


def test_a_trial_that_was_asked_to_stop_is_told_by_another_signal():
    parent, trial = started()
    os.kill(trial, signal.SIGTERM)
    assert word(parent) == b"SIGTERM "
    parent.kill()
    assert parent.communicate(timeout=60)[0] == b"SIGINT "

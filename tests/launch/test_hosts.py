"""launch/hosts.sh: it ends after its last process, with the status of one that failed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch" / "hosts.sh"
PROCESS = """
import signal, sys, time
from pathlib import Path

number = int(sys.argv[3].partition("=")[2])

def save(*_):
    time.sleep(0.2 + 0.5 * number)
    Path(f"saved_{number}").touch()
    sys.exit()

signal.signal(signal.SIGTERM, save)
Path(f"started_{number}").touch()
time.sleep(SECONDS)
sys.exit(STATUS if number == 0 else 0)
"""


def started(folder, count, *, seconds=30, status=0):
    own = f"SECONDS, STATUS = {seconds}, {status}"
    (folder / "work.py").write_text(own + PROCESS)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"HOSTS": "localhost " * count, "MODULE": "work", "PATH": path}
    script = subprocess.Popen([str(SCRIPT)], cwd=folder, env=env)
    while len([*folder.glob("started_*")]) < count:
        time.sleep(0.01)
    return script


@pytest.mark.parametrize("count", [1, 2])
def test_after_a_signal_the_script_waits_until_all_processes_have_saved(tmp_path, count):
    script = started(tmp_path, count)
    script.send_signal(signal.SIGTERM)
    assert script.wait(timeout=30) == 128 + signal.SIGTERM
    assert len([*tmp_path.glob("saved_*")]) == count


@pytest.mark.parametrize(("seconds", "status"), [(0, 3), (0.3, 0), (0.3, 3)])
def test_the_status_is_that_of_the_process_that_failed(tmp_path, seconds, status):
    assert started(tmp_path, 2, seconds=seconds, status=status).wait(timeout=30) == status

"""Runs the command line in processes that are forked after the import of JAX.

Most of the time of a short `python -m adv_jax.main` is imports. The server imports JAX once, starts
no backend, and forks a process for each command.
"""

import contextlib
import gc
import json
import os
import pty
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import failing_calls

ROOT = Path(__file__).parents[2]
MODULE = "adv_jax.main"
DEVICE_COUNT = "--xla_force_host_platform_device_count"


def xla_flags(devices: int | None = None) -> str:
    """Returns the XLA_FLAGS of the tests with another number of devices.

    devices: None removes the flag.
    """
    flags = re.sub(rf"{DEVICE_COUNT}=\d+", "", os.environ["XLA_FLAGS"])
    return f"{flags} {DEVICE_COUNT}={devices}" if devices else flags


def free_port() -> int:
    """Returns a port of this machine that no process listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def environment(**changes: str) -> dict[str, str]:
    """Returns the environment of a process that finds this project from any folder."""
    return os.environ | {"XLA_FLAGS": xla_flags(), "PYTHONPATH": str(ROOT)} | changes


def call(
    module: str, *argv: str, cwd: Path = ROOT, prefix: Sequence[str] = (), **env: str
) -> subprocess.CompletedProcess:
    """Runs `python -m MODULE` in a new process with `env`; `prefix` precedes the command."""
    command = [*prefix, sys.executable, "-m", module, *argv]
    env = environment(**env)
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


class Finished(NamedTuple):
    """A finished command; status: the exit status, or minus the signal that ended it."""

    status: int
    out: str
    err: str


class Process:
    """A running command."""

    def __init__(self, server: "Server", pid: int, out: Path, err: Path) -> None:
        self._server, self.pid, self._out, self._err = server, pid, out, err

    def wait_for(self, text: str, *, seconds: float = 120) -> None:
        """Waits until the output contains text."""
        self.wait_until(lambda: text in self._out.read_text(), seconds=seconds)

    def wait_until(self, condition, *, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self._server.status(self.pid) is None, self._err.read_text()
            assert time.monotonic() < end, self._out.read_text() + self._err.read_text()
            time.sleep(0.002)

    def printed(self) -> str:
        return self._out.read_text()

    def running(self) -> bool:
        return self._server.status(self.pid) is None

    def finish(self, *, seconds: float = 180) -> Finished:
        end = time.monotonic() + seconds
        while (status := self._server.status(self.pid)) is None:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"still running: {self._out.read_text()}")
            time.sleep(0.01)
        return Finished(status, self._out.read_text(), self._err.read_text())

    def signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def pause(self) -> None:
        """Stops the process until SIGCONT; returns when all threads have stopped."""
        assert self._server.status(self.pid, pause=True) is None, self._err.read_text()


class Server:
    """Starts commands; `start` and `run` take the arguments after `python -m adv_jax.main`."""

    def __init__(self, scratch: Path, **env: str) -> None:
        """scratch: a folder for its files. env: environment of all its processes."""
        self._scratch, self._count = scratch, 0
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(scratch / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment(JAX_PLATFORMS="cpu", **cache, **env),
            text=True,
        )

    def start(
        self, *argv: str, module: str = MODULE, cwd: Path = ROOT, tty: str = "", **env: str
    ) -> Process:
        self._count += 1
        out, err = (self._scratch / f"{self._count}.{name}" for name in ("out", "err"))
        out.touch()
        err.touch()
        request = {"argv": argv, "cwd": str(cwd), "out": tty or str(out), "err": str(err)}
        return Process(self, self._ask(request | {"module": module, "env": env}), out, err)

    def run(self, *argv: str, **options) -> Finished:
        return self.start(*argv, **options).finish()

    def status(self, pid: int, *, pause: bool = False) -> int | None:
        """Returns the exit status, None if the process is running or stopped by `pause`."""
        return self._ask({"pid": pid, "pause": pause})

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, request: dict) -> int | None:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def serve() -> dict | None:
    """Answers requests until the input ends; returns the request in each forked child."""
    import papers.pages.report  # noqa: F401  loads what all commands need

    gc.freeze()  # else each child collects all imported objects when it exits, for .5 s
    statuses: dict[int, int | None] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "pid" in request:
            pid = request["pid"]
            if statuses[pid] is None:
                if request["pause"]:
                    os.kill(pid, signal.SIGSTOP)
                changed, status = os.waitpid(pid, os.WUNTRACED if request["pause"] else os.WNOHANG)
                if changed and not os.WIFSTOPPED(status):
                    statuses[pid] = os.waitstatus_to_exitcode(status)
            answer = statuses[pid]
        else:
            answer = os.fork()
            if not answer:
                return request
            statuses[answer] = None
        print(json.dumps(answer), flush=True)
    for pid, status in statuses.items():
        if status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return None


def become(request: dict) -> None:
    """Runs the request in this process, as `python -m MODULE` would."""
    flags = os.O_WRONLY | os.O_APPEND
    files = {0: os.devnull, 1: request["out"], 2: request["err"]}
    for number, path in files.items():
        os.dup2(os.open(path, flags if number else os.O_RDONLY), number)
    os.chdir(request["cwd"])
    sys.path.insert(0, request["cwd"])
    os.environ.update(request["env"])
    if blocked := request["env"].get("BLOCKED"):
        sys.modules[blocked] = None  # as if it were not installed
    if settings := request["env"].get("FAILING_CALL"):
        failing_calls.arm(settings)
    if moment := request["env"].get("KILLED_AT"):
        sys.addaudithook(killer(*moment.split(":")))
    sys.argv = [request["module"], *request["argv"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def killer(event: str, name: str):
    """Returns an audit hook that truncates the named file to half and kills the process."""

    def hook(found: str, args: tuple) -> None:
        if found == event and str(args[0]).endswith(name):
            if event == "os.rename" and os.path.isfile(args[0]):
                os.truncate(args[0], os.path.getsize(args[0]) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


@contextlib.contextmanager
def serving(scratch: Path, **env: str) -> Iterator[Server]:
    server = Server(scratch, **env)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def terminal() -> Iterator[tuple[str, Callable[[], str]]]:
    """Yields the name of a terminal, and a function that returns its content at the end.

    Call the function only after the process has opened the terminal.
    """
    ours, theirs = pty.openpty()

    def shown() -> str:
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # that is how a terminal ends
            while chunk := os.read(ours, 1 << 16):
                text += chunk
        return text.decode()

    try:
        yield os.ttyname(theirs), shown
    finally:
        os.close(ours)


if __name__ == "__main__":
    if todo := serve():
        become(todo)

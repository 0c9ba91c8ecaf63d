"""Lists the file operations of a run, and makes one of them fail.

`failing_calls.c` is preloaded into the processes of a `command_line.Server`.
"""

import ctypes
import errno
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest


class Call(NamedTuple):
    """The nth call of a function with a path below the workdir that matches the pattern."""

    name: str
    pattern: str
    nth: int

    def __str__(self) -> str:
        return f"{self.name} {self.pattern} #{self.nth}"


def library(folder: Path) -> Path:
    """Compiles the C library; skips the test without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    path = folder / "failing_calls.so"
    source = Path(__file__).with_suffix(".c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", path, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return path


def request(
    workdir: Path, log: Path, call: Call | None = None, error: str = "EIO", *, lasting: bool = False
) -> dict[str, str]:
    """Returns the environment of a process whose `call` fails; lasting: later calls fail too."""
    name, pattern, nth = call or Call("", "", 0)
    settings = [str(workdir), str(log), name, pattern, nth, getattr(errno, error), lasting]
    return {"FAILING_CALL": json.dumps(settings)}


def arm(settings: str) -> None:
    """Applies a `request` to this process, which has loaded the library."""
    arguments = [os.fsencode(a) if isinstance(a, str) else int(a) for a in json.loads(settings)]
    ctypes.CDLL(None).arm(*arguments)


def calls(log: Path) -> list[Call]:
    """Returns the calls of a log; hashes in names are replaced by an asterisk."""
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for line in log.read_text().splitlines():
        name, _, path = line.removesuffix(" FAILS").partition(" ")
        kind = (name, _without_hashes(path))
        counts[kind] += 1
        found.append(Call(*kind, counts[kind]))
    return found


def has_failed(log: Path) -> bool:
    """Returns whether the failing call was reached."""
    return " FAILS\n" in log.read_text()


def names(folder: Path) -> set[str]:
    """Returns the names of all files below a folder."""
    return {_without_hashes(str(path.relative_to(folder))) for path in folder.rglob("*")}


def _without_hashes(path: str) -> str:
    return re.sub(r"[0-9a-f]{16,}", "*", path)

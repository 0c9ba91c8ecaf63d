"""Keeps the programs that XLA compiles, so that the next command need not compile them again.

They lie in the user's cache folder, in a folder for each kind of processor, since XLA compiles for
the one at hand. JAX does not notice a file that was cut off or changed, and would keep it: here the
digest of each file is written beside it, and `keep_programs` deletes what does not match, and the
oldest programs (JAX limits the folder only with a further package).
"""

import contextlib
import hashlib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import platformdirs
from absl import flags

from adv_jax.runner.store.provenance import cpu

_CACHE = flags.DEFINE_bool(
    "compilation_cache", True, "keep compiled programs in the user's cache folder"
)
MAX_BYTES = 512 * 2**20
# JAX's events before a program is compiled or read, and after it is written.
_STARTED = "/jax/compilation_cache/compile_requests_use_cache"
_COMPILED = "/jax/core/compile/backend_compile_duration"


def keep_programs() -> None:
    """Makes JAX keep its compiled programs, and use those of earlier commands.

    Does nothing with --nocompilation_cache, or where the user has set a folder by JAX's own
    JAX_COMPILATION_CACHE_DIR. A folder that cannot be read or written keeps no program, and stops
    no command.
    """
    if not _CACHE.value or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    kind = hashlib.sha256(cpu().encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("adv_jax") / "compiled" / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tidy(folder, MAX_BYTES)
    except OSError:
        return
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

    compiling: set[int] = set()

    def note_start(event: str, **_: Any) -> None:
        if event == _STARTED:
            compiling.add(threading.get_ident())

    def seal_when_idle(event: str, duration_secs: float, **_: Any) -> None:
        if event == _COMPILED:
            compiling.discard(threading.get_ident())
            if not compiling:  # Else another thread may be writing its program.
                with contextlib.suppress(OSError):
                    seal(folder)

    jax.monitoring.register_event_listener(note_start)
    jax.monitoring.register_event_duration_secs_listener(seal_when_idle)


def seal(folder: Path) -> None:
    """Seals each program: writes its digest, unless it has one.

    A program that another process is just writing gets the digest of a part, and is deleted later.
    """
    for program, digest in _programs(folder):
        if not digest.exists():
            digest.write_text(_digest(program))


def tidy(folder: Path, max_bytes: int) -> None:
    """Deletes programs without the right digest, and the oldest ones above `max_bytes`."""
    left = max_bytes
    newest = sorted(_programs(folder), key=lambda pair: pair[0].stat().st_mtime, reverse=True)
    for program, digest in newest:
        left -= program.stat().st_size
        if left < 0 or not digest.exists() or digest.read_text() != _digest(program):
            program.unlink(missing_ok=True)
            digest.unlink(missing_ok=True)


def _programs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yields each program and the file of its digest."""
    for program in folder.glob("*-cache"):
        yield program, program.with_name(f"{program.name}.sha256")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

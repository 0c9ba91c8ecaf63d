"""Counts the programs that XLA compiles, and drops those that a process keeps."""

import contextlib
from pathlib import Path

import jax

MAPPINGS = Path("/proc/self/maps")
MAX_MAPPINGS = 4_000  # of 65,530 that a process may have; a program takes five, and a megabyte


def forget_programs():
    """Drops compiled programs if there are many, as Linux limits the mappings of a process."""
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MAX_MAPPINGS:
        jax.clear_caches()


@contextlib.contextmanager
def counted():
    """Returns a list that grows by one with each program that XLA compiles."""
    compiled = []

    def listen(event, _, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield compiled
    jax.monitoring.unregister_event_duration_listener(listen)

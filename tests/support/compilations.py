"""Counts the programs that XLA compiles."""

import contextlib

import jax


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

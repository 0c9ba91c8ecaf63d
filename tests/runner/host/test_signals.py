"""Signals stop a program at any interrupted call."""

import gc
import os
import signal
import time

import pytest

from adv_jax.runner.host.signals import Interrupted, held_signals, on_signals, stop_at_once


def interrupted():
    os.kill(os.getpid(), signal.SIGTERM)
    wait()


def wait():
    end = time.monotonic() + 5
    while time.monotonic() < end:
        time.sleep(0.01)


def test_a_signal_raises_interrupted_at_once():
    with pytest.raises(Interrupted, match="^stopped by SIGTERM; "), on_signals(stop_at_once):
        interrupted()


def swallow():
    """Drops exceptions, like JAX's cache of compiled programs during a read."""
    try:
        interrupted()
    except Exception:
        return


def test_a_signal_in_code_that_drops_exceptions_is_not_lost():
    with pytest.raises(Interrupted), on_signals(stop_at_once):
        swallow()


class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)


def finalize():
    Finalized()
    wait()


def test_a_signal_in_a_finalizer_is_not_lost(capfd):
    """Python prints and drops what __del__ raises."""
    with pytest.raises(Interrupted), on_signals(stop_at_once):
        finalize()
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_signal_in_the_garbage_collection_is_not_lost(capfd):
    """Python prints and drops what a callback of the collector raises."""
    came = []

    def callback(phase, info):
        if not came:
            came.append(phase)
            os.kill(os.getpid(), signal.SIGTERM)

    def collect():
        gc.collect()
        assert came
        wait()

    gc.callbacks.append(callback)
    try:
        with pytest.raises(Interrupted), on_signals(stop_at_once):
            collect()
    finally:
        gc.callbacks.remove(callback)
    assert capfd.readouterr().err == ""


def test_a_signal_is_held_although_its_message_cannot_be_written(capfd):
    output, full = os.dup(1), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    try:
        with held_signals() as received:
            os.kill(os.getpid(), signal.SIGTERM)
            assert received == [signal.SIGTERM]
    finally:
        os.dup2(output, 1)
        os.close(output)
        os.close(full)

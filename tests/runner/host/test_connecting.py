"""Processes that wait for others."""

import threading

import jax
import pytest

from adv_jax.runner.host import processes
from adv_jax.types import UserError


@pytest.fixture
def connecting(monkeypatch):
    """Replaces what JAX does to connect."""

    def replace(initialize):
        monkeypatch.setattr(jax.config, "update", lambda *_: None)
        monkeypatch.setattr(jax.distributed, "initialize", initialize)
        monkeypatch.setattr(processes, "_NOTICE", 0.05)
        monkeypatch.setattr(processes, "_LONGEST", 0.1)

    return replace


def test_a_process_that_waits_for_others_in_vain_says_so_and_ends_in_one_line(connecting, capsys):
    ends = threading.Event()
    connecting(lambda *_, **__: ends.wait())
    flags = "--coordinator=a:1 --num_processes=2 --process_id=0"
    message = f"^cannot connect {flags}: the other processes have not connected within 0.1 s$"
    with pytest.raises(UserError, match=message):
        processes.connect("a:1", 2, 0)
    ends.set()
    assert capsys.readouterr().out == f"waiting for the other processes: {flags}\n"


def test_the_reason_of_jax_is_the_line_of_an_error(connecting, capsys):
    def refused(*_, **__):
        raise RuntimeError("no such host\nand more")

    connecting(refused)
    with pytest.raises(UserError, match="--process_id=1: no such host$"):
        processes.connect("a:1", 2, 1)
    assert capsys.readouterr().out == ""


def test_processes_that_connect_at_once_say_nothing(connecting, capsys):
    calls = []
    connecting(lambda *args, **_: calls.append(args))
    processes.connect("a:1", 2, 1)
    assert calls == [("a:1", 2, 1)] and capsys.readouterr().out == ""

"""Bars appear on a terminal alone, in calls that last, and can be switched off."""

import contextlib
import io
import threading

import numpy as np
import pytest

from adv_jax import attacks, evaluate
from adv_jax.evaluate import progress
from adv_jax.types import UserError

X, Y = np.array([[1.0, 0.0], [0.2, 0.0]], np.float32), np.array([0, 0])
W = np.array([[1.0, -1.0], [0.0, 0.0]], np.float32)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def without_patience(monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", 0)
    monkeypatch.setenv("TERM", "xterm")


def printed(call, terminal):
    with contextlib.redirect_stderr(terminal):
        call()
    return terminal.getvalue()


def evaluated(**options):
    suite = {"[fgsm]": attacks.fgsm}
    evaluate.evaluate(lambda x: x @ W, X, Y, suite, eps=[0.5], batch_size=1, **options)


def searched(**options):
    evaluate.minimal_eps(lambda x: x @ W, X, Y, attacks.fgsm, high=1.0, num_steps=3, **options)


@pytest.mark.parametrize(
    ("call", "passes"),
    [(evaluated, ("clean", "gradients", "[fgsm]")), (searched, ("bisection", "3/3"))],
)
def test_a_terminal_shows_the_passes_of_a_call_and_is_left_clean(call, passes, capsys):
    text = printed(call, Terminal())
    assert all(name in text for name in passes)
    assert text.endswith("\x1b[2K")  # The last line is erased.
    assert capsys.readouterr().out == ""


def test_a_stream_of_unknown_length_is_counted():
    def call():
        with progress.shown(True) as bars:
            assert list(bars(iter("abc"), "blocks")) == ["a", "b", "c"]
            threading.Event().wait(0.05)

    assert "3/?" in printed(call, Terminal())


def test_nothing_is_shown_by_the_flag_without_a_terminal_or_in_a_short_call(monkeypatch):
    assert printed(lambda: searched(progress=False), Terminal()) == ""
    assert printed(searched, io.StringIO()) == ""
    monkeypatch.setattr(progress, "_PATIENCE", 60)
    assert printed(searched, Terminal()) == ""


def test_an_error_ends_the_bar():
    terminal = Terminal()

    def fails(logits_fn, x, y, *, eps):
        return x * np.nan

    def call():
        evaluate.evaluate(lambda x: x @ W, X, Y, {"fails": fails}, eps=[0.5])

    with pytest.raises(UserError, match="fails must return finite"):
        printed(call, terminal)
    assert terminal.getvalue().endswith("\x1b[2K")


def test_another_progress_is_refused():
    message = r"^progress must be True, False or a function .*, got 'bar'$"
    with pytest.raises(UserError, match=message):
        searched(progress="bar")

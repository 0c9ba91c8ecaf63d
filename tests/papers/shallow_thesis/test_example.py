"""The worked example of the shallow-net thesis, beside back-propagation by hand in NumPy."""

import io

import numpy as np
import oracles
import pytest
from rich.console import Console

from adv_jax.runner.run import log
from papers.judging.arithmetic import agreement
from papers.running import figures
from papers.shallow_thesis import example

W1, W2 = example.PARAMS["W1"], example.PARAMS["W2"]
X1, TARGET = np.array([0.0, 0, 1]), np.array([1.0, 0, 0])


def forward(x, w1=W1, w2=W2, b1=-13.0, b2=0.0):
    """a1, z2, s and p of an input, f64[3] each; eqs. of sec. 2.3."""
    a1 = oracles.sigmoid(x @ w1 + b1)
    z2 = a1 @ w2 + b2
    s = oracles.sigmoid(z2)
    return a1, z2, s, s / s.sum()


def cost(x, y, **params):
    return -np.log(forward(x, **params)[3][y])


@pytest.fixture(scope="module")
def rows():
    return {row.what: row for row in example.rows()}


@pytest.fixture(scope="module")
def stepped():
    """The gradients of delta2 = p - y (eq. 2.13), and the parameters after a step."""
    a1, _, _, p = forward(X1)
    delta2 = p - TARGET
    delta1 = (W2 @ delta2) * a1 * (1 - a1)
    slopes = {"w1": np.outer(X1, delta1), "w2": np.outer(a1, delta2), "b1": delta1, "b2": delta2}
    before = {"w1": W1, "w2": W2, "b1": np.full(3, -13.0), "b2": np.zeros(3)}
    return slopes, {name: before[name] - 0.5 * slopes[name] for name in slopes}


@pytest.mark.slow
def test_the_forward_pass_and_the_costs_are_those_of_numpy(rows):
    a1, z2, s, p = forward(X1)
    squared, entropy = ((TARGET - s) ** 2).sum(), -np.log(p[0])
    for what, expected in {
        "z1 = W1' x1 + b1": [7, -3, -3],
        "a1 = sigmoid(z1)": a1,
        "z2 = W2' a1 + b2": z2,
        "s = sigmoid(z2)": s,
        "p = s / sum(s), in percent": 100 * p,
        "p, in the cross-entropy": p,
        "squared error": squared,
        "cross-entropy -ln p_1": entropy,
        '".011 being lower than .021"': [entropy, squared],
        "C of x1": entropy,
    }.items():
        np.testing.assert_allclose(np.ravel(rows[what].recomputed), np.ravel(expected), rtol=1e-12)


@pytest.mark.slow
def test_the_sgd_step_is_that_of_back_propagation_by_hand(rows, stepped):
    slopes, after = stepped
    names = {"W1": "w1", "W2": "w2", "b1": "b1", "b2": "b2"}
    suffix = {"b1": " = delta1", "b2": " = delta2 = p - y"}
    for ours, name in names.items():
        slope = rows[f"dC/d{ours}{suffix.get(ours, '')}"].recomputed
        np.testing.assert_allclose(slope, slopes[name], rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(rows[f"{ours} new"].recomputed, after[name], rtol=1e-12)
    samples = list(zip(example.X, example.Y, strict=True))
    all_six = lambda **params: np.mean([cost(x, y, **params) for x, y in samples])
    for what, expected in {
        "C of x1 before the step": cost(X1, 0),
        "C of x1 after it": cost(X1, 0, **after),
        "C of all six before": all_six(),
        "C of all six after": all_six(**after),
    }.items():
        assert rows[what].recomputed == pytest.approx(expected, rel=1e-9)


def test_the_adversarial_samples_follow_the_sign_of_the_gradients(rows, stepped):
    delta1 = stepped[0]["b1"]
    sample = X1 + 0.07 * np.sign(W1 @ delta1)
    np.testing.assert_allclose(rows["x1 adversarial"].recomputed[0], sample)
    assert rows["C of x1 adversarial"].recomputed == pytest.approx(cost(sample, 0))
    np.testing.assert_array_equal(rows["sign(W1 (0, .003, .003))"].recomputed, [0, 0, 1])
    # Of the printed cost, by finite differences.
    by_x = oracles.numerical_gradient(lambda x: cost(x, 0), X1)
    by_b2 = oracles.numerical_gradient(lambda b2: cost(X1, 0, b2=b2), np.zeros(3))
    np.testing.assert_allclose(rows["dC/dx, exact"].recomputed[0], by_x, rtol=1e-5)
    np.testing.assert_allclose(rows["dC/db2, exact"].recomputed, by_b2, rtol=1e-5)
    exact = X1 + 0.07 * np.sign(by_x)
    np.testing.assert_allclose(rows["x1 adversarial, exact"].recomputed[0], exact)
    assert rows["C of it"].recomputed == pytest.approx(cost(exact, 0))
    assert rows["C of it"].recomputed > rows["C of x1 adversarial"].recomputed


def test_four_printed_numbers_are_wrong_and_four_are_cut_off(rows):
    by_verdict = lambda word: [what for what, row in rows.items() if row.verdict == word]
    assert by_verdict("wrong") == [
        "z2 = W2' a1 + b2",
        "squared error",
        "cross-entropy -ln p_1",
        '".011 being lower than .021"',
    ]
    assert by_verdict("truncated") == [
        "p = s / sum(s), in percent",
        "p, in the cross-entropy",
        "C of all six before",
        "C of all six after",
    ]
    assert len(by_verdict("right")) == 17 and len(by_verdict("-")) == 5
    _, z2, s, _ = forward(X1)
    assert agreement(rows["z2 = W2' a1 + b2"].printed, 2 * z2) == "right"
    hundredfold = 100 * (0.011**2 + 0.007**2 + 0.007**2)
    assert agreement(rows["squared error"].printed, hundredfold) == "truncated"
    assert agreement(rows["cross-entropy -ln p_1"].printed, -np.log(s[0])) == "right"


def test_the_command_prints_every_number(tmp_path, monkeypatch, capsys):
    printed = io.StringIO()
    monkeypatch.setattr(log, "Console", lambda: Console(file=printed))
    figures.run(["shallow_thesis.example"], out=str(tmp_path))
    text = printed.getvalue()
    for row in example.rows():
        assert row.what in text and row.note in text
        assert all(number in text for number in row.printed.split(" / "))
    assert text.count("wrong") == 4
    assert "17 are right, 4 cut off instead of rounded, 4 wrong" in capsys.readouterr().out
    assert [path.name for path in tmp_path.rglob("*.*")] == ["example.json"]

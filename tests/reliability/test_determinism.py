"""A seed gives the same bits again, and a workdir records enough to train the model again."""

import json

import jax
import numpy as np
import pytest
from command_line import terminal
from short_run import TINY, assert_same_run, document, few_digits, serve

from adv_jax import train
from adv_jax.data import epoch_order
from adv_jax.runner.run import trained


@pytest.fixture(scope="module")
def digits():
    return few_digits(400, 200)


@pytest.fixture
def load_digits(monkeypatch, digits):
    serve(monkeypatch, digits)


# Seconds; tests/test_main.py has fresh processes without a bar.
@pytest.mark.exhaustive
def test_a_fresh_process_with_a_progress_bar_gives_the_same_bits(commands, uninterrupted, tmp_path):
    with terminal() as (tty, shown):
        process = commands.start(*TINY, f"--workdir={tmp_path / 'run'}", tty=tty)
        process.wait_until((tmp_path / "run").exists)  # by then it holds the terminal
        text = shown()
    assert process.finish().status == 0
    assert "━" in text
    assert_same_run(tmp_path / "run", uninterrupted)


# Half a minute; tests/runner/run/test_training.py has the same of 4 replicas.
@pytest.mark.exhaustive
@pytest.mark.usefixtures("load_digits")
def test_each_of_8_replicas_equals_a_single_run_with_the_same_seed(tmp_path, capsys):
    """Equal to 1e-5, as XLA may fuse the program of several replicas differently."""
    train.run(document(seed=3, seeds=8), tmp_path / "eight")
    train.run(document(seed=10), tmp_path / "one")
    ours = trained.load(tmp_path / "eight", replica=7).variables
    theirs = trained.load(tmp_path / "one").variables
    differences = jax.tree.map(lambda our, their: float(abs(our - their).max()), ours, theirs)
    print(f"largest differences of weights: {differences}")
    for our, their in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("load_digits")
def test_the_weights_follow_from_the_recorded_rows_and_the_seed(tmp_path, capsys, digits):
    """Trains softmax regression in NumPy on the batches recorded in the workdir."""
    workdir = tmp_path / "run"
    train.run(document(num_labels=50, features=(), init="zero"), workdir)
    seed = json.loads((workdir / "config.json").read_text())["seed"]
    with np.load(workdir / "rows.npz") as rows:
        labeled = rows["labeled"][0]
    assert len(labeled) == 50
    w, b = np.zeros((784, 10)), np.zeros(10)
    for epoch in (0, 1):
        # Fewer labeled rows than an epoch visits are gone through again in the same order.
        order = np.tile(labeled[np.asarray(epoch_order(seed, epoch, 50))], 8)
        for batch in order.reshape(10, 40):
            x, y = digits.train.x[batch].reshape(40, 784), np.eye(10)[digits.train.y[batch]]
            exp = np.exp(x @ w + b)
            slope = (exp / exp.sum(1, keepdims=True) - y) / 40
            w, b = w - 0.1 * x.T @ slope, b - 0.1 * slope.sum(0)
    params = trained.load(workdir).variables["params"]["logits"]
    np.testing.assert_allclose(params["kernel"], w, atol=1e-5)
    np.testing.assert_allclose(params["bias"], b, atol=1e-5)
    assert np.abs(w).max() > 0.01

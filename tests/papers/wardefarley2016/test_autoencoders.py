"""The figure of autoencoders: its rows, the bound of each seed, and what it refuses."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.data.dataset import Arrays, Dataset
from adv_jax.runner.trained import Trained
from adv_jax.types import Output, UserError
from papers.wardefarley2016 import autoencoders
from papers.wardefarley2016.autoencoders import BETWEEN, BOUND, COLUMNS, SAMPLED

X = np.random.default_rng(0).uniform(size=(20, 2, 2, 1)).astype(np.float32)
DATA = Dataset("drawn", "drawn", {}, Arrays(X, X[:, 0, 0, 0]), Arrays(X, X[:, 0, 0, 0]), 2, None)
SAMPLE = 0.5


def apply(variables, inputs, *, method, key=None):
    """Codes are twice the pixels, images half of the codes plus .1, and samples are constant."""
    del variables, key
    if method == "encode":
        return Output(2 * inputs.reshape(len(inputs), -1), {}, {})
    if method == "decode":
        return Output(inputs.reshape(-1, 2, 2, 1) / 2 + 0.1, {}, {})
    assert method == "sample"
    return Output(jnp.full_like(inputs, SAMPLE), {}, {})


MODEL = Trained(lambda x: x, apply, {}, "loss", DATA, {"seed": 1})


def run_of(name, path="runs/a", losses=(100.0, 102.0)):
    replicas = [{"seed": i, "epochs": 3, "test_loss": loss} for i, loss in enumerate(losses, 1)]
    return SimpleNamespace(
        path=path,
        data="drawn (drawn)",
        config={"model": {"name": name}},
        result={"data": {}, "replicas": replicas},
        models=lambda: [MODEL],
    )


def test_the_rows_are_samples_digits_reconstructions_and_lines_between_codes():
    rows = autoencoders.rows_of(MODEL)
    assert rows.shape == (SAMPLED + 2 + BETWEEN, COLUMNS, 2, 2, 1)
    np.testing.assert_array_equal(rows[:SAMPLED], SAMPLE)
    np.testing.assert_array_equal(rows[SAMPLED], X[:COLUMNS])
    np.testing.assert_allclose(rows[SAMPLED + 1], X[:COLUMNS] + 0.1, rtol=1e-6)
    share = np.linspace(0, 1, COLUMNS)[:, None, None, None]
    for i, row in enumerate(rows[SAMPLED + 2 :]):
        expected = (1 - share) * X[2 * i] + share * X[2 * i + 1] + 0.1
        np.testing.assert_allclose(row, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bounds"), [("vae", {1: -100.0, 2: -102.0}), ("vae_gan", None)])
def test_the_bound_of_a_seed_is_minus_its_test_loss(monkeypatch, name, bounds):
    monkeypatch.setattr(autoencoders, "finished", lambda path: run_of(name))
    drawing = autoencoders.generated(["runs/a"])
    assert drawing.document["by_seed"] == ({BOUND: bounds} if bounds else {})
    assert ("is -101 nats" in drawing.document["caption"]) == (name == "vae")


def test_a_run_of_another_model_is_refused(monkeypatch):
    monkeypatch.setattr(autoencoders, "finished", lambda path: run_of("gan", path))
    with pytest.raises(UserError, match="workdir must be a run of vae or .*, got runs/a$"):
        autoencoders.generated(["runs/a"])

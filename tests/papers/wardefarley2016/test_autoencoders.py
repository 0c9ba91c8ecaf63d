"""The figure of autoencoders: its rows, the bound of each seed, and what it refuses."""

from statistics import NormalDist
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.data.dataset import Arrays, Dataset
from adv_jax.runner.run.trained import Trained
from adv_jax.types import Output, UserError
from papers.running import runs as shared
from papers.wardefarley2016 import autoencoders
from papers.wardefarley2016.autoencoders import BETWEEN, BOUND, COLUMNS, GRID, SAMPLED

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
    replicas = [
        {"seed": i, "overrides": {}, "epochs": 3, "test_loss": loss}
        for i, loss in enumerate(losses, 1)
    ]
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
    monkeypatch.setattr(shared, "finished", lambda path, **_: run_of(name))
    drawing = autoencoders.generated(["runs/a"])
    beside = [axes.get_ylabel() for axes in drawing.figure.axes if axes.get_ylabel()]
    assert beside == [*["sampled"] * 2, "test digits", "reconstructed", *["in between"] * 3]
    assert drawing.document["by_seed"] == ({BOUND: bounds} if bounds else {})
    assert ("is -101 nats" in drawing.document["caption"]) == (name == "vae")


def test_the_error_of_another_autoencoder_is_no_bound(monkeypatch):
    names = {"a": "vae", "b": "adversarial_autoencoder"}
    monkeypatch.setattr(shared, "finished", lambda path, **_: run_of(names[str(path)], path))
    with pytest.raises(UserError, match="workdir must be runs of one model, got a and b"):
        autoencoders.generated(["a", "b"])


def test_a_run_of_another_model_is_refused(monkeypatch):
    monkeypatch.setattr(shared, "finished", lambda path, **_: run_of("gan", path))
    with pytest.raises(UserError, match="workdir must be a run of vae or .*, got runs/a$"):
        autoencoders.generated(["runs/a"])


def plane(**model):
    """A model whose codes are the first row of 2 x 2 images, half of the pixels' values."""
    y = np.arange(20) % 2

    def apply(variables, inputs, *, method):
        del variables
        rows = inputs.reshape(len(inputs), -1)
        code = rows[:, :2] / 2 if method == "encode" else jnp.tile(rows, 2).reshape(-1, 2, 2, 1)
        return Output(code, {}, {})

    data = {"name": "mnist", "source": "files", "sha256": {}, "sizes": {"train": 60_000}}
    about = {"seed": 3, "epochs": 5, "experiment": "vae_mnist", "data": data}
    dataset = DATA._replace(test=Arrays(X, y))
    return Trained(lambda x: x, apply, {}, "loss", dataset, {**about, "model": model})


def test_the_mean_code_of_each_label_is_in_the_document():
    document = autoencoders.code(plane(name="vae", latent=2)).document
    assert document["seed"] == 3 and "5 epochs" in document["caption"]
    for label in (0, 1):
        expected = X[label::2, 0, :, 0].mean(axis=0) / 2
        np.testing.assert_allclose(document["means"][str(label)], expected, rtol=1e-5)


def test_decoded_codes_are_at_quantiles_of_the_prior():
    codes = autoencoders.quantiles().reshape(GRID, GRID, 2)
    ends = [NormalDist().inv_cdf((i + 0.5) / GRID) for i in range(GRID)]
    np.testing.assert_allclose(codes[0, :, 0], ends, rtol=1e-5)  # from left to right
    np.testing.assert_allclose(codes[:, 0, 1], ends[::-1], rtol=1e-5)  # from bottom to top


@pytest.mark.parametrize("model", [{"name": "vae", "latent": 20}, {"name": "gan", "latent": 2}])
def test_a_code_of_other_than_two_values_is_not_drawn(model):
    with pytest.raises(UserError, match="of vae or vae_gan or .* with 2 latent values, got vae_m"):
        autoencoders.code(plane(**model))

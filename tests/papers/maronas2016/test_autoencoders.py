"""The pictures of autoencoders: their numbers, and which runs they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import generative, models
from adv_jax.data import Arrays, Dataset
from adv_jax.generative.objectives.reconstruction import corrupted
from adv_jax.runner.run import trained
from adv_jax.runner.run.trained import Trained
from adv_jax.types import UserError
from papers.maronas2016 import autoencoders

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(12, 4, 3, 1)).astype(np.float32)


def run_of(seed=1, *, name="autoencoder", features=(5, 4), **objective):
    """An untrained autoencoder as a run."""
    settings = {"shape": (4, 3, 1), "features": features, "activation": "sigmoid"}
    model = generative.models.autoencoder(**settings)
    variables = models.init(model, jax.random.key(seed), jnp.asarray(X))
    part = Arrays(X, np.zeros(len(X), np.int32))
    source = {"name": "made up", "source": "made up", "sha256": {}}
    dataset = Dataset(*source.values(), part, part, 2, (0.0, 1.0))
    about = {
        "model": {"name": name, "loss": "cross_entropy", **settings},
        "objective": {"level": "input", **objective},
        "data": source | {"sizes": {"train": len(X)}},
        "seed": seed,
        "epochs": 3,
    }
    return Trained(lambda x: x, models.apply_fn(model), variables, "loss", dataset, about)


def image(run, x, depth=2):
    return run.apply(run.variables, x, depth=depth, method="reconstruct").logits


@pytest.mark.slow
def test_the_losses_of_clean_and_noisy_digits_are_those_of_the_images():
    run = run_of(masking=0.5)
    found = autoencoders.filters(run).document["loss"]
    noisy = corrupted(jnp.asarray(X), jax.random.key(1), masking=0.5)
    for name, x in {"digits": X, "noisy digits": noisy}.items():
        p = np.float64(image(run, x))
        each = -(X * np.log(p) + (1 - X) * np.log(1 - p))
        assert found[name] == pytest.approx(each.sum() / len(X), rel=1e-5)


@pytest.mark.slow
def test_a_run_without_noise_has_no_noisy_digits():
    document = autoencoders.filters(run_of()).document
    assert document["loss"].keys() == {"digits"}
    assert "nats" in document["caption"] and document["seed"] == 1


@pytest.fixture
def load(monkeypatch):
    """Lets `trained.load` find these runs."""
    runs = {
        "stack": run_of(level="stacked"),
        "tuned": run_of(2),
        "deeper": run_of(features=(5, 4, 3)),
        "dbn": run_of(name="dbn"),
    }
    monkeypatch.setattr(trained, "load", runs.__getitem__)
    return runs


@pytest.mark.slow
def test_the_steps_have_the_squared_errors_of_their_images(load):
    found = autoencoders.steps(["stack", "tuned"]).document["squared_error"]
    images = {
        "layer 1": image(load["stack"], X, 1),
        "unrolled: layers 1 to 2": image(load["stack"], X),
        "fine-tuned": image(load["tuned"], X),
    }
    expected = {name: float(np.sum((own - X) ** 2) / len(X)) for name, own in images.items()}
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("workdirs", "says"),
    [
        (["stack"], "workdir must be a stack and the run that started from it, got stack"),
        (["stack", "dbn"], "workdir dbn must be a run of an autoencoder, got dbn"),
        (["tuned", "stack"], "workdir must begin with a run of level stacked, got tuned"),
        (["stack", "deeper"], "workdir must be runs of the same net, got stack, deeper"),
    ],
)
def test_runs_that_are_not_the_steps_are_refused(load, workdirs, says):
    with pytest.raises(UserError) as error:
        autoencoders.steps(workdirs)
    assert str(error.value) == says

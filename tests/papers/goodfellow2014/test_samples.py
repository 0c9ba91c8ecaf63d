"""The figure of generated digits, and its likelihood."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from adv_jax.data.dataset import Arrays, Dataset
from adv_jax.runner.trained import Trained
from adv_jax.types import Output, UserError
from papers.goodfellow2014 import samples

RNG = np.random.default_rng(0)


def images(count):
    return RNG.uniform(size=(count, 3, 3, 1)).astype(np.float32)


def model_that_repeats(train):
    """A model whose samples are its training images in turn."""

    def apply(variables, like, *, key, method):
        del variables, key
        assert method == "sample"
        return Output(jnp.asarray(train[np.arange(len(like)) % len(train)]), {}, {})

    labels = np.zeros(len(train), np.int32)
    data = Dataset(
        "drawn", "drawn", {}, Arrays(train, labels), Arrays(images(4), labels[:4]), 2, (0.0, 1.0)
    )
    return Trained(lambda x: x, apply, {}, "loss", data, {"seed": 1})


def test_the_likelihood_is_that_of_a_window_at_the_samples_with_the_best_bandwidth(monkeypatch):
    monkeypatch.setattr(samples, "SAMPLES", 20)
    model = model_that_repeats(images(20))
    drawn, x = (
        np.float64(a.x.reshape(len(a.x), -1)) for a in (model.dataset.train, model.dataset.test)
    )
    found, width = samples.likelihood(model)
    # The held-out images are samples, so that the narrowest window is best.
    assert width == min(samples.BANDWIDTHS)
    squares = ((x[:, None] - drawn[None]) ** 2).sum(axis=2)
    each = (
        logsumexp(-squares / (2 * width**2), axis=1)
        - np.log(20)
        - 4.5 * np.log(2 * np.pi * width**2)
    )
    assert found == pytest.approx(each.mean(), rel=1e-4)


def test_a_run_of_another_objective_is_refused(monkeypatch):
    plain = SimpleNamespace(path="runs/plain", config={"objective": {"name": "lwa"}}, result={})
    monkeypatch.setattr(samples, "finished", lambda path: plain)
    monkeypatch.setattr(samples, "require_same_data", lambda runs: None)
    with pytest.raises(UserError, match="workdir must be a run of a gan, got runs/plain"):
        samples.generated(["runs/plain"])

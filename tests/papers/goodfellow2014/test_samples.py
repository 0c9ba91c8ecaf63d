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


@pytest.mark.slow
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


def test_a_run_of_another_model_is_refused(monkeypatch):
    plain = SimpleNamespace(path="runs/plain", config={"model": {"name": "mlp"}}, result={})
    monkeypatch.setattr(samples, "finished", lambda path: plain)
    monkeypatch.setattr(samples, "require_same_data", lambda runs: None)
    with pytest.raises(
        UserError, match="workdir must be a run of a gan or a dcgan, got runs/plain"
    ):
        samples.generated(["runs/plain"])


def test_runs_of_two_models_are_not_drawn_as_one(monkeypatch):
    one = lambda path: SimpleNamespace(
        path=path,
        config={"model": {"name": path.name}},
        result={"replicas": [{"seed": 1, "overrides": {}}]},
    )
    monkeypatch.setattr(samples, "finished", one)
    monkeypatch.setattr(samples, "require_same_data", lambda runs: None)
    with pytest.raises(UserError, match="workdir must be runs of one model, got gan and dcgan"):
        samples.generated(["gan", "dcgan"])
    with pytest.raises(UserError, match="workdir must be runs of different seeds, got gan, gan"):
        samples.generated(["gan", "gan"])


def runs_of(apply, name, monkeypatch):
    """Makes `finished` return a run with this apply function, of few samples."""
    model = model_that_repeats(images(20))._replace(apply=apply)
    result = {"data": {}, "replicas": [{"seed": 1, "epochs": 2, "overrides": {}}]}
    config = {"model": {"name": name}}
    run = SimpleNamespace(
        path="run", config=config, result=result, data="drawn", models=lambda: [model]
    )
    monkeypatch.setattr(samples, "SAMPLES", 20)
    monkeypatch.setattr(samples, "HELD_OUT", 5)
    monkeypatch.setattr(samples, "finished", lambda path: run)


def shown(drawing):
    """The images of a figure, row by row, without empty axes."""
    return [axes.images[0].get_array() for axes in drawing.figure.axes]


@pytest.mark.slow
def test_each_row_of_a_conditional_generator_has_the_digit_that_it_was_given(monkeypatch):
    def apply(variables, like, *given, key, method):
        del variables, key, method
        label = given[0] if given else jnp.zeros(len(like), jnp.int32)
        value = label.astype(jnp.float32)[:, None, None, None] / 10
        return Output(jnp.broadcast_to(value, like.shape), {}, {})

    runs_of(apply, "conditional_gan", monkeypatch)
    drawing = samples.of_digits(["run"])
    means = np.asarray([image.mean() for image in shown(drawing)]).reshape(10, samples.COLUMNS)
    np.testing.assert_allclose(means, np.repeat(np.arange(10)[:, None] / 10, 10, 1), atol=1e-6)
    assert drawing.document["by_seed"][samples.LIKELIHOOD].keys() == {1}


@pytest.mark.slow
def test_the_rows_of_a_pyramid_are_its_levels_from_coarse_to_fine(monkeypatch):
    def apply(variables, like, *, key, method):
        del variables, key, method
        coarser = {"level1": like[:, :, :2], "level2": like[:, :2, :2]}
        return Output(like, coarser, {})

    runs_of(apply, "lapgan", monkeypatch)
    sizes = [image.size for image in shown(samples.of_levels(["run"]))]
    assert sizes == [*[4] * 10, *[6] * 10, *[9] * 10]

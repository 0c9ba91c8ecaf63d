"""The figure of generated digits, and its likelihood."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from adv_jax.data.dataset import Arrays, Dataset
from adv_jax.runner.run.trained import Trained
from adv_jax.types import Output, UserError
from papers.goodfellow2014 import samples
from papers.running import runs as shared

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
    about = {"seed": 1, "model": {"name": "gan"}}
    return Trained(lambda x: x, apply, {}, "loss", data, about)


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
    monkeypatch.setattr(shared, "finished", lambda path, **_: plain)
    monkeypatch.setattr(shared, "require_same_data", lambda runs: None)
    with pytest.raises(UserError, match="workdir must be a run of gan or dcgan or vae .*plain"):
        samples.generated(["runs/plain"])


def test_runs_of_two_models_are_not_drawn_as_one(monkeypatch):
    one = lambda path, **_: SimpleNamespace(
        path=path,
        config={"model": {"name": path}},
        result={"replicas": [{"seed": 1, "overrides": {}}]},
    )
    monkeypatch.setattr(shared, "finished", one)
    monkeypatch.setattr(shared, "require_same_data", lambda runs: None)
    with pytest.raises(UserError, match="workdir must be runs of one model, got gan and dcgan"):
        samples.generated(["gan", "dcgan"])
    with pytest.raises(UserError, match="workdir must be runs of different seeds, got gan, gan"):
        samples.generated(["gan", "gan"])


def runs_of(apply, name, monkeypatch):
    """Makes `finished` return a run with this apply function, of few samples."""
    about = {"seed": 1, "model": {"name": name}}
    model = model_that_repeats(images(20))._replace(apply=apply, about=about)
    result = {"data": {}, "replicas": [{"seed": 1, "epochs": 2, "overrides": {}}]}
    config = {"model": {"name": name}}
    run = SimpleNamespace(
        path="run", config=config, result=result, data="drawn", models=lambda: [model]
    )
    monkeypatch.setattr(samples, "SAMPLES", 20)
    monkeypatch.setattr(samples, "HELD_OUT", 5)
    monkeypatch.setattr(shared, "finished", lambda path, **_: run)


def shown(drawing):
    """The images of a figure, row by row, without empty axes."""
    return [axes.images[0].get_array() for axes in drawing.figure.axes]


def names(drawing):
    """The names beside the rows of a figure, and the titles above its images."""
    beside = [axes.get_ylabel() for axes in drawing.figure.axes if axes.get_ylabel()]
    return beside, [axes.get_title() for axes in drawing.figure.axes if axes.get_title()]


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
    assert names(drawing) == ([f"given {digit}" for digit in range(10)], [])


@pytest.mark.slow
def test_the_rows_of_a_pyramid_are_its_levels_from_coarse_to_fine(monkeypatch):
    def apply(variables, like, *, key, method):
        del variables, key, method
        coarser = {"level1": like[:, :, :2], "level2": like[:, :2, :2]}
        return Output(like, coarser, {})

    runs_of(apply, "lapgan", monkeypatch)
    drawing = samples.of_levels(["run"])
    assert [image.size for image in shown(drawing)] == [*[4] * 10, *[6] * 10, *[9] * 10]
    assert names(drawing) == (["2 x 2", "3 x 2", "3 x 3"], [])


@pytest.mark.slow
def test_the_last_column_is_named_as_the_nearest_training_images(monkeypatch):
    model = model_that_repeats(images(20))
    runs_of(model.apply, "gan", monkeypatch)
    drawing = samples.generated(["run"])
    assert names(drawing) == ([], ["nearest\nin training"])


def judged(model, name, apply, parts=2):
    """The model, with a discriminator of real images."""
    about = model.about | {"model": {"name": name}}
    variables = {"params": dict.fromkeys(range(parts))}
    return model._replace(apply=apply, predicts="real", about=about, variables=variables)


def two_logits(score):
    return jnp.stack([jnp.zeros_like(score), score], axis=1)


@pytest.mark.slow
def test_a_conditional_discriminator_judges_samples_with_the_label_that_they_were_given():
    # The discriminator takes a sample for real with every label but the given one.
    def apply(variables, x, y, *, key=None, method=None):
        del variables, key
        value = y.astype(jnp.float32)[:, None, None, None] / 10
        if method == "sample":
            return Output(jnp.broadcast_to(value, x.shape), {}, {})
        same = jnp.abs(x - value).max(axis=(1, 2, 3)) < 0.01
        return Output(two_logits(jnp.where(same, -9.0, 9.0)), {}, {})

    model = judged(model_that_repeats(images(20)), "conditional_gan", apply)
    found = samples.closeness(jnp.asarray(images(5)), model)
    assert found.fooled == pytest.approx(1 / (1 + np.exp(9)), rel=1e-4)
    words = samples.looked_at("the variety", [model, model])
    assert words == "the variety and D(G(z, y), y) of the given labels y"


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_discriminator_that_has_won_at_any_level_of_a_pyramid_is_seen(lost):
    def apply(variables, x, low=None, *, level, key=None, method=None):
        del variables, key
        if method == "band":
            return Output(x, {"low": x + level} if level < 2 else {}, {})
        assert (low is None) == (level == 2)  # What both players receive.
        if low is not None:
            np.testing.assert_allclose(low, x + level)
        if method == "sample":
            return Output(x, {}, {})
        return Output(two_logits(jnp.full(len(x), -9.0 if level == lost else 0.0)), {}, {})

    model = judged(model_that_repeats(images(20)), "lapgan", apply, parts=6)
    found = samples.closeness(jnp.asarray(images(5)), model)
    assert found.fooled == pytest.approx(1 / (1 + np.exp(9)), rel=1e-4)
    assert "every level of the pyramid" in samples.looked_at("the variety", [model])

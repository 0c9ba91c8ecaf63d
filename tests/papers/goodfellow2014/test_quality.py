"""The figures of samples in the eyes of a classifier, and of a generator's inputs."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import generative
from adv_jax.data.dataset import Arrays, Dataset
from adv_jax.runner.run.trained import Trained
from adv_jax.types import Output, UserError
from papers.goodfellow2014 import classifier, latent, quality, rubbish, samples

RNG = np.random.default_rng(0)
W = RNG.normal(size=(9, 3)).astype(np.float32)
SHAPE = (3, 3, 1)


def dataset(count=40):
    x, y = RNG.uniform(size=(2 * count, *SHAPE)).astype(np.float32), np.zeros(count, np.int32)
    parts = (Arrays(x[:count], y), Arrays(x[count:], y))
    return Dataset("drawn", "drawn", {}, *parts, 3, (0.0, 1.0))


DATA = dataset()


def about(name, **model):
    spec = {"name": name, **model}
    return {"seed": 1, "experiment": name, "model": spec, "epochs": 2, "preprocess": []}


def net_of_ours(**changes):
    """Linear in pixels of (0, 2.55), which its preprocessing makes."""

    def apply(variables, x):
        del variables
        h = x.reshape(len(x), -1)
        return Output(h @ W, {"hidden1": x, "hidden2": 2 * x}, {})

    scale = {"name": "pixel_scale", "mean": 0.0, "divisor": 100.0}
    told = about("lenet") | {"preprocess": [scale]} | changes
    return Trained(lambda x: x, apply, {}, "labels", DATA, told)


def generator(images, *, predicts="real", certain=0.0):
    """A model whose samples are these images in turn, whose discriminator says sigmoid(certain)."""

    def apply(variables, like, *, key, method):
        del variables, key
        assert method == "sample"
        return Output(jnp.asarray(images[np.arange(len(like)) % len(images)]), {}, {})

    def logits_fn(x):
        return jnp.stack([jnp.zeros(len(x)), jnp.full(len(x), certain)], axis=1)

    return Trained(logits_fn, apply, {}, predicts, DATA, about("gan"))


def run(name, model, **data):
    sha = {"sha256": data.pop("sha256", {"f": "0"}), "name": "drawn", "source": "drawn"}
    result = {"data": sha, "replicas": [{"seed": 1, "epochs": 2}]}
    config = {"data": data, "replicas": {"grid": None}}
    found = SimpleNamespace(path=Path(name), config=config, result=result, data="drawn (drawn)")
    found.models = lambda: [model]
    return found


@pytest.fixture
def runs(monkeypatch):
    """Runs by name, which the figures find; a test adds its own."""
    known = {"net": run("net", net_of_ours())}
    for module in (classifier, latent):
        monkeypatch.setattr(module, "finished", lambda path: known[str(path)])
    return known


def test_the_classifier_sees_images_after_its_own_preprocessing():
    x = DATA.test.x[:7]
    seen = classifier.judge(net_of_ours(), DATA.train.x)(x)
    np.testing.assert_allclose(seen.logits, 2.55 * x.reshape(7, 9) @ W, rtol=1e-5)
    np.testing.assert_allclose(seen.features, 5.1 * x.reshape(7, 9), rtol=1e-5)


@pytest.mark.slow
def test_the_measures_are_those_of_the_samples_and_a_collapse_is_told(runs):
    repeated = RNG.uniform(size=(2, *SHAPE)).astype(np.float32)
    runs["collapsed"] = run("collapsed", generator(repeated, certain=-9.0))
    runs["good"] = run("good", generator(DATA.train.x))
    document = quality.beside_real(["good", "net", "collapsed"]).document
    real, good, collapsed = document["rows"]
    flat = lambda x: 5.1 * x.reshape(-1, 9)
    expected = generative.measures.frechet(flat(DATA.train.x), flat(DATA.test.x))
    assert real["frechet"] == pytest.approx(expected, rel=1e-3) == good["frechet"]
    assert good["diversity"] > 0.5 and good["fooled"] == pytest.approx(0.5)
    assert collapsed["diversity"] == 0 and collapsed["modes"] <= 2
    signs = collapsed["collapse"]
    assert [sign.partition(":")[0] for sign in signs[:2]] == [
        "samples repeat",
        "the discriminator has won",
    ]
    assert good["collapse"] == [] or good["modes"] < 3
    assert "Collapsed: gan, seed 1 (samples repeat" in document["caption"]


@pytest.mark.slow
def test_a_model_without_a_discriminator_of_real_images_has_no_share_that_is_fooled():
    model = generator(DATA.train.x, predicts="loss")
    assert samples.closeness(samples.samples_of(model, 10), model).fooled is None


def linear_generator(**model):
    mixing = jnp.asarray(RNG.normal(size=(4, 9)), jnp.float32)

    def apply(variables, z, *, method):
        del variables
        assert method == "generate"
        return Output((z @ mixing).reshape(-1, *SHAPE), {}, {})

    return Trained(lambda x: x, apply, {}, "real", DATA, about("gan", **model)), mixing


@pytest.mark.slow
def test_a_linear_generator_has_even_steps_between_the_ends_of_its_lines(runs):
    runs["gan"] = run("gan", linear_generator(latent=4)[0])
    found = latent.interpolation(["gan"]).document
    assert found["largest_step"] == pytest.approx(1 / (latent.COLUMNS - 1), rel=1e-4)


@pytest.mark.slow
def test_sums_of_a_linear_generator_are_the_sums_of_its_images(runs, monkeypatch):
    model, mixing = linear_generator(latent=4)
    runs["gan"] = run("gan", model)
    monkeypatch.setattr(latent, "PAIRS", ((0, 1), (2, 0)))
    monkeypatch.setattr(latent, "DRAWN", 100)
    document = latent.arithmetic(["gan", "net"]).document
    z = np.asarray(jax.random.uniform(jax.random.key(1), (100, 4), minval=-1, maxval=1))
    images = z @ np.asarray(mixing)
    classes = (images @ W).argmax(axis=1)
    for row in document["rows"]:
        ink = row["ink"]
        assert ink["sum"] == pytest.approx(
            ink["bold a"] - ink["light a"] + ink["light b"], abs=1e-4
        )
        most = np.sort(images.mean(axis=1)[classes == row["a"]])[-3:].mean()
        assert ink["bold a"] == pytest.approx(most, abs=1e-5)


@pytest.mark.slow
def test_the_sureness_is_the_largest_probability_and_d_that_of_a_real_image(runs, monkeypatch):
    monkeypatch.setattr(rubbish, "GENERATIONS", 3)
    net = net_of_ours()._replace(logits_fn=lambda x: 2.55 * x.reshape(len(x), -1) @ jnp.asarray(W))
    runs["net"] = run("net", net)
    runs["gan"] = run("gan", generator(DATA.train.x, certain=-1.0))
    rows = {row.pop("of"): row for row in rubbish.rubbish(["gan", "net"]).document["rows"]}
    z = 2.55 * DATA.test.x.reshape(-1, 9) @ W
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    found = rows["test images"]
    assert found["confidence"] == pytest.approx(p.max(axis=1).mean(), rel=1e-4)
    assert found["above 0.5"] == pytest.approx((p.max(axis=1) > 0.5).mean())
    assert found["D"] == pytest.approx(1 / (1 + np.exp(1)), rel=1e-4)
    assert rows["fooling images"].keys() == {"confidence", "above 0.5"}


@pytest.mark.parametrize(
    ("draw", "names", "message"),
    [
        (
            quality.beside_real,
            ["net"],
            "workdir must be runs of generators and one of a classifier",
        ),
        (
            quality.beside_real,
            ["gan", "gan"],
            "workdir must be runs of generators and one of a class",
        ),
        (
            quality.beside_real,
            ["other", "net"],
            "workdir must be runs on the same data, got different",
        ),
        (
            quality.beside_real,
            ["scaled", "net"],
            "workdir must be a run without preprocessing, got sc",
        ),
        (rubbish.rubbish, ["loss", "net"], "workdir must be a run with a discriminator, got loss"),
        (latent.interpolation, ["gan", "net"], "workdir must be one run, got gan, net"),
        (latent.interpolation, ["vae"], "workdir must be a run of gan, dcgan, catgan, got vae"),
        (latent.arithmetic, ["few", "net"], "workdir must be a generator of 3 of each digit, got"),
    ],
)
def test_other_runs_are_refused_in_one_line(runs, monkeypatch, draw, names, message):
    monkeypatch.setattr(latent, "DRAWN", 2)
    model = generator(DATA.train.x)
    runs |= {
        "gan": run("gan", model),
        "vae": run("vae", model._replace(about=about("vae"))),
        "loss": run("loss", model._replace(predicts="loss")),
        "few": run("few", linear_generator(latent=4)[0]),
        "other": run("other", model, sha256={"f": "1"}),
        "scaled": run("scaled", model, preprocess=({"name": "standardize"},)),
    }
    with pytest.raises(UserError, match=message) as caught:
        draw(names)
    assert "\n" not in str(caught.value)

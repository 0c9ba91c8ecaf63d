"""Runs that start from the parameters of a finished run."""

import json
import shutil

import jax
import numpy as np
import pytest
import short_run
from short_run import serve

from adv_jax.runner.config.document import ConfigError, with_values
from adv_jax.runner.config.fields import check
from adv_jax.runner.run import trained, training
from adv_jax.runner.run.experiment import Experiment
from adv_jax.runner.run.weights import replaced
from adv_jax.types import UserError

CODED = """
import flax.linen as nn


class Encoder(nn.Module):
    units: int

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Dense(self.units, name="hidden1")(x.reshape(len(x), -1)))
        return nn.relu(nn.Dense(4, name="hidden2")(h))


class Net(nn.Module):
    units: int = 8

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10, name="logits")(Encoder(self.units, name="encoder")(x))
"""


@pytest.fixture(scope="module")
def digits():
    return short_run.few_digits(80, 20)


@pytest.fixture(scope="module")
def sources(digits, tmp_path_factory):
    """The folder of a module with two finished runs, `source` of the seeds 3 and 4, `single`."""
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "coded.py").write_text(CODED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        serve(patch, digits)
        training.run(document(model={"name": "coded:Net"}, replicas__seeds=2), "source")
        training.run(document(model={"name": "coded:Net"}, seed=7), "single")
    return folder


@pytest.fixture
def source(monkeypatch, digits, sources):
    serve(monkeypatch, digits)
    monkeypatch.chdir(sources)
    return sources


def document(**changes):
    """A config of two epochs; keys of `changes` are paths with __ for the dot."""
    plain = {"objective": {"name": "cross_entropy"}, "evaluation.attacks": {}}
    changes = {path.replace("__", "."): value for path, value in changes.items()}
    return with_values(short_run.document(), plain | changes)


def started(workdir="source", part="encoder", **changes):
    """A config of a net with two hidden layers, which starts from the run `source`."""
    net = {"model__features": (8, 4), "pretrained": {"workdir": workdir, "part": part}}
    return document(**net | changes)


def params_of(workdir):
    return [jax.tree.map(np.asarray, m.variables["params"]) for m in trained.load_all(workdir)]


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
def test_a_start_replaces_the_parameters_of_equal_names_only(digits):
    experiment = Experiment(document(model__features=(8, 4)), digits)
    plain = experiment.init(np.int32(3), {}).state.params
    start = {"hidden1": {"bias": np.arange(8, dtype=np.float32)}, "hidden3": {"bias": np.zeros(2)}}
    found = experiment.init(np.int32(3), {}, start).state.params
    np.testing.assert_array_equal(found["hidden1"]["bias"], np.arange(8))
    assert_equal(found | {"hidden1": plain["hidden1"]}, plain)
    np.testing.assert_array_equal(found["hidden1"]["kernel"], plain["hidden1"]["kernel"])


@pytest.mark.slow
def test_each_seed_starts_from_its_own_parameters_and_initializes_the_others(source, tmp_path):
    still = {"optimizer__learning_rate": 0.0, "replicas__seeds": 2, "epochs": 1}
    training.run(started(**still), tmp_path / "run")
    training.run(document(model__features=(8, 4), **still), tmp_path / "plain")
    runs = zip(
        params_of("source"), params_of(tmp_path / "run"), params_of(tmp_path / "plain"), strict=True
    )
    for old, found, plain in runs:
        assert found.keys() == {"hidden1", "hidden2", "logits"}
        assert_equal({name: found[name] for name in ("hidden1", "hidden2")}, old["encoder"])
        assert_equal(found["logits"], plain["logits"])


@pytest.mark.slow
def test_the_only_replica_starts_all_and_an_average_begins_with_its_parameters(source, tmp_path):
    grid = {"optimizer.learning_rate": (0.0, 1e-12)}
    still = {"replicas__seeds": 2, "replicas__grid": grid, "epochs": 1}
    average = {"averaging": {"name": "ema", "decay": 0.9}}
    training.run(started("single", "", model={"name": "coded:Net"}, **still, **average), tmp_path)
    (single,) = params_of("single")
    for found in params_of(tmp_path):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6), found, single)


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one_and_needs_no_source_when_loaded(
    source, tmp_path
):
    shutil.copytree(source / "source", tmp_path / "source")
    config = started(str(tmp_path / "source"), epochs=3, replicas__seeds=2)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    training.run(config, whole)
    shutil.copytree(whole, resumed)
    (resumed / "result.json").unlink()
    for epoch in (2, 3):
        shutil.rmtree(resumed / "checkpoints" / f"{epoch}", ignore_errors=True)
    shutil.copytree(whole / "checkpoints" / "2", resumed / "checkpoints" / "2")
    training.run(config, resumed)
    short_run.assert_same_run(whole, resumed, epochs=3)
    shutil.rmtree(tmp_path / "source")
    assert_equal(params_of(whole), params_of(resumed))


@pytest.mark.slow
def test_a_changed_source_is_noticed(source, tmp_path):
    copy, run = tmp_path / "source", tmp_path / "run"
    shutil.copytree(source / "source", copy)
    config = started(str(copy))
    training.run(config, run)
    before = (run / "result.json").read_bytes()
    (run / "result.json").unlink()
    result = json.loads((copy / "result.json").read_text())
    (copy / "result.json").write_text(json.dumps(result | {"seconds": 0.0}))
    with pytest.raises(UserError, match="source/result.json must be the one that .*, got SHA-256 "):
        training.run(config, run)
    (run / "result.json").write_bytes(before)
    shutil.rmtree(copy)
    assert training.run(config, run) == json.loads(before)  # A finished run needs no source.


@pytest.mark.slow
def test_a_changed_source_of_an_attack_is_noticed(source, tmp_path):
    copy, run = tmp_path / "source", tmp_path / "run"
    shutil.copytree(source / "source", copy)
    transferred = {"name": "transferred", "source_fn": str(copy), "attack": {"name": "fgsm"}}
    config = document(epochs=1)
    config["evaluation"] = {"attacks": {"moved": transferred}, "eps": (0.1,)}
    training.run(config, run)
    (run / "result.json").unlink()
    result = json.loads((copy / "result.json").read_text())
    (copy / "result.json").write_text(json.dumps(result | {"seconds": 0.0}))
    with pytest.raises(UserError, match="source/result.json must be the one that .*/sources.json "):
        training.run(config, run)


@pytest.mark.parametrize(
    ("own", "given", "says"),
    [
        # A deep belief network, or tied weights, and a decoder with weights of its own.
        ({"kernel": np.ones((2, 3)), "bias": np.ones(3)}, np.ones(3), "kernel .*, got decoder"),
        (np.ones(3), {"kernel": np.ones((2, 3)), "bias": np.ones(3)}, "as .*, got decoder.kernel"),
    ],
)
def test_a_layer_of_another_form_is_refused(own, given, says):
    model, start = ({"encoder": np.ones(2), "decoder": layer} for layer in (own, given))
    with pytest.raises(ConfigError, match=f"^pretrained.part must have decoder.*{says}"):
        replaced(model, start)


def test_a_start_from_a_run_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="^pretrained.workdir must be a finished run, got 'none'"):
        training.run(started("none"), tmp_path / "run")
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "config.json").write_text('{"config": {}, "grid": {}}')
    (sweep / "result.json").write_text("{}")
    says = (
        "^pretrained.workdir: workdir must be the directory of a run, got .*, which holds a sweep"
    )
    with pytest.raises(ConfigError, match=says):
        training.run(started(str(sweep)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_all_replicas_start_from_the_one_that_is_chosen(source, tmp_path):
    still = {"optimizer__learning_rate": 0.0, "replicas__seeds": 2, "epochs": 1, "seed": 8}
    start = {"workdir": "source", "part": "encoder", "replica": 1}
    training.run(started(pretrained=start, **still), tmp_path / "run")
    encoder = params_of("source")[1]["encoder"]
    for found in params_of(tmp_path / "run"):
        assert_equal({name: found[name] for name in ("hidden1", "hidden2")}, encoder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"part": "encodr"}, "pretrained.part must be one of encoder, logits, got 'encodr'; did "),
        (
            {"model__features": (9, 4)},
            "pretrained.part must have hidden1.kernel of the model's shape, (784, 9), got (784, ",
        ),
        (
            {"model__features": ()},
            "pretrained.part must share a layer with the model, which has logits, got hidden1, hid",
        ),
        (
            {"seed": 4, "replicas__seeds": 2},
            "pretrained.workdir must have one replica, or one of each seed 4, 5, got seeds 3, 4; "
            "pretrained.replica chooses one by its index",
        ),
        (
            {"pretrained": {"workdir": "source", "part": "", "replica": 2}},
            "pretrained.replica must be 0 to 1, the replicas of pretrained.workdir, got 2",
        ),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_anything_is_written(
    source, changes, says, tmp_path
):
    with pytest.raises(ConfigError) as error:
        training.run(started(**changes), tmp_path / "run")
    assert str(error.value).startswith(says)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ("source", "pretrained must be a dict, got 'source'"),
        ({"workdir": "source"}, "pretrained.part must be given, got none"),
        ({"part": "encoder"}, "pretrained.workdir must be given, got none"),
        ({"workdir": "source", "part": 1}, "pretrained.part must be a text, got 1"),
        (
            {"workdir": "source", "prt": ""},
            "a field of pretrained must be one of part, replica, workdir, got 'prt'; did you mean ",
        ),
    ],
)
def test_the_fields_of_a_start_are_checked(start, says):
    with pytest.raises(ConfigError) as error:
        check(document(pretrained=start))
    assert str(error.value).startswith(says)

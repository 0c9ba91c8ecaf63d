"""Runs whose model starts from a file of arrays."""

import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import short_run
from flax.traverse_util import flatten_dict
from safetensors.flax import save_file
from short_run import serve

from adv_jax import models
from adv_jax.runner.config.document import ConfigError, with_values
from adv_jax.runner.config.fields import check
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.run import pretrained, trained, training, weights
from adv_jax.runner.run.experiment import Experiment
from adv_jax.types import UserError

RESNET = {"name": "preact_resnet", "stem": 2, "stages": (2,), "blocks": 1}
NETS = {
    "mlp": models.mlp(features=(8,)),
    "preact_resnet": models.preact_resnet(stem=2, stages=(2,), blocks=1),
}


@pytest.fixture(scope="module")
def digits():
    return short_run.few_digits(80, 20)


@pytest.fixture(autouse=True)
def load_digits(monkeypatch, digits, tmp_path):
    serve(monkeypatch, digits)
    monkeypatch.chdir(tmp_path)


def document(file, **changes):
    plain = {"objective": {"name": "cross_entropy"}, "evaluation.attacks": {}, "epochs": 1}
    changes = {path.replace("__", "."): value for path, value in changes.items()}
    config = with_values(short_run.document(), plain | changes)
    return with_values(config, {"model": config["model"] | {"weights": file}})


def arrays(net="mlp"):
    """Random values for all variables of a net."""
    like = jax.eval_shape(
        lambda: models.init(NETS[net], jax.random.key(0), jnp.zeros((2, 28, 28, 1)))
    )
    rng = np.random.default_rng(0)
    draw = lambda leaf: rng.uniform(0.5, 1, leaf.shape).astype(np.float32)
    return {name: draw(leaf) for name, leaf in flatten_dict(like, sep="/").items()}


@pytest.mark.parametrize("net", ["mlp", pytest.param("preact_resnet", marks=pytest.mark.slow)])
def test_all_replicas_start_from_the_arrays_and_batch_statistics_of_the_file(net, digits):
    given = arrays(net)
    np.savez("given.npz", **given)
    model = {"model": RESNET} if net == "preact_resnet" else {}
    config = document("given.npz", replicas__seeds=2, **model)
    starts = pretrained.starts(config, replicas(config))
    for i in (0, 1):
        start = jax.tree.map(lambda leaf: leaf[i], starts)  # noqa: B023
        state = Experiment(config, digits).init(np.int32(3 + i), {}, start).state
        found = flatten_dict(state.variables, sep="/")
        assert found.keys() == given.keys()
        assert any(name.startswith("batch_stats/") for name in found) == (net == "preact_resnet")
        for name, leaf in found.items():
            np.testing.assert_array_equal(leaf, given[name])


def test_a_file_of_safetensors_in_bfloat16_is_read_as_float32():
    given = {name: jnp.asarray(array, jnp.bfloat16) for name, array in arrays().items()}
    save_file(given, "given.safetensors")
    found = weights.read("given.safetensors")
    assert {array.dtype for array in found.values()} == {np.dtype("float32")}
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], np.asarray(array, np.float32))


def test_safetensors_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ConfigError, match=r"must be a file .npz without safetensors \(pip install"):
        weights.read("given.safetensors")


@pytest.mark.slow
def test_a_run_resumes_from_its_copy_as_if_the_file_were_still_there(tmp_path):
    np.savez("given.npz", **arrays())
    config, whole, resumed = document("given.npz", epochs=3), tmp_path / "whole", tmp_path / "other"
    training.run(config, whole)
    shutil.copytree(whole, resumed)
    (tmp_path / "given.npz").unlink()
    (resumed / "result.json").unlink()
    shutil.rmtree(resumed / "checkpoints")  # From the start, which needs the weights again.
    training.run(config, resumed)
    short_run.assert_same_run(whole, resumed, epochs=3)
    assert trained.load(resumed).about["epochs"] == 3


@pytest.mark.slow
def test_a_run_without_training_keeps_the_predictions_of_the_weights(tmp_path):
    given = arrays()
    np.savez("given.npz", **given)
    training.run(document("given.npz", optimizer__learning_rate=0.0), tmp_path / "run")
    model = trained.load(tmp_path / "run")
    x = model.dataset.test.x.reshape(20, -1)
    hidden = np.maximum(x @ given["params/hidden1/kernel"] + given["params/hidden1/bias"], 0)
    logits = hidden @ given["params/logits/kernel"] + given["params/logits/bias"]
    np.testing.assert_allclose(model.logits_fn(model.dataset.test.x), logits, rtol=1e-5)


def truncated(given):
    np.savez("given.npz", **given)
    content = Path("given.npz").read_bytes()
    Path("given.npz").write_bytes(content[: len(content) // 2])


def without(*names):
    return lambda given: np.savez(
        "given.npz", **{name: array for name, array in given.items() if name not in names}
    )


def changed(**others):
    return lambda given: np.savez("given.npz", **given | others)


HIDDEN = "params/hidden1/kernel"


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (
            lambda given: None,
            "must be a readable file, got 'given.npz' (No such file or directory)",
        ),
        (truncated, "must be an intact .npz file of numbers, got 'given.npz' (BadZipFile: "),
        (
            changed(**{HIDDEN: np.array([print])}),
            "must be an intact .npz file of numbers, got 'given.npz' (ValueError: Object arrays ",
        ),
        (changed(**{HIDDEN: np.array("a")}), f"must be arrays of numbers, got {HIDDEN} <U1"),
        (
            without("params/logits/bias"),
            "must have the arrays of the model, got 'given.npz' without params/logits/bias",
        ),
        (
            lambda given: np.savez("given.npz", **arrays("preact_resnet")),
            "must have the arrays of the model, got 'given.npz' without params/hidden1/bias and "
            "with batch_stats/hidden2/norm1/mean, batch_stats/hidden2/norm1/var, ",
        ),
        (
            changed(**{HIDDEN: np.ones((784, 9)), "params/hidden1/bias": np.ones(9)}),
            "must have params/hidden1/kernel [784, 8], params/hidden1/bias [8], got 'given.npz' "
            "with [784, 9], [9]",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_anything_is_written(write, says, tmp_path):
    write(arrays())
    with pytest.raises(UserError) as error:
        training.run(document("given.npz"), tmp_path / "run")
    assert str(error.value).startswith(f"model.weights {says}") and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model.weights": 3}, "model.weights must be a text, got 3"),
        (
            {"pretrained": {"workdir": "run", "part": ""}},
            "model.weights must be unset with pretrained, got 'given.npz'",
        ),
    ],
)
def test_the_field_is_checked(changes, says):
    with pytest.raises(ConfigError) as error:
        check(with_values(document("given.npz"), changes))
    assert str(error.value).startswith(says)


def test_a_file_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="must be a file .npz or .safetensors, got 'model.pt'"):
        weights.read("model.pt")

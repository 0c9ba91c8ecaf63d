"""A model without classes as a run: its loss in place of errors, and what it refuses."""

import json

import numpy as np
import pytest
import short_run
from short_run import serve

from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import evaluation, learning_curves, training
from adv_jax.runner.run.experiment import Experiment
from adv_jax.runner.run.measures import EVALUATION_BATCH
from adv_jax.runner.run.trained import load
from adv_jax.runner.store import result
from adv_jax.types import UserError


@pytest.fixture
def digits(monkeypatch):
    few = short_run.few_digits(80, 20)
    serve(monkeypatch, few)


def config(**changes):
    """A config of two epochs; keys of `changes` are paths with __ for the dot."""
    document = short_run.document() | {
        "model": {"name": "one_point:Point"},
        "objective": {"name": "one_point:distance"},
        "evaluation": {"attacks": {}, "eps": (0.0,)},
    }
    return with_values(document, {path.replace("__", "."): v for path, v in changes.items()})


def log_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_its_mean_loss_on_the_test_set_takes_the_place_of_the_error(digits, tmp_path):
    found = training.run(config(), tmp_path / "run")
    model = load(tmp_path / "run")
    point = np.asarray(model.variables["params"]["point"])
    x = np.asarray(model.dataset.test.x)
    expected = ((x - point) ** 2).sum(axis=(1, 2, 3)).mean()
    (replica,) = found["replicas"]
    assert replica["test_loss"] == pytest.approx(expected, rel=1e-5)
    assert not replica.keys() & {"test_error", "confidence"}
    assert found["evaluation"] == {}
    assert log_of(tmp_path / "run")[-1]["test_loss"] == replica["test_loss"]
    title, columns, [cells] = result.summary(found, "loss")
    assert f"test loss {expected:.3f} on 20 examples" in title
    assert cells[columns.index("loss")] == f"{expected:.5g}"
    assert "test_loss" in learning_curves.curves_of_lines(log_of(tmp_path / "run"))


@pytest.mark.slow
def test_the_lowest_validation_loss_chooses_the_model(digits, tmp_path):
    # The rate grows, so that the second epoch overshoots.
    rate = {"name": "piecewise_constant", "values": (0.1, 1.5), "boundaries": (1,)}
    changes = {"data__num_valid": 40, "optimizer__learning_rate": rate, "batch_size": 20}
    found = training.run(config(**changes), tmp_path / "run")
    first, second = (line["valid_loss"] for line in log_of(tmp_path / "run"))
    assert first < second
    assert found["replicas"][0]["best_epoch"] == 1


def test_the_batches_of_an_evaluation_have_different_noise():
    digits = short_run.few_digits(40, 40)
    zeros = np.zeros((EVALUATION_BATCH, *digits.test.x.shape[1:]), np.float32)
    experiment = Experiment(config(model__name="one_point:Noise"), digits)
    variables = {"params": {"point": zeros[0]}}
    arrays = {"test_x": np.concatenate([zeros, zeros + 1])}
    run = experiment.init(0, {})._replace(best=variables)
    # The same noise in both batches would cancel.
    assert abs(experiment.evaluate(run, arrays, {}).mean) > 1e-3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"evaluation__attacks": {"fgsm": {"name": "fgsm"}}},
            "evaluation.attacks must be empty, as the model has no classes, "
            "got {'fgsm': {'name': 'fgsm'}}",
        ),
        (
            {"stop": {"train_error": 0.1}},
            "stop must be empty, as the model has no classes, got {'train_error': 0.1}",
        ),
        (
            {"model__name": "one_point:Undecided"},
            "predicts of the model must be labels, real, loss, got 'everything'",
        ),
    ],
)
def test_what_needs_classes_is_refused(digits, tmp_path, changes, sentence):
    with pytest.raises(UserError) as raised:
        training.run(config(**changes), tmp_path / "run")
    assert str(raised.value) == sentence


@pytest.mark.slow
def test_it_cannot_be_attacked(digits, tmp_path):
    training.run(config(epochs=1), tmp_path / "run")
    with pytest.raises(UserError, match="workdir must be runs of models with classes, got run"):
        evaluation.run([str(tmp_path / "run")], attack_names=["fgsm"], eps=[0.1])

"""The files of a finished training are checked before a comparison reads them."""

import json
import math

import pytest
from fabricated import finish

from adv_jax.types import UserError
from papers.running.budget import BUDGETS
from papers.running.target import Row, Run, Target
from papers.running.trainings import plan, result_of

RUN = Run("quickstart", "", {"replicas.seeds": 2, "epochs": 4, "evaluation.eps": (0.0, 0.2)})


@pytest.fixture
def training(tmp_path):
    """Of two replicas, four epochs, and FGSM at two sizes; nobody trained it."""
    target = Target("maronas2016.small", "", (Row("a", RUN),))
    (training,) = plan(target, BUDGETS["paper"], runs=tmp_path, data={}).values()
    finish(training, lambda replica, eps: 0.1)
    return training


def refusal(training):
    with pytest.raises(UserError) as caught:
        result_of(training)
    return str(caught.value)


def put(document, path, value):
    """Sets what stands at a path of keys; the value `put` deletes it."""
    *parents, last = path
    for key in parents:
        document = document[key]
    if value is put:
        del document[last]
    else:
        document[last] = value


SHAPE = "2 lists of 2 numbers, got lists of"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["data", "sizes", "test"], put, "data.sizes.test must be given, got none"),
        (["data", "sizes", "test"], "9", "data.sizes.test must be a whole number, got '9'"),
        (["data", "sizes", "test"], True, "data.sizes.test must be a whole number, got True"),
        (["data", "sizes", "test"], 0, "data.sizes.test must be greater than or equal to 1, got 0"),
        (["data", "sha256"], {"train": 5}, "data.sha256.train must be a text, got 5"),
        (
            ["data", "name"],
            "mn\nist",
            r"data.name must be one line of printable text, got 'mn\nist'",
        ),
        (["device"], "\ud800", r"device must be one line of printable text, got '\ud800'"),
        (["device"], None, "device must be a text, got None"),
        (["seconds"], None, "seconds must be a finite number, got None"),
        (["seconds"], 10**400, "seconds must be a finite number, got 1000"),
        (["seconds"], math.inf, "seconds must be a finite number, got inf"),
        (["versions", "jax"], 0.1, "versions.jax must be a text, got 0.1"),
        (["replicas"], 2, "replicas must be a list, got 2"),
        (["replicas", 1], None, "replicas.1 must be an object, got None"),
        (["replicas", 1, "seed"], put, "replicas.1.seed must be given, got none"),
        (["replicas", 1, "seed"], 3, "replicas must be the 2 of quickstart, as in the config"),
        (
            ["replicas", 1, "test_error"],
            math.nan,
            "replicas.1.test_error must be in [0, 1], got nan",
        ),
        (["replicas", 1, "test_error"], 1.1, "replicas.1.test_error must be in [0, 1], got 1.1"),
        (["replicas", 1, "confidence"], "1", "confidence must be a finite number, got '1'"),
        (["replicas", 1, "epochs"], 4.0, "epochs must be a whole number, got 4.0"),
        (["evaluation"], {}, "evaluation.fgsm must be given, got none"),
        (["evaluation", "fgsm", "eps"], [0.0], "fgsm.eps must be [0.0, 0.2], as configured, got"),
        (["evaluation", "fgsm", "error"], put, "evaluation.fgsm.error must be given, got none"),
        (["evaluation", "fgsm", "confidence"], put, f"fgsm.confidence must be {SHAPE} []"),
        (["evaluation", "fgsm", "error"], [[0.1, 0.1]], f"fgsm.error must be {SHAPE} [2]"),
        (["evaluation", "fgsm", "error", 1], [0.1], f"fgsm.error must be {SHAPE} [2, 1]"),
        (["evaluation", "fgsm", "error", 1], 0.1, "fgsm.error.1 must be a list, got 0.1"),
        (["evaluation", "fgsm", "confidence", 1, 1], math.nan, "confidence.1.1 must be in [0, 1]"),
    ],
)
def test_a_damaged_result_is_named_with_the_field(training, path, value, message):
    file = training.workdir / "result.json"
    result = json.loads(file.read_text())
    put(result, path, value)
    file.write_text(json.dumps(result))
    said = refusal(training)
    assert said.startswith(f"{file}: ") and message in said and "\n" not in said


def test_each_replica_has_the_lines_that_the_result_says(training):
    file = training.workdir / "metrics.jsonl"
    whole = file.read_text().splitlines(keepends=True)
    assert len(whole) == 2 * 4
    at_epoch_2 = [i for i, line in enumerate(whole) if json.loads(line)["epoch"] == 2]
    for kept in (whole[:-1], [*whole[: at_epoch_2[1]], *whole[at_epoch_2[1] + 1 :]]):
        file.write_text("".join(kept))
        assert refusal(training) == (
            f"{file}: lines of replica 1 must be of epochs 1 to 4, as in result.json, got 3 lines"
        )
    file.write_text("".join([*whole, whole[-1]]))
    assert "lines of replica 1" in (said := refusal(training)) and said.endswith("got 5 lines")
    file.write_text("".join(whole))
    assert result_of(training) is not None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("loss", put, ": loss must be given, got none"),
        ("loss", math.inf, ": loss must be a finite number, got inf"),
        ("loss", "1", " must have numbers alone, got loss '1'"),
        ("test_error", math.nan, ": test_error must be in [0, 1], got nan"),
        ("test_error", put, ": test_error must be given, got none"),
        ("train_error", [], " must have numbers alone, got train_error []"),
    ],
)
def test_a_damaged_line_is_named_with_the_field(training, name, value, message):
    file = training.workdir / "metrics.jsonl"
    *others, last = file.read_text().splitlines(keepends=True)
    line = json.loads(last)
    put(line, [name], value)
    file.write_text("".join([*others, json.dumps(line) + "\n"]))
    said = refusal(training)
    assert said == f"{file}{message}"


def test_a_model_without_classes_has_losses_in_place_of_errors(training):
    result = json.loads((training.workdir / "result.json").read_text())
    for replica in result["replicas"]:
        del replica["test_error"], replica["confidence"]
        replica["test_loss"] = 90.5
    (training.workdir / "result.json").write_text(json.dumps(result | {"evaluation": {}}))
    loss = training._replace(
        config=training.config | {"evaluation": {"attacks": {}, "eps": (0.0,)}}
    )
    path = training.workdir / "metrics.jsonl"
    (training.workdir / "config.json").write_text(json.dumps(loss.config))
    assert "metrics.jsonl: test_loss must be given, got none" in refusal(loss)
    path.write_text(path.read_text().replace('"test_error"', '"test_loss"'))
    assert result_of(loss)["replicas"][1]["test_loss"] == 90.5
    result["replicas"][1]["test_loss"] = None
    (training.workdir / "result.json").write_text(json.dumps(result | {"evaluation": {}}))
    assert "replicas.1.test_loss must be a finite number, got None" in refusal(loss)

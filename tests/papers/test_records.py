"""What a finished training has left is checked before a comparison reads it."""

import json
import math

import pytest
from fabricated import finish

from adv_jax.types import UserError
from papers.budget import BUDGETS
from papers.target import Row, Run, Target
from papers.trainings import finished, plan

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
        finished(training)
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


RATES = "2 lists of 2 numbers in [0, 1]"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["data", "sizes", "test"], put, "data.sizes.test is missing"),
        (["data", "sizes", "test"], "9", "data.sizes.test is '9'; allowed is a whole number of"),
        (["data", "sha256"], {"train": 5}, "allowed is an object of SHA-256 sums"),
        (["data", "name"], "mn\nist", r"data.name is 'mn\nist'; allowed is a line of text"),
        (["device"], "\ud800", r"device is '\ud800'; allowed is a line of text"),
        (["seconds"], None, "seconds is None; allowed is a finite number"),
        (["seconds"], 10**400, "; allowed is a finite number"),
        (["versions", "jax"], 0.1, "versions.jax is 0.1; allowed is a line of text"),
        (["replicas"], 2, "replicas is 2; allowed is a list"),
        (["replicas", 1], None, "seed is missing"),
        (["replicas", 1, "test_error"], math.nan, "test_error is nan; allowed is a number in [0"),
        (["replicas", 1, "confidence"], "1", "confidence is '1'; allowed is a number in [0, 1]"),
        (["replicas", 1, "epochs"], 4.0, "epochs is 4.0; allowed is a whole number of at least 1"),
        (["evaluation"], {}, "evaluation.fgsm.eps is missing"),
        (["evaluation", "fgsm", "eps"], [0.0], "fgsm.eps is [0.0]; allowed is [0.0, 0.2], as"),
        (["evaluation", "fgsm", "error"], put, "evaluation.fgsm.error is missing"),
        (["evaluation", "fgsm", "error"], [[0.1, 0.1]], f"allowed is {RATES}"),
        (["evaluation", "fgsm", "error", 1], [0.1], f"allowed is {RATES}"),
        (["evaluation", "fgsm", "error", 1], 0.1, f"allowed is {RATES}"),
        (["evaluation", "fgsm", "confidence", 1, 1], math.nan, f"allowed is {RATES}"),
    ],
)
def test_a_damaged_result_is_named_with_the_field(training, path, value, message):
    file = training.workdir / "result.json"
    result = json.loads(file.read_text())
    put(result, path, value)
    file.write_text(json.dumps(result))
    said = refusal(training)
    assert said.startswith(f"{file} is ") and message in said and "\n" not in said


def test_each_replica_has_the_lines_that_the_result_says(training):
    file = training.workdir / "metrics.jsonl"
    whole = file.read_text().splitlines(keepends=True)
    assert len(whole) == 2 * 4
    at_epoch_2 = [i for i, line in enumerate(whole) if json.loads(line)["epoch"] == 2]
    for kept in (whole[:-1], [*whole[: at_epoch_2[1]], *whole[at_epoch_2[1] + 1 :]]):
        file.write_text("".join(kept))
        assert refusal(training) == (
            f"{file} has 3 lines of replica 1; allowed are those of epochs 1 to 4, which "
            "result.json says it has trained"
        )
    file.write_text("".join([*whole, whole[-1]]))
    assert "has 5 lines of replica 1" in refusal(training)
    file.write_text("".join(whole))
    assert finished(training) is not None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("loss", put, "loss is missing"),
        ("loss", math.inf, "loss is inf; allowed is a finite number"),
        ("loss", "1", "loss is '1'; allowed is a finite number"),
        ("test_error", math.nan, "test_error is nan; allowed is a number in [0, 1]"),
        ("test_error", put, "test_error is missing"),
        ("train_error", [], "train_error is []; allowed is a finite number"),
    ],
)
def test_a_damaged_line_is_named_with_the_field(training, name, value, message):
    file = training.workdir / "metrics.jsonl"
    *others, last = file.read_text().splitlines(keepends=True)
    line = json.loads(last)
    put(line, [name], value)
    file.write_text("".join([*others, json.dumps(line) + "\n"]))
    said = refusal(training)
    assert said.startswith(f"{file} is ") and said.endswith(message)

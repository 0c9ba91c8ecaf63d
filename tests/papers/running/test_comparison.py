"""Comparisons with the paper's numbers: measures, claims and stored verdicts."""

import json
from pathlib import Path

import pytest

from adv_jax.types import UserError
from papers.judging.words import FINDINGS
from papers.running.budget import BUDGETS
from papers.running.comparison import compare, ours
from papers.running.reproduction import judged_again
from papers.running.target import Claim, Measure, Row, Run, Target
from papers.running.trainings import plan
from papers.running.works import TARGETS

PAPER = BUDGETS["paper"]
RESULTS = Path(__file__).parents[3] / "papers"


def test_a_measure_may_be_the_mean_of_the_last_epochs():
    row = Row("a", Run("quickstart"), "nokland2015.table2.relu.2x400", measure=Measure(last=2))
    result = {"replicas": [{"seed": 7, "overrides": {}}, {"seed": 8, "overrides": {}}]}
    errors = [(0, 0.5), (1, 0.9), (0, 0.02), (1, 0.04), (0, 0.01), (1, 0.03)]
    lines = [{"replica": i, "test_error": error} for i, error in errors]
    lines.insert(3, {"replica": 0, "loss": 1.0})  # an epoch that was not tested
    assert ours(row, row.measure, result, lines) == pytest.approx({7: 1.5, 8: 3.5})


@pytest.mark.parametrize(
    "claim",
    [
        Claim("", "gain", ("a", "b")),
        Claim("", "size", ("a", "b"), by=15, tolerance=2),
        Claim("", "lowest", ("b", "a", "c")),
        Claim("", "falling", ("c", "a")),
        Claim("", "no loss", ("a", "b"), by=0, tolerance=2),
    ],
)
def test_a_claim_in_a_document_names_its_form_and_its_rows(claim):
    runs = {label: Run("quickstart", values={"seed": i}) for i, label in enumerate("abc")}
    target = Target(
        "maronas2016.x", "", tuple(Row(label, runs[label]) for label in "abc"), (claim,)
    )
    values = {"a": (0.01, 0.03), "b": (0.02, 0.05), "c": (0.04, 0.05)}
    results = {
        runs[label].key: {
            "replicas": [
                {"seed": seed, "overrides": {}, "test_error": error, "epochs": 1}
                for seed, error in enumerate(errors)
            ]
        }
        for label, errors in values.items()
    }
    trainings = plan(target, PAPER, runs="r", data={})
    found = compare(target, PAPER, trainings, results, dict.fromkeys(results, ()))
    (claim_document,) = found["claims"]
    assert (claim_document["form"], claim_document["rows"]) == (claim.form, list(claim.rows))
    assert (claim_document.get("by"), claim_document.get("tolerance")) == {
        "size": (15, 2),
        "no loss": (0, 2),
    }.get(claim.form, (None, None))
    assert claim_document["verdict"] in FINDINGS
    assert (
        found["trainings"][runs["a"].key]["paper_epochs"]
        == trainings[runs["a"].key].config["epochs"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.update(budget="papr"), "budget must be one of quick, short, paper"),
        (
            lambda found: found["trainings"].pop(found["rows"][0]["training"]),
            "rows.0.training must be ",
        ),
    ],
)
def test_a_damaged_result_is_not_judged_again(tmp_path, change, message):
    target = TARGETS["huang2015.fig1_mlp"]
    found = json.loads(target.file(RESULTS).read_text())
    change(found)
    path = target.file(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(found))
    with pytest.raises(UserError) as error:
        list(judged_again([target], results=tmp_path))
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.slow
def test_the_stored_verdicts_follow_from_the_stored_values():
    """If not: python -m launch.reproduce all --judge"""
    for again in judged_again(list(TARGETS.values()), results=RESULTS):
        file = TARGETS[again["target"]].file(RESULTS)
        found = json.loads(file.read_text())
        for part in ("rows", "claims", "trainings"):
            assert found[part] == again[part], again["target"]

"""The length of the runs that a figure is drawn from, in its caption."""

import json
from pathlib import Path

import pytest

from papers.running import lengths
from papers.running.budget import BUDGETS, config_of
from papers.running.target import Run

RESULTS = Path(__file__).parents[3] / "papers"


def document(config, replicas, **run):
    about = {name: config[name] for name in ("model", "objective")} | {"replicas": replicas}
    runs = [{"data": {"name": config["data"]["name"]}, **about, **run}]
    return {"paper": "huang2015", "figure": "fig1", "caption": "A net.", "runs": runs}


def config(name, options):
    return config_of(Run(name, options), BUDGETS["paper"], {})


@pytest.mark.parametrize(
    ("method", "epochs", "says"),
    [
        ("normal", 10, "A net. Short runs: 10 of 50 epochs."),
        ("lwa", 50, "A net. Short runs: 50 of 120 epochs."),
        ("normal", 50, "A net."),
        ("lwa", 120, "A net."),
    ],
)
def test_the_caption_of_a_figure_says_that_its_runs_are_short(method, epochs, says):
    """LeNet trains for 50 epochs normally and for 120 by LWA."""
    made = document(
        config("huang_lenet_mnist", f"method={method}"), [{"seed": 1, "epochs": epochs}]
    )
    found = lengths.with_length(made)
    assert found["caption"] == says
    assert lengths.with_length(found) == found  # It is said once.
    assert made["caption"] == "A net."


@pytest.mark.parametrize(("best", "is_short"), [(135, False), (200, True), (None, True)])
def test_a_run_that_stopped_after_the_papers_patience_is_full(best, is_short):
    """The shallow nets stop after 100 epochs without a lower validation error."""
    replicas = [{"seed": 1, "epochs": 235, "best_epoch": best}]
    made = document(config("shallow_mnist", "model=A"), replicas) | {"paper": "shallow_thesis"}
    assert lengths.short_runs(made) == ("Short runs: 235 of 1500 epochs." if is_short else "")


def test_a_run_of_no_training_of_the_paper_has_no_length():
    made = document(config("huang_lenet_mnist", "method=normal"), [{"seed": 1, "epochs": 1}])
    made["runs"][0]["experiment"] = "another"
    assert lengths.short_runs(made) == ""


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("huang2015/results/figures/fig1", "Short runs: 10 of 50 epochs."),
        ("huang2015/results/figures/fig2", "Short runs: 10 of 50, 24 of 120 epochs."),
        ("nokland2015/results/figures/fig3", ""),
        ("huang2015/results/figures/transfer", ""),
        # One of the longer runs stopped after 241 epochs by the paper's patience, two were cut off.
        (
            "wardefarley2016/results/figures/label_smoothing_costs",
            "Short runs: 25 to 250 of 500 epochs.",
        ),
    ],
)
def test_stored_figures_name_their_short_runs(file, says):
    assert lengths.short_runs(json.loads((RESULTS / f"{file}.json").read_text())) == says

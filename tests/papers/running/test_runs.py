"""Figures say on what their nets were trained."""

from pathlib import Path

import pytest

from papers.running.runs import Finished, trained_on


def run(*replicas):
    """Of (seed, epochs) each."""
    listed = [{"seed": seed, "epochs": epochs} for seed, epochs in replicas]
    data = {"name": "mnist", "source": "files", "sha256": {}, "sizes": {"train": 60_000}}
    return Finished(Path("run"), {}, {"data": data, "replicas": listed})


@pytest.mark.parametrize(
    ("runs", "first", "title"),
    [
        ([run((5, 1))], False, "seed 5; 1 epoch"),
        ([run((1, 30), (2, 30))], False, "seeds 1, 2; 30 epochs"),
        ([run((2, 30), (1, 20)), run((3, 9), (2, 9))], False, "seeds 1 to 3; 9 to 30 epochs"),
        ([run((1, 30), (2, 40)), run((1, 150), (2, 9))], True, "seed 1; 30 to 150 epochs"),
    ],
)
def test_titles_have_data_seeds_and_epochs(runs, first, title):
    assert trained_on(runs, first=first) == f"full MNIST; {title}"

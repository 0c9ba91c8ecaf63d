"""Figures: PNGs whose lines are the means over replicas, with labeled axes."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from adv_jax import style
from adv_jax.runner.run import figures

EVALUATION = {
    "fgsm": {
        "eps": [0.0, 0.1, 0.2],
        "accuracy": [[0.9, 0.5, 0.1]],
        "confidence": [[0.9, 0.8, 0.7]],
    },
    "worst_case": {"eps": [0.0, 0.1, 0.2], "accuracy": [[0.9, 0.4, 0.0]]},
}


@pytest.fixture
def drawn(monkeypatch):
    """The figures saved, as Matplotlib holds them."""
    saved = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        saved.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def assert_png(path):
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width > 800 and image.height > 300
        assert len(np.unique(image.convert("L"))) > 10  # more than a white page


def lines_of(axes) -> dict[str, tuple[list[float], list[float]]]:
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines
    }


def replicate(evaluation, other):
    """Adds a second replica, whose values are `other` times those of the first."""
    return {
        attack: {
            k: v if k == "eps" else [v[0], list(np.multiply(v[0], other))] for k, v in c.items()
        }
        for attack, c in evaluation.items()
    }


def test_attack_curves_of_one_replica_are_drawn_as_lines(tmp_path, drawn):
    norms = ["linf", "l2", None, "linf"]
    figures.attack_curves(tmp_path / "e.png", EVALUATION, title="a net, $5", norms=iter(norms))
    assert_png(tmp_path / "e.png")
    (figure,) = drawn
    accuracy, confidence = figure.axes
    assert figure.get_suptitle() == style.plain("a net, $5")
    for axes, measure in ((accuracy, "accuracy"), (confidence, "confidence")):
        assert axes.get_xlabel() == "eps (linf or l2), units of the input"
        assert axes.get_ylabel() == measure and axes.get_ylim() == (0, 1)
    assert lines_of(accuracy) == {
        "fgsm": ([0.0, 0.1, 0.2], [0.9, 0.5, 0.1]),
        "worst case": ([0.0, 0.1, 0.2], [0.9, 0.4, 0.0]),
    }
    assert set(lines_of(confidence)) == {"fgsm"}  # the worst case over attacks has none
    fgsm, worst = accuracy.lines
    assert worst.get_zorder() < fgsm.get_zorder()
    assert [text.get_text() for text in accuracy.texts] == ["worst case", "fgsm"]


def test_attack_curves_of_replicas_are_means_within_their_range(tmp_path, drawn):
    figures.attack_curves(tmp_path / "e.png", replicate(EVALUATION, 0.5), title="t")
    assert_png(tmp_path / "e.png")
    accuracy = drawn[0].axes[0]
    assert accuracy.get_xlabel() == "size, units of the input"
    np.testing.assert_allclose(lines_of(accuracy)["fgsm"][1], [0.675, 0.375, 0.075])
    (band, _) = accuracy.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.05, 0.9)


@pytest.mark.slow
def test_the_figure_of_a_run_shows_accuracy_and_the_norms_of_its_config(tmp_path, drawn):
    config = {
        "experiment": "net",
        "evaluation": {
            "attacks": {
                "one": {"name": "fgsm", "norm": 2},
                "other": {"name": "transferred", "attack": {"name": "pgd"}, "source_fn": "run"},
            }
        },
    }
    found = {"one": {"eps": [0.0, 0.1], "error": [[0.25, 0.5], [0.5, 0.75], [0.75, 1.0]]}}
    replicas = [{"overrides": {"objective.alpha": alpha}} for alpha in (0, 0, 1)]
    result = {"data": {"name": "mnist", "source": "embedded"}, "evaluation": found}
    result["replicas"] = replicas
    line = {"epoch": 1, "replica": 0, "loss": 1.0, "test_error": 0.25}
    figures.draw(SimpleNamespace(figures=tmp_path, metrics=lambda: [line]), config, result)
    first, _, second, _ = drawn[1].axes  # A row of panels for each point of the grid.
    assert first.get_title() == "objective.alpha=0" and second.get_title() == "objective.alpha=1"
    assert lines_of(first) == {"one": ([0.0, 0.1], [0.625, 0.375])}
    assert lines_of(second) == {"one": ([0.0, 0.1], [0.25, 0.0])}
    assert first.get_xlabel() == "eps (l2 or linf), units of the input"
    assert drawn[1].get_suptitle().endswith("(embedded)")
    config["evaluation"]["attacks"].popitem()
    many = [{"overrides": {"objective.alpha": i}} for i in range(9)]
    found["one"]["error"] = [[0.25, 0.5]] * 9
    result["replicas"] = many
    figures.draw(SimpleNamespace(figures=tmp_path, metrics=lambda: [line]), config, result)
    assert len(drawn[3].axes) == 16
    assert drawn[3].get_suptitle().endswith("(embedded); 8 of 9 points of the grid")


def test_transfer_matrices_have_a_row_for_each_model_the_examples_were_crafted_on(tmp_path, drawn):
    matrices = {"fgsm": np.array([[0.1, 0.7], [0.5, 0.2]]), "pgd": np.zeros((2, 2))}
    figures.transfer_matrices(tmp_path / "t.png", matrices, ["one", "two"], title="eps .3")
    assert_png(tmp_path / "t.png")
    fgsm, _ = drawn[0].axes
    assert (fgsm.get_title(), fgsm.get_ylabel(), fgsm.get_xlabel()) == (
        "fgsm",
        "crafted on",
        "tested on",
    )
    np.testing.assert_array_equal(fgsm.images[0].get_array(), matrices["fgsm"])
    written = {text.get_position(): text.get_text() for text in fgsm.texts}
    assert written[(1, 0)] == "0.700" and written[(0, 1)] == "0.500"  # (column, row)
    assert [label.get_text() for label in fgsm.get_yticklabels()] == ["one", "two"]

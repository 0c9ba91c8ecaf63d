"""Figures: PNGs whose lines are the means over replicas, with labeled axes."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from adv_jax.runner.run import figures

EVALUATION = {
    "fgsm": {"eps": [0.0, 0.1, 0.2], "error": [[0.1, 0.5, 0.9]], "confidence": [[0.9, 0.8, 0.7]]},
    "worst_case": {"eps": [0.0, 0.1, 0.2], "error": [[0.1, 0.6, 1.0]]},
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
    figures.attack_curves(tmp_path / "e.png", EVALUATION, title="a net, mnist (embedded)")
    assert_png(tmp_path / "e.png")
    (figure,) = drawn
    error, confidence = figure.axes
    assert figure.get_suptitle() == "a net, mnist (embedded)"
    assert (error.get_xlabel(), error.get_ylabel()) == ("eps (units of the input)", "error")
    assert (confidence.get_xlabel(), confidence.get_ylabel()) == (
        "eps (units of the input)",
        "confidence",
    )
    assert lines_of(error) == {
        "fgsm": ([0.0, 0.1, 0.2], [0.1, 0.5, 0.9]),
        "worst case": ([0.0, 0.1, 0.2], [0.1, 0.6, 1.0]),
    }
    assert set(lines_of(confidence)) == {"fgsm"}  # the worst case over attacks has none
    assert [text.get_text() for text in error.get_legend().get_texts()] == ["fgsm", "worst case"]


def test_attack_curves_of_replicas_are_means_within_their_range(tmp_path, drawn):
    figures.attack_curves(tmp_path / "e.png", replicate(EVALUATION, 0.5), title="t")
    assert_png(tmp_path / "e.png")
    error = drawn[0].axes[0]
    np.testing.assert_allclose(lines_of(error)["fgsm"][1], [0.075, 0.375, 0.675])
    (band, _) = error.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.05, 0.9)


def test_attack_curves_take_other_measures_and_a_buffer(drawn):
    buffer, eps = io.BytesIO(), [0.0, 0.1]
    curves = {"pgd": {"eps": eps, "accuracy": [[0.9, 0.2]], "confidence": [[0.8, 0.7]]}}
    figures.attack_curves(buffer, curves, title="t", measures=("accuracy", "confidence"))
    assert_png(buffer)
    accuracy, _ = drawn[0].axes
    assert accuracy.get_ylabel() == "accuracy"
    assert lines_of(accuracy) == {"pgd": (eps, [0.9, 0.2])}


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

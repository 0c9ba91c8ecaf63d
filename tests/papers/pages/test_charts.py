"""The charts of targets: legends and scales."""

import pytest

from papers.pages import charts


def row(label, mean, metric="error_percent", *, paper=None, paper_sd=None, sd=None):
    values = {} if mean is None else {"1": mean}
    numbers = {"mean": mean, "sd": sd, "paper": paper, "paper_sd": paper_sd}
    rest = {"values": values, "difference": None, "tolerance": None, "interval": None}
    return {"label": label, "metric": metric} | numbers | rest


def drawn(*rows):
    """The axes of the only panel, and the words of the legend."""
    figure = charts.comparison({"rows": rows})
    (axes,), (legend,) = figure.axes, figure.legends
    figure.canvas.draw()
    return axes, {text.get_text() for text in legend.get_texts()}


@pytest.mark.parametrize(("sd", "ours"), [(None, "ours"), (0.1, "ours (sd)")])
@pytest.mark.parametrize(("paper_sd", "paper"), [(None, "paper"), (0.2, "paper (sd)")])
def test_the_legend_names_a_spread_only_where_one_is_drawn(sd, ours, paper_sd, paper):
    _, words = drawn(row("a", 1.0, paper=1.2, sd=sd, paper_sd=paper_sd), row("b", 1.1))
    assert words == {ours, paper}


def test_errors_that_differ_much_are_on_a_logarithmic_axis_with_plain_ticks():
    axes, _ = drawn(row("small", 1.4), row("large", 25.0, sd=30.0))
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "test error (%), log scale"
    low, high = axes.get_xlim()
    ticks = [
        label.get_text()
        for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if low <= place <= high
    ]
    assert low < 1.4 < 25 + 30 < high and ticks == ["2", "5", "10", "20", "50"]


def test_a_logarithmic_axis_has_room_for_the_spread():
    axes, _ = drawn(row("a", 4.21, sd=2.27), row("b", 83.0, paper=80.0, paper_sd=9.0))
    low, high = axes.get_xlim()
    assert axes.get_xscale() == "log" and low < 4.21 - 2.27 and high > 89


@pytest.mark.parametrize(
    "values",
    [(1.4, 8.0), (0.0, 25.0)],
    ids=["near each other", "an error of 0"],
)
def test_other_errors_are_on_a_linear_axis(values):
    axes, _ = drawn(*(row(str(value), value) for value in values))
    assert axes.get_xscale() == "linear" and axes.get_xlabel() == "test error (%)"


def test_accuracies_are_on_a_linear_axis():
    axes, _ = drawn(row("low", 4.0, "accuracy_percent"), row("high", 99.0, "accuracy_percent"))
    assert axes.get_xscale() == "linear"

"""papers.running.readings: which readings fit, by hand."""

import pytest

from papers.running.readings import Cell, Reading, compared

CELLS = {"a": Cell("first", 0.5, 0.05), "b": Cell("second", 0.9, 0.005)}


def test_a_reading_fits_if_each_mean_is_within_its_tolerance():
    found = compared(
        [
            Reading("fits", {"a": {1: 0.40, 2: 0.52}, "b": {1: 0.896}}),  # .46 and .896
            Reading("off in b", {"a": {1: 0.5}, "b": {1: 0.894}}),
            Reading("off in a", {"a": {1: 0.56}, "b": {1: 0.9}}),
        ],
        CELLS,
        what="Two numbers.",
        title="Numbers",
    )
    rows = found.document["rows"]
    assert [row["fits"] for row in rows] == [True, False, False]
    assert rows[0]["mean"] == pytest.approx({"a": 0.46, "b": 0.896})
    assert rows[0]["off"] == pytest.approx({"a": 0.04, "b": 0.004})
    assert found.document["printed"] == {"a": 0.5, "b": 0.9}
    assert found.document["caption"].startswith("Two numbers. A reading fits")
    nearest = "The nearest, selected on the test set: fits, off by 4.00 points"
    assert f"1 of 3 fit. {nearest}" in found.document["caption"]
    assert found.table.columns == ["reading", "first (seeds 1, 2)", "second (seed 1)", "fits"]
    assert found.table.rows[0] == ["fits", "46.00", "89.60", "yes"]
    assert found.table.rows[-2:] == [
        ["the paper", "50.00", "90.00", ""],
        ["to be within", "5.00", "0.50", ""],
    ]


def test_the_nearest_is_measured_in_tolerances():
    far, near = {"a": {1: 0.5}, "b": {1: 0.91}}, {"a": {1: 0.56}, "b": {1: 0.9}}
    found = compared([Reading("far", far), Reading("near", near)], CELLS, what="", title="")
    assert "near, off by 6.00 points" in found.document["caption"]

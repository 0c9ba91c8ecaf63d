"""The findings of gains, orders, sizes and claims of no loss, against SciPy's tests."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from judged import FULL, HIGH, LOW, QUICK, SHORT, claim, document, row, seeds
from scipy import stats

from papers.judging.claims import limit_of
from papers.judging.verdicts import judge, num_tests


def test_a_gain_has_scipys_paired_test_and_interval():
    found = claim({"a": LOW, "b": HIGH})
    test = stats.ttest_rel(HIGH, LOW)
    assert found["verdict"] == "reproduced"
    assert found["p"] == pytest.approx(test.pvalue, rel=1e-3)
    assert found["interval"] == pytest.approx(test.confidence_interval(0.95), rel=1e-3)


def test_all_gains_of_a_work_share_scipys_false_discovery_rate():
    p_values = [0.001, 0.012, 0.03, 0.04, 0.2]
    adjusted = stats.false_discovery_control(p_values)  # .005, .03, .05, .05, .2
    significant = [p for p, other in zip(p_values, adjusted, strict=True) if other < 0.05]
    assert limit_of(p_values) == max(significant) == 0.012
    assert limit_of([]) == limit_of([0.5]) == -1


def with_p(p, n=4):
    """Returns n values below zero by differences with this p of the paired test."""
    unit = np.array([-1.0, 1.0, -1.0, 1.0])
    t = stats.t.isf(p / 2, n - 1)
    return (t * unit.std(ddof=1) / math.sqrt(n) + unit).tolist()


def test_a_gain_that_is_significant_alone_may_not_be_among_the_gains_of_the_work():
    zeros = [0.0] * 4
    alone = document(
        [row("a", seeds(*zeros)), row("b", seeds(*with_p(0.04)))],
        [{"form": "gain", "rows": ["a", "b"]}],
    )
    other = document(
        [row("a", seeds(*zeros)), row("b", seeds(*with_p(0.5)))],
        [{"form": "gain", "rows": ["a", "b"]}],
    )
    assert judge([alone])[0]["claims"][0]["verdict"] == "reproduced"
    found = judge([alone, other])[0]["claims"][0]
    assert (
        found["verdict"] == "same direction" and "not significant among the tests" in found["why"]
    )
    # A short run is no part of the family, nor said to be.
    assert judge([alone, {**other, "budget": SHORT}])[0]["claims"][0]["verdict"] == "reproduced"
    short = judge([{**alone, "budget": SHORT}, other])[0]["claims"][0]
    assert short["verdict"] == "same direction" and "among the tests" not in short["why"]


def test_a_gain_on_which_all_seeds_agree_has_the_same_direction():
    found = claim({"a": [1.0, 2.0, 3.0], "b": [1.1, 4.0, 3.2]})
    assert found["p"] > 0.05 and found["verdict"] == "same direction"
    assert claim({"a": [1.0, 2.0, 3.0], "b": [0.9, 4.0, 3.2]})["verdict"] == "unclear"


def test_a_gain_is_not_reproduced_if_its_interval_lies_below_zero_or_half_of_the_papers():
    """Differences of 0 within .01: the interval ends at 3.182 * .0082 / 2 = .013."""
    none = {"a": LOW, "b": [1.0, 2.01, 3.0, 3.99]}
    assert claim(none, papers=(1.0, 1.03))["verdict"] == "not reproduced"
    assert claim(none, papers=(1.0, 1.02))["verdict"] == "unclear"
    assert claim(none, papers=(1.2, 1.0))["verdict"] == "unclear"
    assert claim(none)["verdict"] == "unclear"
    assert claim({"b": HIGH, "a": LOW})["verdict"] == "not reproduced"


def test_a_significant_gain_below_half_of_the_papers_says_so():
    found = claim({"a": LOW, "b": HIGH}, papers=(1.0, 4.0))
    assert found["verdict"] == "reproduced" and found["less_than_half"]
    assert "less than half of the printed gain" in found["why"]
    assert not claim({"a": LOW, "b": HIGH}, papers=(1.0, 2.0))["less_than_half"]


def test_a_short_run_shows_a_direction_and_nothing_else():
    found = claim({"a": LOW, "b": HIGH}, budget=SHORT)
    assert (found["extent"], found["verdict"]) == ("short", "same direction")
    assert found["why"].endswith("a short run, 5 to 7 of 50 epochs") and found["num_tests"] == 0
    assert claim({"b": HIGH, "a": LOW}, budget=SHORT)["verdict"] is None
    for values in ({"a": LOW, "b": HIGH}, {"b": HIGH, "a": LOW}):
        assert claim(values, budget=QUICK)["verdict"] is None


def test_fewer_than_three_common_seeds_are_unclear():
    for n in (1, 2):
        found = claim({"a": LOW[:n], "b": HIGH[:n]})
        assert found["verdict"] == "unclear" and "fewer than 3 common seeds" in found["why"]
    rows = [row("a", {"1": 1.0}), row("b", {"2": 2.0}), row("c", {})]
    forms = [{"form": "gain", "rows": list(pair)} for pair in ("ab", "ac")]
    none, missing = judge([document(rows, forms)])[0]["claims"]
    assert (none["verdict"], none["why"]) == ("unclear", "the two share no seed")
    assert missing["extent"] == "not run" and "1 of 2 rows are not run" in missing["why"]


def test_differences_that_are_all_equal_are_significant_unless_they_are_zero():
    three = [1.0, 2.0, 3.0]
    assert claim({"a": three, "b": [2.0, 3.0, 4.0]})["verdict"] == "reproduced"
    assert claim({"a": three, "b": three})["verdict"] == "unclear"


@pytest.mark.parametrize(
    ("rows", "form", "verdict"),
    [
        ("cba", "falling", "reproduced"),
        ("cab", "falling", "not reproduced"),
        ("cbd", "falling", "unclear"),
        ("abc", "lowest", "reproduced"),
        ("bac", "lowest", "not reproduced"),
        ("dbc", "lowest", "unclear"),
    ],
)
def test_an_order_holds_if_each_of_its_steps_does(rows, form, verdict):
    """a, b and c are 1 apart but for .1; d lies about b."""
    values = {"a": LOW, "b": HIGH, "c": [v + 1 for v in HIGH], "d": [1.9, 3.6, 3.0, 5.9]}
    assert claim({label: values[label] for label in rows}, form=form)["verdict"] == verdict


@pytest.mark.parametrize("end", [0.0, 100.0])
def test_a_step_between_two_rows_at_the_floor_or_the_ceiling_does_not_count(end):
    values = {"a": [50.0, 51.0, 52.0], "b": [end] * 3, "c": [end] * 3}
    order = ("a", "b", "c") if end == 0 else ("c", "b", "a")
    found = claim({label: values[label] for label in order}, form="falling")
    assert found["verdict"] == "reproduced" and "1 of 1 steps" in found["why"]
    assert found["not_counted"].startswith("1 of 2 steps not counted")
    # Of rows of nats 0 and 100 are no ends.
    nats = [row(label, seeds(*values[label]), metric="log_likelihood_nats") for label in order]
    (found,) = judge([document(nats, [{"form": "falling", "rows": order}])])[0]["claims"]
    assert found["verdict"] == "unclear"
    (alone,) = judge(
        [document([row("b", seeds(end)), row("c", seeds(end))], [{"form": "gain", "rows": "bc"}])]
    )[0]["claims"]
    assert alone["verdict"] == "unclear" and "floor or the ceiling" in alone["why"]


@pytest.mark.parametrize("margin", [0.09, 0.11, 0.2])
def test_no_loss_is_scipys_one_sided_test_of_non_inferiority(margin):
    than, own = [1.0, 2.0, 3.0, 4.0], [0.97, 1.99, 2.9, 4.0]
    test = stats.ttest_rel(np.add(own, margin), than, alternative="greater")
    found = claim({"than": than, "own": own}, form="no loss", by=0, tolerance=margin)
    assert (found["verdict"] == "reproduced") == (test.pvalue < 0.05)
    lost = claim({"than": HIGH, "own": LOW}, form="no loss", by=0, tolerance=0.5)
    assert lost["verdict"] == "not reproduced"
    # More is no loss, however much.
    more = claim({"than": LOW, "own": HIGH}, form="no loss", by=0, tolerance=0.5)
    assert more["verdict"] == "reproduced"
    assert found["p"] == pytest.approx(test.pvalue, rel=1e-3)
    beyond = stats.ttest_rel(np.add(LOW, 0.5), HIGH)
    assert lost["p"] == pytest.approx(beyond.pvalue, rel=1e-3)


def test_a_size_is_judged_as_a_number():
    sized = {"form": "size", "by": 1.0}
    # Half of the 90 % interval is 2.353 * .0816 / 2 = .096, of the 95 % one 3.182 * .0408 = .13.
    inside = claim({"a": LOW, "b": HIGH}, **sized, tolerance=0.1)
    gains, limits = np.subtract(HIGH, LOW), {"less": 1.1, "greater": 0.9}
    sides = [stats.ttest_1samp(gains, end, alternative=side) for side, end in limits.items()]
    assert inside["p"] == pytest.approx(max(side.pvalue for side in sides), rel=1e-3)
    assert inside["verdict"] == "reproduced"
    assert claim({"a": LOW, "b": HIGH}, **sized, tolerance=0.05)["verdict"] == "consistent"
    assert claim({"b": HIGH, "a": LOW}, **sized, tolerance=0.6)["verdict"] == "not reproduced"
    assert claim({"a": LOW, "b": HIGH}, SHORT, **sized, tolerance=0.6)["verdict"] is None


def test_a_gain_that_the_papers_own_spread_does_not_support_is_not_established():
    def judged(sd):
        rows = [
            row("a", seeds(*LOW), 1.0, sd, 10),
            row("b", seeds(*HIGH), 1.1, sd, 10),
        ]
        rows = [{**one, "id": "maronas2016.table5.row1.col1"} for one in rows]
        return judge([document(rows, [{"form": "gain", "rows": ["a", "b"]}])])[0]["claims"][0]

    for sd, established in ((0.05, True), (0.5, False)):
        p = stats.ttest_ind_from_stats(1.1, sd, 10, 1.0, sd, 10, equal_var=False).pvalue
        found = judged(sd)
        assert found["established"] == (p < 0.05) == established
        assert f"p = {p:.2g} of its 10 and 10 runs" in found["why"]


def test_the_p_of_equal_numbers_of_a_paper_without_spread_is_1():
    rows = [row(label, seeds(*LOW), 1.0, 0.0, 10) for label in ("a", "b")]
    rows = [{**one, "id": "maronas2016.table5.row1.col1"} for one in rows]
    (found,) = judge([document(rows, [{"form": "gain", "rows": ["a", "b"]}])])[0]["claims"]
    assert "p = 1 of its 10 and 10 runs" in found["why"] and not found["established"]


def test_reasons_give_fractions_in_points_and_log_likelihoods_in_nats():
    tenths = {"a": [v / 10 for v in LOW], "b": [v / 10 for v in HIGH]}
    rows = [row(label, seeds(*values), metric="accuracy") for label, values in tenths.items()]
    (found,) = judge([document(rows, [{"form": "gain", "rows": ["a", "b"]}])])[0]["claims"]
    assert found["why"].startswith("difference 10 points over 4 seeds, 95 % interval 8.7 to 11.3")
    rows = [row(label, seeds(*v), metric="log_likelihood_nats") for label, v in tenths.items()]
    (found,) = judge([document(rows, [{"form": "gain", "rows": ["a", "b"]}])])[0]["claims"]
    assert found["why"].startswith("difference 0.1 nats over 4 seeds")


def test_tests_are_counted_by_numbers_gains_and_steps_of_orders():
    values = {"a": seeds(*LOW), "b": seeds(*HIGH), "c": {"1": 9.0}, "d": {}}
    rows = [
        row(label, v, 1.0, 0.1, 10, 0.2) | {"id": f"maronas2016.table11.row1.col{i}"}
        for i, (label, v) in enumerate(values.items(), 1)
    ]
    rows.append(rows[0] | {"label": "a again", "id": "again"})  # Another table prints it, too.
    paper = SimpleNamespace(
        first_place=lambda name: rows[0]["id"] if name == "again" else name,
    )
    claims = [
        {"form": "gain", "rows": ["a", "b"]},
        {"form": "gain", "rows": ["a", "c"]},  # One pair has no test.
        {"form": "falling", "rows": ["b", "a"]},
    ]
    for budget, count in ((FULL, 3 + 1 + 1), (SHORT, 0), (QUICK, 0)):
        assert num_tests(paper, judge([document(rows, claims, budget)])) == count


def test_judging_twice_changes_nothing():
    rows = [row("a", seeds(*LOW), 1.0, 0.1, 10, 0.2), row("b", seeds(*HIGH), 2.0)]
    once = judge([document(rows, [{"form": "gain", "rows": ["a", "b"]}])])
    assert judge(once) == once
    once[0]["claims"][0] |= {"verdict": "reproduced", "significant": True}
    assert "significant" not in judge(once)[0]["claims"][0]

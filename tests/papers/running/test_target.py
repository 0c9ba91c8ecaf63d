"""The units of the metrics of targets."""

import pytest

from papers.judging.metrics import METRICS, in_percent, printed_interval
from papers.judging.statistics import Error
from papers.judging.words import Difference

ROW = {
    "label": "a",
    "metric": "accuracy",
    "paper": 0.07,
    "paper_sd": None,
    "mean": 0.291,
    "sd": 0.002,
    "difference": 0.221,
    "tolerance": 0.05,
    "interval": [-0.1, 0.5],
    "values": {"1": 0.29, "2": 0.292},
}
PERCENT = {
    "label": "a",
    "metric": "accuracy",
    "paper": 7.0,
    "paper_sd": None,
    "mean": 29.1,
    "sd": 0.2,
    "difference": 22.1,
    "tolerance": 5.0,
    "interval": [-10.0, 50.0],
    "values": {"1": 29.0, "2": 29.2},
}


def test_a_row_of_fractions_is_printed_in_percent():
    assert in_percent(ROW) == PERCENT


@pytest.mark.parametrize("metric", ["accuracy_percent", "error_percent"])
def test_a_row_in_percent_is_printed_as_it_is(metric):
    assert in_percent(PERCENT | {"metric": metric}) == PERCENT | {"metric": metric}


def test_a_row_that_is_not_run_has_no_interval_in_percent():
    empty = {"mean": None, "sd": None, "difference": None, "interval": None, "values": {}}
    assert in_percent(ROW | empty) == PERCENT | empty


@pytest.mark.parametrize("metric", sorted(METRICS.keys() - {"log_likelihood_nats"}))
def test_a_rate_of_one_half_is_50_percent_in_every_metric(metric):
    assert METRICS[metric].factor * METRICS[metric].of(0.5) == 50


def test_nats_stay_nats():
    nats = METRICS["log_likelihood_nats"]
    assert (nats.factor * nats.of(225), nats.unit) == (225, "nats")


@pytest.mark.parametrize(
    ("ends", "printed"),
    [
        ((-22.9, 23.0), None),  # In fractions: wider than any two rates can differ.
        ((0.095, 0.095), None),  # Two seeds that agree: no spread is known.
        ((-0.2, 0.1), (-20.0, 10.0)),
        ((-0.1, 1.2), (-10.0, 100.0)),
        ((-1.3, -0.1), (-100.0, -10.0)),
    ],
)
def test_intervals_of_rates_are_printed_within_what_rates_can_differ(ends, printed):
    assert printed_interval(*ends, "error") == printed
    # t of one degree of freedom is 12.706 at .025.
    error = Error((ends[1] - ends[0]) / 2 / 12.7062, 1)
    text = str(Difference(sum(ends) / 2, error, 2, "error"))
    assert (printed is None) == ("interval" not in text)


def test_intervals_of_nats_are_not_cut():
    assert printed_interval(-300.0, 250.0, "log_likelihood_nats") == (-300.0, 250.0)

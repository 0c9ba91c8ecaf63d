"""papers.maronas2016.optimizers and online: against loops in NumPy, and made-up runs."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from config_files import config_of
from fabricated import finish

from adv_jax.types import UserError
from papers.maronas2016 import online, optimizers

CURVATURES = np.array([1, 18])
RATES = np.array([0.02, 0.1])


def plain(rate):
    p, points = np.array([4.0, 1.0]), []
    for _ in range(optimizers.ITERATIONS):
        p = p - rate * CURVATURES * p
        points.append(p)
    return np.array(points)


def adam(rate):
    p, m, v, points = np.array([4.0, 1.0]), np.zeros(2), np.zeros(2), []
    for t in range(1, optimizers.ITERATIONS + 1):
        g = CURVATURES * p
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        p = p - rate * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        points.append(p)
    return np.array(points)


def annealed(rate):
    p, points = np.array([4.0, 1.0]), []
    for t in range(optimizers.ITERATIONS):
        p = p - rate * (1 + np.cos(np.pi * t / optimizers.ITERATIONS)) / 2 * CURVATURES * p
        points.append(p)
    return np.array(points)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rule"), [("SGD", plain), ("Adam", adam), ("annealed", annealed)])
def test_the_points_of_a_rule_are_those_of_its_loop(name, rule):
    found = np.asarray(optimizers.paths_of(optimizers.RULES[name], RATES))
    np.testing.assert_array_equal(found[:, 0], [[4, 1]] * 2)
    for path, rate in zip(found, RATES, strict=True):
        np.testing.assert_allclose(path[1:], rule(rate), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_each_rule_is_drawn_at_its_best_rate_that_never_rises_above_the_start(document):
    found = document("optimizers")
    assert found["costs"].keys() == optimizers.RULES.keys()
    for name, costs in found["costs"].items():
        assert costs[0] == 17 and max(costs) <= 17 and 1e-9 < costs[-1] < 2, name
        p0, p1 = np.transpose(found["paths"][name])
        assert min(p0) > -1.5 and max(p0) < 4.5 and min(p1) > -1.4 and max(p1) < 1.3, name
    assert "costs below 1e-09 or above 10000 are left out" in found["caption"]
    # Plain descent contracts the valley by 1 - rate and its walls by 1 - 18 rate: best where the
    # ends of both are equal, and stable below 1 / 9.
    assert 0.09 < found["rates"]["SGD"] < 1 / 9
    assert found["costs"]["momentum .5"][-1] < 0.01 * found["costs"]["SGD"][-1]


def made(folder, rule, error=0.1):
    """The workdir of a made-up run of online_mnist whose errors fall with the epochs."""
    workdir = folder / rule
    run = SimpleNamespace(config=config_of("online_mnist", f"rule={rule}"), workdir=workdir)
    finish(run, lambda replica, eps: error)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["test_error"] = error / line["epoch"] + 0.01 * line["replica"]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(workdir)


def test_the_rows_of_the_online_rules_are_the_errors_after_the_last_epoch(tmp_path):
    workdirs = [made(tmp_path, "perceptron", 0.2), made(tmp_path, "pa1", 0.12)]
    drawing = online.curves(workdirs)
    # Four epochs, three replicas: .2 / 4 + (0, .01, .02) and .12 / 4 + (0, .01, .02).
    assert [row[1:] for row in drawing.table.rows] == [
        ["6.00", "5.00", "7.00"],
        ["4.00", "3.00", "5.00"],
    ]
    assert drawing.document["caption"] == (
        "passive-aggressive, PA-I has the lowest mean test error in the end, 4.00 %; "
        "full MNIST; seeds 1 to 3; 4 epochs."
    )
    np.testing.assert_allclose(
        drawing.figure.axes[0].lines[0].get_ydata(), [21, 11, 7.6667, 6], rtol=1e-4
    )


def test_runs_of_one_rule_or_of_another_experiment_are_refused(tmp_path):
    one = made(tmp_path, "perceptron")
    with pytest.raises(UserError, match="runs of different rules, got perceptron, perceptron"):
        online.curves([one, one])
    run = SimpleNamespace(config=config_of("quickstart", "quick"), workdir=tmp_path / "other")
    finish(run, lambda replica, eps: 0.1)
    with pytest.raises(UserError, match="must be a run of online_mnist, got .* of quickstart"):
        online.curves([one, str(tmp_path / "other")])

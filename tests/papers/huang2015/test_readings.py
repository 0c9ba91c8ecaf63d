"""papers.huang2015.readings: each reading is of its own runs or points of a grid."""

import json
import runpy

import pytest

from adv_jax.runner.config.document import with_values
from adv_jax.types import UserError
from papers.huang2015 import readings


def run_of(path, method, changes, errors):
    """A workdir as a finished run of huang_mlp_mnist leaves it; errors: (overrides, row) each."""
    path.mkdir()
    config = runpy.run_path("configs/huang_mlp_mnist.py")["get_config"](f"method={method}")
    (path / "config.json").write_text(json.dumps(with_values(config.to_dict(), changes)))
    attacks = ("fixed", "adv_loss_sign", "adv_loss", "adv_alpha")
    result = {
        "data": {"name": "mnist", "source": "embedded"},
        "replicas": [
            {"seed": 1, "epochs": 80, "overrides": overrides, "test_error": row[0]}
            for overrides, row in errors
        ],
        "evaluation": {
            attack: {"eps": [0.0, 1.5], "error": [[row[0], row[column]] for _, row in errors]}
            for column, attack in enumerate(attacks, start=1)
        },
    }
    (path / "result.json").write_text(json.dumps(result))
    return str(path)


def dropout_run(path, rates, errors):
    return run_of(path, "dropout", {"model.dropout": rates}, [({}, errors)])


def test_rows_of_dropout_are_named_by_its_layers_and_rates(tmp_path):
    # The paper has .983, .337, .233, .115 and .088.
    as_printed = dropout_run(tmp_path / "a", (0.0, 0.5, 0.2), (0.017, 0.663, 0.767, 0.885, 0.912))
    other = dropout_run(tmp_path / "b", (0.0, 0.0, 0.5), (0.017, 0.663, 0.667, 0.885, 0.912))
    rows = readings.dropout([as_printed, other]).document["rows"]
    assert [row["reading"] for row in rows] == [
        "first layer 0.5, second layer 0.2",
        "second layer 0.5",
    ]
    assert [row["fits"] for row in rows] == [True, False]
    assert rows[1]["mean"]["loss_sign"] == pytest.approx(0.333)
    plain = dropout_run(tmp_path / "c", (), (0.0,) * 5)
    with pytest.raises(UserError, match=r"model.dropout must be \(0, first, second\)"):
        readings.dropout([plain])


def test_rows_of_lwa_rep_are_named_by_its_radii(tmp_path):
    # The paper has .986, .797, .819, .673 and .646.
    printed, other = (0.014, 0.203, 0.181, 0.327, 0.354), (0.014, 0.15, 0.2, 0.52, 0.53)
    absolute = run_of(tmp_path / "a", "lwa_rep", {}, [({}, other)])
    points = [({readings.RADIUS: 0.1}, other), ({readings.RADIUS: 0.25}, printed)]
    grid = {"replicas.grid": {readings.RADIUS: (0.1, 0.25)}}
    relative = run_of(tmp_path / "b", "lwa_rep_relative", grid, points)
    rows = readings.representation([absolute, relative]).document["rows"]
    assert [row["reading"] for row in rows] == [
        "r of 1.7",
        "r of 0.1 times the length of h",
        "r of 0.25 times the length of h",
    ]
    assert [row["fits"] for row in rows] == [False, False, True]
    assert rows[0]["mean"]["loss"] == pytest.approx(0.48)
    lwa = run_of(tmp_path / "c", "lwa", {}, [({}, other)])
    with pytest.raises(UserError, match="objective must be lwa_rep, got lwa in"):
        readings.representation([lwa])

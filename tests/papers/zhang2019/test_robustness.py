"""Accuracies under AutoAttack: the closed form of a linear model, and what the table says."""

import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import data
from adv_jax.runner.run.trained import Trained
from adv_jax.types import UserError
from papers.zhang2019 import robustness

RNG = np.random.default_rng(0)
W, X = RNG.normal(size=(3, 4)).astype("f"), RNG.normal(size=(60, 3)).astype("f")
Y = (X @ W + 0.3 * RNG.normal(size=(60, 4))).argmax(axis=1).astype(np.int32)


def run_of(experiment):
    arrays = data.Arrays(X, Y)
    dataset = data.Dataset("made_up", "embedded", {}, arrays, arrays, 4, (-9.0, 9.0))
    about = {
        "experiment": experiment,
        "epochs": 2,
        "objective": {"name": "trades"},
        "data": {"name": "mnist", "source": "embedded", "sha256": {}},
        "preprocess": [],
    }
    return Trained(lambda x: x @ jnp.asarray(W), lambda *_: None, {}, "labels", dataset, about)


@pytest.mark.slow
def test_the_errors_of_a_linear_model_are_those_of_its_margins():
    # x resists linf .3 if z_y - z_k > .3 |w_y - w_k|_1 for all k.
    margins = np.float64(X) @ W
    wrong, fooled = np.zeros(60, bool), np.zeros(60, bool)
    for k in range(4):
        margin = margins[np.arange(60), Y] - margins[:, k]
        widths = 0.3 * np.abs(W[:, Y] - W[:, [k]]).sum(axis=0)
        wrong |= margin < 0
        fooled |= (margin <= widths) & (k != Y)
    drawing = robustness.auto_attack([run_of("trades_mnist")])
    (row,) = drawing.document["rows"]
    assert 0.05 < wrong.mean() < fooled.mean() < 0.95
    expected = {"clean": wrong.mean(), "auto_attack": fooled.mean()}
    assert row["error"] == pytest.approx(expected, rel=1e-5)
    (cells,) = drawing.table.rows
    assert cells[:2] == ["trades_mnist, trades", "2 of 100"] and cells[4:] == ["99.48", "92.81"]


def test_a_run_of_another_config_is_refused():
    with pytest.raises(UserError) as error:
        robustness.auto_attack([run_of("quickstart")])
    expected = "workdir must be runs of pgd_mnist or trades_mnist, got one of quickstart"
    assert str(error.value) == expected

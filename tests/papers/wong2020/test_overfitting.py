"""papers.wong2020: the curves of made-up runs, and runs that do not fit."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from config_files import config_of
from fabricated import finish

from adv_jax.runner.config.document import with_values
from adv_jax.types import UserError
from papers.wong2020 import overfitting

EPOCHS = 4


def made(folder, start, *, seeds=2, missing=None):
    """The workdir of a made-up run whose errors rise with epoch and replica."""
    config = with_values(config_of("fast_mnist", f"start={start}"), {"replicas.seeds": seeds})
    workdir = folder / start
    finish(SimpleNamespace(config=config, workdir=workdir), lambda replica, eps: 0.1)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        attacked = {"fgsm_error": 0.2 - 0.02 * line["epoch"], "pgd_20_error": error(start, line)}
        line |= {name: value for name, value in attacked.items() if name != missing}
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(workdir)


def error(start, line):
    rising = 0.2 * line["epoch"] if start == "zero" else 0.5 - 0.1 * line["epoch"]
    return rising + 0.02 * line["replica"]


def test_the_curves_are_the_accuracies_of_each_epoch(tmp_path):
    workdirs = [made(tmp_path, start) for start in ("random", "zero")]
    drawing = overfitting.curves(workdirs)
    random, zero = drawing.document["curves"]
    assert random["step"] == "a step of 1.25 eps from a random start"
    assert zero["step"] == "a step of 1 eps from the digit"
    epochs, replicas = np.arange(1, EPOCHS + 1), np.arange(2)[:, None]
    np.testing.assert_allclose(zero["accuracy"]["pgd_20"], 1 - 0.2 * epochs - 0.02 * replicas)
    np.testing.assert_allclose(zero["accuracy"]["fgsm"], [0.8 + 0.02 * epochs] * 2)
    np.testing.assert_allclose(random["accuracy"]["pgd_20"], 0.5 + 0.1 * epochs - 0.02 * replicas)
    # The mean of two replicas: 1 - .2 - .01 after the first epoch, 1 - .8 - .01 after the last.
    # From a random start the last is the best: .5 + .4 - .01.
    caption = drawing.document["caption"]
    assert "end at 19.0% under PGD, after 79.0% in their best epoch, 1, and 88.0%" in caption
    assert "end at 89.0% under PGD, their best epoch, and 88.0% under FGSM." in caption
    assert "means over 2 seeds" in caption
    panels = drawing.figure.axes
    assert [len(axes.lines) for axes in panels] == [3, 3]
    np.testing.assert_allclose(panels[1].lines[2].get_ydata(), 0.99 - 0.2 * epochs)


def test_runs_in_another_order_or_without_an_attack_are_refused(tmp_path):
    random, zero = (made(tmp_path, start) for start in ("random", "zero"))
    with pytest.raises(UserError, match="must be runs of start=random and start=zero, got start=z"):
        overfitting.curves([zero, random])
    lacking = made(tmp_path / "lacking", "zero", missing="fgsm_error")
    with pytest.raises(UserError, match="with fgsm_error of each epoch .* without"):
        overfitting.curves([random, lacking])


def test_runs_of_another_experiment_are_refused(tmp_path):
    config = config_of("quickstart", "quick")
    finish(SimpleNamespace(config=config, workdir=tmp_path), lambda replica, eps: 0.1)
    with pytest.raises(UserError, match="must be a run of fast_mnist, got .* of quickstart"):
        overfitting.curves([str(tmp_path)])

"""Accuracy under FGSM and PGD over the epochs of one-step training.  [wong2020]"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adv_jax.style import GRAY, attack_style, band, canvas, name_lines
from adv_jax.types import UserError
from papers.judging.words import span
from papers.running.drawing import Drawing, rounded
from papers.running.runs import by_epoch, finished_runs, run_document, trained_on

_LINES = {
    "test_error": {"label": "clean", "color": GRAY, "linestyle": ":"},
    "fgsm_error": {"label": "FGSM", **attack_style("fgsm")},
    "pgd_20_error": {"label": "PGD of 20 steps", **attack_style("pgd_20")},
}


def curves(workdirs: Sequence[str]) -> Drawing:
    """Catastrophic overfitting: accuracy under FGSM and under PGD, epoch by epoch.

    Args:
      workdirs: finished runs of fast_mnist, start=random and then start=zero.

    Raises:
      UserError: they are not two such runs on one data set.
    """
    runs = finished_runs(workdirs, experiment="fast_mnist")
    starts = [run.config["objective"]["attack"]["random_start"] for run in runs]
    if starts != [True, False]:
        found = ", ".join("start=random" if start else "start=zero" for start in starts)
        raise UserError(f"workdir must be runs of start=random and start=zero, got {found}")
    title = f"Wong 2020, catastrophic overfitting: {trained_on(runs)}"
    figure, (panels,) = canvas(1, 2, title=title, sharey=True)
    shown: list[dict[str, Any]] = []
    for axes, run in zip(panels, runs, strict=True):
        attack, watched = run.config["objective"]["attack"], run.config["monitor_attacks"]
        accuracy = {name: 1 - np.array(by_epoch(run, name)) for name in _LINES}
        for name, look in _LINES.items():
            values = accuracy[name]
            epochs = np.arange(1, values.shape[1] + 1)
            band(axes, epochs, values, marker="o", markersize=3, **look)
        start = "a random start" if attack["random_start"] else "the digit"
        step = f"a step of {attack['step_size'] / attack['eps']:g} eps from {start}"
        axes.set(title=f"trained on {step}", xlabel="epoch", ylim=(0, 1))
        name_lines(axes)
        axes.xaxis.get_major_locator().set_params(integer=True)
        of_run = {name.removesuffix("_error"): rounded(v) for name, v in accuracy.items()}
        shown.append({"step": step, "eps": watched["eps"], "accuracy": of_run})
    eps, rows = watched["eps"], watched["rows"]
    counts = {len(curve["accuracy"]["test"]) for curve in shown}
    seeds = f"{span(counts)} seed{'s' if counts != {1} else ''}"
    panels[0].set(ylabel=f"accuracy (fraction), linf {eps:g}")
    document = {
        "caption": f"Accuracy after each epoch on all test digits, and on {rows:,} under attacks "
        f"inside linf {eps:g}. Numbers are means over {seeds}; bands reach from the lowest to the "
        f"highest. {' '.join(map(_summary, shown))}",
        "settings": {"chosen": ["net", "optimizer", "epochs", "digits under attack"]},
        "curves": shown,
        "runs": [run_document(run, "objective", "model") for run in runs],
    }
    return Drawing(figure, document)


def _summary(curve: dict[str, Any]) -> str:
    fgsm, pgd = (np.mean(curve["accuracy"][name], axis=0) for name in ("fgsm", "pgd_20"))
    best = pgd.argmax()
    end = f"{pgd[-1]:.1%} under PGD"
    if best == len(pgd) - 1:
        end += ", their best epoch,"
    else:
        end += f", after {pgd[best]:.1%} in their best epoch, {best + 1},"
    return f"Trained on {curve['step']}, the nets end at {end} and {fgsm[-1]:.1%} under FGSM."

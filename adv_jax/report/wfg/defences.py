"""Error rates of defended nets, beside the chapter's.  [Warde-Farley & Goodfellow 2016, sec. 1.2.7
and 1.3]

The chapter does not say how many steps its iterative attack takes; here it is 40 of projected
gradient ascent, of 2.5 eps / 40 each. Nothing is clipped to [0, 1].
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from adv_jax import attacks, evaluate
from adv_jax.report.drawing import Drawing, canvas, rounded
from adv_jax.trained import Trained

NUM_STEPS = 40
_ATTACKS = {"FGSM": attacks.fgsm, "iterative": partial(attacks.pgd, num_steps=NUM_STEPS)}
Measure = tuple[str, float]  # the attack and its size

# The chapter's error rates, method -> measure -> fraction of the test set.
SMOOTHING: dict[str, dict[Measure, float]] = {
    "cross_entropy": {("FGSM", 0.0): 0.0128, ("FGSM", 0.25): 0.9997},
    "label_smoothing, printed": {("FGSM", 0.0): 0.0117, ("FGSM", 0.25): 0.33},
}
TRAINING: dict[str, dict[Measure, float]] = {
    "cross_entropy": {("iterative", 0.1): 0.79},
    "adversarial_mix, fgsm": {
        ("FGSM", 0.25): 0.18,
        ("iterative", 0.25): 0.97,
        ("iterative", 0.1): 0.22,
    },
}


def label_smoothing(runs: Sequence[Trained]) -> Drawing:
    """Sec. 1.2.7: errors of nets with hard and with smoothed targets, clean and under FGSM.

    Args:
      runs: nets, of which those trained on plain and on smoothed targets as printed have numbers in
        the chapter.
    """
    measures = [("FGSM", 0.0), ("FGSM", 0.25)]
    return _drawn(runs, measures, SMOOTHING, "Label smoothing, sec. 1.2.7")


def adversarial_training(runs: Sequence[Trained]) -> Drawing:
    """Sec. 1.3: errors of nets under FGSM and under the iterative attack of the same size.

    Args:
      runs: nets, of which those trained plainly and on FGSM's examples have numbers in the chapter.
    """
    measures = [("FGSM", 0.0), ("FGSM", 0.25), ("iterative", 0.25), ("iterative", 0.1)]
    return _drawn(runs, measures, TRAINING, "Adversarial training, sec. 1.3")


def method_of(objective: Mapping[str, Any]) -> str:
    """An objective of a config in words: its name, and its attack's or its form."""
    attack = objective.get("attack", {}).get("name")
    return ", ".join(filter(None, [objective["name"], attack, objective.get("form")]))


def errors(run: Trained, measures: Sequence[Measure]) -> dict[Measure, float]:
    """Fractions of the run's test set that are misclassified."""
    found: dict[Measure, float] = {}
    for name in dict(measures):
        sizes = [eps for attack, eps in measures if attack == name]
        with warnings.catch_warnings(action="ignore", category=evaluate.AuditWarning):
            attack = {name: _ATTACKS[name]}
            curve = evaluate.evaluate(run.logits_fn, *run.dataset.test, attack, eps=sizes).attacks[
                name
            ]
        found |= {(name, eps): rounded(1 - a) for eps, a in zip(sizes, curve.accuracy, strict=True)}
    return found


def _drawn(
    runs: Sequence[Trained],
    measures: Sequence[Measure],
    chapter: Mapping[str, Mapping[Measure, float]],
    what: str,
) -> Drawing:
    """Bars of the errors, a group for each measure, with the chapter's as black lines."""
    dataset = runs[0].dataset
    title = f"{what}; {dataset.name} ({dataset.source}), {len(dataset.test.y)} test examples"
    figure, ((axes,),) = canvas(1, 1, title=title, width=8)
    width = 0.8 / len(runs)
    document: dict[str, Any] = {"rows": []}
    told = []
    for i, run in enumerate(runs):
        method = method_of(run.about["objective"])
        found, printed = errors(run, measures), chapter.get(method, {})
        at = np.arange(len(measures)) + (i - (len(runs) - 1) / 2) * width
        label = f"{method} ({run.about['model']['name']}, seed {run.about['seed']})"
        bars = axes.bar(
            at, [100 * found[measure] for measure in measures], 0.9 * width, label=label
        )
        axes.bar_label(bars, fmt="%.1f", fontsize="small")
        for x, measure in zip(at, measures, strict=True):
            if measure in printed:
                axes.hlines(100 * printed[measure], x - width / 2, x + width / 2, color="black")
        document["rows"].append(
            {
                "method": method,
                "run": run.about,
                "error": {_named(measure): error for measure, error in found.items()},
                "chapter": {_named(measure): error for measure, error in printed.items()},
            }
        )
        told.append(f"{method}: " + ", ".join(_told(m, found[m], printed) for m in measures))
    axes.set_xticks(range(len(measures)), [_named(measure) for measure in measures])
    axes.set(ylabel="error, % (black lines: the chapter)", ylim=(0, 110))
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    settings = {"num_steps": NUM_STEPS, "bounds": None, "chosen": ["num_steps", "step size"]}
    caption = f"Test errors, the chapter's in brackets. {'; '.join(told)}."
    return Drawing(figure, {"caption": caption, "settings": settings, **document})


def _told(measure: Measure, found: float, printed: Mapping[Measure, float]) -> str:
    of_chapter = f" ({100 * printed[measure]:.4g} %)" if measure in printed else ""
    return f"{_named(measure)} {100 * found:.2f} %{of_chapter}"


def _named(measure: Measure) -> str:
    attack, eps = measure
    return f"{attack} {eps:g}" if eps else "clean"

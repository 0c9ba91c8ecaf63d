"""Error rates of defended nets.  [wardefarley2016, sec. 1.2.7 and 1.3]

The source does not print the number of steps of its iterative attack; here it is 40 steps of
projected gradient ascent with step size 2.5 eps / 40. Nothing is clipped to [0, 1].
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from adv_jax import attacks, evaluate
from adv_jax.runner.run.trained import Trained
from adv_jax.style import canvas
from papers.judging import numbers
from papers.running import images
from papers.running.drawing import Drawing, rounded
from papers.running.runs import require_same_inputs

NUM_STEPS = 40
_ATTACKS = {"FGSM": attacks.fgsm, "iterative": partial(attacks.pgd, num_steps=NUM_STEPS)}
MEASURES = {  # name -> attack and size
    "clean": ("FGSM", 0.0),
    "FGSM .25": ("FGSM", 0.25),
    "iterative .25": ("iterative", 0.25),
    "iterative .1": ("iterative", 0.1),
}
Errors = dict[str, float]  # measure -> fraction of the test set
Cells = dict[str, str]  # measure -> id of the printed number, without the paper

# method -> printed errors
SMOOTHING: dict[str, Cells] = {
    "cross_entropy": {
        "clean": "label_smoothing.base.clean",
        "FGSM .25": "label_smoothing.base.fgsm",
    },
    "label_smoothing, printed": {
        "clean": "label_smoothing.smooth.clean",
        "FGSM .25": "label_smoothing.smooth.fgsm",
    },
}
_TRAINED: Cells = {
    "FGSM .25": "advtrain.fgsm_25",
    "iterative .25": "advtrain.iter_25",
    "iterative .1": "advtrain.iter_10",
}
TRAINING: dict[str, Cells] = {
    "cross_entropy": {"iterative .1": "advtrain.clean_iter_10"},
    "adversarial_mix, fgsm": _TRAINED,
    "adversarial_mix, fgsm, same_dropout": _TRAINED,
}


def label_smoothing(runs: Sequence[Trained]) -> Drawing:
    """Sec. 1.2.7: errors of nets with hard and with smoothed targets, clean and under FGSM.

    Args:
      runs: trained nets. The source prints numbers for maxout nets on MNIST, trained on hard
        targets and on smoothed targets as printed.

    Raises:
      UserError: the data differ.
    """
    title = "Label smoothing, sec. 1.2.7"
    return _drawn(runs, ["clean", "FGSM .25"], SMOOTHING, title)


def adversarial_training(runs: Sequence[Trained]) -> Drawing:
    """Sec. 1.3: errors of nets under FGSM and under the iterative attack of the same size.

    Args:
      runs: trained nets. The source prints numbers for maxout nets on MNIST, trained plainly and on
        FGSM examples of size .25.

    Raises:
      UserError: the data differ.
    """
    return _drawn(runs, list(MEASURES), TRAINING, "Adversarial training, sec. 1.3")


def method_of(objective: Mapping[str, Any]) -> str:
    """Returns the name of a config's objective with its attack, form and dropout of the attack."""
    attack = objective.get("attack", {}).get("name")
    dropout = "same_dropout" if objective.get("same_dropout") else ""
    return ", ".join(filter(None, [objective["name"], attack, objective.get("form"), dropout]))


def net_of(run: Trained) -> str:
    """Describes a net for titles: "maxout 240-240 (cross_entropy), seed 1, 25 epochs"."""
    about, model = run.about, run.about["model"]
    units = model.get("features", ())
    units = units if isinstance(units, tuple | list) else (units,)  # of a model of the user's
    net = " ".join([model["name"], "-".join(map(str, units))]).strip()
    trained = f"seed {about['seed']}, {about['epochs']} epoch{'s' if about['epochs'] > 1 else ''}"
    return f"{net} ({method_of(about['objective'])}), {trained}"


def errors(run: Trained, measures: Sequence[str]) -> tuple[Errors, list[str]]:
    """Returns errors of a model on its test set, and warnings of the audit.

    Args:
      run: a trained model and its data.
      measures: keys of MEASURES.
    """
    found, audit_warnings = {}, []
    for attack, perturb in _ATTACKS.items():
        sizes = {name: MEASURES[name][1] for name in measures if MEASURES[name][0] == attack}
        if not sizes:
            continue
        with warnings.catch_warnings(action="ignore", category=evaluate.AuditWarning):
            measured = evaluate.evaluate(
                run.logits_fn, *run.dataset.test, {attack: perturb}, eps=list(sizes.values())
            )
        found |= dict(zip(sizes, rounded(1 - measured.attacks[attack].accuracy), strict=True))
        audit_warnings += measured.audit.warnings
    return {name: found[name] for name in measures}, audit_warnings


def _drawn(
    runs: Sequence[Trained],
    measures: Sequence[str],
    printed: Mapping[str, Cells],
    what: str,
) -> Drawing:
    """Draws bars of the errors, grouped by measure, with the printed errors as black lines."""
    require_same_inputs(runs)
    rows = [_row(run, measures, printed) for run in runs]
    dataset = runs[0].dataset
    title = f"{what}; {images.in_words(dataset)}, {len(dataset.test.y)} test examples"
    figure, ((axes,),) = canvas(1, 1, title=title, width=8)
    width = 0.8 / len(rows)
    for i, (run, row) in enumerate(zip(runs, rows, strict=True)):
        at = np.arange(len(measures)) + (i - (len(rows) - 1) / 2) * width
        percent = [100 * error for error in row["error"].values()]
        axes.bar_label(axes.bar(at, percent, 0.9 * width, label=net_of(run)), fmt="%.1f")
        for x, name in zip(at, measures, strict=True):
            if name in row["chapter"]:
                y = 100 * row["chapter"][name]
                axes.hlines(y, x - width / 2, x + width / 2, color="black")
    axes.set_xticks(range(len(measures)), measures)
    axes.set(ylabel="error, % (black lines: printed)", ylim=(0, 110))
    figure.legend(loc="outside lower center", ncols=2)
    settings = {"num_steps": NUM_STEPS, "bounds": None, "chosen": ["num_steps", "step size"]}
    named = [f"{net_of(run)}: {_summary(row)}" for run, row in zip(runs, rows, strict=True)]
    caption = f"Test errors, printed ones in brackets. {'; '.join(named)}."
    return Drawing(figure, {"caption": caption, "settings": settings, "rows": rows})


def _row(run: Trained, measures: Sequence[str], printed: Mapping[str, Cells]) -> dict[str, Any]:
    method = method_of(run.about["objective"])
    cells = printed.get(method, {}) if _has_printed_numbers(run) else {}
    found, audit_warnings = errors(run, measures)
    return {
        "method": method,
        "run": run.about,
        "error": found,
        "chapter": {
            measure: numbers.fraction(f"wardefarley2016.{cell}") for measure, cell in cells.items()
        },
        "warnings": audit_warnings,
    }


def _has_printed_numbers(run: Trained) -> bool:
    """Returns whether the net, the data and the training eps are those of the source."""
    about, eps = run.about, MEASURES["FGSM .25"][1]
    trained_at = {**about["objective"].get("attack", {}), **_of_attack(about["overrides"])}
    net = about["model"]["name"], about["data"]["name"]
    return net == ("maxout", "mnist") and trained_at.get("eps", eps) == eps


def _of_attack(overrides: Mapping[str, float]) -> dict[str, float]:
    prefix = "objective.attack."
    return {k.removeprefix(prefix): v for k, v in overrides.items() if k.startswith(prefix)}


def _summary(row: Mapping[str, Any]) -> str:
    """Returns the errors of a row in percent."""
    printed = {name: f" ({100 * error:.4g} %)" for name, error in row["chapter"].items()}
    parts = [
        f"{name} {100 * error:.2f} %{printed.get(name, '')}" for name, error in row["error"].items()
    ]
    return ", ".join(parts)

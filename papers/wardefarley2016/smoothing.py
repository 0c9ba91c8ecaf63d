"""FGSM on the cost of hard and of smoothed targets.  [wardefarley2016, sec. 1.2.4, 1.2.7]

The source attacks J, "the cost used to train the model". After training with label smoothing this
is the cost of the smoothed targets. Where the net is more certain than its targets, p_y > .9, FGSM
on this cost makes the correct class more probable.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from adv_jax import attacks
from adv_jax.objectives import smoothed_targets
from adv_jax.runner.run.trained import Trained
from adv_jax.types import UserError
from papers.judging import numbers
from papers.judging.statistics import BySeed, spread
from papers.running.drawing import Drawing, Table, rounded
from papers.running.runs import finished_runs, run_document, trained_on
from papers.wardefarley2016.defenses import MEASURES, SMOOTHING, method_of

MEASURE = "FGSM .25"
# name of the targets whose cost is attacked -> weight taken from the correct class
TARGETS = {"hard": 0.0, "smoothed": 0.1}


def costs(workdirs: Sequence[str]) -> Drawing:
    """Sec. 1.2.7: errors of nets under FGSM on the cost of hard and of smoothed targets.

    Args:
      workdirs: runs of goodfellow_mnist, plain and with label smoothing as printed.

    Raises:
      UserError: a run is unfinished, has a grid or another objective, or the data differ.
    """
    runs = finished_runs(workdirs)
    rows, cells = [], []
    for run in runs:
        method = method_of(run.config["objective"])
        by_seed: dict[str, BySeed] = {name: {} for name in ("clean", *TARGETS)}
        for model in run.models():
            for name, value in errors(model).items():
                by_seed[name][model.about["seed"]] = value
        error = {name: rounded(spread([*values.values()]).mean) for name, values in by_seed.items()}
        printed = numbers.fraction(_id(method))
        rows.append({"method": method, "error": error, "by_seed": by_seed, "printed": printed})
        trained = "hard" if method == "cross_entropy" else "smoothed"
        name = f"{trained} targets, {trained_on([run])}"
        cells.append([name, *(f"{100 * e:.4g}" for e in (*error.values(), printed))])
    eps = MEASURES[MEASURE][1]
    caption = (
        f"Test error under FGSM of size {eps} that raises the cost of hard or of smoothed targets. "
        + " ".join(
            f"Trained on {name}: {hard} and {smoothed} %, the paper has {paper}."
            for name, _, hard, smoothed, paper in cells
        )
    )
    document = {
        "caption": caption,
        "settings": {"attack": "fgsm", "eps": eps, "bounds": None, "chosen": ["targets"]},
        "rows": rows,
        "runs": [run_document(run, "experiment", "objective") for run in runs],
    }
    title = f"Label smoothing, error in % under FGSM {eps} on the cost of two kinds of targets"
    columns = ["trained on", "clean", *(f"{name} targets" for name in TARGETS), "the paper"]
    return Drawing(None, document, Table(title, columns, cells))


def errors(model: Trained) -> dict[str, float]:
    """Returns test errors: "clean", and under FGSM on the cost of each kind of targets."""
    x, y = map(jnp.asarray, model.dataset.test)
    classes, eps = model.dataset.num_classes, MEASURES[MEASURE][1]

    def error(x: jax.Array) -> float:
        return rounded(jnp.mean(model.logits_fn(x).argmax(axis=1) != y))

    found = {"clean": error(x)}
    for name, weight in TARGETS.items():
        targets = smoothed_targets(y, classes, smoothing=weight, form="printed")
        found[name] = error(attacks.fgsm(model.logits_fn, x, targets, eps=eps))
    return found


def _id(method: str) -> str:
    """Returns the id of the printed error of a training method."""
    if method not in SMOOTHING:
        raise UserError(f"objective must be {' or '.join(SMOOTHING)}, got {method}")
    return f"wardefarley2016.{SMOOTHING[method][MEASURE]}"

"""Covertype's nets under FGSM as printed, and under examples that are cells of forest.

Source: shallow-net thesis, sec. 3.6. Its B is trained on FGSM's examples, whose 44 columns of
categories, one area of 4 and one soil of 40 for each cell, are neither 0 nor 1. Here no example of
`tabular.climb` and `tabular.search` breaks them. Both attacks have the same eps, in units of the
net's inputs, in which a change of category is as long as there.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import attacks, evaluate, tabular
from adv_jax.data import Dataset
from adv_jax.runner.run.trained import Trained
from adv_jax.style import band, canvas
from adv_jax.types import LogitsFn
from papers.running.drawing import SEED, Drawing, rounded
from papers.running.runs import one_of_each, require_same_inputs, trained_on
from papers.shallow_thesis.runs import LABELS, STYLES, read

SIZES = np.linspace(0, 1, 9)
TRAINED = 0.25  # the eps of B's training
ROWS = 1000  # of the test set, from its start
AREAS, SOILS = tuple(range(10, 14)), tuple(range(14, 54))
_METHODS = ("clean", "adversarial")
_PANELS = {"fgsm": "FGSM as printed", "valid": "valid rows alone: climb and search"}


class Units(NamedTuple):
    """The affine map from rows whose columns of categories are 0 and 1 to a net's inputs.

    low, unit: f[54], the input of 0, and the change from 0 to 1; measured columns stay as they are.
    """

    low: np.ndarray
    unit: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset) -> "Units":
        """Reads the two values of each category off the data; one that no cell has keeps 1."""
        x, categories = dataset.train.x, np.array(AREAS + SOILS)
        seen = np.concatenate([x[:, categories], dataset.test.x[:, categories]])
        low, unit = np.zeros(x.shape[1], x.dtype), np.ones(x.shape[1], x.dtype)
        low[categories], width = seen.min(axis=0), np.ptp(seen, axis=0)
        unit[categories] = np.where(width > 0, width, 1)
        return cls(low, unit)

    def rows(self, inputs: np.ndarray) -> np.ndarray:
        """Returns the rows f[..., 54] of inputs."""
        return (inputs - self.low) / self.unit

    def logits_fn(self, model: LogitsFn) -> LogitsFn:
        """Returns the net as a function of rows f[B, 54]."""
        return lambda rows: model(self.low[None] + self.unit[None] * rows)

    def constraints(self) -> tabular.Constraints:
        """Returns the rules, with costs by which eps is that of the inputs."""
        return tabular.Constraints(len(self.unit), one_hot=(AREAS, SOILS), costs=self.unit)


def covtype(workdirs: Sequence[str]) -> Drawing:
    """Sec. 3.6: A and B on Covertype under FGSM, and under examples that are valid rows.

    Args:
      workdirs: one run of A and one of B, of equal width and inputs.
    """
    found = read(workdirs, figure="covtype", methods=_METHODS, data="covtype")
    runs = one_of_each(found, _METHODS, labels=LABELS, figure="covtype")
    models = {kind: run.models() for kind, run in runs.items()}
    require_same_inputs([model for of_run in models.values() for model in of_run])
    measured = {kind: _measured(of_run) for kind, of_run in models.items()}
    what = f"{runs['clean'].width} hidden units; {trained_on(list(runs.values()))}"
    title = f"Shallow-net thesis, Covertype: {what}"
    drawn, (panels,) = canvas(1, 2, title=title, sharey=True)
    for axes, (attack, words) in zip(panels, _PANELS.items(), strict=True):
        for kind, curves in measured.items():
            look = {**STYLES[kind], "markersize": 4}
            band(axes, SIZES, curves[attack], label=LABELS[kind], **look)
        axes.set(title=words, xlabel="eps (units of the input)", ylim=(0, 1))
        axes.legend()
    panels[0].set_ylabel("test accuracy (fraction)")
    document = {
        "caption": _caption(measured),
        "settings": {
            "preprocess": models["clean"][0].about["preprocess"],
            "crafted_on": "the net that is tested",
            "examples": ROWS,
            "chosen": ["sizes", "examples", "crafted_on", "seeds"],
        },
        "seed": SEED,
        "sizes": rounded(SIZES),
        "accuracy": {
            kind: {name: rounded(curves[name]) for name in _PANELS}
            for kind, curves in measured.items()
        },
        "valid_examples_of_fgsm": {
            kind: rounded(curves["share"]) for kind, curves in measured.items()
        },
        "runs": [run.about() for run in runs.values()],
    }
    return Drawing(drawn, document)


def _measured(models: Sequence[Trained]) -> dict[str, np.ndarray]:
    """Returns f[R, E] each: the accuracies, and the shares of FGSM's examples that are valid."""
    found = [_of_model(model) for model in models]
    return {name: np.array([curves[name] for curves in found]) for name in found[0]}


def _of_model(model: Trained) -> dict[str, np.ndarray]:
    x, y = (part[:ROWS] for part in model.dataset.test)
    units = Units.of(model.dataset)
    rows, rules = units.rows(x), units.constraints()
    suite = {
        "climb": partial(tabular.climb, constraints=rules),
        "search": partial(tabular.search, constraints=rules, num_queries=300),
    }
    settings = {"eps": SIZES.tolist(), "key": jax.random.key(SEED)}
    # The audit warns of FGSM as a measure of robustness, which the shallow-net thesis uses.
    with warnings.catch_warnings(action="ignore", category=evaluate.AuditWarning):
        fgsm = {"fgsm": attacks.fgsm}
        printed = evaluate.evaluate(model.logits_fn, x, y, fgsm, examples=True, **settings)
        valid = evaluate.evaluate(units.logits_fn(model.logits_fn), rows, y, suite, **settings)
    assert printed.examples is not None
    made = [jnp.asarray(units.rows(x_adv)) for x_adv in printed.examples.adversarial["fgsm"]]
    return {
        "fgsm": np.asarray(printed.attacks["fgsm"].accuracy),
        "valid": valid.worst_case,
        "share": np.array([np.mean(rules.valid(jnp.asarray(rows), x_adv)) for x_adv in made]),
    }


def _caption(measured: dict[str, dict[str, np.ndarray]]) -> str:
    at = int(np.flatnonzero(SIZES == TRAINED)[0])
    parts = []
    for kind, curves in measured.items():
        clean, *others = (
            100 * curves[name].mean(0)[i] for name, i in (("fgsm", 0), ("fgsm", at), ("valid", at))
        )
        parts.append(
            f"{LABELS[kind][0]}: {clean:.1f} % clean, {others[0]:.1f} % under FGSM {TRAINED:g}, "
            f"{others[1]:.1f} % among valid rows as near; "
            f"{100 * curves['share'].mean(0)[at]:.1f} % of FGSM's examples are valid rows"
        )
    return f"{'. '.join(parts)}. {ROWS:,} rows of the test set."

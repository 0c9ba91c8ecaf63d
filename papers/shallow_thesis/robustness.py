"""Nets under FGSM and Gaussian noise.

Source: shallow-net thesis, sec. 3.4.3, 3.4.4, 3.5, Figs. 3.4, 3.6, 3.10. It does not say on which
net the examples are crafted; here on the tested net, without clipping.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from adv_jax import attacks, evaluate
from adv_jax.style import band, canvas
from papers.judging import numbers
from papers.running.drawing import SEED, Drawing, rounded
from papers.running.runs import one_of_each, trained_on
from papers.shallow_thesis.runs import LABELS, STYLES, ShallowRun, read

Curves = dict[str, np.ndarray]  # attack -> accuracies, f[R, E]

SIZES = np.linspace(0, 0.4, 17)
CROSSOVER = "shallow_thesis.fig3_4.right.crossover"  # the std at which A overtakes B
ATTACKS = {"fgsm": attacks.fgsm, "gaussian_noise": attacks.gaussian_noise}
_CAPTION_SIZES = {"fgsm": 0.1, "gaussian_noise": 0.2}
_XLABELS = {
    "fgsm": "eps of FGSM (units of the input)",
    "gaussian_noise": "std of Gaussian noise (units of the input)",
}


def clean_and_adversarial(workdirs: Sequence[str]) -> Drawing:
    """Fig. 3.4: A and B under FGSM and under noise.

    Args:
      workdirs: one run of A and one of B, of equal width.
    """
    return _drawing(workdirs, "fig3.4", ("clean", "adversarial"))


def with_noisy(workdirs: Sequence[str]) -> Drawing:
    """Fig. 3.6: A, B and C under FGSM and under noise.

    Args:
      workdirs: one run of each, of equal width.
    """
    return _drawing(workdirs, "fig3.6", ("clean", "adversarial", "noisy"))


def cifar10(workdirs: Sequence[str]) -> Drawing:
    """Fig. 3.10: Ac and Bc on gray CIFAR-10 under FGSM and under noise.

    Args:
      workdirs: one run of A and one of B, of equal width.
    """
    return _drawing(workdirs, "fig3.10", ("clean", "adversarial"), data="cifar10")


def crossover(a: np.ndarray, b: np.ndarray) -> float | None:
    """Returns the size where A overtakes B for good; None if A does not.

    Args:
      a, b: accuracies at SIZES, f[E], interpolated linearly.
    """
    ahead = np.asarray(b) - np.asarray(a)
    last = np.flatnonzero(ahead >= 0).max(initial=-1)
    if last in (-1, len(ahead) - 1):
        return None
    before, after = ahead[last], ahead[last + 1]
    return float(SIZES[last] + (SIZES[last + 1] - SIZES[last]) * before / (before - after))


def _drawing(
    workdirs: Sequence[str], figure: str, methods: Sequence[str], *, data: str = "mnist"
) -> Drawing:
    found = read(workdirs, figure=figure, methods=methods, data=data)
    runs = one_of_each(found, methods, labels=LABELS, figure=figure)
    measured = {kind: _measured(run) for kind, run in runs.items()}
    first = runs[methods[0]]
    what = f"{figure.removeprefix('fig')}: {first.width} hidden units"
    title = f"Shallow-net thesis, Fig. {what}; {trained_on(list(runs.values()))}"
    drawn, (panels,) = canvas(1, 2, title=title, sharey=True)
    for axes, attack in zip(panels, ATTACKS, strict=True):
        for kind, curves in measured.items():
            look = {**STYLES[kind], "markersize": 4}
            band(axes, SIZES, curves[attack], label=LABELS[kind], **look)
        axes.set(xlabel=_XLABELS[attack], ylabel="test accuracy (fraction)", ylim=(0, 1))
    means = {kind: curves["gaussian_noise"].mean(0) for kind, curves in measured.items()}
    at = crossover(means["clean"], means["adversarial"])
    if data == "mnist":
        label = "A overtakes B, thesis"
        panels[1].axvline(
            numbers.entry(CROSSOVER)["value"], color="0.4", linestyle=":", label=label
        )
    for axes in panels:
        axes.legend()
    document = {
        "caption": _caption(measured, at, data),
        "settings": {
            "bounds": None,
            "crafted_on": "the net that is tested",
            "examples": first.result["data"]["sizes"]["test"],
            "chosen": ["sizes", "bounds", "crafted_on", "seeds"],
        },
        "seed": SEED,
        "sizes": rounded(SIZES),
        "accuracy": {
            kind: {attack: rounded(values) for attack, values in curves.items()}
            for kind, curves in measured.items()
        },
        "crossover": None if at is None else rounded(at),
        "thesis": {"crossover": numbers.entry(CROSSOVER)["value"] if data == "mnist" else None},
        "runs": [run.about() for run in runs.values()],
    }
    return Drawing(drawn, document)


def _measured(run: ShallowRun) -> Curves:
    """Returns the accuracies of each replica on the test set."""
    found: list[dict[str, Any]] = []
    for model in run.models():
        x, y = model.dataset.test
        # The audit warns of FGSM as a measure of robustness, which the shallow-net thesis uses.
        with warnings.catch_warnings(action="ignore", category=evaluate.AuditWarning):
            curves = evaluate.evaluate(
                model.logits_fn, x, y, ATTACKS, eps=SIZES.tolist(), key=jax.random.key(SEED)
            )
        found.append(curves.attacks)
    return {name: np.array([curves[name].accuracy for curves in found]) for name in ATTACKS}


def _caption(measured: dict[str, Curves], at: float | None, data: str) -> str:
    parts = []
    for kind, curves in measured.items():
        percent = [
            f"{100 * curves['fgsm'][:, 0].mean():.1f} % clean",
            *(
                f"{100 * curves[name].mean(0)[np.isclose(SIZES, size)][0]:.1f} % under {words} "
                f"{size:g}"
                for (name, size), words in zip(
                    _CAPTION_SIZES.items(), ("FGSM", "noise"), strict=True
                )
            ),
        ]
        parts.append(f"{LABELS[kind][0]}: {', '.join(percent)}")
    noise = "does not overtake B" if at is None else f"overtakes B at a std of {at:.2f}"
    printed = numbers.entry(CROSSOVER)["value"]
    thesis = f" (the shallow-net thesis: {printed})" if data == "mnist" else ""
    return f"{'; '.join(parts)}. Under noise A {noise}{thesis}."

"""Accuracy over the l2 norm of three perturbations.  [huang2015, sec. 7.1, 7.2]"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adv_jax.style import attack_style, band, canvas, name_lines
from adv_jax.types import UserError
from papers.running.drawing import Drawing, rounded
from papers.running.runs import Finished, finished, require_same_data, run_document, trained_on

_STYLES = {
    name: attack_style(name) | {"label": label, "marker": marker}
    for name, label, marker in (
        ("adv_alpha", "Adv_Alpha", "o"),
        ("adv_loss", "Adv_Loss", "s"),
        ("adv_loss_sign", "Adv_Loss_Sign", "^"),
    )
}
# The required spec of each attack.
_ATTACKS = {
    "adv_alpha": {"name": "adv_alpha", "norm": "l2"},
    "adv_loss": {"name": "fgsm", "norm": "l2"},
    "adv_loss_sign": {"name": "fgsm", "norm": "linf", "length": "l2"},
}
# objective -> its name in the paper
_METHODS = {"cross_entropy": "Normal", "lwa": "LWA"}
_SCALE = ({"name": "pixel_scale", "mean": 0.0, "divisor": 256.0},)
_CAPTION_EPS = 1.5  # the l2 norm of Tables 1 and 2


def normal(workdirs: Sequence[str]) -> Drawing:
    """Fig. 1: a normally trained LeNet under the three perturbations.

    Args:
      workdirs: a finished run of huang_lenet_mnist:method=normal.

    Raises:
      UserError: it is not one finished run of that objective, net and attacks.
    """
    return _drawing(workdirs, "Fig. 1", ["cross_entropy"])


def normal_and_lwa(workdirs: Sequence[str]) -> Drawing:
    """Fig. 2: LeNet trained normally and by LWA, under the three perturbations.

    Args:
      workdirs: finished runs of huang_lenet_mnist, method=normal and then method=lwa.

    Raises:
      UserError: they are not two finished runs of these objectives, net and attacks, on one data
        set.
    """
    return _drawing(workdirs, "Fig. 2", ["cross_entropy", "lwa"])


def _drawing(workdirs: Sequence[str], figure: str, objectives: Sequence[str]) -> Drawing:
    runs = [_tested(Path(workdir)) for workdir in workdirs]
    found = [run.config["objective"]["name"] for run in runs]
    if found != list(objectives):
        legal = f"runs of {' and '.join(objectives)} for {figure}"
        raise UserError(f"workdir must be {legal}, got {', '.join(found)}")
    require_same_data(runs)
    return _drawn(runs, figure)


def _drawn(runs: Sequence[Finished], figure: str) -> Drawing:
    title = f"Huang 2015, {figure}: {trained_on(runs)}"
    drawn, (panels,) = canvas(1, len(runs), title=title, sharey=True)
    for axes, run in zip(panels, runs, strict=True):
        for attack, style in _STYLES.items():
            curve = run.result["evaluation"][attack]
            accuracy = 100 * (1 - np.array(curve["error"]))
            band(axes, curve["eps"], accuracy, markersize=4, **style)
        label = "l2 length of the perturbation (inputs are bytes / 256)"
        axes.set(title=_title(run), xlabel=label, ylabel="test accuracy (%)", ylim=(0, 100))
        name_lines(axes)
    document = {
        "caption": " ".join(map(_summary, runs)),
        "settings": {"bounds": None, "chosen": ["lengths", "seeds"]},
        "runs": [
            {
                **run_document(run, "objective", "model"),
                "lengths": run.result["evaluation"]["adv_loss"]["eps"],
                "accuracy": {
                    attack: rounded(1 - np.array(run.result["evaluation"][attack]["error"]))
                    for attack in _STYLES
                },
            }
            for run in runs
        ],
    }
    return Drawing(drawn, document)


def _tested(path: Path) -> Finished:
    """Reads a finished run of LeNet on MNIST that was evaluated under the three attacks.

    Raises:
      UserError: there is no such run.
    """
    run = finished(path)
    if missing := _STYLES.keys() - run.result["evaluation"].keys():
        attacks = ", ".join(sorted(missing))
        raise UserError(f"evaluation.attacks must include {attacks}, got {path} without")
    config, attacks = run.config, run.config["evaluation"]["attacks"]
    needed = {
        "model.name": (config["model"]["name"], "lenet"),
        "data.name": (config["data"]["name"], "mnist"),
        "data.preprocess": (config["data"].get("preprocess"), _SCALE),
        **{f"evaluation.attacks.{name}": (attacks.get(name), _ATTACKS[name]) for name in _ATTACKS},
    }
    if config["objective"]["name"] == "lwa":
        of_training = {k: v for k, v in config["objective"]["attack"].items() if k != "eps"}
        needed["objective.attack"] = (of_training, _ATTACKS["adv_loss"])
    for field, (found, legal) in needed.items():
        if found != legal:
            raise UserError(f"{field} must be {legal!r}, got {found!r} in {path}")
    return run


def _title(run: Finished) -> str:
    """Returns the method and the size of its attack."""
    objective = run.config["objective"]
    size = f", length {objective['attack']['eps']:g}" if "attack" in objective else ""
    return f"{_METHODS[objective['name']]}{size}"


def _summary(run: Finished) -> str:
    evaluation = run.result["evaluation"]
    clean = 1 - np.mean([replica["test_error"] for replica in run.result["replicas"]])
    parts = [f"{100 * clean:.1f} % clean"]
    for attack, style in _STYLES.items():
        if _CAPTION_EPS in evaluation[attack]["eps"]:
            at = evaluation[attack]["eps"].index(_CAPTION_EPS)
            accuracy = 1 - np.mean([errors[at] for errors in evaluation[attack]["error"]])
            parts.append(f"{100 * accuracy:.1f} % under {style['label']}")
    method = _METHODS[run.config["objective"]["name"]]
    return f"{method}: {', '.join(parts)} of length {_CAPTION_EPS}."

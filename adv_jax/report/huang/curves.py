"""Accuracy against the l2 length of three perturbations.  [Huang et al. 2015, sec. 7.1, 7.2]"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adv_jax.report.drawing import Drawing, canvas, rounded
from adv_jax.types import UserError
from adv_jax.workdir import read_config, read_json

# Okabe and Ito's colours, told apart by the colour-blind; the lines differ too.
_STYLES = {
    "adv_alpha": {"label": "Adv_Alpha", "color": "#0072B2", "linestyle": "-", "marker": "o"},
    "adv_loss": {"label": "Adv_Loss", "color": "#D55E00", "linestyle": "--", "marker": "s"},
    "adv_loss_sign": {
        "label": "Adv_Loss_Sign",
        "color": "#009E73",
        "linestyle": "-.",
        "marker": "^",
    },
}
_TOLD = 1.5  # the length of Tables 1 and 2


def normal(workdirs: Sequence[str]) -> Drawing:
    """Fig. 1: a normally trained LeNet under the three perturbations.

    Args:
      workdirs: of a finished run of huang_lenet_mnist:method=normal.

    Raises:
      UserError: not one finished run of that objective.
    """
    return _drawing(workdirs, "Fig. 1", ["cross_entropy"])


def normal_and_lwa(workdirs: Sequence[str]) -> Drawing:
    """Fig. 2: LeNet trained normally and by LWA, under the three perturbations.

    Args:
      workdirs: of finished runs of huang_lenet_mnist, method=normal and then method=lwa.

    Raises:
      UserError: not two finished runs of these objectives.
    """
    return _drawing(workdirs, "Fig. 2", ["cross_entropy", "lwa"])


def _drawing(workdirs: Sequence[str], figure: str, objectives: Sequence[str]) -> Drawing:
    runs = [_finished(Path(workdir)) for workdir in workdirs]
    found = [config["objective"]["name"] for config, _ in runs]
    if found != list(objectives):
        raise UserError(
            f"workdir has runs of {', '.join(found)}; {figure} draws {' and '.join(objectives)}"
        )
    title = f"Huang et al. 2015, {figure}: {_about(runs[0][1])}"
    drawn, (panels,) = canvas(1, len(runs), title=title, sharey=True)
    for axes, (_, result), name in zip(panels, runs, found, strict=True):
        for attack, style in _STYLES.items():
            curve = result["evaluation"][attack]
            accuracy = 1 - np.array(curve["error"])
            axes.plot(curve["eps"], accuracy.mean(0), markersize=4, **style)
            low, high = accuracy.min(0), accuracy.max(0)
            axes.fill_between(curve["eps"], low, high, color=style["color"], alpha=0.2)
        label = "l2 length of the perturbation (inputs are bytes / 256)"
        axes.set(title=name, xlabel=label, ylabel="test accuracy (fraction)", ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend()
    document = {
        "caption": " ".join(
            _told(result, name) for (_, result), name in zip(runs, found, strict=True)
        ),
        "settings": {"bounds": None, "chosen": ["lengths", "seeds"]},
        "runs": [
            {
                "objective": config["objective"],
                "model": config["model"],
                "data": result["data"],
                "replicas": result["replicas"],
                "lengths": result["evaluation"]["adv_loss"]["eps"],
                "accuracy": {
                    attack: rounded(1 - np.array(result["evaluation"][attack]["error"]))
                    for attack in _STYLES
                },
            }
            for config, result in runs
        ],
    }
    return Drawing(drawn, document)


def _finished(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config and the result of a run that has the three attacks.

    Raises:
      UserError: it has not, or is no finished run.
    """
    config = read_config(path)
    if not (path / "result.json").exists():
        raise UserError(f"workdir {path} has no result.json; allowed is a finished run")
    result = read_json(path / "result.json")
    if missing := _STYLES.keys() - result["evaluation"].keys():
        raise UserError(f"workdir {path} was not tested under {', '.join(sorted(missing))}")
    return config, result


def _about(result: dict[str, Any]) -> str:
    data, seeds = result["data"], [replica["seed"] for replica in result["replicas"]]
    return (
        f"{data['name']} ({data['source']}), {data['sizes']['test']} test images, "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    )


def _told(result: dict[str, Any], name: str) -> str:
    evaluation = result["evaluation"]
    clean = 1 - np.mean([replica["test_error"] for replica in result["replicas"]])
    told = [f"{clean:.1%} clean"]
    for attack, style in _STYLES.items():
        if _TOLD in evaluation[attack]["eps"]:
            at = evaluation[attack]["eps"].index(_TOLD)
            accuracy = 1 - np.mean([errors[at] for errors in evaluation[attack]["error"]])
            told.append(f"{accuracy:.1%} under {style['label']}")
    return f"{name}: {', '.join(told)} of length {_TOLD}."

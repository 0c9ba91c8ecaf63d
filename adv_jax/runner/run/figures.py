"""Draws the PNG figures of runs and of models under attack."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from adv_jax.runner.run import learning_curves
from adv_jax.runner.store.workdir import Workdir
from adv_jax.runner.store.writing import writing

Target = Path | BytesIO  # where a PNG goes

_STYLES = ("-", "--", "-.", ":")


def draw(files: Workdir, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Writes figures/learning.png and, if attacks were evaluated, figures/evaluation.png.

    Args:
      files: the run's workdir.
      result: the contents of its result.json.

    Raises:
      UserError: a figure cannot be written.
    """
    title = f"{config['experiment']}, {result['data']['name']} ({result['data']['source']})"
    with writing(files.figures):
        files.figures.mkdir(exist_ok=True)
        found = learning_curves.curves(files.metrics())
        learning_curves.chart(found, title=title).savefig(files.figures / "learning.png")
        if result["evaluation"]:
            attack_curves(files.figures / "evaluation.png", result["evaluation"], title=title)


def attack_curves(
    path: Target,
    evaluation: Mapping[str, Mapping],
    *,
    title: str,
    measures: tuple[str, str] = ("error", "confidence"),
) -> None:
    """Draws two measures over eps: the mean over replicas, the range shaded.

    Args:
      path: the PNG to write.
      evaluation: attack -> {"eps": [E], measure: [R][E]}, as in result.json; an attack without a
        measure has no line in its panel.
      title: title above the panels.
      measures: the measures of the left and the right panel.
    """
    figure = Figure(figsize=(10, 3.8), layout="constrained", dpi=120)
    figure.suptitle(title, fontsize="medium", parse_math=False)
    panels = figure.subplots(1, 2)
    for axes, measure in zip(panels, measures, strict=True):
        for i, (attack, curve) in enumerate(evaluation.items()):
            if measure in curve:
                _line(axes, curve["eps"], np.array(curve[measure]), attack, i)
        axes.set(xlabel="eps (units of the input)", ylabel=measure)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


def transfer_matrices(
    path: Target, matrices: Mapping[str, np.ndarray], names: Sequence[str], *, title: str
) -> None:
    """Draws the accuracy of each model on the examples of each other model, by attack.

    Args:
      path: the PNG to write.
      matrices: attack -> f[M, M]; the row is the model that the examples were crafted on.
      names: names of the M models.
      title: title above the panels.
    """
    figure = Figure(figsize=(4.5 * len(matrices), 4.5), layout="constrained", dpi=120)
    figure.suptitle(title, fontsize="medium", parse_math=False)
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axes, (attack, matrix) in zip(panels, matrices.items(), strict=True):
        axes.imshow(matrix, vmin=0, vmax=1, cmap="viridis")
        for (i, j), accuracy in np.ndenumerate(matrix):
            color = "white" if accuracy < 0.6 else "black"
            axes.text(j, i, f"{accuracy:.3f}", ha="center", va="center", color=color)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.set(xlabel="tested on", ylabel="crafted on", title=attack.replace("_", " "))
    figure.savefig(path)


def _line(axes, points: Sequence[float], values: np.ndarray, label: str, index: int) -> None:
    """Draws the mean and the range of values f[R, E]."""
    style = _STYLES[index % len(_STYLES)]
    axes.plot(points, values.mean(0), style, marker=".", label=label.replace("_", " "))
    axes.fill_between(points, values.min(0), values.max(0), alpha=0.2)

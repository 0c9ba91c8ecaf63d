"""Draws the PNG figures of runs and of models under attack."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from adv_jax import style
from adv_jax.evaluate.traits import ball_of
from adv_jax.runner.config.building import attacks_of
from adv_jax.runner.run import learning_curves
from adv_jax.runner.store.result import points_of
from adv_jax.runner.store.workdir import Workdir
from adv_jax.runner.store.writing import writing

_MOST_POINTS = 8  # of a grid in one figure


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
        found = learning_curves.curves_of_lines(files.metrics())
        style.save(learning_curves.chart(found, title=title), files.figures / "learning.png")
        if result["evaluation"]:
            norms = map(ball_of, attacks_of(config, {}).values())
            found = with_accuracy(result["evaluation"])
            points = points_of(result["replicas"])
            if len(points) > _MOST_POINTS:
                title += f"; {_MOST_POINTS} of {len(points)} points of the grid"
                points = dict(islice(points.items(), _MOST_POINTS))
            file = files.figures / "evaluation.png"
            attack_curves(file, found, title=title, norms=norms, points=points)


def with_accuracy(evaluation: Mapping[str, Mapping]) -> dict[str, dict]:
    """Returns the attacks of result.json with "accuracy", 1 - "error"."""
    return {
        attack: {**curve, "accuracy": (1 - np.array(curve["error"])).tolist()}
        for attack, curve in evaluation.items()
    }


@style.styled()
def attack_curves(
    path: style.Target,
    evaluation: Mapping[str, Mapping],
    *,
    title: str,
    norms: Iterable[str | None] = (),
    points: Mapping[str, Sequence[int] | slice] | None = None,
) -> None:
    """Draws accuracy and confidence over eps: the mean over replicas, the range shaded.

    Args:
      path: the PNG to write.
      evaluation: attack -> {"eps": [E], "accuracy": [R][E], "confidence": [R][E]}; an attack
        without a measure has no line in its panel. "worst_case" is drawn behind the others.
      title: title above the panels.
      norms: the norms in which sizes are radii, for the label of the axis.
      points: the indices of the replicas in each row of panels, by its title; None: one of all.
    """
    points = points or {"": slice(None)}
    figure, panels = style.canvas(len(points), 2, title=title, height=3.4)
    label = f"{style.size_label(norms)}, units of the input"
    for row, (point, replicas) in zip(panels, points.items(), strict=True):
        for axes, measure in zip(row, ("accuracy", "confidence"), strict=True):
            _draw_measure(axes, evaluation, measure, replicas)
            axes.set(xlabel=label, title=style.plain(point))
    style.save(figure, path)


def _draw_measure(
    axes: Axes, evaluation: Mapping[str, Mapping], measure: str, replicas: Sequence[int] | slice
) -> None:
    """Draws a line for each attack that has the measure."""
    for attack, curve in evaluation.items():
        if measure in curve:
            look = style.WORST_CASE if attack == "worst_case" else style.attack_style(attack)
            values, name = np.array(curve[measure])[replicas], attack.replace("_", " ")
            style.band(axes, curve["eps"], values, marker=".", label=name, **look)
    style.shares(axes, measure)
    style.name_lines(axes)


@style.styled()
def transfer_matrices(
    path: style.Target, matrices: Mapping[str, np.ndarray], names: Sequence[str], *, title: str
) -> None:
    """Draws the accuracy of each model on the examples of each other model, by attack.

    Args:
      path: the PNG to write.
      matrices: attack -> f[M, M]; the row is the model that the examples were crafted on.
      names: names of the M models.
      title: title above the panels.
    """
    figure, (panels,) = style.canvas(1, len(matrices), title=title, width=4.5, height=4.5)
    for axes, (attack, matrix) in zip(panels, matrices.items(), strict=True):
        style.matrix(axes, matrix, names, form="{:.3f}", top=1)
        axes.set(
            xlabel="tested on", ylabel="crafted on", title=style.plain(attack.replace("_", " "))
        )
    style.save(figure, path)

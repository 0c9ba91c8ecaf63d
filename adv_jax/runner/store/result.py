"""Builds result.json: the measurements and the data of a finished run, with its provenance."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from adv_jax.annotations import function_name
from adv_jax.evaluate import Curves
from adv_jax.evaluate.auditing import warnings_of_curves
from adv_jax.evaluate.traits import ball_of
from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.store.provenance import provenance
from adv_jax.types import Array, Attack, UserError

_STRONG = ("pgd", "auto_attack")  # An error under weaker attacks alone says little.


class Loss(NamedTuple):
    """The result of a model without classes on the test set: the mean of its loss, f32[]."""

    mean: Array


def document(
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    replicas: Sequence[Replica],
    measured: Curves | Loss,
    *,
    epochs: Sequence[int],
    best_epochs: Sequence[int],
    seconds: float,
) -> dict[str, Any]:
    """Returns the contents of result.json; errors and accuracies are fractions in [0, 1].

    Args:
      config: the run's config.
      data: the entry "data": `Inputs.document`.
      replicas: the R replicas.
      measured: the output of `Program.evaluate`, f32[R] and f32[R, E]; a loss replaces the error
        and the confidence of a model without classes.
      epochs: number of epochs that each replica trained.
      best_epochs: epoch of the lowest validation error of each replica, 0 without validation.
      seconds: training time, summed over resumptions.
    """
    if isinstance(measured, Loss):
        tested, evaluation = {"test_loss": np.asarray(measured.mean, float)}, {}
    else:
        _check_finite(measured)
        eps, num_test = config["evaluation"]["eps"], data["sizes"]["test"]
        tested, evaluation = _errors(measured, eps, num_test)
    return {
        "experiment": config["experiment"],
        "data": dict(data),
        "replicas": [
            {
                "seed": replica.seed,
                "overrides": replica.overrides,
                **{name: float(values[i]) for name, values in tested.items()},
                "epochs": int(epochs[i]),
                "best_epoch": int(best_epochs[i]) or None,
            }
            for i, replica in enumerate(replicas)
        ],
        "evaluation": evaluation,
        "seconds": round(seconds, 1),
        **provenance(),
    }


def _check_finite(measured: Curves) -> None:
    """Raises UserError for an attack that returned NaN or infinity: its error would be 1."""
    for attack, curve in measured.attacks.items():
        if not np.isfinite(curve.linf).all():
            raise UserError(
                f"evaluation.attacks.{attack} must return finite inputs, got NaN or infinity"
            )


def _errors(
    measured: Curves, eps: Sequence[float], num_test: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the clean measures by replica, f[R] each, and the entry "evaluation"."""

    def error(accuracy: ArrayLike) -> np.ndarray:
        """Returns a float64 error rounded to a multiple of 1 / num_test."""
        return np.round((1 - np.asarray(accuracy, float)) * num_test) / num_test

    sizes = list(eps)
    evaluation = {}
    for attack, curve in measured.attacks.items():
        others = {name: v.tolist() for name, v in curve._asdict().items() if name != "accuracy"}
        evaluation[attack] = {"eps": sizes, "error": error(curve.accuracy).tolist(), **others}
    if len(evaluation) > 1:  # With one attack the worst case is that attack.
        evaluation["worst_case"] = {"eps": sizes, "error": error(measured.worst_case).tolist()}
    clean = {"test_error": error(measured.clean.accuracy), "confidence": measured.clean.confidence}
    return clean, evaluation


def summary(result: Mapping[str, Any], predicts: str) -> tuple[str, list[str], list[list[str]]]:
    """Returns the final table: a title, the columns, and one row per replica.

    The title has the mean test error or loss and, for several replicas, the sample standard
    deviation; of several points of a grid, called settings, the smallest and the largest mean.

    Args:
      result: the contents of result.json.
      predicts: what the model predicts. The error of "real" is the share of the test set that a
        discriminator calls generated, and its title and column say so.
    """
    replicas = result["replicas"]
    if "test_loss" in replicas[0]:
        measures = {"loss": [f"{replica['test_loss']:.5g}" for replica in replicas]}
        values, tested, unit = [replica["test_loss"] for replica in replicas], "test loss", ""
    else:
        values, unit = [100 * r["test_error"] for r in replicas], " %"
        tested, error = "test error", "error"
        if predicts == "real":
            tested, error = "real images called generated", "called generated"
        measures = {
            f"{error} %": [f"{value:.2f}" for value in values],
            "confidence": [f"{replica['confidence']:.4f}" for replica in replicas],
        }
    rows = [
        [
            str(i),
            str(replica["seed"]),
            grid_point(replica) or "-",
            *(values[i] for values in measures.values()),
            str(replica["epochs"]),
            str(replica["best_epoch"] or "-"),
        ]
        for i, replica in enumerate(replicas)
    ]
    spread = f" (sd {np.std(values, ddof=1):.3f})" if len(values) > 1 else ""
    mean = f"{np.mean(values):.3f}{unit}{spread}"
    if len(points := points_of(replicas)) > 1:
        means = [np.mean([values[i] for i in of]) for of in points.values()]
        mean = f"{min(means):.3f} to {max(means):.3f}{unit} over {len(points)} settings"
    data = result["data"]
    title = (
        f"{result['experiment']}: {tested} {mean} on "
        f"{data['sizes']['test']} examples of {data['name']} ({data['source']})"
    )
    columns = ["replica", "seed", "settings", *measures, "epochs", "best epoch"]
    return title, columns, rows


def under_attack(
    result: Mapping[str, Any], attacks: Mapping[str, Attack]
) -> tuple[str, list[str], list[list[str]]]:
    """Returns the table of errors under attack: a row for each attack, and point of the grid.

    Errors are means over the seeds of a point.

    Args:
      result: the contents of result.json, with at least one attack in its evaluation.
      attacks: the attacks of the evaluation, by name.
    """
    curves, points = result["evaluation"], points_of(result["replicas"])
    sizes = next(iter(curves.values()))["eps"]
    norms = {name: ball_of(attack) for name, attack in attacks.items()}
    rows = [
        [
            "worst case" if name == "worst_case" else name,
            norms.get(name) or "",
            *([point] if len(points) > 1 else []),
            *(f"{100 * error:.2f}" for error in np.mean(np.asarray(curve["error"])[of], axis=0)),
        ]
        for name, curve in curves.items()
        for point, of in points.items()
    ]
    num_seeds = len(result["replicas"]) // len(points)
    of = f", mean of {num_seeds} seeds" if num_seeds > 1 else ""
    settings = ["settings"] if len(points) > 1 else []
    columns = ["attack", "norm", *settings, *(f"{size:g}" for size in sizes)]
    return f"test error % under attack, by eps{of}", columns, rows


def points_of(replicas: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Returns the indices of the replicas of each point of a grid, by its settings in words.

    >>> points_of([{"overrides": {"lr": 0.1}}, {"overrides": {"lr": 0.2}}])
    {'lr=0.1': [0], 'lr=0.2': [1]}
    """
    found: dict[str, list[int]] = {}
    for index, replica in enumerate(replicas):
        found.setdefault(grid_point(replica), []).append(index)
    return found


def grid_point(replica: Mapping[str, Any]) -> str:
    """Returns what a grid sets for a replica, in words; nine digits tell float32 apart."""
    return ", ".join(f"{path}={value:.9g}" for path, value in replica["overrides"].items())


def audited(
    attacks: Mapping[str, Attack], measured: Curves, eps: Sequence[float], y: np.ndarray
) -> list[str]:
    """Returns the audit's warnings that follow from the curves, mean over replicas.

    `adv_jax.evaluate` also examines the gradients. Here they show if they leave all inputs of a
    replica as they are.

    Args:
      attacks: the attacks of the evaluation, by name.
      measured: the output of `Program.evaluate`.
      eps: their sizes.
      y: i32[N], the classes of the test examples.
    """
    accuracies = {name: np.mean(curve.accuracy, 0) for name, curve in measured.attacks.items()}
    clean = np.asarray(measured.clean.accuracy)
    # A replica that is always wrong shows nothing.
    changes = {
        name: np.where(np.asarray(curve.accuracy) > 0, curve.linf, np.inf).min(0)
        for name, curve in measured.attacks.items()
    }
    return list(warnings_of_curves(attacks, accuracies, clean, y, eps=eps, changes=changes))


def remarks(result: Mapping[str, Any], attacks: Mapping[str, Attack], workdir: Path) -> list[str]:
    """Returns what to read beside the errors under attack: the audit's warnings, what is untried.

    Args:
      result: the contents of result.json.
      attacks: the attacks of the evaluation, by name.
      workdir: of the run.
    """
    tried = {function_name(attack) for attack in attacks.values()}
    missing = [name for name in _STRONG if name not in tried]
    command = (
        f"python -m adv_jax.evaluate {shlex.quote(f'--workdir={workdir}')} "
        f"--attacks={','.join(missing)}"
    )
    command += " --replica=0" if len(result["replicas"]) > 1 else ""
    untried = [f"not tried: {', '.join(missing)}; run {command}"] if missing else []
    return [*(f"warning: {line}" for line in result.get("warnings", ())), *untried]

"""Reads the files of a finished training and checks them field by field."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.store.formats import read_json
from adv_jax.runner.store.workdir import read_metrics
from adv_jax.types import UserError
from papers.judging import documents

Config = Mapping[str, Any]


def read_training_result(path: Path, config: Config) -> dict[str, Any]:
    """Returns a result.json that has every field a row of a target may read.

    Raises:
      UserError: it is damaged, or belongs to another run.
    """
    result = read_json(path)
    match result:
        case {"replicas": [{"test_loss": _}, *_]}:
            schema = documents.LossResultDocument
        case _:
            schema = documents.ResultDocument
    documents.check_schema(path, result, schema)
    expected = [(replica.seed, replica.overrides) for replica in replicas(config)]
    found = [(replica["seed"], replica["overrides"]) for replica in result["replicas"]]
    named = result["experiment"]
    if named != config["experiment"] or found != expected:
        raise UserError(
            f"{path}: replicas must be the {len(expected)} of {config['experiment']}, as in the "
            f"config beside it, got {len(found)} of {named}"
        )
    eps = list(config["evaluation"]["eps"])
    shape = [len(eps)] * len(expected)
    for attack in config["evaluation"]["attacks"]:
        field = f"evaluation.{attack}"
        if attack not in result["evaluation"]:
            raise UserError(f"{path}: {field} must be given, got none")
        curves = result["evaluation"][attack]
        if curves["eps"] != eps:
            raise UserError(
                f"{path}: {field}.eps must be {eps}, as configured, got {curves['eps']}"
            )
        for measure in ("error", "confidence"):
            lengths = [len(row) for row in curves.get(measure, ())]
            if lengths != shape:
                raise UserError(
                    f"{path}: {field}.{measure} must be {len(expected)} lists of {len(eps)} "
                    f"numbers, got lists of {lengths}"
                )
    return result


def read_lines(workdir: Path, config: Config, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the lines of metrics.jsonl, one for each epoch of each replica.

    Raises:
      UserError: it is missing or damaged, or a line is.
    """
    path, lines = workdir / "metrics.jsonl", read_metrics(workdir)
    has_classes = "test_error" in result["replicas"][0]
    tested = documents.MeasuredMetricsLine if has_classes else documents.MeasuredLossLine
    for line in lines:
        last = line["epoch"] == config["epochs"]
        measured = last or line["epoch"] % config["monitor_every"] == 0
        documents.check_schema(path, line, tested if measured else documents.MetricsLine)
    for i, replica in enumerate(result["replicas"]):
        own = [line["epoch"] for line in lines if line["replica"] == i]
        if own != list(range(1, replica["epochs"] + 1)):
            raise UserError(
                f"{path}: lines of replica {i} must be of epochs 1 to {replica['epochs']}, as in "
                f"result.json, got {len(own)} lines"
            )
    return lines

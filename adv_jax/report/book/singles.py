"""What single runs measure of the papers, as documents like those of the targets."""

import tomllib
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from adv_jax.report import papers
from adv_jax.report.statistics import spread
from adv_jax.report.verdicts import judged

_UNITS = {"error_percent": lambda error: 100 * error}
_UNITS["accuracy_percent"] = lambda error: 100 - 100 * error


@cache
def table() -> dict[str, Any]:
    """The table of single runs that is packaged with the papers' numbers."""
    text = resources.files(papers).joinpath("single_runs.toml").read_text("utf-8")
    return tomllib.loads(text)


def documents(runs: Mapping[Path, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Judged documents of the runs that a folder of results holds; a row without them is not run.

    Args:
      runs: result.json by the path of its file; the stems name the runs.
    """
    by_stem = {path.stem: run for path, run in runs.items()}
    for spec in table()["documents"]:
        rows = [_row(row, by_stem) for row in spec["rows"]]
        if not any(row["values"] for row in rows):
            continue
        trainings = {
            row["label"]: {
                "epochs": [r["epochs"] for run in _found(row, by_stem) for r in run["replicas"]],
                "paper_epochs": spec["paper_epochs"],
            }
            for row in spec["rows"]
            if _found(row, by_stem)
        }
        rows = [row for row in rows if row["training"] in trainings]
        labels = {row["label"] for row in rows}
        yield judged(
            {
                **spec,
                "target": spec["rows"][0]["runs"][0],
                "rows": rows,
                "claims": [
                    {"id": None, **claim}
                    for claim in spec.get("claims", ())
                    if labels.issuperset(claim["rows"])
                ],
                "trainings": trainings,
            }
        )


def one_seed(name: str, files: Collection[str]) -> str:
    """The file of one seed that measures a number or claim; "" if the results have none."""
    path = table()["one_seed"].get(name, "")
    return path if path in files else ""


def mark(file: str) -> str:
    """A sentence on a file whose errors under attack are of an earlier loss; "" for others."""
    earlier = table()["earlier_loss"]
    return earlier["why"] if file in earlier["files"] else ""


def _found(row: Mapping[str, Any], by_stem: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [by_stem[name] for name in row["runs"] if name in by_stem]


def _row(row: Mapping[str, Any], by_stem: Mapping[str, Any]) -> dict[str, Any]:
    entry = papers.entry(row["id"]) if "id" in row else {}
    metric = row.get("metric") or entry.get("metric", "error_percent")
    printed = entry.get("value", entry.get("error_percent"))
    values = {
        str(replica["seed"]): round(_UNITS[metric](error), 10)
        for run in _found(row, by_stem)
        for replica, error in zip(run["replicas"], _errors(row, run), strict=True)
    }
    n, mean, sd = spread(list(values.values())) if values else (0, None, None)
    return {
        "label": row["label"],
        "id": row.get("id"),
        "metric": metric,
        "paper": printed,
        "paper_sd": entry.get("spread"),
        "paper_n": entry.get("n_runs"),
        "mean": mean,
        "sd": sd,
        "n": n,
        "values": values,
        "difference": None if mean is None or printed is None else round(mean - printed, 10),
        "tolerance": row.get("tolerance"),
        "training": row["label"],
        "mark": "" if "attack" not in row else mark(f"{row['runs'][0]}.json"),
    }


def _errors(row: Mapping[str, Any], run: Mapping[str, Any]) -> list[float]:
    """Of each replica, clean or under the row's attack."""
    if "attack" not in row:
        return [replica["test_error"] for replica in run["replicas"]]
    curve = run["evaluation"][row["attack"]]
    return [errors[curve["eps"].index(row["eps"])] for errors in curve["error"]]

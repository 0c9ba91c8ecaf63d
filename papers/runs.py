"""Finished runs, as the figures of several papers read them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adv_jax.runner import trained
from adv_jax.runner.trained import Trained
from adv_jax.runner.workdir import is_finished, read_config, read_result
from adv_jax.types import UserError
from papers.statistics import span


@dataclass(frozen=True)
class Finished:
    """A finished run.

    path: its workdir.
    config, result: what config.json and result.json hold.
    """

    path: Path
    config: dict[str, Any]
    result: dict[str, Any]

    @property
    def data(self) -> str:
        """Its data set and their source, for titles."""
        return f"{self.result['data']['name']} ({self.result['data']['source']})"

    def models(self) -> list[Trained]:
        """The trained model of each replica.

        Raises:
          UserError: what `trained.load` refuses.
        """
        return trained.load_all(self.path)


def finished(path: Path, *, over: Collection[str] = ()) -> Finished:
    """The run in a directory.

    Args:
      over: fields that may differ among its replicas besides the seed; others would be drawn as
        if they were one.

    Raises:
      UserError: there is none, it is not finished, or it has a grid of another field.
    """
    config = read_config(path)
    if not is_finished(path):
        raise UserError(f"workdir {path} has no result.json; allowed is a finished run")
    grid = config["replicas"]["grid"] or {}
    if grid.keys() - over:
        allowed = f"a grid of {', '.join(over)} alone" if over else "a run without"
        raise UserError(f"workdir {path} has the grid {grid}; allowed is {allowed}")
    return Finished(path, config, read_result(path))


def trained_on(runs: Sequence[Finished], *, first: bool = False) -> str:
    """For titles: "mnist (files); seeds 1, 2; 30 to 150 epochs".

    Args:
      runs: on the same data.
      first: of each, the first replica alone.
    """
    replicas = [r for run in runs for r in run.result["replicas"][: 1 if first else None]]
    seeds = sorted({replica["seed"] for replica in replicas})
    epochs = [replica["epochs"] for replica in replicas]
    return (
        f"{runs[0].data}; seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}; "
        f"{span(epochs)} epoch{'s' if max(epochs) > 1 else ''}"
    )


def check_same_inputs(runs: Sequence[Trained]) -> None:
    """Refuses trained models that are tested on other bytes, or on other preprocessing of them.

    Raises:
      UserError: there are such.
    """
    if len({str((run.about["data"]["sha256"], run.about["preprocess"])) for run in runs}) > 1:
        raise UserError("workdir has runs on different data; allowed are runs on the same")


def check_same_data(runs: Sequence[Finished]) -> None:
    """Refuses runs on data that differ.

    Raises:
      UserError: names two of them.
    """
    for run in runs:
        if run.result["data"] != runs[0].result["data"]:
            raise UserError(f"workdirs {runs[0].path} and {run.path} hold runs on other data")

"""Prepares a run: reads what it needs, and checks all of it before anything is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from adv_jax.runner.config import plugins
from adv_jax.runner.config.replicas import Replica, replicas
from adv_jax.runner.run import inputs, pretrained, trained
from adv_jax.runner.run.experiment import Experiment, Functions
from adv_jax.runner.run.inputs import Inputs
from adv_jax.runner.run.preflight import check_fit, check_parts
from adv_jax.runner.run.program import Program, is_packed
from adv_jax.runner.store.workdir import check_same_config, is_finished
from adv_jax.types import LogitsFn


class Prepared(NamedTuple):
    """What a run needs.

    Attributes:
      config: complete, with the field `modules`.
      runs: the replicas.
      inputs: the data.
      sources: workdir -> trained model, for the fields `..._fn`.
      starts: the output of `pretrained.starts`.
      start_sha256: the output of `pretrained.checked_sha256`.
      traced: `Checked.functions`.
    """

    config: Mapping[str, Any]
    runs: list[Replica]
    inputs: Inputs
    sources: Mapping[str, LogitsFn]
    starts: dict[str, Any]
    start_sha256: str = ""
    traced: Functions | None = None

    def program(self) -> tuple[Experiment, Program]:
        """Returns the functions of a replica, and the program of all; places the data."""
        dataset, shards = self.inputs.dataset, self.config["replicas"]["shards"]
        experiment = Experiment(self.config, dataset, self.sources)
        each = experiment, dataset, self.inputs.rows, self.runs
        more = {"shards": shards, "starts": self.starts, "traced": self.traced}
        return experiment, Program(*each, **more)


def prepared(config: Mapping[str, Any], workdir: Path) -> Prepared:
    """Reads the data and the models that a run starts from, and checks that everything fits.

    If the workdir holds the finished run, only its config and its data are compared.

    Raises:
      UserError: a setting is invalid, something cannot be read, or the workdir holds another run.
    """
    config = plugins.recorded(config)
    # Loading data may take minutes: fail first if the workdir holds another config.
    check_same_config(workdir, config)
    runs = replicas(config)
    loaded = inputs.load_to_train(config, runs, workdir)
    if is_finished(workdir):
        return Prepared(config, runs, loaded, {}, {})
    check_fit(config, loaded.dataset)
    sources = trained.sources(config, loaded.dataset)
    start_sha256 = pretrained.checked_sha256(config, workdir)
    starts = pretrained.starts(config, runs, workdir)
    each = loaded.dataset, loaded.rows, runs[0], sources, starts
    checked = check_parts(config, *each, packed=is_packed(jax.devices()))
    return Prepared(config, runs, loaded, sources, starts, start_sha256, checked.functions)

"""Prepares a run: reads what it needs, and checks all of it before anything is written."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from adv_jax.runner.config import plugins
from adv_jax.runner.config.replicas import Replica, replicas
from adv_jax.runner.run import inputs, pretrained, sources, trained
from adv_jax.runner.run.experiment import Experiment, Functions
from adv_jax.runner.run.inputs import Inputs
from adv_jax.runner.run.preflight import check_fit, check_parts
from adv_jax.runner.run.program import Program, is_packed
from adv_jax.runner.store.workdir import check_same_config, is_finished
from adv_jax.types import LogitsFn


class Prepared(NamedTuple):
    """The parts of a run before its first epoch.

    config: complete, with the field `modules`.
    runs: the replicas.
    inputs: the data.
    sources: workdir -> trained model, for the fields `..._fn`.
    starts: the output of `pretrained.starts`.
    sha256: of the runs that it reads, the output of `sources.checked_sha256`.
    traced: `Checked.functions`.
    """

    config: Mapping[str, Any]
    runs: list[Replica]
    inputs: Inputs
    sources: Mapping[str, LogitsFn]
    starts: dict[str, Any]
    sha256: Mapping[str, str] = MappingProxyType({})
    traced: Functions | None = None

    def program(self) -> tuple[Experiment, Program]:
        """Returns the functions of a replica, and the program of all; places the data."""
        dataset, shards = self.inputs.dataset, self.config["replicas"]["shards"]
        experiment = Experiment(self.config, dataset, self.sources)
        program = Program(
            experiment,
            dataset,
            self.inputs.rows,
            self.runs,
            shards=shards,
            starts=self.starts,
            traced=self.traced,
        )
        return experiment, program


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
    loaded = inputs.load(config, runs, workdir)
    if is_finished(workdir):
        return Prepared(config, runs, loaded, {}, {})
    check_fit(config, loaded.dataset)
    sha256 = sources.checked_sha256(config, workdir)
    models = trained.source_fns(config, loaded.dataset)
    starts = pretrained.starts(config, runs, workdir)
    checked = check_parts(
        config,
        loaded.dataset,
        runs[0],
        models,
        starts,
        rows=loaded.rows,
        packed=is_packed(jax.devices()),
    )
    return Prepared(config, runs, loaded, models, starts, sha256, checked.functions)

"""Reads finished runs for the figures of papers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.runner.run import trained
from adv_jax.runner.run.trained import Trained, tested_apart
from adv_jax.runner.store.workdir import check_finished, read_config, read_metrics, read_result
from adv_jax.types import Array, Key, Output, UserError
from papers.judging.documents import data_in_words
from papers.judging.words import epochs_in_words, seeds_in_words

SAMPLES_AT_ONCE = 500  # All of a convolutional generator need much memory.


@dataclass(frozen=True)
class Finished:
    """A finished run.

    path: its workdir.
    config, result: the contents of config.json and result.json.
    """

    path: Path
    config: dict[str, Any]
    result: dict[str, Any]

    @property
    def data(self) -> str:
        """The data set in words."""
        return data_in_words(self.result["data"])

    def models(self) -> list[Trained]:
        """Loads the trained model of each replica.

        Raises:
          UserError: see `trained.load`.
        """
        return trained.load_all(self.path)


@dataclass(frozen=True)
class MethodRun(Finished):
    """A finished run of one of a paper's methods.

    method: its name, a key of the paper's labels.
    """

    method: str

    @property
    def net(self) -> str:
        """The net in words; runs of equal words can be compared."""
        raise NotImplementedError


OfMethod = TypeVar("OfMethod", bound=MethodRun)


def only(workdirs: Sequence[str], *, figure: str = "") -> str:
    """Returns the workdir of a figure of one run.

    Args:
      workdirs: those that were given.
      figure: the name of the figure for the message; "" to name none.

    Raises:
      UserError: there are several, or none.
    """
    if len(workdirs) != 1:
        of_figure = f" for {figure}" if figure else ""
        raise UserError(f"workdir must be one run{of_figure}, got {', '.join(workdirs) or 'none'}")
    return workdirs[0]


def finished(workdir: str | Path, *, experiment: str = "", over: Collection[str] = ()) -> Finished:
    """Reads a finished run.

    Args:
      workdir: its folder.
      experiment: its experiment; "" for any.
      over: fields, besides the seed, that may differ among its replicas.

    Raises:
      UserError: there is no finished run, or it has another experiment or a grid of another field.
    """
    path = Path(workdir)
    config = read_config(path)
    if experiment not in ("", config["experiment"]):
        raise UserError(
            f"workdir must be a run of {experiment}, got {path} of {config['experiment']}"
        )
    check_finished(path)
    grid = config["replicas"]["grid"] or {}
    if grid.keys() - over:
        legal = f"a run with a grid of {', '.join(over)} only" if over else "a run without a grid"
        raise UserError(f"workdir must be {legal}, got {path} with {grid}")
    return Finished(path, config, read_result(path))


def finished_runs(
    workdirs: Sequence[str],
    *,
    experiment: str = "",
    over: Collection[str] = (),
    models: Collection[str] = (),
) -> list[Finished]:
    """Reads finished runs on the same data.

    Args:
      workdirs: their folders.
      experiment, over: as in `finished`.
      models: names of the models that they may have; empty for any.

    Raises:
      UserError: as `finished`; the data of two runs differ; a run has another model.
    """
    runs = [finished(workdir, experiment=experiment, over=over) for workdir in workdirs]
    require_same_data(runs)
    for run in runs:
        if models and run.config["model"]["name"] not in models:
            raise UserError(f"workdir must be a run of {' or '.join(models)}, got {run.path}")
    return runs


def run_document(run: Finished, *fields: str) -> dict[str, Any]:
    """Returns fields of a run's config, its data and its replicas, for the document of a figure."""
    chosen = {field: run.config[field] for field in fields}
    return {**chosen, "data": run.result["data"], "replicas": run.result["replicas"]}


def by_epoch(run: Finished, metric: str) -> list[np.ndarray]:
    """Returns a metric of metrics.jsonl for each replica, which may have stopped early: f[epochs].

    Raises:
      UserError: it was not measured after each epoch.
    """
    values: list[list[float]] = [[] for _ in run.result["replicas"]]
    for line in read_metrics(run.path):
        if metric not in line:
            needed = f"a run with {metric} of each epoch (see monitor_every and monitor_train)"
            raise UserError(f"workdir must be {needed}, got {run.path} without")
        values[line["replica"]].append(line[metric])
    return [np.array(of_replica) for of_replica in values]


def trained_on(runs: Sequence[Finished], *, first: bool = False) -> str:
    """Describes runs for titles: "full MNIST; seeds 1, 2; 30 to 150 epochs".

    Args:
      runs: runs on the same data.
      first: whether to count only the first replica of each.
    """
    replicas = [r for run in runs for r in run.result["replicas"][: 1 if first else None]]
    seeds = sorted({replica["seed"] for replica in replicas})
    epochs = [replica["epochs"] for replica in replicas]
    return f"{runs[0].data}; {seeds_in_words(seeds)}; {epochs_in_words(epochs)}"


def require_same_inputs(runs: Sequence[Trained]) -> None:
    """Raises UserError if the models' files of data or test sets differ."""
    for run in runs:
        apart = tested_apart(runs[0].dataset, run.dataset)
        if run.about["data"]["sha256"] != runs[0].about["data"]["sha256"] or apart:
            raise UserError(
                f"workdir must be runs on the same data, got {apart or 'different data'}"
            )


def require_same_data(runs: Sequence[Finished]) -> None:
    """Raises UserError if the data of two runs differ."""
    for run in runs:
        if run.result["data"] != runs[0].result["data"]:
            paths = f"{runs[0].path} and {run.path}"
            raise UserError(f"workdir must be runs on the same data, got {paths}")


def require_one_model(runs: Sequence[Finished]) -> None:
    """Raises UserError if the models of two runs differ, or two replicas are alike.

    So a value belongs to one seed, and those of all seeds have one meaning.
    """
    for run in runs:
        if run.config["model"]["name"] != runs[0].config["model"]["name"]:
            raise UserError(f"workdir must be runs of one model, got {runs[0].path} and {run.path}")
    replicas = [replica for run in runs for replica in run.result["replicas"]]
    if len({(one["seed"], *one["overrides"].items()) for one in replicas}) < len(replicas):
        paths = ", ".join(str(run.path) for run in runs)
        raise UserError(f"workdir must be runs of different seeds, got {paths}")


def one_of_each(
    runs: Sequence[OfMethod], methods: Collection[str], *, labels: Mapping[str, str], figure: str
) -> dict[str, OfMethod]:
    """Returns method -> run, in the order of `methods`.

    Args:
      runs: finished runs.
      methods: the wanted methods.
      labels: method -> its words in messages.
      figure: name of the figure, for messages.

    Raises:
      UserError: there is not exactly one run of each method, or the nets differ.
    """
    if sorted(run.method for run in runs) != sorted(methods) or len({r.net for r in runs}) > 1:
        legal = f"one run each of {', '.join(labels[method] for method in methods)} of one net"
        found = ", ".join(f"{run.net} by {labels[run.method]}" for run in runs)
        raise UserError(f"workdir must be {legal} for {figure}, got {found}")
    return {method: next(run for run in runs if run.method == method) for method in methods}


def samples_of(model: Trained, count: int) -> Array:
    """Returns samples of a trained generator, drawn some at a time: f32[count, *D]."""
    size = min(count, SAMPLES_AT_ONCE)
    keys = jax.random.split(key_of(model), -(-count // size))
    samples = jax.lax.map(lambda key: drawn(model, size, key).logits, keys)
    return samples.reshape(-1, *samples.shape[2:])[:count]


def drawn(model: Trained, count: int, key: Key, *given: Array) -> Output:
    """Returns the output of a generator that draws `count` samples; `given`: such as labels."""
    like = jnp.zeros((count, *model.dataset.test.x.shape[1:]))
    return model.apply(model.variables, like, *given, key=key, method="sample")


def key_of(model: Trained) -> Key:
    """Returns the key that samples of a trained generator are drawn with."""
    return jax.random.key(model.about["seed"])

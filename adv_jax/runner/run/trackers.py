"""Trackers of `config.trackers`: programs that show the lines of metrics.jsonl.

    tensorboard   event files in the workdir's folder tensorboard, one subfolder for each replica
    mlflow        a run for each replica, with the tag `group`: in the workdir's mlflow.db, or where
                  MLFLOW_TRACKING_URI says
    wandb         a run for each replica, in one group: in the folder wandb of the workdir or of
                  WANDB_DIR, offline unless WANDB_MODE says otherwise

MLFLOW_EXPERIMENT_NAME and WANDB_PROJECT name the experiment, which else has the config's name. The
group has the name of the workdir. A resumed run goes on in the same runs of a tracker.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import quote, unquote

from adv_jax.runner.config.document import ConfigError, leaves
from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.host.threads import started
from adv_jax.runner.store.formats import as_json, read_object, write_json
from adv_jax.runner.store.writing import locked
from adv_jax.types import install_hint, not_one_of

Line = Mapping[str, Any]  # of metrics.jsonl
_T = TypeVar("_T")
_SQLITE = "sqlite:///"
_BATCH = 100  # Most parameters that MLflow takes at once.
# Seconds until a tracker counts as failed. A server that works takes a line in less than one. To
# begin, a tracker is imported and makes tables, in a sweep one trial after the other; to end, wandb
# uploads what is left of each replica.
_FOR_A_LINE, _FOR_THE_REST = 10.0, 120.0


class Tracked(NamedTuple):
    """The run that is tracked.

    workdir, config, replicas: of the run.
    done: the number of epochs that earlier processes finished.
    """

    workdir: Path
    config: Mapping[str, Any]
    replicas: Sequence[Replica]
    done: int

    @property
    def group(self) -> str:
        """The name of the workdir."""
        return self.workdir.absolute().name

    def ids(self) -> list[str]:
        """Returns a name for each replica that no other run has, the same in a resumed run."""
        file = self.workdir / "trackers.json"
        if not file.exists():
            write_json(file, {"id": uuid.uuid4().hex})
        name = read_object(file)["id"]
        return [f"{name}-{i}" for i in range(len(self.replicas))]

    def settings(self, replica: Replica) -> dict[str, Any]:
        """Returns {path: value} of a replica's config."""
        return dict(leaves(as_json(self.config))) | replica.overrides | {"seed": replica.seed}


class Tracker(Protocol):
    """A tracker of all replicas of a run. Any method may raise."""

    def __init__(self, run: Tracked) -> None: ...

    def log(self, line: Line) -> None:
        """Adds the numbers of an epoch of a replica."""

    def close(self, *, finished: bool) -> None:
        """Ends the tracking; finished: whether the training has ended."""


class TensorBoard:
    """Writes event files, whose readers drop what a resumed run repeats."""

    def __init__(self, run: Tracked) -> None:
        from tensorboardX import SummaryWriter

        folders = [run.workdir / "tensorboard" / str(i) for i in range(len(run.replicas))]
        self._writers = [SummaryWriter(str(path), purge_step=run.done + 1) for path in folders]

    def log(self, line: Line) -> None:
        writer = self._writers[line["replica"]]
        for name, value in _numbers(line).items():
            writer.add_scalar(name, value, line["epoch"])
        writer.flush()

    def close(self, *, finished: bool) -> None:
        for writer in self._writers:
            writer.close()


class MLflow:
    """Logs to an MLflow store, in which a resumed run finds its runs by the tag `adv_jax.id`."""

    def __init__(self, run: Tracked) -> None:
        from mlflow import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI", _store(run.workdir))
        with _alone(uri):
            self._client = MlflowClient(uri)
        experiment = self._experiment(_name(run, "MLFLOW_EXPERIMENT_NAME"))
        runs = [
            self._found(experiment, id) or self._created(experiment, id, run, i)
            for i, id in enumerate(run.ids())
        ]
        self._ids = [found.info.run_id for found in runs]
        # MLflow would keep a repeated epoch twice.
        self._last = [found.data.metrics.get("epoch", 0) for found in runs]

    def log(self, line: Line) -> None:
        from mlflow.entities import Metric

        replica, epoch, now = line["replica"], line["epoch"], int(1000 * time.time())
        if epoch > self._last[replica]:
            values = {**_numbers(line), "epoch": epoch}
            metrics = [Metric(name, value, now, epoch) for name, value in values.items()]
            self._client.log_batch(self._ids[replica], metrics=metrics)

    def close(self, *, finished: bool) -> None:
        for id in self._ids:
            self._client.set_terminated(id, "FINISHED" if finished else "KILLED")

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        if found := self._client.get_experiment_by_name(name):
            return found.experiment_id
        try:
            return self._client.create_experiment(name)
        except MlflowException:  # Another trial of a sweep was faster.
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return found.experiment_id

    def _found(self, experiment: str, id: str) -> Any:
        found = self._client.search_runs([experiment], f"tags.`adv_jax.id` = '{id}'")
        for run in found:
            self._client.update_run(run.info.run_id, status="RUNNING")
        return found[0] if found else None

    def _created(self, experiment: str, id: str, run: Tracked, i: int) -> Any:
        from mlflow.entities import Param

        tags = {"adv_jax.id": id, "group": run.group}
        made = self._client.create_run(experiment, run_name=f"{run.group}/{i}", tags=tags)
        params = [Param(k, str(value)) for k, value in run.settings(run.replicas[i]).items()]
        for first in range(0, len(params), _BATCH):
            self._client.log_batch(made.info.run_id, params=params[first : first + _BATCH])
        return made


class WandB:
    """Logs to Weights & Biases, which knows a resumed run by its id."""

    def __init__(self, run: Tracked) -> None:
        import wandb

        self._runs = [
            wandb.init(
                project=_name(run, "WANDB_PROJECT"),
                group=run.group,
                name=f"{run.group}/{i}",
                id=id,
                dir=os.environ.get("WANDB_DIR", str(run.workdir)),
                mode=os.environ.get("WANDB_MODE", "offline"),
                config=run.settings(run.replicas[i]),
                resume="allow",
                reinit="create_new",
                settings=wandb.Settings(silent=True, console="off"),
            )
            for i, id in enumerate(run.ids())
        ]

    def log(self, line: Line) -> None:
        self._runs[line["replica"]].log(_numbers(line), step=line["epoch"])

    def close(self, *, finished: bool) -> None:
        for run in self._runs:
            run.finish(exit_code=0 if finished else 1)


# {name: (class, package)}; the extra that installs a package has the name.
TRACKERS: dict[str, tuple[type[Tracker], str]] = {
    "mlflow": (MLflow, "mlflow"),
    "tensorboard": (TensorBoard, "tensorboardX"),
    "wandb": (WandB, "wandb"),
}


def check(names: Sequence[str]) -> None:
    """Checks `config.trackers`.

    Raises:
      ConfigError: a name is unknown or there twice, or its package is not installed.
    """
    for name in names:
        if name not in [*TRACKERS]:
            raise ConfigError(not_one_of("an entry of trackers", name, TRACKERS))
        if names.count(name) > 1:
            raise ConfigError(f"trackers must have each name once, got {name!r} twice")
        package = TRACKERS[name][1]
        # A folder of that name, as wandb makes one, is found too, but has no origin.
        if not getattr(find_spec(package), "origin", None):
            raise ConfigError(
                f"trackers must be of installed packages, got {name!r} without {package}: "
                f"{install_hint(name)}"
            )


def shared(folder: Path) -> dict[str, str]:
    """Returns the environment variables by which the runs below a folder are one experiment."""
    name = folder.name
    return {
        "MLFLOW_EXPERIMENT_NAME": name,
        "MLFLOW_TRACKING_URI": _store(folder),
        "WANDB_DIR": str(folder.absolute()),
        "WANDB_PROJECT": name,
    }


class Trackers:
    """The trackers of a run. A context manager.

    One that fails or does not answer in time is left with a warning: nothing of the run depends on
    it.
    """

    def __init__(self, names: Iterable[str], run: Tracked, say: Callable[[str], None]) -> None:
        """names: those of `config.trackers`; say: prints a warning."""
        self._say, self._open = say, dict[str, Tracker]()
        for name in names:
            with self._left_if_it_fails(name):
                self._open[name] = _within(_FOR_THE_REST, partial(TRACKERS[name][0], run))

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for name, tracker in [*self._open.items()]:
            with self._left_if_it_fails(name):
                _within(_FOR_THE_REST, partial(tracker.close, finished=kind is None))

    def log(self, lines: Iterable[Line]) -> None:
        """Adds lines of metrics.jsonl."""
        for name, tracker in [*self._open.items()]:
            with self._left_if_it_fails(name):
                for line in lines:
                    _within(_FOR_A_LINE, partial(tracker.log, line))

    @contextmanager
    def _left_if_it_fails(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # A tracker is another program.
            self._open.pop(name, None)
            why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            self._say(f"warning: {name} failed and is left ({why}); metrics.jsonl has every line")


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """Returns call(), which runs in a thread of its own.

    Raises:
      TimeoutError: it takes longer.
      Exception: the error that it raises.
    """
    ended = started(call)
    if not wait([ended], timeout=seconds).done:
        raise TimeoutError(f"no answer in {seconds:g} s")
    return ended.result()


def _numbers(line: Line) -> dict[str, float]:
    """Returns the metrics of a line."""
    return {k: value for k, value in line.items() if k not in ("epoch", "replica", "seed")}


def _name(run: Tracked, variable: str) -> str:
    """Returns the name of the experiment, from an environment variable or the config."""
    return os.environ.get(variable) or run.config["experiment"]


def _store(folder: Path) -> str:
    return f"{_SQLITE}{quote(str(folder.absolute()))}/mlflow.db"


def _alone(uri: str) -> AbstractContextManager[None]:
    """Lets processes open a file of MLflow one by one: each makes the tables if there are none."""
    if not uri.startswith(_SQLITE):
        return nullcontext()
    return locked(Path(f"{unquote(uri.removeprefix(_SQLITE))}.lock"))

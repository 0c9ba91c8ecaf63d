"""Grids and searches over any field of a config, on Ray: `python -m launch.sweep`.

    --config=configs/shallow_mnist.py:quick --workdir=DIR
    --grid="{'model.features': ((100,), (800,)), 'objective.attack.eps': (.1, .2)}"
    --search="{'optimizer.learning_rate': ('loguniform', 1e-3, 1e-1)}" --num_trials=20

Each trial is an ordinary run in DIR/trials. The same command goes on where the sweep stopped.
launch/README.md has the rest.
"""

import importlib.util
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags

from adv_jax.main import CONFIG, WORKDIR, parse_flags
from adv_jax.runner import inputs, trained
from adv_jax.runner.config import ConfigError, check, replicas
from adv_jax.runner.log import print_table
from adv_jax.runner.output import standard_output
from adv_jax.runner.preflight import check_parts
from adv_jax.runner.processes import host_and_port
from adv_jax.runner.signals import Interrupted, on_signals, stop_at_once
from adv_jax.runner.workdir import Workdir, default_path, read_config, writing
from adv_jax.types import UserError
from launch import space, trials
from launch.trials import Settings

_GRID = flags.DEFINE_string("grid", None, "{field: values}: every combination is run")
_SEARCH = flags.DEFINE_string("search", None, "{field: (kind, low, high)}: Optuna chooses")
_NUM_TRIALS = flags.DEFINE_integer("num_trials", 20, "trials of a search", lower_bound=1)
_METRIC = flags.DEFINE_string("metric", "valid_error", "of metrics.jsonl, the lower the better")
_MIN_EPOCHS = flags.DEFINE_integer(
    "min_epochs",
    None,
    "before ASHA may stop a trial of a search; by default a ninth of all",
    lower_bound=1,
)
_ADDRESS = flags.DEFINE_string("address", None, "HOST:PORT of a Ray cluster; none: this machine")
_CPUS = flags.DEFINE_integer("cpus", 1, "cores of a trial", lower_bound=1)
_GPUS = flags.DEFINE_float("gpus", None, "GPUs of a trial, or a fraction; 1 where there are any")


def main(_: list[str]) -> None:
    """Runs the sweep that the flags name; exits with 1 on a mistake, 128 + signal on a signal."""
    jax.config.update("jax_platforms", "cpu")  # The devices are for the trials.
    try:
        if _ADDRESS.value:
            _check_address(_ADDRESS.value)
        failed = sweep(CONFIG.value.to_dict())
    except UserError as error:
        sys.exit(f"error: {error}")
    except Interrupted as stop:
        print(stop)
        sys.exit(128 + stop.signum)
    sys.exit(1 if failed else 0)


def sweep(config: dict[str, Any]) -> bool:
    """Runs what is not settled of the sweep of a config -> whether a trial has failed.

    Raises:
      UserError: a mistake in the flags or the config, a directory that cannot be used, no cluster,
        or a package of the extra that is missing.
      Interrupted: a signal came; the trials under way save their epochs.
    """
    varied, searched = _varied(config)
    document = {"experiment": config["experiment"], "metric": _METRIC.value, "config": config}
    document |= {"search" if searched else "grid": varied}
    path = Path(WORKDIR.value or default_path(document)).absolute()
    print(f"workdir {path}", flush=True)
    with on_signals(stop_at_once):
        tried = {f: space.ends(d) for f, d in varied.items()} if searched else varied
        traced = _traced(config, tried, path)
        _require_extra()
        if not searched:
            config = space.with_grid(config, {f: varied[f] for f in varied if f in traced})
        settings = Settings(config, traced, path / "trials", _METRIC.value, os.getcwd())
        with Workdir(path, document) as files:
            if searched:
                _search(settings, varied, path)
            else:
                _grid(settings, {f: varied[f] for f in varied if f not in traced}, path)
            return _conclude(files, trials.known(settings.folder), list(varied))


def _require_extra() -> None:
    """Refuses to begin what needs Ray and Optuna; a mistake is told without them.

    Raises:
      UserError: one of them is not installed.
    """
    missing = [name for name in ("ray", "optuna") if not importlib.util.find_spec(name)]
    if missing:
        names = " and ".join(missing)
        raise UserError(f"launch.sweep needs {names}: pip install 'adv_jax[sweep]'")


def _check_address(address: str) -> None:
    """Refuses an address where nothing answers, within seconds."""
    legal = "HOST:PORT, as `ray start --head` prints it"
    try:
        socket.create_connection(host_and_port("--address", address, legal), timeout=5).close()
    except OSError as error:
        raise UserError(
            f"--address is {address!r}; no Ray cluster answers there: {error}"
        ) from error


def _varied(config: Mapping[str, Any]) -> tuple[dict[str, tuple], bool]:
    """The fields of --grid or of --search, and whether it is a search."""
    check(config)
    replicas(config)
    if _GRID.value and not _SEARCH.value:
        return space.parse_grid(_GRID.value, config), False
    if _SEARCH.value and not _GRID.value:
        search = space.parse_search(_SEARCH.value, config)
        most = space.most_epochs(config, search)
        if (_MIN_EPOCHS.value or 1) > most:
            raise ConfigError(f"--min_epochs is {_MIN_EPOCHS.value}; allowed are 1 to {most}")
        return search, True
    raise UserError("--grid and --search: allowed is one of them, and one is needed")


def _traced(config: dict[str, Any], tried: Mapping[str, tuple], path: Path) -> frozenset[str]:
    """The fields that are traced; refuses what can be refused before Ray starts."""
    dataset, rows, _, _ = inputs.load(config, replicas(config), path)

    def traced(config: dict[str, Any]) -> set[str]:
        sources = trained.sources(config, dataset)
        return check_parts(config, dataset, rows, replicas(config)[0], sources)

    measured = traced(config)
    if _METRIC.value not in measured:
        legal = ", ".join(sorted(measured))
        raise ConfigError(f"--metric is {_METRIC.value!r}; allowed are {legal}")
    return space.traceable(config, tried, traced)


def _grid(settings: Settings, varied: Mapping[str, tuple], path: Path) -> None:
    """Runs the combinations of the values that are not settled."""
    points = [p for p in space.product(varied) if not trials.is_settled(settings.path_of(p))]
    if points:
        with _cluster() as resources:
            from launch import tuning

            tuning.run_grid(settings, points, resources, path / "ray")


def _search(settings: Settings, domains: Mapping[str, tuple], path: Path) -> None:
    """Goes on until as many trials as wanted are settled, or have failed."""
    known = trials.known(settings.folder)
    if sum(map(trials.is_settled, known)) < _NUM_TRIALS.value:
        begun = [settings.point_of(read_config(path), domains) for path in known]
        with _cluster() as resources:
            from launch import tuning

            tuning.run_search(
                settings,
                domains,
                begun,
                resources,
                path / "ray",
                num_trials=_NUM_TRIALS.value,
                min_epochs=_MIN_EPOCHS.value,
            )


def _cluster():
    from launch import tuning

    return tuning.cluster(_ADDRESS.value, cpus=_CPUS.value, gpus=_GPUS.value)


def _conclude(files: Workdir, paths: Sequence[Path], fields: list[str]) -> bool:
    """Table, picture and result.json of all trials -> whether one has failed."""
    metric = _METRIC.value
    rows = trials.rows(paths, fields, metric)
    columns = list(dict.fromkeys([*fields, metric, "test_error", "epoch", "status", "trial"]))
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    counts = trials.counts(paths)
    print_table(f"{len(paths)} trials: {counts}; lowest {metric} first", columns, cells)
    for path in paths:
        if trials.failure(path):
            values = trials.values_of(read_config(path), fields)
            print(f"failed: {values}: {trials.failure(path)} ({path / 'trial.log'})")
    files.write_result({"metric": metric, "points": rows})
    if any(row[metric] is not None for row in rows):
        from launch.picture import parallel_coordinates

        with writing(files.figures):
            files.figures.mkdir(exist_ok=True)
            parallel_coordinates(files.figures / "sweep.png", rows, fields, metric)
    print(f"results in {files.path}")
    return any(trials.status(path) == trials.FAILED for path in paths)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    with standard_output():
        app.run(main, flags_parser=parse_flags)

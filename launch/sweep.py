"""Grids and searches over any field of a config, on Ray: `python -m launch.sweep`.

    --config=configs/shallow_mnist.py:quick --workdir=DIR
    --grid="{'model.features': ((100,), (800,)), 'objective.attack.eps': (.1, .2)}"
    --search="{'optimizer.learning_rate': ('loguniform', 1e-3, 1e-1)}" --num_trials=20

Each trial is an ordinary run in DIR/trials. The same command resumes the sweep: launch/README.md.
"""

import importlib.util
import os
import socket
import sys
from collections.abc import Mapping
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
from adv_jax.runner.signals import Interrupted, held_signals, on_signals, stop_at_once
from adv_jax.runner.workdir import Workdir, default_path, read_config, writing
from adv_jax.types import UserError
from launch import _space, _trials
from launch._trials import Settings

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
    """Runs the sweep of the flags; exits with 1 on a mistake, and with 128 + signal on a signal."""
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
    """Runs the trials of a config that are not settled; returns whether a trial has failed.

    Raises:
      UserError: a mistake in the flags or the config, a directory that cannot be used, no cluster,
        or a package of the extra that is missing.
      Interrupted: a signal came; the trials that run save their epochs.
    """
    fields = _parsed(config)
    document = {"experiment": config["experiment"], "metric": _METRIC.value, "config": config}
    document |= {"search" if _SEARCH.value else "grid": fields}
    path = Path(WORKDIR.value or default_path(document)).absolute()
    print(f"workdir {path}", flush=True)
    with on_signals(stop_at_once):
        tried = {f: values[1:] for f, values in fields.items()} if _SEARCH.value else fields
        traced = _traced(config, tried, path)
        for name in ("ray", "optuna"):  # Mistakes come first: they are told without these, too.
            if not importlib.util.find_spec(name):
                raise UserError(f"launch.sweep needs {name}: pip install 'adv-jax[sweep]'")
        if not _SEARCH.value:
            config = _space.with_grid(config, {f: fields[f] for f in fields if f in traced})
        settings = Settings(config, traced, path / "trials", _METRIC.value, os.getcwd())
        with Workdir(path, document) as files:
            _run(settings, fields, path / "ray")
            return _conclude(files, _trials.known(settings.folder), list(fields))


def _check_address(address: str) -> None:
    """Refuses an address where no server answers, within seconds."""
    legal = "HOST:PORT, as `ray start --head` prints it"
    try:
        socket.create_connection(host_and_port("--address", address, legal), timeout=5).close()
    except OSError as error:
        legal = "the address of a running Ray cluster"
        raise UserError(f"--address must be {legal}, got {address!r}: {error}") from error


def _parsed(config: Mapping[str, Any]) -> dict[str, tuple]:
    """Returns the fields of --grid or of --search."""
    check(config)
    replicas(config)
    grid, search = _GRID.value, _SEARCH.value
    if grid and not search:
        return _space.parse_grid(grid, config)
    if not search or grid:
        found = "both" if search else "neither"
        raise UserError(f"the sweep must have one of --grid and --search, got {found}")
    domains = _space.parse_search(search, config)
    most = _space.most_epochs(config, domains)
    if (_MIN_EPOCHS.value or 1) > most:
        raise ConfigError(f"--min_epochs must be 1 to {most}, got {_MIN_EPOCHS.value}")
    return domains


def _traced(config: dict[str, Any], tried: Mapping[str, tuple], path: Path) -> frozenset[str]:
    """Returns the fields that are traced; refuses what can be refused before Ray starts."""
    dataset, rows, _, _ = inputs.load(config, replicas(config), path)

    def measured(config: dict[str, Any]) -> set[str]:
        sources = trained.sources(config, dataset)
        return check_parts(config, dataset, rows, replicas(config)[0], sources)

    metrics = measured(config)
    if _METRIC.value not in metrics:
        legal = f"one of {', '.join(sorted(metrics))}"
        raise ConfigError(f"--metric must be {legal}, got {_METRIC.value!r}")
    return _space.traceable(config, tried, measured)


def _run(settings: Settings, fields: Mapping[str, tuple], storage: Path) -> None:
    """Runs the trials that are not settled; Ray starts only if there are any."""
    if _SEARCH.value:
        begun = _trials.known(settings.folder)
        points = [
            _space.point_of(read_config(path), fields, traced=settings.traced) for path in begun
        ]
        left = _NUM_TRIALS.value - sum(map(_trials.is_settled, begun))
    else:
        points = _space.product({f: fields[f] for f in fields if f not in settings.traced})
        points = [p for p in points if not _trials.is_settled(settings.path_of(p))]
        left = len(points)
    if left <= 0:
        return
    from launch import _tuning

    joined = _tuning.cluster(_ADDRESS.value, cpus=_CPUS.value, gpus=_GPUS.value)
    with held_signals() as signals, joined as resources:
        plan = _tuning.grid(points)
        if _SEARCH.value:
            sizes = {"num_trials": _NUM_TRIALS.value, "min_epochs": _MIN_EPOCHS.value}
            plan = _tuning.search(settings.config, fields, points, **sizes)
        _tuning.run(settings, plan, resources, storage, signals)
    if signals:
        stop_at_once(signals[0], None)


def _conclude(files: Workdir, paths: list[Path], fields: list[str]) -> bool:
    """Makes the table, the figure and result.json; returns whether a trial has failed."""
    metric = _METRIC.value
    rows = _trials.rows(paths, fields, metric)
    columns = list(dict.fromkeys([*fields, metric, "test_error", "epoch", "status", "trial"]))
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    title = f"{len(paths)} trials: {_trials.counts(paths)}; lowest {metric} first"
    print_table(title, columns, cells)
    failed = [path for path in paths if _trials.status(path) == _trials.FAILED]
    for path in failed:
        values, error = _trials.values_of(path, fields), _trials.failure(path)
        print(f"failed: {values}: {error} ({path / 'trial.log'})")
    files.write_result({"metric": metric, "points": rows})
    if any(row[metric] is not None for row in rows):
        from launch._picture import parallel_coordinates

        with writing(files.figures):
            files.figures.mkdir(exist_ok=True)
            parallel_coordinates(files.figures / "sweep.png", rows, fields, metric)
    print(f"results in {files.path}")
    return bool(failed)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    with standard_output():
        app.run(main, flags_parser=parse_flags)

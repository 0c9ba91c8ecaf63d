"""Grids and searches over any field of a config, on Ray: `python -m launch.sweep`.

    --config=configs/shallow_mnist.py:quick --workdir=DIR
    --grid="{'model.features': ((100,), (800,)), 'objective.attack.eps': (.1, .2)}"
    --search="{'optimizer.learning_rate': ('loguniform', 1e-3, 1e-1)}" --num_trials=20

Each trial is an ordinary run in DIR/trials. The same command resumes the sweep: launch/README.md.
"""

import importlib.util
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import app, flags

from adv_jax.main import CONFIG, WORKDIR, parse_flags
from adv_jax.runner.config import plugins
from adv_jax.runner.config.command_line import Reals, refuse_flags
from adv_jax.runner.config.document import ConfigError
from adv_jax.runner.config.fields import check
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.host.ending import without_traceback
from adv_jax.runner.host.processes import host_and_port
from adv_jax.runner.host.signals import held_signals, on_signals, stop_at_once
from adv_jax.runner.run import inputs, pretrained, trackers, trained
from adv_jax.runner.run.log import print_table
from adv_jax.runner.run.preflight import check_batch_size, check_parts, check_settings
from adv_jax.runner.store.workdir import Workdir, check_same_config, default_path, read_config
from adv_jax.runner.store.writing import writing
from adv_jax.types import UserError, install_hint, not_one_of
from launch import _picture, _space, _trials
from launch._trials import Settings

_GRID = flags.DEFINE_string("grid", None, "{field: values}: every combination is run")
_SEARCH = flags.DEFINE_string("search", None, "{field: (kind, low, high)}: Optuna chooses")
_NUM_TRIALS = flags.DEFINE_integer("num_trials", 20, "trials of a search", lower_bound=1)
_METRIC = flags.DEFINE_string("metric", "valid_error", "of metrics.jsonl, to minimize")
_MIN_EPOCHS = flags.DEFINE_integer(
    "min_epochs", None, "epochs before ASHA may stop a trial; default: a ninth of all", 1
)
_ADDRESS = flags.DEFINE_string("address", None, "HOST:PORT of a Ray cluster; none: this machine")
_CPUS = flags.DEFINE_integer("cpus", 1, "cores of a trial", lower_bound=1)
_GPUS = flags.DEFINE(
    Reals(lower_bound=0), "gpus", None, "GPUs of a trial, or a fraction; default: 1 if any"
)

_LOW_IS_GOOD = ("error", "loss")  # endings of the names of such metrics
_MOST_CHECKED = 20  # values of a field that are checked against the data before Ray starts


def main(_: list[str]) -> None:
    """Runs the sweep of the flags; exits with 1 if a trial has failed."""
    jax.config.update("jax_platforms", "cpu")  # The devices are for the trials.
    if _ADDRESS.value:
        _check_installed()
        _check_address(_ADDRESS.value)
    sys.exit(int(sweep(CONFIG.value.to_dict())))


def sweep(config: dict[str, Any]) -> bool:
    """Runs the trials of a config that are not settled; returns whether a trial has failed.

    Raises UserError for a mistake, and Interrupted after a signal, when trials have saved.
    """
    fields, is_search = _parsed(config), bool(_SEARCH.value)
    document = {"experiment": config["experiment"], "metric": _METRIC.value, "config": config}
    document |= {"search" if is_search else "grid": fields}
    path = Path(WORKDIR.value or default_path(document)).absolute()
    print(f"workdir {path}", flush=True)
    with on_signals(stop_at_once):
        config = dict(plugins.recorded(config))
        document["config"] = config
        check_same_config(path, document)  # Before the data, which may take minutes to load.
        tried = {f: _space.ends(*v) for f, v in fields.items()} if is_search else fields
        traced = _traced(config, tried, path)
        _check_installed()  # After all other checks, which do not need the extra.
        if not is_search:
            config = _space.with_grid(config, {f: fields[f] for f in fields if f in traced})
        settings = Settings(config, traced, path / "trials", _METRIC.value, os.getcwd())
        with Workdir(path, document) as files:
            _run(settings, fields)
            shown = dict.fromkeys([*fields, *(config["replicas"]["grid"] or {})])
            return _conclude(files, _ended(settings.folder), [*shown])


def _check_installed() -> None:
    for name in ("ray", "optuna"):
        if not importlib.util.find_spec(name):
            raise UserError(f"launch.sweep needs {name}: {install_hint('sweep')}")


def _check_address(address: str) -> None:
    """Raises UserError unless a Ray cluster answers; `ray.init` would hang, then exit."""
    server = host_and_port("--address", address, "HOST:PORT, as `ray start --head` prints it")
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    try:
        socket.create_connection(server, timeout=5).close()  # Ray would try for 40 seconds.
        subprocess.run(command, capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        # The first sentence of Ray's last line is its reason, as a missing token.
        printed = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        reason = (printed or str(error)).rpartition("\n")[2].partition(". ")[0]
        legal = "the address of a running Ray cluster"
        raise UserError(f"--address must be {legal}, got {address!r}: {reason}") from error


def _parsed(config: Mapping[str, Any]) -> dict[str, tuple]:
    """Returns the fields of --grid or of --search."""
    check(config)
    trackers.check(config["trackers"])
    replicas(config)
    grid, search = _GRID.value, _SEARCH.value
    if grid and not search:
        refuse_flags((_NUM_TRIALS, _MIN_EPOCHS), "with --grid")
        return _space.parse_grid(grid, config)
    if grid or not search:
        found = "both" if search else "neither"
        raise UserError(f"the sweep must have one of --grid and --search, got {found}")
    domains = _space.parse_search(search, config)
    most = _space.most_epochs(config, domains)
    if (_MIN_EPOCHS.value or 1) > most:
        raise ConfigError(f"--min_epochs must be 1 to {most}, got {_MIN_EPOCHS.value}")
    return domains


def _traced(config: dict[str, Any], tried: Mapping[str, tuple], path: Path) -> frozenset[str]:
    """Returns the fields that are traced; raises UserError for a mistake before Ray starts."""
    dataset, rows, _, _ = inputs.load(config, replicas(config), path)

    def parts(config: dict[str, Any]) -> tuple:
        runs = replicas(config)
        return runs[0], trained.source_fns(config, dataset), pretrained.starts(config, runs)

    def check_trial(config: dict[str, Any]) -> None:
        check_batch_size(config, dataset)
        check_settings(config, dataset, *parts(config))

    def measured(config: dict[str, Any]) -> set[str]:
        return check_parts(config, dataset, *parts(config), rows=rows).metrics

    _check_metric(_METRIC.value, measured(config))
    if not any(field.startswith("data.") for field in tried):  # Others take minutes to load.
        checked = {f: v[:_MOST_CHECKED] for f, v in tried.items() if f != "seed"}
        _space.check_values(config, checked, check_trial)
    return _space.traced_fields(config, tried, measured)


def _check_metric(metric: str, measured: set[str]) -> None:
    """Raises ConfigError for a metric that is not measured, or is no error or loss.

    The best trial of a sweep has the lowest metric.
    """
    legal = sorted(name for name in measured if name.endswith(_LOW_IS_GOOD))
    if metric in measured and metric not in legal:
        names = ", ".join(legal)
        raise ConfigError(f"--metric must be to minimize, one of {names}, got {metric!r}")
    if metric.startswith("valid_") and not any(name.startswith("valid_") for name in legal):
        without = " without data.num_valid"
        raise ConfigError(not_one_of("--metric", metric, legal, also=without))
    if metric not in legal:
        raise ConfigError(not_one_of("--metric", metric, legal))


class _Round(NamedTuple):
    """Trials that may run at the same time.

    domains: {field: domain} as of `--search`.
    points: where the first trials are.
    num_trials, min_epochs: as the flags; 0: none is stopped early.
    """

    settings: Settings
    domains: Mapping[str, tuple]
    points: list[dict[str, Any]]
    num_trials: int
    min_epochs: int = 0


def _run(settings: Settings, fields: Mapping[str, tuple]) -> None:
    """Runs the trials that are not settled; Ray starts only if there are any."""
    rounds = (_rounds_of_search if _SEARCH.value else _rounds_of_grid)(settings, fields)
    first = next(rounds, None)
    if first is None:
        return
    from launch import _tuning  # It needs the extra.

    joined = _tuning.cluster(_ADDRESS.value, cpus=_CPUS.value, gpus=_GPUS.value)
    with held_signals() as signals, joined as resources:
        for own, domains, points, num_trials, min_epochs in itertools.chain([first], rounds):
            # The same seed would draw the same points again.
            seed = own.config["seed"] + len(points)
            study = _tuning.create_study(points, seed=seed, min_epochs=min_epochs)
            _tuning.run_trials(own, study, domains, num_trials, resources, signals)
    if signals:
        stop_at_once(signals[0], None)


def _rounds_of_search(settings: Settings, fields: Mapping[str, tuple]) -> Iterator[_Round]:
    """Yields the trials of a search, after those of earlier commands; nothing if it has ended."""
    begun, num_trials = _trials.known(settings.folder), _NUM_TRIALS.value
    points = [_space.point_of(read_config(p), fields, traced=settings.traced) for p in begun]
    min_epochs = _MIN_EPOCHS.value or max(1, _space.most_epochs(settings.config, fields) // 9)
    if sum(map(_trials.is_settled, begun)) < num_trials:
        yield _Round(settings, fields, points, num_trials, min_epochs)


def _rounds_of_grid(settings: Settings, fields: Mapping[str, tuple]) -> Iterator[_Round]:
    """Yields the trials of a grid that are left, then the points of those that have diverged.

    One replica that diverges ends all of its trial.
    """
    own = {f: values for f, values in fields.items() if f not in settings.traced}
    points = _space.product(own)
    yield from _round_at(points, settings, own)
    if apart := [p for p in points if _trials.runs_apart(settings.path_of(p))]:
        counts = f"{len(apart)} of {len(points)} trials"
        print(f"{counts} have diverged; their points run apart", flush=True)
        grid = settings.config["replicas"]["grid"]
        points = [p | replica for p in apart for replica in _space.product(grid)]
        yield from _round_at(points, settings._replace(traced=frozenset(grid)), own | grid)


def _round_at(
    points: Iterable[dict[str, Any]], settings: Settings, grid: Mapping[str, tuple]
) -> Iterator[_Round]:
    """Yields the trials at points of a grid that are not settled, nor run apart."""
    ends = lambda path: _trials.is_settled(path) or _trials.runs_apart(path)
    left = [point for point in points if not ends(settings.path_of(point))]
    if left:
        choices = {field: ("choice", *values) for field, values in grid.items()}
        yield _Round(settings, choices, left, len(left))


def _ended(folder: Path) -> list[Path]:
    """Returns the trials to show: not those of a grid whose points have run apart."""
    known = _trials.known(folder)
    return known if _SEARCH.value else [p for p in known if not _trials.runs_apart(p)]


def _conclude(files: Workdir, paths: list[Path], fields: list[str]) -> bool:
    """Makes the table, the figure and result.json; returns whether a trial has failed."""
    metric = _METRIC.value
    test = _trials.test_measure(paths)
    rows = _trials.table_rows(paths, fields, metric, test)
    columns = list(dict.fromkeys([*fields, metric, test, "epoch", "status", "trial"]))
    cells = [
        [
            "-" if (v := row[c]) is None else f"{v:.5g}" if isinstance(v, float) else v
            for c in columns
        ]
        for row in rows
    ]
    title = f"{len(paths)} trials: {_trials.counts(paths)}; lowest {metric} first"
    print_table(title, columns, cells)
    failed = [path for path in paths if _trials.status(path) == _trials.FAILED]
    for path in failed:
        values, error = _trials.values_of(path, fields), _trials.failure(path)
        print(f"failed: {values}: {error} ({path / 'trial.log'})")
    files.write_result({"metric": metric, "points": rows})
    if any(row[metric] is not None for row in rows):
        with writing(files.figures):
            files.figures.mkdir(exist_ok=True)
            _picture.scatter(files.figures / "sweep.png", rows, fields, metric)
    print(f"results in {files.path}")
    return bool(failed)


if __name__ == "__main__":
    with without_traceback():
        app.run(main, flags_parser=parse_flags)

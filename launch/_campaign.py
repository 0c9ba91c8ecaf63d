"""Spends the time at hand on the trainings that results lack, for `launch.reproduce missing`.

On an accelerator the replicas of a training are one vmapped program, and the next program compiles
while one trains. On a CPU replicas run in sequence (`adv_jax.step.over_replicas`), and nothing
compiles ahead, as it would take the core that trains.
"""

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from adv_jax import train
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.host.signals import Interrupted
from adv_jax.runner.run.log import print_table
from adv_jax.runner.run.training import compile_ahead
from adv_jax.runner.store.formats import read_json, write_json
from adv_jax.runner.store.workdir import InUse, read_config
from adv_jax.runner.store.writing import check_writable, locked, writing
from adv_jax.types import UserError
from launch import _carry
from papers.judging.words import span
from papers.pages.generated import ROOT
from papers.pages.report import reproduce
from papers.running import epoch_times, power, stored
from papers.running.budget import BUDGETS, PAPER
from papers.running.missing import Lack, in_order, lacks, seconds_left, timed_in_workdirs
from papers.running.reproduction import check_data
from papers.running.target import Target
from papers.running.trainings import Training, newest_epoch, result_of, share_trained

STORED = ROOT / "papers"
_KEEP_EVERY = 60  # seconds between copies to --carry
_CUT_OFF = "cut_off.json"  # in the folder of the workdirs: seconds in which no epoch ended
_LOCK = "results.lock"  # there, too: calls on one folder write results one after another
_CARRY = "--carry"


class Folders(NamedTuple):
    """Where a campaign reads and writes.

    runs: folder of the workdirs.
    results: folder of the results, laid out as papers/.
    data: changed fields of the configs, {path: value}.
    carry: folder or archive for another machine; None for none.
    """

    runs: Path
    results: Path
    data: Mapping[str, str]
    carry: Path | None = None


class Campaign:
    """The missing trainings of targets, and what is known of their speed."""

    def __init__(self, targets: Sequence[Target], folders: Folders) -> None:
        """Reads the carried workdirs, the stored results and those in `folders.results`.

        Raises:
          UserError: a result or a carried file is damaged, a folder cannot be written, or the data
            are not all of a set.
        """
        check_data(folders.data, BUDGETS[PAPER])
        for folder in (folders.runs, folders.results):
            check_writable(folder)
        self._folders, self._device = folders, jax.devices()[0].device_kind
        if folders.carry:
            for name in _carry.unpack(folders.carry, folders.runs, folders.results):
                print(f"carried {name}")
        results = stored.read(STORED)
        if not self._writes_stored and folders.results.is_dir():
            own = stored.read(folders.results)
            results = results._replace(targets=results.targets | own.targets)
        self._lacking = lacks(targets, results, runs=folders.runs, data=folders.data)
        self._planned = {training.workdir.name for training in self.trainings}
        self._rate = power.rate_on(self._device, results)
        self._bounds = _read_bounds(folders.runs / _CUT_OFF)
        self._failed: dict[str, str] = {}  # a workdir, a target or --carry -> why
        self._busy: set[Path] = set()
        self._late: set[Path] = set()
        self._finished: set[Path] = set()
        self._written: set[Path] = set()
        self._lock = threading.Lock()

    @property
    def trainings(self) -> list[Training]:
        """The trainings that are missing, without duplicates."""
        found = [t for lack in self._lacking for t in lack.trainings.values()]
        return list({training.workdir: training for training in found}.values())

    def print_plan(self) -> None:
        """Prints a line for each target, in the order of the plan."""
        rows = []
        for lack in self._ordered():
            left = [t for t in lack.trainings.values() if not self._is_finished(t)]
            seconds = sum(map(self._seconds, left))
            seeds = sorted({t.config["replicas"]["seeds"] for t in left})
            epochs = sorted({t.config["epochs"] for t in left})
            runs = sum(t.num_replicas for t in left)
            shares = [share_trained(t) for t in left if t.workdir.name not in self._failed]
            trained = f"{sum(shares) / len(left):.0%}" if left else "all"
            guess = "" if all(map(self._is_timed, left)) else "~"
            minutes = "not timed" if math.isnan(seconds) else f"{guess}{seconds / 60:,.1f}"
            number = f"{len(left)} of {len(lack.target.runs)}"
            spans = [span(seeds) if seeds else "-", span(epochs) if epochs else "-"]
            rows.append([lack.target.name, number, runs, *spans, trained, minutes, lack.verdicts])
        if not rows:
            print("nothing is missing: all of these targets have full results")
            return
        columns = ["target", "missing", "replicas", "seeds", "epochs", "trained", "minutes"]
        title = f"missing in full, by verdicts per second on {self._device}"
        print_table(title, [*columns, "verdicts"], rows)

    def run(self, ends: float) -> list[str]:
        """Trains what is missing until `ends`, a reading of time.monotonic().

        Returns:
          A message for each training, result or copy that failed; the others went on.

        Raises:
          UserError: a folder cannot be written.
          Interrupted: SIGINT or SIGTERM stopped a training, which can be resumed.
        """
        for folder in (self._folders.runs, self._folders.results):
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
        with self._cut_off(ends):
            try:
                while training := self._next(ends):
                    self._train(training, ends)
            finally:
                self._keep()
        self._print_rest()
        return self._failures()

    @property
    def _writes_stored(self) -> bool:
        return self._folders.results.resolve() == STORED.resolve()

    def _is_finished(self, training: Training) -> bool:
        """Returns whether a training has ended; one whose workdir is damaged has failed."""
        workdir = training.workdir
        if workdir not in self._finished and workdir.name not in self._failed:
            try:
                if result_of(training) is not None:
                    self._finished.add(workdir)
            except UserError as error:
                self._fail(workdir.name, error)
        return workdir in self._finished

    def _fail(self, name: str, error: Exception) -> None:
        self._failed[name] = str(error)
        print(f"error: {name}: {error}", flush=True)

    def _failures(self) -> list[str]:
        return [f"{name}: {message}" for name, message in self._failed.items()]

    def _ordered(self) -> list[Lack]:
        own = timed_in_workdirs(self.trainings, self._device)
        self._rate = power.Rate({**self._rate.timed, **own}, {*self._rate.measured, *own})
        return in_order(self._lacking, self._seconds)

    def _seconds(self, training: Training) -> float:
        """Returns the seconds that the rest of a training takes; NaN if they are not known."""
        if self._is_finished(training):
            return 0.0
        if training.workdir.name in self._failed:
            return math.nan
        return seconds_left(training, self._rate.timed)

    def _epoch(self, training: Training) -> float:
        """Returns the seconds of an epoch of all replicas; NaN if they are not known."""
        each = epoch_times.estimate(training.config, self._rate.timed)
        return training.num_replicas * each

    def _is_timed(self, training: Training) -> bool:
        """Returns whether such an epoch has been timed on this kind of device."""
        return epoch_times.workload(training.config) in self._rate.measured

    def _candidates(self, ends: float) -> Iterator[Training]:
        """Yields what may be trained next, the best first, if an epoch fits the time.

        Trainings without any time come first, as the order depends on it; those that fit only if a
        guess is wrong come last.
        """
        ready = [(lack, t) for lack in self._ordered() for t in self._ready(lack)]
        unknown = [t for lack, t in ready if lack.verdicts and math.isnan(self._epoch(t))]
        left = ends - time.monotonic()
        for trusts_guesses in (True, False):
            for training in (*unknown, *(t for _, t in ready)):
                is_used = trusts_guesses or self._is_timed(training)
                epoch = self._epoch(training) if is_used else 0.0
                bound = self._bounds.get(training.workdir.name, 0.0)
                if bound < left and not epoch >= left:  # An unknown epoch, NaN, may fit.
                    yield training

    def _next(self, ends: float) -> Training | None:
        """Writes complete targets; returns what to train next, None if nothing fits the time."""
        self._write_complete()
        return next(self._candidates(ends), None)

    def _ready(self, lack: Lack) -> Iterator[Training]:
        """Yields the trainings of a target that may begin: their sources are finished."""
        needed = lack.trainings
        done = {key for key, training in needed.items() if self._is_finished(training)}
        if any(training.workdir.name in self._failed for training in needed.values()):
            return
        for key, training in needed.items():
            sources = {source.key for source in training.run.with_sources()[:-1]}
            is_out = key in done or training.workdir in self._busy | self._late
            if not is_out and sources & needed.keys() <= done:
                yield training

    def _train(self, training: Training, ends: float) -> None:
        """Trains; of a training of unknown speed only the first epoch, which is measured."""
        is_measured = not self._is_timed(training)
        print(f"training {training.command}", flush=True)
        self._began = training, time.monotonic(), newest_epoch(training.workdir)
        ahead = self._compiling(training, ends)
        try:
            train.run(training.config, training.workdir, ends=0.0 if is_measured else ends)
        except InUse:
            self._busy.add(training.workdir)
            return
        except UserError as error:
            self._fail(training.workdir.name, error)
        except Interrupted as stop:
            if stop.signum != signal.SIGALRM:
                raise
            print(stop, flush=True)
            if not is_measured:
                self._late.add(training.workdir)
        finally:
            if ahead:
                ahead.join()
            self._began = None
        self._busy.clear()  # The other call may have ended meanwhile.
        self._keep()

    def _compiling(self, current: Training, ends: float) -> threading.Thread | None:
        """Starts to compile the program after this one, on an accelerator."""
        if jax.default_backend() == "cpu":
            return None
        others = (t for t in self._candidates(ends) if t.workdir != current.workdir)
        if (following := next(others, None)) is None:
            return None
        args = following.config, following.workdir
        thread = threading.Thread(target=compile_ahead, args=args, daemon=True)
        thread.start()
        return thread

    def _write_complete(self) -> None:
        """Writes the result of each target whose last run has ended."""
        for lack in list(self._lacking):
            name, own = lack.target.name, self._folders
            if name in self._failed or not all(map(self._is_finished, lack.trainings.values())):
                continue
            where: dict[str, Any] = {"runs": own.runs, "results": own.results, "data": own.data}
            try:
                with locked(own.runs / _LOCK):
                    reproduce(lack.target, BUDGETS[PAPER], kept=lack.kept, **where)
            except UserError as error:
                self._fail(name, error)
            else:
                self._written.add(lack.target.file(own.results))
                self._lacking.remove(lack)

    def _keep(self) -> None:
        """Copies what another machine needs to --carry."""
        carry = self._folders.carry
        if carry is None:
            return
        try:
            with self._lock, _carry.locked_copy(carry):
                left = _carry.pack(carry, self._loads(carry))
        except (OSError, UserError) as error:  # A checkpoint may be replaced by the next one.
            self._fail(_CARRY, error)
            return
        self._failed.pop(_CARRY, None)
        for source in left:
            print(f"not carried, as {_carry.MAX_BYTES // 10**6} MB are full: {source}")

    def _loads(self, carry: Path) -> Iterator[_carry.Load]:
        """Yields the results, the runs that are missing, and what the copy has of other works."""
        runs, results = self._folders.runs, self._folders.results
        other_runs, carried = _carry.contents(carry)
        own = () if self._writes_stored else results.glob("*/results/*.json")
        for path in sorted({*own, *self._written, *(results / path for path in carried)}):
            if path.exists():
                yield _carry.of_result(path, results)
        for training in self.trainings:
            if (training.workdir / "config.json").exists():
                yield self._load(training.workdir, training.config, self._needs_weights(training))
        for workdir in (runs / name for name in sorted(other_runs - self._planned)):
            with contextlib.suppress(UserError):  # It is damaged, and may be another call's.
                yield self._load(workdir, read_config(workdir), True)

    def _load(self, workdir: Path, config: Mapping[str, Any], weights: bool) -> _carry.Load:
        epochs = newest_epoch(workdir) * len(replicas(config))
        each = epoch_times.estimate(config, self._rate.timed)
        seconds = epochs * (1.0 if math.isnan(each) else each)
        return _carry.of_run(workdir, seconds, weights=weights)

    def _needs_weights(self, training: Training) -> bool:
        """Returns whether a training is to be resumed, or its nets are to be read."""
        return not self._is_finished(training) or any(
            lack.target.is_drawn
            or any(training.run in run.with_sources()[:-1] for run in lack.target.runs)
            for lack in self._lacking
            if training.run.key in lack.trainings
        )

    @contextlib.contextmanager
    def _cut_off(self, ends: float) -> Iterator[None]:
        """Ends the process at `ends`, inside an epoch if need be: its last save is the state."""
        done = threading.Event()
        self._began: tuple[Training, float, int] | None = None

        def watch() -> None:
            while (left := ends - time.monotonic()) > 0 or not self._began:
                if done.wait(min(max(left, 1), _KEEP_EVERY)):
                    return
                if self._began:
                    self._keep()
            status = 1
            try:
                self._note_cut_off()
                self._keep()
                print("time is up inside an epoch; the same command goes on from the last save")
                for message in self._failures():
                    print(f"error: {message}", file=sys.stderr, flush=True)
                sys.stdout.flush()
                status = 1 if self._failed else 0
            finally:
                os._exit(status)  # XLA cannot be interrupted; files are written atomically.

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _note_cut_off(self) -> None:
        """Records that no epoch of the current training ended in the time that it had."""
        if self._began is None:
            return
        training, began, epochs = self._began
        workdir, file = training.workdir, self._folders.runs / _CUT_OFF
        has_ended = workdir in self._busy | self._late or workdir.name in self._failed
        if has_ended or newest_epoch(workdir) > epochs:
            return
        try:
            seconds = {workdir.name: round(time.monotonic() - began, 1)}
            write_json(file, _read_bounds(file) | seconds)
        except UserError as error:
            self._fail(workdir.name, error)

    def _print_rest(self) -> None:
        left = [t for t in self.trainings if not self._is_finished(t)]
        if left and self._busy >= {t.workdir for t in left}:
            runs = self._folders.runs
            print(f"--runs is in use: another call trains all that is missing in {runs}")
            return
        seconds = list(map(self._seconds, left))
        timed = [s for s in seconds if not math.isnan(s)]
        unknown = f", and {len(seconds) - len(timed)} not timed" if len(timed) < len(left) else ""
        print(
            f"left: {len(self._lacking)} targets, {len(left)} trainings, "
            f"{sum(timed) / 3600:,.1f} hours on {self._device}{unknown}"
        )


def _read_bounds(file: Path) -> dict[str, float]:
    """Returns the seconds by workdir that `Campaign` has noted; {} without the file.

    Raises:
      UserError: the file is damaged.
    """
    bounds = read_json(file) if file.exists() else {}
    is_meant = isinstance(bounds, dict) and all(
        isinstance(seconds, int | float) for seconds in bounds.values()
    )
    if not is_meant:
        raise UserError(f"{file} must be seconds by workdir, got {bounds!r}; delete it")
    return bounds

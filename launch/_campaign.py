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
from adv_jax.runner.store.workdir import InUse, json_bytes, read_json, replace, writing
from adv_jax.types import UserError
from launch import _carry
from papers.judging.statistics import span
from papers.pages.generated import ROOT
from papers.pages.report import reproduce
from papers.running import hours, stored
from papers.running.budget import BUDGETS, PAPER
from papers.running.missing import Lack, in_order, lacks, measured, seconds_left
from papers.running.reproduction import check_data
from papers.running.target import Target
from papers.running.trainings import Training, finished, saved_epochs, state

STORED = ROOT / "papers"
_KEEP_EVERY = 60  # seconds between copies to --carry
_CUT_OFF = "cut_off.json"  # in the folder of the workdirs: seconds in which no epoch ended


class Settings(NamedTuple):
    """Where a campaign reads and writes.

    Attributes:
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

    def __init__(self, targets: Sequence[Target], settings: Settings) -> None:
        """Reads the carried workdirs, the stored results and those in `settings.results`.

        Raises:
          UserError: a result or a carried file is damaged, a folder cannot be written, or the data
            are not all of a set.
        """
        check_data(settings.data, BUDGETS[PAPER])
        self._settings, self._device = settings, jax.devices()[0].device_kind
        if settings.carry:
            for name in _carry.unpack(settings.carry, settings.runs, settings.results):
                print(f"carried {name}")
        results = stored.read(STORED)
        if settings.results.is_dir() and settings.results.resolve() != STORED.resolve():
            own = stored.read(settings.results)
            results = results._replace(targets=results.targets | own.targets)
        self._lacking = lacks(targets, results, runs=settings.runs, data=settings.data)
        self._timed = hours.speeds_or_guesses(results, self._device)
        self._bounds: dict[str, float] = {}
        if (settings.runs / _CUT_OFF).exists():
            self._bounds = read_json(settings.runs / _CUT_OFF)
        self._failed: dict[Path, str] = {}
        self._busy: set[Path] = set()
        self._late: set[Path] = set()
        self._trained: set[Path] = set()
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
            left = [t for t in lack.trainings.values() if finished(t) is None]
            seconds = sum(map(self._seconds, left))
            seeds = sorted({len({r.seed for r in replicas(t.config)}) for t in left})
            epochs = sorted({t.config["epochs"] for t in left})
            runs = sum(len(replicas(t.config)) for t in left)
            trained = f"{sum(map(state, left)) / len(left):.0%}" if left else "all"
            minutes = "not timed" if math.isnan(seconds) else f"{seconds / 60:,.1f}"
            number = f"{len(left)} of {len(lack.target.runs)}"
            spans = [span(seeds) if seeds else "-", span(epochs) if epochs else "-"]
            rows.append([lack.target.name, number, runs, *spans, trained, minutes, lack.verdicts])
        columns = ["target", "missing", "replicas", "seeds", "epochs", "trained", "minutes"]
        title = f"missing in full, by verdicts per second on {self._device}"
        print_table(title, [*columns, "verdicts"], rows)

    def run(self, ends: float) -> list[str]:
        """Trains what is missing until `ends`, a reading of time.monotonic().

        Returns:
          A message for each training that failed; the others went on.

        Raises:
          UserError: a folder cannot be written.
          Interrupted: SIGINT or SIGTERM stopped a training, which can be resumed.
        """
        for folder in (self._settings.runs, self._settings.results):
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
        with self._cut_off(ends):
            try:
                while training := self._next(ends):
                    self._train(training, ends)
            finally:
                self._keep()
        self._print_rest()
        return [f"{path.name}: {message}" for path, message in self._failed.items()]

    def _ordered(self) -> list[Lack]:
        self._timed |= measured(self.trainings, self._device)
        return in_order(self._lacking, self._seconds)

    def _seconds(self, training: Training) -> float:
        return seconds_left(training, self._timed)

    def _epoch(self, training: Training) -> float:
        """Returns the seconds of an epoch of all replicas; NaN if they are not known."""
        return len(replicas(training.config)) * hours.speed(training.config, self._timed)

    def _next(self, ends: float) -> Training | None:
        """Writes complete targets; returns what to train next, None if nothing fits the time."""
        self._write_complete()
        for training in [t for lack in self._ordered() for t in self._ready(lack)]:
            left = ends - time.monotonic()
            bound = self._bounds.get(training.workdir.name, 0.0)
            if max(bound, 0.0 if math.isnan(own := self._epoch(training)) else own) < left:
                return training
            self._late.add(training.workdir)
        return None

    def _ready(self, lack: Lack) -> Iterator[Training]:
        """Yields the trainings of a target that may begin: their sources are finished."""
        if any(t.workdir in self._failed for t in lack.trainings.values()):
            return
        for training in lack.trainings.values():
            sources = [s.key for s in training.run.with_sources()[:-1]]
            waits = any(
                finished(lack.trainings[key]) is None for key in sources if key in lack.trainings
            )
            out = training.workdir in self._busy | self._late
            if not waits and not out and finished(training) is None:
                yield training

    def _train(self, training: Training, ends: float) -> None:
        """Trains; of a training of unknown speed only the first epoch, which is measured."""
        is_measured = math.isnan(self._epoch(training))
        print(f"training {training.command}", flush=True)
        self._began = training, time.monotonic(), saved_epochs(training.workdir)
        ahead = self._compiling(training)
        try:
            train.run(training.config, training.workdir, ends=0.0 if is_measured else ends)
            self._trained.add(training.workdir)
        except InUse:
            self._busy.add(training.workdir)
        except UserError as error:
            self._failed[training.workdir] = str(error)
            print(f"error: {error}", flush=True)
        except Interrupted as stop:
            if stop.signum != signal.SIGALRM:
                raise
            print(stop, flush=True)
            self._trained.add(training.workdir)
            if not is_measured:
                self._late.add(training.workdir)
        finally:
            if ahead:
                ahead.join()
            self._began = None
        self._keep()

    def _compiling(self, current: Training) -> threading.Thread | None:
        """Starts to compile the program after this one, on an accelerator."""
        if jax.default_backend() == "cpu":
            return None
        following = [
            training
            for lack in self._ordered()
            for training in self._ready(lack)
            if training.workdir != current.workdir
        ]
        if not following:
            return None
        args = following[0].config, following[0].workdir
        thread = threading.Thread(target=compile_ahead, args=args, daemon=True)
        thread.start()
        return thread

    def _write_complete(self) -> None:
        """Writes the result of each target whose last run has ended."""
        for lack in list(self._lacking):
            if any(finished(t) is None for t in lack.trainings.values()):
                continue
            self._lacking.remove(lack)
            own = self._settings
            where: dict[str, Any] = {"runs": own.runs, "results": own.results, "data": own.data}
            try:
                reproduce(lack.target, BUDGETS[PAPER], kept=lack.kept, **where)
            except UserError as error:
                self._failed[Path(lack.target.name)] = str(error)
                print(f"error: {lack.target.name}: {error}", flush=True)

    def _keep(self) -> None:
        """Copies what another machine needs to --carry."""
        if self._settings.carry is None:
            return
        try:
            with self._lock:
                results = _carry.target_files(self._settings.results, STORED)
                root = self._settings.results
                left = _carry.pack(self._settings.carry, self._loads(), results, root)
        except (OSError, UserError) as error:  # A checkpoint may be replaced by the next one.
            print(f"--carry stays as it was: {error}", flush=True)
            return
        for workdir in left:
            print(f"not carried, as {_carry.MAX_BYTES // 10**6} MB are full: {workdir}")

    def _loads(self) -> Iterator[_carry.Load]:
        for training in self.trainings:
            if not training.workdir.is_dir() or not (training.workdir / "config.json").exists():
                continue
            epochs = saved_epochs(training.workdir) * len(replicas(training.config))
            each = hours.speed(training.config, self._timed)
            needing = [lack for lack in self._lacking if training.run.key in lack.trainings]
            weights = finished(training) is None or any(
                lack.target.is_drawn
                or any(training.run in run.with_sources()[:-1] for run in lack.target.runs)
                for lack in needing
            )
            yield _carry.Load(
                training.workdir, weights, epochs * (1.0 if math.isnan(each) else each)
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
            self._note_cut_off()
            self._keep()
            print("time is up inside an epoch; the same command goes on from the last save")
            sys.stdout.flush()
            os._exit(0)  # XLA cannot be interrupted; files are written atomically.

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
        if saved_epochs(training.workdir) == epochs:
            bounds = self._bounds | {training.workdir.name: round(time.monotonic() - began, 1)}
            replace(self._settings.runs / _CUT_OFF, json_bytes(bounds))

    def _print_rest(self) -> None:
        left = [t for t in self.trainings if finished(t) is None]
        seconds = [s for s in map(self._seconds, left) if not math.isnan(s)]
        if left and self._busy >= {t.workdir for t in left} and not self._trained:
            runs = self._settings.runs
            print(f"--runs is in use: another call trains all that is missing in {runs}")
            return
        print(
            f"left: {len(self._lacking)} targets, {len(left)} trainings, "
            f"{sum(seconds) / 3600:,.1f} hours on {self._device}"
        )

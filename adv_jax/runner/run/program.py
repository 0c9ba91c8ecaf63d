"""Compiles the functions of an experiment for its replicas and devices."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from adv_jax.data import Dataset
from adv_jax.data.streams import buffers, chunks
from adv_jax.evaluate import Curves
from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.host.compiler_options import compiled, compiler_options
from adv_jax.runner.host.devices import layout
from adv_jax.runner.run.experiment import Experiment, Functions, RunState, initial
from adv_jax.step import over_devices, over_replicas

_NOTICE = 20  # seconds of compiling until it is said


def functions(
    experiment: Experiment, devices: Sequence[jax.Device], traced: Functions | None = None
) -> Functions:
    """Maps the functions of a replica over replicas and devices, by `over_devices`.

    Arguments get a leading axis of devices, and then one of replicas, except for the arrays of the
    data, which the replicas of a device share.

    traced: the functions of the replica, if they have been traced already: `Checked.functions`.
    """
    mapped = partial(over_replicas, platform=devices[0].platform)
    own = traced or Functions(
        experiment.init,
        partial(experiment.epoch, packed=is_packed(devices)),
        experiment.monitor,
        experiment.evaluate,
    )

    def with_data(fn: Callable) -> Callable:
        def on_device(runs: RunState, arrays: Any, rows: Any) -> Any:
            return mapped(lambda run, rows: fn(run, arrays, rows))(runs, rows)

        return on_device

    return Functions(
        init=over_devices(mapped(own.init), devices),
        epoch=over_devices(with_data(own.epoch), devices, donate=(0,)),
        monitor=over_devices(with_data(own.monitor), devices, donate=(0,)),
        evaluate=over_devices(with_data(own.evaluate), devices),
    )


def is_packed(devices: Sequence[jax.Device]) -> bool:
    """Returns whether an epoch packs small arrays of the parameters on these devices."""
    # On a CPU kernels cost little, and packing would change the last bits.
    return devices[0].platform != "cpu"


class Program:
    """Runs all replicas of an experiment in parallel.

    States stay on the devices, [devices, replicas, ...]. Metrics are NumPy arrays [R, ...].

    layout: the replicas on the devices; it places and fetches trees of them.
    held: the replicas on the devices of this process, for `layout.place`.
    saved: the replicas that each process saves, for `layout.fetch_saved`.
    """

    def __init__(
        self,
        experiment: Experiment,
        dataset: Dataset,
        rows: dict[str, np.ndarray],
        replicas: list[Replica],
        *,
        shards: int,
        starts: Mapping[str, Any] = MappingProxyType({}),
        traced: Functions | None = None,
    ) -> None:
        """Places the data on the devices.

        Args:
          rows: the output of `inputs.rows_of`.
          starts: the output of `pretrained.starts`.
          traced: as in `functions`.
        """
        self.steps_per_epoch = experiment.steps_per_epoch
        self.layout = layout(len(replicas), shards=shards)
        self.held = self.layout.held(len(replicas))
        self.saved = self.layout.saved(len(replicas))
        self._seeds = self.layout.place(self._of_held(initial(replicas, starts)))
        self._copies = self.layout.copies()
        self._data = self._copies(dataset.arrays()), self.layout.place(self._of_held(rows))
        self._streamed = dataset if dataset.stream else None
        # Three chunks: one is computed on, one waits, one is read. On a CPU the devices compute in
        # this memory itself.
        self._buffers = buffers(dataset, 3) if dataset.stream else []
        self._reader = ThreadPoolExecutor(1, "stream")
        self._functions = functions(experiment, self.layout.devices, traced)
        self._compiling: list[Future[Any]] = []

    def compile(self, *, wait: bool = False) -> None:
        """Starts to compile all functions; without it, each is compiled at its first call.

        XLA compiles a program mostly in one thread. Here each program has a thread, and training
        begins before the last one is ready. Does nothing in a run of several processes: there
        pmap itself must make global arrays of those of each process, when it is called.

        wait: whether to return only when all are compiled.
        """
        if jax.process_count() > 1:
            return
        # The order of need. Tracing holds Python's lock, so lower in this thread.
        threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="compile")
        options = partial(compiler_options, self.layout.devices[0].platform)
        init, state, _ = _started(threads, options(once=True), self._functions.init, *self._seeds)
        start = partial(_started, threads, options())
        # A chunk differs from the sample of a stream in size, and may in dtype.
        whole = ["monitor", "evaluate"] if self._streamed else ["epoch", "monitor", "evaluate"]
        others = {name: start(getattr(self._functions, name), state, *self._data) for name in whole}
        ready = {name: fn for name, (fn, _, _) in others.items()}
        self._functions = self._functions._replace(init=init, **ready)
        self._compiling = [future for name, (_, _, future) in others.items() if name != "evaluate"]
        threads.shutdown(wait=wait)

    def wait(self) -> None:
        """Waits until the functions of an epoch are compiled, if `compile` has started that."""
        if wait(self._compiling, timeout=_NOTICE).not_done:
            print("compiling the epoch, which is slow the first time", flush=True)
        for future in self._compiling:
            future.result()

    def init(self) -> RunState:
        """Initializes all replicas."""
        return self._functions.init(*self._seeds)

    def epoch(self, state: RunState, epoch: int) -> tuple[RunState, dict[str, np.ndarray]]:
        """Trains for one epoch -> (state, metrics f32[R, steps] each); donates `state`.

        epoch: its number, from 0; only the batches of a stream depend on it.

        Raises:
          UserError: the stream of the training set fails.
        """
        if self._streamed is None:
            state, metrics = self._functions.epoch(state, *self._data)
            return state, self.layout.fetch(metrics)
        found, running = [], None
        for chunk in self._ahead(self._streamed, epoch):
            state, metrics = self._functions.epoch(state, chunk, self._data[1])
            if running:
                # Waits, so that the next chunk but one may use the memory of the previous one.
                found.append(self.layout.fetch(running))
            running = metrics
        found.append(self.layout.fetch(running))
        return state, jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *found)

    def _ahead(self, dataset: Dataset, epoch: int) -> Iterator[Any]:
        """Yields the chunks of an epoch on the devices; a thread makes each one beforehand."""
        parts = ({"x": x, "y": y} for x, y in chunks(dataset, epoch, self._buffers))
        made = lambda: None if (part := next(parts, None)) is None else self._copies(part)
        following = self._reader.submit(made)
        while (chunk := following.result()) is not None:
            following = self._reader.submit(made)
            yield chunk

    def monitor(self, state: RunState) -> tuple[RunState, dict[str, np.ndarray]]:
        """Runs `Experiment.monitor` -> (state, metrics f32[R] each); donates `state`."""
        state, metrics = self._functions.monitor(state, *self._data)
        return state, self.layout.fetch(metrics)

    def evaluate(self, state: RunState) -> Curves:
        """Runs `Experiment.evaluate` for each replica: f32[R] and f32[R, E]."""
        return self.layout.fetch(self._functions.evaluate(state, *self._data))

    def _of_held(self, tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[self.held.start : self.held.stop], tree)


def _started(
    threads: Executor, options: Mapping[str, Any], fn: Any, *args: Any
) -> tuple[Callable[..., Any], Any, Future[Any]]:
    """Starts to compile fn -> (fn, shapes and dtypes of its result, its program).

    The fn returned waits for its program.

    options: of XLA.
    args: trees of arrays, or of their shapes and dtypes.
    """
    lowered = fn.lower(*args)
    program = threads.submit(compiled, lowered, options)
    return lambda *args: program.result()(*args), lowered.out_info, program

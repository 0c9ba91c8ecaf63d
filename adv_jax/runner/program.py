"""An experiment compiled for the devices at hand, with its data resident on them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from adv_jax.data import Dataset
from adv_jax.evaluate import Curves
from adv_jax.runner.config import Replica
from adv_jax.runner.devices import layout
from adv_jax.runner.experiment import Experiment, RunState, initial
from adv_jax.step import over_devices, over_replicas


class Program:
    """All replicas of an experiment at once; states stay on the devices, [devices, replicas, ...].

    Metrics come back as NumPy arrays with one leading axis of replicas.
    """

    def __init__(
        self,
        experiment: Experiment,
        dataset: Dataset,
        rows: dict[str, np.ndarray],
        replicas: list[Replica],
        *,
        shards: int,
    ) -> None:
        """rows: of each replica, as `experiment.rows_of` gives them."""
        self.steps_per_epoch = experiment.steps_per_epoch
        self._replicas = replicas
        self._layout = layout(len(replicas), shards=shards)
        self._arrays = self._layout.copies(dataset.arrays())
        self._rows = self._layout.place(rows)
        devices = self._layout.devices
        self.num_devices = len(devices)
        self._init = over_devices(over_replicas(experiment.init), devices)
        self._epoch = over_devices(_with_data(experiment.epoch), devices, donate=(0,))
        self._monitor = over_devices(_with_data(experiment.monitor), devices, donate=(0,))
        self._evaluate = over_devices(_with_data(experiment.evaluate), devices)

    def init(self) -> RunState:
        """The replicas before their first step."""
        return self._init(*self._layout.place(initial(self._replicas)))

    def epoch(self, state: RunState) -> tuple[RunState, dict[str, np.ndarray]]:
        """One epoch of training -> (state, metrics f32[R, steps] each); `state` is used up."""
        state, metrics = self._epoch(state, self._arrays, self._rows)
        return state, self.fetch(metrics)

    def monitor(self, state: RunState) -> tuple[RunState, dict[str, np.ndarray]]:
        """Errors after an epoch -> (state, metrics f32[R]); `state` is used up."""
        state, metrics = self._monitor(state, self._arrays, self._rows)
        return state, self.fetch(metrics)

    def evaluate(self, state: RunState) -> Curves:
        """`Experiment.evaluate` of each replica: f32[R] and f32[R, E]."""
        return self.fetch(self._evaluate(state, self._arrays, self._rows))

    def fetch(self, tree: Any) -> Any:
        """What is on the devices as NumPy arrays [R, ...], copied."""
        return self._layout.fetch(tree)

    def place(self, tree: Any) -> Any:
        """The inverse of `fetch`."""
        return self._layout.place(tree)


def _with_data(fn: Callable) -> Callable:
    """fn(run, arrays, rows) of one replica -> the same of a device's runs and their rows."""

    def on_device(runs: RunState, arrays: Any, rows: Any) -> Any:
        return over_replicas(lambda run, rows: fn(run, arrays, rows))(runs, rows)

    return on_device

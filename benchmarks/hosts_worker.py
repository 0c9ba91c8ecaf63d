"""Worker that trains epochs of a config on all devices, as replicas or as shards of one batch.

XLA_FLAGS fixes the number of devices when the process starts.
"""

from typing import Any

import jax

from adv_jax import data
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.host.devices import layout
from adv_jax.runner.run.experiment import Experiment, initial
from adv_jax.runner.run.inputs import rows_of
from adv_jax.runner.run.program import functions
from benchmarks.timing import seconds_of, serve
from configs import shallow_mnist
from launch.compiling.collectives import collectives

BATCH = 160  # a multiple of 16


def config(pattern: str, devices: int) -> dict[str, Any]:
    """Returns the config with one replica, or one shard of a batch, for each device.

    pattern: "seeds" or "shards".
    """
    found = shallow_mnist.get_config("quick,model=A")
    found.batch_size = BATCH
    found.evaluation.attacks = {}
    found.replicas[pattern] = devices
    return found.to_dict()


class Training:
    """The compiled epoch of a config, and the state that it trains.

    collectives: {kind: operations in the program}; those of a step, as an epoch is a loop of
      steps, whose body counts once.
    communicated: bytes of their results.
    steps: of an epoch, over all replicas.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        runs, shards = replicas(config), config["replicas"]["shards"]
        dataset = data.load("mnist", source="embedded")
        rows = rows_of(config, dataset, runs)
        experiment, place = Experiment(config, dataset), layout(len(runs), shards=shards)
        compiled = functions(experiment, place.devices)
        self._state = compiled.init(*place.place(initial(runs)))
        self._data = place.copies()(dataset.arrays()), place.place(rows)
        self._epoch = compiled.epoch.lower(self._state, *self._data).compile()
        self.collectives, self.communicated = collectives(self._epoch.as_text())
        self.steps = experiment.steps_per_epoch * len(runs)

    def train(self) -> None:
        """Trains one epoch."""
        self._state, metrics = self._epoch(self._state, *self._data)
        jax.block_until_ready((self._state, metrics))


class Side:
    """Keeps compiled programs between blocks."""

    def __init__(self) -> None:
        self._trainings: dict[str, Training] = {}

    def prepare(self, pattern: str) -> dict[str, Any]:
        """Compiles the epoch of a pattern and describes it."""
        training = Training(config(pattern, jax.local_device_count()))
        self._trainings[pattern] = training
        return {
            "steps": training.steps,
            "collectives": training.collectives,
            "communicated": training.communicated,
        }

    def run(self, pattern: str) -> float:
        """Returns the seconds of one epoch."""
        return seconds_of(self._trainings[pattern].train)


if __name__ == "__main__":
    serve(Side())

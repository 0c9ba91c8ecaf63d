"""Worker that trains several replicas of a task.

XLA_FLAGS fixes the number of devices when the process starts.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from adv_jax.runner.host.devices import Layout
from adv_jax.step import over_devices, over_replicas
from benchmarks.tasks import TASKS
from benchmarks.timing import seconds_of, serve
from benchmarks.trainer import Trainer, scanned

Block = Callable[[Any, jax.Array], tuple[Any, Any]]  # (states, rows) -> (states, metrics)


def _one(trainer: Trainer) -> Block:
    block = jax.jit(scanned(trainer.step), donate_argnums=0)
    return lambda states, rows: block(states, rows, trainer.arrays)


def _vmapped(trainer: Trainer) -> Block:
    block = jax.jit(jax.vmap(scanned(trainer.step), in_axes=(0, 0, None)), donate_argnums=0)
    return lambda states, rows: block(states, rows, trainer.arrays)


def _mapped(trainer: Trainer) -> Block:
    block = jax.jit(_in_turn(trainer), donate_argnums=0)
    return lambda states, rows: block(states, rows, trainer.arrays)


def _on_devices(trainer: Trainer) -> Block:
    """Trains as adv_jax does: an equal share of the replicas on each device, in turn."""
    devices = jax.local_devices()
    arrays = Layout(devices, shards=1).copies()(trainer.arrays)
    block = over_devices(_in_turn(trainer), devices, donate=(0,))
    return lambda states, rows: block(states, rows, arrays)


def _in_turn(trainer: Trainer) -> Callable[..., tuple[Any, Any]]:
    """Trains with `over_replicas`, which is lax.map on a CPU."""
    step = scanned(trainer.step)

    def block(states, rows, arrays):
        return over_replicas(lambda state, rows: step(state, rows, arrays))(states, rows)

    return block


WAYS = {"one": _one, "vmap": _vmapped, "map": _mapped, "devices": _on_devices}


def _training(name: str, way: str, replicas: int) -> Iterator[None]:
    """Trains forever; yields after each block of the task's steps."""
    trainer = Trainer(TASKS[name])
    if way == "one":
        states, rows = jax.jit(trainer.init)(0), jnp.asarray(trainer.rows(seed=0))
    else:
        states = jax.jit(jax.vmap(trainer.init))(jnp.arange(replicas))
        rows = jnp.stack([trainer.rows(seed=seed) for seed in range(replicas)])
    if way == "devices":
        states, rows = Layout(jax.local_devices(), shards=1).spread((states, rows))
    block = WAYS[way](trainer)
    while True:
        states, metrics = block(states, rows)
        jax.block_until_ready((states, metrics))
        yield


class Side:
    """Keeps compiled programs between blocks."""

    def __init__(self) -> None:
        self._running: dict[str, Iterator[None]] = {}

    def describe(self, way: str, replicas: int) -> dict[str, Any]:
        self._way, self._replicas = way, replicas
        return {"threads": len(os.sched_getaffinity(0)), "devices": jax.local_device_count()}

    def run(self, name: str) -> float:
        """Returns the seconds of one block."""
        training = _training(name, self._way, self._replicas)
        blocks = self._running.setdefault(name, training)
        return seconds_of(lambda: next(blocks))


if __name__ == "__main__":
    serve(Side())

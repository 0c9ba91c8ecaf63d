"""Worker that compares the first device's numbers with the CPU's, and times ten seeds at once."""

import functools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import attacks, data, models
from adv_jax.types import Array, LogitsFn
from benchmarks.attacks_worker import trained_variables
from benchmarks.tasks import TASKS
from benchmarks.timing import seconds_of, serve
from benchmarks.trainer import Trainer, scanned

BOUNDS = (0.0, 1.0)
EPS = 0.1
ATTACKS: Mapping[str, Callable[..., Array]] = {
    "fgsm": partial(attacks.fgsm, eps=EPS, bounds=BOUNDS),
    "pgd linf": partial(attacks.pgd, eps=EPS, step_size=0.01, num_steps=40, bounds=BOUNDS),
    "pgd l2": partial(attacks.pgd, eps=1.5, step_size=0.1, num_steps=40, norm="l2", bounds=BOUNDS),
    "apgd": partial(attacks.apgd, eps=EPS, num_steps=50, bounds=BOUNDS, key=jax.random.key(0)),
    "deepfool": partial(attacks.deepfool, num_steps=10, bounds=BOUNDS),
    "fmn": partial(attacks.fmn, norm="l2", num_steps=50, bounds=BOUNDS),
    "fab": partial(attacks.fab, eps=EPS, num_steps=20, bounds=BOUNDS, key=jax.random.key(0)),
    "square": partial(
        attacks.square, eps=EPS, num_queries=200, bounds=BOUNDS, key=jax.random.key(0)
    ),
}
STEPS = 3  # of a training that is compared
SEEDS = 10


def describe() -> dict[str, Any]:
    device = jax.devices()[0]
    return {"device": device.device_kind, "platform": device.platform}


def attacked(name: str, digits: int) -> dict[str, float]:
    """Returns the accuracies under an attack on the device and on the CPU, by the CPU's net."""
    x, y = _digits(digits)
    cpu = _logits_fn("cpu")

    def accuracy(platform: str) -> float:
        logits_fn = _logits_fn(platform)
        x_adv = jax.jit(lambda x, y: ATTACKS[name](logits_fn, x, y))(*_on(platform, (x, y)))
        return float(np.mean(np.argmax(cpu(np.asarray(x_adv)), axis=1) == y))

    return {"device": accuracy(jax.default_backend()), "cpu": accuracy("cpu")}


def trained(name: str) -> dict[str, list[float]]:
    """Returns the losses of a task's first steps on the device and on the CPU."""

    def losses(platform: str) -> list[float]:
        with jax.default_device(jax.devices(platform)[0]):
            trainer = Trainer(TASKS[name])
            rows = jnp.asarray(trainer.rows(seed=0)[:STEPS])
            block = jax.jit(scanned(trainer.step))
            _, metrics = block(jax.jit(trainer.init)(0), rows, trainer.arrays)
            return np.asarray(metrics["loss"], float).tolist()

    return {"device": losses(jax.default_backend()), "cpu": losses("cpu")}


def replicas(name: str, seeds: int) -> float:
    """Returns the largest difference of vmapped replicas' losses from single runs', relative."""
    trainer = Trainer(TASKS[name])
    rows = jnp.asarray(trainer.rows(seed=0)[:STEPS])

    def losses(seed: Array) -> Array:
        return scanned(trainer.step)(trainer.init(seed), rows, trainer.arrays)[1]["loss"]

    together = np.asarray(jax.jit(jax.vmap(losses))(jnp.arange(seeds)))
    alone = np.stack([np.asarray(jax.jit(losses)(seed)) for seed in range(seeds)])
    return float(np.max(abs(together - alone) / abs(alone)))


class Seeds:
    """Trains seeds of one task, vmapped or one after another."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, bool], Callable[[], Any]] = {}

    def run(self, name: str, vmapped: bool) -> float:
        """Returns the seconds in which all seeds take the task's steps."""
        key = name, vmapped
        if key not in self._blocks:
            self._blocks[key] = _together(name) if vmapped else _one_by_one(name)
            self._blocks[key]()  # compiles
        return seconds_of(self._blocks[key])


def _together(name: str) -> Callable[[], Any]:
    trainer, rows = _problem(name)
    states = jax.jit(jax.vmap(trainer.init))(jnp.arange(SEEDS))
    block = jax.jit(jax.vmap(scanned(trainer.step), in_axes=(0, None, None)))
    return lambda: jax.block_until_ready(block(states, rows, trainer.arrays))


def _one_by_one(name: str) -> Callable[[], Any]:
    trainer, rows = _problem(name)
    states = [jax.jit(trainer.init)(seed) for seed in range(SEEDS)]
    block = jax.jit(scanned(trainer.step))
    return lambda: [jax.block_until_ready(block(s, rows, trainer.arrays)) for s in states]


def _problem(name: str) -> tuple[Trainer, Array]:
    trainer = Trainer(TASKS[name])
    return trainer, jnp.asarray(trainer.rows(seed=0))


def _digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    test = data.load("mnist", source="embedded").test
    return test.x[:count], test.y[:count]


def _logits_fn(platform: str) -> LogitsFn:
    variables = _on(platform, _variables())
    return lambda x: models.apply_fn(models.lenet())(variables, x).logits


@functools.cache
def _variables() -> Any:
    """Returns the variables of a LeNet that was trained on the CPU."""
    with jax.default_device(jax.devices("cpu")[0]):
        return trained_variables("lenet", *data.load("mnist", source="embedded").train)


def _on(platform: str, tree: Any) -> Any:
    return jax.device_put(tree, jax.devices(platform)[0])


if __name__ == "__main__":
    serve(
        {
            "describe": describe,
            "attacked": attacked,
            "trained": trained,
            "replicas": replicas,
            "seeds": Seeds().run,
        }
    )

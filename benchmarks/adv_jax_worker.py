"""Worker that trains with adv_jax's objectives, steps and scan, with the data on the device."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from adv_jax.types import Array
from benchmarks.tasks import DROPOUT, INPUTS, LATENT, PEAK_SIZE, PEAK_STEPS, TASKS, Task
from benchmarks.timing import seconds_of, serve
from benchmarks.trainer import PARTS, WHOLE, Trainer, scanned, without_drawing


def describe() -> dict[str, Any]:
    # XLA:CPU always uses one thread per CPU of its process.
    return {"threads": len(os.sched_getaffinity(0)), "devices": [str(d) for d in jax.devices()]}


def export(names: list[str], exchange: str) -> None:
    """Writes the shared data, parameters and noise of the first step of each task."""
    folder = Path(exchange)
    np.savez(folder / "data.npz", **Trainer(TASKS["ladder"]).arrays)  # All tasks share it.
    for name in names:
        trainer = Trainer(TASKS[name])
        np.savez(folder / f"{name}_params.npz", **_flat(jax.jit(trainer.init)(0).params))
        np.savez(folder / f"{name}_noise.npz", **_noise(trainer))


def _noise(trainer: Trainer) -> dict[str, np.ndarray]:
    """Returns the random numbers of a step in the order of the draws: f32[2, B, *S] of a ladder."""
    rng = np.random.default_rng(1)
    if trainer.task.objective == "gan":
        return _noise_of_players(trainer.task, rng)
    if not trainer.task.is_ladder:
        return {}
    return {
        str(layer): rng.standard_normal(shape, np.float32)
        for layer, shape in enumerate(trainer.noise_shapes())
    }


def _noise_of_players(task: Task, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns z and what dropout keeps of each layer of real, generated and judged images.

    The discriminator sees the generated images twice, with the same dropout.
    """
    rows, widths = task.batch_size, (INPUTS, *task.features[::-1])
    kept = {
        f"{images}{layer}": rng.random((rows, width)) >= rate
        for images in ("real", "generated")
        for layer, (width, rate) in enumerate(zip(widths, DROPOUT, strict=True))
    }
    judged = {f"judged{layer}": kept[f"generated{layer}"] for layer in range(len(widths))}
    return {"z": rng.uniform(-1, 1, (rows, LATENT)), **kept, **judged}


def check(name: str, exchange: str) -> float:
    """Returns the loss of the first batch in float64 with shared noise; writes its gradients."""
    folder, trainer = Path(exchange), Trainer(TASKS[name])
    state, rows = jax.jit(trainer.init)(0), trainer.rows(seed=0)[0]
    with jax.enable_x64(True):
        params, x = jax.tree.map(jnp.float64, (state.params, trainer.arrays["x"]))
        with np.load(folder / f"{name}_noise.npz") as noise:
            drawn = iter([jnp.float64(noise[key]) for key in noise])
        with without_drawing(lambda shape: next(drawn).reshape(shape)):
            gradient = jax.jit(jax.value_and_grad(trainer.loss))
            loss, gradients = gradient(params, state, rows, {**trainer.arrays, "x": x})
    np.savez(folder / f"{name}_adv_jax.npz", **_flat(gradients))
    return float(loss)


def _flat(params: Any) -> dict[str, np.ndarray]:
    return {key: np.asarray(leaf) for key, leaf in flatten_dict(params, sep="/").items()}


def _training(name: str, part: str) -> Iterator[None]:
    """Trains forever; yields after each block of the task's steps."""
    trainer = Trainer(TASKS[name])
    step, carry = PARTS[part](trainer)
    # Copy, as parts may share arrays, and donated arrays must not be shared.
    carry = jax.tree.map(jnp.copy, carry)
    rows = jnp.asarray(trainer.rows(seed=0))
    block = jax.jit(scanned(step), donate_argnums=0)
    while True:
        carry, output = block(carry, rows, trainer.arrays)
        jax.block_until_ready((carry, output))
        yield


def _peak() -> Iterator[None]:
    a, b = jax.random.normal(jax.random.key(0), (2, PEAK_SIZE, PEAK_SIZE))
    product: Callable[[Array, Array], Array] = jax.jit(jnp.matmul)
    while True:
        for _ in range(PEAK_STEPS):
            product(a, b).block_until_ready()
        yield


@functools.cache
def _blocks(name: str, part: str) -> Iterator[None]:
    """Keeps compiled programs between blocks."""
    return _peak() if name == "peak" else _training(name, part)


def run(name: str, part: str = WHOLE) -> float:
    """Returns the seconds of one block."""
    blocks = _blocks(name, part)
    return seconds_of(lambda: next(blocks))


if __name__ == "__main__":
    parts = lambda: list(PARTS)
    serve(SimpleNamespace(describe=describe, export=export, check=check, parts=parts, run=run))

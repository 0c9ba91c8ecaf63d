"""Worker that trains with PyTorch in eager mode, with the losses of `benchmarks.torch_objectives`.

The fastest form of the optimizer is chosen by timing.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.tasks import (
    CIFAR,
    CLASSES,
    DROPOUT,
    PEAK_SIZE,
    PEAK_STEPS,
    SIDE,
    TASKS,
    Task,
    batch_rows,
    cifar_shaped,
)
from benchmarks.timing import seconds_of, serve
from benchmarks.torch_objectives import OBJECTIVES, Params, drawn_by_players

OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
FORMS = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
TRIALS = 3  # blocks per form; the best counts, the first is the warm-up


class Side:
    """The handlers of this worker; adv_jax's worker writes to the exchange folder."""

    def __init__(self) -> None:
        self._running: dict[str, Iterator[None]] = {}

    def describe(self, threads: int, exchange: str) -> dict[str, Any]:
        configure(threads)
        self._exchange = Path(exchange)
        with np.load(self._exchange / "data.npz") as data:
            digits = data["x"].reshape(-1, SIDE, SIDE, 1)
            self._y = torch.from_numpy(data["y"]).long()
        images = {digits.shape[1:]: digits, CIFAR: cifar_shaped(digits)}
        self._x = {shape: torch.from_numpy(x).flatten(1) for shape, x in images.items()}
        self._targets = F.one_hot(self._y, CLASSES).float()
        return {"threads": torch.get_num_threads(), "torch": torch.__version__}

    def check(self, name: str) -> dict[str, float]:
        """Returns {variant: loss of the first batch in float64 with shared noise}.

        Writes each variant's gradients.
        """
        return {way.__name__: self._check(name, way) for way in OBJECTIVES[TASKS[name].objective]}

    def _check(self, name: str, way: Callable[..., Tensor]) -> float:
        task, params = TASKS[name], self._params(name, torch.float64)
        rows = torch.from_numpy(batch_rows(task, len(self._y), seed=0)[0])
        with np.load(self._exchange / f"{name}_noise.npz") as noise:
            layers = [torch.from_numpy(noise[key]).double() for key in noise]
        drawn = iter(_in_order(task, layers))
        loss = way(task, params, self._batch(task, rows, torch.float64), lambda *_: next(drawn))
        loss.backward(inputs=list(params.values()))
        gradients = {key: param.grad.cpu().numpy() for key, param in params.items()}
        np.savez(self._exchange / f"{name}_{way.__name__}.npz", **gradients)
        return loss.item()

    def choose(self, name: str) -> dict[str, float]:
        """Returns the seconds of a block per variant and form; keeps the fastest."""
        trainings = {
            f"{way.__name__}, {form}": self._training(name, way, form)
            for way in OBJECTIVES[TASKS[name].objective]
            for form in FORMS
        }
        seconds = {
            choice: min(seconds_of(lambda blocks=blocks: next(blocks)) for _ in range(TRIALS))
            for choice, blocks in trainings.items()
        }
        self._running[name] = trainings[min(seconds, key=seconds.get)]
        return seconds

    def run(self, name: str) -> float:
        """Returns the seconds of one block; tasks need `choose` first."""
        if name == "peak":
            self._running.setdefault(name, _peak())
        return seconds_of(lambda: next(self._running[name]))

    def _training(self, name: str, way: Callable[..., Tensor], form: str) -> Iterator[None]:
        """Trains forever; yields after each block of the task's steps."""
        task, params = TASKS[name], self._params(name)
        settings = {key: value for key, value in task.optimizer.items() if key != "name"}
        settings["lr"] = settings.pop("learning_rate")
        if "b1" in settings:
            settings["betas"] = (settings.pop("b1"), 0.999)
        leaves = list(params.values())
        optimizer = OPTIMIZERS[task.optimizer["name"]](leaves, **settings, **FORMS[form])
        order = torch.from_numpy(batch_rows(task, len(self._y), seed=0))
        draw = drawn_by_players if task.objective == "gan" else torch.randn
        while True:
            for rows in order:
                optimizer.zero_grad(set_to_none=True)
                loss = way(task, params, self._batch(task, rows), draw)
                # Without `inputs` the mix would also compute the gradient by x.
                loss.backward(inputs=leaves)
                optimizer.step()
            yield

    def _batch(
        self, task: Task, rows: Tensor, dtype: torch.dtype = torch.float32
    ) -> dict[str, Tensor]:
        labeled, unlabeled = rows
        images = self._x[task.image]
        if "backprop" in task.objective:  # One-hot targets are computed once.
            return {"x": images[labeled].to(dtype), "targets": self._targets[labeled].to(dtype)}
        batch = {"x": images[labeled].to(dtype), "y": self._y[labeled]}
        if task.is_ladder:
            batch["unlabeled"] = images[unlabeled].to(dtype)
        return batch

    def _params(self, name: str, dtype: torch.dtype = torch.float32) -> Params:
        with np.load(self._exchange / f"{name}_params.npz") as params:
            arrays = {key: torch.from_numpy(params[key]) for key in params}
        return {key: array.to(dtype).requires_grad_() for key, array in arrays.items()}


def _in_order(task: Task, noise: list[Tensor]) -> list[Tensor]:
    """Reorders the noise of adv_jax's draws to the order of the objective's."""
    if task.objective == "gan":
        z, *kept = noise
        count = len(DROPOUT)
        return [z, *map(torch.cat, zip(kept[:count], kept[count : 2 * count], strict=True))]
    if task.objective == "gamma":
        return [layer[half] for half in (0, 1) for layer in noise]
    return [layer.transpose(0, 1) for layer in noise]


def _peak() -> Iterator[None]:
    a, b = torch.randn(2, PEAK_SIZE, PEAK_SIZE)
    while True:
        for _ in range(PEAK_STEPS):
            a @ b
        yield


def configure(threads: int) -> None:
    """Sets the threads, float32 convolutions and their fastest algorithms, as XLA has them."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # PyTorch's default for convolutions is TF32.
    torch.backends.cudnn.benchmark = True


if __name__ == "__main__":
    serve(Side())

"""Worker that runs the works of `benchmarks.accelerator` with PyTorch, in several forms.

The nets are PyTorch's own layers with adv_jax's parameters. A form that cannot be prepared is
reported by its error, so that the others are timed.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import attacks_torch_worker, torch_objectives, torch_worker
from benchmarks.tasks import TASKS, batch_rows
from benchmarks.timing import seconds_of, serve
from benchmarks.torch_resnet import preact_resnet

WARM_UP = 3  # calls before a capture, which must not allocate or choose algorithms

Work = Mapping[str, Any]  # the fields of `benchmarks.accelerator.Work`
Net = Callable[[Tensor], Tensor]
Step = Callable[[], Tensor]  # -> the loss, or whether each row is classified correctly


class Form(NamedTuple):
    """A work that is ready to be timed.

    step: one step or attack, whose inputs stay where they are.
    facts: of the net.
    prepare: what precedes each step, by its index; it is not captured.
    rewind: puts a training back to its start.
    """

    step: Step
    facts: dict[str, Any]
    prepare: Callable[[int], None] = lambda index: None
    rewind: Callable[[], None] = lambda: None


class InPrecision(nn.Module):
    """A net that computes in bfloat16 where PyTorch's mixed precision does; logits are float32."""

    def __init__(self, net: nn.Module, device: str) -> None:
        super().__init__()
        self.net, self.device = net, device

    def forward(self, x: Tensor) -> Tensor:
        # Each weight is used once in a pass, so that a cache of casts would only disturb captures.
        with torch.autocast(self.device, torch.bfloat16, cache_enabled=False):
            return self.net(x).float()


class Side:
    """The handlers of this worker; adv_jax's worker writes to the exchange folder."""

    def __init__(self) -> None:
        self._blocks: dict[str, Callable[[], None]] = {}

    def describe(self, threads: int, device: str) -> dict[str, Any]:
        torch_worker.configure(threads)
        self._device = device
        return {"threads": torch.get_num_threads(), "device": device}

    def _synchronize(self) -> None:
        """Waits for a device that computes in the background."""
        if self._device == "cuda":
            torch.cuda.synchronize()

    def prepare(self, work: Work, form: str, exchange: str) -> dict[str, Any]:
        """Builds a form of a work and calls it -> its facts, or {"failed": error}."""
        try:
            with precision(work):
                return self._prepare(work, form, Path(exchange))
        except Exception as error:  # A peer's error must not end the others.
            return {"failed": f"{type(error).__name__}: {error}".strip().splitlines()[0]}

    def run(self, work: Work, form: str) -> float:
        """Returns the seconds of one block."""
        with precision(work):
            return seconds_of(self._blocks[_name(work, form)])

    def _prepare(self, work: Work, form: str, exchange: Path) -> dict[str, Any]:
        kinds = {"task": self._task, "training": self._training}
        build = kinds.get(work["kind"], self._attack)
        start = time.perf_counter()
        made = build(work, form, exchange)
        built = time.perf_counter()
        run = _captured(made) if form.endswith("graph") else made.step
        captured, output = time.perf_counter(), torch.empty(())

        def block() -> None:
            nonlocal output
            for index in range(work["steps"]):
                made.prepare(index)
                output = run()
            self._synchronize()

        self._blocks[_name(work, form)] = block
        seconds = {"build_seconds": built - start, "compile_seconds": captured - built}
        seconds |= {"first_seconds": seconds_of(block)}
        measured = "loss" if work["kind"] in ("task", "training") else "accuracy"
        return made.facts | seconds | {measured: output.float().mean().item()}

    def _task(self, work: Work, form: str, exchange: Path) -> Form:
        """Returns steps of a training task."""
        task, device = TASKS[work["task"]]._replace(steps=work["steps"]), self._device
        with np.load(exchange / "data.npz") as data:
            x = torch.from_numpy(data["x"]).flatten(1).to(device)
            y = torch.from_numpy(data["y"]).long().to(device)
        with np.load(exchange / "net.npz") as arrays:
            params = {
                key: torch.from_numpy(arrays[key]).to(device).requires_grad_() for key in arrays
            }
        leaves = list(params.values())
        optimizer = _optimizer(task.optimizer, leaves, captured=form.endswith("graph"))
        order = torch.from_numpy(batch_rows(task, len(y), seed=0)).to(device)
        rows = order[0].clone()
        draw = partial(torch.randn, device=device)
        objective = torch_objectives.OBJECTIVES[task.objective][0]
        loss_of = lambda batch: objective(task, params, batch, draw)
        loss_of = torch.compile(loss_of) if form.startswith("compiled") else loss_of

        def step() -> Tensor:
            batch = {"x": x[rows[0]], "y": y[rows[0]]}
            if task.is_ladder:
                batch["unlabeled"] = x[rows[1]]
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(batch)
            loss.backward(inputs=leaves)
            optimizer.step()
            return loss.detach()

        prepare = lambda index: rows.copy_(order[index])
        return Form(step, {}, prepare, _rewinding(leaves, optimizer))

    def _training(self, work: Work, form: str, exchange: Path) -> Form:
        """Returns steps of PGD adversarial training."""
        net, images, labels, facts = self._loaded(work, exchange)
        optimizer = torch.optim.SGD(
            net.parameters(), work["learning_rate"], momentum=0.9, fused=True
        )
        batches = images.view(work["steps"], -1, *images.shape[1:])
        of_batches = labels.view(work["steps"], -1)
        x, y = batches[0].clone(), of_batches[0].clone()  # which keep the layout
        forward = torch.compile(net) if form.startswith("compiled") else net

        def step() -> Tensor:
            net.eval().requires_grad_(False)
            start = x + work["eps"] * (2 * torch.rand_like(x) - 1)
            x_adv = pgd(forward, x, y, work, start=start.clamp(0, 1))
            net.train().requires_grad_(True)
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(forward(x_adv), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        def prepare(index: int) -> None:
            x.copy_(batches[index])
            y.copy_(of_batches[index])

        changing = [*net.parameters(), *net.buffers()]
        return Form(step, facts, prepare, _rewinding(changing, optimizer))

    def _attack(self, work: Work, form: str, exchange: Path) -> Form:
        """Returns an attack that tells which rows withstand it."""
        net, x, y, facts = self._loaded(work, exchange)
        if form in attacks_torch_worker.LIBRARIES:
            options = {"norm": "linf", **work}
            attack = attacks_torch_worker.LIBRARIES[form](work["kind"], net, options)
            step = lambda: net(attack(x, y)).argmax(1) == y
        else:
            forward = torch.compile(net) if form.startswith("compiled") else net
            step = lambda: net(pgd(forward, x, y, work, start=x)).argmax(1) == y
        return Form(step, facts)

    def _loaded(
        self, work: Work, exchange: Path
    ) -> tuple[nn.Module, Tensor, Tensor, dict[str, Any]]:
        """Returns the frozen net and the images in the faster layout, the classes, and facts."""
        with np.load(exchange / "net.npz") as arrays:
            leaves = {key: torch.from_numpy(arrays[key]).to(self._device) for key in arrays}
        with np.load(exchange / "images.npz") as arrays:
            x = torch.from_numpy(np.moveaxis(arrays["x"], -1, 1).copy()).to(self._device)
            y = torch.from_numpy(arrays["y"]).long().to(self._device)
        logits = leaves.pop("logits")
        build = attacks_torch_worker.lenet if work["net"] == "lenet" else preact_resnet
        net = build(leaves).to(self._device).eval().requires_grad_(False)
        net = InPrecision(net, self._device) if work["precision"] == "bfloat16" else net
        with torch.no_grad():
            found, logits = net(x[: len(logits)]), logits[: len(x)]
            apart = (found - logits).abs().max() / logits.abs().max()
        seconds, layouts = {}, attacks_torch_worker.LAYOUTS
        for layout, memory_format in layouts.items():
            net, x = net.to(memory_format=memory_format), x.contiguous(memory_format=memory_format)
            seconds[layout] = self._seconds_of_gradient(net, x[: work["rows"]], y[: work["rows"]])
        best = min(seconds, key=seconds.get)
        net = net.to(memory_format=layouts[best])
        x = x.contiguous(memory_format=layouts[best])
        return net, x, y, {"logits_apart": apart.item(), "layout": best}

    def _seconds_of_gradient(self, net: nn.Module, x: Tensor, y: Tensor) -> float:
        """Returns the least seconds of an input gradient, after a call that chooses algorithms."""
        x = x.detach().requires_grad_()

        def gradient() -> None:
            torch.autograd.grad(F.cross_entropy(net(x), y), x)
            self._synchronize()

        gradient()
        return min(seconds_of(gradient) for _ in range(attacks_torch_worker.TRIALS))


def pgd(net: Net, x: Tensor, y: Tensor, work: Work, *, start: Tensor) -> Tensor:
    """Projected gradient ascent in linf within pixels of [0, 1] -> its last point."""
    lower, upper = (x - work["eps"]).clamp_(min=0), (x + work["eps"]).clamp_(max=1)
    x_adv = start
    for _ in range(work["num_steps"]):
        x_adv = x_adv.detach().requires_grad_()
        loss = F.cross_entropy(net(x_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x_adv)
        x_adv = torch.add(x_adv.detach(), gradient.sign_(), alpha=work["step_size"])
        x_adv = torch.minimum(torch.maximum(x_adv, lower), upper)
    return x_adv


def _rewinding(tensors: list[Tensor], optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Returns a function that puts a training back to its start, in the memory that it has."""
    start = [tensor.detach().clone() for tensor in tensors]

    @torch.no_grad()
    def rewind() -> None:
        for tensor, first in zip(tensors, start, strict=True):
            tensor.copy_(first)
        for moments in optimizer.state.values():
            for moment in moments.values():
                moment.zero_()

    return rewind


def _captured(form: Form) -> Step:
    """Captures a step in a CUDA graph -> its replay, which starts where the form did."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            form.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = form.step()
    form.rewind()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


def _optimizer(
    spec: Mapping[str, Any], leaves: list[Tensor], *, captured: bool
) -> torch.optim.Optimizer:
    """Returns the fused form; Adam counts its steps on the device for a capture."""
    settings = {key: value for key, value in spec.items() if key != "name"}
    settings["lr"] = settings.pop("learning_rate")
    if spec["name"] == "adam":
        settings["capturable"] = captured
    return torch_worker.OPTIMIZERS[spec["name"]](leaves, **settings, fused=True)


@contextmanager
def precision(work: Work) -> Iterator[None]:
    """Computes products and convolutions of float32 in TF32, or not."""
    tf32 = work["precision"] != "float32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    yield


def _name(work: Work, form: str) -> str:
    return json.dumps([work, form], sort_keys=True)


if __name__ == "__main__":
    serve(Side())

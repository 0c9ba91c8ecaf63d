"""The works that `benchmarks.accelerator` times, in order of value."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.tasks import TASKS

SEEDS = 10
LIBRARIES = ("torchattacks", "foolbox")
# Of a hand-written loop in PyTorch; a graph is captured, which needs a GPU.
FORMS = ("eager", "graph", "compiled", "compiled graph")
NETS = {
    "lenet": "LeNet",
    "resnet18": "PreAct-ResNet-18",
    "resnet": "narrow PreAct-ResNet",
}


class Work(NamedTuple):
    """One program and its numbers.

    kind: "task", steps of a task of `benchmarks.tasks`; "training", of PGD adversarial training;
      "pgd" or "auto_attack".
    precision: of products and convolutions on both sides: "float32"; "tf32"; or "bfloat16", which
      in PyTorch is mixed precision, and TF32 for the rest.
    task: name of the task.
    net: "lenet", trained; "resnet18"; or "resnet", a narrow one.
    rows: images of an attack or of a batch.
    steps: steps per timed block; of an attack, calls.
    seeds: of a task, trained in one program.
    num_steps, eps, step_size: of PGD; the first two also of AutoAttack.
    num_queries: of AutoAttack's Square.
    learning_rate: of adversarial training, with momentum .9.
    """

    kind: str
    precision: str = "float32"
    task: str = ""
    net: str = ""
    rows: int = 0
    steps: int = 1
    seeds: int = 1
    num_steps: int = 0
    eps: float = 0.0
    step_size: float = 0.0
    num_queries: int = 0
    learning_rate: float = 0.1

    @property
    def title(self) -> str:
        if self.kind == "task":
            return f"{TASKS[self.task].title}, {self.precision}"
        net, images = NETS[self.net], "digits" if self.net == "lenet" else "images"
        if self.kind == "training":
            attack = f"PGD-{self.num_steps} adversarial training"
            return f"{attack}, {net}, batch {self.rows}, {self.precision}"
        attack = f"PGD-{self.num_steps} linf"
        if self.kind == "auto_attack":
            attack = f"AutoAttack linf of {self.num_steps} steps and {self.num_queries:,} queries"
        return f"{attack}, {net}, {self.rows:,} {images}, {self.precision}"


class Stage(NamedTuple):
    """The measurements of one process.

    work: what both sides compute; None for the checks.
    small: its replaced fields on a CPU.
    forms: PyTorch's; () to compare ten seeds with one.
    goal: least times as fast as PyTorch's best form, or as one seed, on a GPU.
    seconds: estimate of the whole stage on a GPU, for `--minutes`.
    once: whether the first call after compiling is what counts.
    """

    work: Work | None = None
    small: Mapping[str, Any] = {}
    forms: Sequence[str] = ()
    goal: float | None = None
    seconds: float = 120.0
    once: bool = False


_SMALL_TASK = {"steps": 2}
_LENET = Work("pgd", "tf32", net="lenet", rows=10_000, num_steps=40, eps=0.1, step_size=0.01)
_RESNET = Work(
    "pgd", "bfloat16", net="resnet18", rows=512, num_steps=20, eps=8 / 255, step_size=2 / 255
)
_SMALL_RESNET = {"net": "resnet", "rows": 8, "num_steps": 2}
_TRAINING = _RESNET._replace(kind="training", rows=128, steps=10, num_steps=10)
_AUTO_ATTACK = Work("auto_attack", net="lenet", rows=1000, num_steps=100, eps=0.2, num_queries=5000)
_SMALL_AUTO_ATTACK = {"rows": 8, "num_steps": 2, "num_queries": 5}


def _lenet(precision: str, goal: float | None = None) -> Stage:
    work = _LENET._replace(precision=precision)
    return Stage(work, {"rows": 20, "num_steps": 2}, (*FORMS, *LIBRARIES), goal)


def _resnet(precision: str, goal: float | None = None) -> Stage:
    work = _RESNET._replace(precision=precision)
    return Stage(work, _SMALL_RESNET, (*FORMS, "torchattacks"), goal)


def _training(precision: str, goal: float | None = None) -> Stage:
    work = _TRAINING._replace(precision=precision)
    return Stage(work, {**_SMALL_RESNET, "steps": 2}, FORMS, goal)


def _seeds(task: str, steps: int, goal: float | None = None) -> Stage:
    return Stage(Work("task", task=task, steps=steps), _SMALL_TASK, goal=goal)


# In order of value, which --minutes follows. The seconds given here were measured on an H100, the
# ladder's without PyTorch's graphs and compiled forms.
STAGES = {
    "checks": Stage(),
    "ladder": Stage(
        Work("task", task="ladder", steps=40), _SMALL_TASK, FORMS, goal=1.0, seconds=114.0
    ),
    "training_bfloat16": _training("bfloat16", goal=1.3),
    "pgd_lenet": _lenet("tf32", goal=2.5),
    "pgd_resnet18_bfloat16": _resnet("bfloat16", goal=1.1),
    "auto_attack": Stage(
        _AUTO_ATTACK, _SMALL_AUTO_ATTACK, ("torchattacks",), goal=3.0, seconds=58.0, once=True
    ),
    "seeds_ladder": _seeds("ladder", 40, goal=6.0),
    "seeds_mlp_10": _seeds("mlp_10", 500, goal=5.0),
    "training_tf32": _training("tf32"),
    "pgd_resnet18_tf32": _resnet("tf32"),
    "pgd_resnet18_float32": _resnet("float32"),
    "pgd_lenet_float32": _lenet("float32"),
    "seeds_lwa": _seeds("lwa", 10),
    "auto_attack_resnet18": Stage(
        _AUTO_ATTACK._replace(precision="tf32", net="resnet18", rows=64, eps=4 / 255),
        {**_SMALL_AUTO_ATTACK, "net": "resnet"},
        ("torchattacks",),
        once=True,
    ),
}


def stage_names(text: str) -> list[str]:
    """Parses the names of stages, NAME,NAME, for argparse."""
    names = text.split(",")
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        allowed = ", ".join(STAGES)
        raise argparse.ArgumentTypeError(f"must be one of {allowed}, got {unknown[0]!r}")
    return names

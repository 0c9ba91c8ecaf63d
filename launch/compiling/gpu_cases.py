"""The programs that `launch.gpu` compiles: what a user starts with."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from launch.compiling import on_noise
from launch.compiling.gpus import CARDS

FIRST = "h100:1"  # For it all functions of a run are compiled.


class Case(NamedTuple):
    """Functions of a config to compile for a topology.

    title: what the page calls it.
    config: NAME or NAME:MODE.
    topology: of GPUs.
    fields: {path: value} to change; `replicas` is one seed, unless they say otherwise.
    attacks: names of attacks under which the model is evaluated; () for the functions of a run.
    """

    title: str
    config: str
    topology: str = FIRST
    fields: Mapping[str, Any] = {}
    attacks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        fields = (f"{path}={value}" for path, value in self.fields.items())
        return ", ".join([self.config, self.topology, *fields, *self.attacks])

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions of a run that are compiled; `evaluate` is often the largest."""
        if self.topology == FIRST:
            return ("init", "epoch", "monitor", "evaluate")
        return ("epoch", "evaluate") if self.topology.endswith(":1") else ("epoch",)


LENET = Case("LeNet, LWA", "huang_lenet_mnist")
RESNET = Case("ResNet-18, TRADES", "resnet_cifar10:method=trades", fields=on_noise.RESNET_18)
TRAININGS = (
    Case("Ladder", "ladder_mnist"),
    Case("Ladder, ten seeds", "ladder_mnist", fields={"replicas.seeds": 10}),
    Case("Conv-Small", "ladder_conv_mnist"),
    LENET,
    RESNET,
    Case("DCGAN", "dcgan_mnist"),
)
LADDER = TRAININGS[0]
ATTACKS = (
    *(LENET._replace(title="LeNet", attacks=(name,)) for name in ("pgd", "apgd", "auto_attack")),
    RESNET._replace(title="ResNet-18", attacks=("pgd",)),
    RESNET._replace(
        title="ResNet-18, bfloat16",
        fields={**RESNET.fields, "model.dtype": "bfloat16"},
        attacks=("pgd",),
    ),
)
PGD = ATTACKS[0]


def cases() -> Iterator[Case]:
    """Yields all cases, those that tests read first, then those of one H100."""
    yield from (LADDER, PGD, *TRAININGS[1:], *ATTACKS[1:], *several())
    yield from (case for card in CARDS for case in trainings(card) if case.topology != FIRST)


def trainings(card: str) -> list[Case]:
    """Returns the trainings on one GPU."""
    return [case._replace(topology=f"{card}:1") for case in TRAININGS]


def several() -> list[Case]:
    """Returns a batch and seeds divided over 8 and 32 GPUs."""
    one = {"batch_size": 256, "replicas.shards": 1}
    return [
        Case(title, "huang_mlp_mnist", topology, {**one, path: count})
        for topology, count in {"h100:8": 8, "h100:4x8": 32}.items()
        for title, path in {"a batch": "replicas.shards", "seeds": "replicas.seeds"}.items()
    ]


def config_of(case: Case) -> dict[str, Any]:
    """Returns the config of a case, on noise in the shapes of its data."""
    one = {"replicas.seeds": 1, "replicas.grid": None}
    return on_noise.config_of(case.config, {**one, **case.fields})

"""The programs that `launch.gpu` compiles: what a user starts with."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from launch.compiling import on_noise
from launch.compiling.gpus import CARDS

RESNET_18 = {"model.stem": 64, "model.stages": (64, 128, 256, 512), "model.blocks": 2}
SEEDS = {"replicas.seeds": 10}
SHARDED, BATCH = "huang_mlp_mnist", 256
FIRST = "h100:1"  # It compiles all functions of a run.


class Case(NamedTuple):
    """Functions of a config to compile for a topology.

    Attributes:
      config: NAME or NAME:MODE.
      topology: of GPUs.
      fields: {path: value} to change; `replicas` is one seed, unless they say otherwise.
      attacks: names of attacks under which the model is evaluated; () for the functions of a run.
    """

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
        """The functions of a run that are compiled."""
        return ("init", "epoch", "monitor", "evaluate") if self.topology == FIRST else ("epoch",)


LADDER = Case("ladder_mnist")
PGD = Case("huang_lenet_mnist", attacks=("pgd",))
TRAININGS = (
    LADDER,
    Case("ladder_mnist", fields=SEEDS),
    Case("ladder_conv_mnist"),
    Case("huang_lenet_mnist"),
    Case("resnet_cifar10:method=trades", fields=RESNET_18),
    Case("dcgan_mnist"),
)
ATTACKS = (
    PGD,
    Case("huang_lenet_mnist", attacks=("apgd",)),
    Case("huang_lenet_mnist", attacks=("auto_attack",)),
    Case("resnet_cifar10:method=trades", fields=RESNET_18, attacks=("pgd",)),
    Case(
        "resnet_cifar10:method=trades",
        fields={**RESNET_18, "model.dtype": "bfloat16"},
        attacks=("pgd",),
    ),
)


def cases() -> Iterator[Case]:
    """Yields all cases, those that tests read first, then those of one H100."""
    yield from (LADDER, PGD, *TRAININGS[1:], *ATTACKS[1:], *several())
    yield from (case for card in CARDS for case in trainings(card) if case.topology != FIRST)


def trainings(card: str) -> list[Case]:
    """Returns the trainings on one GPU."""
    return [case._replace(topology=f"{card}:1") for case in TRAININGS]


def several() -> list[Case]:
    """Returns a batch and seeds divided over 8 and 32 GPUs."""
    sizes = {"h100:8": 8, "h100:4x8": 32}
    shards = {"batch_size": BATCH, "replicas.shards": 1}
    return [
        Case(SHARDED, topology, {**shards, path: count})
        for topology, count in sizes.items()
        for path in ("replicas.shards", "replicas.seeds")
    ]


def config_of(case: Case) -> dict[str, Any]:
    """Returns the config of a case, on noise in the shapes of its data."""
    one = {"replicas.seeds": 1, "replicas.grid": None}
    return on_noise.config_of(case.config, {**one, **case.fields})

"""The epochs that `launch.tpu` compiles."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from adv_jax.runner import catalogue
from adv_jax.runner.config import check, with_values
from papers import budget
from papers.target import Run

TOPOLOGIES = {4: "v5e:2x2", 16: "v5e:4x4", 64: "v5e:8x8", 256: "v5e:16x16"}
# Options with a model or a method of another size.
MODES = (
    *("backprop_cifar10:net=fc", "goodfellow_mnist:model=conv", "ladder_conv_mnist:net=fc"),
    *("mlp_mnist:net=dbn", "pgd_mnist:method=natural", "resnet_cifar10:depth=110"),
    *("resnet_cifar10:method=trades", "wrn_cifar10:model=wrn28_10,method=natural"),
)
CHECKED = "quickstart"  # Compiled at every size.
SEEDS = "shallow_mnist"  # Compiled with a thousand seeds.
_RESNET_18 = {"model.stem": 64, "model.stages": (64, 128, 256, 512), "model.blocks": 2}
# Images of 224 x 224 pixels; blocks are computed again in the backward pass.
IMAGENET = {
    "data.name": "launch._shapes:imagenet",
    **_RESNET_18,
    "model.num_classes": 1000,
    "model.recompute": True,
    "batch_size": 256,
}
SHARDED = {
    "huang_mlp_mnist": {"batch_size": 256},
    "resnet_cifar10": {"batch_size": 256},
    "resnet_cifar10:method=lwa": IMAGENET,
}


class Case(NamedTuple):
    """An epoch to compile.

    config: NAME or NAME:MODE; fields: {path: value} in it; replicas: of all chips.
    """

    config: str
    chips: int = 4
    replicas: int = 4
    shards: int = 1
    fields: Mapping[str, Any] = {}

    @property
    def name(self) -> str:
        texts = [f"{self.chips} chips", f"{self.replicas} replicas", f"{self.shards} shards"]
        fields = (f"{path}={value}" for path, value in self.fields.items())
        return ", ".join([self.config, *texts, *fields])


def cases() -> Iterator[Case]:
    """Yields all cases, the most important first."""
    yield from map(Case, (*catalogue.names(), *MODES))
    for config, fields in SHARDED.items():
        yield from (Case(config, n, 1, n, fields) for n in TOPOLOGIES)
    yield Case(SEEDS, 256, 1024)
    yield from (Case(CHECKED, n, n) for n in TOPOLOGIES)


def config_of(case: Case) -> dict[str, Any]:
    """Returns the config of a case, on data of the right shapes."""
    name, _, mode = case.config.partition(":")
    config = budget.config_of(Run(name, mode), budget.BUDGETS[budget.PAPER], {})
    data = {"data.name": f"launch._shapes:{config['data']['name']}", "data.source": "import"}
    sizes = {"seeds": case.replicas, "grid": None, "shards": case.shards}
    config = with_values(config, {**data, "replicas": sizes, **case.fields})
    check(config)
    return config

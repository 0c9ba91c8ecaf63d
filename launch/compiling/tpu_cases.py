"""The epochs that `launch.tpu` compiles."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from adv_jax.runner.config import catalog
from launch.compiling import on_noise

TOPOLOGIES = {4: "v5e:2x2", 16: "v5e:4x4", 64: "v5e:8x8", 256: "v5e:16x16"}
# Options with a model or a method of another size.
MODES = (
    *("backprop_cifar10:net=fc", "goodfellow_mnist:model=conv", "ladder_conv_mnist:net=fc"),
    *("mlp_mnist:net=dbn", "pgd_mnist:method=natural", "resnet_cifar10:depth=110"),
    *("resnet_cifar10:method=trades", "wrn_cifar10:model=wrn28_10,method=natural"),
)
CHECKED = "quickstart"  # Compiled at every size, and with all effort.
SEEDS = "shallow_mnist"  # Compiled with a thousand seeds.
# Images of 224 x 224 pixels; blocks are computed again in the backward pass.
_IMAGENET = {
    "data.name": "launch.compiling.shapes:imagenet",
    **on_noise.RESNET_18,
    "model.num_classes": 1000,
    "model.recompute": True,
}
IMAGENET = "resnet_cifar10:method=lwa"
IMAGENET_BATCHES = (256, 128, 64)
# A batch cannot be divided if the model normalizes it, as the residual nets do.
SHARDED, SHARDED_FIELDS = "huang_mlp_mnist", {"batch_size": 256}
# XLA's effort for speed. With the default a gradient of LeNet compiles for minutes, not seconds;
# products, arguments and collectives are the same, the other sizes nearly so.
LEAST, DEFAULT = -1.0, 0.0


class Case(NamedTuple):
    """An epoch to compile.

    config: NAME or NAME:MODE; fields: {path: value} in it; replicas: of all chips; effort: of XLA,
    LEAST or DEFAULT.
    """

    config: str
    chips: int = 4
    replicas: int = 4
    shards: int = 1
    fields: Mapping[str, Any] = {}
    effort: float = LEAST

    @property
    def name(self) -> str:
        texts = [f"{self.chips} chips", f"{self.replicas} replicas", f"{self.shards} shards"]
        fields = (f"{path}={value}" for path, value in self.fields.items())
        effort = [] if self.effort == LEAST else ["default effort"]
        return ", ".join([self.config, *texts, *fields, *effort])


def cases() -> Iterator[Case]:
    """Yields all cases, the most important first."""
    yield from map(Case, (*catalog.names(), *MODES))
    yield from sharded()
    yield Case(SEEDS, 256, 1024)
    yield from sizes()
    yield from imagenet()


def sharded() -> list[Case]:
    """Returns one replica whose batch is divided over 4 to 256 chips."""
    return [Case(SHARDED, n, 1, n, SHARDED_FIELDS) for n in TOPOLOGIES]


def sizes() -> list[Case]:
    """Returns one config for 4 to 256 chips, and with XLA's default effort."""
    return [*(Case(CHECKED, n, n) for n in TOPOLOGIES), Case(CHECKED, effort=DEFAULT)]


def imagenet() -> list[Case]:
    """Returns a ResNet-18 on images of 224 x 224 pixels, one replica a chip."""
    return [Case(IMAGENET, fields={**_IMAGENET, "batch_size": size}) for size in IMAGENET_BATCHES]


def config_of(case: Case) -> dict[str, Any]:
    """Returns the config of a case, on noise in the shapes of its data."""
    sizes = {"seeds": case.replicas, "grid": None, "shards": case.shards}
    return on_noise.config_of(case.config, {"replicas": sizes, **case.fields})

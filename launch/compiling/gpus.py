"""GPUs by their data sheets, and programs compiled for them by XLA without a driver."""

import os
import re
import tempfile
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax

from adv_jax.runner.host.compiler_options import compiler_options
from adv_jax.types import UserError, install_hint
from launch.compiling.kernels import launched
from launch.compiling.target import Chip, Program, Target, timed

# The share of a GPU's memory that JAX takes when it starts, and what sets another.
_SHARE = 0.75
_SHARES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
_ESTIMATED = (9, 0)  # From this compute capability on XLA has tables to estimate times.
_PLUGIN = "jax-cuda13-plugin"


class Card(NamedTuple):
    """A GPU by its data sheet and the tables of NVIDIA's programming guide.

    title: its name.
    memory: bytes.
    bandwidth: bytes a second.
    cores: streaming multiprocessors.
    units: of float32 in a multiprocessor, each a multiply and an add a cycle.
    clock: the highest, in GHz.
    cache: bytes of L2.
    shared: bytes of shared memory in a multiprocessor, 1,024 more than a block may have.
    threads: most in a multiprocessor.
    capability: the compute capability.
    """

    title: str
    memory: float
    bandwidth: float
    cores: int
    units: int
    clock: float
    cache: int
    shared: int
    threads: int
    capability: tuple[int, int]

    @property
    def flops(self) -> float:
        return 2e9 * self.cores * self.units * self.clock


_KB, _MB = 2**10, 2**20
CARDS = {
    "h100": Card("H100 SXM 80 GB", 80e9, 3352e9, 132, 128, 1.98, 50 * _MB, 228 * _KB, 2048, (9, 0)),
    "a100": Card("A100 SXM 80 GB", 80e9, 2039e9, 108, 64, 1.41, 40 * _MB, 164 * _KB, 2048, (8, 0)),
    "rtx4090": Card(
        "GeForce RTX 4090", 24e9, 1008e9, 128, 128, 2.52, 72 * _MB, 100 * _KB, 1536, (8, 9)
    ),
}
_TOPOLOGY = re.compile(rf"({'|'.join(CARDS)}):(?:([1-9]\d{{0,3}})x)?([1-9]\d?)$")
EXAMPLES = tuple(f"{card}:{shape}" for card in CARDS for shape in ("1", "8", "4x8"))


def target(topology: str) -> Target | None:
    """Returns the GPUs of a topology, CARD:GPUS or CARD:HOSTSxGPUS of each; None if it is neither.

    Raises:
      UserError: the plugin is not installed, or its JAX cannot compile without a device.
    """
    if not (found := _TOPOLOGY.match(topology)):
        return None
    name, hosts, gpus = found.groups()
    card = CARDS[name]
    chip = Chip(card.memory, _share() * card.memory, card.bandwidth, card.flops)
    there = devices(topology, card, hosts or "1", gpus)
    return Target(topology, chip, there, partial(compiled, card), ("jax", _PLUGIN))


def _share() -> float:
    """Returns the share of a GPU's memory that JAX takes.

    Raises:
      UserError: the user's is not a number.
    """
    for name in _SHARES:
        if given := os.environ.get(name):
            try:
                return float(given)
            except ValueError as error:
                raise UserError(f"{name} must be a number, got {given!r}") from error
    return _SHARE


def devices(topology: str, card: Card, hosts: str, gpus: str) -> list[jax.Device]:
    """Returns GPUs for which XLA can compile without hardware.

    Raises:
      UserError: the plugin is not installed, or its JAX cannot compile without a device.
    """
    from jax.experimental import topologies

    try:
        version(_PLUGIN)
    except PackageNotFoundError as error:
        raise UserError(
            f"topology {topology} must have {_PLUGIN} ({install_hint('cuda')}), got none"
        ) from error
    try:
        found = topologies.get_topology_desc(
            platform="cuda", target_config=_target_config(card), topology=f"1x{hosts}x{gpus}"
        )
    except (RuntimeError, TypeError, ValueError) as error:  # NotImplementedError is the first.
        line = str(error).partition("\n")[0]
        raise UserError(
            f"topology {topology} must have a JAX that can compile for a GPU without one, as "
            f"0.10.2, got {jax.__version__}: {line}"
        ) from error
    return list(found.devices)


def _target_config(card: Card) -> str:
    """Returns XLA's description of a card, in its text format."""
    major, minor = card.capability
    features = "ACCELERATED_FEATURES" if major >= 9 else "NONE"
    return f"""
        gpu_device_info {{
          threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: {card.threads}
          thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
          block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
          registers_per_core_limit: 65536 registers_per_block_limit: 65536
          shared_memory_per_block: 49152 shared_memory_per_block_optin: {card.shared - 1024}
          shared_memory_per_core: {card.shared} l2_cache_size: {card.cache}
          core_count: {card.cores} fpus_per_core: {card.units} clock_rate_ghz: {card.clock}
          memory_bandwidth: {card.bandwidth:.0f} device_memory_size: {card.memory:.0f}
          cuda_compute_capability {{
            major: {major} minor: {minor} feature_extension: {features}
          }}
        }}
        platform_name: "CUDA"
        dnn_version_info {{ major: 9 minor: 12 patch: 0 }}
        runtime_version {{ major: 13 minor: 0 patch: 0 }}
        device_description_str: "{card.title}"
    """


def compiled(card: Card, lowered: Any) -> Program:
    """Compiles a lowered function, and counts its launches."""
    with tempfile.TemporaryDirectory() as folder:
        options = {
            **compiler_options("cuda"),  # as a run has them
            "xla_gpu_autotune_level": 0,  # Autotuning runs kernels, which needs the device.
            "xla_gpu_collect_cost_model_stats": card.capability >= _ESTIMATED,
            "xla_dump_to": folder,
            "xla_dump_hlo_as_text": True,
        }
        program = timed(lowered, options)
        return program._replace(launched=launched(program.executable.as_text(), Path(folder)))

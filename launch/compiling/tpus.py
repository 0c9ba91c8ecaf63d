"""TPU topologies that exist, the public figures of their chips, and programs compiled for them."""

import os
import re
import signal
from collections.abc import Sequence
from typing import Any

import jax

from adv_jax.types import UserError, install_hint
from launch.compiling.target import Chip, Program, Target, TooLarge, timed

# libtpu reads these where there is no TPU.
_NO_HARDWARE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5e-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # Its lock is for the hardware.
}
# float32 products as six products of bfloat16, the precision with which runs are trained.
PASSES = 6


# By the data sheets of Google Cloud, which print the operations of bfloat16.
CHIPS = {
    "v5e": Chip(16e9, 16e9, 819e9, 197e12 / PASSES),
    "v5p": Chip(95e9, 95e9, 2765e9, 459e12 / PASSES),
    "v6e": Chip(32e9, 32e9, 1640e9, 918e12 / PASSES),
}
# Bytes a second and chip of an all-reduce over a pod of 256 v5e, 51.2 TB/s in all.
ALL_REDUCE = 51.2e12 / 256
_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8")
_SHAPES = {"v5e": _FLAT, "v5p": _CUBES, "v6e": _FLAT}
TOPOLOGIES = tuple(f"{chip}:{shape}" for chip, shapes in _SHAPES.items() for shape in shapes)


def target(topology: str) -> Target:
    """Returns the chips of one of `TOPOLOGIES`.

    Raises:
      UserError: libtpu is not installed.
    """
    chip = CHIPS[topology.partition(":")[0]]
    return Target(topology, chip, devices(topology), compiled, ("jax", "libtpu"))


def compiled(lowered: Any) -> Program:
    """Compiles a lowered function.

    Raises:
      TooLarge: XLA found that it does not fit a chip.
    """
    try:
        return timed(lowered)
    except jax.errors.JaxRuntimeError as error:
        if least := needed(error):
            raise TooLarge(least) from error
        raise


def devices(topology: str) -> Sequence[jax.Device]:
    """Returns the devices of a topology, for which XLA can compile without hardware.

    Raises:
      UserError: libtpu is not installed.
    """
    from jax.experimental import topologies

    os.environ |= _NO_HARDWARE
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except (RuntimeError, ValueError) as error:
        line = str(error).partition("\n")[0]
        raise UserError(
            f"topology {topology} must have libtpu ({install_hint('tpu')}), got none: {line}"
        ) from error
    # libtpu's handler would print a stack trace.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return found


def needed(error: Exception) -> float | None:
    """Returns the bytes that a program needs at least, from XLA's error; None for another error."""
    found = re.search(r"(?:Used|required for [\w ]+ \()\s*([\d.]+)([KMGT]?)", str(error))
    if "RESOURCE_EXHAUSTED" not in str(error) or not found:
        return None
    return float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")

"""Devices that are not there, as the compiler needs them."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from adv_jax.runner.host.compiler_options import compiled
from launch.compiling.kernels import Launched


class Chip(NamedTuple):
    """A chip by its data sheet.

    memory: bytes.
    usable: bytes of it that JAX takes for its arrays and programs.
    bandwidth: bytes a second between memory and chip.
    flops: operations a second in float32 products, as runs are trained.
    """

    memory: float
    usable: float
    bandwidth: float
    flops: float


class Program(NamedTuple):
    """A compiled program.

    executable: the result of `Lowered.compile`.
    seconds: of compiling, by the clock.
    processor_seconds: of compiling, of all cores; other work on the machine does not count.
    launched: what it launches; None on a TPU, where a program is one launch.
    """

    executable: Any
    seconds: float
    processor_seconds: float
    launched: Launched | None = None


class TooLarge(Exception):
    """A program does not fit a chip; needed: bytes that XLA names, at least."""

    def __init__(self, needed: float) -> None:
        super().__init__(needed)
        self.needed = needed


class Target(NamedTuple):
    """Devices to compile for.

    topology: its name.
    chip: each of its chips.
    devices: for which programs can be lowered and compiled, and nothing else.
    compiled: compiles a lowered function; raises TooLarge.
    packages: the distributions of the compiler.
    """

    topology: str
    chip: Chip
    devices: Sequence[jax.Device]
    compiled: Callable[[Any], Program]
    packages: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the chip."""
        return self.topology.partition(":")[0]


def timed(lowered: Any, options: Mapping[str, Any] = MappingProxyType({})) -> Program:
    """Compiles a lowered function, with options of the compiler."""
    began, before = time.perf_counter(), sum(os.times()[:4])
    executable = compiled(lowered, options)
    return Program(executable, time.perf_counter() - began, sum(os.times()[:4]) - before)

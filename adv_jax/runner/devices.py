"""The devices of a run: the cores that a CPU offers, and which device takes which replicas."""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from adv_jax.step import over_devices
from adv_jax.types import UserError


def use_cores(*programs: tuple[int, int]) -> None:
    """Offers the CPU's cores as devices; before JAX's first computation.

    Work that is split by itself, as replicas or rows, goes faster on a core for each part than
    on all cores for one part after another. XLA_FLAGS that name a number of devices stand.

    Args:
      programs: replicas and shards of each program to come; none: of rows, which can be split into
        any number of parts.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        # Not os.cpu_count(): a batch system may give fewer than the machine has.
        affinity = getattr(os, "sched_getaffinity", None)  # Of Linux.
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        devices = max((_devices(*program, cores) for program in programs), default=cores)
        jax.config.update("jax_num_cpu_devices", devices)


def _devices(replicas: int, shards: int, cores: int) -> int:
    """Of a CPU, for one program.

    Cores that cannot share the replicas evenly take turns at more devices, up to four each: five
    replicas on two cores need half the time as five devices that they need on one after another.
    Shards wait for each other, and get no more devices than there are cores.
    """
    if shards > 1 or replicas <= cores:
        return max(1, min(replicas * shards, cores))
    return next((n for n in range(cores, 4 * cores + 1) if replicas % n == 0), cores)


def check_devices() -> None:
    """Starts JAX.

    Raises:
      UserError: JAX_PLATFORMS in the environment names what is not here.
    """
    try:
        jax.devices()
    # Of "cuda" without a GPU, JAX 0.10 only asserts that something was found.
    except (RuntimeError, AssertionError) as error:
        wanted = os.environ.get("JAX_PLATFORMS")
        reason = str(error).partition("\n")[0] or "there is no device of it"
        raise UserError(
            f"JAX_PLATFORMS is {wanted!r}; allowed is cpu, or none: {reason}"
        ) from error


class Layout(NamedTuple):
    """Where the replicas run.

    devices: those used, of all processes; each has the same number of replicas.
    shards: neighbouring devices that share a replica's batches; 1 for none.
    """

    devices: list[jax.Device]
    shards: int

    def spread(self, tree: Any) -> Any:
        """Leaves [R, ...] -> [devices, replicas of a device, ...]."""
        groups = len(self.devices) // self.shards

        def spread(leaf):
            leaf = jnp.asarray(leaf)
            leaf = leaf.reshape(groups, leaf.shape[0] // groups, *leaf.shape[1:])
            return jnp.repeat(leaf, self.shards, axis=0)

        return jax.tree.map(spread, tree)

    def place(self, tree: Any) -> Any:
        """`spread`, with each part on its own device; a process holds its devices' parts."""
        own = slice(*self._own())
        parts = jax.tree.map(lambda leaf: leaf[own], self.spread(tree))
        return over_devices(lambda tree: tree, self.devices)(parts)

    def gather(self, tree: Any) -> Any:
        """The inverse of `spread`: leaves [devices, replicas of a device, ...] -> [R, ...]."""

        def gather(leaf):
            leaf = leaf[:: self.shards]
            return leaf.reshape(-1, *leaf.shape[2:])

        return jax.tree.map(gather, tree)

    def fetch(self, tree: Any) -> Any:
        """The inverse of `place`, as NumPy arrays, copied; every process gets all of it."""
        if jax.process_count() > 1:
            return self.gather(multihost_utils.process_allgather(tree, tiled=True))
        # Of an array for which there was no memory, NumPy's copy would abort the process.
        return self.gather(jax.tree.map(np.array, jax.block_until_ready(tree)))

    def copies(self, tree: Any) -> Any:
        """One copy of every leaf on each device: [...] -> [devices of this process, ...]."""
        copy = over_devices(lambda _, tree: tree, self.devices, in_axes=(0, None))
        return copy(jnp.arange(*self._own()), tree)

    def _own(self) -> tuple[int, int]:
        """The places of this process' devices among all."""
        each = len(self.devices) // jax.process_count()
        return each * jax.process_index(), each * (jax.process_index() + 1)


def layout(num_replicas: int, *, shards: int = 1) -> Layout:
    """As many of the devices at hand as divide the work evenly, as many of each process.

    Raises:
      UserError: fewer devices than shards, or no even division among the processes.
    """
    processes = jax.process_count()
    # Of one process after another; of each, as many as the one with the fewest has.
    hosts = [[d for d in jax.devices() if d.process_index == p] for p in range(processes)]
    most = min(map(len, hosts)) * processes // shards
    if not most:
        raise UserError(
            f"shards is {shards}; allowed are 1 to {min(map(len, hosts)) * processes}, "
            "the devices here"
        )
    even = [
        n
        for n in range(1, min(most, num_replicas) + 1)
        if num_replicas % n == 0 and n * shards % processes == 0
    ]
    if not even:
        raise UserError(
            f"replicas x shards are {num_replicas} x {shards}; allowed are multiples of "
            f"{processes}, the processes, that their {most * shards} devices can share evenly"
        )
    each = max(even) * shards // processes
    return Layout([device for devices in hosts for device in devices[:each]], shards)

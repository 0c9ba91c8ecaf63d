"""Selects the devices of a run and distributes its replicas over them."""

import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from adv_jax.step import DEVICES
from adv_jax.types import UserError


def use_cores(*programs: tuple[int, int]) -> None:
    """Makes the CPU's cores JAX devices; call it before JAX's first computation.

    Independent parts (replicas, rows) run faster on one core each than in turn on all cores. A
    number of devices in XLA_FLAGS takes precedence.

    Args:
      programs: (replicas, shards) of each program to run; without any, one device per core.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        # A batch system may assign fewer cores than os.cpu_count().
        affinity = getattr(os, "sched_getaffinity", None)  # Linux only.
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        devices = max((_devices(*program, cores) for program in programs), default=cores)
        # A user's module may have computed already when a config imports it: keep its devices.
        with suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices)


def _devices(replicas: int, shards: int, cores: int) -> int:
    """Returns the number of CPU devices for one program.

    If the cores cannot share the replicas evenly, uses up to four devices per core: five replicas
    on two cores take half the time with five devices. Shards wait for each other in collectives, so
    they get at most one device per core.
    """
    if shards > 1 or replicas <= cores:
        return max(1, min(replicas * shards, cores))
    return next((n for n in range(cores, 4 * cores + 1) if replicas % n == 0), cores)


def check_devices() -> None:
    """Initializes JAX's devices.

    Raises:
      UserError: JAX_PLATFORMS names a platform without devices, or the processes have different
        numbers of devices.
    """
    try:
        jax.devices()
    # For "cuda" without a GPU, JAX 0.10 raises AssertionError.
    except (RuntimeError, AssertionError) as error:
        wanted = os.environ.get("JAX_PLATFORMS")
        reason = str(error).partition("\n")[0] or "no such device"
        raise UserError(f"JAX_PLATFORMS must be cpu or unset, got {wanted!r}: {reason}") from error
    # JAX's collectives assume it. Without a number in XLA_FLAGS, it is that of the CPU's cores.
    found = [len(jax.local_devices(process)) for process in range(jax.process_count())]
    if len(set(found)) > 1:
        flag = "XLA_FLAGS=--xla_force_host_platform_device_count sets it on CPUs"
        numbers = ", ".join(map(str, found))
        raise UserError(
            f"the number of devices must be that of all processes ({flag}), got {numbers}"
        )


class Layout(NamedTuple):
    """The assignment of replicas to devices.

    devices: the devices of all processes; each group of shards has the same number of replicas.
    shards: number of adjacent devices that share a replica's batches.
    """

    devices: list[jax.Device]
    shards: int

    def spread(self, tree: Any) -> Any:
        """Reshapes leaves [R, ...] -> [devices, replicas of a device, ...]."""
        return _spread(tree, len(self.devices) // self.shards, self.shards)

    def place(self, tree: Any) -> Any:
        """Puts leaves [held replicas, ...] on the devices of this process; see `held`.

        The leaves are NumPy arrays, or become such: each operation on others would be a program.
        """
        first, stop = self._own()
        groups = self._groups(first, stop)
        before = groups.start * self.shards
        spread = _spread(jax.tree.map(np.asarray, tree), len(groups), self.shards)
        return jax.tree.map(lambda leaf: self._put(leaf[first - before : stop - before]), spread)

    def held(self, num_replicas: int) -> range:
        """Returns the replicas that the devices of this process have, some of them in shards."""
        each = num_replicas * self.shards // len(self.devices)
        groups = self._groups(*self._own())
        return range(each * groups.start, each * groups.stop)

    def saved(self, num_replicas: int) -> list[range]:
        """Returns the replicas that each process saves: a group belongs to its first device."""
        each = num_replicas * self.shards // len(self.devices)
        per_process = len(self.devices) // jax.process_count()
        firsts = range(0, len(self.devices) + 1, per_process)
        starts = [each * -(-first // self.shards) for first in firsts]
        return [range(*pair) for pair in itertools.pairwise(starts)]

    def fetch_saved(self, tree: Any) -> Any:
        """Copies the replicas that this process saves to NumPy arrays, without communication."""
        first, _ = self._own()

        # pmap returns the arrays of this process only.
        def fetch(leaf):
            parts = {part.index[0].start or 0: part.data for part in leaf.addressable_shards}
            saved = [
                np.asarray(parts[i])[0] for i in sorted(parts) if not (first + i) % self.shards
            ]
            return np.concatenate([np.empty((0, *leaf.shape[2:]), leaf.dtype), *saved])

        # block_until_ready raises if memory ran out, where NumPy's copy would abort the process.
        return jax.tree.map(fetch, jax.block_until_ready(tree))

    def gather(self, tree: Any) -> Any:
        """Inverts `spread`: leaves [devices, replicas of a device, ...] -> [R, ...]."""

        def gather(leaf):
            leaf = leaf[:: self.shards]
            return leaf.reshape(-1, *leaf.shape[2:])

        return jax.tree.map(gather, tree)

    def fetch(self, tree: Any) -> Any:
        """Inverts `place` -> copies as NumPy arrays. Collective: all processes get all replicas."""
        if jax.process_count() > 1:
            return self.gather(multihost_utils.process_allgather(tree, tiled=True))
        # block_until_ready raises if memory ran out, where NumPy's copy would abort the process.
        return self.gather(jax.tree.map(np.array, jax.block_until_ready(tree)))

    def shapes(self, tree: Any) -> Any:
        """Returns the shapes and dtypes that `fetch` would return."""
        groups = len(self.devices) // self.shards
        shape = lambda leaf: (groups * leaf.shape[1], *leaf.shape[2:])
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(shape(leaf), leaf.dtype), tree)

    def copies(self) -> Callable[[Any], Any]:
        """Returns a function that puts each leaf on each device: [...] -> [devices, ...].

        A CPU device uses a NumPy array whose memory is aligned to 64 bytes without a copy: the
        caller must not change it.
        """
        first, stop = self._own()
        return partial(jax.tree.map, lambda leaf: self._put([leaf] * (stop - first)))

    def _put(self, parts: Sequence[np.ndarray]) -> jax.Array:
        """Puts a part [...] on each device of this process, without a program: [devices, ...]."""
        mesh = jax.sharding.Mesh(self.devices, (DEVICES,))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(DEVICES))
        own = self.devices[slice(*self._own())]
        arrays = [
            jax.device_put(part[None], device) for part, device in zip(parts, own, strict=True)
        ]
        shape = len(self.devices), *parts[0].shape
        return jax.make_array_from_single_device_arrays(shape, sharding, arrays)

    def _groups(self, first: int, stop: int) -> range:
        """Returns the groups of shards that devices `first` to `stop` - 1 are in."""
        return range(first // self.shards, -(-stop // self.shards))

    def _own(self) -> tuple[int, int]:
        """Returns the range of this process's devices."""
        each = len(self.devices) // jax.process_count()
        return each * jax.process_index(), each * (jax.process_index() + 1)


def _spread(tree: Any, groups: int, shards: int) -> Any:
    """Reshapes leaves [R, ...] -> [groups x shards, R / groups, ...]."""

    def spread(leaf):
        leaf = leaf.reshape(groups, leaf.shape[0] // groups, *leaf.shape[1:])
        return leaf.repeat(shards, axis=0)

    return jax.tree.map(spread, tree)


def layout(
    num_replicas: int, *, shards: int = 1, devices: Sequence[jax.Device] | None = None
) -> Layout:
    """Returns the largest layout that divides the replicas evenly.

    All processes contribute the same number of devices.

    devices: of all processes; None: `jax.devices()`.

    Raises:
      UserError: there are fewer devices than shards, or the processes cannot share the work evenly.
    """
    devices = jax.devices() if devices is None else devices
    processes = len({device.process_index for device in devices})
    hosts = [[d for d in devices if d.process_index == p] for p in range(processes)]
    most = min(map(len, hosts)) * processes // shards
    if not most:
        raise UserError(
            f"replicas.shards must be 1 to {min(map(len, hosts)) * processes}, the number of "
            f"devices, got {shards}"
        )
    even = [
        n
        for n in range(1, min(most, num_replicas) + 1)
        if num_replicas % n == 0 and n * shards % processes == 0
    ]
    if not even:
        raise UserError(
            f"config.replicas: replicas x shards must be a multiple of {processes}, the number of "
            f"processes, that their {most * shards} devices can share evenly, got {num_replicas} x "
            f"{shards}"
        )
    each = max(even) * shards // processes
    return Layout([device for devices in hosts for device in devices[:each]], shards)

"""Connects the processes of a run and implements their collectives.

In a training, every process runs the same computations in the same order; in an evaluation, each
attacks its share of the examples. Only the first process writes files, except for checkpoints, of
which each process writes its replicas.
With one process the collectives cost nothing.
"""

import itertools
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from adv_jax.runner.host.threads import started
from adv_jax.types import UserError

_HEARTBEAT = 20  # seconds without a heartbeat until a process counts as dead
_NOTICE = 10  # seconds of waiting for other processes until it is said
_LONGEST = 240  # seconds of waiting; JAX aborts with a stack trace after 300


class Lost(UserError):
    """A collective failed, for example because another process has ended."""


def connect(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Connects to the other processes; call it before JAX's first computation.

    Args:
      coordinator: HOST:PORT of the first process; None for a single process; "auto" to take
        everything from Slurm, with the other arguments None.
      num_processes: number of processes.
      process_id: index of this process, from 0.

    Raises:
      UserError: the address is invalid, the processes do not connect within four minutes, or
        Slurm's variables are missing.
    """
    if not coordinator:
        for name, value in (("num_processes", num_processes), ("process_id", process_id)):
            if value is not None:
                raise UserError(f"--{name} must be unset without --coordinator, got {value}")
        return
    if coordinator == "auto":
        if "SLURM_JOB_ID" not in os.environ:
            allowed = "HOST:PORT of the first process outside a job of Slurm"
            raise UserError(f"--coordinator must be {allowed}, got 'auto' without SLURM_JOB_ID")
    else:
        host_and_port("--coordinator", coordinator, "HOST:PORT of the first process, or auto")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    address = None if coordinator == "auto" else coordinator
    given = {
        "coordinator": coordinator,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    flags = " ".join(f"--{name}={value}" for name, value in given.items() if value is not None)
    try:
        _wait_for(
            lambda: jax.distributed.initialize(
                address, num_processes, process_id, heartbeat_timeout_seconds=_HEARTBEAT
            ),
            f"waiting for the other processes: {flags}",
        )
    except (RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"cannot connect {flags}: {reason}") from error


def _wait_for(connects: Callable[[], None], notice: str) -> None:
    """Connects in a thread, as JAX would hold up signals; prints a notice if it takes long.

    Raises TimeoutError, and what `connects` raises.
    """
    ended = started(connects)
    if not wait([ended], timeout=_NOTICE).done:
        print(notice, flush=True)
    if not wait([ended], timeout=_LONGEST - _NOTICE).done:
        raise TimeoutError(f"the other processes have not connected within {_LONGEST} s")
    ended.result()


def host_and_port(flag: str, address: str, legal: str) -> tuple[str, int]:
    """Splits HOST:PORT.

    Args:
      flag: name for the error message.
      legal: allowed values for the error message.

    Raises:
      UserError: the address is not HOST:PORT, or the port is not in 1 to 65535.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"{flag} must be {legal}, got {address!r}")
    return host, int(port)


def is_first() -> bool:
    """Returns whether this process is the one that writes."""
    return jax.process_index() == 0


def silence_others() -> None:
    """Makes the first process the only one that prints; errors still go to stderr."""
    if not is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  Until the process ends.


def from_first(tree: Any) -> Any:
    """Broadcasts the first process's tree; shapes must agree -> NumPy arrays."""
    if jax.process_count() == 1:
        return tree
    # Send bytes: the broadcast is a sum with zeros, which would turn -0. into 0.
    sent = jax.tree.map(lambda leaf: np.frombuffer(np.asarray(leaf).tobytes(), np.uint8), tree)
    arrived = multihost_utils.broadcast_one_to_all(sent)

    def read(leaf, like):
        like = np.asarray(like)
        return np.frombuffer(np.asarray(leaf).tobytes(), like.dtype).reshape(like.shape)

    return jax.tree.map(read, arrived, tree)


def shares(num_rows: int, num_processes: int) -> list[range]:
    """Divides rows into a contiguous share for each process; their sizes differ by at most one.

    Raises:
      UserError: there are more processes than rows.

    >>> shares(5, 2)
    [range(0, 2), range(2, 5)]
    """
    if num_processes > num_rows:
        raise UserError(
            f"num_processes must be 1 to {num_rows}, the number of test examples, got "
            f"{num_processes}"
        )
    ends = [i * num_rows // num_processes for i in range(num_processes + 1)]
    return [range(*pair) for pair in itertools.pairwise(ends)]


def gather_rows(tree: Any, divided: Sequence[range]) -> Any:
    """Joins the rows of all processes, in the order of the processes. Collective.

    Args:
      tree: NumPy arrays f[..., n] of at most 32 bits, with the n rows of this process last.
      divided: the output of `shares`.

    Returns:
      The tree of NumPy arrays f[..., N].
    """
    if jax.process_count() == 1:
        return tree
    most = max(map(len, divided))

    def joined(node):
        if isinstance(node, dict):  # jax.tree.map would sort its keys.
            return {name: gather_rows(value, divided) for name, value in node.items()}
        padding = [(0, 0)] * (node.ndim - 1) + [(0, most - node.shape[-1])]
        parts = multihost_utils.process_allgather(np.pad(node, padding))
        own = [part[..., : len(rows)] for part, rows in zip(parts, divided, strict=True)]
        return np.concatenate(own, axis=-1)

    return jax.tree.map(joined, tree, is_leaf=lambda node: isinstance(node, dict))


def max_over_processes(flag: int) -> int:
    """Returns the largest flag of all processes. Collective."""
    if jax.process_count() == 1:
        return flag
    return int(multihost_utils.process_allgather(np.int32(flag)).max())


@contextmanager
def raise_on_all() -> Iterator[None]:
    """Raises UserError in all processes if one of them raises it. Collective.

    The body itself must not contain collectives.
    """
    own = None
    try:
        yield
    except UserError as error:
        own = error
    if max_over_processes(own is not None):
        raise own or UserError("another process failed; see its error message")


@contextmanager
def own_computation() -> Iterator[None]:
    """Raises UserError in all processes if one of them raises any error. Collective.

    For a body that calls the user's code, such as an attack: the other processes would wait for
    minutes. With a single process the error stays as it is.
    """
    with raise_on_all():
        try:
            yield
        except Exception as error:
            if jax.process_count() == 1 or isinstance(error, UserError):
                raise
            line = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise UserError(f"process {jax.process_index()} failed: {line}") from error


def check_shared(directory: Path) -> None:
    """Checks that all processes have the same directory. Collective.

    Raises:
      UserError: some do not see what the first process creates in it, or it cannot.
    """
    if jax.process_count() == 1:
        return
    # A random name: network file systems remember for a while which names did not exist.
    mark = directory / f"{from_first(np.int32(secrets.randbits(31)))}.part"
    with raise_on_all():
        if is_first():
            try:
                mark.mkdir()
            except OSError as error:
                raise UserError(f"{directory} cannot be written: {error.strerror}") from error
    try:
        with raise_on_all():
            if not mark.is_dir():
                raise UserError(
                    f"{directory} must be on a file system that all processes share, got one that "
                    "lacks a file of the first process"
                )
    finally:
        if is_first():
            mark.rmdir()


@contextmanager
def fail_together() -> Iterator[None]:
    """Raises Lost if a collective fails, for example because another process has ended."""
    try:
        yield
    # JAX raises ValueError if a compiled function fails while it starts.
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        known = isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)
        if jax.process_count() == 1 or not known:
            raise
        line = str(error).partition("\n")[0]
        raise Lost(
            f"lost contact with another process ({line}); see its error message, and run the same "
            "commands again"
        ) from error


def end(error: Lost) -> NoReturn:
    """Prints the error and ends this process with status 1."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1)  # JAX's exit handler would wait for the lost process and then abort.

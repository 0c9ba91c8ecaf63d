"""Several processes that run one program: how they meet, and what they tell each other.

Every process runs the same computations in the same order; the first one alone writes files.
With a single process all of this is free.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from adv_jax.types import UserError

_HEARTBEAT = 20  # seconds without one, after which a process is taken for dead


class Lost(UserError):
    """What the processes do together has failed, as it does where one of them has ended."""


def connect(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Meets the other processes, if there are any; before JAX's first computation.

    Args:
      coordinator: HOST:PORT of the first process; "auto", and the others None: as Slurm says; None:
        this process is alone.
      num_processes: how many there are.
      process_id: which one this is, from 0.

    Raises:
      UserError: an address that is none; they do not meet within minutes, or nothing says who
        they are.
    """
    if not coordinator:
        for name, value in (("num_processes", num_processes), ("process_id", process_id)):
            if value is not None:
                found = f"--{name} is {value}"
                raise UserError(f"{found}; allowed is none without --coordinator")
        return
    if coordinator != "auto":
        host_and_port("--coordinator", coordinator, "HOST:PORT of the first process, or auto")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            None if coordinator == "auto" else coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=_HEARTBEAT,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        where = f"--coordinator is {coordinator!r}, --num_processes {num_processes}"
        raise UserError(f"{where}, --process_id {process_id}: {reason}") from error


def host_and_port(flag: str, address: str, legal: str) -> tuple[str, int]:
    """The parts of an address.

    Args:
      legal: what is allowed, in words.

    Raises:
      UserError: it is not HOST:PORT, or no port has that number.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"{flag} is {address!r}; allowed is {legal}")
    return host, int(port)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def from_first(tree: Any) -> Any:
    """The first process' tree of arrays, of the same shapes in all; NumPy arrays."""
    if jax.process_count() == 1:
        return tree
    # As bytes: what arrives is a sum with the others' zeros, in which -0. would become 0.
    sent = jax.tree.map(lambda leaf: np.frombuffer(np.asarray(leaf).tobytes(), np.uint8), tree)
    arrived = multihost_utils.broadcast_one_to_all(sent)

    def read(leaf, like):
        like = np.asarray(like)
        return np.frombuffer(np.asarray(leaf).tobytes(), like.dtype).reshape(like.shape)

    return jax.tree.map(read, arrived, tree)


def max_over_processes(flag: int) -> int:
    """The largest of the processes' numbers: 0 only if none has another."""
    if jax.process_count() == 1:
        return flag
    return int(multihost_utils.process_allgather(np.int32(flag)).max())


@contextmanager
def raise_on_all() -> Iterator[None]:
    """What one process refuses here, all do; they enter it together, before they share anything.

    Raises:
      UserError: this process' own, or that it is another's.
    """
    refusal = None
    try:
        yield
    except UserError as error:
        refusal = error
    if max_over_processes(refusal is not None):
        raise refusal or UserError("another process refuses the run; its own words say why")


@contextmanager
def fail_together() -> Iterator[None]:
    """Tells in words that the others are gone.

    Raises:
      Lost: for JAX's error.
    """
    try:
        yield
    # What a compiled function meets as it starts, JAX raises as a ValueError.
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        known = isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)
        if jax.process_count() == 1 or not known:
            raise
        line = str(error).partition("\n")[0]
        raise Lost(
            f"the processes can no longer work together ({line}); the words of another one that "
            "has ended say why, and the same commands go on from what was saved"
        ) from error

"""The topologies by their names, TPUs and GPUs."""

from adv_jax.types import UserError, not_one_of
from launch.compiling import gpus, tpus
from launch.compiling.target import Target


def target(topology: str) -> Target:
    """Returns the devices of a topology, such as v5e:4x4, h100:8 or h100:4x8.

    Raises:
      UserError: an unknown topology, or its compiler is not installed.
    """
    if topology in tpus.TOPOLOGIES:
        return tpus.target(topology)
    if found := gpus.target(topology):
        return found
    legal = (*tpus.TOPOLOGIES, *gpus.EXAMPLES)
    chip, colon, _ = topology.partition(":")
    of_chip = [name for name in legal if name.startswith(f"{chip}{colon}")] if colon else []
    raise UserError(not_one_of("--topology", topology, of_chip or legal))

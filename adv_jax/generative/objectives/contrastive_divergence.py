"""Contrastive divergence, from the data or with persistent chains, for Boltzmann machines."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from adv_jax.generative import boltzmann
from adv_jax.generative.boltzmann import Machine, Side
from adv_jax.objectives.stating import objective
from adv_jax.ranges import COUNT
from adv_jax.types import Apply, Array, Aux, Batch, Key, Metrics, Variables


@objective(predicts=("loss",), ranges={"steps": COUNT})
def contrastive_divergence(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    steps: int = 1,
) -> tuple[Array, Aux]:
    """Returns F(v) - F(v'), v' after some Gibbs steps from v, and detached: CD-k.

        -d log p(v) / d theta = dF(v) / d theta - E_{p(v')} dF(v') / d theta

    The gradient of the loss is this one, with the samples v' in place of the expectation. The loss
    itself is no measure of progress. F(v) of a deep machine is replaced by `boltzmann.bound`.

    Args:
      apply: a `models.boltzmann` or a `models.dbn`, or a model like them. The loss of a deep belief
        network is the sum over its RBMs, each with data of its own.
      batch: {"x": f32[B, *D], "y": i32[B]}; labels are not used. Values in [0, 1] of binary units
        are probabilities, from which v is drawn.
      key: for v and the chains.
      steps: k, >= 1, Gibbs steps.

    Returns:
      loss f32[] in nats, and ({}, metrics): "data" and "samples", the mean free energies.

    Sources: [hinton2002]; [maronas2016], sec. 3.6.1, eq. 13, and eq. 70.
    """
    key_data, key_chains = jax.random.split(key)
    machines, data = _machines(apply, variables, batch["x"], key_data)
    loss, _, metrics = _contrast(machines, data, data, key_chains, steps)
    return loss, ({}, metrics)


def chains(apply: Apply, variables: Variables, x: Array) -> Variables:
    """Returns the chains of the first step, all units 0, one for each row of x f32[B, *D]."""
    machines, _ = _machines(apply, variables, x, jax.random.key(0))

    def at_0(machine: Machine) -> Side:
        dtype = machine.visible_bias.dtype
        return tuple(jnp.zeros((len(x), units), dtype) for units in machine.units(boltzmann.EVEN))

    return {"chains": _named([at_0(machine) for machine in machines])}


@objective(predicts=("loss",), state=chains, ranges={"steps": COUNT})
def persistent_contrastive_divergence(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    steps: int = 1,
) -> tuple[Array, Aux]:
    """Returns F(v) - F(v'), v' in Gibbs chains that go on from step to step: PCD.

    There are as many chains as rows of a batch, and they do not start again at the data.

    Args:
      apply, batch, key, steps: as in `contrastive_divergence`.
      variables: those of the model, and "chains", first those of this objective's `state`.

    Returns:
      as `contrastive_divergence`; the model state has the chains after these steps.

    Sources: [tieleman2008]; [salakhutdinov2009], sec. 2.1 (deep machines).
    """
    key_data, key_chains = jax.random.split(key)
    machines, data = _machines(apply, variables, batch["x"], key_data)
    starts = [variables["chains"][name] for name in sorted(variables["chains"])]
    loss, ends, metrics = _contrast(machines, data, starts, key_chains, steps)
    return loss, ({"chains": _named(ends)}, metrics)


def _named(sides: Sequence[Side]) -> dict[str, Side]:
    return {f"machine{number:02}": side for number, side in enumerate(sides, start=1)}


def _machines(
    apply: Apply, variables: Variables, x: Array, key: Key
) -> tuple[Sequence[Machine], Sequence[Side]]:
    """Returns the machines of a model, and the even layers of each at the data."""
    extras = apply(variables, x, key=key, method="machines").extras
    return extras["machines"], extras["data"]


def _contrast(
    machines: Sequence[Machine],
    data: Sequence[Side],
    starts: Sequence[Side],
    key: Key,
    steps: int,
) -> tuple[Array, list[Side], Metrics]:
    """Returns the loss, the chains after these steps from `starts`, and the metrics."""
    keys = jax.random.split(key, len(machines))
    ends = [
        boltzmann.gibbs(jax.lax.stop_gradient(machine), start, own, steps)
        for machine, start, own in zip(machines, starts, keys, strict=True)
    ]
    pairs = lambda sides: zip(machines, sides, strict=True)
    of_data = [jnp.mean(boltzmann.bound(*pair)) for pair in pairs(data)]
    of_samples = [jnp.mean(boltzmann.free_energy(*pair)) for pair in pairs(ends)]
    metrics = {"data": jnp.sum(jnp.stack(of_data)), "samples": jnp.sum(jnp.stack(of_samples))}
    return metrics["data"] - metrics["samples"], ends, metrics

"""The partition function of a Boltzmann machine, exact and by annealed importance sampling."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.checks import checked_count
from adv_jax.generative import boltzmann
from adv_jax.generative.boltzmann import EVEN, ODD, Machine, Side
from adv_jax.programs import run_compiled
from adv_jax.random import one_key
from adv_jax.types import Array, Key, UserError, check_known, described, is_known, is_real, widened

_MOST_UNITS = 25  # of an exact sum, 2^25 states
_BLOCK = 12  # 2^12 states at a time


class LogPartition(NamedTuple):
    """An estimate of log Z.

    value: f32[], in nats.
    standard_error: f32[], of the value, from the spread of the chains' weights; too small if some
      modes were not visited.
    """

    value: Array
    standard_error: Array


def log_partition(machine: Machine) -> Array:
    """Returns log Z by a sum over all states of one side of the machine: f32[] in nats.

    log p(v) of an RBM is `-boltzmann.free_energy(machine, (v,)) - log_partition(machine)`.

    Raises:
      UserError: the shapes of a machine do not fit, or it is not finite; no side of binary units
        has 25 units or fewer.

    >>> zeros = jnp.zeros
    >>> machine = Machine(zeros(3), (zeros((3, 2)),), (zeros(2),))  # 2^5 states of energy 0
    >>> log_partition(machine) / jnp.log(2.)
    Array(5., dtype=float32)
    """
    machine = _checked(machine)
    sides = [ODD] if machine.visible == "gaussian" else [EVEN, ODD]
    sizes = {side: sum(machine.units(side)) for side in sides}
    side = min(sizes, key=lambda side: sizes[side])
    count = sizes[side]
    if count > _MOST_UNITS:
        raise UserError(
            f"machine must have a side of at most {_MOST_UNITS} binary units for an exact sum, "
            f"got {count}; annealed_log_partition estimates it"
        )
    block = min(count, _BLOCK)
    splits = np.cumsum(machine.units(side))[:-1]

    def of_block(index: Array) -> Array:
        numbers = index * 2**block + jnp.arange(2**block)
        bits = (numbers[:, None] >> jnp.arange(count)[None]) & 1
        states = tuple(jnp.split(bits.astype(machine.dtype), splits, axis=1))
        return jax.nn.logsumexp(-boltzmann.free_energy(machine, states, side))

    blocks = jnp.arange(2 ** (count - block))
    return run_compiled(lambda blocks: jax.nn.logsumexp(jax.lax.map(of_block, blocks)), blocks)


def annealed_log_partition(
    machine: Machine,
    betas: Array,
    *,
    key: Key,
    num_chains: int = 100,
    base_biases: Side | None = None,
) -> LogPartition:
    """Returns log Z by annealed importance sampling (AIS).

        Z / Z_0 ~ 1/M sum_i w_i,   w = prod_t exp(F_{t-1}(s_{t-1}) - F_t(s_{t-1}))

    The parameters of machine t are (1 - beta_t) base + beta_t machine. The base has the biases
    `base_biases` of the even layers and no other parameters, so that Z_0 is known. s_t are the even
    layers of a chain, after a Gibbs step of machine t.

    The estimate of a deep machine can be far too low, whatever its error says: if most hidden units
    are off given the data, chains that start with half of them on may never reach the states of the
    data. Give the base the biases of the data then. log Z of binary units is not below
    `logsumexp(-bound(machine, even))` of distinct v, which shows a gross failure.

    Args:
      betas: f[T + 1], from 0 to 1, never falling; the source takes about 15,000 steps, most of
        them near 1.
      key: for the chains.
      num_chains: M, >= 2.
      base_biases: (f[D], f[D_2], ...) of v, h2, ..., best the log-odds of the means that they have
        given the data; default: the machine's own.

    Raises:
      UserError: num_chains below 2; betas of another shape, or that fall or do not go from 0 to 1;
        base_biases of other shapes; no key; the shapes of a machine do not fit, or it is not
        finite.

    Source: [salakhutdinov2008], sec. 3 and 4, whose base has biases of the visible units only.
    """
    machine = _checked(machine)
    num_chains = checked_count("num_chains", num_chains)
    if num_chains < 2:
        raise UserError(f"num_chains must be at least 2 for a standard error, got {num_chains}")
    betas = _checked_betas(betas).astype(machine.dtype)
    key = one_key(key)
    base = _base(machine, base_biases)

    def at(beta: Array) -> Machine:
        return jax.tree.map(lambda a, b: (1 - beta) * a + beta * b, base, machine)

    def step(state: tuple[Side, Array], now: tuple[Array, Array, Key]) -> tuple[Any, None]:
        even, log_weights = state
        last, beta, key = now
        log_weights += boltzmann.free_energy(at(last), even)
        log_weights -= boltzmann.free_energy(at(beta), even)
        return (boltzmann.gibbs(at(beta), even, key, 1), log_weights), None

    key_start, key_chains = jax.random.split(key)
    # Without connections the odd layers do not matter.
    odd = tuple(jnp.zeros((num_chains, units), base.dtype) for units in machine.units(ODD))
    even = boltzmann.sample(base, odd, key_start, ODD)
    keys = jax.random.split(key_chains, len(betas) - 1)
    start = even, jnp.zeros_like(even[0], shape=(num_chains,))
    walk = lambda start, *steps: jax.lax.scan(step, start, steps)[0]
    _, log_weights = run_compiled(walk, start, betas[:-1], betas[1:], keys)
    weights = jnp.exp(log_weights - jnp.max(log_weights))
    error = jnp.std(weights, ddof=1) / (jnp.mean(weights) * math.sqrt(num_chains))
    log_mean = jax.nn.logsumexp(log_weights) - math.log(num_chains)
    return LogPartition(log_mean + _without_connections(base), error)


def _checked(machine: Machine) -> Machine:
    """Returns a machine of float32 (float64 if it is): sums in 16 bits are nats off.

    Raises:
      UserError: as `Machine.check`; a known parameter is not finite.
    """
    machine.check()
    machine = jax.tree.map(lambda parameter: widened(jnp.asarray(parameter)), machine)
    for parameter in jax.tree.leaves(machine):
        check_known("machine", parameter, np.isfinite, "of finite parameters")
    return machine


def _base(machine: Machine, base_biases: Side | None) -> Machine:
    """Returns a machine that has the biases of the even layers and no other parameters."""
    own = (machine.visible_bias, *machine.biases)[EVEN::2]
    given = own if base_biases is None else base_biases
    is_tuple = isinstance(given, tuple | list)
    if not is_tuple or [jnp.shape(bias) for bias in given] != [bias.shape for bias in own]:
        expected = ", ".join(f"f[{len(bias)}]" for bias in own)
        raise UserError(
            f"base_biases must be ({expected}), one for each even layer, got {described(given)}"
        )
    zeros = jax.tree.map(jnp.zeros_like, machine)
    biases = list(zeros.biases)
    visible_bias, *biases[1::2] = (jnp.asarray(bias).astype(machine.dtype) for bias in given)
    return zeros.replace(visible_bias=visible_bias, biases=tuple(biases))


def _without_connections(machine: Machine) -> Array:
    """Returns log Z of a machine without connections."""
    softplus = lambda bias: jnp.sum(jax.nn.softplus(bias))
    gaussian = len(machine.visible_bias) / 2 * math.log(2 * math.pi)
    visible = gaussian if machine.visible == "gaussian" else softplus(machine.visible_bias)
    return visible + jnp.sum(jnp.stack([softplus(bias) for bias in machine.biases]))


def _checked_betas(betas: Array) -> Array:
    """Returns the inverse temperatures as a JAX array."""
    if not is_real(betas) or np.ndim(betas) != 1 or np.size(betas) < 2:
        raise UserError(f"betas must be f[T + 1] with T at least 1, got {described(betas)}")
    found = jnp.asarray(betas)
    if is_known(found):
        values = np.asarray(found)
        if values[0] != 0 or values[-1] != 1 or not (np.diff(values) >= 0).all():
            raise UserError(f"betas must rise from 0 to 1, got {described(values.tolist())}")
    return found

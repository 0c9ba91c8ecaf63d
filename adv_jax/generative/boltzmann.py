"""Boltzmann machines of layers v, h1, ..., hL, each connected to its neighbors only.

    p(v, h) = exp(-E(v, h)) / Z
    E = E_0(v) - sum_l b_l h_l - sum_l h_{l-1} W_l h_l,     h_0 = v
    E_0 = -b_0 v for binary visible units, |v - b_0|^2 / 2 for Gaussian ones of unit variance

One hidden layer makes a restricted Boltzmann machine (RBM), several make a deep one (DBM). Given
the even layers (v, h2, ...) the units of the odd ones (h1, h3, ...) are independent, and the other
way around. So a side of the machine is a tuple of its layers, and `given` names the known side.
Functions of a side refuse layers of other shapes than the machine's, and a machine that
`Machine.check` refuses, by a UserError.

Sources: [salakhutdinov2008], eq. 1 to 5; [salakhutdinov2009], sec. 2 and 3; [maronas2016],
sec. 3.6.1 and Appendix 3.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import flax.struct
import jax
import jax.numpy as jnp

from adv_jax.checks import checked_number
from adv_jax.programs import run_compiled
from adv_jax.random import one_key
from adv_jax.types import (
    Array,
    Key,
    UserError,
    check_choice,
    described,
    is_real,
    working_dtype,
)

Visible = Literal["binary", "gaussian"]
KINDS = get_args(Visible)
Side = tuple[Array, ...]  # f[B, D_l] of each layer of a side, from the bottom up
EVEN, ODD = 0, 1  # of layers: v, h2, ... and h1, h3, ...
_STEPS = "{0, 1, ...}"


class Machine(flax.struct.PyTreeNode):
    """The parameters of a Boltzmann machine.

    visible_bias: b_0, f[D].
    kernels: W_l, f[D_{l-1}, D_l] for l = 1, ..., L.
    biases: b_l, f[D_l] for l = 1, ..., L.
    visible: the kind of the visible units; the functions below refuse an unknown one.
    """

    visible_bias: Array
    kernels: tuple[Array, ...]
    biases: tuple[Array, ...]
    visible: Visible = flax.struct.field(pytree_node=False, default="binary")

    @property
    def dtype(self) -> Any:
        """The dtype that JAX gives the parameters, also to NumPy arrays of float64."""
        return jax.dtypes.canonicalize_dtype(self.visible_bias.dtype)

    def units(self, side: int) -> tuple[int, ...]:
        """Returns the number of units of each layer of a side."""
        return tuple(len(bias) for bias in (self.visible_bias, *self.biases)[side::2])

    def check(self) -> None:
        """Checks the parameters and the kind of the visible units.

        Raises:
          UserError: the kind is unknown, a parameter is no array of floats, there is no hidden
            layer, a bias has no axis or several, or the kernels do not connect each layer with the
            next.
        """
        check_choice("machine.visible", self.visible, KINDS)
        for parameter in (self.visible_bias, *self.kernels, *self.biases):
            if not jnp.issubdtype(getattr(parameter, "dtype", object), jnp.floating):
                raise UserError(
                    "machine must have arrays of floats as biases and kernels, got "
                    f"{described(parameter)}"
                )
        units = [jnp.shape(bias) for bias in (self.visible_bias, *self.biases)]
        if len(units) < 2 or any(len(shape) != 1 for shape in units):
            raise UserError(
                "machine must have a bias f[D] of the visible units and of one hidden layer or "
                f"more, got the shapes {described(units)}"
            )
        expected = [below + above for below, above in pairwise(units)]
        if (found := [jnp.shape(kernel) for kernel in self.kernels]) != expected:
            raise UserError(
                "machine.kernels must have a kernel from each layer to the next, of the shapes "
                f"{described(expected)}, got {described(found)}"
            )


def energy(machine: Machine, even: Side, odd: Side) -> Array:
    """Returns E(v, h): f[B]; hidden units may be means in [0, 1], of which E is linear.

    Raises:
      UserError: the layers do not have the machine's shapes, or the sides differ in rows.
    """
    even, odd = _checked_side(machine, even, EVEN), _checked_side(machine, odd, ODD)
    if len(even[0]) != len(odd[0]):
        raise UserError(
            f"the odd layers must have B = {len(even[0])} rows, as the even ones, got {len(odd[0])}"
        )
    linear = _unary(machine, even, EVEN) + _unary(machine, odd, ODD)
    layers = in_order(even, odd)
    pairs = zip(layers[:-1], machine.kernels, layers[1:], strict=True)
    return linear - sum(jnp.sum(below @ kernel * above, axis=1) for below, kernel, above in pairs)


def free_energy(machine: Machine, known: Side, given: int = EVEN) -> Array:
    """Returns F(known) = -log sum_other exp(-E), over all states of the other side: f[B].

    For an RBM and given=EVEN this is F(v) = E_0(v) - sum_j log(1 + exp(b_j + v W_j)), and
    log p(v) = -F(v) - log Z. Gaussian units are integrated.
    """
    found = _unary(machine, known, given)
    for layer, total in _inputs(machine, known, given).items():
        if _is_gaussian(machine, layer):
            squares = jnp.sum(total**2, axis=1) - jnp.sum(machine.visible_bias**2)
            found -= (squares + total.shape[1] * jnp.log(2 * jnp.pi)) / 2
        else:
            found -= jnp.sum(jax.nn.softplus(total), axis=1)
    return found


def means(machine: Machine, known: Side, given: int = EVEN) -> Side:
    """Returns the expectation of each unit of the other side; of binary units, p(1 | known)."""
    return tuple(
        total if _is_gaussian(machine, layer) else jax.nn.sigmoid(total)
        for layer, total in _inputs(machine, known, given).items()
    )


def sample(machine: Machine, known: Side, key: Key, given: int = EVEN) -> Side:
    """Draws the other side given the known one.

    Raises:
      UserError: key is not one key.
    """
    found = means(machine, known, given)
    keys = jax.random.split(one_key(key), len(found))
    first = 1 - given  # the lowest layer of the other side
    return tuple(
        mean + jax.random.normal(key, mean.shape, mean.dtype)
        if _is_gaussian(machine, first + 2 * index)
        else draw(mean, key)
        for index, (mean, key) in enumerate(zip(found, keys, strict=True))
    )


def draw(probabilities: Array, key: Key) -> Array:
    """Draws binary units: 1 with these probabilities, else 0."""
    # Uniform numbers of 16 bits are multiples of 1/256 or 1/2048.
    fine = working_dtype(probabilities.dtype)
    uniform = jax.random.uniform(key, probabilities.shape, fine)
    return (uniform < probabilities.astype(fine)).astype(probabilities.dtype)


def gibbs(machine: Machine, even: Side, key: Key, steps: int) -> Side:
    """Takes Gibbs steps, 0 or more: each draws the odd layers, then the even ones.

    Raises:
      UserError: steps below 0; key is not one key; the layers do not have the machine's shapes.
    """
    steps = checked_number("steps", steps, _STEPS)

    def step(even: Side, key: Key) -> tuple[Side, None]:
        key_odd, key_even = jax.random.split(key)
        odd = sample(machine, even, key_odd, EVEN)
        return sample(machine, odd, key_even, ODD), None

    even = _checked_side(machine, even, EVEN)
    walk = lambda even, keys: jax.lax.scan(step, even, keys)[0]
    return run_compiled(walk, even, jax.random.split(one_key(key), steps))


def mean_field(machine: Machine, v: Array, steps: int) -> Side:
    """Returns the means of the even layers (v, h2, ...) of the best factorial posterior of v.

        mu_l <- sigmoid(b_l + mu_{l-1} W_l + W_{l+1} mu_{l+1}),   mu_0 = v

    in turns for the odd and the even layers, which never increases `bound`. The start is a pass
    upwards without feedback, which 0 steps return. An RBM needs no step: its posterior is
    factorial.

    Raises:
      UserError: v is not f[B, D]; the shapes of the machine do not fit; steps below 0.

    Source: [salakhutdinov2009], eq. 7.
    """
    machine.check()
    steps = checked_number("steps", steps, _STEPS)
    width = len(machine.visible_bias)
    if jnp.ndim(v) != 2 or jnp.shape(v)[1] != width:
        raise UserError(f"v must be f[B, {width}], got {described(v)}")
    v = _with_parameters(machine, v)
    mu = [v]
    for bias, kernel in zip(machine.biases, machine.kernels, strict=True):
        mu.append(jax.nn.sigmoid(bias[None] + mu[-1] @ kernel))
    start = tuple(mu[::2])
    if len(start) == 1:
        return start

    def step(even: Side, _: None) -> tuple[Side, None]:
        odd = means(machine, even, EVEN)
        return (v, *means(machine, odd, ODD)[1:]), None

    return run_compiled(lambda start: jax.lax.scan(step, start, length=steps)[0], start)


def bound(machine: Machine, even: Side) -> Array:
    """Returns an upper bound of the free energy of v, that of a factorial posterior: f[B].

        E_q E(v, h) - H(q)  >=  F(v),    equal for an RBM

    q has the means `even` of h2, h4, ... and the best ones of the odd layers, whose sum is exact.
    Its derivative by the parameters at the fixed point of `mean_field` is E_q dE: detach `even`.

    Source: [salakhutdinov2009], eq. 5 and 6.
    """
    entropies = (
        jnp.sum(jax.scipy.special.entr(mu) + jax.scipy.special.entr(1 - mu), axis=1)
        for mu in even[1:]
    )
    return free_energy(machine, even) - sum(entropies)


def doubled(rbms: Sequence[Machine]) -> tuple[Machine, ...]:
    """Returns the modified RBMs of a greedy start of a deep machine, of two layers or more.

    The first RBM has two copies of its visible units with equal weights, the last two copies of
    its hidden units; those between have twice the weights:

        p(h1 = 1 | v) = sigmoid(2 v W_1 + b),     p(h_L = 1 | h_{L-1}) = sigmoid(h_{L-1} W_L + b)
        p(v = 1 | h1) = sigmoid(h1 W_1^T + b),    p(h_{L-1} = 1 | h_L) = sigmoid(2 h_L W_L^T + b)

    So an inner layer has in each RBM the input that it has in the deep machine from both sides.

    rbms: each has one hidden layer of binary units, which are the visible units of the next.

    Raises:
      UserError: fewer than two RBMs; one has several hidden layers, or its visible units are not
        the hidden ones of the RBM before it; as `Machine.check`.

    Source: [salakhutdinov2009], sec. 3.1.
    """
    _check_stack(rbms)
    first, *middle, last = rbms
    twice = lambda machine: machine.replace(kernels=(2 * machine.kernels[0],))
    return (
        Machine(
            jnp.tile(first.visible_bias, 2),
            (jnp.tile(first.kernels[0], (2, 1)),),
            first.biases,
            visible=first.visible,
        ),
        *map(twice, middle),
        Machine(
            last.visible_bias,
            (jnp.tile(last.kernels[0], (1, 2)),),
            (jnp.tile(last.biases[0], 2),),
        ),
    )


def _check_stack(rbms: Sequence[Machine]) -> None:
    """Raises UserError unless each machine is an RBM on the hidden units of the one before it."""
    if len(rbms) < 2:
        raise UserError(f"rbms must be two machines or more, got {len(rbms)}")
    for rbm in rbms:
        rbm.check()
        if len(rbm.biases) != 1:
            raise UserError(f"rbms must have one hidden layer each, got {len(rbm.biases)}")
    for below, above in pairwise(rbms):
        (expected,), (found,) = below.units(ODD), above.units(EVEN)
        if above.visible != "binary" or found != expected:
            raise UserError(
                f"rbms must have the hidden units of an RBM, {expected} binary ones, as the "
                f"visible units of the next, got {found} {above.visible} ones"
            )


def in_order(even: Side, odd: Side) -> list[Array]:
    """Returns the layers v, h1, h2, ... of both sides."""
    return [(even, odd)[layer % 2][layer // 2] for layer in range(len(even) + len(odd))]


def _is_gaussian(machine: Machine, layer: int) -> bool:
    return layer == 0 and machine.visible == "gaussian"


def _unary(machine: Machine, known: Side, side: int) -> Array:
    """Returns the part of the energy without connections: f[B]."""
    known = _checked_side(machine, known, side)
    own = (machine.visible_bias, *machine.biases)[side::2]
    found = jnp.zeros(len(known[0]), known[0].dtype)
    for index, (states, bias) in enumerate(zip(known, own, strict=True)):
        if _is_gaussian(machine, side + 2 * index):
            found += jnp.sum((states - bias[None]) ** 2, axis=1) / 2
        else:
            found -= states @ bias
    return found


def _inputs(machine: Machine, known: Side, given: int) -> dict[int, Array]:
    """Returns the total input of each layer of the other side, {layer: f[B, D_l]}."""
    known = _checked_side(machine, known, given)
    biases, kernels = (machine.visible_bias, *machine.biases), machine.kernels
    found = {}
    for layer in range(1 - given, len(biases), 2):
        total = jnp.broadcast_to(biases[layer], (len(known[0]), len(biases[layer])))
        if layer > 0:
            total += known[(layer - 1) // 2] @ kernels[layer - 1]
        if layer < len(kernels):
            total += known[(layer + 1) // 2] @ kernels[layer].T
        found[layer] = total
    return found


def _checked_side(machine: Machine, states: Side, side: int) -> Side:
    """Returns states that are those of all layers of a side, after a check of the machine too."""
    if not isinstance(machine, Machine):
        raise UserError(f"machine must be a boltzmann.Machine, got {described(machine)}")
    machine.check()
    check_choice("given", side, (EVEN, ODD))
    units, name = machine.units(side), "odd" if side == ODD else "even"
    expected = f"the {name} layers must be {', '.join(f'f[B, {count}]' for count in units)}"
    if not isinstance(states, tuple | list) or not all(map(is_real, states)):
        raise UserError(f"{expected}, got {described(states)}")
    found = [jnp.shape(layer) for layer in states]
    rows = found[0][:1] if found else ()
    if found != [(*rows, count) for count in units]:
        raise UserError(f"{expected}, got the shapes {described(found)}")
    return tuple(_with_parameters(machine, layer) for layer in states)


def _with_parameters(machine: Machine, states: Array) -> Array:
    """Returns states in the dtype of their products with the parameters, which Gibbs steps keep."""
    states = jnp.asarray(states)
    with jax.numpy_dtype_promotion("standard"):
        return states.astype(jnp.promote_types(states.dtype, machine.dtype))

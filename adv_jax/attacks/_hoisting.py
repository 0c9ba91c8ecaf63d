"""Computes what does not depend on x before an attack's loop: casts of weights, roots of variances.

XLA does not move these operations out of a loop, where each is a kernel of every step on a GPU.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from jax.tree_util import Partial

from adv_jax.programs import bound, new_jaxpr
from adv_jax.types import Array


class _Value:
    """A value in a function: an argument, an array that it reads, or a result of an operation.

    sources: the arrays from which it is computed; None if it depends on an argument.
    """

    def __init__(self, aval: Any, sources: frozenset["_Value"] | None):
        self.bytes, self.sources = aval.size * aval.dtype.itemsize, sources

    @property
    def is_held(self) -> bool:
        """Whether it depends on no argument and is not larger than its sources."""
        return self.sources is not None and self.bytes <= sum(s.bytes for s in self.sources)


Atom = _Value | Literal
Arrays = dict[_Value, Array]


class _Step:
    """An operation on values; is_early: it depends on no argument."""

    def __init__(self, eqn: JaxprEqn, inputs: list[Atom]):
        read = [value.sources for value in inputs if isinstance(value, _Value)]
        held = [sources for sources in read if sources is not None]
        self._eqn, self.inputs, self.has_effects = eqn, inputs, bool(eqn.effects)
        self.is_early = len(held) == len(read) and not self.has_effects
        sources = frozenset().union(*held) if self.is_early else None
        self.outputs = [_Value(var.aval, sources) for var in eqn.outvars]

    def run(self, arrays: Arrays) -> None:
        """Adds its results to the arrays of the values."""
        inputs = [_array(value, arrays) for value in self.inputs]
        arrays.update(zip(self.outputs, bound(self._eqn, self._eqn.params)(*inputs), strict=True))


def hoisted(fn: Callable[..., Any], x: Array) -> Partial:
    """Returns fn with what depends neither on x nor on the arrays of a `Partial` computed now.

    Its values and derivatives are those of fn. A result that is larger than the arrays from which
    it is computed, such as a broadcast bias, stays where it is: held, it would take memory. So do
    operations inside loops, branches and functions with derivatives of their own.

    Args:
      fn: f[B, *D] -> a tree of arrays. A Partial keeps its arrays, which have the rows of x.
      x: f[B, *D]. At other shapes fn computes all of it.
    """
    fn, rows = (fn.func, fn.args) if isinstance(fn, Partial) else (fn, ())
    traced, outputs = new_jaxpr(fn, *rows, x)
    like, tree = _types((*rows, x)), jax.tree.structure(outputs)
    arguments = [_Value(aval, None) for aval in traced.in_avals]
    steps: list[_Step] = []
    arrays: Arrays = {}
    results = _flattened(traced, arguments, steps, arrays)
    for step in steps:
        if step.is_early:
            step.run(arrays)
    later = _later(steps, results)

    def rest(*args: Any) -> Any:
        if _types(args) != like:
            return fn(*args)
        found = arrays | dict(zip(arguments, jax.tree.leaves(args), strict=True))
        for step in later:
            step.run(found)
        return jax.tree.unflatten(tree, [_array(value, found) for value in results])

    return Partial(rest, *rows)


def _flattened(
    closed: ClosedJaxpr, inputs: Sequence[Atom], steps: list[_Step], arrays: Arrays
) -> list[Atom]:
    """Adds the operations of a function to steps, what it reads to arrays -> its results.

    Jitted functions that compute something of arrays are inlined.
    """
    values: dict[Any, Atom] = dict(zip(closed.jaxpr.invars, inputs, strict=True))
    for var, const in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        values[var] = source = _Value(var.aval, None)
        source.sources = frozenset({source})
        arrays[source] = const
    read = lambda atom: atom if isinstance(atom, Literal) else values[atom]
    for eqn in closed.jaxpr.eqns:
        given = [read(atom) for atom in eqn.invars]
        if _is_inlined(eqn, given):
            outputs = _flattened(eqn.params["jaxpr"], given, steps, arrays)
        else:
            steps.append(_Step(eqn, given))
            outputs = steps[-1].outputs
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _is_inlined(eqn: JaxprEqn, inputs: list[Atom]) -> bool:
    """Returns whether an equation calls a jitted function, without options, that reads arrays."""
    params = eqn.params
    if eqn.primitive.name not in ("jit", "pjit"):
        return False
    asked = (*params["in_shardings"], *params["out_shardings"], *params["compiler_options_kvs"])
    if any(isinstance(option, jax.sharding.Sharding | tuple) for option in asked):
        return False
    reads = any(isinstance(value, _Value) and value.sources for value in inputs)
    return reads or bool(params["jaxpr"].consts)


def _later(steps: list[_Step], results: list[Atom]) -> list[_Step]:
    """Returns the steps that compute the results from the arguments and the values held."""
    needed = {value for value in results if isinstance(value, _Value)}
    later = []
    for step in reversed(steps):
        found = needed.intersection(step.outputs)
        if step.has_effects or not all(value.is_held for value in found):
            later.append(step)
            needed.update(value for value in step.inputs if isinstance(value, _Value))
    return later[::-1]


def _types(tree: Any) -> list[Any]:
    return [jax.typeof(leaf) for leaf in jax.tree.leaves(tree)]


def _array(atom: Atom, arrays: Arrays) -> Any:
    return atom.val if isinstance(atom, Literal) else arrays[atom]

"""The one cache of compiled programs: of attacks that are called outside `jit`, and of evaluations.

Outside `jit`, JAX compiles each operation alone, recompiles a loop in each call, and keeps every
program for good. Here a function is traced once per call and known by its operations. The arrays
that it reads are arguments of the program: other weights, or another lambda of the same model,
reuse it, and no program holds a model. A jitted function is traced by `jax.jit`'s own cache.
"""

import contextlib
import hashlib
import inspect
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

from adv_jax.types import Array, UserError

MAX_PROGRAMS = 64  # auto_attack takes 750 memory maps each; Linux allows 65,530 per process.

_Jitted = type(jax.jit(lambda: None))
_RULES = ("custom_jvp_call", "custom_vjp_call")  # Operations whose author gives the derivative.
# The code of functions whose operations determine the derivative, as they get it once, at import.
_ONE_RULE_EACH = (
    inspect.getsourcefile(inspect.unwrap(jax.nn.relu)),
    Path(__file__).parent / "convolution",
)

CompiledFn = Callable[..., Any]

_programs: OrderedDict[Hashable, CompiledFn] = OrderedDict()
_lock = threading.Lock()


class Traced(NamedTuple):
    """A function at the shapes of its arguments.

    jaxpr: its operations.
    arrays: what it reads besides its arguments, jitted functions inside it included.
    key: equal for functions of equal operations and derivatives, whatever their arrays.
    outputs: its result, a tree of ShapeDtypeStructs.
    """

    jaxpr: ClosedJaxpr
    arrays: list[Array]
    key: Hashable
    outputs: Any


def is_tracing() -> bool:
    """Returns whether JAX is tracing."""
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def run_compiled(fn: Callable[..., Any], *inputs: Any) -> Any:
    """Returns fn(*inputs) of trees of arrays, compiled unless JAX is tracing already.

    The whole fn is traced in each call, and may therefore close over anything.
    """
    if is_tracing():
        return fn(*inputs)
    with plain_errors():
        found = traced(fn, *inputs)
    build = lambda: jax.jit(jaxpr_as_fun(without_arrays(found)))
    outputs = cached(found.key, build)(*found.arrays, *jax.tree.leaves(inputs))
    return jax.tree.unflatten(jax.tree.structure(found.outputs), outputs)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Drops the notes that JAX adds to errors of invalid input raised while it traces."""
    try:
        yield
    except UserError as error:
        error.__notes__ = []
        raise


def is_jitted(fn: Any) -> bool:
    """Returns whether a function is the result of `jax.jit`."""
    return isinstance(fn, _Jitted)


def new_jaxpr(fn: Any, *inputs: Any) -> tuple[ClosedJaxpr, Any]:
    """Returns the operations of a function, and the shapes and dtypes of its outputs.

    The options of a jitted function do not count.
    """
    if is_jitted(fn):  # It is traced once for equal shapes, and reads the arrays of that time.
        found = fn.trace(*inputs)
        # Tracers of `vmap` or `grad` that it reads are arguments before its own.
        if len(found.jaxpr.in_avals) == len(jax.tree.leaves(inputs)):
            return found.jaxpr, found.out_info
    # A new function each time: JAX's trace of fn is stale once fn closes over other arrays.
    return jax.make_jaxpr(lambda *inputs: fn(*inputs), return_shape=True)(*inputs)


def traced(fn: Any, *inputs: Any, derivatives: bool = True) -> Traced:
    """Traces a function of trees of arrays.

    derivatives: it will be differentiated, so rules of its own for that belong to the key. They
      alone are traced, not the derivative.
    """
    jaxpr, outputs = new_jaxpr(fn, *inputs)
    found = _operations(jaxpr, derivatives=derivatives)
    return Traced(jaxpr, list(found.arrays), found.key, outputs)


def replayed(jaxpr: ClosedJaxpr, arrays: Sequence[Array], inputs: Sequence[Array]) -> list[Array]:
    """Returns the results of a traced function with its arrays replaced.

    Jitted functions that read arrays are inlined, as their arrays become arguments.
    """
    remaining = iter(arrays)

    def run(closed: ClosedJaxpr, inputs: Sequence[Array]) -> list[Array]:
        given = [next(remaining) for _ in closed.consts]
        return evaluated_jaxpr(closed.jaxpr, [*given, *inputs], operation)

    def operation(eqn: JaxprEqn) -> Callable[..., list[Array]]:
        if _reads_arrays(eqn):
            return lambda *inputs: run(eqn.params["jaxpr"], inputs)
        return bound(eqn, eqn.params)

    return run(jaxpr, inputs)


def without_arrays(traced: Traced) -> ClosedJaxpr:
    """Returns the function (*arrays, *leaves of the inputs) -> results, which holds no array."""
    count = len(traced.arrays)

    def fn(*leaves: Array) -> list[Array]:
        return replayed(traced.jaxpr, leaves[:count], leaves[count:])

    arrays = [jax.typeof(array) for array in traced.arrays]
    return jax.make_jaxpr(fn)(*arrays, *traced.jaxpr.in_avals)


def calls_back(jaxpr: Jaxpr) -> bool:
    """Returns whether a jaxpr calls Python."""
    names = "pure_callback", "io_callback"
    return any(eqn.primitive.name in names for eqn in equations(jaxpr))


def computes_in(dtype: Any, jaxpr: Jaxpr) -> bool:
    """Returns whether an operation of a jaxpr has results of that dtype."""
    results = (var.aval for eqn in equations(jaxpr) for var in eqn.outvars)
    return any(getattr(aval, "dtype", None) == dtype for aval in results)


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """Yields each equation of a jaxpr, followed by those of the jaxprs inside it."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in nested(eqn):
            yield from equations(inner)


def nested(eqn: JaxprEqn) -> list[Jaxpr]:
    """Returns the jaxprs among the parameters of an equation."""
    is_jaxpr = lambda value: isinstance(value, ClosedJaxpr | Jaxpr)
    leaves = jax.tree.leaves(eqn.params, is_leaf=is_jaxpr)
    return [getattr(leaf, "jaxpr", leaf) for leaf in leaves if is_jaxpr(leaf)]


def evaluated_jaxpr(
    jaxpr: Jaxpr, inputs: Sequence[Array], operation: Callable[[JaxprEqn], Callable[..., Any]]
) -> list[Array]:
    """Evaluates a jaxpr with another operation in place of each equation.

    inputs: for its constvars and invars.
    """
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))
    read = lambda atom: atom.val if isinstance(atom, Literal) else values[atom]
    for eqn in jaxpr.eqns:
        found = operation(eqn)(*map(read, eqn.invars))
        values.update(zip(eqn.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def bound(eqn: JaxprEqn, params: dict[str, Any]) -> Callable[..., list[Array]]:
    """Returns the operation of an equation, with the parameters given."""

    def operation(*inputs: Array) -> list[Array]:
        with eqn.ctx.manager:
            found = eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(params))
        return found if eqn.primitive.multiple_results else [found]

    return operation


def cached(key: Hashable, build: Callable[[], CompiledFn]) -> CompiledFn:
    """Returns the program of a key, from the cache or new. The least recently used are dropped."""
    with _lock:
        program = _programs.pop(key, None) or build()
        _programs[key] = program
        while len(_programs) > MAX_PROGRAMS:
            _programs.popitem(last=False)
    return program


def dropped(key: Hashable) -> None:
    """Drops a program from the cache."""
    with _lock:
        _programs.pop(key, None)


class _Parts:
    """A tuple that computes its hash once; parts of equal functions are mostly the same object."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, parts: tuple[Any, ...]):
        self._parts, self._hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, _Parts) and self._hash == other._hash and self._parts == other._parts
        )


class _Same:
    """Equal only to itself: an object that has no value by which to know it."""

    __slots__ = ("_value",)

    def __init__(self, value: Any):
        self._value = value  # Held, so that no other object gets its id.

    def __hash__(self) -> int:
        return id(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value


class _Operations(NamedTuple):
    key: Hashable
    arrays: tuple[Array, ...]


# The operations of jaxprs inside others: JAX keeps those of jitted functions, which are read once.
_known: dict[bool, weakref.WeakKeyDictionary[ClosedJaxpr, _Operations]] = {
    True: weakref.WeakKeyDictionary(),
    False: weakref.WeakKeyDictionary(),
}


def _operations(closed: ClosedJaxpr, *, derivatives: bool) -> _Operations:
    """Returns what a jaxpr computes and the arrays that it reads, in the order of `replayed`.

    derivatives: the rules of custom derivatives count too.
    """
    known = _known[derivatives]
    if closed in known:
        return known[closed]
    jaxpr, arrays, rows = closed.jaxpr, list(closed.consts), []
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    numbers = {var: number for number, var in enumerate(inputs)}
    distinct = {id(eqn.ctx): eqn.ctx for eqn in jaxpr.eqns}
    contexts = {number: _context(ctx) for number, ctx in distinct.items()}
    for eqn in jaxpr.eqns:
        read = [_atom(atom, numbers) for atom in eqn.invars]
        numbers |= {var: len(numbers) + i for i, var in enumerate(eqn.outvars)}
        params = {name: eqn.params[name] for name in _parameters(eqn)}
        if _reads_arrays(eqn):
            inner = _operations(params["jaxpr"], derivatives=derivatives)
            arrays, params["jaxpr"] = [*arrays, *inner.arrays], inner.key
        rule = _rule(eqn) if derivatives and eqn.primitive.name in _RULES else None
        settings = _value(params, derivatives), contexts[id(eqn.ctx)], rule
        rows.append((eqn.primitive, *read, *(var.aval for var in eqn.outvars), settings))
    outputs = [_atom(atom, numbers) for atom in jaxpr.outvars]
    parts = *(var.aval for var in inputs), *rows, *outputs
    found = known[closed] = _Operations(_Parts(parts), tuple(arrays))
    return found


def _parameters(eqn: JaxprEqn) -> Iterable[str]:
    """Returns the names of the parameters by which an operation is known."""
    # The others are rules for the derivative, new functions in each trace.
    return ("call_jaxpr", "num_consts") if eqn.primitive.name in _RULES else eqn.params


def _reads_arrays(eqn: JaxprEqn) -> bool:
    """Returns whether an equation calls a jitted function that reads arrays."""
    if eqn.primitive.name not in ("jit", "pjit"):
        return False
    inner = eqn.params["jaxpr"]
    return bool(inner.consts) or any(map(_reads_arrays, inner.jaxpr.eqns))


def _value(value: Any, derivatives: bool) -> Hashable:
    """Returns a hashable stand-in for a parameter of an operation."""
    if isinstance(value, ClosedJaxpr):
        return _held(value, derivatives=derivatives)
    if isinstance(value, Jaxpr):
        return _operations(ClosedJaxpr(value, ()), derivatives=derivatives).key
    if type(value) in (tuple, list):
        return tuple(_value(part, derivatives) for part in value)
    if isinstance(value, dict):
        return tuple((name, _value(part, derivatives)) for name, part in value.items())
    if isinstance(value, float):
        return float, value.hex()  # Tells 0. and -0. apart, and knows NaN again.
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return type(value), value


def _held(closed: ClosedJaxpr, *, derivatives: bool) -> Hashable:
    """Returns what a jaxpr computes whose arrays stay in the program."""
    found = _operations(closed, derivatives=derivatives)
    return found.key, tuple(map(_fingerprint, found.arrays))


def _fingerprint(array: Any) -> Hashable:
    """Returns the type and a digest of the values, as NumPy arrays may be changed in place."""
    values = array_values(array)
    return values.dtype.str, values.shape, hashlib.sha256(values.tobytes()).digest()


def array_values(array: Any) -> np.ndarray:
    """Returns an array, or the data of keys, as a NumPy array."""
    key = jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(array) if key else array)


def _atom(atom: Any, numbers: dict[Any, int]) -> Hashable:
    if not isinstance(atom, Literal):
        return numbers[atom]
    return atom.aval, _fingerprint(np.asarray(atom.val))


def _context(ctx: Any) -> Hashable:
    """Returns the settings under which operations were traced, such as their mesh."""
    names = [name for name in type(ctx).__slots__ if not name.startswith("__")]
    return tuple(_value(getattr(ctx, name, None), False) for name in names)


def _rule(eqn: JaxprEqn) -> Hashable:
    """Returns what the author's rule for the derivative of an operation computes."""
    defined = str(eqn.params["call_jaxpr"].jaxpr.debug_info.func_src_info)  # "relu at <path>:71"
    if any(f" at {code}" in defined for code in _ONE_RULE_EACH):
        return defined  # Tracing the rules takes longer than tracing the model.
    like: list[Any] = [var.aval for var in eqn.invars]
    # The first inputs are arrays over which the function closes; they have no derivative.
    first = eqn.params["num_consts"]
    floats = [i for i, leaf in enumerate(like) if i >= first and _is_float(leaf)]

    def derivative(*inputs: Array) -> Any:
        def fn(*given: Array) -> list[Array]:
            merged = dict(enumerate(inputs)) | dict(zip(floats, given, strict=True))
            found = bound(eqn, eqn.params)(*merged.values())
            return [leaf for leaf in found if _is_float(leaf)]

        given = [inputs[i] for i in floats]
        if eqn.primitive.name == "custom_jvp_call":
            return jax.jvp(fn, given, given)
        outputs, pullback = jax.vjp(fn, *given)
        return pullback(outputs)

    # It may lack a derivative: attacks by forward passes alone do not need one.
    with contextlib.suppress(Exception):
        return _held(jax.make_jaxpr(derivative)(*like), derivatives=False)
    return None


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)

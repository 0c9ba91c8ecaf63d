"""Worker that runs adv_jax's jitted attacks and compares the results of all sides."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from flax.traverse_util import flatten_dict

from adv_jax import attacks, data, models, objectives
from adv_jax.step import init_state, make_step, over_devices, over_steps
from adv_jax.types import Array, LogitsFn, Variables
from benchmarks import adv_jax_worker
from benchmarks.tasks import CHECKED
from benchmarks.timing import seconds_of, serve

BOUNDS = (0.0, 1.0)
NETS = {
    "mlp": models.mlp(features=(1200, 1200)),
    "lenet": models.lenet(),
}
# net -> function of variables and images
LOGITS: dict[str, Callable[[Any, Array], Array]] = {
    name: lambda variables, x, net=net: models.apply_fn(net)(variables, x).logits
    for name, net in NETS.items()
}
EPOCHS, BATCH, LEARNING_RATE = 4, 100, 1e-3
WHITE = 0.99  # torchattacks' JSMA treats pixels >= .99 as white, adv_jax only 1
TRIALS = 2  # calls per chunk size; the best counts
OTHER = 0.9  # factor of the real-valued options in the call that compiles

Work = Mapping[str, Any]  # the fields of `benchmarks.attacks_works.Work`
AttackCall = Callable[[], Array]


def _jacobian(logits_fn: LogitsFn, x: Array, y: Array) -> Array:
    del y
    return attacks.class_jacobian(logits_fn, x)[1]


def _fgsm_accuracy(logits_fn: LogitsFn, x: Array, y: Array, *, eps: Array) -> Array:
    x_adv = attacks.fgsm(logits_fn, x, y, eps=eps, bounds=BOUNDS)
    return jnp.mean(jnp.argmax(logits_fn(x_adv), axis=1) == y)


def _fgsm_curve(logits_fn: LogitsFn, x: Array, y: Array, *, eps: Array) -> Array:
    return jax.vmap(lambda one: _fgsm_accuracy(logits_fn, x, y, eps=one))(eps)


def _from_digits(attack: Any, logits_fn: LogitsFn, x: Array, y: Array, **options: Any) -> Array:
    """Starts at the first digit, or at the first of another class than it, as the peer does."""
    other = (y != y[0]).reshape(-1, *(1,) * (x.ndim - 1))
    point = jnp.where(other, x[:1], x[jnp.argmax(y != y[0])][None])
    options |= {"bounds": BOUNDS, "key": jax.random.key(0)}
    return attack(logits_fn, x, y, start=point - x, **options)


class PlainLeNet(nn.Module):
    """`models.lenet` as a Flax user writes it, with the same parameters."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for name, maps in (("hidden1", 20), ("hidden2", 50)):
            x = nn.relu(nn.Conv(maps, (5, 5), padding="VALID", name=name)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(500, name="hidden3")(x.reshape(len(x), -1)))
        return nn.Dense(10, name="logits")(x)


_PLAIN = ("bim", "carlini_wagner", "ddn", "deepfool", "ead", "fgsm", "fmn", "mi_fgsm", "pgd")
_DRAWING = ("apgd", "auto_attack", "fab", "square", "vmi_fgsm")
ATTACKS: dict[str, Callable[..., Array]] = {
    **{name: partial(getattr(attacks, name), bounds=BOUNDS) for name in _PLAIN},
    **{
        name: partial(getattr(attacks, name), bounds=BOUNDS, key=jax.random.key(0))
        for name in _DRAWING
    },
    "boundary": partial(_from_digits, attacks.boundary),
    "curve": _fgsm_curve,
    "hop_skip_jump": partial(_from_digits, attacks.hop_skip_jump),
    "jacobian": _jacobian,
    "jsma": partial(attacks.jsma, bounds=BOUNDS, targeted=True),
    "lbfgs": partial(attacks.lbfgs, bounds=BOUNDS, targeted=True),
}


class Program(NamedTuple):
    """A compiled attack and its arguments.

    function: the compiled function.
    traces: one entry per compilation.
    variables: of the net.
    x, y: images and classes, with a leading axis of devices.
    traced: the real-valued options.
    """

    function: Any
    traces: list[None]
    variables: Any
    x: Array
    y: Array
    traced: dict[str, Array]

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self[2:]

    def __call__(self) -> Array:
        return jax.block_until_ready(self.function(*self.arguments))

    def compiled_elsewhere(self) -> "Program":
        """Calls the program with other real-valued options and returns it."""
        other = jax.tree.map(lambda value: OTHER * value, self.traced)
        self._replace(traced=other)()
        return self


def chunked(attack: Callable[..., Array], chunk: int) -> Callable[..., Array]:
    """Runs the attack on `chunk` rows at a time, in one program."""

    def run(logits_fn: LogitsFn, x: Array, y: Array, **options: Any) -> Array:
        if chunk == len(x):
            return attack(logits_fn, x, y, **options)
        chunks = jax.tree.map(lambda rows: rows.reshape(-1, chunk, *rows.shape[1:]), (x, y))
        result = jax.lax.map(lambda rows: attack(logits_fn, *rows, **options), chunks)
        return result.reshape(-1, *result.shape[2:])

    return run


def scipy_lbfgs(
    penalized: Callable[..., tuple[Array, Array]],
    predict: Callable[[Array], Array],
    x: Array,
    y: Array,
    *,
    num_steps: int,
    search_steps: int,
    initial_const: float,
) -> np.ndarray:
    """Runs the search of `attacks.lbfgs` with SciPy's L-BFGS-B on all rows as one problem.

    Args:
      penalized: (x_adv, x, y, c f32[B]) -> the sum over rows, and the gradient by x_adv.
      predict: x_adv -> i32[B].
      x, y: digits and target classes.
      num_steps: iterations per c, the number of adv_jax's gradients.
      search_steps: bisection steps of c.
      initial_const: first c.
    """
    target, start = np.asarray(y), np.asarray(x)
    const, failed = np.full(len(start), initial_const), np.zeros(len(start))
    fooled, shortest, best = failed + np.inf, failed + np.inf, start.copy()

    def of_vector(vector: np.ndarray, const: np.ndarray) -> tuple[float, np.ndarray]:
        x_adv = vector.reshape(start.shape).astype(np.float32)
        value, gradient = penalized(x_adv, x, y, const.astype(np.float32))
        return float(value), np.asarray(gradient, np.float64).ravel()

    for _ in range(search_steps):
        found = scipy.optimize.minimize(
            of_vector,
            start.ravel().astype(np.float64),
            args=(const,),
            jac=True,
            method="L-BFGS-B",
            bounds=scipy.optimize.Bounds(*BOUNDS),
            options={"maxiter": num_steps},
        )
        x_adv = found.x.reshape(start.shape).astype(np.float32)
        fools, length = np.asarray(predict(x_adv)) == target, _lengths(x_adv - start, "l2")
        shorter = fools & (length < shortest)
        best[shorter], shortest[shorter] = x_adv[shorter], length[shorter]
        failed, fooled = np.where(fools, failed, const), np.where(fools, const, fooled)
        const = np.where(np.isinf(fooled), 10 * const, (failed + fooled) / 2)
    return best


class Side:
    """The handlers of this worker; PyTorch's workers read from the exchange folder."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], AttackCall] = {}
        self._outputs: dict[tuple[str, str], np.ndarray] = {}
        self._peak = partial(adv_jax_worker.run, "peak")

    def start(self, exchange: str, nets: list[str]) -> dict[str, Any]:
        """Trains the nets on the embedded digits and writes the shared files."""
        self._exchange = Path(exchange)
        dataset = data.load("mnist", source="embedded", dir="")
        self._variables = {name: trained_variables(name, *dataset.train) for name in nets}
        x, y = dataset.test
        x = np.where(x >= WHITE, np.float32(1), x)
        self._x = dict.fromkeys(nets, jnp.asarray(x))
        self._y = jnp.asarray(y)
        np.savez(self._exchange / "data.npz", x=x, y=y)
        for name in nets:
            np.savez(self._exchange / f"{name}.npz", **self._shared(name))
        # XLA:CPU always uses one thread per CPU of its process.
        return {"threads": len(os.sched_getaffinity(0)), "devices": [str(d) for d in jax.devices()]}

    def _shared(self, name: str) -> dict[str, np.ndarray]:
        """Returns the leaves of a net by their paths, and its first images' "logits"."""
        found = {"logits": self._logits_fn(name)(self._x[name][:CHECKED])}
        for collection in self._variables[name].values():
            found |= flatten_dict(collection, sep="/")
        return jax.tree.map(np.asarray, found)

    def prepare(self, name: str, peer: str, work: Work, rows: int) -> dict[str, Any]:
        """Compiles the attack and chooses the fastest devices and chunk size."""
        prepare = {
            "ten calls": self._ten_calls,
            "jit + SciPy": self._scipy,
            "plain Flax": self._plain,
            "plain Flax, not rewritten": self._not_rewritten,
        }.get(peer, self._fastest)
        self._runs[name, peer], facts = prepare(work, rows)
        return facts

    def run(self, name: str, peer: str, calls: int) -> float:
        """Returns the mean seconds of a call; keeps the last output."""
        if name == "peak":
            return self._peak()
        run, found = self._runs[name, peer], []
        seconds = seconds_of(lambda: found.extend(run() for _ in range(calls)))
        self._outputs[name, peer] = np.asarray(found[-1])
        return seconds / calls

    def compilations(self, name: str) -> int:
        return len(self._runs[name, "adv_jax"].traces)

    def peak_memory(self, name: str) -> int:
        """Returns the total bytes of arguments, results and temporaries on all devices."""
        program = self._runs[name, "adv_jax"]
        sizes = program.function.lower(*program.arguments).compile().memory_analysis()
        of_one = (
            sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
        )
        return len(program.x) * of_one

    def compare(self, name: str, peer: str, work: Work) -> dict[str, float]:
        """Returns the measure of both sides on the peer's rows, and their difference.

        "accuracy" differs absolutely; the mean "linf", "l2" or "l0" norm of successful
        perturbations relatively; "values" relative to the largest.
        """
        ours = self._outputs[name, "adv_jax"]
        ours = ours.reshape(-1, *ours.shape[2:])
        theirs = self._outputs.get((name, peer))
        if theirs is None:
            theirs = np.load(self._exchange / f"{name}_{peer}.npy")
        theirs = theirs.reshape(-1, *ours.shape[1:])
        ours, measure = ours[: len(theirs)], work["measure"]
        if measure == "values":
            here, there = abs(ours).max(), abs(theirs).max()
            apart = abs(ours - theirs).max() / here
        else:
            here, there = (self._measured(found, work) for found in (ours, theirs))
            apart = abs(here - there) / (1 if measure == "accuracy" else here)
        return {"adv_jax": float(here), "peer": float(there), "apart": float(apart)}

    def _measured(self, x_adv: np.ndarray, work: Work) -> float:
        predicted = np.argmax(self._logits_fn(work["net"])(jnp.asarray(x_adv)), axis=1)
        x, y = self._rows(work, len(x_adv))
        fools = (predicted == np.asarray(y)) == work["targeted"]
        if work["measure"] == "accuracy":
            return 1 - fools.mean()
        return _lengths(x_adv - np.asarray(x), work["measure"])[fools].mean()

    def _fastest(self, work: Work, rows: int) -> tuple[Program, dict[str, Any]]:
        attack, programs = ATTACKS[work["attack"]], {}
        for split in work["split"]:
            devices = jax.device_count() if split and rows % jax.device_count() == 0 else 1
            share = rows // devices
            for chunk in [chunk for chunk in work["chunks"] if share % chunk == 0] or [share]:
                program = self._program(chunked(attack, chunk), work, rows, devices=devices)
                programs[f"{devices} x {chunk}"] = program.compiled_elsewhere()
        if len(programs) == 1:
            [(layout, program)] = programs.items()
            return program, {"layout": layout}
        seconds = {
            layout: min(seconds_of(program) for _ in range(TRIALS))
            for layout, program in programs.items()
        }
        best = min(seconds, key=seconds.get)
        return programs[best], {"layout": best, "choice_seconds": seconds}

    def _ten_calls(self, work: Work, rows: int) -> tuple[AttackCall, dict[str, Any]]:
        """Makes one call per eps."""
        program = self._program(_fgsm_accuracy, work, rows)
        singles = [program._replace(traced={"eps": eps}) for eps in program.traced["eps"]]
        return lambda: jnp.concatenate([single() for single in singles]), {}

    def _plain(self, work: Work, rows: int) -> tuple[AttackCall, dict[str, Any]]:
        """Attacks a net of Flax's own layers, as `_fastest` attacks ours."""
        with mock.patch.dict(LOGITS, lenet=_plain_logits):
            return self._fastest(work, rows)

    def _not_rewritten(self, work: Work, rows: int) -> tuple[AttackCall, dict[str, Any]]:
        """Attacks that net as XLA compiles it."""
        with mock.patch("adv_jax.attacks._bare.fast_in_loops", lambda fn: fn):
            return self._plain(work, rows)

    def _scipy(self, work: Work, rows: int) -> tuple[AttackCall, dict[str, Any]]:
        """Uses jitted values and gradients."""
        logits_fn, (x, y) = self._logits_fn(work["net"]), self._rows(work, rows)

        def total(x_adv: Array, x: Array, y: Array, const: Array) -> Array:
            losses = optax.softmax_cross_entropy_with_integer_labels(logits_fn(x_adv), y)
            return jnp.sum((x_adv - x) ** 2) + jnp.sum(const * losses)

        penalized = jax.jit(jax.value_and_grad(total))
        predict = jax.jit(lambda x: jnp.argmax(logits_fn(x), axis=1))
        return lambda: scipy_lbfgs(penalized, predict, x, y, **work["options"]), {}

    def _program(
        self, attack: Callable[..., Array], work: Work, rows: int, *, devices: int = 1
    ) -> Program:
        traced = {k: jnp.asarray(v) for k, v in work["options"].items() if _is_real(v)}
        static = {k: v for k, v in work["options"].items() if k not in traced}

        traces: list[None] = []

        def run(variables: Any, x: Array, y: Array, traced: dict[str, Array]) -> Array:
            traces.append(None)
            return attack(partial(_logits, work["net"], variables), x, y, **static, **traced)

        function = over_devices(run, jax.devices()[:devices], in_axes=(None, 0, 0, None))
        x, y = (rows.reshape(devices, -1, *rows.shape[1:]) for rows in self._rows(work, rows))
        return Program(function, traces, self._variables[work["net"]], x, y, traced)

    def _rows(self, work: Work, rows: int) -> tuple[Array, Array]:
        """Returns images and their true or target classes."""
        x, y = self._x[work["net"]][:rows], self._y[:rows]
        return x, (y + 1) % 10 if work["targeted"] else y

    def _logits_fn(self, net: str) -> LogitsFn:
        return jax.jit(partial(_logits, net, self._variables[net]))


def trained_variables(name: str, x: np.ndarray, y: np.ndarray) -> Variables:
    """Trains a net on digits and returns its variables; statistics are the last batch's."""
    return train(NETS[name], x, y)


def train(net: nn.Module, x: np.ndarray, y: np.ndarray) -> Variables:
    apply, optimizer = models.apply_fn(net), optax.adam(LEARNING_RATE)
    variables = jax.jit(partial(models.init, net))(jax.random.key(0), jnp.asarray(x[:2]))
    steps = over_steps(make_step(partial(objectives.cross_entropy, apply), optimizer))
    orders = np.concatenate([np.random.default_rng(e).permutation(len(y)) for e in range(EPOCHS)])
    rows = orders.reshape(-1, BATCH)
    batches = {"x": jnp.asarray(x[rows]), "y": jnp.asarray(y[rows])}
    state, _ = jax.jit(steps)(init_state(variables, optimizer, seed=0), batches)
    return state.variables


def _logits(name: str, variables: Any, x: Array) -> Array:
    return LOGITS[name](variables, x)


def _plain_logits(variables: Any, x: Array) -> Array:
    return PlainLeNet().apply(variables, x)


def _lengths(r: np.ndarray, norm: str) -> np.ndarray:
    orders = {"l0": 0, "l1": 1, "l2": 2, "linf": np.inf}
    return np.linalg.norm(r.reshape(len(r), -1), ord=orders[norm], axis=1)


def _is_real(option: Any) -> bool:
    return isinstance(option, float | list)


if __name__ == "__main__":
    serve(Side())

"""Worker that runs adv_jax's programs on the first device, and compares some with the CPU's."""

import functools
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from adv_jax import attacks, data, models, objectives
from adv_jax.runner.host.compiler_options import compiled, compiler_options
from adv_jax.step import init_state, make_step, over_steps
from adv_jax.types import Array, LogitsFn
from benchmarks import attacks_worker
from benchmarks.tasks import CHECKED, CIFAR, TASKS, Task, cifar_shaped
from benchmarks.timing import seconds_of, serve
from benchmarks.trainer import Trainer, scanned

BOUNDS = (0.0, 1.0)
EPS = 0.1
ATTACKS: Mapping[str, Callable[..., Array]] = {
    "pgd linf": partial(attacks.pgd, eps=EPS, step_size=0.01, num_steps=40, bounds=BOUNDS),
    "deepfool": partial(attacks.deepfool, num_steps=10, bounds=BOUNDS),
    "square": partial(
        attacks.square, eps=EPS, num_queries=200, bounds=BOUNDS, key=jax.random.key(0)
    ),
}
STEPS = 3  # of a training that is compared
NETS: Mapping[str, Callable[..., Any]] = {
    "lenet": models.lenet,
    "resnet18": models.preact_resnet,
    "resnet": partial(models.preact_resnet, stem=4, stages=(4, 8), blocks=1),
}
# precision -> (of products of float32, type in which a net computes). On recent NVIDIA GPUs JAX's
# default for float32 is TF32.
PRECISIONS = {
    "float32": ("float32", jnp.float32),
    "tf32": ("default", jnp.float32),
    "bfloat16": ("default", jnp.bfloat16),
}

Work = Mapping[str, Any]  # the fields of `benchmarks.accelerator.Work`
LENET: Work = {"net": "lenet"}  # as far as its logits need them


def describe() -> dict[str, Any]:
    device = jax.devices()[0]
    return {"device": device.device_kind, "platform": device.platform}


def attacked(digits: int) -> dict[str, dict[str, float]]:
    """Returns the accuracies under attacks on the device and on the CPU, by the CPU's net.

    The attacks are one program on each.
    """
    x, y = _digits(digits)

    def perturbed(variables: Any, x: Array, y: Array) -> dict[str, Array]:
        logits_fn = partial(_logits, LENET, variables)
        return {name: attack(logits_fn, x, y) for name, attack in ATTACKS.items()}

    predict = jax.jit(lambda variables, x: jnp.argmax(_logits(LENET, variables, x), axis=1))
    found: dict[str, dict[str, float]] = {name: {} for name in ATTACKS}
    for side, platform in {"device": jax.default_backend(), "cpu": "cpu"}.items():
        x_adv = jax.jit(perturbed)(*_on(platform, (_lenet(), x, y)))
        for name, one in x_adv.items():
            predicted = predict(*_on("cpu", (_lenet(), np.asarray(one))))
            found[name][side] = float(np.mean(np.asarray(predicted) == y))
    return found


def trained(name: str, seeds: int) -> dict[str, Any]:
    """Returns the losses of a task's first steps: on the device and the CPU, and of vmapped seeds.

    "replicas" is the largest difference of vmapped replicas' losses from single runs', relative.
    """
    trainer = _trainer(TASKS[name])
    rows, arrays = trainer.rows(seed=0)[:STEPS], trainer.arrays

    def losses(seed: Array, rows: Array, arrays: Any) -> Array:
        return scanned(trainer.step)(trainer.init(seed), rows, arrays)[1]["loss"]

    single = jax.jit(losses)
    alone = [np.asarray(single(np.int32(seed), rows, arrays)) for seed in range(seeds)]
    on_cpu = single(*_on("cpu", (np.int32(0), rows, arrays)))
    together = jax.jit(jax.vmap(losses, in_axes=(0, None, None)))(
        np.arange(seeds, dtype=np.int32), rows, arrays
    )
    return {
        "device": alone[0].astype(float).tolist(),
        "cpu": np.asarray(on_cpu, float).tolist(),
        "replicas": float(np.max(abs(np.asarray(together) - alone) / np.abs(alone))),
    }


def export(work: Work, exchange: str) -> None:
    """Writes what PyTorch's side needs of a work: parameters, data or images, and logits."""
    folder = Path(exchange)
    if work["kind"] == "task":
        trainer, state = _started(work["task"], work["steps"])
        np.savez(folder / "data.npz", **trainer.arrays)
        np.savez(folder / "net.npz", **flatten_dict(state.params, sep="/"))
        return
    net, kind = work["net"], work["kind"]
    leaves = {"logits": _checked_logits(net, kind)}
    for collection in _variables(net, kind).values():
        leaves |= flatten_dict(collection, sep="/")
    x, y = _images(work)
    np.savez(folder / "net.npz", **leaves)
    np.savez(folder / "images.npz", x=x, y=y)


class Programs:
    """Keeps compiled programs between blocks and stages."""

    def __init__(self) -> None:
        self._programs: dict[str, Program] = {}

    def prepare(self, work: Work) -> dict[str, Any]:
        """Compiles a work's program and calls it once."""
        name = json.dumps(work, sort_keys=True)
        if name not in self._programs:
            self._programs[name] = Program(work)
        return self._programs[name].facts

    def run(self, work: Work) -> float:
        """Returns the seconds of one block."""
        return seconds_of(self._programs[json.dumps(work, sort_keys=True)])


class Program:
    """A compiled work.

    facts: seconds of tracing and compiling, and of the first call.
    """

    def __init__(self, work: Work) -> None:
        function, carry, arguments = KINDS[work["kind"]](work)
        self._carry, *self._arguments = jax.device_put((carry, *arguments), jax.devices()[0])
        start = time.perf_counter()
        program = _lowered(work, function, self._carry, *self._arguments)
        self._compiled = compiled(program, _options(work))
        compiling = time.perf_counter() - start
        self.facts = {"compile_seconds": compiling, "first_seconds": seconds_of(self)}
        self.facts |= _measured(work, self._output)

    def __call__(self) -> None:
        self._carry, output = self._compiled(self._carry, *self._arguments)
        self._output = jax.block_until_ready((self._carry, output))[1]


def lowered(work: Work, device: jax.Device) -> jax.stages.Lowered:
    """Lowers a work's program for a device, which need not be there."""
    place = jax.sharding.SingleDeviceSharding(device)
    function, carry, arguments = KINDS[work["kind"]](work)
    shapes = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place),
        (carry, *arguments),
    )
    return _lowered(work, function, *shapes)


def _lowered(work: Work, function: Callable, *args: Any) -> jax.stages.Lowered:
    with jax.default_matmul_precision(PRECISIONS[work["precision"]][0]):
        return jax.jit(function, donate_argnums=0).lower(*args)


def _options(work: Work) -> Mapping[str, Any]:
    """Returns XLA's options: the commands' for training, none for attacks under a user's jit."""
    if work["kind"] in ("task", "training"):
        return compiler_options(jax.default_backend())
    return {}


def _measured(work: Work, output: Any) -> dict[str, float]:
    """Returns the robust accuracy of an attack, the last loss of a training."""
    if work["kind"] in ("task", "training"):
        return {"loss": float(np.asarray(output).reshape(-1)[-1])}
    return {"accuracy": float(np.mean(np.asarray(output)))}


def _task(work: Work) -> tuple[Callable, Any, tuple[Any, ...]]:
    """Returns a block of steps of one or more seeds of a task."""
    trainer, state = _started(work["task"], work["steps"])
    block = scanned(trainer.step)
    if work["seeds"] > 1:
        with _on_cpu():
            state = jax.jit(jax.vmap(trainer.init))(jnp.arange(work["seeds"]))
        block = jax.vmap(block, in_axes=(0, None, None))

    def losses(state: Any, rows: Array, arrays: Any) -> tuple[Any, Array]:
        state, metrics = block(state, rows, arrays)
        return state, metrics["loss"]

    return losses, state, (trainer.rows(seed=0), trainer.arrays)


@functools.cache
def _started(name: str, steps: int) -> tuple[Trainer, Any]:
    """Returns a task's trainer and its state of seed 0, in arrays of no device."""
    with _on_cpu():
        trainer = _trainer(TASKS[name]._replace(steps=steps))
        return trainer, jax.device_get(jax.jit(trainer.init)(0))


def _trainer(task: Task) -> Trainer:
    """Returns a trainer whose arrays are of no device."""
    trainer = Trainer(task)
    trainer.arrays = jax.device_get(trainer.arrays)
    return trainer


def _training(work: Work) -> tuple[Callable, Any, tuple[Any, ...]]:
    """Returns steps of PGD adversarial training, from random starts; the data is on the device."""
    optimizer = optax.sgd(work["learning_rate"], momentum=0.9)
    attack = partial(_pgd, work, random_start=True)
    objective = partial(objectives.lwa, models.apply_fn(_net(work)), attack=attack)
    steps = over_steps(make_step(objective, optimizer))
    with _on_cpu():
        state = init_state(_variables(work["net"], work["kind"]), optimizer, seed=0)
    x, y = _images(work)
    batches = {"x": x.reshape(work["steps"], -1, *x.shape[1:]), "y": y.reshape(work["steps"], -1)}

    def losses(state: Any, batches: Any) -> tuple[Any, Array]:
        state, metrics = steps(state, batches)
        return state, metrics["loss"]

    return losses, state, (batches,)


def _attack(attack: Callable[..., Array], work: Work) -> tuple[Callable, None, tuple[Any, ...]]:
    def classified(carry: None, variables: Any, x: Array, y: Array) -> tuple[None, Array]:
        logits_fn = partial(_logits, work, variables)
        x_adv = attack(work, logits_fn, x, y)
        return carry, jnp.argmax(logits_fn(x_adv), axis=1) == y

    return classified, None, (_variables(work["net"], work["kind"]), *_images(work))


def _pgd(work: Work, logits_fn: LogitsFn, x: Array, y: Array, **options: Any) -> Array:
    numbers = {"num_steps": work["num_steps"], "eps": work["eps"], "step_size": work["step_size"]}
    return attacks.pgd(logits_fn, x, y, **numbers, bounds=BOUNDS, returns="last", **options)


def _auto_attack(work: Work, logits_fn: LogitsFn, x: Array, y: Array) -> Array:
    options = {"eps": work["eps"], "num_queries": work["num_queries"]}
    options |= {"num_steps": work["num_steps"], "bounds": BOUNDS, "key": jax.random.key(0)}
    return attacks.auto_attack(logits_fn, x, y, **options)


KINDS: Mapping[str, Callable[[Work], tuple[Callable, Any, tuple[Any, ...]]]] = {
    "task": _task,
    "training": _training,
    "pgd": partial(_attack, _pgd),
    "auto_attack": partial(_attack, _auto_attack),
}


def _net(work: Work) -> Any:
    if work["net"] == "lenet":
        return NETS["lenet"]()
    return NETS[work["net"]](dtype=PRECISIONS[work["precision"]][1])


def _logits(work: Work, variables: Any, x: Array) -> Array:
    return models.apply_fn(_net(work))(variables, x).logits


@functools.cache
def _checked_logits(net: str, kind: str) -> np.ndarray:
    """Returns the CPU's float32 logits of the first digits: f32[CHECKED, K]."""
    logits_fn = jax.jit(partial(_logits, {"net": net, "precision": "float32"}))
    with _on_cpu():
        return np.asarray(logits_fn(_variables(net, kind), _shaped(net, _digits(CHECKED)[0])))


def _variables(net: str, kind: str) -> Any:
    """Returns the variables of a trained LeNet, or of a residual net, trained if that counts."""
    if net == "lenet":
        return _lenet()
    return _trained_resnet(net) if kind == "auto_attack" else _drawn_resnet(net)


@functools.cache
def _drawn_resnet(name: str) -> Any:
    with _on_cpu():
        init = jax.jit(lambda: models.init(NETS[name](), jax.random.key(0), jnp.zeros((2, *CIFAR))))
        return jax.device_get(init())


@functools.cache
def _trained_resnet(name: str) -> Any:
    x, y = data.load("mnist", source="embedded").train
    return jax.device_get(attacks_worker.train(NETS[name](), cifar_shaped(x), y))


@functools.cache
def _lenet() -> Any:
    """Returns the variables of a LeNet that was trained on the CPU."""
    with _on_cpu():
        trained = attacks_worker.trained_variables(
            "lenet", *data.load("mnist", source="embedded").train
        )
    return jax.device_get(trained)


def _images(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Returns as many images as a work takes, the same ones again if there are too few."""
    count = work["rows"] * (work["steps"] if work["kind"] == "training" else 1)
    x, y = _digits(None)
    rows = np.arange(count) % len(y)
    return _shaped(work["net"], x)[rows], y[rows]


def _shaped(net: str, digits: np.ndarray) -> np.ndarray:
    return digits if net == "lenet" else cifar_shaped(digits)


def _digits(count: int | None) -> tuple[np.ndarray, np.ndarray]:
    test = data.load("mnist", source="embedded").test
    return test.x[:count], test.y[:count]


def _on_cpu() -> Any:
    return jax.default_device(jax.devices("cpu")[0])


def _on(platform: str, tree: Any) -> Any:
    return jax.device_put(tree, jax.devices(platform)[0])


if __name__ == "__main__":
    programs = Programs()
    serve(
        SimpleNamespace(
            describe=describe,
            attacked=attacked,
            trained=trained,
            export=export,
            prepare=programs.prepare,
            run=programs.run,
        )
    )

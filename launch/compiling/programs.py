"""Compiles the functions of a run for devices that are not there, and says what they take."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.host.devices import layout
from adv_jax.runner.run import inputs, pretrained, trained
from adv_jax.runner.run.experiment import Experiment, initial
from adv_jax.runner.run.preflight import check_fit, check_parts, needs_whole_batches
from adv_jax.runner.run.program import Functions, functions
from adv_jax.types import UserError
from launch.compiling import tpus
from launch.compiling.collectives import collectives
from launch.compiling.flops import product_flops

_NO_WORKDIR = Path("/nonexistent")  # Fit the preprocessing; read none.


class Compiled(NamedTuple):
    """A function compiled for a topology; sizes in bytes of one chip.

    Attributes:
      arguments, results, temporaries, code: the parts of the memory; results that take the place
        of donated arguments do not count.
      bytes_accessed: traffic of memory, with the body of each loop once.
      collectives: {kind: operations in the program}.
      communicated: their results; as of all loops, with the body once.
      seconds: of XLA.
    """

    arguments: int
    results: int
    temporaries: int
    code: int
    bytes_accessed: float
    collectives: dict[str, int]
    communicated: int
    seconds: float

    @property
    def memory(self) -> int:
        return self.arguments + self.results + self.temporaries + self.code


class TooLarge(Exception):
    """A program does not fit a chip; needed: bytes that XLA names, at least."""

    def __init__(self, needed: float) -> None:
        super().__init__(needed)
        self.needed = needed


class Prepared(NamedTuple):
    """A run that is ready to be lowered; arguments are shapes and dtypes.

    Attributes:
      experiment: the experiment.
      chips: the devices in use.
      functions: the functions, mapped over `chips`.
      seeds: the arguments of `functions.init`.
      data: those of the others after the state.
      shared: bytes of the data, which the replicas of a chip share.
    """

    experiment: Experiment
    chips: int
    functions: Functions
    seeds: Any
    data: Any
    shared: int


def load(config: Mapping[str, Any]) -> inputs.Inputs:
    """Loads the data of a config, with the rows of its first replica.

    Raises:
      UserError: the data are missing.
    """
    return inputs.load(config, replicas(config)[:1], _NO_WORKDIR)


def prepared(config: Mapping[str, Any], topology: str, loaded: inputs.Inputs) -> Prepared:
    """Prepares a run of a config on a TPU topology.

    Args:
      config: a complete, checked config.
      topology: CHIP:SHAPE, one of `tpus.TOPOLOGIES`.
      loaded: the output of `load`; it does not depend on `config.replicas`.

    Raises:
      UserError: the topology is unknown or too small, the data do not fit the config, or libtpu is
        not installed.
    """
    runs, dataset = replicas(config), loaded.dataset
    devices, shards = tpus.devices(topology), config["replicas"]["shards"]
    check_fit(config, dataset, devices)
    sources, starts = trained.sources(config, dataset), pretrained.starts(config, runs)
    check_parts(config, dataset, loaded.rows, runs[0], sources, starts)
    experiment = Experiment(config, dataset, sources)
    place = layout(len(runs), shards=shards, devices=devices)
    count, arrays = len(place.devices), dataset.arrays()
    spread = lambda tree: jax.eval_shape(place.spread, tree)
    rows = {
        name: jax.ShapeDtypeStruct((len(runs), *own.shape[1:]), own.dtype)
        for name, own in loaded.rows.items()
    }
    return Prepared(
        experiment,
        count,
        functions(experiment, place.devices),
        spread(initial(runs, starts)),
        (jax.eval_shape(partial(_copies, count), arrays), spread(rows)),
        sum(array.nbytes for array in arrays.values()),
    )


def compile_config(config: Mapping[str, Any], topology: str) -> dict[str, Any]:
    """Compiles init, epoch, monitor and evaluate of a config for a TPU topology.

    Args:
      config: a complete, checked config.
      topology: CHIP:SHAPE, one of `tpus.TOPOLOGIES`.

    Returns:
      A document: topology, chips (used), replicas, shards, and for each function the fields of
      `Compiled`; step: flops, open_ended and the seconds of `step_of`.

    Raises:
      UserError: the topology is unknown or too small, the data are missing or do not fit the
        config, libtpu is not installed, or a function does not fit a chip.
    """
    chip, loaded, runs = tpus.chip_of(topology), load(config), replicas(config)
    run = prepared(config, topology, loaded)
    fns, count, shards = run.functions, len(runs), config["replicas"]["shards"]
    per_chip = count * shards // run.chips
    about: dict[str, Compiled] = {}
    with jax.default_matmul_precision("float32"):
        state = jax.eval_shape(fns.init, *run.seeds)
        for name in Functions._fields:
            print(f"compiling {name} for {topology}", flush=True)
            args = run.seeds if name == "init" else (state, *run.data)
            try:
                about[name] = compiled(getattr(fns, name).lower(*args))
            except TooLarge as error:
                remedies = partial(_remedies, config, run.experiment, state)
                raise _does_not_fit(
                    name, error, topology, per_chip, run.shared, remedies
                ) from error
        step = step_of(run, state, about["epoch"], topology)
    return {
        "config": config["experiment"],
        "topology": topology,
        "chips": run.chips,
        "replicas": count,
        "shards": shards,
        "memory_of_a_chip": chip.memory,
        "functions": {name: found._asdict() for name, found in about.items()},
        "step": step,
        "steps_per_epoch": run.experiment.steps_per_epoch,
        "versions": versions(),
    }


def step_of(run: Prepared, state: Any, epoch: Compiled, topology: str) -> dict[str, Any]:
    """Returns the operations of a training step of a chip, and seconds at the peaks of the chip.

    Those of the products are a lower bound of the step. Those of memory are an upper bound of its
    traffic: XLA counts the bytes of an epoch with each loop once, which includes what an epoch does
    once, such as a copy of the data set. It leaves out further turns of loops inside a step.
    """
    chip = tpus.chip_of(topology)
    flops = product_flops(run.functions.epoch, state, *run.data)
    flops *= 1 / run.experiment.steps_per_epoch
    seconds = {
        "products": flops.count * tpus.PASSES / chip.flops,
        "memory": epoch.bytes_accessed / chip.bandwidth,
    }
    return {**flops._asdict(), "seconds": seconds}


def versions() -> dict[str, str]:
    """Returns the versions of the compiler."""
    return {name: version(name) for name in ("jax", "libtpu")}


def _copies(count: int, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), tree)


def compiled(lowered: Any) -> Compiled:
    """Compiles a lowered function.

    Raises:
      TooLarge: XLA found that it does not fit a chip.
    """
    started = time.perf_counter()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if needed := tpus.needed(error):
            raise TooLarge(needed) from error
        raise
    seconds = time.perf_counter() - started
    memory = program.memory_analysis()
    counts, communicated = collectives(program.as_text())
    return Compiled(
        arguments=memory.argument_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        bytes_accessed=program.cost_analysis()["bytes accessed"],
        collectives=counts,
        communicated=communicated,
        seconds=round(seconds, 1),
    )


def _remedies(config: Mapping[str, Any], experiment: Experiment, state: Any, parts: int) -> str:
    """Returns what divides the memory of a step by `parts`, of what the model may have."""
    ways = ["set model.recompute"] if getattr(experiment.model, "recompute", None) is False else []
    if not needs_whole_batches(config, state.state.variables):
        ways.append(f"set microbatches or replicas.shards to about {parts}")
    return ", or ".join([*ways, f"divide batch_size by about {parts}"])


def _does_not_fit(
    name: str,
    error: TooLarge,
    topology: str,
    per_chip: int,
    shared: int,
    remedies: Callable[[int], str],
) -> UserError:
    """Returns the error of a function that needs more memory than a chip has.

    per_chip: replicas of a chip; shared: bytes of the data; remedies: parts -> advice.
    """
    needed, has = error.needed, tpus.chip_of(topology).memory
    # All but the data grows with the replicas.
    fit = int(per_chip * max(0.0, has - shared) / max(1.0, needed - shared))
    chip = topology.partition(":")[0]
    if fit:
        advice = f"about {fit} of {per_chip} replicas a chip fit: use fewer, or more chips"
    elif name == "init":
        advice = "one replica does not: the model must be smaller"
    else:
        parts = 2 ** math.ceil(math.log2(max(2.0, per_chip * needed / has)))
        advice = f"one replica does not: {remedies(parts)}"
    return UserError(
        f"batch_size, the model and the replicas of a chip must fit the {has / 1e9:g} GB of a "
        f"{chip}, got {needed / 1e9:.3g} GB or more for {name}, {needed / has:.2g} times as much; "
        f"{advice}"
    )

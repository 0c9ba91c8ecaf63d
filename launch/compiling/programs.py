"""Compiles the functions of a run for devices that are not there, and says what they take."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adv_jax.runner.config.binding import ATTACK, ATTACKS, named, settings
from adv_jax.runner.config.document import with_values
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.host.devices import layout
from adv_jax.runner.host.numerics import same_numerics
from adv_jax.runner.run import inputs, pretrained, trained
from adv_jax.runner.run.experiment import Experiment, Functions, initial
from adv_jax.runner.run.preflight import check_fit, check_parts, needs_whole_batches
from adv_jax.runner.run.program import functions, is_packed
from adv_jax.types import UserError
from launch.compiling.cells import memory
from launch.compiling.collectives import collectives
from launch.compiling.flops import product_flops
from launch.compiling.target import Chip, Target, TooLarge

_NO_WORKDIR = Path("/nonexistent")  # Fit the preprocessing; read none.


class Compiled(NamedTuple):
    """A function compiled for a topology; sizes in bytes of one chip.

    arguments, results, temporaries, code: the parts of the memory; results that take the place
      of donated arguments do not count.
    bytes_accessed: traffic of memory, with the body of each loop once; None on a GPU.
    collectives: {kind: operations in the program}.
    communicated: their results; as of all loops, with the body once.
    seconds, processor_seconds: of XLA, as in `target.Program`.
    kernels: on a GPU, the launches of a call, with loops of known length in full; else None.
    launched: what they are: `call` and `turn` of `kernels.Launched`.
    """

    arguments: int
    results: int
    temporaries: int
    code: int
    bytes_accessed: float | None
    collectives: dict[str, int]
    communicated: int
    seconds: float
    processor_seconds: float
    kernels: float | None = None
    launched: dict[str, Any] | None = None


class Prepared(NamedTuple):
    """A run that is ready to be lowered; arguments are shapes and dtypes.

    experiment: the experiment.
    chips: the devices in use.
    functions: the functions, mapped over `chips`.
    seeds: the arguments of `functions.init`.
    state: that of the others, which `functions.init` returns.
    data: what they take after it.
    shared: bytes of the data, which the replicas of a chip share.
    """

    experiment: Experiment
    chips: int
    functions: Functions
    seeds: Any
    state: Any
    data: Any
    shared: int


def load(config: Mapping[str, Any]) -> inputs.Inputs:
    """Loads the data of a config, with the rows of its first replica.

    Raises:
      UserError: the data are missing.
    """
    return inputs.load(config, replicas(config)[:1], _NO_WORKDIR)


def prepared(config: Mapping[str, Any], target: Target, loaded: inputs.Inputs) -> Prepared:
    """Prepares a run of a config on a topology.

    Args:
      config: a complete, checked config.
      target: the topology.
      loaded: the output of `load`; it does not depend on `config.replicas`.

    Raises:
      UserError: the topology is too small, or the data do not fit the config.
    """
    runs, dataset = replicas(config), loaded.dataset
    devices, shards = list(target.devices), config["replicas"]["shards"]
    check_fit(config, dataset, devices)
    sources, starts = trained.source_fns(config, dataset), pretrained.starts(config, runs)
    checked = check_parts(
        config, dataset, runs[0], sources, starts, rows=loaded.rows, packed=is_packed(devices)
    )
    experiment = Experiment(config, dataset, sources)
    place = layout(len(runs), shards=shards, devices=devices)
    count, arrays = len(place.devices), dataset.arrays()
    spread = lambda tree: jax.eval_shape(place.spread, tree)
    rows = {
        name: jax.ShapeDtypeStruct((len(runs), *own.shape[1:]), own.dtype)
        for name, own in loaded.rows.items()
    }
    seeds = spread(initial(runs, starts))
    mapped = functions(experiment, place.devices, checked.functions)
    with same_numerics():
        state = jax.eval_shape(mapped.init, *seeds)
    return Prepared(
        experiment,
        count,
        mapped,
        seeds,
        state,
        (jax.eval_shape(partial(_copies, count), arrays), spread(rows)),
        sum(array.nbytes for array in arrays.values()),
    )


def compile_config(
    config: Mapping[str, Any],
    target: Target,
    *,
    names: Sequence[str] = Functions._fields,
    attacks: Sequence[str] = (),
) -> dict[str, Any]:
    """Compiles functions of a config for a topology.

    Args:
      config: a complete, checked config.
      target: the topology.
      names: functions of a run: init, epoch, monitor or evaluate.
      attacks: names of attacks; compiles the evaluation under each instead, if there are any.

    Returns:
      A document: topology, chips (used), replicas, shards, for each function the fields of
      `Compiled`, and the replicas of a chip that would fit; with an epoch also step, of `step_of`.

    Raises:
      UserError: the topology is too small, the data are missing or do not fit the config, an attack
        does not fit the model, or a function does not fit a chip.
    """
    loaded, count, shards = load(config), len(replicas(config)), config["replicas"]["shards"]
    run = prepared(config, target, loaded)
    per_chip = count * shards / run.chips
    about: dict[str, Compiled] = {}
    with same_numerics():
        own = ((name, getattr(run.functions, name)) for name in names)
        for name, fn in _evaluations(config, target, loaded, attacks) if attacks else own:
            print(f"compiling {name} for {target.topology}", flush=True)
            try:
                args = run.seeds if name == "init" else (run.state, *run.data)
                about[name] = compiled(fn.lower(*args), target)
            except TooLarge as error:
                remedies = partial(_remedies, config, run.experiment, run.state)
                raise _does_not_fit(name, error, target, per_chip, run.shared, remedies) from error
        step = {"step": step_of(run, about["epoch"], target)} if "epoch" in about else {}
    return {
        "config": config["experiment"],
        "topology": target.topology,
        "chips": run.chips,
        "replicas": count,
        "shards": shards,
        "memory_of_a_chip": target.chip.memory,
        "usable": target.chip.usable,
        "replicas_that_fit": _fitting(run, per_chip, about, target.chip),
        "functions": {name: found._asdict() for name, found in about.items()},
        **step,
        "steps_per_epoch": run.experiment.steps_per_epoch,
        "versions": versions(target),
    }


def _evaluations(
    config: Mapping[str, Any], target: Target, loaded: inputs.Inputs, attacks: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Yields a name and the function `evaluate` for each attack."""
    for name in attacks:
        run = prepared(attacked(config, name), target, loaded)
        if run.experiment.predicts == "loss":
            raise UserError(f"--attack must be unset for a model without classes, got {name}")
        yield f"evaluate under {name}", run.functions.evaluate


def attacked(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns a config that evaluates one attack.

    The attack has the settings of the config, or else the norm and bounds of the config's first
    attack, as all have the same sizes.

    Raises:
      ConfigError: no attack has this name.
    """
    given = config["evaluation"]["attacks"]
    like, spec = next(iter(given.values()), {}), given.get(name, {"name": name})
    takes, _ = settings(named(spec, ATTACKS, field=f"evaluation.attacks.{name}", call=ATTACK))
    if name not in given:
        spec |= {field: like[field] for field in ("norm", "bounds") if field in {*like} & {*takes}}
    return with_values(config, {"evaluation.attacks": {name: spec}})


def step_of(run: Prepared, epoch: Compiled, target: Target) -> dict[str, Any]:
    """Returns the operations of a training step of a chip, and seconds at the peaks of the chip.

    Those of the products are a lower bound of the step. Those of memory are an upper bound of its
    traffic: XLA counts the bytes of an epoch with each loop once, which includes what an epoch does
    once, such as a copy of the data set. It leaves out further turns of loops inside a step. A GPU
    has instead of it the launches of an epoch over its steps and XLA's estimate of their time.
    """
    steps = run.experiment.steps_per_epoch
    flops = product_flops(run.functions.epoch, run.state, *run.data) * (1 / steps)
    seconds = {"products": flops.count / target.chip.flops}
    found = {**flops._asdict(), "seconds": seconds}
    if epoch.bytes_accessed is not None:
        seconds["memory"] = epoch.bytes_accessed / target.chip.bandwidth
    if epoch.launched is not None and epoch.kernels is not None:
        found["kernels"] = epoch.kernels / steps
        if peak := epoch.launched["call"]["peak"]:
            seconds["peak"] = peak / steps
    return found


def versions(target: Target) -> dict[str, str]:
    """Returns the versions of the compiler."""
    return {name: version(name) for name in target.packages}


def _copies(count: int, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), tree)


def compiled(lowered: Any, target: Target) -> Compiled:
    """Compiles a lowered function.

    Raises:
      TooLarge: it does not fit a chip.
    """
    program = target.compiled(lowered)
    sizes = program.executable.memory_analysis()
    counts, communicated = collectives(program.executable.as_text())
    found = Compiled(
        arguments=sizes.argument_size_in_bytes,
        results=sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
        temporaries=sizes.temp_size_in_bytes,
        code=sizes.generated_code_size_in_bytes,
        bytes_accessed=(program.executable.cost_analysis() or {}).get("bytes accessed"),
        collectives=counts,
        communicated=communicated,
        seconds=round(program.seconds, 1),
        processor_seconds=round(program.processor_seconds, 1),
    )
    if program.launched is None:
        return found
    needed = memory(found._asdict())
    if needed > target.chip.usable:  # XLA compiles for a GPU what is too large for it.
        raise TooLarge(needed)
    launched = {name: of.document() for name, of in program.launched._asdict().items()}
    return found._replace(kernels=program.launched.call.launches, launched=launched)


def _remedies(config: Mapping[str, Any], experiment: Experiment, state: Any, parts: int) -> str:
    """Returns what divides the memory of a step by `parts`, of what the model may have."""
    ways = ["set model.recompute"] if getattr(experiment.model, "recompute", None) is False else []
    if not needs_whole_batches(config, state.state.variables):
        ways.append(f"set microbatches or replicas.shards to about {parts}")
    return ", or ".join([*ways, f"divide batch_size by about {parts}"])


def _fitting(run: Prepared, per_chip: float, about: Mapping[str, Compiled], chip: Chip) -> int:
    """Returns about how many replicas of a run fit a chip beside its data, in all functions.

    Each has its state all the time, and what a function takes besides while it runs.
    """
    leaves = jax.tree.leaves(run.state)
    own = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / run.chips
    running = (f.results + f.temporaries for name, f in about.items() if name != "init")
    return int((chip.usable - run.shared) / (own + max(running, default=0)) * per_chip)


def _does_not_fit(
    name: str,
    error: TooLarge,
    target: Target,
    per_chip: float,
    shared: int,
    remedies: Callable[[int], str],
) -> UserError:
    """Returns the error of a function that needs more memory than a chip has.

    per_chip: replicas of a chip; shared: bytes of the data; remedies: parts -> advice.
    """
    needed, chip = error.needed, target.chip
    # All but the data grows with the replicas.
    fit = int(per_chip * max(0.0, chip.usable - shared) / max(1.0, needed - shared))
    if fit:
        advice = f"about {fit} of {per_chip:g} replicas a chip fit: use fewer, or more chips"
    elif name == "init":
        advice = "one replica does not: the model must be smaller"
    else:
        parts = 2 ** math.ceil(math.log2(max(2.0, per_chip * needed / chip.usable)))
        advice = f"one replica does not: {remedies(parts)}"
    taken = "" if chip.usable == chip.memory else f"{chip.usable / 1e9:g} GB that JAX takes of the "
    return UserError(
        f"batch_size, the model and the replicas of a chip must fit the {taken}"
        f"{chip.memory / 1e9:g} GB of one {target.name}, got {needed / 1e9:.3g} GB or more for "
        f"{name}, {needed / chip.usable:.2g} times as much; {advice}"
    )

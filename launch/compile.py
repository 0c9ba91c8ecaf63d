"""Compiles a config for TPUs without one: `python -m launch.compile --config=NAME --topology=T`.

Needs `pip install 'adv_jax[tpu]'`. T is a chip and a shape, such as v5e:4x4. NAME and the overrides
--config.a.b=value are those of `python -m adv_jax.main`, and the config's data must be there. The
command compiles the functions of a run for its replicas and shards, and prints for each, per chip:
the memory by kind beside the chip's, the collectives, and the seconds that XLA took. Of a training
step it prints the operations of its products, and the times that these and the traffic of memory
take at the peaks of the data sheet. --out=FILE.json writes the same.

    python -m launch.compile --config=ladder_mnist:table=20 --topology=v5e:2x2
    python -m launch.compile --config=huang_mlp_mnist --config.replicas.seeds=64 --topology=v5e:8x8

A run uses as many chips as divide its replicas times its shards; the others stay idle.
"""

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"  # Else JAX looks for a TPU when libtpu is installed.

import jax
import jax.numpy as jnp
from absl import app, flags, logging

from adv_jax.main import CONFIG, parse_flags
from adv_jax.runner import inputs, pretrained, trained
from adv_jax.runner.config import check, replicas
from adv_jax.runner.devices import layout
from adv_jax.runner.experiment import Experiment, initial
from adv_jax.runner.log import print_table
from adv_jax.runner.output import standard_output
from adv_jax.runner.preflight import check_parts
from adv_jax.runner.program import functions
from adv_jax.runner.workdir import json_bytes, replace, writing
from adv_jax.types import UserError
from launch import _topology
from launch._flops import product_flops

_TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "CHIP:SHAPE, such as v5e:4x4")
_OUT = flags.DEFINE_string("out", None, "JSON file to write")
_COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
_NO_WORKDIR = Path("/nonexistent")  # Fit the preprocessing; read none.


class Compiled(NamedTuple):
    """A function compiled for a topology; sizes in bytes of one chip.

    Attributes:
      arguments, results, temporaries, code: the parts of the memory; results that take the place
        of donated arguments do not count.
      bytes_accessed: traffic of memory, with the body of each loop once.
      collectives: {kind: operations in the program}.
      seconds: of XLA.
    """

    arguments: int
    results: int
    temporaries: int
    code: int
    bytes_accessed: float
    collectives: dict[str, int]
    seconds: float

    @property
    def memory(self) -> int:
        return self.arguments + self.results + self.temporaries + self.code


def compile_config(config: Mapping[str, Any], topology: str) -> dict[str, Any]:
    """Compiles init, epoch, monitor and evaluate of a config for a TPU topology.

    Args:
      config: a complete, checked config.
      topology: CHIP:SHAPE, one of `_topology.TOPOLOGIES`.

    Returns:
      A document: topology, chips (used), replicas, shards, and for each function the fields of
      `Compiled`; step: flops, open_ended and the seconds of the roofline.

    Raises:
      UserError: the topology is unknown or too small, the data are missing, libtpu is not
        installed, or a function does not fit a chip.
    """
    chip, runs = _topology.chip_of(topology), replicas(config)
    devices = _topology.devices(topology)
    shards = config["replicas"]["shards"]
    dataset, rows, _, _ = inputs.load(config, runs, _NO_WORKDIR)
    sources, starts = trained.sources(config, dataset), pretrained.starts(config, runs)
    check_parts(config, dataset, rows, runs[0], sources, starts)
    experiment = Experiment(config, dataset, sources)
    place = layout(len(runs), shards=shards, devices=devices)
    count = len(place.devices)
    spread = lambda tree: jax.eval_shape(place.spread, tree)
    data = jax.eval_shape(partial(_copies, count), dataset.arrays()), spread(rows)
    fns = functions(experiment, place.devices)
    with jax.default_matmul_precision("float32"):
        init, state = _compiled("init", fns.init, *spread(initial(runs, starts)))
        about = {"init": init}
        for name in ("epoch", "monitor", "evaluate"):
            about[name], _ = _compiled(name, getattr(fns, name), state, *data)
        flops = product_flops(fns.epoch, state, *data) * (1 / experiment.steps_per_epoch)
    seconds = {
        "products": flops.count * _topology.PASSES / chip.flops,
        "memory": about["epoch"].bytes_accessed / chip.bandwidth,
    }
    return {
        "config": config["experiment"],
        "topology": topology,
        "chips": count,
        "replicas": len(runs),
        "shards": shards,
        "memory_of_a_chip": chip.memory,
        "functions": {name: found._asdict() for name, found in about.items()},
        "step": {**flops._asdict(), "seconds": seconds},
        "steps_per_epoch": experiment.steps_per_epoch,
        "versions": {name: version(name) for name in ("jax", "libtpu")},
    }


def _copies(count: int, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), tree)


def _compiled(name: str, fn: Any, *args: Any) -> tuple[Compiled, Any]:
    """Compiles a mapped function -> (what it takes of a chip, shapes and dtypes of its result).

    Raises:
      UserError: XLA found that it does not fit.
    """
    lowered, started = fn.lower(*args), time.perf_counter()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if needed := _topology.needed(error):
            raise _does_not_fit(name, needed) from error
        raise
    seconds = time.perf_counter() - started
    memory, text = program.memory_analysis(), program.as_text()
    kinds = re.findall(rf" ({'|'.join(_COLLECTIVES)})(?:-start)?\(", text)
    found = Compiled(
        arguments=memory.argument_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        bytes_accessed=program.cost_analysis()["bytes accessed"],
        collectives=dict(Counter(kinds)),
        seconds=round(seconds, 1),
    )
    return found, lowered.out_info


def _does_not_fit(name: str, needed: str) -> UserError:
    """Returns the error of a function that needs more memory than a chip has."""
    return UserError(
        f"batch_size, the model and the replicas of a chip must fit its memory, got {name} of "
        f"{needed}; use fewer replicas a chip, shards, or a smaller batch"
    )


def print_report(found: Mapping[str, Any]) -> None:
    """Prints the document of `compile_config`."""
    title = (
        f"{found['config']}: {found['replicas']} replicas x {found['shards']} shards on "
        f"{found['chips']} chips of {found['topology']}"
    )
    columns = ["function", "GB", "arguments", "results", "temporaries", "code"]
    rows = [_cells(name, Compiled(**of)) for name, of in found["functions"].items()]
    title += f", {found['memory_of_a_chip'] / 1e9:g} GB each"
    print_table(title, [*columns, "collectives", "seconds to compile"], rows)
    step, times = found["step"], found["step"]["seconds"]
    at_least = "at least " if step["open_ended"] else ""
    print(
        f"a step of a chip: {at_least}{step['count'] / 1e9:.4g} GFLOP in products, "
        f"{1e3 * times['products']:.3g} ms at the peak of float32; memory traffic, with each loop "
        f"once, {1e3 * times['memory']:.3g} ms"
    )


def _cells(name: str, found: Compiled) -> list[str]:
    sizes = (found.memory, found.arguments, found.results, found.temporaries, found.code)
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.collectives.items())
    return [name, *(f"{size / 1e9:.3f}" for size in sizes), kinds or "none", f"{found.seconds:.1f}"]


def main(_: Sequence[str]) -> None:
    """Compiles the config that the flags name, and prints what it takes."""
    logging.set_verbosity(logging.FATAL)
    config = CONFIG.value.to_dict()
    try:
        check(config)
        found = compile_config(config, _TOPOLOGY.value)
        print_report(found)
        if _OUT.value:
            path = Path(_OUT.value)
            with writing(path):
                replace(path, json_bytes(found))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    with standard_output():
        app.run(main, flags_parser=parse_flags)

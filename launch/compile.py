"""Compiles a config for TPUs without one: `python -m launch.compile --config=NAME --topology=T`.

Needs `pip install -e '.[tpu]'`. T is a chip and a shape, such as v5e:4x4. NAME and the overrides
--config.a.b=value are those of `python -m adv_jax.main`, and the config's data must be there. The
command compiles the functions of a run for its replicas and shards, and prints for each, per chip:
the memory by kind beside the chip's, the collectives, and the seconds that XLA took. It prints the
steps of an epoch, the operations of the products of a step, and two times at the peaks of the data
sheet: that of the products, a lower bound of the step, and that of the traffic of memory, at most
what XLA counts (see `step_of`). --out=FILE.json writes the same.

    python -m launch.compile --config=ladder_mnist:table=20 --topology=v5e:2x2
    python -m launch.compile --config=huang_mlp_mnist --config.replicas.seeds=64 --topology=v5e:8x8

A run uses as many chips as divide its replicas times its shards, the same number on each host; the
others stay idle. A host has four chips and is a process. v5e:4x4 has 4 hosts, so replicas times
shards must be a multiple of 4 there.
"""

import errno
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # Else JAX looks for a TPU when libtpu is installed.

from absl import app, flags, logging

from adv_jax.main import CONFIG, parse_flags
from adv_jax.runner.config.fields import check
from adv_jax.runner.host.standard_output import standard_output
from adv_jax.runner.run.log import print_table
from adv_jax.runner.store.workdir import json_bytes
from adv_jax.runner.store.writing import replace, writing
from adv_jax.types import UserError
from launch.compiling.programs import Compiled, compile_config

_TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "CHIP:SHAPE, such as v5e:4x4")
_OUT = flags.DEFINE_string("out", None, "JSON file to write")


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
        f"{found['steps_per_epoch']:,} steps an epoch; a step of a chip: {at_least}"
        f"{step['count'] / 1e9:.4g} GFLOP in products, at least {1e3 * times['products']:.3g} ms "
        f"at the peak of float32; memory traffic, with each loop once, at most "
        f"{1e3 * times['memory']:.3g} ms"
    )


def _cells(name: str, found: Compiled) -> list[str]:
    sizes = (found.memory, found.arguments, found.results, found.temporaries, found.code)
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.collectives.items())
    return [name, *(f"{size / 1e9:.3f}" for size in sizes), kinds or "none", f"{found.seconds:.1f}"]


def _check_writable(path: Path) -> None:
    """Raises UserError if a file cannot be written there; changes nothing."""
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def main(_: Sequence[str]) -> None:
    """Compiles the config that the flags name, and prints what it takes."""
    logging.set_verbosity(logging.FATAL)
    config, out = CONFIG.value.to_dict(), Path(_OUT.value) if _OUT.value else None
    try:
        check(config)
        if out:
            _check_writable(out)  # Compiling takes minutes.
        found = compile_config(config, _TOPOLOGY.value)
        print_report(found)
        if out:
            replace(out, json_bytes(found))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    with standard_output():
        app.run(main, flags_parser=parse_flags)

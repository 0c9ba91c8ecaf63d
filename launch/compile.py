"""Compiles a config for TPUs or GPUs without one: `python -m launch.compile --config=NAME`.

--topology=T names the devices: TPUs by chip and shape, such as v5e:4x4 (needs the extra `tpu`), or
GPUs by card and number, h100:8, or by hosts and GPUs of each, h100:4x8 (the extra `cuda`, and no
driver). NAME and the overrides --config.a.b=value are those of `python -m adv_jax.main`, and the
config's data must be there. The command compiles the functions of a run for its replicas and
shards, and prints for each, per chip: the memory by kind beside the chip's, the collectives, and
the seconds that XLA took. It prints the steps of an epoch, the operations of the products of a
step, and two times at the peaks of the data sheet: that of the products, a lower bound of the step,
and that of the traffic of memory, at most what XLA counts (see `step_of`). For a GPU it also prints
the kernels of a call and of a step by kind, the share of them in CUDA graphs, and their time at the
peaks as XLA estimates it. --attack=pgd,apgd compiles the evaluation of the config's model under
each of these attacks instead. --out=FILE.json writes all of it.

    python -m launch.compile --config=ladder_mnist:table=20 --topology=v5e:2x2
    python -m launch.compile --config=huang_mlp_mnist --config.replicas.seeds=64 --topology=v5e:8x8
    python -m launch.compile --config=ladder_mnist:quick --topology=h100:1 --attack=pgd,auto_attack

A run uses as many chips as divide its replicas times its shards, the same number on each host; the
others stay idle. A host is a process, and one of TPUs has four chips. v5e:4x4 has 4 hosts, so
replicas times shards must be a multiple of 4 there.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # Else JAX looks for a TPU when libtpu is installed.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA logs that there is no driver.

from absl import app, flags

from adv_jax.main import CONFIG, parse_flags
from adv_jax.runner.config.command_line import define_path
from adv_jax.runner.config.fields import check
from adv_jax.runner.host.ending import without_traceback
from adv_jax.runner.run.log import print_table
from adv_jax.runner.store.formats import json_bytes
from adv_jax.runner.store.writing import check_file, write_files
from launch.compiling.cells import PARTS, by_kind, gb, kernels, memory, ms, share_in_graphs
from launch.compiling.programs import attacked, compile_config
from launch.compiling.topologies import target

_TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "such as v5e:4x4, h100:8 or h100:4x8")
_ATTACK = flags.DEFINE_list("attack", [], "attacks under which to compile the evaluation instead")
_OUT = define_path("out", None, "JSON file to write")


def print_report(found: Mapping[str, Any]) -> None:
    """Prints the document of `compile_config`."""
    chip = f"{found['memory_of_a_chip'] / 1e9:g} GB each"
    if found["usable"] < found["memory_of_a_chip"]:
        chip += f", of which JAX takes {found['usable'] / 1e9:g} GB"
    title = (
        f"{found['config']}: {found['replicas']} replicas x {found['shards']} shards on "
        f"{found['chips']} chips of {found['topology']}, {chip}"
    )
    functions = found["functions"]
    columns = ["function", "GB", *PARTS, "collectives", "seconds to compile"]
    print_table(title, columns, [_cells(name, of) for name, of in functions.items()])
    print(f"about {found['replicas_that_fit']:,} replicas a chip would fit")
    rows = [_launches(name, of) for name, of in functions.items() if of["launched"]]
    if rows:  # on GPUs
        columns = ["function", "kernels of a call", "in CUDA graphs", "ms at the peaks"]
        print_table("Launches", [*columns, "of a turn of its loop", "by kind"], rows)
    if "step" in found:
        print(_step(found))


def _step(found: Mapping[str, Any]) -> str:
    """Returns what a training step of a chip takes, in words."""
    step, times = found["step"], found["step"]["seconds"]
    at_least = "at least " if step["open_ended"] else ""
    if "kernels" in step:
        rest = f"{step['kernels']:.1f} kernels"
        if "peak" in times:
            rest += f", {1e3 * times['peak']:.3g} ms at the peaks by XLA's estimate"
    else:
        rest = f"memory traffic, with each loop once, at most {1e3 * times['memory']:.3g} ms"
    return (
        f"{found['steps_per_epoch']:,} steps an epoch; a step of a chip: {at_least}"
        f"{step['count'] / 1e9:.4g} GFLOP in products, at least {1e3 * times['products']:.3g} ms "
        f"at the peak of float32; {rest}"
    )


def _cells(name: str, function: Mapping[str, Any]) -> list[str]:
    sizes = (memory(function), *(function[part] for part in PARTS))
    collectives = by_kind(function["collectives"]) or "none"
    return [name, *map(gb, sizes), collectives, f"{function['seconds']:.1f}"]


def _launches(name: str, function: Mapping[str, Any]) -> list[str]:
    """Returns the cells of a function on a GPU."""
    call, turn = function["launched"]["call"], function["launched"]["turn"]["kinds"]
    return [
        name,
        kernels(function["kernels"], call),
        share_in_graphs(call),
        ms(call["peak"]),
        str(sum(turn.values())),
        by_kind(turn),
    ]


def main(_: Sequence[str]) -> None:
    """Compiles the config that the flags name, and prints what it takes."""
    config, out = CONFIG.value.to_dict(), Path(_OUT.value) if _OUT.value else None
    check(config)
    for name in _ATTACK.value:  # Before the topology, which may need an extra.
        attacked(config, name)
    if out:
        check_file(out)  # Compiling takes minutes.
    found = compile_config(config, target(_TOPOLOGY.value), attacks=_ATTACK.value)
    print_report(found)
    if out:
        write_files({out: json_bytes(found)})


if __name__ == "__main__":
    with without_traceback():
        app.run(main, flags_parser=parse_flags)

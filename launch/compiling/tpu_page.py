"""The page launch/TPU.md of tpu.json: `python -m docs.pages` writes it."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from launch.compiling import tpus
from launch.compiling.cells import PARTS, Document, by_kind, gb, memory, ms, table, versions
from launch.compiling.tpu_cases import (
    LEAST,
    SEEDS,
    SHARDED,
    SHARDED_FIELDS,
    TOPOLOGIES,
    Case,
    cases,
    imagenet,
    sharded,
    sizes,
)
from papers.pages.markup import BEGIN, markdown

RESULT = Path(__file__).parent / "tpu.json"
PAGE = RESULT.parents[1] / "TPU.md"
_CHIP = tpus.CHIPS["v5e"]
_PEAK = tpus.PASSES * _CHIP.flops  # of bfloat16
INTRODUCTION = f"""\
# The configs on TPUs

{BEGIN}

`python -m launch.tpu` compiled an epoch of each config for TPU v5e without one, in the mode `paper`
with the default options unless the name says otherwise, on noise in the shapes of the data. Nothing
here was measured on a TPU. Sizes are per chip, which has {_CHIP.memory / 1e9:g} GB. GFLOP are those
of the products of a training step, with each inner loop in full; "+" marks loops of unknown length,
counted once.

Times are computed from the data sheet. Those of the products are a lower bound of a step: float32,
as {tpus.PASSES} of bfloat16 at {_PEAK / 1e12:g} TFLOP/s. Those of memory are an upper
bound of its traffic, at {_CHIP.bandwidth / 1e9:g} GB/s. XLA counts the bytes of the program of an
epoch, with each loop once. This includes what an epoch does once, such as a copy of the data set in
another layout, so it grows with the data set. It leaves out further turns of loops inside a step,
such as those of PGD.

XLA compiles with its least effort for speed, as JAX_EXEC_TIME_OPTIMIZATION_EFFORT=-1 makes it do
elsewhere; "The same config" below has one case with the default effort, which runs use. Seconds to
compile are by the clock, on a machine with other work.
"""
MEMORY = """\
## Memory

One replica a chip. These are the sizes of the program of an epoch. A run also keeps on the chip
what an epoch does not read, such as test images and the best weights. More replicas a chip take
more memory than a multiple of the arguments suggests, as XLA may choose other layouts for them (see
"A thousand seeds"); `launch.compile` tells what they take.
"""
STEPS = f"""\
## Steps

One replica a chip. With as many replicas as chips nothing is communicated, and a chip runs the
same program however many there are. "Same program" lists the numbers of chips for which the
lowered module is that of {min(TOPOLOGIES)} chips except for the number. "Products of a run" are
those of all epochs, without monitoring and evaluation.
"""
SIZES = """\
## The same config on 4 to 256 chips

A check of the above by compiling for every size, one replica a chip, and with XLA's default effort.
"""
SHARDS = f"""\
## A batch divided over 4 to 256 chips

`{SHARDED}` with {", ".join(f"`{field}={value}`" for field, value in SHARDED_FIELDS.items())}, one
replica. Models with batch normalization, such as residual nets, are refused: their batch cannot be
divided. The all-reduces are those of a step; their least time is at the data sheet's bandwidth,
{tpus.ALL_REDUCE / 1e9:g} GB/s for each chip.
"""
SEEDED = """\
## A thousand seeds

Their number is a multiple of that of the chips.
"""
IMAGES = """\
## Images of ImageNet's size

A ResNet-18 without an initial stride, in which each block is computed again in the backward pass
(`model.recompute`), trained by LWA on images of 224 x 224 x 3. One replica a chip, which holds 256
images at a time, as of a stream.
"""
NOT_FITTING = """\
## What does not fit

XLA names the least memory that it needs. The batch in parts is `microbatches`, with the same
gradients up to rounding without batch normalization.
"""


def pages() -> dict[Path, str]:
    """Returns the page of the result file by its path."""
    found = json.loads(RESULT.read_text())
    there = {name: one for name, one in found.items() if "epoch" in one}
    fit = _of(map(Case, dict.fromkeys(case.config for case in cases())), there)
    parts = [
        f"{INTRODUCTION}\nCompiled by {versions(found.values())}.\n",
        f"{MEMORY}\n{table(_MEMORY, fit)}",
        f"{STEPS}\n{table(_STEPS, fit)}",
        f"{SIZES}\n{table({**_SIZES, **_EFFORT}, _of(sizes(), there))}",
        f"{SHARDS}\n{table(_SHARDS, _of(sharded(), there))}",
        f"{SEEDED}\n{table(_SIZES, _of([Case(SEEDS, 256, 1024)], there))}",
        f"{IMAGES}\n{table(_IMAGES, _of(imagenet(), found))}",
        f"{NOT_FITTING}\n{_not_fitting(found)}",
        f"## Not compiled\n\n{_missing(found)}\n",
    ]
    return {PAGE: "\n".join(parts)}


def _of(wanted: Iterable[Case], found: Mapping[str, Document]) -> list[Document]:
    """Returns the documents of the cases that are stored."""
    return [found[case.name] for case in wanted if case.name in found]


def _size(one: Document) -> str:
    return f"at least {one['needs'] / 1e9:.3g}" if "needs" in one else _TOTAL["GB"](one)


def _gb(part: str) -> Callable[[Document], str]:
    return lambda one: gb(one["epoch"][part])


def _gflop(one: Document) -> str:
    step = one["step"]
    return f"{step['count'] / 1e9:.4g}{'+' if step['open_ended'] else ''}"


def _ms(kind: str) -> Callable[[Document], str]:
    return lambda one: ms(one["step"]["seconds"][kind])


def _run(one: Document) -> str:
    steps = one["steps_per_epoch"] * one["epochs"]
    return f"{steps * one['step']['seconds']['products'] / 60:.3g}"


def _collectives(one: Document) -> str:
    return by_kind(one["epoch"]["collectives"]) or "0"


_NAME = {"config": lambda one: f"`{one['config']}`"}
_TOTAL = {
    "GB": lambda one: gb(memory(one["epoch"])),
    "of the chip": lambda one: f"{memory(one['epoch']) / _CHIP.memory:.1%}",
}
_PLACE = {
    "chips": lambda one: str(one["chips"]),
    "replicas a chip": lambda one: str(one["replicas"] * one["shards"] // one["chips"]),
}
_WORK = {"GFLOP": _gflop, "products, ms": _ms("products"), "memory, ms at most": _ms("memory")}
_COMPILE = {"compiled in, s": lambda one: f"{one['epoch']['seconds']:.0f}"}
_MEMORY = {
    **_NAME,
    **_TOTAL,
    **{part: _gb(part) for part in PARTS},
    **_COMPILE,
}
_STEPS = {
    **_NAME,
    **_WORK,
    "steps": lambda one: f"{one['steps_per_epoch'] * one['epochs']:,}",
    "products of a run, min": _run,
    "collectives": _collectives,
    "same program": lambda one: ", ".join(map(str, one["same_program"])),
}
_SIZES = {**_NAME, **_PLACE, **_TOTAL, **_WORK, "collectives": _collectives, **_COMPILE}
_EFFORT = {"effort": lambda one: "least" if one["effort"] == LEAST else "default"}
_FIT = {"GB": _size, "fits": lambda one: "no" if "needs" in one else "yes"}
_IMAGES = {
    "batch": lambda one: str(one["batch_size"]),
    **_FIT,
    "GFLOP": lambda one: "" if "needs" in one else _gflop(one),
    "products, ms": lambda one: "" if "needs" in one else _ms("products")(one),
}
_SHARDS = {
    "chips": _PLACE["chips"],
    "rows of a chip": lambda one: str(one["batch_size"] // one["shards"]),
    **_TOTAL,
    **_WORK,
    "collectives": _collectives,
    "MB": lambda one: f"{one['epoch']['communicated'] / 1e6:.3g}",
    "all-reduce, ms": lambda one: ms(one["epoch"]["communicated"] / tpus.ALL_REDUCE),
}


def _not_fitting(found: Mapping[str, Document]) -> str:
    rows = [
        [
            f"`{one['config']}`",
            *(column(one) for column in _PLACE.values()),
            ", ".join(f"{path}={value}" for path, value in one["fields"].items()) or "",
            *(column(one) for column in _FIT.values()),
        ]
        for one in found.values()
        if "needs" in one or "microbatches" in one["fields"]
    ]
    columns = ["config", *_PLACE, "fields", *_FIT]
    return markdown(columns, rows) if rows else "All that is compiled fits.\n"


def _missing(found: Mapping[str, Document]) -> str:
    """Returns a line for each number of chips, replicas and shards, with the configs."""
    lines: dict[str, list[str]] = {}
    for case in cases():
        if case.name not in found:
            place = f"{case.chips} chips, {case.replicas} replicas, {case.shards} shards"
            lines.setdefault(place, []).append(f"`{case.config}`")
    texts = [f"- {place}: {', '.join(dict.fromkeys(names))}" for place, names in lines.items()]
    return "\n".join(texts) or "Every case is compiled."

"""The page launch/GPU.md of gpu.json: `python -m docs.pages` writes it."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from launch.compiling.cells import (
    Document,
    by_kind,
    gb,
    kernels,
    memory,
    ms,
    share_in_graphs,
    table,
    versions,
)
from launch.compiling.gpu_cases import ATTACKS, TRAININGS, Case, cases, several, trainings
from launch.compiling.gpus import CARDS
from papers.pages.markup import BEGIN, markdown

RESULT = Path(__file__).parent / "gpu.json"
PAGE = RESULT.parents[1] / "GPU.md"
INTRODUCTION = f"""\
# The configs on GPUs

{BEGIN}

`python -m launch.gpu` compiled these programs for GPUs without one, in the mode `paper` with one
seed unless the title says otherwise, on noise in the shapes of the data. Nothing here was measured
on a GPU.

- *GB* are those of the program of an epoch: arguments, results and temporaries. A run also keeps
  on the GPU what an epoch does not read, such as the best weights. JAX takes .75 of a GPU's memory,
  unless `XLA_CLIENT_MEM_FRACTION` says otherwise.
- *Replicas that fit* are an estimate: all but the data grows with them.
- *Kernels* are launches, copies included. Those of a step are the launches of an epoch over its
  steps, with each inner loop in full; "+" marks loops of unknown length, counted once. A small step
  costs what its launches cost; most lie in a *CUDA graph*, which launches them as one.
- *At the peaks* is XLA's estimate of the kernels' time by the data sheet, which it has for an H100.
  It has no time for convolutions and for some fused kernels, and none for launches.
- *Seconds to compile* are those of the processor, of all cores. XLA cannot try variants of a kernel
  without the GPU, which takes longer on a machine that has one. There it calls a library (CUB) to
  sort the keys of an epoch's shuffle; here it compiles a sort, in 2 to 4 s for 60,000 rows.
"""
ON_CARD = """\
A step of training on one GPU: {memory:g} GB, {bandwidth:,.0f} GB/s, {flops:.3g} TFLOP/s in float32.
"""
FUNCTIONS = """\
## Compiling a run

A run compiles four functions before it ends: `init`, `epoch`, `monitor` after each epoch, and
`evaluate`. Each cell has the kernels of a call and the seconds to compile, on an H100.
"""
EVALUATIONS = """\
## Attacks

The evaluation of the test set under one attack, on an H100, with all of the config's sizes of the
attack in one program. A turn is one of the innermost loop with the most launches, such as a step of
PGD.
"""
SEVERAL = """\
## Several GPUs

`huang_mlp_mnist` with a batch of 256 divided over the GPUs, or with a seed on each. Collectives are
those of a step.
"""
NOT_FITTING = "## What does not fit\n"


def pages() -> dict[Path, str]:
    """Returns the page of the result file by its path."""
    found = json.loads(RESULT.read_text())
    there = {name: one for name, one in found.items() if "functions" in one}
    first = _titled(cases(), there)
    runs = [one for one in first if "init" in one["functions"]]
    parts = [
        f"{INTRODUCTION}\nCompiled by {versions(first)}.\n\n{_configs()}",
        *(_on_card(card, there) for card in CARDS),
        f"{FUNCTIONS}\n{table(_FUNCTIONS, runs)}",
        f"{EVALUATIONS}\n{table(_ATTACKS, _titled(ATTACKS, there))}",
        f"{SEVERAL}\n{table(_SEVERAL, _titled(several(), there))}",
        f"{NOT_FITTING}\n{_refused(found)}",
        f"## Not compiled\n\n{_missing(found)}\n",
    ]
    return {PAGE: "\n".join(parts)}


def _on_card(name: str, found: Mapping[str, Document]) -> str:
    card = CARDS[name]
    about = ON_CARD.format(
        memory=card.memory / 1e9, bandwidth=card.bandwidth / 1e9, flops=card.flops / 1e12
    )
    return f"## {card.title}\n\n{about}\n{table(_STEPS, _titled(trainings(name), found))}"


def _titled(wanted: Iterable[Case], found: Mapping[str, Document]) -> list[Document]:
    """Returns the documents of the cases that are stored, with their titles."""
    return [{**found[c.name], "title": c.title} for c in wanted if c.name in found]


def kernels_of_step(one: Document) -> float:
    """Returns the launches of a training step."""
    return one["step"]["kernels"]


def kernels_of_turn(one: Document) -> int:
    """Returns the launches of a step of the one attack."""
    (function,) = one["functions"].values()
    return sum(function["launched"]["turn"]["kinds"].values())


def _configs() -> str:
    """Returns the configs behind the titles."""
    rows = {
        case.title: [
            case.title,
            f"`{case.config}`",
            ", ".join(f"`{path}={value}`" for path, value in case.fields.items()),
        ]
        for case in (*TRAININGS, *ATTACKS)
    }
    return markdown(["title", "config", "fields"], [*rows.values()])


def _epoch(one: Document) -> Document:
    return one["functions"]["epoch"]


def _only(one: Document) -> Document:
    (function,) = one["functions"].values()
    return function


def _call(function: Document) -> Document:
    return function["launched"]["call"]


def _step(one: Document) -> str:
    return kernels(kernels_of_step(one), _call(_epoch(one)))


def _function(name: str) -> Callable[[Document], str]:
    def cell(one: Document) -> str:
        function = one["functions"][name]
        launches = kernels(function["kernels"], _call(function))
        return f"{launches}; {function['processor_seconds']:.0f} s"

    return cell


def _all_seconds(one: Document) -> str:
    return f"{sum(f['processor_seconds'] for f in one['functions'].values()):.0f} s"


_TITLE = {"title": lambda one: one["title"]}
_STEPS = {
    **_TITLE,
    "GB": lambda one: gb(memory(_epoch(one))),
    "replicas that fit": lambda one: f"{one['replicas_that_fit']:,}",
    "kernels": _step,
    "by kind": lambda one: by_kind(_call(_epoch(one))["kinds"], one["steps_per_epoch"]),
    "in CUDA graphs": lambda one: share_in_graphs(_call(_epoch(one))),
    "ms at the peaks": lambda one: ms(one["step"]["seconds"].get("peak")),
    "epoch compiled in, s": lambda one: f"{_epoch(one)['processor_seconds']:.0f}",
}
_FUNCTIONS = {
    **_TITLE,
    **{name: _function(name) for name in ("init", "epoch", "monitor", "evaluate")},
    "all": _all_seconds,
}
_ATTACKS = {
    **_TITLE,
    "attack": lambda one: ", ".join(one["attacks"]),
    "GB": lambda one: gb(memory(_only(one))),
    "kernels of a turn": lambda one: f"{kernels_of_turn(one)}",
    "by kind": lambda one: by_kind(_only(one)["launched"]["turn"]["kinds"]),
    "kernels of a call": lambda one: kernels(_only(one)["kernels"], _call(_only(one))),
    "in CUDA graphs": lambda one: share_in_graphs(_call(_only(one))),
    "compiled in, s": lambda one: f"{_only(one)['processor_seconds']:.0f}",
}
_SEVERAL = {
    "divided": _TITLE["title"],
    "topology": lambda one: one["topology"],
    "replicas": lambda one: str(one["replicas"]),
    "shards": lambda one: str(one["shards"]),
    "collectives": lambda one: by_kind(_epoch(one)["collectives"]) or "0",
    "MB": lambda one: f"{_epoch(one)['communicated'] / 1e6:.3g}",
    "kernels": _step,
    "in CUDA graphs": lambda one: share_in_graphs(_call(_epoch(one))),
    "epoch compiled in, s": _STEPS["epoch compiled in, s"],
}


def _refused(found: Mapping[str, Document]) -> str:
    lines = [f"- {name}: {one['refused']}" for name, one in found.items() if "refused" in one]
    return "\n".join(lines or ["All that is compiled fits."]) + "\n"


def _missing(found: Mapping[str, Document]) -> str:
    lines = [f"- {case.name}" for case in cases() if case.name not in found]
    return "\n".join(lines) or "Every case is compiled."

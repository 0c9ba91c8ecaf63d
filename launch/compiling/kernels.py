"""Counts what a call of a program launches on a GPU, from the files that XLA dumps of it.

XLA prints the sequence of its thunks, each a launch or a loop of launches, with those of a CUDA
graph under a command buffer:

    001: kCopy  [source | next=002 (1)] kCopy
    002: kWhile [prev=001 (1) | sink ]
    condition:
        003: kCustomKernel [source | sink] loop_compare_fusion grid: ...
      body:
        000: kCommandBuffer [source | sink]
            004: kCustomKernel [source | sink] gemm_fusion_dot grid: ...

A second file names the operation of each number, of which the program's text has the kind, the
length of a loop and the estimate of the time.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_THUNK = re.compile(r"^((?: {4})*)(\d+): k(\w+)")
_NAMED = re.compile(r'profile_annotation: "([^"]*)"\s+thunk_id: (\d+)')
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_OPERATION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_PEAK = re.compile(r'"exec_time_us":([\d.e+\-]+),[^{}]*"name":"sol"')
_FUSION = re.compile(r" fusion\(.*kind=k(\w+), calls=%?([\w.\-]+)")
_CALL = re.compile(r" ([a-z][a-z\-]*)\(")
_KINDS = {"dot": "product", "convolution": "convolution", "sort": "sort"}
_TARGET = re.compile(r'custom_call_target="_*([^"]+)"')
# Thunks without a launch, and launches that no operation names.
_NOTHING = re.compile(r"WaitForStreams|RecordEvent|\w*Done$")
_COLLECTIVE = re.compile(r"All|Collective|ReduceScatter|Send|Recv|RaggedAll|Nccl")


class Kernels(NamedTuple):
    """The launches of a call.

    kinds: {kind: launches}, with each loop of known length in full, and the branch of most
      launches of each condition.
    in_graphs: those of them that lie in CUDA graphs, which cost less.
    peak: seconds at the peaks of the data sheet, as XLA estimates them; without convolutions and
      without what it does not estimate.
    open_ended: whether a loop of unknown length was counted once.
    """

    kinds: Counter[str] = Counter()
    in_graphs: float = 0
    peak: float = 0.0
    open_ended: bool = False

    @property
    def launches(self) -> float:
        return sum(self.kinds.values())

    def document(self) -> dict[str, Any]:
        """Returns the fields as JSON has them, the largest kind first; peak: None without any."""
        kinds, peak = dict(self.kinds.most_common()), self.peak or None
        return {**self._asdict(), "kinds": kinds, "peak": peak}

    def __add__(self, other: Any) -> "Kernels":
        return Kernels(
            self.kinds + other.kinds,
            self.in_graphs + other.in_graphs,
            self.peak + other.peak,
            self.open_ended or other.open_ended,
        )

    def __mul__(self, times: Any) -> "Kernels":
        kinds = Counter({kind: times * count for kind, count in self.kinds.items()})
        return Kernels(kinds, times * self.in_graphs, times * self.peak, self.open_ended)


class Launched(NamedTuple):
    """The kernels that a program launches.

    call: in a call.
    turn: in a turn of the innermost loop that launches most: the step of an attack.
    """

    call: Kernels
    turn: Kernels


class _Thunk(NamedTuple):
    """A line of the sequence; parts: [(label, thunks)], such as ("body", ...) of a loop."""

    kind: str
    number: int
    parts: list[tuple[str, list[Any]]]


def launched(text: str, folder: Path) -> Launched:
    """Counts the launches of a program.

    Args:
      text: its HLO.
      folder: XLA's dumps of it, of `--xla_dump_to` and `--xla_dump_hlo_as_text`.
    """
    dumps = {path.name.split(".")[-2]: path for path in folder.glob("*.txt")}
    # There is no second sequence where no graph was made.
    sequence = dumps.get("thunk_sequence_after_thunk_passes", dumps["thunk_sequence"]).read_text()
    named = _NAMED.findall(dumps["thunk_metadata"].read_text())
    names = {int(number): name for name, number in named}
    program, thunks = _Program(text, names), _thunks(sequence)
    return Launched(program.kernels(thunks), program.kernels(program.busiest(thunks)))


def _thunks(sequence: str) -> list[_Thunk]:
    """Parses a sequence; a label precedes the thunks of a loop or a branch."""
    root, label = _Thunk("", 0, []), ""
    last = [root]  # at each depth
    for line in sequence.splitlines():
        found = _THUNK.match(line)
        if not found:
            label = line.rstrip().removesuffix(":")
            continue
        if len(label) - len(label.lstrip()) > len(found[1]):
            label = ""  # of a part without thunks
        depth = len(found[1]) // 4
        parts = last[depth].parts
        if label or not parts:
            parts.append((label.strip(), []))
        thunk = _Thunk(found[3], int(found[2]), [])
        parts[-1][1].append(thunk)
        last[depth + 1 :], label = [thunk], ""
    return root.parts[0][1] if root.parts else []


class _Program:
    """The operations of a program by the names that its thunks have."""

    def __init__(self, text: str, names: dict[int, str]) -> None:
        self._names = names
        self._operations: dict[str, str] = {}
        self._computations: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in text.splitlines():
            if found := _COMPUTATION.match(line):
                lines = self._computations.setdefault(found[1], [])
            elif found := _OPERATION.match(line):
                self._operations[found[1]] = line
                lines.append(line)

    def kernels(self, thunks: list[_Thunk], in_graph: bool = False) -> Kernels:
        """Returns the launches of a sequence."""
        return sum((self._of(thunk, in_graph) for thunk in thunks), Kernels())

    def busiest(self, thunks: list[_Thunk]) -> list[_Thunk]:
        """Returns the body of the innermost loop that launches most, or all without a loop."""
        count = lambda loop: self._of(loop, False).launches
        loop = max(_loops(thunks), key=count, default=None)
        return self.busiest(dict(loop.parts)["body"]) if loop else thunks

    def _of(self, thunk: _Thunk, in_graph: bool) -> Kernels:
        parts = dict(thunk.parts)
        if thunk.kind == "While":
            return self._loop(thunk, in_graph)
        if thunk.kind == "Conditional":
            branches = (self.kernels(part, in_graph) for part in parts.values())
            return max(branches, key=lambda of: of.launches, default=Kernels())
        if parts:
            inside = in_graph or thunk.kind == "CommandBuffer"
            return sum((self.kernels(part, inside) for part in parts.values()), Kernels())
        if _NOTHING.match(thunk.kind):
            return Kernels()
        operation = self._operation(thunk)
        estimate = _PEAK.search(operation)
        seconds = 1e-6 * float(estimate[1]) if estimate else 0.0
        return Kernels(Counter({self._kind(thunk.kind, operation): 1}), int(in_graph), seconds)

    def _loop(self, thunk: _Thunk, in_graph: bool) -> Kernels:
        parts = dict(thunk.parts)
        body = self.kernels(parts.get("body", []), in_graph)
        if turns := _TURNS.search(self._operation(thunk)):
            return body * int(turns[1])  # XLA does not compute a condition that it knows.
        condition = self.kernels(parts.get("condition", []), in_graph)
        return (body + condition)._replace(open_ended=True)

    def _operation(self, thunk: _Thunk) -> str:
        return self._operations.get(self._names.get(thunk.number, ""), "")

    def _kind(self, thunk: str, operation: str) -> str:
        """Returns the kind of a launch from those of its thunk and its operation."""
        if fusion := _FUSION.search(operation):
            return self._fused(*fusion.groups())
        if target := _TARGET.search(operation):
            known = {"cublas": "product", "cudnn$conv": "convolution"}
            return next((kind for name, kind in known.items() if name in target[1]), target[1])
        if _COLLECTIVE.match(thunk):
            return "collective"
        if re.match("Copy|Mem|DeviceToDevice|HostToDevice|DeviceToHost", thunk):
            return "copy"
        return "sort" if " sort(" in operation else thunk

    def _fused(self, kind: str, computation: str) -> str:
        found = map(_CALL.search, self._computations[computation])
        inside = {operation[1] for operation in found if operation}
        if known := next((kind for name, kind in _KINDS.items() if name in inside), None):
            return known
        if re.search(r"dynamic_(update_)?slice", computation):
            return "copy"
        return "reduction" if "reduce" in inside and kind != "Loop" else "elementwise"


def _loops(thunks: list[_Thunk]) -> Iterator[_Thunk]:
    """Yields the outer loops of a sequence whose bodies launch something."""
    for thunk in thunks:
        if thunk.kind == "While":
            if "body" in dict(thunk.parts):
                yield thunk
        else:
            for _, part in thunk.parts:
                yield from _loops(part)

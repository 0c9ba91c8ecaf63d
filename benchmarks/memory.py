"""Peak memory of an evaluation over its number of rows: `python -m benchmarks.memory`.

Each number of rows has a process of its own, which evaluates a LeNet under two steps of PGD on
copies of the embedded digits, in batches of 100.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from benchmarks.tables import Table, console, show
from benchmarks.timing import Worker, arguments, machine, use_cpus, versions, write

ROWS = (1000, 2500, 5000, 10_000)


def main() -> None:
    args = _arguments()
    use_cpus(args.threads)
    report = {
        "benchmark": "memory",
        "machine": machine(),
        "versions": versions("adv_jax", "jax", "jaxlib"),
        "threads": args.threads,
        "rows": {str(rows): _measured(rows) for rows in args.rows},
    }
    show(tables(report))
    write(args.out, report)


def _arguments() -> argparse.Namespace:
    parser = arguments("memory", __doc__)
    parser.add_argument("--rows", nargs="*", type=int, default=ROWS)
    return parser.parse_args()


def _measured(rows: int) -> dict[str, int]:
    console.print(f"{rows} rows", style="dim")
    with Worker("benchmarks.memory_worker", env={"JAX_PLATFORMS": "cpu"}) as worker:
        return worker.call("evaluated", rows=rows)


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Returns the table of peaks."""
    cells = [
        (rows, *(f"{found[name] / 2**20:.0f}" for name in ("inputs", "before", "after")))
        for rows, found in report["rows"].items()
    ]
    columns = ("rows", "inputs, MiB", "peak before, MiB", "peak after, MiB")
    return [Table("Peak memory of a process that evaluates", columns, cells)]


if __name__ == "__main__":
    main()

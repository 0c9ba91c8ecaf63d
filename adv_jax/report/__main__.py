"""The command line: `python -m adv_jax.report maronas.fig26 [--workdir=RUN,...] [--out=results]`.

Draws figures of papers: OUT/PAPER/FIGURE.png, and OUT/PAPER/FIGURE.json with the numbers in it.
"""

import sys

from absl import app, flags, logging

from adv_jax.report import command
from adv_jax.step import use_cores

_WORKDIR = flags.DEFINE_string("workdir", None, "run that a figure draws, or runs")
_OUT = flags.DEFINE_string("out", "results", "where to write")
_LIST = flags.DEFINE_bool("list", False, "say what there is to draw")


def main(argv: list[str]) -> None:
    """Draws the figures that the arguments name; exits with 1 and one line on a mistake."""
    logging.set_verbosity(logging.FATAL)  # What matters of JAX's and Orbax' errors is raised too.
    if _LIST.value:
        print(*command.lines(), sep="\n")
        return
    use_cores()
    try:
        command.run(argv[1:], workdir=_WORKDIR.value, out=_OUT.value)
    except ValueError as error:
        sys.exit(f"error: {str(error).partition(chr(10))[0]}")
    except KeyboardInterrupt:
        sys.exit("stopped; nothing is written")


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)

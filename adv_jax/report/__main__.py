"""The command line: the book, or figures of papers.

    python -m adv_jax.report [--results=papers] [--out=book]

writes the book, OUT/index.html: the papers' numbers beside those in the folder of results.

    python -m adv_jax.report maronas2016.fig26 [--workdir=RUN ...] [--out=papers]

draws figures: OUT/PAPER/results/figures/FIGURE.png, and FIGURE.json with the numbers in it.
"""

import sys

from absl import app, flags, logging

from adv_jax.runner.command_line import read_flags
from adv_jax.runner.devices import check_devices, use_cores
from adv_jax.runner.output import standard_output
from papers import book, figures

_WORKDIR = flags.DEFINE_multi_string("workdir", [], "directory of a run; repeated or with commas")
_RESULTS = flags.DEFINE_string("results", "papers", "folder that the book is made from")
_OUT = flags.DEFINE_string("out", None, "where to write; book for the book, papers for figures")
_LIST = flags.DEFINE_bool("list", False, "say what there is to draw")


def main(argv: list[str]) -> None:
    """Draws the figures that the arguments name, or makes the book if they name none.

    Exits with 1 and one line on a mistake.
    """
    logging.set_verbosity(logging.FATAL)  # What matters of JAX's and Orbax' errors is raised too.
    if _LIST.value:
        print(*figures.lines(), sep="\n")
        return
    names = argv[1:]
    workdirs = [part for value in _WORKDIR.value for part in value.split(",")]
    try:
        if names or workdirs:
            use_cores()
            check_devices()
            figures.run(names, workdirs=workdirs, out=_OUT.value or "papers")
        else:
            book.build(_RESULTS.value, _OUT.value or "book")
    except ValueError as error:
        sys.exit(f"error: {str(error).partition(chr(10))[0]}")
    except KeyboardInterrupt:
        sys.exit("stopped; nothing is written")


if __name__ == "__main__":
    with standard_output():
        app.run(main, flags_parser=read_flags)

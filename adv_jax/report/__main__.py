"""Draws figures of papers.

    python -m adv_jax.report --list
    python -m adv_jax.report maronas2016.fig26
    python -m adv_jax.report maronas2016.fig23_24 --workdir=RUN [--out=papers]

writes OUT/PAPER/results/figures/FIGURE.png, and the numbers in FIGURE.json. The list says which
figures need a run, or several.
"""

from absl import app, flags

from adv_jax.runner.config.command_line import define_path, read_flags, workdirs
from adv_jax.runner.host.compilation import keep_programs
from adv_jax.runner.host.devices import check_devices, use_cores
from adv_jax.runner.host.ending import first_line_of_errors, without_traceback
from papers.running import figures

_WORKDIR = flags.DEFINE_multi_string("workdir", [], "directory of a run; repeated or with commas")
_OUT = define_path("out", "papers", "output folder")
_LIST = flags.DEFINE_bool("list", False, "list the figures")


def main(argv: list[str]) -> None:
    """Draws the figures that the arguments name."""
    if _LIST.value:
        print(*figures.lines(), sep="\n")
        return
    names, runs = argv[1:], workdirs(_WORKDIR.value)
    use_cores()
    keep_programs()
    check_devices()
    figures.run(names, workdirs=runs, out=_OUT.value)


if __name__ == "__main__":
    with without_traceback(), first_line_of_errors():
        app.run(main, flags_parser=read_flags)

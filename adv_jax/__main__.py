"""Lists the commands and configs: `python -m adv_jax`; `python -m adv_jax --version`."""

import sys

from adv_jax import __version__
from adv_jax.runner.config import catalog
from adv_jax.runner.host.ending import without_traceback

_HELP = """\
adv_jax {version}: adversarial perturbations and adversarial training as pure JAX functions

Commands; --help has the flags of each:
  python -m adv_jax.main      train a config: --config=NAME[:MODE] or FILE.py[:MODE]
  python -m adv_jax.evaluate  attack the models of finished runs: --workdir=RUN
  python -m adv_jax.report    draw a figure of a paper
  python -m launch.reproduce  train the runs of a paper's table and compare
  python -m launch.join       join runs of different seeds into one run
  python -m launch.sweep      grid or search over any fields of a config: --config=NAME
  python -m launch.compile    compile a config for GPUs or TPUs that are not there

Configs; mode paper is the default, mode quick takes minutes or less:
{configs}"""


def main(arguments: list[str]) -> None:
    """Prints the help or the version; exits with 1 if there are other arguments."""
    if arguments == ["--version"]:
        print(f"adv_jax {__version__}")
    elif arguments in ([], ["--help"]):
        configs = [f"  {name:18} {catalog.about(name)}" for name in catalog.names()]
        print(_HELP.format(version=__version__, configs="\n".join(configs)))
    else:
        given = " ".join(arguments)
        sys.exit(f"error: the argument must be --help, --version or none, got {given!r}")


if __name__ == "__main__":
    with without_traceback():
        main(sys.argv[1:])

"""Writes the pages that show measured numbers: `python -m papers.pages`."""

from absl import app

from adv_jax.runner.config.command_line import read_flags_alone
from adv_jax.runner.host.ending import first_line_of_errors, without_traceback
from papers.pages.generated import main

if __name__ == "__main__":
    with without_traceback(), first_line_of_errors():
        app.run(lambda _: main(), flags_parser=read_flags_alone)

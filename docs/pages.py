"""Writes every generated page and part of a page: `python -m docs.pages`.

A module of `MODULES` makes its pages from stored results, docstrings or another page. A test fails
if one is stale.
"""

from pathlib import Path

from absl import app

from adv_jax.runner.config.command_line import read_flags_alone
from adv_jax.runner.host.ending import first_line_of_errors, without_traceback
from adv_jax.runner.store.writing import replace
from benchmarks import pages as benchmarks
from docs import notebook, reference
from launch.compiling import gpu_page, tpu_page
from papers.pages import generated

ROOT = Path(__file__).parents[1]
# `pages()` of each returns the content of its pages by their path.
MODULES = (generated, benchmarks, gpu_page, tpu_page, reference, notebook)


def main() -> None:
    """Writes the pages that changed, and prints their paths.

    Raises:
      UserError: a stored file or a page of hand-written text is invalid.
    """
    for module in MODULES:
        # Two modules write parts of README.md: each reads what the one before wrote.
        for path, text in module.pages().items():
            if not path.exists() or path.read_text("utf-8") != text:
                replace(path, text.encode())
                print(path.relative_to(ROOT))


if __name__ == "__main__":
    with without_traceback(), first_line_of_errors():
        app.run(lambda _: main(), flags_parser=read_flags_alone)

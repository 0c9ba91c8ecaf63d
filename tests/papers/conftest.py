"""The figures of papers that need no run, drawn once."""

import json

import pytest

from papers import figures
from papers.registry import FIGURES


@pytest.fixture(scope="session")
def drawn_toys(tmp_path_factory):
    """The folder of Maronas' PNG and JSON files."""
    out = tmp_path_factory.mktemp("out")
    toys = [name for name, draw in FIGURES.items() if not figures.takes_run(draw)]
    figures.run([name for name in toys if name.startswith("maronas2016.")], out=str(out))
    return out / "maronas2016" / "results" / "figures"


@pytest.fixture(scope="session")
def document(drawn_toys):
    """Name of a figure -> what its JSON holds."""
    return lambda name: json.loads((drawn_toys / f"{name}.json").read_text())

"""The figures of papers that need no run, drawn once."""

import json

import pytest

from adv_jax.report import command


@pytest.fixture(scope="session")
def drawn_toys(tmp_path_factory):
    """The folder of Maronas' PNG and JSON files."""
    out = tmp_path_factory.mktemp("out")
    toys = [n for n, draw in command.PAPERS["maronas"].items() if not command.takes_run(draw)]
    command.run([f"maronas.{name}" for name in toys], out=str(out))
    return out / "maronas"


@pytest.fixture(scope="session")
def document(drawn_toys):
    """Name of a figure -> what its JSON holds."""
    return lambda name: json.loads((drawn_toys / f"{name}.json").read_text())

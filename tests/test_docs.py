"""The pages under docs/ are complete and agree with the code."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"\| `([\w.-]+)` \| ([\w, ]+) \| [^|]+ \| ([^|]+) \| [^|]+ \|")
# How a package says it that does not use the name of the license in the table.
IN_WORDS = {"PSF": "Python Software Foundation"}
COMMANDS = {"__init__", "__main__", "main", "report"}


def page():
    """(dependency, where, license) of every row of docs/dependencies.md."""
    rows = (ROOT / "docs" / "dependencies.md").read_text().splitlines()
    return [(m[1], m[2].split(", "), m[3]) for m in map(ROW.fullmatch, rows) if m]


def declared():
    """{where: names} of pyproject.toml."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = document["project"]
    lists = {"core": project["dependencies"], "build": document["build-system"]["requires"]}
    lists |= project["optional-dependencies"]
    return {
        where: {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}
        for where, requirements in lists.items()
    }


def said(name):
    """Returns all metadata of an installed package about its license."""
    metadata = importlib.metadata.metadata(name)
    fields = [metadata.get("License-Expression", ""), metadata.get("License", "")]
    classifiers = metadata.get_all("Classifier", [])
    return " ".join(fields + [c for c in classifiers if c.startswith("License")])


def test_the_table_of_dependencies_equals_pyproject_toml():
    found = {}
    for name, where, _ in page():
        for place in where:
            found.setdefault(place, []).append(name)
    assert {place: sorted(names) for place, names in found.items()} == {
        place: sorted(names) for place, names in declared().items()
    }


def test_licenses_equal_those_of_the_installed_packages():
    wrong = {}
    for name, _, license in page():
        try:
            text = said(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        family = re.match("[A-Z]+", license, re.IGNORECASE)[0]
        if IN_WORDS.get(family, family) not in text:
            wrong[name] = text
    assert wrong == {}


def test_every_module_is_in_the_api_reference():
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    shown = set(re.findall(r"automodule:: (?:adv_jax\.)?(\w+)", pages))
    rooms = {path.stem for path in (ROOT / "adv_jax").iterdir() if path.suffix in (".py", "")}
    assert shown == (rooms | {"papers"}) - COMMANDS - {"__pycache__"}

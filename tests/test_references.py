"""docs/REFERENCES.md: every cited key has an entry, and every entry is cited and complete."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KEY = r"[a-z]+(?:19|20)\d\d[a-z]*"
CITED = re.compile(rf"\[({KEY})(?:\]|, )")
ENTRY = re.compile(
    r'\| <a id="(?P<anchor>\w+)"></a>`(?P<key>\w+)` \| (?P<authors>[^(]+) \((?P<year>\d{4})\)\. '
    r"\[(?P<title>[^\]]+)\]\((?P<link>https://\S+)\)\. (?P<venue>.+)\. \|"
)
FOLDERS = ("adv_jax", "benchmarks", "configs", "docs", "launch", "papers")


def entries(text):
    """The rows of the table; a row that is not an entry is an error."""
    rows = [line for line in text.splitlines() if line.startswith("| <a")]
    found = [ENTRY.fullmatch(row) for row in rows]
    assert None not in found, rows[found.index(None)]
    return [match.groupdict() for match in found]


def cited():
    """{key: file} of all citations in code and guides."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
    files += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    texts = [p for p in files if p.suffix in (".py", ".md") and p.name != "REFERENCES.md"]
    return {key: path for path in texts for key in CITED.findall(path.read_text("utf-8"))}


@pytest.fixture(scope="module")
def table():
    return entries((ROOT / "docs" / "REFERENCES.md").read_text("utf-8"))


def test_every_cited_key_has_an_entry_and_every_entry_is_cited(table):
    assert {entry["key"] for entry in table} == set(cited())


def test_entries_are_complete_and_sorted(table):
    keys = [entry["key"] for entry in table]
    assert keys == sorted(set(keys))
    for entry in table:
        assert entry["anchor"] == entry["key"] and entry["year"] in entry["key"]
        name = entry["authors"].split(",")[0].split()[-1].lower().translate(ACCENTS)
        assert entry["key"].startswith(re.sub(r"[^a-z]", "", name)) or name in COMPOUND


ACCENTS = str.maketrans("éèáàøñíó", "eeaaonio")
COMPOUND = {"molano"}  # the second family name of maronas2016


@pytest.mark.parametrize(
    "row", ['| <a id="a2000"></a>`a2000` | A. B (2000). No link. Venue. |', '| <a id="x"></a>']
)
def test_a_row_that_is_not_an_entry_is_found(row):
    with pytest.raises(AssertionError):
        entries(row)


def test_every_public_attack_and_objective_cites_a_source():
    for folder in ("attacks", "objectives"):
        for path in (ROOT / "adv_jax" / folder).glob("[!_]*.py"):
            text = path.read_text()
            named = "Source" in text and (CITED.search(text) or "shallow-net thesis" in text)
            assert named or path.name in ("noise.py", "cross_entropy.py"), path

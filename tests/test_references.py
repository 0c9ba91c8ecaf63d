"""docs/REFERENCES.md: every cited key has an entry, and every entry is cited and complete."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from adv_jax import attacks, objectives

ROOT = Path(__file__).parents[1]
KEY = r"[a-z]+(?:19|20)\d\d[a-z]*"
# [madry2018] and [madry2018, sec. 2.1] in code; REFERENCES.md#madry2018 in a guide's link.
CITED = re.compile(rf"(?<![\w)])\[({KEY})(?:\]|,\s)|REFERENCES\.md#([\w-]+)")
# Madry 2018, Warde-Farley & Goodfellow (2016), Athalye, Carlini & Wagner 2018, Huang et al. 2015.
NAMED = re.compile(
    r"(?<![\"\w-])[A-Z][\w-]+(?:,? (?:&|and) [A-Z][\w-]+| et al\.)?,? \(?(?:19|20)\d\d"
)
ENTRY = re.compile(
    r'\| <a id="(?P<anchor>\w+)"></a>`(?P<key>\w+)` \| (?P<authors>[^(]+) \((?P<year>\d{4})\)\. '
    r"\[(?P<title>[^\]]+)\]\((?P<link>https://\S+)\)\. (?P<venue>.+)\. \|"
)
CODE = ("adv_jax", "benchmarks", "configs", "launch", "papers", "tests")


def entries(text):
    """The rows of the table; a row that is not an entry is an error."""
    rows = [line for line in text.splitlines() if line.startswith("| <a")]
    found = [ENTRY.fullmatch(row) for row in rows]
    assert None not in found, rows[found.index(None)]
    return [match.groupdict() for match in found]


def cited():
    """{key: file} of all citations in code and guides."""
    files = [path for folder in (*CODE, "docs") for path in (ROOT / folder).rglob("*.*")]
    files += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    here = ("REFERENCES.md", Path(__file__).name)
    texts = [p for p in files if p.suffix in (".py", ".md") and p.name not in here]
    return {key: path for path in texts for key in cited_in(path.read_text("utf-8"))}


def cited_in(text):
    return {code or link for code, link in CITED.findall(text)}


def named_in(source):
    """The works that docstrings name by author and year."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED)]
    texts = [ast.get_docstring(node) or "" for node in nodes]
    return [name for text in texts for name in NAMED.findall(" ".join(text.split()))]


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


@pytest.fixture(scope="module")
def table():
    return entries((ROOT / "docs" / "REFERENCES.md").read_text("utf-8"))


def test_every_cited_key_has_an_entry_and_every_entry_is_cited(table):
    listed, used = {entry["key"] for entry in table}, cited()
    missing = {key: str(used[key].relative_to(ROOT)) for key in sorted(used.keys() - listed)}
    assert not missing, f"add an entry to docs/REFERENCES.md for each key: {missing}"
    unused = sorted(listed - used.keys())
    assert not unused, f"cite {unused} in a docstring or remove them from docs/REFERENCES.md"


def test_entries_of_the_references_are_complete_and_sorted(table):
    keys = [entry["key"] for entry in table]
    assert keys == sorted(set(keys)), "sort the entries by their keys, each once"
    for entry in table:
        assert entry["anchor"] == entry["key"] and entry["year"] in entry["key"]
        name = entry["authors"].split(",")[0].split()[-1].lower().translate(ACCENTS)
        assert entry["key"].startswith(re.sub(r"[^a-z]", "", name)) or name in COMPOUND


def test_docstrings_cite_keys_instead_of_authors_and_years():
    paths = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    named = {path: named_in(path.read_text("utf-8")) for path in paths}
    assert {path: names for path, names in named.items() if names} == {}


def test_citations_are_found_in_code_and_in_links():
    text = "[madry2018], [huang2015, Prop. 3] [maronas2016,\nsec. 3]; f32[b2018], x[i2018, j]"
    assert cited_in(text) == {"madry2018", "huang2015", "maronas2016"}
    assert cited_in("[Madry](docs/REFERENCES.md#madri2018).") == {"madri2018"}


@pytest.mark.parametrize(
    "name", ["Huang 2015", "Huang et\nal. 2015", "Warde-Farley & Goodfellow 2016", "Rasmus (2015"]
)
def test_a_work_that_is_named_by_author_and_year_is_found(name):
    assert named_in(f'"""As in {name}, sec. 3."""') == [" ".join(name.split())]
    assert named_in('def f():\n    """[huang2015], ITU-R BT.601; "Huang 2015"."""') == []


ACCENTS = str.maketrans("éèáàøñíó", "eeaaonio")
COMPOUND = {"molano"}  # the second family name of maronas2016


@pytest.mark.parametrize(
    "row", ['| <a id="a2000"></a>`a2000` | A. B (2000). No link. Venue. |', '| <a id="x"></a>']
)
def test_a_row_that_is_not_an_entry_is_found(row):
    with pytest.raises(AssertionError):
        entries(row)


@pytest.mark.parametrize("room", [attacks, objectives])
def test_every_public_attack_and_objective_cites_a_source(room):
    own = re.compile(rf"{room.__name__}\.[a-z]\w*")  # not of a module such as _attack
    silent = [
        name
        for name, function in vars(room).items()
        if inspect.isfunction(function)
        and own.fullmatch(function.__module__)
        and not CITED.search(function.__doc__ or "")
    ]
    advice = f"add a line such as 'Source: [madry2018], eq. 2.' to the docstrings of {silent}"
    assert set(silent) <= {"forward_only", "objective"}, advice

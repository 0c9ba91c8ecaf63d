"""The pages under docs/ are complete and agree with the code."""

import ast
import importlib.metadata
import inspect
import re
import tomllib
from pathlib import Path

import pytest
from config_files import CONFIGS

import adv_jax
from adv_jax import attacks, generative, models, objectives
from docs.docstrings import completed

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"\| `([\w.-]+)` \| ([\w, ]+) \| [^|]+ \| ([^|]+) \| [^|]+ \|")
# How a package says it that does not use the name of the license in the table.
IN_WORDS = {"PSF": "Python Software Foundation"}
# What the public functions share, of which users call nothing.
INTERNAL = {
    "annotations",
    "checks",
    "linear_bounds",
    "loss_gradients",
    "row_flags",
    "meshes",
    "perturbations",
    "programs",
    "suggestions",
}
COMMANDS = {"__init__", "__main__", "main", "report"}
GUIDES = (
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "papers").rglob("README.md"),
    *(ROOT / name / "README.md" for name in ("adv_jax/attacks", "benchmarks", "launch")),
)
FOLDERS = "adv_jax|benchmarks|configs|docs|launch|papers|results|tests"
# Placeholders are globs, <author>, PAPER, and `results/`, a folder that each work has.
PATH = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./<>*{{}}-]*")
PLACEHOLDER = re.compile(r"[<*{]|^results/([\w.-]+/)*$|(?<![A-Za-z])[A-Z]{2,}(?![A-Za-z]|\.md)")


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


def test_every_module_is_in_the_api_reference_or_internal():
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    shown = set(re.findall(r"(?:automodule|currentmodule):: (?:adv_jax\.)?(\w+)", pages))
    rooms = {path.stem for path in (ROOT / "adv_jax").iterdir() if path.suffix in (".py", "")}
    assert shown >= set(adv_jax.__all__) - {"attack"}
    assert shown == (rooms | {"papers"}) - INTERNAL - COMMANDS - {"__pycache__"}


def test_no_heading_of_the_api_reference_is_inside_a_block():
    for path in (ROOT / "docs" / "api").glob("*.md"):
        blocks = path.read_text().split("```")
        # Text and blocks take turns.
        assert len(blocks) % 2 and not [block for block in blocks[1::2] if "\n## " in block]


def test_the_api_reference_lists_all_functions_of_attacks():
    page = (ROOT / "docs" / "api" / "attacks.md").read_text()
    listed = re.findall(r"^   (\w+)$", page, flags=re.MULTILINE)
    public = [name for name in vars(attacks) if inspect.isfunction(getattr(attacks, name))]
    missing, unknown = sorted({*public} - {*listed}), sorted({*listed} - {*public})
    assert not missing, f"run python -m docs.pages or add {missing} to docs/api/attacks.md"
    assert not unknown, f"remove {unknown} from docs/api/attacks.md"
    assert len(listed) == len({*listed})


def test_the_api_reference_shows_all_modules_of_models_and_objectives():
    text = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    for registry in (models, generative.models, models.initializers, objectives):
        for name in registry.__all__:
            module = getattr(registry, name).__module__
            packages = module, module.rpartition(".")[0]
            shown = any(f".. automodule:: {package}\n" in text for package in packages)
            assert shown, f"add {module}, in which {name} is, to docs/api"


def test_the_guide_of_attacks_names_each_with_its_equation():
    guide = ROOT / "adv_jax" / "attacks" / "README.md"
    missing = [name for name in attacks.__all__ if f"`{name}" not in guide.read_text("utf-8")]
    assert not missing, f"add a line with equation and source to {guide} for {missing}"


@pytest.mark.parametrize(
    "package",
    [attacks, models, models.initializers, objectives, generative.models, generative.objectives],
    ids=lambda package: package.__name__,
)
def test_a_name_for_configs_is_imported_and_has_a_docstring(package):
    for name in package.__all__:
        assert hasattr(package, name), f"import {name} in {package.__file__}, as __all__ names it"
        assert getattr(package, name).__doc__, f"{name} of {package.__name__} needs a docstring"


def test_the_reference_has_the_sentence_of_a_setting_as_in_another_function():
    settings = "x, key: as in `fgsm`.", "bounds: as in `fgsm`; required.", "tau: as in `nothing`."
    lines = completed("\n  ".join(["Args:", *settings]), "adv_jax.attacks.pgd").splitlines()
    assert "  x: f[B, *D], inside `bounds`." in lines
    assert "  key: not used; every attack accepts one." in lines
    assert any(line.endswith("in the papers; required.") for line in lines)
    assert "  tau: as in `nothing`." in lines


def test_no_setting_of_an_attack_refers_to_another_function_alone():
    for name in attacks.__all__:
        attack = getattr(attacks, name)
        assert attack.__doc__, f"{name} needs a docstring"
        text = completed(inspect.getdoc(attack), attack.__module__)
        assert not re.search(r"^ +\w[\w, ]*: as in `\w+`\.$", text, re.MULTILINE), name


def paths(text):
    """The paths of the repository in a text, without those that have globs or placeholders."""
    found = (match.rstrip(".") for match in PATH.findall(text))
    return [path for path in found if not PLACEHOLDER.search(path)]


def quoted(page):
    """The text in single backquotes of a page, outside of blocks of code."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    return " ".join(re.findall(r"`([^`\n]+)`", prose))


def missing(names, folder):
    """The paths that exist neither in the repository nor in the folder of their page."""
    return [name for name in names if not any((at / name).exists() for at in (ROOT, folder))]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_in_backquotes_of_a_guide_exists(guide):
    assert missing(paths(quoted(guide.read_text("utf-8"))), guide.parent) == []


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_path_in_the_docstring_of_a_config_exists(config):
    document = ast.get_docstring(ast.parse(config.read_text("utf-8")))
    assert missing(paths(document), config.parent) == []


def test_a_path_that_does_not_exist_is_found():
    page = "`results/a.json`, `configs/PAPER.py`, `papers/<a>/b`\n```sh\nlaunch/c\n```\n`docs/*`"
    assert missing(paths(quoted(page)), ROOT / "docs") == ["results/a.json"]
    document = "--config=configs/no.py:quick; docs/REFERENCES.md."
    assert missing(paths(document), ROOT) == ["configs/no.py"]

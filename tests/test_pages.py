"""Generated pages: they are not stale, and one command writes them."""

import json
import shutil

import pytest

from docs import pages
from launch.compiling import gpu_page
from papers.pages.markup import BEGIN, with_generated


@pytest.mark.parametrize("module", pages.MODULES, ids=lambda module: module.__name__)
def test_no_generated_page_is_stale(module):
    made = module.pages()
    stale = [str(path) for path, text in made.items() if path.read_text("utf-8") != text]
    assert made and not stale, "run python -m docs.pages"


def test_all_pages_that_bear_the_mark_are_generated():
    made = {path for module in pages.MODULES for path in module.pages()}
    folders = ("*.md", "benchmarks/*.md", "docs/**/*.md", "launch/*.md", "papers/**/*.md")
    marked = {path for folder in folders for path in pages.ROOT.glob(folder)}
    assert {path for path in marked if f"\n{BEGIN}\n" in path.read_text("utf-8")} <= made


def test_the_command_writes_what_changed_and_names_it(monkeypatch, tmp_path, capsys):
    page, result = tmp_path / "GPU.md", tmp_path / "gpu.json"
    shutil.copy(gpu_page.PAGE, page)
    name, document = next(iter(json.loads(gpu_page.RESULT.read_text("utf-8")).items()))
    result.write_text(json.dumps({name: document}))
    monkeypatch.setattr(gpu_page, "PAGE", page)
    monkeypatch.setattr(gpu_page, "RESULT", result)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "MODULES", (gpu_page,))
    pages.main()
    assert capsys.readouterr().out == "GPU.md\n"
    assert "## Not compiled\n\nEvery case" not in page.read_text("utf-8")
    pages.main()
    assert capsys.readouterr().out == ""


def test_a_page_without_its_marks_is_named(tmp_path):
    (tmp_path / "page.md").write_text("no marks")
    with pytest.raises(ValueError, match="page.md must have the lines"):
        with_generated(tmp_path / "page.md", "text")


@pytest.mark.slow
def test_the_command_refuses_arguments_and_has_a_help(commands):
    wrong = commands.run("huang2015", module="docs.pages")
    line = "error: the arguments must be flags, --..., got 'huang2015'\n"
    assert (wrong.status, wrong.out, wrong.err) == (1, "", line)
    shown = commands.run("--help", module="docs.pages")
    assert shown.out.strip().startswith("Writes ") and "results.md\n" not in shown.out

"""The generated pages: in step with the results, with the three verdicts and no number by hand."""

import json
import re
import shutil

import pytest
from command_line import ROOT

from papers.judging import numbers
from papers.judging.statistics import LEVEL, MOST_TESTS
from papers.judging.verdicts import VERDICTS
from papers.pages import chapters, counts, generated, side_by_side
from papers.running import stored, works


@pytest.fixture(scope="module")
def made():
    return generated.pages()


def test_no_generated_page_is_stale(made):
    """If one is: python -m papers.pages"""
    stale = [str(path) for path, text in made.items() if path.read_text("utf-8") != text]
    assert stale == []


def test_there_is_a_page_for_the_results_the_readme_and_each_work(made):
    folders = {ROOT / "papers" / name / "README.md" for name in numbers.load()}
    assert (
        made.keys()
        == {
            ROOT / "README.md",
            ROOT / "docs" / "results.md",
            ROOT / "papers" / "README.md",
        }
        | folders
    )


def test_a_changed_result_changes_the_pages(tmp_path, made):
    for path in made:
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    for path in (ROOT / "papers").glob("*/results"):
        shutil.copytree(path, tmp_path / path.relative_to(ROOT))
    result = tmp_path / "papers/maronas2016/results/runs/ladder_mnist_100_sgn.json"
    document = json.loads(result.read_text())
    document["replicas"][0]["test_error"] = 0.0323
    document["replicas"][1]["test_error"] = 0.0325
    result.write_text(json.dumps(document))
    changed = generated.pages(tmp_path)
    for page in ("README.md", "docs/results.md", "papers/maronas2016/README.md"):
        assert "2.51 % against" in changed[tmp_path / page]  # the mean of 3.23, 3.25 and 1.06
        assert "2.51 %" not in made[ROOT / page]


def cells_of(text):
    """The cells of the rows of the first table in a page's text."""
    rows = text[text.index("\n| ") + 1 :].partition("\n\n")[0].splitlines()
    return [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in rows[2:]]


def test_the_rows_side_by_side_are_rows_of_results():
    labels = {row.label for target in works.TARGETS.values() for row in target.rows}
    documents = [
        one for paper in numbers.load().values() for one in paper.single_runs.get("documents", ())
    ]
    labels |= {row["label"] for one in documents for row in one["rows"]}
    shown = side_by_side.WITH_100_LABELS | side_by_side.WITH_1000_LABELS | side_by_side.GENERATORS
    assert labels >= shown.keys() >= side_by_side.ELSEWHERE.keys()


@pytest.mark.parametrize(
    ("begin", "names"),
    [
        ("digits with 100 labels", side_by_side.WITH_100_LABELS),
        ("same with 1,000 labels", side_by_side.WITH_1000_LABELS),
    ],
    ids=["100 labels", "1,000 labels"],
)
def test_a_table_of_few_labels_has_known_rows_the_lowest_error_first(made, begin, names):
    cells = cells_of(made[ROOT / "docs" / "results.md"].partition(begin)[2])
    known = {words.format(target=target) for words in names.values() for target in works.TARGETS}
    assert len({*map(tuple, cells)}) == len(cells) and {method for method, *_ in cells} <= known
    errors = [float(error.split()[0]) for _, _, _, error, _ in cells]
    assert len(errors) > 2 and errors == sorted(errors)


def test_the_generators_are_beside_all_numbers_of_table_1_the_best_first(made):
    results = [json.loads(p.read_text()) for p in ROOT.glob("papers/goodfellow2014/results/*.json")]
    stored = {row["label"] for result in results for row in result["rows"]}
    measured = side_by_side.GENERATORS.keys() & stored
    for page in (ROOT / "docs" / "results.md", ROOT / "papers/goodfellow2014/README.md"):
        cells = cells_of(made[page].partition(generated.LIKELIHOODS)[2])
        ours = [float(ours.split()[0]) for _, _, ours, _ in cells if ours != "–"]
        assert len(ours) == len(measured) >= 4 and ours == sorted(ours, reverse=True)
        cited = {cited for _, cited, _, _ in cells}
        assert cited >= {"225 nats", "214 nats", "138 nats", "121 nats"}
        others = [name for name, _, ours, _ in cells if ours == "–"]
        assert sorted(others) == ["DBN", "Deep GSN", "Stacked CAE"]
    other = made[ROOT / "papers/maronas2016/README.md"]
    assert generated.LIKELIHOODS not in other


def test_every_verdict_is_one_of_three_words(made):
    cells = re.findall(r"\| \*\*([^*]+)\*\*", made[ROOT / "docs" / "results.md"])
    assert len(cells) > 100 and set(cells) <= set(VERDICTS)
    table = made[ROOT / "README.md"].partition(generated.BEGIN)[2].partition(generated.END)[0]
    last = [
        line.split(" | ")[-1].rstrip(" |") for line in table.splitlines() if line.startswith("|")
    ]
    assert {word.removesuffix(" (short run)") for word in last[2:]} <= set(VERDICTS)


def test_docs_results_says_of_a_number_what_its_line_does(found, made):
    text = made[ROOT / "docs" / "results.md"]
    for paper in numbers.load().values():
        chapter = chapters.chapter(paper, found)
        for line in (*chapter.lines, *chapter.claims):
            if line.verdict.word in VERDICTS and "|" not in line.label + line.ours:
                assert (
                    f"| {line.paper} | {'; '.join(filter(None, (line.ours, line.runs)))} |" in text
                )


def test_the_level_allows_for_as_many_tests_as_the_results_hold(found, made):
    """If they hold more, drop tests: a higher MOST_TESTS would move verdicts."""
    tests = sum(chapters.chapter(p, found).num_tests for p in numbers.load().values())
    assert 0.9 * MOST_TESTS <= tests <= MOST_TESTS
    text = made[ROOT / "papers" / "README.md"]
    assert f"The results hold {tests} tests" in text and f"= {LEVEL:g} (Bonferroni" in text


def test_the_overview_counts_what_a_work_prints_once(found, made):
    """Huang's Fig. 1 has two claims, on seven orders of a perceptron and one of LeNet."""
    one = chapters.chapter(numbers.load()["huang2015"], found)
    printed = [name for name, entry in one.paper.entries.items() if entry["kind"] == "claim"]
    counted = counts.counted(one)
    without = [line for line in one.claims if line.verdict.word == ""]
    assert sum(counted["claims"].values()) == len(printed) - len(without)
    orders = [line.verdict.word for line in one.claims if line.key == "huang2015.fig1.order"]
    assert sorted(orders) == ["reproduced"] * 3 + ["undecided"] * 2
    assert counts._joint(orders) == "undecided"
    assert counts._joint(["reproduced", "undecided", "not reproduced"]) == "not reproduced"
    assert counts._joint(["reproduced", "reproduced"]) == "reproduced"


def test_the_worked_examples_of_the_shallow_net_thesis_are_no_numbers():
    """Of 25 recomputed values 4 are slips; 10 numbers are measured."""
    one = chapters.chapter(numbers.load()["shallow_thesis"], stored.Results({}, {}, {}))
    counted = counts.counted(one)
    assert [*counted["arithmetic"].values()] == [21, 4, 0, 0]
    assert [*counted["numbers"].values()] == [0, 0, 0, 10]


def test_everything_that_was_not_run_is_listed(found, made):
    for paper in numbers.load().values():
        one = chapters.chapter(paper, found)
        text = made[ROOT / "papers" / paper.name / "README.md"].partition("Not run:")[2]
        text = text.partition("Other figures:")[0]
        claims = [line for line in one.claims if line.verdict.word == "not run"]
        cells = [line for line in one.lines if line.verdict.word == "not run"]
        listed = [line for line in text.splitlines() if line.startswith("- ")]
        sizes = [int(size) for size in re.findall(r": (\d+) numbers?$", text, re.MULTILINE)]
        assert (len(listed), sum(sizes)) == (len(claims) + len(sizes), len(cells))


def test_runs_of_a_short_budget_are_marked_with_the_epochs_of_the_paper():
    trained = {"epochs": [9, 4], "paper_epochs": 100, "data": {"name": "mnist"}}
    length = chapters.length_in_words
    assert length("short", [trained]) == "4 to 9 of 100 epochs"
    assert (
        length("quick", [trained, {**trained, "paper_epochs": 50}]) == "4 to 9 of 50 to 100 epochs"
    )
    assert length("paper", [trained]) == "4 to 9 epochs"  # It may have stopped early.


def test_a_figure_of_short_runs_or_of_an_earlier_loss_says_so(made):
    listed = {
        (paper, figure): text
        for paper in numbers.load()
        for figure, text in re.findall(
            r"^- `(.+?)` \(.*?\)\): (.*)$",
            made[ROOT / "papers" / paper / "README.md"].partition("Other figures:")[2],
            re.MULTILINE,
        )
    }
    earlier = listed["maronas2016", "fig23_24"]
    assert earlier.endswith(numbers.load()["maronas2016"].single_runs["earlier_loss"]["why"])
    for (paper, figure), text in listed.items():
        result = ROOT / "papers" / paper / "results" / f"{figure}.json"
        if result.exists():
            is_short = json.loads(result.read_text())["budget"] == "short"
            assert ("A short run, " in text) == is_short, figure


def test_every_figure_of_a_work_is_on_its_page(made):
    for paper in numbers.load():
        text = made[ROOT / "papers" / paper / "README.md"].partition(generated.BEGIN)[2]
        for path in (ROOT / "papers" / paper / "results" / "figures").glob("*.json"):
            links = re.findall(rf"\(results/figures/{path.stem}\.(png|json)\)", text)
            shown = ["png", "json"] if path.with_suffix(".png").exists() else ["json"]
            assert links == shown or f"Figure `{path.stem}`: " in text


def test_decided_claims_stand_first(made):
    for paper in numbers.load():
        text = made[ROOT / "papers" / paper / "README.md"].partition("| claim |")[2]
        words = re.findall(r"\| \*\*([^*]+)\*\*", text.partition("| number |")[0])
        assert words == sorted(words, key=VERDICTS.index)


def test_a_page_without_its_marks_is_named(tmp_path):
    (tmp_path / "page.md").write_text("no marks")
    with pytest.raises(ValueError, match="page.md must have the lines"):
        generated._with_generated(tmp_path / "page.md", "text")


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_command_outside_a_clone_ends_in_one_line(tmp_path):
    line = f"error: papers.pages must run in a clone of adv_jax, got {tmp_path}: no README.md"
    with pytest.raises(SystemExit, match=f"^{re.escape(line)}$"):
        generated.main(tmp_path)
    assert list(tmp_path.iterdir()) == []

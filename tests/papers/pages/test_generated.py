"""The generated pages: in step with the results, with the words of the rules."""

import json
import re
import shutil

import pytest
from command_line import ROOT

from papers.judging import numbers
from papers.judging.verdicts import num_tests
from papers.judging.words import FINDINGS
from papers.pages import chapters, generated, printed, side_by_side, summary, wording
from papers.running import stored, works


@pytest.fixture(scope="module")
def made():
    return generated.pages()


def test_there_is_a_page_for_the_results_the_readme_and_each_work(made):
    folders = {ROOT / "papers" / name / "README.md" for name in numbers.load()}
    others = {ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "papers" / "README.md"}
    assert made.keys() == others | folders


@pytest.mark.slow
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
    for page in ("docs/results.md", "papers/maronas2016/README.md"):
        assert ": 2.51 % against" in changed[tmp_path / page]  # the mean of 3.23, 3.25 and 1.06
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


def test_every_word_of_a_claim_is_a_finding(made):
    cells = re.findall(r"\| \*\*([^*]+)\*\*", made[ROOT / "docs" / "results.md"])
    assert len(cells) > 30 and set(cells) <= set(FINDINGS)


def test_a_table_has_the_rows_and_columns_of_the_paper(found, made):
    """Huang's Table 1: five nets on clean digits and under four attacks."""
    for page in (ROOT / "docs" / "results.md", ROOT / "papers/huang2015/README.md"):
        table = made[page].partition("Table 1: perceptrons")[2].partition("\n\n")[2]
        head, _, *rows = table.partition("\n\n")[0].splitlines()
        columns = ["clean", "fixed set", "Adv_Loss_Sign", "Adv_Loss", "Adv_Alpha"]
        assert [cell.strip() for cell in head.split("|")[2:-1]] == columns
        names = [row.split("|")[1].strip() for row in rows]
        assert names == ["Normal", "Dropout", "Goodfellow", "LWA", "LWA_Rep"]
        values = [re.findall(r"<sub>([\d.]+)</sub>", row) for row in rows]
        entries = numbers.load()["huang2015"].entries
        for name, printed_values in zip(names, values, strict=True):
            keys = ("validation", "fixed", "loss_sign", "loss", "alpha")
            of_row = [entries[f"huang2015.table1.{name.lower()}.{key}"]["value"] for key in keys]
            assert [float(value) for value in printed_values] == pytest.approx(
                [100 * value for value in of_row]
            )


def test_short_runs_are_gray_and_cells_that_were_not_run_are_empty(by_work):
    one = by_work["wardefarley2016"]
    for grid in printed.grids(one.paper, one.lines):
        for line in grid.lines:
            cell, extent = printed._cell(line), line.verdict.extent
            assert (cell == "") == (extent in ("", "not run"))
            assert ("gray" in cell) == (extent in ("short", "quick", "without a test"))


def test_cells_without_a_test_name_their_seeds_epochs_and_data(by_work, made):
    lines = (made[ROOT / "docs/results.md"]).splitlines()
    for one in by_work.values():
        for grid in printed.grids(one.paper, one.lines):
            for cell in (one for one in grid.lines if one.source and one.trained):
                seeds, epochs, *data = cell.trained.split("; ")
                assert seeds.startswith("seed") and epochs.endswith(("epoch", "epochs")) and data
                (caption,) = [line for line in lines if line.startswith(f"{grid.title}. ")]
                assert ", ".join([seeds, epochs, *data]) in caption.partition("Without a test")[2]


def test_a_table_says_how_many_of_the_planned_seeds_it_has(by_work, made):
    """Full runs of Huang's Table 2 have three seeds in stored results, where ten are planned."""
    for one in by_work.values():
        for grid in printed.grids(one.paper, one.lines):
            rows = [line for line in grid.lines if line.row and line.verdict.extent == "full"]
            rows = [line for line in rows if line.training and line.training.get("paper_seeds")]
            planned = {line.training["paper_seeds"] for line in rows}
            counts = [line.row["n"] for line in rows]
            if len(planned) == 1 and counts:
                lacks = min(counts) < min(planned)
                assert (f" of {min(planned)} planned seeds" in printed.caption(grid.lines)) == lacks
    assert "l2 norm 1.5. 3 of 10 planned seeds, 50 to 120 epochs" in made[ROOT / "docs/results.md"]


def test_own_tests_are_not_counted_as_claims_of_the_paper(by_work):
    for one in by_work.values():
        own: dict[str, set[str]] = {}
        for line in one.claims:
            is_judged = line.verdict.word in FINDINGS and line.verdict.extent == "full"
            if is_judged and line.key not in one.paper.entries:
                own.setdefault(line.key, set()).add(line.verdict.word)
        held = sum(words == {"reproduced"} for words in own.values())
        assert summary.reproduced(one, summary.OWN) == (f"{held} of {len(own)}" if own else "")


def test_a_claim_with_a_test_has_no_reason_why_it_has_none(by_work):
    for one in by_work.values():
        of_targets = {
            c.id for t in works.TARGETS.values() if t.paper == one.paper.name for c in t.claims
        }
        of_runs = {c.get("id") for d in one.of_runs for c in d["claims"]}
        assert not (of_targets | of_runs) & one.paper.untested.keys()


def test_what_nokland_prints_is_tested_as_its_claims(by_work):
    """Its abstract, sec. 3 and Fig. 3: six claims by nine tests, and no test of our own."""
    one = by_work["nokland2015"]
    assert summary.reproduced(one, summary.CLAIMS) == "6 of 6"
    assert summary.OWN not in summary.counted(one)
    tested = [line for line in one.claims if line.verdict.extent == "full"]
    assert len(tested) == 9 and {line.verdict.word for line in tested} == {"reproduced"}


def test_a_reproduced_gain_below_half_of_the_printed_one_says_so_beside_the_word(by_work, made):
    """Nokland's eps .50: 5.5 points for 29."""
    for one in by_work.values():
        small = [line for line in one.claims if line.verdict.is_small]
        keys = ["nokland2015.transfer.eps50.gain"] if one.paper.name == "nokland2015" else []
        assert [line.key for line in small] == keys
        for line in small:
            words = "**reproduced**★; less than half of the printed gain |"
            own = ROOT / "papers" / one.paper.name / "README.md"
            for page in (own, ROOT / "docs" / "results.md"):
                (row,) = [t for t in made[page].splitlines() if t.startswith(f"| {line.label} ")]
                assert words in row


def test_a_number_without_a_printed_spread_shows_none_and_is_judged_with_that_of_its_twin(made):
    """Table 4 prints the mean of Table 17, which has the standard deviation."""
    page = made[ROOT / "papers/maronas2016/README.md"]
    four, seventeen = (
        next(row for row in page.splitlines() if row.startswith(f"| Table {number}: fc"))
        for number in (4, 17)
    )
    assert "<sub>0.565</sub>" in four and "<sub>0.565 ± 0.031</sub>" in seventeen
    stored = json.loads((ROOT / "papers/maronas2016/results/table4.json").read_text())["rows"][0]
    low, high = stored["interval"]
    assert f"+{stored['difference']:.3g} ({low:.3g} to {high:.3g})" in page


def test_a_misprinted_setting_is_shown_beside_the_meant_one(made):
    for page in ("docs/results.md", "papers/maronas2016/README.md"):
        assert (
            "SGN 0.00045 and norm 4.5e-07 (misprinted as SGN 4.5e-05 and norm 4.5e-05)"
            in made[ROOT / page]
        )


def test_the_chart_of_a_shorter_run_says_so(made):
    page = made[ROOT / "papers/maronas2016/README.md"]
    assert "[table6](results/table6.png) (10 of 150 epochs)" in page
    assert "[table4](results/table4.png)," in page


def test_a_figure_of_the_first_seed_has_the_likelihood_of_all_beside_it(made):
    page = made[ROOT / "papers/maronas2016/README.md"]
    rows = json.loads((ROOT / "papers/maronas2016/results/boltzmann.json").read_text())["rows"]
    (line,) = [text for text in page.splitlines() if text.startswith("- `boltzmann` ")]
    mean, sd = rows[0]["mean"], rows[0]["sd"]
    words = f"Log-likelihood over the seeds: RBM {mean:.3f} nats (sd {sd:.2g}, n = 3)."
    assert line.endswith(words)


def test_a_data_set_has_one_name_on_every_page(made):
    for page in made.values():
        assert not re.search(r"mnist \(|cifar10 \(|5,000-digit sample(?! of MNIST)", page)


def test_one_sentence_of_a_work_is_on_every_page(by_work, made):
    for one in by_work.values():
        own = ROOT / "papers" / one.paper.name / "README.md"
        for page in (ROOT / "docs" / "results.md", own):
            assert summary.paragraph(one) in made[page]
        assert summary.sentence(one) in made[ROOT / "papers" / "README.md"]
        if deviation := summary.largest_deviation(one):
            assert deviation in made[ROOT / "README.md"]


def test_works_without_a_full_run_are_targets(by_work, made):
    page = made[ROOT / "papers" / "README.md"]
    reproduced, _, targets = page.partition("## Targets, not yet run in full")
    for one in by_work.values():
        extents = {line.verdict.extent for line in (*one.lines, *one.claims)}
        assert (f"[`{one.paper.name}`]" in reproduced) == ("full" in extents)
        assert (f"[`{one.paper.name}`]" in targets) == ("full" not in extents)


def test_the_star_allows_for_as_many_tests_as_the_results_hold(by_work, made):
    works = by_work.values()
    tests = sum(num_tests(work.paper, (*work.targets, *work.of_runs)) for work in works)
    assert f"The results hold {tests} tests" in made[ROOT / "papers" / "README.md"]
    for line in (line for one in works for line in one.lines):
        strong = line.verdict.is_strong
        assert not strong or line.row["p"] < 0.05 / tests


def test_the_tally_counts_what_a_work_prints_once(by_work):
    """Huang's Fig. 1 has two claims, on seven orders of a perceptron and one of LeNet."""
    one = by_work["huang2015"]
    claims = [name for name, entry in one.paper.entries.items() if entry["kind"] == "claim"]
    counted = summary.counted(one)
    without = [line for line in one.claims if not (line.verdict.word or line.verdict.extent)]
    assert sum(counted["claims"].values()) == len(claims) - len(without)
    assert summary._joint(["reproduced", "unclear", "not reproduced"]) == "not reproduced"
    assert summary._joint(["reproduced", "same direction", "short"]) == "same direction"
    assert summary._joint(["reproduced", "reproduced"]) == "reproduced"
    assert summary._joint(["not run", "short"]) == "short"


def test_a_number_that_two_tables_print_is_judged_and_counted_once(by_work):
    """Maronas prints the ten runs of Tables 4, 10 and 12 again in Tables 17 to 19."""
    one = by_work["maronas2016"]
    lines = {line.key: line for line in one.lines}
    twice = [name for name, entry in one.paper.entries.items() if "same_as" in entry]
    assert twice
    for name in twice:
        other = lines[one.paper.entries[name]["same_as"]]
        assert lines[name].verdict == other.verdict and lines[name].row == other.row
    printed_numbers = [
        line
        for line in one.lines
        if line.verdict.word or line.verdict.extent
        if one.paper.entries[line.key]["kind"] not in ("claim", "cited")
    ]
    counted = sum(summary.counted(one)["numbers"].values())
    assert counted == len(printed_numbers) - len(twice) / 2  # Each place names the other.


def test_the_worked_examples_of_the_shallow_net_thesis_are_no_numbers():
    """Of 25 recomputed values 4 are slips; 10 numbers are measured."""
    one = chapters.of_all(stored.Results({}, {}, {}))["shallow_thesis"]
    counted = summary.counted(one)
    assert counted["arithmetic"] == {"right": 21, "wrong": 4}
    assert counted["numbers"] == {"not run": 10}
    assert summary.within_tolerance(one) == ""


def test_everything_that_was_not_run_is_listed(by_work, made):
    for one in by_work.values():
        text = made[ROOT / "papers" / one.paper.name / "README.md"].partition("Not run:")[2]
        text = text.partition("Other figures:")[0]
        claims = [line for line in one.claims if line.verdict.word == "not run"]
        cells = [line for line in one.lines if line.verdict.word == "not run"]
        listed = [line for line in text.splitlines() if line.startswith("- ")]
        sizes = [int(size) for size in re.findall(r": (\d+) numbers?$", text, re.MULTILINE)]
        assert (len(listed), sum(sizes)) == (len(claims) + len(sizes), len(cells))


def test_runs_of_a_short_budget_are_marked_with_the_epochs_of_the_paper():
    trained = {"epochs": [9, 4], "paper_epochs": 100, "data": {"name": "mnist"}}
    length = wording.length_in_words
    assert length("short", [trained]) == "4 to 9 of 100 epochs"
    assert (
        length("quick", [trained, {**trained, "paper_epochs": 50}]) == "4 to 9 of 50 to 100 epochs"
    )
    assert length("paper", [trained]) == "4 to 9 epochs"  # It may have stopped early.


def test_a_figure_of_short_runs_says_so(made):
    listed = {
        (paper, figure): text
        for paper in numbers.load()
        for figure, text in re.findall(
            r"^- `(.+?)` \(.*?\)\): (.*)$",
            made[ROOT / "papers" / paper / "README.md"].partition("Other figures:")[2],
            re.MULTILINE,
        )
    }
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


def test_findings_of_full_runs_stand_first(made):
    for paper in numbers.load():
        text = made[ROOT / "papers" / paper / "README.md"].partition("| claim |")[2]
        words = re.findall(r"\| (?:\*\*([^*]+)\*\*|<span)", text.partition("\n\n")[0])
        assert words == sorted(words, key=[*FINDINGS, ""].index)


def test_the_readme_is_short_but_for_its_tables():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert sum(not line.startswith("| ") for line in lines) <= 150

"""The pages that only the site has: every number, training and figure, with pictures."""

import json
import re

import numpy as np
import pytest
from command_line import ROOT
from PIL import Image
from reproduced import write_results

from adv_jax.types import UserError
from papers.judging import numbers
from papers.judging.words import FINDINGS
from papers.pages import chapters, site, summary
from papers.running import stored

NOTHING = stored.Results({}, {}, {})


def pictures(folder, name):
    """The pictures on a page, which must be there."""
    links = re.findall(r"!\[[^]]*\]\((.*?)\)", (folder / f"{name}.md").read_text())
    paths = [(folder / link).resolve() for link in links]
    assert all(path.is_file() for path in paths)
    return paths


def rows_of(text):
    """The first cells of the rows of all tables, and of their headers."""
    return [row[2:].split(" | ")[0] for row in text.splitlines() if row.startswith("| ")]


@pytest.fixture(scope="module")
def of_repository(found, by_work):
    """Name of a work -> its page, of all that is in the repository."""
    return {name: site.page(one, ROOT / "docs/works", found.root) for name, one in by_work.items()}


@pytest.mark.parametrize("paper", numbers.load().values(), ids=lambda paper: paper.name)
def test_every_number_and_claim_of_a_work_has_a_row_with_its_note(paper, tmp_path):
    text = site.page(chapters.of_all(NOTHING)[paper.name], tmp_path, tmp_path)
    assert len([row for row in rows_of(text) if row not in ("---", "what")]) == len(paper.entries)
    for entry in paper.entries.values():
        assert entry.get("note", "").replace("|", r"\|").replace("*", r"\*") in text
    assert all(f"- {name}: {note}" in text for name, note in paper.notes.items())


def test_each_work_has_a_card_with_its_sentence_and_tally_and_a_place_in_the_sidebar(by_work):
    works = [*by_work.values()]
    text = site.cards(works)
    for one in works:
        mark = f":link: /papers/{one.paper.name}/README\n"
        (card,) = (part for part in text.split("{grid-item-card}") if mark in part)
        assert summary.sentence(one) in card and summary.tally(one) in card
        assert f"{summary.begin_of(one)} </papers/{one.paper.name}/README>\n" in text


def test_measured_numbers_stand_beside_the_papers_with_what_counts_as_equal(of_repository):
    document = json.loads((ROOT / "papers/maronas2016/results/table17.json").read_text())
    (row,) = [row for row in document["rows"] if row["id"] == "maronas2016.table17.row1"]
    values = list(row["values"].values())
    mean, sd = np.mean(values), np.std(values, ddof=1)
    cells = rf"{mean:.3f} % \(sd {sd:.2g}, n = {len(values)}\); seeds 1 to {len(values)}; .*"
    cells += rf" \| \{mean - row['paper']:+.3g} \(allowed {row['tolerance']:g}\) \| "
    assert re.search(cells, of_repository["maronas2016"])


def test_every_training_has_its_command_device_versions_and_commit(of_repository):
    for path in (ROOT / "papers").glob("*/results/*.json"):
        document = json.loads(path.read_text())
        for training in document["trainings"].values():
            block = rf"^\*\*.*\*\*: (.*)\n\n```sh\n{re.escape(training['command'])}\n```$"
            text = of_repository[document["paper"]].replace(" \\\n  ", " ")
            found = re.findall(block, text, re.MULTILINE)
            about = training["device"], f"jax {training['versions']['jax']}"
            assert any(
                one.endswith(f"; commit {training['git']}") and all(word in one for word in about)
                for one in found
            )


def test_what_was_found_is_a_word_and_only_what_has_none_gives_a_reason(of_repository):
    columns = "| what | found | ours | paper | where |"
    reasons = {"cited from other authors", "a setting", "not run", "right", "wrong"}
    reasons |= {"lost in the available text"}
    reasons |= {"short", "quick", "without a test", "short: same direction"}
    reasons |= {why for paper in numbers.load().values() for why in paper.untested.values()}
    reasons |= {"unclear; not established by the source"}
    reasons |= {"reproduced; less than half of the printed gain"}
    reasons |= {"reproduced; 1 of 2 steps not counted, at the floor or the ceiling"}
    for text in of_repository.values():
        for table in text.split(columns)[1:]:
            rows = re.findall(r"^\| (?!---)(.*) \|$", table.partition("\n\n")[0], re.MULTILINE)
            assert rows and {row.split(" | ")[1] for row in rows} <= {*FINDINGS, *reasons}


def test_every_file_picture_and_caption_of_a_result_is_on_the_page_of_its_work(of_repository):
    for name, text in of_repository.items():
        results = ROOT / "papers" / name / "results"
        for path in results.glob("*.json"):
            assert f"](../../papers/{name}/results/{path.name})" in text
        for path in [*results.glob("runs/*.png"), *results.glob("figures/*.png")]:
            assert f"](../../papers/{path.relative_to(ROOT / 'papers').as_posix()})" in text
        for path in results.glob("figures/*.json"):
            assert f"### {path.stem}\n" in text and json.loads(path.read_text())["caption"] in text


@pytest.mark.slow
def test_a_page_shows_the_chart_of_a_target_and_the_curves_of_its_trainings(tmp_path):
    folder = write_results(tmp_path, ["shallow_thesis.fig3.4"], "quick")
    document = json.loads((folder / "shallow_thesis/results/fig3.4.json").read_text())
    site.write(tmp_path / "site", folder)
    assert {path.stem for path in (tmp_path / "site").glob("*.md")} == {"index", *numbers.load()}
    chart, *curves = pictures(tmp_path / "site", "shallow_thesis")
    assert chart.name == "shallow_thesis.fig3.4.png"
    assert len({*curves}) == len(document["trainings"]) > 1
    for path in (chart, *curves):
        with Image.open(path) as image:
            assert image.width == 700  # 7 inches
            assert len(np.unique(np.asarray(image.convert("L")))) > 10


@pytest.mark.slow
def test_targets_that_share_a_training_show_the_same_curves(tmp_path):
    write_results(tmp_path, ["maronas2016.table17"], "quick")
    folder = write_results(tmp_path, ["maronas2016.table18", "maronas2016.table19"])
    site.write(tmp_path / "site", folder)
    shown = pictures(tmp_path / "site", "maronas2016")
    curves = [path.name for path in shown if not path.name.startswith("maronas2016")]
    # Tables 18 and 19 share the training of table 17, whose quick form is another training.
    assert len(shown) == 3 + len(curves) and (len(curves), len(set(curves))) == (5, 4)


def test_a_missing_folder_of_results_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(UserError, match="results must be a folder of results, got .*nowhere"):
        site.write(tmp_path / "site", tmp_path / "nowhere")
    assert not (tmp_path / "site").exists()

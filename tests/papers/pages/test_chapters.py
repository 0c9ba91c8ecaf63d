"""The lines of the works, which all pages show."""

import pytest

from papers.judging import numbers
from papers.pages import chapters
from papers.running import stored
from papers.shallow_thesis import example

NOTHING = stored.Results({}, {}, {})


def test_numbers_of_other_authors_are_marked_as_cited_and_not_as_missing():
    found = chapters.of_all(NOTHING)["nokland2015"]
    lines = dict(found.tables)["Table 1"]
    assert len(lines) == 11
    assert {line.verdict for line in lines} == {chapters.Verdict("", "cited from other authors")}
    assert "1200-600-300-150 ReLU, virtual adversarial training, clean test" in {
        line.label for line in lines
    }


@pytest.mark.parametrize("paper", numbers.load().values(), ids=lambda paper: paper.name)
def test_no_two_rows_of_a_table_have_the_same_label(paper):
    for title, lines in chapters.of_all(NOTHING)[paper.name].tables:
        labels = [(line.label, line.where) for line in lines]
        assert len(set(labels)) == len(labels), title


@pytest.mark.slow
def test_the_lines_and_the_figure_count_the_same_slips_of_the_worked_example():
    """By the packaged values of the entries, and by the digits computed again."""
    found = chapters.of_all(NOTHING)["shallow_thesis"]
    wrong = [line for line in found.lines if line.verdict.word == "wrong"]
    assert len(wrong) == [row.verdict for row in example.rows()].count("wrong") == 4
    assert "the true order is the reverse" in wrong[-1].note
    settings = [line.label for line in found.lines if line.verdict.why == "a setting"]
    assert settings == ["learning rate of the SGD step", "eps of the adversarial sample"]

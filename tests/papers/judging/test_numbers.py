"""The packaged numbers: complete, well-formed, and those that were read from the papers."""

import re
from pathlib import Path

import numpy as np
import pytest

from adv_jax.types import UserError
from configs import ladder_cifar10, ladder_conv_mnist
from papers.judging import numbers

# Paper in the files that were read -> its folder.
FOLDERS = {
    "huang": "huang2015",
    "maronas": "maronas2016",
    "nokland": "nokland2015",
    "thesis": "shallow_thesis",
    "wfg": "wardefarley2016",
}
# Claims that were not read at first.
ADDED = {
    f"nokland2015.{name}"
    for name in ("abstract.tanh", "transfer.eps25.gain", "transfer.eps50.gain", "sparsity.gain")
}
CHOSEN_BY = {"maronas2016.table7.row3.col1"}
READ = Path(__file__).parents[4] / "shared" / "papers"
ENTRIES = [entry for paper in numbers.load().values() for entry in paper.entries.values()]
RENAMED = {
    "value": "mean_error_percent",
    "spread": "std_error_percent",
    "per_seed": "per_seed_error_percent",
}


def test_the_papers_have_all_their_entries():
    counts = {name: len(paper.entries) for name, paper in numbers.load().items()}
    assert (
        counts
        | {
            "shallow_thesis": 67,
            "maronas2016": 244,
            "huang2015": 74,
            "goodfellow2014": 4,
            "madry2018": 19,
            "wardefarley2016": 32,
            "wong2020": 7,
            "zhang2019": 5,
            "nokland2015": 61,
        }
        == counts
    )


def flaws(entry):
    """Returns what an entry lacks."""
    value, note = entry.get("value"), entry.get("note", "")
    if entry["confidence"] not in ("certain", "ambiguous"):
        yield "confidence"
    if entry["kind"] not in ("result", "search", "cited", "claim", "worked_example"):
        yield "kind"
    if not re.search(r"\d|Abstract|Conclusion|App\.", entry["where"]):
        yield "place"
    if entry["confidence"] == "ambiguous" and not note:
        yield "why the reading is not certain"
    # Words of ours about a paper, not the paper's: no quotation of five words or more.
    if any(len(words.split()) >= 5 for words in re.findall(r'"([^"]+)"', note)):
        yield "words of our own"
    if entry["kind"] == "claim" and len(entry.get("claim", "").split()) < 3:
        yield "claim"
    if entry["kind"] == "worked_example" and "recomputed" not in entry:
        yield "recomputed"
    if entry["kind"] in ("result", "search", "cited"):
        numbers = value if isinstance(value, list) else [value]
        if not entry["table"] or entry.get("unit") not in ("percent", "fraction", "nats", None):
            yield "table or unit"
        if value is None and "LOST" not in note:
            yield "value"
        if not all(number is None or isinstance(number, int | float) for number in numbers):
            yield "numbers"
        if entry.get("unit") == "fraction" and not all(0 <= number <= 1 for number in numbers):
            yield "fractions"


def test_every_entry_has_a_place_a_value_and_a_confidence():
    assert {entry["id"]: list(flaws(entry)) for entry in ENTRIES if list(flaws(entry))} == {}


def test_numbers_that_a_paper_quotes_are_cited_and_no_results():
    """Maronas' Tables 1 to 3 and Goodfellow's name the works in brackets; of Nokland, Table 1."""
    quoted = {entry["id"] for entry in ENTRIES if "literature value" in entry.get("note", "")}
    assert len(quoted) == 11 and all(name.startswith("nokland2015.table1.") for name in quoted)
    cited = {entry["id"] for entry in ENTRIES if entry["kind"] == "cited"}
    named = ("maronas2016.", "goodfellow2014.")
    assert quoted == {name for name in cited if not name.startswith(named)}


def test_a_mean_is_that_of_the_printed_runs():
    tables = [entry for entry in ENTRIES if len(entry.get("per_seed", ())) > 1]
    assert len(tables) == 15
    for entry in tables:
        runs = list(entry["per_seed"].values())
        if "spread" in entry:
            assert np.std(runs, ddof=1) == pytest.approx(entry["spread"], abs=6e-5)
        decimals = len(str(entry["value"]).partition(".")[2])
        assert np.mean(runs) == pytest.approx(entry["value"], abs=0.51 * 10**-decimals), entry["id"]


def test_a_note_does_not_contradict_its_value():
    """A note that names the number to use, a mean computed again or the lowest cell agrees."""
    checked = 0
    for entry in ENTRIES:
        value, note = entry.get("value"), entry.get("note", "")
        named = re.findall(r"(?:\b[Uu]se|lowest cell \(|values average) ?(\d*\.\d+)", note)
        assert all(float(number) == value for number in named), entry["id"]
        if "lowest cell" in note:
            table = [
                e["value"] for e in ENTRIES if e["id"].startswith(entry["id"].rpartition(".")[0])
            ]
            assert value == min(table)
        checked += bool(named)
    assert checked >= 6


def test_a_misprinted_number_has_its_note_and_another_value():
    """Tables 12 and 19 print the mean of other runs; Nokland's abstract has 1.40 for ReLU."""
    misprinted = {entry["id"]: entry["value"] for entry in ENTRIES if "printed" in entry}
    assert misprinted == {
        "maronas2016.table12.row1": 0.566,
        "maronas2016.table19.row1": 0.566,
        "nokland2015.table1.bp_relu": 1.4,
    }
    for name in misprinted:
        entry = numbers.entry(name)
        assert "MISPRINT" in entry["note"] and f"{entry['printed']:g}" in entry["note"]
        assert entry["printed"] != entry["value"] and entry["confidence"] == "ambiguous"


def test_the_numbers_of_the_abstract_of_nokland_are_those_of_its_tables():
    def value(name):
        return numbers.entry(f"nokland2015.{name}")["value"]

    for unit in ("logistic", "relu"):
        nets = [value(f"table2.{unit}.{size}") for size in ("2x400", "2x800", "2x1200")]
        assert value(f"abstract.{unit}") == [value(f"table1.bp_{unit}"), min(nets)]


def test_the_gains_of_nokland_are_between_its_printed_numbers():
    for gain in ("transfer.eps25", "transfer.eps50", "sparsity"):
        ends = [f"nokland2015.{gain}.{method}" for method in ("backprop", "adversarial")]
        printed = [numbers.entry(name)["value"] for name in ends]
        assert numbers.entry(f"nokland2015.{gain}.gain")["value"] == printed


def test_an_id_finds_its_entry_and_an_unknown_one_nothing():
    assert numbers.entry("maronas2016.table20.row1")["value"] == 1.108  # as Table 20 prints
    with pytest.raises(KeyError):
        numbers.entry("maronas2016.table99.row1")


@pytest.mark.parametrize("paper", numbers.load().values(), ids=lambda paper: paper.name)
def test_reasons_belong_to_claims_and_notes_are_there(paper):
    # The settings of an example are no findings; by one search we chose a setting.
    kinds = {paper.entries[name]["kind"] for name in paper.untested.keys() - CHOSEN_BY}
    assert kinds <= {"claim", "worked_example"}
    named = {note for entry in paper.entries.values() for note in entry.get("global_notes", ())}
    assert named <= paper.notes.keys()


@pytest.mark.parametrize(
    ("table", "config"), [(26, ladder_conv_mnist), (28, ladder_cifar10)], ids=["26", "28"]
)
def test_a_misprinted_noise_is_that_of_the_config(table, config):
    meant = numbers.entry(f"maronas2016.table{table}.row1")["meant"]
    objective = config.get_config(f"table={table}").objective
    assert meant == {
        "tau_supervised": objective.attack.eps,
        "tau_unsupervised": objective.unlabeled_attack.eps,
    }


def words(note):
    return set(re.findall(r"[\d.]+", note or ""))


@pytest.mark.skipif(not READ.is_dir(), reason="what was read from the papers is not here")
def test_nothing_that_was_read_is_lost():
    yaml = pytest.importorskip("yaml")
    files = ("results_maronas.yaml", "results_thesis_huang_wfg_nokland.yaml")
    read = [entry for name in files for entry in yaml.safe_load((READ / name).read_text())]
    for entry in read:
        for name, value in entry.items():
            paper, _, rest = str(value).partition(".")
            if paper in FOLDERS and rest[:1].isalpha():  # an id
                entry[name] = f"{FOLDERS[paper]}.{rest}"
    ladder = [entry["id"] for entry in read if entry.get("paper", "") == "maronas"]
    assert ladder == list(numbers.load()["maronas2016"].entries)
    of_five = [entry for entry in ENTRIES if entry["id"].partition(".")[0] in FOLDERS.values()]
    assert {entry["id"] for entry in read} == {entry["id"] for entry in of_five} - ADDED
    for entry in read:
        packaged = numbers.entry(entry["id"])
        numeric = "mean_error_percent" in entry
        for name, value in entry.items():
            # Line numbers and sentences of the source stay there; the paper is the file.
            if name in ("line", "source_lines", "quote", "paper", "source", "note", "verdict"):
                continue
            if name == "metric" and entry["kind"] == "worked_example":
                continue  # It is worded anew.
            if numeric:
                name = {old: new for new, old in RENAMED.items()}.get(name, name)
            name = "value" if name == "error_percent" else name
            found = packaged.get(name)
            if name == "value" and "printed" in packaged:
                found = packaged["printed"]  # The value is corrected here.
            # The reading says so in the note alone.
            if name == "kind" and "literature value" in packaged.get("note", ""):
                value = "cited"
            if isinstance(value, dict):
                value = {str(key): number for key, number in value.items()}
            assert found == value or (not value and found is None), (entry["id"], name)
        # Quotations are paraphrased; every number of the note is kept.
        ours = words(packaged.get("note"))
        notes = f"{entry.get('note') or ''} {entry.get('verdict') or ''}"
        assert words(re.sub(r'"[^"]*"', "", notes)) <= ours | {"."}


def test_a_paper_needs_a_name_a_title_and_authors_alone(tmp_path):
    folder = tmp_path / "doe2030"
    folder.mkdir()
    (folder / "numbers.json").write_text("[]")
    about = folder / "about.toml"
    about.write_text('name = "Doe 2030"\ntitle = "Nets"\n')
    says = "^doe2030/about.toml must have the field authors, got none$"
    with pytest.raises(UserError, match=says):
        numbers.read(folder)
    about.write_text('name = "Doe 2030"\ntitle = "Nets"\nauthors = ["A. Doe"]\n')
    paper = numbers.read(folder)
    assert (paper.short, paper.cited, paper.untested) == ("Doe 2030", "A. Doe", {})

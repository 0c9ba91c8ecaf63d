"""The book: its pages, what they say, and how a real browser shows them."""

import html.parser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from marks import slow_after
from reproduced import write_results

from adv_jax.types import UserError
from papers import book, counts, numbers, verdicts
from papers.book import chapters, reading
from papers.shallow_thesis import example

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def made(results):
    """The folder of the book."""
    out = results.parent / "book"
    book.build(results, out)
    return out


class Page(html.parser.HTMLParser):
    """What a page links to, its ids, its words, and whether its tags are balanced."""

    VOID = {"meta", "link", "img", "br"}

    def __init__(self, path):
        super().__init__()
        self.links, self.ids, self.words, self.open = [], [], [], []
        self.feed(path.read_text())
        self.close()
        assert self.open == [], (path.name, self.open)

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        given = dict(attributes)
        assert tag != "script"
        assert tag != "img" or given["alt"]
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src", "xlink:href") if name in given]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def pages(made):
    """Path -> what is on it."""
    return {path: Page(path) for path in sorted(made.rglob("*.html"))}


@pytest.mark.slow
def test_there_is_a_page_for_all_each_paper_and_each_training(results, made, pages):
    names = {path.relative_to(made).as_posix() for path in pages}
    assert {"index.html", *(f"{paper}.html" for paper in numbers.load())} <= names
    documents = [json.loads(path.read_text()) for path in results.glob("*/results/*.json")]
    # A training that several targets share has one page.
    commands = {t["command"] for result in documents for t in result.get("trainings", {}).values()}
    assert sum(name.startswith("trainings/") for name in names) == len(commands) > 5


@pytest.mark.slow
def test_all_links_lead_somewhere_in_the_book(made, pages):
    cited = {paper.link for paper in numbers.load().values()} - {""}
    for path, page in pages.items():
        for link in page.links:
            if link == "data:,":  # no icon, said so that no browser looks for one
                continue
            if link in cited:
                continue
            file, _, place = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.is_file() and target.is_relative_to(made), (path.name, link)
            assert not place or target.suffix != ".html" or place in pages[target].ids, link


@pytest.mark.slow
def test_every_number_and_claim_of_every_paper_has_a_row(made):
    for name, paper in numbers.load().items():
        text = (made / f"{name}.html").read_text()
        assert text.count("<tr>") >= len(paper.entries)


@pytest.mark.slow
def test_measured_numbers_stand_beside_the_papers(pages, made):
    text = pages[made / "maronas2016.html"].text
    # Ten seeds of .90 + .03 (seed mod 3): 4 of .93, 3 of .96 and 3 of .90
    mean, sd = (
        np.mean([0.93] * 4 + [0.96] * 3 + [0.9] * 3),
        np.std([0.93] * 4 + [0.96] * 3 + [0.9] * 3, ddof=1),
    )
    ours = f"{mean:.3f} % (sd {sd:.2g}, n = 10)"
    assert f"0.796 % (sd 0.4605, n = 10) {ours}" in text
    assert "Budget quick: fewer epochs or seeds than the paper, or other data. It decides" in text
    assert numbers.load()["maronas2016"].link in pages[made / "maronas2016.html"].links
    index = pages[made / "index.html"].text
    assert f"Every number and claim of {len(numbers.load())} works" in index
    assert index.count(" not run ") >= 2  # of the numbers and of the claims
    assert "FGSM of eps .1 fools A" in index and "✓ reproduced" in index
    assert "adversarial noise lowers the error" in index and "○ undecided" in index


@pytest.mark.slow
def test_the_index_has_the_counts_of_the_pages(results, made):
    found = reading.read(results)
    index = (made / "index.html").read_text()
    for paper in numbers.load().values():
        for what, by_state in counts.counted(chapters.chapter(paper, found)).items():
            cells = [what, *map(str, by_state.values())]
            row = r"\s*".join(f"<td>{cell}</td>" for cell in cells)
            assert re.search(rf'href="{paper.name}.html">[^\n]*\s*{row}', index), (paper.name, what)


@pytest.mark.slow
def test_the_three_verdicts_are_the_only_ones(pages):
    """What is not run has that state; what has no test has a reason alone."""
    text = "".join(path.read_text() for path in pages)
    words = set(re.findall(r'class="verdict \w+">\S ([^<]*)</span>', text))
    assert words == {*verdicts.VERDICTS, "not run"}
    assert set(re.findall(r"<li><b>([^<]*)</b>: ", text)) <= set(verdicts.VERDICTS)


@pytest.mark.slow
def test_the_book_has_the_errors_and_pictures_of_the_repository(pages, made):
    shallow_thesis, ladder = (
        pages[made / f"{name}.html"] for name in ("shallow_thesis", "maronas2016")
    )
    assert (
        "1.875 % (sd 0.052, n = 4) test error" in shallow_thesis.text
    )  # .0185, .0182, .0194, .0189
    assert "0.595 % (sd 0.049, n = 2) test error" in ladder.text
    assert (
        "pictures/shallow_thesis/results/runs/shallow_mnist_A_learning.png" in shallow_thesis.links
    )
    assert (
        "pictures/maronas2016/results/figures/fig27.png" in ladder.links and "fig27" in ladder.ids
    )
    found = json.loads((ROOT / "papers/maronas2016/results/figures/fig26.json").read_text())
    assert re.sub(r"\s+", " ", found["caption"]) in ladder.text


def test_numbers_of_other_authors_are_marked_as_cited_and_not_as_missing():
    found = chapters.chapter(numbers.load()["nokland2015"], reading.Results({}, {}, {}))
    lines = dict(found.tables)["Table 1"]
    assert len(lines) == 11
    assert {line.verdict for line in lines} == {chapters.Verdict("", "cited from other authors")}
    assert "1200-600-300-150 ReLU, virtual adversarial training, clean test" in {
        line.label for line in lines
    }


@pytest.mark.parametrize("paper", numbers.load().values(), ids=lambda paper: paper.name)
def test_no_two_rows_of_a_table_have_the_same_label(paper):
    for title, lines in chapters.chapter(paper, reading.Results({}, {}, {})).tables:
        labels = [(line.label, line.where) for line in lines]
        assert len(set(labels)) == len(labels), title


@pytest.mark.slow
def test_the_book_and_the_figure_count_the_same_slips_of_the_worked_example():
    """By the packaged values of the entries, and by the digits computed again."""
    found = chapters.chapter(numbers.load()["shallow_thesis"], reading.Results({}, {}, {}))
    wrong = [line for line in found.lines if line.verdict.word == "not reproduced"]
    assert len(wrong) == [row.verdict for row in example.rows()].count("wrong") == 4
    assert "the true order is the reverse" in wrong[-1].note
    settings = [line.label for line in found.lines if line.verdict.why == "a setting"]
    assert settings == ["learning rate of the SGD step", "eps of the adversarial sample"]


@pytest.mark.slow
def test_a_training_has_its_command_config_and_versions(pages, made):
    command = "python -m adv_jax.main --config=configs/ladder_mnist.py:quick,table=17"
    (text,) = [
        pages[path].text
        for path in made.glob("trainings/ladder_mnist-*.html")
        if command in pages[path].text
    ]
    assert '"layers": "1000-500-250-250-250-10"' in text and "jax 0." in text
    assert "Fully connected ladder network on MNIST" in text  # of the config's file


def charts_of(*paths):
    return [
        chart
        for path in paths
        for chart in re.findall(r'<figure class="chart.*?</figure>', path.read_text(), re.DOTALL)
    ]


def words_of(chart):
    return set(re.findall(r"<text[^>]*>([^<]*)", chart))


@pytest.mark.slow
def test_charts_have_axes_units_and_legends_and_take_the_pages_colour(results, made):
    compared = charts_of(made / "maronas2016.html")
    here = [json.loads(path.read_text()) for path in results.glob("maronas2016/results/*.json")]
    assert len(compared) == len(here)
    for name, value in (("paper", "paper"), ("paper (sd)", "paper_sd"), ("ours (sd)", "sd")):
        count = sum(any(row[value] is not None for row in one["rows"]) for one in here)
        if name == "paper":  # "paper (sd)" takes its place.
            count -= sum(any(row["paper_sd"] is not None for row in one["rows"]) for one in here)
        assert sum(name in words_of(chart) for chart in compared) == count > 0
    nats = sum(
        any(row["metric"] == "log_likelihood_nats" for row in result["rows"]) for result in here
    )
    assert sum("log-likelihood (nats)" in words_of(chart) for chart in compared) == nats > 0
    errors = [c for c in compared if "log-likelihood (nats)" not in words_of(c)]
    units = ("test error (%)", "test error (%), log scale")
    assert all(words_of(chart).intersection(units) for chart in errors)
    trainings = list((made / "trainings").glob("*.html"))
    learning = charts_of(*trainings)
    assert len(learning) == len(trainings)
    for chart in learning:
        words = words_of(chart)
        # A model without classes has no error.
        without_classes = {
            "epoch",
            "loss",
            "test loss",
        } <= words and "error (fraction)" not in words
        assert without_classes or {"epoch", "loss", "error (fraction)", "test error"} <= words
    for chart in compared + learning:
        assert "currentColor" in chart and "#000000" not in chart and "viewBox" in chart


@pytest.mark.slow
def test_a_training_of_two_targets_has_one_page_for_each_budget(tmp_path):
    write_results(tmp_path, ("maronas2016.table17",), "quick")
    folder = write_results(tmp_path, ("maronas2016.table18", "maronas2016.table19"))
    book.build(folder, tmp_path / "book")
    page = tmp_path / "book" / "maronas2016.html"
    links = [link for link in Page(page).links if link.startswith("trainings/")]
    text = page.read_text()
    of_key = re.findall(r'<a href="(trainings/[^"]*)">ladder_mnist: table 17</a>', text)
    assert len(of_key) == 3 and len(set(of_key)) == 2  # the paper's budget, and quick
    assert len(links) == 5 and len(set(links)) == 4


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Fabricated results of one target."""
    return write_results(tmp_path_factory.mktemp("few"), ["shallow_thesis.fig3.4"])


@pytest.mark.slow
def test_the_same_results_give_the_same_book(few, tmp_path):
    once, again = tmp_path / "once", tmp_path / "again"
    book.build(few, once)
    book.build(few, again)
    assert "<svg" in (once / "shallow_thesis.html").read_text()
    for path in once.rglob("*.*"):
        assert (again / path.relative_to(once)).read_bytes() == path.read_bytes(), path


def test_no_file_but_a_config_is_copied_into_the_book(tmp_path):
    folder = write_results(tmp_path, ("shallow_thesis.fig3.4",), "quick")
    (secret := tmp_path / "secret.py").write_text("a word that no page may have")
    path = folder / "shallow_thesis/results/fig3.4.json"
    document = json.loads(path.read_text())
    for training in document["trainings"].values():
        training["file"] = str(secret)
    path.write_text(json.dumps(document))
    book.build(folder, tmp_path / "book")
    pages = list((tmp_path / "book" / "trainings").glob("*.html"))
    assert pages and not any("a word that no page" in page.read_text() for page in pages)


@pytest.mark.slow
def test_a_full_disk_is_named(mounted, few):
    disk = mounted("64k")
    with pytest.raises(UserError, match="disk/.* cannot be written: No space left"):
        book.build(few, disk / "book")
    assert not (disk / "book" / "index.html").exists()


def test_a_book_without_jinja2_names_the_extra_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[book\]'"):
        book.build(tmp_path, tmp_path / "book")


@pytest.mark.slow
def test_the_command_makes_the_book(tmp_path):
    (tmp_path / "papers").mkdir()
    done = call("adv_jax.report", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"book/index.html: {len(numbers.load())} papers, 0 tables measured\n"
    assert (tmp_path / "book" / "nokland2015.html").is_file()


# Each page in frames of a phone's and of a desktop's width: how wide it is, and its colours.
HARNESS = """<!doctype html><pre id="found"></pre><script>
const pages = %s;
addEventListener("load", async () => {
  const found = [];
  for (const page of pages) for (const width of [390, 1280]) {
    const frame = document.createElement("iframe");
    frame.style = `width: ${width}px; height: 800px; border: 0`;
    frame.src = page;
    const loaded = new Promise(resolve => frame.onload = resolve);
    document.body.append(frame);
    await loaded;
    const inside = frame.contentDocument, style = frame.contentWindow.getComputedStyle(inside.body);
    const broken = [...inside.images].filter(i => i.complete && !i.naturalWidth).length;
    found.push({page, width, needed: inside.documentElement.scrollWidth, broken,
      ground: style.backgroundColor, ink: style.color});
    frame.remove();
  }
  document.getElementById("found").textContent = JSON.stringify(found);
  document.title = "done";
});
</script>"""


def luminance(color):
    """Of WCAG 2, of "rgb(r, g, b)"."""
    values = np.array([int(v) for v in re.findall(r"\d+", color)[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="Chromium or Chrome is not installed")
@pytest.mark.parametrize("scheme", slow_after(0, ["light", "dark"]))
def test_a_browser_shows_every_page_without_errors_or_overflow(made, tmp_path, scheme):
    pages = [path.as_uri() for path in sorted(made.rglob("*.html"))]
    harness = tmp_path / "harness.html"
    harness.write_text(HARNESS % json.dumps(pages))
    argv = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    argv += ["--allow-file-access-from-files", "--enable-logging=stderr", "--timeout=60000"]
    argv += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    argv += [f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"]
    argv += ["--virtual-time-budget=60000", "--dump-dom", harness.as_uri()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1]
    found = json.loads(text.replace("&amp;", "&"))
    assert len(found) == 2 * len(pages)
    assert [one for one in found if one["needed"] > one["width"] or one["broken"]] == []
    for one in found:
        ground, ink = luminance(one["ground"]), luminance(one["ink"])
        assert (ground < ink) == (scheme == "dark")
        assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) > 7

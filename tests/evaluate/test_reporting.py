"""A report is one file that shows the numbers of the arrays."""

import base64
import hashlib
import html
import io
import re
from functools import partial
from html.parser import HTMLParser

import jax
import numpy as np
import pytest
from PIL import Image

from adv_jax import attacks, evaluate
from adv_jax.evaluate import reporting
from adv_jax.types import UserError

W = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
X = np.random.default_rng(1).uniform(size=(30, 4, 4, 1)).astype(np.float32)
EPS = [0.0, 0.05, 0.2]
SUITE = {"fgsm": attacks.fgsm, "<pgd>": partial(attacks.pgd, num_steps=3)}


def logits_fn(x):
    return x.reshape(len(x), -1) @ W


Y = np.asarray(logits_fn(X)).argmax(-1)


class Cells(HTMLParser):
    """Collects the tables' cells, the tags and the addresses that a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags, self.sources, self.inside = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside &= tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += f" {data.strip()}"


def evaluated(x, fn):
    return evaluate.evaluate(fn, x, Y, SUITE, eps=EPS, bounds=(0.0, 1.0), examples=True)


@pytest.fixture(scope="module")
def found():
    return evaluated(X, logits_fn)


def reported(found, folder, **options):
    found.report(folder / "report.html", **options)
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    return (folder / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_examples_are_those_of_the_attack(found):
    for eps, x_adv in zip(EPS, found.examples.adversarial["fgsm"], strict=True):
        expected = attacks.fgsm(logits_fn, X, Y, eps=eps, bounds=(0.0, 1.0))
        np.testing.assert_allclose(x_adv, expected, atol=1e-6)
    np.testing.assert_array_equal(found.examples.x, X)


@pytest.mark.slow
def test_the_page_has_the_accuracies_their_intervals_and_the_confusion(found, tmp_path):
    cells = Cells(reported(found, tmp_path, title="a < b"))
    rows = {row[0].split()[0]: row for row in cells.rows if row}
    right = int(found.correct["fgsm"][2].sum())
    assert f"{100 * right / 30:.1f} %" in rows["fgsm"][3]
    # Wilson's interval, from its equation.
    z, p = 1.959964, right / 30
    middle, half = p + z**2 / 60, z * np.sqrt(p * (1 - p) / 30 + z**2 / 3600)
    low, high = (100 * (middle + sign * half) / (1 + z**2 / 30) for sign in (-1, 1))
    assert f"{low:.1f} to {high:.1f}" in rows["fgsm"][3]
    strongest = min(SUITE, key=lambda name: found.attacks[name].accuracy[2])
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (Y, found.predicted[strongest][2]), 1)
    shown = [[int(cell) for cell in rows[str(label)][1:]] for label in range(3)]
    np.testing.assert_array_equal(shown, counts)


def test_the_page_needs_no_other_file_and_escapes_names(found, tmp_path):
    text = reported(found, tmp_path, title="a < b")
    cells = Cells(text)
    assert all(source.startswith(("data:", "#")) for source in cells.sources)
    assert "link" not in cells.tags and "script" not in cells.tags and "pgd" not in cells.tags
    assert "<h1>a &lt; b</h1>" in text and "num_steps=3" in text


def test_images_show_a_row_that_only_the_attack_fools(found, tmp_path):
    text = reported(found, tmp_path)
    images = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(code))), float)
        for code in re.findall(r"data:image/png;base64,([^\"]+)", text)
    ]
    strongest = min(SUITE, key=lambda name: found.attacks[name].accuracy[2])
    wrong = np.flatnonzero(~found.correct[strongest][2])
    assert len(wrong) and len(images) == 3 * min(8, len(wrong))
    x, x_adv = X[wrong[:8]], found.examples.adversarial[strongest][2][wrong[:8]]
    lo, hi = min(x.min(), x_adv.min()), max(x.max(), x_adv.max())
    np.testing.assert_allclose(images[2] / 255, (x_adv[0, ..., 0] - lo) / (hi - lo), atol=3e-3)


@pytest.mark.slow
def test_rows_that_are_no_images_show_their_largest_change(tmp_path):
    flat = lambda x: x @ W
    found = evaluated(X.reshape(30, 16), flat)
    text = reported(found, tmp_path)
    strongest = min(SUITE, key=lambda name: found.attacks[name].accuracy[2])
    first = np.flatnonzero(~found.correct[strongest][2])[0]
    before, after = found.examples.x[first], found.examples.adversarial[strongest][2][first]
    i = np.abs(after - before).argmax()
    assert f"[{i}] {before[i]:.3g} → {after[i]:.3g}" in text.replace("&nbsp;", " ")
    assert "<img" not in text


def test_each_row_has_the_probabilities_of_the_classes_before_and_after(found, tmp_path):
    text = reported(found, tmp_path)
    strongest = min(SUITE, key=lambda name: found.attacks[name].accuracy[2])
    first = np.flatnonzero(~found.correct[strongest][2])[0]
    shown = []
    for rows in (X, found.examples.adversarial[strongest][2]):
        logits = rows[first].ravel() @ W
        probs = np.exp(logits) / np.exp(logits).sum()
        shown.append(f"{probs.argmax()} ({100 * probs.max():.0f}&nbsp;%)")
    assert f"{shown[0]}, read as {shown[1]}" in text


@pytest.mark.parametrize(
    ("shape", "images", "shown"),
    [
        ((4, 4), None, False),  # It may be four steps of four features.
        ((4, 4), True, True),
        ((2, 2, 4), None, True),
        ((2, 2, 4), False, False),
        ((2, 4, 2), None, False),
    ],
)
def test_rows_are_images_by_their_channels_or_if_one_says_so(found, shape, images, shown):
    own = found.examples
    adversarial = {n: e.reshape(3, 30, *shape) for n, e in own.adversarial.items()}
    reshaped = own._replace(x=own.x.reshape(30, *shape), adversarial=adversarial)
    text = reporting.page(found._replace(examples=reshaped), title="a", images=images)
    assert ("<img" in text) == shown


def test_rows_that_cannot_be_images_are_not_shown_as_such(found, tmp_path):
    flat = found._replace(examples=found.examples._replace(x=X.reshape(30, 16)))
    with pytest.raises(UserError, match=r"^images must be None .*, got True for rows \[16\]$"):
        flat.report(tmp_path / "report.html", images=True)


def test_the_page_says_how_to_repeat_it(found):
    setup = found.setup._replace(bits=4, key="jax.random.key(7)")
    command = "python -m adv_jax.evaluate --eps=<.1"
    text = html.unescape(reporting.page(found._replace(setup=setup), title="a", command=command))
    assert hashlib.sha256(X.tobytes()).hexdigest()[:16] in text
    assert f"<pre>{command}</pre>" in text and "float32[30, 4, 4, 1]" in text
    call = text.partition("adv_jax.evaluate.evaluate(")[2]
    assert "'<pgd>': pgd(num_steps=3, bounds=(0.0, 1.0))," in call
    settings = ("eps=[0.0, 0.05, 0.2]", "key=jax.random.key(7)", "bounds=(0.0, 1.0)", "bits=4")
    assert all(f"\n    {setting},\n" in call for setting in settings)


@pytest.mark.slow
def test_the_strongest_size_is_shown_wherever_it_stands(tmp_path):
    suite = {"fgsm": attacks.fgsm}
    found = evaluate.evaluate(logits_fn, X, Y, suite, eps=[0.2, 0.0], bounds=(0.0, 1.0))
    assert "Under fgsm at 0.2" in reported(found, tmp_path)


def test_a_folder_is_refused_and_nothing_is_left(found, tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UserError, match="cannot be written: Is a directory$"):
        found.report(tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_certificate_and_the_audit_are_shown(found, tmp_path):
    certificate = evaluate.certify(logits_fn, X, Y, [0.0, 0.01], bounds=(0.0, 1.0))
    warned = found._replace(audit=found.audit._replace(warnings=("Mind the gap.",)))
    text = reported(warned, tmp_path, certificate=certificate)
    assert "<li>Mind the gap.</li>" in text
    assert f"{100 * certificate.accuracy[1]:.1f} %" in text.partition("Certified accuracy")[2]


def test_a_report_that_cannot_be_written_is_refused_in_one_line(found, tmp_path):
    path = tmp_path / "no" / "report.html"
    with pytest.raises(UserError, match=f"^{path} cannot be written: No such file or directory$"):
        found.report(path)
    for other in (5, tmp_path / "report", tmp_path / "report.htm", tmp_path / "report.pdf"):
        with pytest.raises(UserError, match=f"^path must end in .html, got {other}$"):
            found.report(other)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_without_examples_and_with_sizes_of_each_attack_the_page_has_the_tables(tmp_path):
    eps = {"fgsm": [0.1, 0.2], "<pgd>": [0.3, 0.4]}
    found = evaluate.evaluate(logits_fn, X, Y, SUITE, eps=eps, key=jax.random.key(0))
    text = reported(found, tmp_path)
    assert found.examples is None and "at 0.4" in text and "<img" not in text

"""One page of HTML about an evaluation, which needs no other file and no network."""

import base64
import datetime
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from importlib import metadata
from typing import Any

import numpy as np
from PIL import Image

from adv_jax.evaluate.certifying import Certificate
from adv_jax.evaluate.result import Evaluation, Examples, interval_of
from adv_jax.types import UserError

_PACKAGES = ("adv-jax", "jax", "jaxlib", "numpy")
_SHOWN = 8  # rows that an attack fooled
_FEATURES = 5  # largest changes of a row that is no image
_CLASSES = 12  # most for which the confusion is a matrix
_STYLE = """
:root { color-scheme: light dark; --line: #8885; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; break-after: avoid; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); }
th, td { text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td small { display: block; opacity: .7; }
.text td, .text th { text-align: left; white-space: normal; overflow-wrap: break-word; }
.text td:first-child { vertical-align: top; }
figure { margin: 0; } .chart { background: #fff; border-radius: 6px; max-width: 34rem; }
.chart svg { width: 100%; height: auto; display: block; }
.rows { display: flex; flex-wrap: wrap; gap: 1rem; }
.rows figure { border: 1px solid var(--line); border-radius: 6px; padding: .5rem; }
.rows img { image-rendering: pixelated; width: 84px; height: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .7rem; }
pre { border: 1px solid var(--line); border-radius: 6px; }
li { margin: .3rem 0; }
@media (max-width: 40rem) { th, td { padding: .2rem .35rem; } }
@media print {
  body { max-width: none; margin: 0; } .wide { overflow: visible; }
  p { break-after: avoid; } p, pre, .chart, .wide, .rows figure { break-inside: avoid; }
}
"""


def page(
    found: Evaluation,
    *,
    title: str,
    certificate: Certificate | None = None,
    images: bool | None = None,
    command: str | None = None,
) -> str:
    """Returns the page; see `Evaluation.report`.

    command: the command line that repeats the evaluation; None: the call of `evaluate` is shown.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        _table((), _facts(found), kind="text"),
        _section("Accuracy", _accuracies(found), _chart(found)),
        _section("What the audit says", _audit(found)),
        _section("What was mistaken for what", _confusion(found)),
    ]
    if found.examples is not None:
        parts.append(_section("Rows that were fooled", _fooled(found, found.examples, images)))
    if certificate is not None:
        parts.append(_section("Certified accuracy", _certified(certificate)))
    parts.append(_section("How to repeat it", _repeat(found, command)))
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _section(heading: str, *parts: str) -> str:
    return "\n".join([f"<section><h2>{heading}</h2>", *parts, "</section>"])


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    """Returns a table of cells that are HTML already; kind: "text" or "", numbers."""
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    head = f"<tr>{head}</tr>" if head else ""
    return f'<div class="wide"><table class="{kind}">{head}{body}</table></div>'


def _facts(found: Evaluation) -> Iterable[tuple[str, str]]:
    """Returns name and value: when, with what and on which data the model was evaluated."""
    labels, setup = found.labels, found.setup
    of_labels = hashlib.sha256(np.asarray(labels, np.int32).tobytes()).hexdigest()
    facts = {
        "date": datetime.date.today().isoformat(),
        "rows": f"{len(labels)} of {len(np.unique(labels))} classes",
        "inputs": f"{setup.inputs}, SHA-256 {setup.sha256[:16]}",
        "labels": f"int32[{len(labels)}], SHA-256 {of_labels[:16]}",
        "bounds": setup.bounds or "not set",
        "rounding": f"to {setup.bits} bits" if setup.bits else "not set",
        "key": setup.key or "not set",
        "versions": ", ".join(f"{package} {_version(package)}" for package in _PACKAGES),
    }
    return [(name, escape(value)) for name, value in facts.items()]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a clone that is not installed
        return "of unknown version"


def _accuracies(found: Evaluation) -> str:
    shared = None if isinstance(found.eps, dict) else found.eps
    sizes = range(len(found.worst_case))
    heads = ["attack", *([f"size {e + 1}" for e in sizes] if shared is None else map(_eps, shared))]
    clean = _share(found.clean.accuracy, len(found.labels))
    rows = [["no attack", clean, *[""] * (len(sizes) - 1)]]
    for name in found.attacks:
        cells = [_share(value, len(found.labels)) for value in found.attacks[name].accuracy]
        if shared is None:
            cells = [f"{c} at {s:g}" for c, s in zip(cells, found.sizes(name), strict=True)]
        norm = f"<small>{found.norms[name]}</small>" if found.norms[name] else ""
        rows.append([f"{escape(name)}{norm}", *cells])
    rows.append(["worst case", *(_share(value, len(found.labels)) for value in found.worst_case)])
    note = "Below each accuracy stands its 95 % interval (Wilson), over rows alone."
    return f"{_table(heads, rows)}<p>{note}</p>"


def _eps(value: float) -> str:
    return f"eps {value:g}"


def _share(value: Any, num_rows: int) -> str:
    """Returns a share of rows in percent, with its Wilson interval."""
    low, high = interval_of(value, num_rows)
    return f"{100 * value:.1f} %<small>{100 * low:.1f} to {100 * high:.1f}</small>"


def _chart(found: Evaluation) -> str:
    from adv_jax import style  # Slow to import, and only needed here.

    drawn = io.BytesIO()
    with style.styled():
        figure, ((axes,),) = style.canvas(1, 1, height=3.5)
        found.plot(axes)
        style.save(figure, drawn, format="svg")
    _, _, svg = drawn.getvalue().decode().partition("<svg")
    label = 'role="img" aria-label="accuracy over the sizes of each attack"'
    return f'<figure class="chart"><svg {label}{svg}</figure>'


def _audit(found: Evaluation) -> str:
    if not found.audit.warnings:
        return (
            "<p>No sign of false robustness was found. That does not prove robustness: only a "
            "certificate does.</p>"
        )
    lines = "".join(f"<li>{escape(line)}</li>" for line in found.audit.warnings)
    return f"<p>The numbers above may be too high:</p><ul>{lines}</ul>"


def _strongest(found: Evaluation) -> tuple[str, int]:
    """Returns the attack with the lowest accuracy at any size, and the index of that size."""
    lowest = {name: int(np.argmin(curve.accuracy)) for name, curve in found.attacks.items()}
    name = min(lowest, key=lambda name: found.attacks[name].accuracy[lowest[name]])
    return name, lowest[name]


def _confusion(found: Evaluation) -> str:
    name, e = _strongest(found)
    labels, predicted = found.labels, found.predicted[name][e]
    where = f"<p>Under {escape(name)} at {found.sizes(name)[e]:g}, the strongest attack; rows:</p>"
    classes = sorted({*labels.tolist(), *predicted.tolist()})
    counts = Counter(zip(labels.tolist(), predicted.tolist(), strict=True))
    if len(classes) > _CLASSES:
        wrong = [pair for pair in counts.most_common() if pair[0][0] != pair[0][1]][:_CLASSES]
        rows = [(str(label), str(read), str(count)) for (label, read), count in wrong]
        return where + _table(("label", "read as", "rows"), rows)
    rows = [[str(label), *(str(counts[label, read]) for read in classes)] for label in classes]
    return where + _table(["label \\ read as", *map(str, classes)], rows)


def _fooled(found: Evaluation, examples: Examples, images: bool | None) -> str:
    """Shows rows that are classified correctly without the attack only."""
    as_images = _are_images(examples.x, images)
    name, e = _strongest(found)
    fooled = (found.predicted_clean == found.labels) & ~found.correct[name][e]
    wrong = np.flatnonzero(fooled)[:_SHOWN]
    if not len(wrong):
        return "<p>None.</p>"
    where = f"<p>Under {escape(name)} at {found.sizes(name)[e]:g}. "
    x, x_adv = examples.x[wrong], examples.adversarial[name][e][wrong]
    before, after = examples.confidence_clean, examples.confidence[name][e]
    says = [
        f"{found.labels[i]} ({100 * before[i]:.0f}&nbsp;%), read as {found.predicted[name][e][i]} "
        f"({100 * after[i]:.0f}&nbsp;%)"
        for i in wrong
    ]
    note = " In parentheses: the model's probability of the class.</p>"
    if as_images:
        return f"{where}Input, change, adversarial example.{note}{_grid(x, x_adv, says)}"
    return f"{where}The largest changes of each row.{note}{_changes(x, x_adv, wrong, says)}"


def _are_images(x: np.ndarray, images: bool | None) -> bool:
    """Returns whether rows are shown as images, by the rule of `Evaluation.report`.

    Raises:
      UserError: they are to be, and cannot.
    """
    with_channels = x.ndim == 4 and x.shape[-1] in (1, 3, 4)
    if images and not (with_channels or x.ndim == 3):
        wanted = "images must be None or False for rows that are not [H, W] or [H, W, 1, 3 or 4]"
        raise UserError(f"{wanted}, got True for rows {list(x.shape[1:])}")
    return with_channels if images is None else images


def _grid(x: np.ndarray, x_adv: np.ndarray, says: Sequence[str]) -> str:
    lo, hi = float(min(x.min(), x_adv.min())), float(max(x.max(), x_adv.max()))
    reach = float(np.abs(x_adv - x).max()) or 1.0
    shown = []
    for image, crafted, caption in zip(x, x_adv, says, strict=True):
        panels = {
            "input": (image, lo, hi),
            "change": (crafted - image, -reach, reach),
            "adversarial example": (crafted, lo, hi),
        }
        images = " ".join(_image(alt, *panel) for alt, panel in panels.items())
        shown.append(f"<figure>{images}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="rows">{"".join(shown)}</div>'


def _image(alt: str, values: np.ndarray, lo: float, hi: float) -> str:
    """Returns an image [H, W] or [H, W, C] of values from lo (black) to hi (white)."""
    pixels = (np.clip((values - lo) / (hi - lo or 1), 0, 1) * 255 + 0.5).astype(np.uint8)
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3]
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    code = base64.b64encode(png.getvalue()).decode()
    return f'<img alt="{alt}" src="data:image/png;base64,{code}">'


def _changes(x: np.ndarray, x_adv: np.ndarray, rows: np.ndarray, says: Sequence[str]) -> str:
    cells = []
    for row, before, after, words in zip(rows, x, x_adv, says, strict=True):
        before, after = before.ravel(), after.ravel()
        largest = np.argsort(-np.abs(after - before), kind="stable")[:_FEATURES]
        changes = [f"[{i}] {before[i]:.3g} → {after[i]:.3g}" for i in largest]
        unbroken = ", ".join(change.replace(" ", "&nbsp;") for change in changes)
        cells.append([str(row), words, unbroken])
    return _table(("row", "class", "[feature] before → after"), cells, kind="text")


def _certified(certificate: Certificate) -> str:
    num_rows = certificate.certified.shape[-1]
    rows = [
        (_eps(eps), _share(value, num_rows))
        for eps, value in zip(certificate.eps, certificate.accuracy, strict=True)
    ]
    note = "<p>Proved for every point of the ball, whatever the attack.</p>"
    return note + _table(("radius", "certified"), rows)


def _repeat(found: Evaluation, command: str | None) -> str:
    suite = "".join(f"\n        {name!r}: {text}," for name, text in found.settings.items())
    eps = (
        {name: sizes.tolist() for name, sizes in found.eps.items()}
        if isinstance(found.eps, dict)
        else found.eps.tolist()
    )
    setup = found.setup
    settings = {"eps": eps, "key": setup.key, "bounds": setup.bounds, "bits": setup.bits}
    given = "".join(
        f"\n    {name}={value}," for name, value in settings.items() if value is not None
    )
    call = f"adv_jax.evaluate.evaluate(\n    logits_fn, x, y,\n    {{{suite}\n    }},{given}\n)"
    note = "with the model and the rows above; an attack stands with the settings bound to it"
    by_hand = f"<p>{'Or c' if command else 'C'}all, {note}:</p><pre>{escape(call)}</pre>"
    return (f"<pre>{escape(command)}</pre>" if command else "") + by_hand

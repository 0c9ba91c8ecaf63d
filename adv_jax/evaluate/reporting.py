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
from scipy.stats import binomtest

from adv_jax.evaluate.certifying import Certificate
from adv_jax.evaluate.result import Evaluation, Examples

_PACKAGES = ("adv-jax", "jax", "jaxlib", "numpy")
_SHOWN = 8  # rows that an attack fooled
_FEATURES = 5  # largest changes of a row that is no image
_CLASSES = 12  # most for which the confusion is a matrix
_STYLE = """
:root { color-scheme: light dark; --line: #8885; --dim: #8889; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; break-after: avoid; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); }
th, td { text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td small { display: block; opacity: .7; }
figure { margin: 0; } .chart { background: #fff; border-radius: 6px; max-width: 34rem; }
.chart svg { width: 100%; height: auto; display: block; }
.rows { display: flex; flex-wrap: wrap; gap: 1rem; }
.rows figure { border: 1px solid var(--line); border-radius: 6px; padding: .5rem; }
.rows { break-inside: avoid; } .rows img { image-rendering: pixelated; width: 84px; height: auto; }
pre { overflow-x: auto; padding: .7rem; border: 1px solid var(--line); border-radius: 6px; }
li { margin: .3rem 0; }
@media print { body { max-width: none; margin: 0; } pre { white-space: pre-wrap; } }
@media print { .wide { overflow: visible; } }
"""


def page(found: Evaluation, *, title: str, certificate: Certificate | None = None) -> str:
    """Returns the page; see `Evaluation.report`."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{_facts(found)}</p>",
        _section("Accuracy", _accuracies(found), _chart(found)),
        _section("What the audit says", _audit(found)),
        _section("What was mistaken for what", _confusion(found)),
    ]
    if found.examples is not None:
        parts.append(_section("Rows that were fooled", _fooled(found, found.examples)))
    if certificate is not None:
        parts.append(_section("Certified accuracy", _certified(certificate)))
    parts.append(_section("How to repeat it", _repeat(found)))
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _section(heading: str, *parts: str) -> str:
    return "\n".join([f"<section><h2>{heading}</h2>", *parts, "</section>"])


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table of cells that are HTML already."""
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _facts(found: Evaluation) -> str:
    """Returns when, with what and on which data the model was evaluated."""
    labels = found.labels
    facts = [datetime.date.today().isoformat()]
    facts.append(f"{len(labels)} rows of {len(np.unique(labels))} classes")
    if found.examples is not None:
        x = found.examples.x
        facts.append(f"inputs {x.dtype} {list(x.shape[1:])}")
        facts.append(f"SHA-256 of inputs {_digest(x)}")
    facts.append(f"SHA-256 of labels {_digest(np.asarray(labels, np.int32))}")
    facts.append(", ".join(f"{package} {_version(package)}" for package in _PACKAGES))
    return escape("; ".join(facts) + ".")


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a clone that is not installed
        return "of unknown version"


def _accuracies(found: Evaluation) -> str:
    shared = None if isinstance(found.eps, dict) else found.eps
    sizes = range(len(found.worst_case))
    heads = ["attack", *([f"size {e + 1}" for e in sizes] if shared is None else map(_eps, shared))]
    rows = [["no attack", _share(found.clean.accuracy, len(found.labels))]]
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
    right = round(float(value) * num_rows)
    low, high = binomtest(right, num_rows).proportion_ci(method="wilson")
    return f"{100 * right / num_rows:.1f} %<small>{100 * low:.1f} to {100 * high:.1f}</small>"


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


def _fooled(found: Evaluation, examples: Examples) -> str:
    """Shows rows that are classified correctly without the attack only."""
    name, e = _strongest(found)
    fooled = (found.predicted_clean == found.labels) & ~found.correct[name][e]
    wrong = np.flatnonzero(fooled)[:_SHOWN]
    if not len(wrong):
        return "<p>None.</p>"
    where = f"<p>Under {escape(name)} at {found.sizes(name)[e]:g}. "
    x, x_adv = examples.x[wrong], examples.adversarial[name][e][wrong]
    names = [(found.labels[i], found.predicted[name][e][i]) for i in wrong]
    if _are_images(x):
        return f"{where}Input, change, adversarial example:</p>{_grid(x, x_adv, names)}"
    return f"{where}The largest changes of each row:</p>{_changes(x, x_adv, wrong, names)}"


def _are_images(x: np.ndarray) -> bool:
    """Returns whether rows are images [H, W], [H, W, 1] or [H, W, 3]."""
    return x.ndim == 3 or (x.ndim == 4 and x.shape[-1] in (1, 3))


def _grid(x: np.ndarray, x_adv: np.ndarray, names: Sequence[tuple[Any, Any]]) -> str:
    lo, hi = float(min(x.min(), x_adv.min())), float(max(x.max(), x_adv.max()))
    reach = float(np.abs(x_adv - x).max()) or 1.0
    shown = []
    for image, crafted, (label, read) in zip(x, x_adv, names, strict=True):
        panels = {
            "input": (image, lo, hi),
            "change": (crafted - image, -reach, reach),
            "adversarial example": (crafted, lo, hi),
        }
        images = " ".join(_image(alt, *panel) for alt, panel in panels.items())
        caption = f"<figcaption>{label}, read as {read}</figcaption>"
        shown.append(f"<figure>{images}{caption}</figure>")
    return f'<div class="rows">{"".join(shown)}</div>'


def _image(alt: str, values: np.ndarray, lo: float, hi: float) -> str:
    """Returns an image of values from lo (black) to hi (white)."""
    pixels = (np.clip((values - lo) / (hi - lo or 1), 0, 1) * 255 + 0.5).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(png, "PNG")
    code = base64.b64encode(png.getvalue()).decode()
    return f'<img alt="{alt}" src="data:image/png;base64,{code}">'


def _changes(
    x: np.ndarray, x_adv: np.ndarray, rows: np.ndarray, names: Sequence[tuple[Any, Any]]
) -> str:
    cells = []
    for row, before, after, (label, read) in zip(rows, x, x_adv, names, strict=True):
        before, after = before.ravel(), after.ravel()
        largest = np.argsort(-np.abs(after - before), kind="stable")[:_FEATURES]
        changes = [f"[{i}] {before[i]:.3g} → {after[i]:.3g}" for i in largest]
        cells.append([str(row), f"{label}, read as {read}", ", ".join(changes)])
    return _table(("row", "class", "[feature] before → after"), cells)


def _certified(certificate: Certificate) -> str:
    num_rows = certificate.certified.shape[-1]
    rows = [
        (_eps(eps), _share(value, num_rows))
        for eps, value in zip(certificate.eps, certificate.accuracy, strict=True)
    ]
    note = "<p>Proved for every point of the ball, whatever the attack.</p>"
    return note + _table(("radius", "certified"), rows)


def _repeat(found: Evaluation) -> str:
    suite = "\n".join(f"    {name}: {text}" for name, text in found.settings.items())
    eps = (
        {name: sizes.tolist() for name, sizes in found.eps.items()}
        if isinstance(found.eps, dict)
        else found.eps.tolist()
    )
    return (
        "<p>adv_jax.evaluate.evaluate on the rows above, with the same key:</p>"
        f"<pre>{escape(f'attacks:{chr(10)}{suite}{chr(10)}eps: {eps}')}</pre>"
    )

"""Readings of printed numbers that their plain reading does not give.  [nokland2015, sec. 3]

A reading fits if none of its means over the seeds is more than 5 points from the paper's number.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.losses import loss_fn
from adv_jax.runner.trained import Trained
from adv_jax.types import Array, Key
from papers import numbers
from papers.drawing import Drawing, Table, rounded
from papers.nokland2015.hidden import ZEROS, hidden_layers
from papers.nokland2015.runs import BackpropRun, by_method, read
from papers.nokland2015.transfer import CELLS, SIZES, nets_of
from papers.runs import trained_on
from papers.statistics import BySeed, spread

WITHIN = 0.05
SEED = 0  # of the directions that draw
FLIPPED = 0.45  # share of the signs

Direction = Callable[[Array, Array, Key], Array]


def _shuffled(g: Array, x: Array, key: Key) -> Array:
    order = jax.random.permutation(key, g[0].size)
    return jnp.sign(g).reshape(len(g), -1)[:, order].reshape(g.shape)


def _of_mean(g: Array, x: Array, key: Key) -> Array:
    return jnp.broadcast_to(jnp.sign(g.mean(axis=0)), g.shape)


def _max_normalized(g: Array, x: Array, key: Key) -> Array:
    largest = jnp.abs(g).max(axis=(1, 2, 3), keepdims=True)
    return g / jnp.where(largest == 0, 1, largest)


def _flipped(g: Array, x: Array, key: Key) -> Array:
    return jnp.where(jax.random.bernoulli(key, FLIPPED, g.shape), -1, 1) * jnp.sign(g)


# name -> (gradients f32[N, H, W, C], inputs f32[N, H, W, C], key) -> f32[N, H, W, C] in [-1, 1];
# the examples are the inputs plus eps times it.
DIRECTIONS: dict[str, Direction] = {
    "as printed": lambda g, x, key: jnp.sign(g),
    "transposed image of the gradient": lambda g, x, key: jnp.sign(g).swapaxes(1, 2),
    "pixels of the gradient in one random order": _shuffled,
    "one direction for all, of the mean gradient": _of_mean,
    "gradient of another image": lambda g, x, key: jnp.roll(jnp.sign(g), 1, axis=0),
    "only pixels above 0": lambda g, x, key: jnp.where(x > 0, jnp.sign(g), 0),
    "gradient divided by its largest entry": _max_normalized,
    f"{100 * FLIPPED:.0f} % of the signs flipped": _flipped,
}


class Reading(NamedTuple):
    """A reading: its name, and cell of the paper -> the fractions that it gives, by seed."""

    name: str
    by_seed: dict[str, BySeed]


def transfer(workdirs: Sequence[str]) -> Drawing:
    """Sec. 3: errors of nets on another net's examples, by readings of what is added.

    Args:
      workdirs: as for the figure `transfer`; methods that the paper does not show are left out.

    Raises:
      UserError: `nets_of` raises.
    """
    runs, [(_, source), *others] = nets_of(workdirs, figure="transfer_readings")
    x, y = map(jnp.asarray, source.dataset.test)
    loss = loss_fn(runs[0].config["objective"]["loss"])
    g = jax.jit(jax.grad(lambda x: loss(source.logits_fn(x), y).sum()))(x)
    found = [
        Reading(name, _errors(others, x, y, direction(g, x, jax.random.key(SEED))))
        for name, direction in DIRECTIONS.items()
    ]
    cells = [f"{size}.{cell}" for cell in CELLS.values() for size in SIZES.values()]
    what = (
        f"Error in % of {runs[0].net} nets on examples that are crafted on another plain net, of "
        f"{len(y)} test images, by readings of what is added to them"
    )
    columns = [f"{method} {eps:g}" for method in CELLS for eps in SIZES]
    drawing = _drawn("transfer", cells, found, what, columns, runs)
    settings = {"bounds": None, "within": WITHIN, "chosen": ["test set"]}
    return drawing._replace(document=drawing.document | {"settings": settings, "seed": SEED})


def zeros(workdirs: Sequence[str]) -> Drawing:
    """Fig. 3: shares of zeros of the hidden units, by readings of what is counted.

    Args:
      workdirs: as for fig3. The nets are those of the lowest validation error if the runs have a
        validation set.

    Raises:
      UserError: `runs.read` raises, or there are other runs than these.
    """
    runs = by_method(read(workdirs, figure="fig3_readings"), tuple(ZEROS), figure="fig3_readings")
    shares: dict[str, dict[str, BySeed]] = {}  # name of the reading -> method -> by seed
    for method, run in runs.items():
        for model in run.models():
            for name, share in _shares(model).items():
                of_method = shares.setdefault(name, {}).setdefault(method, {})
                of_method[model.about["seed"]] = rounded(share)
    found = [
        Reading(name, {ZEROS[method]: by_seed for method, by_seed in of_methods.items()})
        for name, of_methods in shares.items()
    ]
    plain = shares["both layers, test set"]["plain"]
    complement = {seed: rounded(1 - share) for seed, share in plain.items()}
    one_net = {ZEROS["plain"]: complement, ZEROS["adversarial"]: plain}
    found.append(Reading("nonzero and zero units of the plain net", one_net))
    epochs = {m: [r["best_epoch"] for r in run.result["replicas"]] for m, run in runs.items()}
    validated = any(map(any, epochs.values()))
    which = "of the lowest validation error" if validated else "after the last epoch"
    what = f"Share of zeros in % of the hidden units of {runs['plain'].net} nets {which}"
    drawing = _drawn("sparsity", list(ZEROS.values()), found, what, list(ZEROS), [*runs.values()])
    settings = {"within": WITHIN, "best_epochs": epochs if validated else None, "chosen": []}
    return drawing._replace(document=drawing.document | {"settings": settings})


def _errors(
    nets: Sequence[tuple[BackpropRun, Trained]], x: Array, y: Array, direction: Array
) -> dict[str, BySeed]:
    """Returns cell of the paper -> the errors of its nets on x + eps direction."""
    found: dict[str, BySeed] = {}
    for run, model in nets:
        for eps in SIZES if run.method in CELLS else ():
            wrong = model.logits_fn(x + eps * direction).argmax(axis=1) != y
            of_cell = found.setdefault(f"{SIZES[eps]}.{CELLS[run.method]}", {})
            of_cell.setdefault(model.about["seed"], rounded(wrong.mean()))  # As `transfer` does.
    return found


def _shares(model: Trained) -> dict[str, float]:
    """Returns name -> share of zeros, by images, layers and units."""
    found = {}
    for images, x in (("test", model.dataset.test.x), ("training", model.dataset.train.x)):
        layers = {name: np.mean(v == 0, axis=0) for name, v in hidden_layers(model, x).items()}
        by_unit = np.concatenate([*layers.values()])
        found[f"both layers, {images} set"] = by_unit.mean()
        found[f"both layers, {images} set, units that are active there"] = by_unit[
            by_unit < 1
        ].mean()
        found |= {f"{name}, {images} set": units.mean() for name, units in layers.items()}
    return found


def _drawn(
    table: str,
    cells: Sequence[str],
    readings: Sequence[Reading],
    what: str,
    columns: Sequence[str],
    runs: Sequence[BackpropRun],
) -> Drawing:
    """Draws the table of the readings beside the paper's numbers nokland2015.TABLE.CELL."""
    entries = {cell: numbers.entry(f"nokland2015.{table}.{cell}") for cell in cells}
    paper = {cell: rounded(entry["value"] / 100) for cell, entry in entries.items()}
    rows: list[dict[str, Any]] = []
    for name, by_seed in readings:
        mean = {cell: rounded(spread([*by_seed[cell].values()]).mean) for cell in cells}
        off = rounded(max(abs(mean[cell] - paper[cell]) for cell in cells))
        fits = off <= WITHIN
        rows.append({"reading": name, "mean": mean, "by_seed": by_seed, "off": off, "fits": fits})
    shown = [[r["reading"], *_percents(r["mean"]), "yes" if r["fits"] else "no"] for r in rows]
    shown.append(["the paper", *_percents(paper), ""])
    nearest = min(rows, key=lambda row: row["off"])
    caption = (
        f"{what}; {trained_on(runs)}. A reading fits if all means over the seeds are within "
        f"{100 * WITHIN:.0f} points of the paper's numbers; {sum(row['fits'] for row in rows)} of "
        f"{len(rows)} fit. The nearest: {nearest['reading']}, off by {100 * nearest['off']:.1f} "
        "points at most."
    )
    document = {
        "caption": caption,
        "rows": rows,
        "printed": paper,
        "runs": [run.about() for run in runs],
    }
    title = f"Nokland 2015, sec. 3, in %; {trained_on(runs)}"
    return Drawing(None, document, Table(title, ["reading", *columns, "fits"], shown))


def _percents(fractions: Mapping[str, float]) -> list[str]:
    return [f"{100 * value:.1f}" for value in fractions.values()]

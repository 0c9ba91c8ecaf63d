"""Readings of printed numbers that their plain reading does not give.  [nokland2015, sec. 3]"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.losses import loss_fn
from adv_jax.runner.run.trained import Trained
from adv_jax.types import Array, Key
from papers.judging import numbers
from papers.judging.statistics import BySeed
from papers.nokland2015.hidden import ZEROS, hidden_layers
from papers.nokland2015.runs import LABELS, BackpropRun, read
from papers.nokland2015.transfer import CELLS, SIZES, nets_of
from papers.running.drawing import Drawing, rounded
from papers.running.readings import Cell, Reading, compared
from papers.running.runs import one_of_each, trained_on

WITHIN = 0.05  # as in the targets
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
    cells = {
        f"{size}.{cell}": _cell(f"transfer.{size}.{cell}", f"{method} {eps:g}")
        for method, cell in CELLS.items()
        for eps, size in SIZES.items()
    }
    what = (
        f"Error in % of {runs[0].net} nets on examples that are crafted on another plain net, of "
        f"{len(y)} test images, by readings of what is added to them; {trained_on(runs)}."
    )
    settings = {"bounds": None, "chosen": ["test set"]}
    return _drawn(found, cells, what, runs, {"settings": settings, "seed": SEED})


def zeros(workdirs: Sequence[str]) -> Drawing:
    """Fig. 3: shares of zeros of the hidden units, by readings of what is counted.

    Args:
      workdirs: as for fig3. The nets are those of the lowest validation error if the runs have a
        validation set.

    Raises:
      UserError: `runs.read` raises, or there are other runs than these.
    """
    runs = one_of_each(read(workdirs), tuple(ZEROS), labels=LABELS, figure="fig3_readings")
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
    found.append(plain_alone(found[0]))
    epochs = {m: [r["best_epoch"] for r in run.result["replicas"]] for m, run in runs.items()}
    validated = any(map(any, epochs.values()))
    which = "of the lowest validation error" if validated else "after the last epoch"
    what = f"Share of zeros in % of the hidden units of {runs['plain'].net} nets {which}; "
    what += f"{trained_on([*runs.values()])}. The last reading takes both numbers from the plain "
    what += "net, its nonzero units and its zeros; the paper would then not compare two nets."
    cells = {cell: _cell(f"sparsity.{cell}", method) for method, cell in ZEROS.items()}
    settings = {"best_epochs": epochs if validated else None, "chosen": []}
    return _drawn(found, cells, what, [*runs.values()], {"settings": settings})


def plain_alone(both: Reading) -> Reading:
    """Returns the reading of nonzero and zero units of the plain net, of one of both nets."""
    plain, adversarial = (both.by_seed[ZEROS[method]] for method in ("plain", "adversarial"))
    nonzero = {seed: rounded(1 - share) for seed, share in plain.items()}
    # The seeds of a column are those of its nets in the other readings.
    zero = {seed: share for seed, share in plain.items() if seed in adversarial}
    name = "the plain net alone: its nonzero units, its zeros"
    return Reading(name, {ZEROS["plain"]: nonzero, ZEROS["adversarial"]: zero})


def _cell(name: str, column: str) -> Cell:
    """Returns the printed number nokland2015.NAME, a percentage."""
    return Cell(column, numbers.fraction(f"nokland2015.{name}"), WITHIN)


def _drawn(
    found: Sequence[Reading],
    cells: Mapping[str, Cell],
    what: str,
    runs: Sequence[BackpropRun],
    about: Mapping[str, Any],
) -> Drawing:
    title = f"Nokland 2015, sec. 3, in %; {trained_on(runs)}"
    drawing = compared(found, cells, what=what, title=title)
    of_runs = {"runs": [run.about() for run in runs]}
    return drawing._replace(document={**drawing.document, **about, **of_runs})


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

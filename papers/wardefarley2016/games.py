"""Games of classifiers: adaptation, matched outputs, clusters, censored features.

[wardefarley2016], sec. 1.4.5 and 1.4.6, tells of [ganin2016], [sutskever2015], [springenberg2016]
and [edwards2016], and prints no numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from adv_jax import data, models, objectives, step
from adv_jax.evaluate.batching import over_rows
from adv_jax.generative.measures.clustering import matched_classes
from adv_jax.runner.run.trained import Trained
from adv_jax.style import COLORS, canvas, matrix, name_lines
from adv_jax.types import Array, UserError
from papers.judging.statistics import spread
from papers.running.drawing import Drawing, rounded
from papers.running.runs import Finished, finished_runs, require_one_model, trained_on

WEIGHT = "objective.weight"
DOMAIN = "images of the target domain"
ATTRIBUTES = (
    "public attribute",
    "private attribute, the game's adversary",
    "private attribute, a fresh adversary",
)
CLUSTERS = "images in the cluster of another label"
# Of a fresh adversary, which is larger than that of the game and trains longer.
EPOCHS, BATCH, UNITS = 40, 100, (500, 500)

Points = dict[float, dict[int, float]]  # weight -> seed -> value


def domain_adversarial(workdirs: Sequence[str]) -> Drawing:
    """Sec. 1.4.6: errors on the target domain over the adversary's weight; 0 is no adaptation.

    Args:
      workdirs: runs of dann_mnist with a grid of objective.weight.

    Raises:
      UserError: a run is unfinished, has another grid or objective, or the data differ.
    """
    runs = _games(workdirs, "domain_adversarial")
    return _drawing(runs, {DOMAIN: _errors(runs)})


def output_matching(workdirs: Sequence[str]) -> Drawing:
    """Sec. 1.4.5: errors with few labels over the weight of matched outputs; 0 is labels alone.

    Args:
      workdirs: runs of odm_mnist with a grid of objective.weight.

    Raises:
      UserError: see `domain_adversarial`.
    """
    runs = _games(workdirs, "output_matching")
    labels = runs[0].config["data"]["num_labels"]
    return _drawing(runs, {f"output matching, {labels:,} labels": _errors(runs)})


def censored(workdirs: Sequence[str]) -> Drawing:
    """Sec. 1.4.6: errors of a public and a private attribute over the adversary's weight.

    A fresh adversary, a net of 2 x 500 units, is trained on the finished features of the training
    set for 40 epochs. The test set's labels are y = 2 public + private.

    Args:
      workdirs: runs of censored_mnist with a grid of objective.weight.

    Raises:
      UserError: see `domain_adversarial`.
    """
    runs = _games(workdirs, "censored")
    lines: dict[str, Points] = {}
    for model in (model for run in runs for model in run.models()):
        weight, seed = float(model.about["overrides"][WEIGHT]), model.about["seed"]
        for name, error in leaks(model).items():
            lines.setdefault(name, {}).setdefault(weight, {})[seed] = error
    return _drawing(runs, lines)


def leaks(model: Trained) -> dict[str, float]:
    """Returns the test errors of the public attribute, and of the private one for adversaries."""
    x, y = model.dataset.test
    found = np.asarray(_in_batches(model.logits_fn, jnp.asarray(x))).argmax(axis=1)
    features = lambda x: model.apply(model.variables, x, method="represent").logits
    guess = fresh_adversary(
        _in_batches(features, jnp.asarray(model.dataset.train.x)),
        jnp.asarray(model.dataset.train.y) % 2,
        seed=model.about["seed"],
    )
    fresh = np.asarray(guess(_in_batches(features, jnp.asarray(x)))).argmax(axis=1)
    errors = (found // 2 != y // 2, found % 2 != y % 2, fresh != y % 2)
    return {name: rounded(np.mean(error)) for name, error in zip(ATTRIBUTES, errors, strict=True)}


def fresh_adversary(x: Array, y: Array, *, seed: int) -> Callable[[Array], Array]:
    """Returns a net trained on features f[N, H] and private attributes i[N]: its logits."""
    net = models.mlp(features=UNITS, num_classes=2)
    optimizer, apply = optax.adam(1e-3), models.apply_fn(net)
    state = step.init_state(models.init(net, jax.random.key(seed), x[:2]), optimizer, seed=seed)
    train = step.make_step(partial(objectives.cross_entropy, apply), optimizer)
    on_rows = lambda state, rows: train(state, {"x": x[rows], "y": y[rows]})
    epoch = jax.jit(step.over_steps(on_rows))
    count = len(x) // BATCH * BATCH
    for number in range(EPOCHS):
        order = data.epoch_order(seed, number, len(x))[:count]
        state, _ = epoch(state, order.reshape(-1, BATCH))
    return lambda x: apply(state.variables, x).logits


def clusters(workdirs: Sequence[str]) -> Drawing:
    """Sec. 1.4.5: labels of the clusters of a CatGAN, in the order of the matched labels.

    Args:
      workdirs: runs of catgan, trained with or without labels; the first seed is drawn.

    Raises:
      UserError: a run is unfinished, has a grid or another objective, or the data differ.
    """
    runs = finished_runs(workdirs)
    require_one_model(runs)
    for run in runs:
        if run.config["objective"]["name"] != "catgan":
            raise UserError(f"workdir must be a run of catgan, got {run.path}")
    counts = {model.about["seed"]: _counts(model) for run in runs for model in run.models()}
    errors = {seed: rounded(1 - np.trace(of) / of.sum()) for seed, of in counts.items()}
    first = next(iter(counts.values()))
    caption = (
        "Test images of the first seed by cluster and label. Clusters are matched with the labels "
        f"of the same images: {100 * spread([*errors.values()]).mean:.1f} % are in the cluster of "
        f"another label, mean over seeds; {trained_on(runs)}."
    )
    document = {
        "caption": caption,
        "settings": {"chosen": ["net", "clusters"]},
        "counts": first.tolist(),
        "by_seed": {CLUSTERS: errors},
        "data": runs[0].result["data"],
    }
    title = f"Clusters of a CatGAN; {trained_on(runs, first=True)}"
    return Drawing(_matrix(first, title), document)


def _counts(model: Trained) -> np.ndarray:
    """Returns the test images by matched cluster and label: i[K, K]."""
    x, y = model.dataset.test
    found = np.asarray(_in_batches(model.logits_fn, jnp.asarray(x))).argmax(axis=1)
    count = model.dataset.num_classes
    counts = np.zeros((count, count), int)
    np.add.at(counts, (matched_classes(found, y, num_classes=count)[found], y), 1)
    return counts


def _games(workdirs: Sequence[str], objective: str) -> list[Finished]:
    """Reads runs of an objective with a grid of its weight alone."""
    runs = finished_runs(workdirs, over=[WEIGHT])
    require_one_model(runs)
    for run in runs:
        name, grid = run.config["objective"]["name"], run.config["replicas"]["grid"]
        if name != objective or not grid:
            raise UserError(
                f"workdir must be a run of {objective} with a grid of {WEIGHT}, got {run.path}"
            )
    return runs


def _errors(runs: Sequence[Finished]) -> Points:
    """Returns the test errors of all replicas."""
    points: Points = {}
    for replica in (replica for run in runs for replica in run.result["replicas"]):
        weight = float(replica["overrides"][WEIGHT])
        points.setdefault(weight, {})[replica["seed"]] = replica["test_error"]
    return points


def key_of(name: str, weight: float) -> str:
    """Returns the key in "by_seed" of the errors of a name at a weight."""
    return f"{name}, weight {weight:g}"


def _drawing(runs: Sequence[Finished], lines: Mapping[str, Points]) -> Drawing:
    """Draws mean errors with their standard deviations, a line for each name."""
    title = f"The weight of an adversary, {runs[0].config['experiment']}; {trained_on(runs)}"
    figure, ((axes,),) = canvas(1, 1, title=title, width=6.5)
    said = []
    for color, (name, points) in zip(COLORS, lines.items(), strict=False):
        spreads = {weight: spread([*points[weight].values()]) for weight in sorted(points)}
        means = [100 * found.mean for found in spreads.values()]
        bars = [100 * (found.sd or 0) for found in spreads.values()]
        at = range(len(spreads))
        axes.errorbar(at, means, bars, color=color, marker="o", capsize=3, label=name)
        axes.set_xticks(at, [f"{weight:g}" for weight in spreads])
        errors = ", ".join(f"{mean:.1f} ({w:g})" for w, mean in zip(spreads, means, strict=True))
        said.append(f"{name}: {errors}")
    axes.set(xlabel="weight of the adversary's loss for the classifier", ylabel="test error, %")
    axes.set_ylim(bottom=0)
    name_lines(axes)
    caption = f"Test error in % (weight), mean over seeds; {'; '.join(said)}; {trained_on(runs)}."
    document: dict[str, Any] = {
        "caption": caption,
        "settings": {"chosen": ["net", "weights", "epochs"]},
        "by_seed": {
            key_of(name, weight): points[weight]
            for name, points in lines.items()
            for weight in sorted(points)
        },
        "runs": [
            {name: run.config[name] for name in ("data", "model", "objective", "epochs")}
            for run in runs
        ],
        "data": runs[0].result["data"],
    }
    return Drawing(figure, document)


def _matrix(counts: np.ndarray, title: str) -> Figure:
    figure, ((axes,),) = canvas(1, 1, title=title, width=5, height=5)
    matrix(axes, counts, range(len(counts)), form="{}", top=counts.max())
    axes.set(xlabel="label", ylabel="matched cluster")
    return figure


def _in_batches(fn: Callable[[Array], Array], x: Array) -> Array:
    """Returns fn(x) as rows: f[N, *D] -> f[N, K]."""
    rows_last = lambda rows: fn(rows).reshape(len(rows), -1).T
    return over_rows(rows_last, (x,), batch_size=500).T

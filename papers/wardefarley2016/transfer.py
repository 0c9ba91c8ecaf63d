"""Transfer of adversarial examples between models.  [wardefarley2016, sec. 1.2.1, Table 1.1]

The source does not print eps; it uses "the same procedure" as [goodfellow2015], with eps = .25
on MNIST. All test examples count.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from adv_jax import attacks, evaluate, models
from adv_jax.runner.run.trained import Trained
from adv_jax.style import canvas, matrix
from adv_jax.types import LogitsFn, UserError
from papers.judging import numbers
from papers.judging.words import seeds_in_words
from papers.running import images
from papers.running.drawing import Drawing, rounded
from papers.running.runs import finished, require_same_inputs

EPS = 0.25
SMOOTHED, NEAREST = "smoothed nearest neighbour", "nearest neighbour"
# (crafted on, tested on) -> cell of Table 1.1
CELLS = {
    ("maxout", NEAREST): "maxout_to_nn",
    (SMOOTHED, NEAREST): "smoothed_nn_to_nn",
    ("maxout", "ReLU net"): "maxout_to_relu",
    ("maxout", "tanh net"): "maxout_to_tanh",
    ("maxout", "softmax regression"): "maxout_to_softmax",
}
Rates = Mapping[tuple[str, str], float]  # crafted on, tested on -> error
_TRAINED = ("maxout", "ReLU net", "tanh net", "softmax regression")


def table(workdirs: Sequence[str]) -> Drawing:
    """Table 1.1: FGSM examples of a maxout net and of nearest neighbors on other models.

    Args:
      workdirs: runs of a maxout net, a ReLU net, a tanh net and softmax regression with the same
        seeds and data, in any order. A number is the mean over the seeds.

    Raises:
      UserError: a run is unfinished or has a grid; there is not exactly one run of each net; or the
        seeds or data differ.
    """
    by_seed = {seed: _by_kind(runs) for seed, runs in _by_seed(workdirs).items()}
    matrices = _errors(by_seed)
    known = next(iter(by_seed.values()))
    dataset, names = known["maxout"].dataset, [SMOOTHED, NEAREST, *known]
    errors = np.mean(list(matrices.values()), axis=0)
    error = {pair: rounded(_cell(errors, names, pair)) for pair in CELLS}
    chapter = {
        pair: numbers.fraction(f"wardefarley2016.table1_1.{cell}") for pair, cell in CELLS.items()
    }
    title = (
        f"Table 1.1: test error in % on FGSM's examples of size {EPS}\n{images.in_words(dataset)}, "
        f"{len(dataset.test.y)} test examples, {seeds_in_words([*by_seed])}"
    )
    caption = "Crafted on, shown to: " + "; ".join(
        f"{' to '.join(pair)} {100 * error[pair]:.1f} %, printed {100 * printed:.1f} %"
        for pair, printed in chapter.items()
    )
    document = {
        "caption": f"{caption}.",
        "settings": {"attack": "fgsm", "eps": EPS, "bounds": None, "chosen": ["eps"]},
        "runs": {kind: run.about for kind, run in known.items()},
        "models": names,
        "error": rounded(errors),
        "by_seed": {
            cell: {seed: rounded(_cell(found, names, pair)) for seed, found in matrices.items()}
            for pair, cell in CELLS.items()
            if pair[0] in known  # The nearest neighbors have no seed.
        },
        "pairs": [
            {"crafted_on": pair[0], "tested_on": pair[1], "error": error[pair], "chapter": printed}
            for pair, printed in chapter.items()
        ],
    }
    return Drawing(_drawn(errors, names, chapter, title), document)


def _by_seed(workdirs: Sequence[str]) -> dict[int, list[Trained]]:
    """Returns seed -> the models of all runs with that seed."""
    runs = [finished(workdir).models() for workdir in workdirs]
    seeds = [[model.about["seed"] for model in run] for run in runs]
    if any(of_run != seeds[0] for of_run in seeds):
        raise UserError(f"workdir must be runs with the same seeds, got {seeds}")
    return dict(zip(seeds[0], map(list, zip(*runs, strict=True)), strict=True))


def _errors(by_seed: Mapping[int, Mapping[str, Trained]]) -> dict[int, np.ndarray]:
    """Returns seed -> test errors f[M, M] on FGSM examples; the row is the crafting model.

    The models are the two nearest-neighbor classifiers and the nets of the seed.
    """
    dataset = next(iter(by_seed.values()))["maxout"].dataset
    x, y = dataset.train
    of_data = {"train_x": x, "train_y": y, "num_classes": dataset.num_classes}
    neighbors: dict[str, LogitsFn] = {
        SMOOTHED: partial(models.smoothed_nearest_neighbor, **of_data),
        NEAREST: partial(models.nearest_neighbor, **of_data),
    }
    nets = {
        f"{kind}, seed {seed}": run.logits_fn
        for seed, known in by_seed.items()
        for kind, run in known.items()
    }
    # All seeds share the nearest neighbors, which take most of the time.
    accuracy = evaluate.transfer(neighbors | nets, *dataset.test, attacks.fgsm, eps=EPS)
    of_neighbors, of_nets = np.split(np.arange(len(accuracy)), [len(neighbors)])
    parts = np.split(of_nets, len(by_seed))
    each = [np.concatenate([of_neighbors, part]) for part in parts]
    return {seed: 1 - accuracy[np.ix_(i, i)] for seed, i in zip(by_seed, each, strict=True)}


def _cell(errors: np.ndarray, names: Sequence[str], pair: tuple[str, str]) -> float:
    crafted_on, tested_on = (names.index(kind) for kind in pair)
    return errors[crafted_on, tested_on]


def _by_kind(runs: Sequence[Trained]) -> dict[str, Trained]:
    kinds = [kind_of(run.about["model"]) for run in runs]
    if sorted(kinds) != sorted(_TRAINED):
        legal = f"one run each of {', '.join(_TRAINED)}"
        raise UserError(f"workdir must be {legal}, got {', '.join(kinds)}")
    require_same_inputs(runs)
    return {kind: runs[kinds.index(kind)] for kind in _TRAINED}


def kind_of(model: Mapping) -> str:
    """Returns the name of a config's model in Table 1.1."""
    if model["name"] == "mlp":
        names = {"relu": "ReLU net", "tanh": "tanh net"}
        known = names.get(model["activation"], f"{model['activation']} net")
        return known if len(model["features"]) else "softmax regression"
    return model["name"]


def _drawn(errors: np.ndarray, names: Sequence[str], chapter: Rates, title: str) -> Figure:
    """Draws errors f[M, M] in percent, with the printed ones below in brackets."""
    figure, ((axes,),) = canvas(1, 1, title=title, width=6, height=4.8)
    matrix(axes, 100 * errors, names, form="{:.1f}", top=100)
    axes.set(xlabel="shown to", ylabel="crafted on (in brackets: printed)")
    for pair, printed in chapter.items():
        row, column = map(names.index, pair)
        color = "white" if errors[row, column] > 0.6 else "black"
        place = {"ha": "center", "va": "top", "color": color, "fontsize": "x-small"}
        axes.text(column, row + 0.16, f"({100 * printed:.1f})", **place)
    return figure

"""Examples crafted on one model and shown to another.  [Warde-Farley & Goodfellow 2016,
sec. 1.2.1, Table 1.1]

The chapter does not print the size of the perturbation; it is "the same procedure" as that of
Goodfellow et al. 2014b, whose size on MNIST is .25. All test examples count.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from adv_jax import attacks, evaluate, models
from adv_jax.report import papers
from adv_jax.report.drawing import Drawing, canvas, rounded
from adv_jax.report.runs import check_same_inputs
from adv_jax.trained import Trained
from adv_jax.types import LogitsFn, UserError

EPS = 0.25
SMOOTHED, NEAREST = "smoothed nearest neighbour", "nearest neighbour"
# Crafted on, tested on: the cell of the chapter's table.
CELLS = {
    ("maxout", NEAREST): "maxout_to_nn",
    (SMOOTHED, NEAREST): "smoothed_nn_to_nn",
    ("maxout", "ReLU net"): "maxout_to_relu",
    ("maxout", "tanh net"): "maxout_to_tanh",
    ("maxout", "softmax regression"): "maxout_to_softmax",
}
Rates = Mapping[tuple[str, str], float]  # crafted on, tested on -> error
_TRAINED = ("maxout", "ReLU net", "tanh net", "softmax regression")


def table(runs: Sequence[Trained]) -> Drawing:
    """Table 1.1: FGSM's examples of a maxout net and of nearest neighbours, seen by others.

    Args:
      runs: a maxout net, a ReLU net, a tanh net and softmax regression on the same data, in any
        order; the nearest neighbours are those in the first one's training set.

    Raises:
      UserError: one of these is missing or there twice, or their data differ.
    """
    known = _by_kind(runs)
    dataset = known["maxout"].dataset
    x, y = dataset.train
    of_data = {"train_x": x, "train_y": y, "num_classes": dataset.num_classes}
    seen: dict[str, LogitsFn] = {
        SMOOTHED: partial(models.smoothed_nearest_neighbour, **of_data),
        NEAREST: partial(models.nearest_neighbour, **of_data),
        **{kind: run.logits_fn for kind, run in known.items()},
    }
    accuracy = evaluate.transfer(seen, *dataset.test, attacks.fgsm, eps=EPS)
    names = list(seen)
    error = {
        pair: rounded(1 - accuracy[names.index(pair[0]), names.index(pair[1])]) for pair in CELLS
    }
    chapter = {
        pair: rounded(papers.entry(f"wfg.table1_1.{cell}")["value"] / 100)
        for pair, cell in CELLS.items()
    }
    title = (
        f"Table 1.1: test error on FGSM's examples of size {EPS}; "
        f"{dataset.name} ({dataset.source}), {len(dataset.test.y)} examples"
    )
    figure, ((matrix, beside),) = canvas(1, 2, title=title, width=6.2, height=4.8)
    _matrix(matrix, 1 - accuracy, names)
    _table(beside, error, chapter)
    caption = "Crafted on, shown to: " + "; ".join(
        f"{' to '.join(pair)} {100 * error[pair]:.1f} %, in the chapter {100 * printed:.1f} %"
        for pair, printed in chapter.items()
    )
    document = {
        "caption": f"{caption}.",
        "settings": {"attack": "fgsm", "eps": EPS, "bounds": None, "chosen": ["eps"]},
        "runs": {kind: run.about for kind, run in known.items()},
        "models": names,
        "error": rounded(1 - accuracy),
        "pairs": [
            {"crafted_on": pair[0], "tested_on": pair[1], "error": error[pair], "chapter": printed}
            for pair, printed in chapter.items()
        ],
    }
    return Drawing(figure, document)


def _by_kind(runs: Sequence[Trained]) -> dict[str, Trained]:
    kinds = [_kind(run.about["model"]) for run in runs]
    if sorted(kinds) != sorted(_TRAINED):
        raise UserError(
            f"workdir has {', '.join(kinds)}; allowed is one run each of {', '.join(_TRAINED)}"
        )
    check_same_inputs(runs)
    return {kind: runs[kinds.index(kind)] for kind in _TRAINED}


def _kind(model: Mapping) -> str:
    """What a model of a config is called here."""
    if model["name"] == "mlp":
        names = {"relu": "ReLU net", "tanh": "tanh net"}
        known = names.get(model["activation"], f"{model['activation']} net")
        return known if len(model["features"]) else "softmax regression"
    return model["name"]


def _matrix(axes, error: np.ndarray, names: Sequence[str]) -> None:
    axes.imshow(error, vmin=0, vmax=1, cmap="viridis")
    for (i, j), value in np.ndenumerate(error):
        color = "white" if value < 0.6 else "black"
        axes.text(j, i, f"{100 * value:.1f}", ha="center", va="center", color=color, fontsize=9)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="shown to", ylabel="crafted on", title="test error, %")


def _table(axes, error: Rates, chapter: Rates) -> None:
    axes.axis("off")
    rows = [
        [*pair, f"{100 * error[pair]:.1f} %", f"{100 * printed:.1f} %"]
        for pair, printed in chapter.items()
    ]
    drawn = axes.table(
        rows, colLabels=["crafted on", "shown to", "here", "chapter"], loc="center", cellLoc="left"
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(9)
    drawn.auto_set_column_width(range(4))
    drawn.scale(1, 1.6)

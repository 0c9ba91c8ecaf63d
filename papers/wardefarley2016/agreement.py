"""Agreement of nets on the wrong class of transferred examples.  [wardefarley2016, sec. 1.2.3]"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from adv_jax import attacks
from adv_jax.runner.run.trained import Trained
from papers.running.drawing import Drawing, Table, rounded
from papers.running.runs import require_same_inputs
from papers.wardefarley2016.defenses import method_of
from papers.wardefarley2016.transfer import EPS, kind_of


def same_class(runs: Sequence[Trained]) -> Drawing:
    """Sec. 1.2.3: how often two nets give an example that fools both the same class.

    Args:
      runs: a trained net, whose FGSM examples are shown, and one or more other nets.

    Raises:
      UserError: the data differ.
    """
    require_same_inputs(runs)
    source, *others = runs
    x, y = map(jnp.asarray, source.dataset.test)
    x_adv = attacks.fgsm(source.logits_fn, x, y, eps=EPS)
    given = [np.asarray(run.logits_fn(x_adv).argmax(axis=1)) for run in runs]
    classes = source.dataset.num_classes
    rows: list[dict[str, Any]] = [
        {
            "net": _name(run),
            "run": run.about,
            **agreement(given[0], of_run, np.asarray(y), num_classes=classes),
        }
        for run, of_run in zip(others, given[1:], strict=True)
    ]
    caption = f"FGSM examples of size {EPS} of {_name(source)}, {len(y)} test images. " + " ".join(
        f"They fool it and {row['net']} in {100 * row['both_wrong']:.1f} %, of which "
        f"{100 * row['same']:.1f} % get the same class from both; {100 * row['by_chance']:.1f} % "
        "would by chance."
        for row in rows
    )
    document = {
        "caption": caption,
        "settings": {"attack": "fgsm", "eps": EPS, "bounds": None, "chosen": ["eps"]},
        "source": source.about,
        "rows": rows,
    }
    names = ("both_wrong", "same", "by_chance")
    cells = [[row["net"], *(f"{100 * row[name]:.1f}" for name in names)] for row in rows]
    columns = ["net", "both wrong %", "the same class %", "by chance %"]
    return Drawing(None, document, Table(f"Classes of {_name(source)}'s examples", columns, cells))


def _name(run: Trained) -> str:
    about = run.about
    return f"{kind_of(about['model'])} ({method_of(about['objective'])}, {about['epochs']} epochs)"


def agreement(a: np.ndarray, b: np.ndarray, y: np.ndarray, *, num_classes: int) -> dict[str, float]:
    """Compares the classes i[N] that two nets give to examples of the classes y i[N].

    Returns:
      both_wrong: the share of examples that both nets take for a wrong class; one or more.
      same: the share of these that both take for the same class.
      by_chance: the same share, if each net gave its wrong classes to the examples of a class at
        random.
    """
    wrong = (a != y) & (b != y)
    one_hot = np.eye(num_classes)
    of_class = one_hot[y[wrong]].T
    counts = (of_class @ one_hot[a[wrong]]) * (of_class @ one_hot[b[wrong]])
    chance = counts.sum(axis=1) / np.maximum(of_class.sum(axis=1), 1)
    return {
        "both_wrong": rounded(wrong.mean()),
        "same": rounded((a == b)[wrong].mean()),
        "by_chance": rounded(chance.sum() / wrong.sum()),
    }

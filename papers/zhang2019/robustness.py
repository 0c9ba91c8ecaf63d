"""Nets trained by PGD and by TRADES on MNIST, under AutoAttack.  [zhang2019; madry2018]"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from adv_jax import attacks
from adv_jax.runner.run.trained import Trained
from adv_jax.types import UserError
from papers.judging import numbers
from papers.judging.documents import data_in_words
from papers.running.budget import paper_epochs
from papers.running.drawing import Drawing, Table, rounded
from papers.running.runs import require_same_inputs
from papers.running.target import Run

EPS, IMAGES = 0.3, 1000
# config -> ids of the accuracies of the authors' net
NETS = {
    "pgd_mnist": ("madry2018.table1.A.natural", "madry2018.auto_attack.A"),
    "trades_mnist": ("zhang2019.leaderboard.natural", "zhang2019.leaderboard.auto_attack"),
}


def auto_attack(runs: Sequence[Trained]) -> Drawing:
    """Accuracies of nets, clean and under AutoAttack of linf .3, beside those of the authors' nets.

    Args:
      runs: trained nets of pgd_mnist or trades_mnist; the first 1,000 test images are attacked.

    Raises:
      UserError: a run has another config, or the data differ.
    """
    require_same_inputs(runs)
    rows = [_row(run) for run in runs]
    images = min(IMAGES, len(runs[0].dataset.test.y))
    cells = [
        [
            f"{row['run']['experiment']}, {row['run']['objective']['name']}",
            f"{row['run']['epochs']} of {row['full_epochs']}",
            *(f"{100 - 100 * row['error'][name]:.4g}" for name in ("clean", "auto_attack")),
            *(f"{accuracy:.4g}" for accuracy in row["printed"]),
        ]
        for row in rows
    ]
    caption = (
        f"Accuracy in % under AutoAttack of linf {EPS}, the first {images} test images of "
        f"{data_in_words(runs[0].about['data'])}. "
        + " ".join(
            f"{net}, {epochs} epochs: {clean} clean and {attacked} under attack; the authors' net "
            f"has {printed} and {robust}."
            for net, epochs, clean, attacked, printed, robust in cells
        )
    )
    document = {
        "caption": caption,
        "settings": {"eps": EPS, "images": images, "seed": 0, "chosen": ["images", "epochs"]},
        "rows": rows,
    }
    columns = ["net", "epochs", "clean", "AutoAttack", "authors, clean", "authors, AutoAttack"]
    return Drawing(None, document, Table(f"Accuracy in % under linf {EPS}", columns, cells))


def _row(run: Trained) -> dict:
    name = run.about["experiment"]
    if name not in NETS:
        raise UserError(f"workdir must be runs of {' or '.join(NETS)}, got one of {name}")
    return {
        "run": run.about,
        "full_epochs": paper_epochs(Run(name)),
        "error": errors(run),
        "printed": [numbers.entry(of)["value"] for of in NETS[name]],
    }


def errors(run: Trained) -> dict[str, float]:
    """Returns the errors on the first test images, "clean" and under "auto_attack"."""
    x, y = (jnp.asarray(values[:IMAGES]) for values in run.dataset.test)
    attacked = attacks.auto_attack(
        run.logits_fn, x, y, eps=EPS, bounds=run.dataset.bounds, key=jax.random.key(0)
    )
    return {
        name: rounded(jnp.mean(run.logits_fn(inputs).argmax(axis=1) != y))
        for name, inputs in (("clean", x), ("auto_attack", attacked))
    }

"""Adversarial examples of a plain net, shown to others.  [Nokland 2015, sec. 3]"""

from collections.abc import Sequence
from functools import partial

from adv_jax import attacks, evaluate
from adv_jax.types import UserError
from papers import numbers
from papers.drawing import Drawing, Table, rounded
from papers.nokland2015.runs import LABELS, percent, read

SIZES = {0.25: "eps25", 0.5: "eps50"}  # eps -> as the ids of the paper's numbers have it
_CELLS = {"plain": "backprop", "adversarial": "adversarial"}


def transfer(workdirs: Sequence[str]) -> Drawing:
    """Sec. 3: errors of nets on FGSM examples of another, plain net.

    Args:
      workdirs: of runs of one net by several methods; the first seed of the first plain one is
        the net that the examples are crafted on, all others are shown them.

    Raises:
      UserError: what `runs.read` refuses; no plain net besides the first, or no adversarial one;
        runs of different nets.
    """
    runs = sorted(read(workdirs, figure="transfer"), key=lambda run: run.method != "plain")
    nets = [(run, model) for run in runs for model in run.models()]
    methods = [run.method for run, _ in nets]
    if methods.count("plain") < 2 or "adversarial" not in methods or len({r.net for r in runs}) > 1:
        found = ", ".join(f"{run.net} by {LABELS[run.method]}" for run, _ in nets)
        raise UserError(
            f"workdirs hold {found}; transfer has two plain and one adversarial of the same net"
        )
    loss = runs[0].config["objective"]["loss"]
    models = {str(i): model.logits_fn for i, (_, model) in enumerate(nets)}
    x, y = nets[0][1].dataset.test
    rows, told, by_seed = [], [], {}
    for eps in SIZES:
        craft = partial(attacks.fgsm, loss=loss)
        shown = 1 - evaluate.transfer(models, x, y, craft, eps=eps)[0]
        for (run, model), error in zip(nets[1:], shown[1:], strict=True):
            if run.method in _CELLS:  # Of two runs of a method the first counts.
                of_cell = by_seed.setdefault(f"{SIZES[eps]}.{_CELLS[run.method]}", {})
                of_cell.setdefault(model.about["seed"], rounded(error))
        for method in dict.fromkeys(methods):
            errors = [e for e, m in zip(shown[1:], methods[1:], strict=True) if m == method]
            paper = _printed(eps, method)
            rows.append({"eps": eps, "method": method, "errors": rounded(errors), "paper": paper})
            theirs = "-" if paper is None else f"{100 * paper:.0f}"
            count = str(len(errors))
            told.append([f"{eps:g}", LABELS[method], percent(errors), count, theirs])
    caption = (
        f"Error in % on FGSM examples that were crafted on a {runs[0].net} net trained by "
        f"back-propagation, of {len(y)} test images; the paper crafts on its validation set. "
        "Nothing is clipped."
    )
    columns = ["eps", "net", "error %", "nets", "paper"]
    document = {
        "caption": caption,
        "settings": {"loss": loss, "bounds": None, "examples": len(y), "chosen": ["test set"]},
        "rows": rows,
        "by_seed": by_seed,
        "runs": [run.about() for run in runs],
    }
    return Drawing(None, document, Table(f"Nokland 2015, sec. 3; {runs[0].data}", columns, told))


def _printed(eps: float, method: str) -> float | None:
    """The paper's error as a fraction; None: it has none of this method."""
    if method not in _CELLS:
        return None
    return rounded(
        numbers.entry(f"nokland2015.transfer.{SIZES[eps]}.{_CELLS[method]}")["value"] / 100
    )

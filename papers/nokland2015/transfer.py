"""Transfer of a plain net's adversarial examples to other nets.  [nokland2015, sec. 3]"""

from collections.abc import Sequence
from functools import partial

from adv_jax import attacks, evaluate
from adv_jax.runner.run.trained import Trained
from adv_jax.types import UserError
from papers.judging import numbers
from papers.nokland2015.runs import LABELS, BackpropRun, percent, read
from papers.running.drawing import Drawing, Table, rounded

SIZES = {0.25: "eps25", 0.5: "eps50"}  # eps -> its name in the ids of the paper's numbers
CELLS = {"plain": "backprop", "adversarial": "adversarial"}


def transfer(workdirs: Sequence[str]) -> Drawing:
    """Sec. 3: errors of nets on FGSM examples of another, plain net.

    Args:
      workdirs: runs of one net by several methods. The examples are crafted on the first seed of
        the first plain run and tested on all other nets.

    Raises:
      UserError: `nets_of` raises.
    """
    runs, nets = nets_of(workdirs, figure="transfer")
    methods = [run.method for run, _ in nets]
    loss = runs[0].config["objective"]["loss"]
    models = {str(i): model.logits_fn for i, (_, model) in enumerate(nets)}
    x, y = nets[0][1].dataset.test
    rows, cells, by_seed = [], [], {}
    for eps in SIZES:
        craft = partial(attacks.fgsm, loss=loss)
        shown = 1 - evaluate.transfer(models, x, y, craft, eps=eps)[0]
        for (run, model), error in zip(nets[1:], shown[1:], strict=True):
            if run.method in CELLS:  # The first run of a method counts.
                of_cell = by_seed.setdefault(f"{SIZES[eps]}.{CELLS[run.method]}", {})
                of_cell.setdefault(model.about["seed"], rounded(error))
        for method in dict.fromkeys(methods):
            errors = [e for e, m in zip(shown[1:], methods[1:], strict=True) if m == method]
            paper = _printed(eps, method)
            rows.append({"eps": eps, "method": method, "errors": rounded(errors), "paper": paper})
            theirs = "-" if paper is None else f"{100 * paper:.0f}"
            count = str(len(errors))
            cells.append([f"{eps:g}", LABELS[method], percent(errors), count, theirs])
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
    return Drawing(None, document, Table(f"Nokland 2015, sec. 3; {runs[0].data}", columns, cells))


def nets_of(
    workdirs: Sequence[str], *, figure: str
) -> tuple[list[BackpropRun], list[tuple[BackpropRun, Trained]]]:
    """Returns the runs, plain ones first, and each replica with its run.

    Raises:
      UserError: `runs.read` raises, there are fewer than two plain nets or no adversarial one, or
        the nets differ.
    """
    runs = sorted(read(workdirs), key=lambda run: run.method != "plain")
    nets = [(run, model) for run in runs for model in run.models()]
    methods = [run.method for run, _ in nets]
    if methods.count("plain") < 2 or "adversarial" not in methods or len({r.net for r in runs}) > 1:
        found = ", ".join(f"{run.net} by {LABELS[run.method]}" for run, _ in nets)
        legal = "two plain and one adversarial of the same net"
        raise UserError(f"workdir must be {legal} for {figure}, got {found}")
    return runs, nets


def _printed(eps: float, method: str) -> float | None:
    """Returns the paper's error as a fraction; None if it prints none for this method."""
    if method not in CELLS:
        return None
    return numbers.fraction(f"nokland2015.transfer.{SIZES[eps]}.{CELLS[method]}")

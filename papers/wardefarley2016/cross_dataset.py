"""Transfer between nets that are trained on disjoint halves.  [wardefarley2016, sec. 1.2.1]

The source tells of the experiment of [szegedy2014] and prints no numbers. Here it is FGSM on the
small net of [huang2015]; the seeds of the two halves differ, so that the initial weights do too.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from adv_jax import attacks
from adv_jax.runner.run.trained import Trained
from adv_jax.types import Array, UserError
from papers.judging.statistics import spread
from papers.running.drawing import Drawing, Table, rounded
from papers.running.runs import Finished, finished, trained_on
from papers.wardefarley2016.targets import HALF_SIZES, SHOWN


def halves(workdirs: Sequence[str]) -> Drawing:
    """Sec. 1.2.1: examples of nets trained on one half of the data, seen by nets of the other.

    Args:
      workdirs: a run with data.half=1 and one with data.half=2, of as many seeds, none in common.

    Raises:
      UserError: a run is unfinished or has a grid, or they are not two such runs of one config.
    """
    runs = sorted((finished(w) for w in workdirs), key=lambda run: _settings(run)[0])
    _check(runs)
    first, second = (run.models() for run in runs)
    by_seed: dict[str, dict[int, float]] = {
        f"{shown}, {eps:g}": {} for eps in HALF_SIZES for shown in SHOWN
    }
    for source, other in zip(first, second, strict=True):
        for eps in HALF_SIZES:
            for shown, error in errors(source, other, eps).items():
                by_seed[f"{shown}, {eps:g}"][source.about["seed"]] = error
    means = {name: 100 * spread([*of_seeds.values()]).mean for name, of_seeds in by_seed.items()}
    rows = [
        [shown, *(f"{means[f'{shown}, {eps:g}']:.4g}" for eps in HALF_SIZES)] for shown in SHOWN
    ]
    trained = trained_on(runs)
    document = {
        "caption": "Test error in % by the l-infinity size of what is added: "
        + "; ".join(f"{name} {mean:.4g}" for name, mean in means.items())
        + f". {trained}.",
        "settings": {"attack": "fgsm", "bounds": None, "chosen": ["net", "eps"]},
        "by_seed": by_seed,
        "runs": [
            {"model": run.config["model"], "data": run.result["data"], "half": _settings(run)[0]}
            for run in runs
        ],
    }
    title = f"Nets of disjoint halves, error in %; {trained}"
    return Drawing(None, document, Table(title, ["shown", *map("{:g}".format, HALF_SIZES)], rows))


def errors(source: Trained, other: Trained, eps: float) -> dict[str, float]:
    """Returns the error on each of `SHOWN`.

    Args:
      source: the net that FGSM attacks.
      other: the net that sees its examples, and noise of the same size.
    """
    x, y = map(jnp.asarray, source.dataset.test)
    x_adv = attacks.fgsm(source.logits_fn, x, y, eps=eps)
    noise = attacks.sign_noise(
        other.logits_fn, x, y, eps=eps, key=jax.random.key(source.about["seed"])
    )

    def error(net: Trained, shown: Array) -> float:
        return rounded(jnp.mean(net.logits_fn(shown).argmax(axis=1) != y))

    return dict(
        zip(SHOWN, (error(source, x_adv), error(other, x_adv), error(other, noise)), strict=True)
    )


def _settings(run: Finished) -> tuple[int, dict]:
    """Returns the half, and the config without what may differ."""
    data = dict(run.config["data"])
    half = data.pop("half", 0)
    return half, {**run.config, "data": data, "seed": None}


def _check(runs: Sequence[Finished]) -> None:
    found = [_settings(run) for run in runs]
    if [half for half, _ in found] != [1, 2] or found[0][1] != found[1][1]:
        paths = ", ".join(str(run.path) for run in runs)
        legal = "two runs of one config with data.half=1 and 2"
        raise UserError(f"workdir must be {legal}, got {paths}")
    first, second = ({r["seed"] for r in run.result["replicas"]} for run in runs)
    if both := first & second:
        raise UserError(f"workdir must be runs of different seeds, got {sorted(both)} in both")

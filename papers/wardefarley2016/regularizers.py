"""Weight decay and ensembles under FGSM.  [wardefarley2016, sec. 1.2.7]

"Weight decay, ensemble methods, and so on, are not viable defenses": some lower the clean error and
not the one under attack, others help only where they raise the clean error. The source prints no
numbers. Here the net is the small one of [huang2015], which trains to the end in a minute.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from adv_jax import attacks
from adv_jax.types import Array, LogitsFn, UserError
from papers.judging.statistics import spread
from papers.running.drawing import Drawing, Table, rounded
from papers.running.runs import Finished, finished_runs, run_document, trained_on
from papers.wardefarley2016.targets import ENSEMBLE, MEMBERS, SINGLE, SIZES, decayed


def regularizers(workdirs: Sequence[str]) -> Drawing:
    """Sec. 1.2.7: errors of nets, of their ensembles and with weight decay, under FGSM.

    Args:
      workdirs: runs with different weight decay; one has none, and its nets form ensembles too.

    Raises:
      UserError: a run is unfinished or has a grid, two have the same weight decay, all have some,
        or the data differ.
    """
    runs = finished_runs(workdirs)
    models = {_named(run): run.models() for run in runs}
    if len(models) < len(runs) or SINGLE not in models:
        raise UserError(
            "workdir must be runs with different optimizer.weight_decay, one of them 0, got "
            f"{', '.join(map(_named, runs))}"
        )
    nets = {
        name: {model.about["seed"]: model.logits_fn for model in of_run}
        for name, of_run in models.items()
    }
    nets[ENSEMBLE] = ensembles(nets[SINGLE])
    x, y = map(jnp.asarray, models[SINGLE][0].dataset.test)
    by_seed = {
        f"{name}, {size}": {seed: error(net, x, y, eps) for seed, net in of_name.items()}
        for name, of_name in nets.items()
        for size, eps in SIZES.items()
    }
    rows = [
        [name, str(len(nets[name])), *(_percent(by_seed[f"{name}, {size}"]) for size in SIZES)]
        for name in nets
    ]
    caption = (
        f"Test error in %, {', '.join(SIZES)}, of the net's or the ensemble's own examples; an "
        f"ensemble has the mean probabilities of {MEMBERS} nets. "
        + "; ".join(f"{name}: {', '.join(errors)}" for name, _, *errors in rows)
        + f". {trained_on(runs)}."
    )
    document = {
        "caption": caption,
        "settings": {"attack": "fgsm", "bounds": None, "chosen": ["net", "members", "eps"]},
        "by_seed": by_seed,
        "runs": [run_document(run, "model", "optimizer") for run in runs],
    }
    title = f"Regularizers under FGSM, error in %; {trained_on(runs)}"
    return Drawing(None, document, Table(title, ["nets", "count", *SIZES], rows))


def ensembles(nets: Mapping[int, LogitsFn]) -> dict[int, LogitsFn]:
    """Splits nets into ensembles of MEMBERS, or into one of all if they are fewer.

    Args:
      nets: seed -> net.

    Returns:
      seed of the first member -> ensemble; no two share a net.
    """
    seeds, count = [*nets], max(1, len(nets) // MEMBERS)
    return {
        seed: partial(log_mean_probability, [nets[member] for member in seeds[i::count][:MEMBERS]])
        for i, seed in enumerate(seeds[:count])
    }


def log_mean_probability(members: Sequence[LogitsFn], x: Array) -> Array:
    """Returns log (1 / M) sum_m softmax(logits_m(x)), f32[B, K]."""
    logs = jnp.stack([jax.nn.log_softmax(member(x)) for member in members])
    return jax.nn.logsumexp(logs, axis=0) - jnp.log(len(members))


def error(logits_fn: LogitsFn, x: Array, y: Array, eps: float) -> float:
    """Returns the error of a model on its own FGSM examples."""
    x_adv = attacks.fgsm(logits_fn, x, y, eps=eps)
    return rounded(jnp.mean(logits_fn(x_adv).argmax(axis=1) != y))


def _named(run: Finished) -> str:
    return decayed(run.config["optimizer"].get("weight_decay") or 0.0)


def _percent(of_seeds: Mapping[int, float]) -> str:
    return f"{100 * spread([*of_seeds.values()]).mean:.4g}"

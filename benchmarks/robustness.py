"""Measures what each attack leaves of two small nets' accuracy: `python -m benchmarks.robustness`.

Two perceptrons are trained on 4,000 of the 5,000 embedded digits (seed 0), one on clean digits, one
half on PGD's examples of eps .15; each attack with a radius meets the first 200 of the other 1,000
digits, at its default settings. The README shows the table, beside the speeds of
`benchmarks.attacks`.
"""

import argparse
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adv_jax import attacks, data, evaluate, models, objectives, step
from adv_jax.attacks import Rank, traits_of
from adv_jax.evaluate.traits import takes_keyword
from adv_jax.types import LogitsFn, UserError
from benchmarks.tables import Table
from benchmarks.timing import machine, versions, write
from docs.docstrings import cited, names_of_works

RESULTS = Path(__file__).parent / "results"
OUT = RESULTS / "robustness.json"
SPEEDS = (
    "attacks.json",
    "attacks_plain.json",
    "auto_attack.json",
    "attacks_field_amd.json",
    "attacks_others_amd.json",
    "attacks_square_amd.json",
)
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
BOUNDS, TRAINED_AT = (0.0, 1.0), 0.15
ROWS = 200
# Of each norm the radius; of JSMA the share of pixels. The digits' pixels are in [0, 1].
SIZES = {"linf": 0.15, "l2": 2.0, "l1": 10.0, "l0": 0.1}


def trained(dataset: data.Dataset, objective: Any, *, epochs: int = 30, seed: int = 0) -> LogitsFn:
    """Returns the logits function of a perceptron, trained on 4,000 digits."""
    net = models.mlp(features=(256,), num_classes=10)
    optimizer = optax.adam(1e-3)
    variables = models.init(net, jax.random.key(seed), dataset.train.x[:2])
    objective = partial(objective, models.apply_fn(net))
    state = step.init_state(variables, optimizer, seed=seed)
    epoch = jax.jit(step.over_steps(step.make_step(objective, optimizer)))
    for i in range(epochs):
        rows = data.epoch_order(seed, i, len(dataset.train.y)).reshape(-1, 50)
        state, _ = epoch(state, {"x": dataset.train.x[rows], "y": dataset.train.y[rows]})
    return lambda x: models.apply_fn(net)(state.variables, x).logits


def nets(dataset: data.Dataset) -> dict[str, LogitsFn]:
    """Returns the two nets, "plain" and "defended"."""
    inner = partial(attacks.pgd, eps=TRAINED_AT, bounds=BOUNDS, num_steps=10)
    return {
        "plain": trained(dataset, objectives.cross_entropy),
        "defended": trained(dataset, partial(objectives.adversarial_mix, attack=inner)),
    }


def measured_attacks() -> dict[str, Any]:
    """Returns the attacks on a row of digits that have a radius or a share, by name.

    Random controls, attacks made on another model, and `raw_gradient`, whose size is not that of a
    perturbation, are left out.
    """
    found = {}
    for name in attacks.__all__:
        attack = getattr(attacks, name)
        traits = traits_of(attack)
        if traits and traits.rank and traits.aimed and traits.size in ("eps", "gamma"):
            found[name] = attack
    return found


def norms_of(attack: Any) -> list[str]:
    """Returns the norms that an attack accepts; it is measured under the first of them."""
    if fixed := traits_of(attack).norm:
        return [fixed]
    if not takes_keyword(attack, "norm"):
        return ["l0"]  # JSMA counts pixels.
    return [norm for norm in ("linf", "l2", "l1", "l0") if _accepts(attack, norm)]


def _accepts(attack: Any, norm: str) -> bool:
    x, y = jnp.full((2, 4), 0.5), jnp.array([0, 1])
    options = {"eps": 1.0, "norm": norm, "bounds": BOUNDS, "key": jax.random.key(0)}
    try:
        jax.eval_shape(partial(attack, lambda x: x @ jnp.eye(4, 3), **options), x, y)
    except UserError:
        return False
    return True


def measure(rows: int = ROWS) -> dict[str, Any]:
    """Returns the report: of each attack its norm, whose size was used, and both accuracies."""
    dataset = data.load("mnist", source="embedded")
    x, y = (array[:rows] for array in dataset.test)
    clean: dict[str, float] = {}
    found: dict[str, dict[str, Any]] = {
        name: {"norm": norms_of(attack)[0]} for name, attack in measured_attacks().items()
    }
    for net, logits_fn in nets(dataset).items():
        clean[net] = float(np.mean(logits_fn(x).argmax(-1) == y))
        for name, entry in found.items():
            attack, norm = getattr(attacks, name), entry["norm"]
            call = partial(attack, norm=norm) if takes_keyword(attack, "norm") else attack
            options = {"eps": [SIZES[norm]], "bounds": BOUNDS, "key": jax.random.key(0)}
            result = evaluate.evaluate(logits_fn, x, y, {name: call}, **options)
            entry[net] = float(result.attacks[name].accuracy[0])
            print(net, name, norm, entry[net], flush=True)
    return {
        "benchmark": "robustness",
        "machine": machine(),
        "versions": versions(*PACKAGES),
        "threads": len(os.sched_getaffinity(0)),
        "data": {"name": "mnist", "source": "embedded", "rows": len(y)},
        "trained_at": TRAINED_AT,
        "sizes": SIZES,
        "clean": clean,
        "attacks": found,
    }


def tables(report: Mapping[str, Any], docs: str = "../docs") -> Iterator[Table]:
    """Yields the table of all attacks, for a page from which `docs` is the folder of guides."""
    clean, sizes, speeds = report["clean"], report["sizes"], _speeds()
    rows = [
        (
            f"`{name}`",
            _source(name, docs),
            ", ".join(norms_of(getattr(attacks, name))),
            _access(name),
            f"{entry['norm']} {sizes[entry['norm']]:g}",
            f"{100 * entry['plain']:.1f}",
            f"{100 * entry['defended']:.1f}",
            speeds.get(name, ""),
        )
        for name, entry in report["attacks"].items()
    ]
    others = ", ".join(f"`{name}`" for name in attacks.__all__ if name not in report["attacks"])
    yield Table(
        "Accuracy that each attack leaves to a plain and to a defended perceptron",
        ("attack", "source", "norms", "reads", "size", "plain, %", "defended, %", "speed"),
        rows,
        note=(
            f"{report['data']['rows']} of the 5,000 MNIST digits, in [0, 1], on which neither net "
            f"was trained. Without an attack the accuracies are {100 * clean['plain']:.1f} and "
            f"{100 * clean['defended']:.1f} %. The defended net was trained half on clean digits, "
            f"half on PGD's examples of linf {report['trained_at']:g}. *Reads*: what the attack "
            "needs of the model. *Size*: the radius; for `jsma` the share of pixels. "
            "*Speed*: times as fast as the fastest peer on two CPU cores. Left out, as they are "
            f"random, crafted on another model or without a radius: {others}."
        ),
    )


def _access(name: str) -> str:
    traits = traits_of(getattr(attacks, name))
    if traits.decisions:
        return "classes"
    if traits.rank is Rank.ENSEMBLE:
        return "gradients, scores"
    return "gradients" if traits.gradient else "scores"


def _source(name: str, docs: str) -> str:
    """Returns a link to the first work that the docstring names as its source."""
    _, _, after = getattr(attacks, name).__doc__.partition("Source")
    key = cited(after)[0]
    return f"[{names_of_works()[key]}]({docs}/REFERENCES.md#{key})"


def _speeds() -> dict[str, str]:
    """Returns how many times as fast each attack is as the fastest peer of each measured work."""
    found: dict[str, list[tuple[float, str]]] = {}
    for work, ratio, peer in fastest_peers():
        for name in measured_attacks():
            if work == name or work.startswith(f"{name}_"):
                found.setdefault(name, []).append((ratio, peer))
    return {
        name: f"{span(ratio for ratio, _ in pairs)} ({', '.join(sorted({p for _, p in pairs}))})"
        for name, pairs in found.items()
    }


def fastest_peers() -> Iterator[tuple[str, float, str]]:
    """Yields each measured work, how many times as fast we are as the fastest peer, and the peer.

    Our own attack on a model of plain Flax is no peer.
    """
    for file in SPEEDS:
        for work, entry in json.loads((RESULTS / file).read_text())["works"].items():
            times = entry["adv_jax_times_as_fast"].items()
            ratio, peer = min((t["median"], p) for p, t in times if not p.startswith("plain Flax"))
            yield work, ratio, peer.removesuffix(" unlocked")


def span(ratios: Iterable[float]) -> str:
    """Returns the least and the greatest ratio with two digits, one number if they are equal.

    >>> span([1.83, 1.32]), span([1.0, 1.02])
    ('1.3 to 1.8', '1')
    """
    ratios = sorted(ratios)
    return " to ".join(dict.fromkeys(f"{ratio:.2g}" for ratio in (ratios[0], ratios[-1])))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    write(parser.parse_args().out, measure())

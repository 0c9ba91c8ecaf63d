"""Readings of the errors under noise that the ladder has in print.  [maronas2016, sec. 5.4]

[maronas2016] attacks with the gradient of "C" and tests with the program of [rasmus2015]. It does
not say whether batch normalization takes the running statistics or those of the batch.

The tolerances are 2.8 standard deviations of ours (repeatability limit, ISO 5725-6), pooled over
two seeds each of ladder_mnist_full_none.json and ladder_mnist_full_sgn.json in results/runs. Their
errors under FGSM of .25, 41.15 and 40.52 %, and 39.38 and 39.68 %, were of an earlier loss. Random
signs, of which no second seed is stored, have the tolerance of clean digits.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import numpy as np

from adv_jax import attacks
from adv_jax.runner.run.trained import Trained, load_all
from adv_jax.types import Array, LogitsFn, UserError
from papers.judging.documents import data_in_words
from papers.judging.statistics import BySeed
from papers.judging.words import seeds_in_words, span
from papers.maronas2016.robustness import BATCH_SIZE, TAU, noise_of, printed_errors
from papers.running.drawing import Drawing, rounded
from papers.running.readings import Cell, Reading, compared

SEED = 0  # of the random signs and of the corrupted pass
_PRINTED = printed_errors()
CELLS = {
    "fgsm": Cell("FGSM .25", _PRINTED["fgsm"], 0.0098),
    "sign_noise": Cell("random signs .25", _PRINTED["sign_noise"], 0.0011),
    "clean": Cell("clean", _PRINTED["clean"], 0.0011),
}
RUNNING, BATCH = "running statistics", "batch statistics"
CONSTANT, CORRUPTED = "batch statistics as constants", "the corrupted pass"
# (pass whose cost FGSM climbs, pass that is tested)
READINGS = (
    (RUNNING, RUNNING),
    (BATCH, RUNNING),
    (RUNNING, BATCH),
    (BATCH, BATCH),
    (CONSTANT, RUNNING),
    (CONSTANT, BATCH),
    (CORRUPTED, RUNNING),
    (CORRUPTED, BATCH),
)


def fgsm(workdirs: Sequence[str]) -> Drawing:
    """Sec. 5.4: errors of ladders under FGSM and random signs, by the batch statistics used.

    Args:
      workdirs: runs of fully labeled ladders without adversarial noise, of different seeds.

    Raises:
      UserError: `trained.load_all` raises, a run is of another model, or two have one seed.
    """
    models = [model for workdir in workdirs for model in load_all(workdir)]
    seeds = [model.about["seed"] for model in models]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"workdir must be runs of different seeds, got seeds {seeds}")
    found: dict[str, dict[str, BySeed]] = {}  # name of the reading -> cell -> by seed
    for model, seed in zip(models, seeds, strict=True):
        if model.about["model"]["name"] != "ladder":
            raise UserError(f"workdir must be runs of ladders, got {model.about['experiment']}")
        for name, errors in errors_of(model).items():
            for cell, error in errors.items():
                found.setdefault(name, {}).setdefault(cell, {})[seed] = rounded(error)
    about = [model.about for model in models]
    trained = f"{data_in_words(about[0]['data'])}; {seeds_in_words(seeds)}; "
    trained += f"{span([a['epochs'] for a in about])} epochs"
    noises = ", ".join(sorted({noise_of(one) for one in about}))
    what = (
        f"Error in % of ladder networks, {noises}, on {len(models[0].dataset.test.y):,} test "
        "images, by the pass that FGSM climbs and the pass that is tested, in batches of "
        f"{BATCH_SIZE}; {trained}. Tolerances are 2.8 standard deviations of two seeds each of two "
        "ladders of ours."
    )
    drawing = compared(
        [Reading(name, by_seed) for name, by_seed in found.items()],
        CELLS,
        what=what,
        title=f"Maronas 2016, sec. 5.4, in %; {trained}",
    )
    settings = {"tau": TAU, "bounds": None, "batch_size": BATCH_SIZE, "chosen": ["bounds"]}
    more = {"settings": settings, "seed": SEED, "runs": about}
    return drawing._replace(document={**drawing.document, **more})


def errors_of(model: Trained) -> dict[str, dict[str, float]]:
    """Returns name of a reading -> cell -> error of a ladder on the test set."""
    passes = _passes(model)

    @jax.jit
    def wrong(x: Array, y: Array) -> dict[str, dict[str, Array]]:
        key = jax.random.key(SEED)
        noisy = attacks.sign_noise(model.logits_fn, x, y, eps=TAU, key=key)
        crafted = {
            name: attacks.fgsm(logits_fn, x, y, eps=TAU) for name, logits_fn in passes.items()
        }

        def errors(climbed: str, tested: str) -> dict[str, Array]:
            inputs = {"fgsm": crafted[climbed], "sign_noise": noisy, "clean": x}
            logits = {cell: passes[tested](inputs[cell]) for cell in CELLS}
            return {cell: (logits[cell].argmax(-1) != y).sum() for cell in CELLS}

        return {_name(*reading): errors(*reading) for reading in READINGS}

    x, y = model.dataset.test
    batches = max(1, len(y) // BATCH_SIZE)
    parts = zip(np.array_split(x, batches), np.array_split(y, batches), strict=True)
    counts = [wrong(*part) for part in parts]
    found = jax.tree.map(lambda *of_batches: float(sum(of_batches)) / len(y), *counts)
    return {_name(*reading): found[_name(*reading)] for reading in READINGS}  # jit sorts the names.


def _name(climbed: str, tested: str) -> str:
    return f"{climbed} in the attack, {tested} in the test"


def _passes(model: Trained) -> Mapping[str, LogitsFn]:
    """Returns the passes of a ladder by name; the corrupted one is that of training."""

    def on_batch(x: Array, *, noisy: bool, frozen: bool) -> Array:
        key = jax.random.key(SEED)
        options = {"noisy": noisy, "half": 0, "frozen": frozen}
        return model.apply(
            model.variables, x, train=True, key=key, method="on_batch", **options
        ).logits

    return {
        RUNNING: model.logits_fn,
        BATCH: partial(on_batch, noisy=False, frozen=False),
        CONSTANT: partial(on_batch, noisy=False, frozen=True),
        CORRUPTED: partial(on_batch, noisy=True, frozen=False),
    }

"""Chooses the examples and attacks that all models of an evaluation share."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from adv_jax import attacks, evaluate
from adv_jax.data import Dataset
from adv_jax.evaluate.preparing import with_settings
from adv_jax.random import row_keys
from adv_jax.runner.config.binding import ATTACK, ATTACKS, bind, named
from adv_jax.runner.config.document import is_import_path
from adv_jax.runner.config.literals import spec_of
from adv_jax.runner.host.processes import from_first, own_computation, shares
from adv_jax.runner.run.trained import Trained, tested_apart
from adv_jax.runner.store.provenance import provenance
from adv_jax.runner.store.verified import digest
from adv_jax.types import Attack, Bounds, UserError, not_one_of

Document = dict[str, Any]


class Task(NamedTuple):
    """The examples and attacks that all models are evaluated on.

    x, y: the examples of this process.
    shares: the examples of each process.
    inputs, labels: those of all examples.
    attacks: name -> attack.
    eps: sizes of the attacks.
    bounds: (lo, hi) of the perturbed examples, or None.
    options: batch_size and the keys of the examples of this process.
    settings: entries for the JSON documents.
    """

    x: np.ndarray
    y: np.ndarray
    shares: Sequence[range]
    inputs: np.ndarray
    labels: np.ndarray
    attacks: dict[str, Attack]
    eps: Sequence[float]
    bounds: Bounds | None
    options: dict[str, Any]
    settings: Document


def common_task(
    models: Mapping[str, Trained],
    attack_names: Sequence[str],
    *,
    norm: str | None,
    eps: Sequence[float],
    bounds: Bounds | str | None,
    num_examples: int | None,
    batch_size: int,
    seed: int,
) -> Task:
    """Returns what all models are evaluated on; for the arguments see `evaluation.run`.

    Raises:
      UserError: the models have no classes or different data; an attack is unknown or needs more
        settings; the test set has fewer examples, or there are more processes than examples.
    """
    dataset = _common_data(models)
    limits: Any = dataset.bounds if bounds == "data" else bounds
    suite = _attacks(attack_names, norm=norm, bounds=limits)
    x, y = dataset.test
    count = len(y) if num_examples is None else num_examples
    if not 1 <= count <= len(y):
        raise UserError(
            f"num_examples must be 1 to {len(y)}, the size of the test set, got {count}"
        )
    divided = shares(count, jax.process_count())
    mine = slice(divided[jax.process_index()].start, divided[jax.process_index()].stop)
    keys = row_keys(jax.random.key(seed), count)[mine]
    return Task(
        x[mine],
        y[mine],
        divided,
        x[:count],
        y[:count],
        suite,
        eps,
        limits,
        {"batch_size": batch_size, "key": keys},
        {"examples": count, "bounds": limits, "evaluation_seed": seed, **provenance()},
    )


def check_same(models: Mapping[str, Trained]) -> None:
    """Checks that all processes have the same models and data. Collective.

    Raises:
      UserError: they differ, as in folders that the processes do not share.
    """
    if jax.process_count() == 1:
        return
    own = digest({name: (its.variables, its.dataset.test) for name, its in models.items()})
    first = from_first(np.frombuffer(bytes.fromhex(own), np.uint8)).tobytes().hex()
    with own_computation():
        if own != first:
            raise UserError(
                "workdir must be the same runs on the same data for all processes, got "
                f"{', '.join(models)} with other weights or data than the first process has"
            )


def _common_data(models: Mapping[str, Trained]) -> Dataset:
    """Returns the data set that all models are tested on.

    Raises:
      UserError: a model has no classes, or the test sets differ.
    """
    for name, its in models.items():
        if its.predicts == "loss":
            raise UserError(f"workdir must be runs of models with classes, got {name}")
    (first, model), *others = models.items()
    for name, other in others:
        if other.about["preprocess"] != model.about["preprocess"]:
            raise UserError(
                f"workdir must be runs with the same data.preprocess, got {first} and {name}"
            )
        if apart := tested_apart(model.dataset, other.dataset):
            raise UserError(
                f"workdir must be runs that are tested on the same data, got {first} and {name}: "
                f"{apart}"
            )
    return model.dataset


def _attacks(texts: Sequence[str], *, norm: str | None, bounds: Bounds | None) -> dict[str, Attack]:
    """Returns the attack of each text "NAME" or "NAME(setting=value)", with the size left unset.

    Raises:
      UserError: a name or setting is unknown, the attack needs more settings, or has another norm.
    """
    chosen: dict[str, Attack] = {}
    for text in texts:
        try:
            spec = spec_of(text)
        except ValueError as error:
            raise UserError(f"attacks {error}") from error
        name = spec["name"]
        if name not in ATTACKS and not is_import_path(name):
            raise UserError(not_one_of("attacks", name, ATTACKS))
        function = named(spec, ATTACKS, field="attacks", call=ATTACK)
        if (size := evaluate.scale_of(function)) in spec:
            raise UserError(f"attacks must leave {size} to --eps, got {text!r}")
        if spec.get("targeted"):
            raise UserError(f"attacks must lead away from the true labels, got {text!r}")
        chosen[text] = bind(spec, ATTACKS, field="attacks", free=attacks.SIZES, call=ATTACK)
    return with_settings(chosen, bounds=bounds, norm=norm)

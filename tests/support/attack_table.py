"""Every attack with cheap settings, for the tests of the contract of all attacks."""

import functools
from collections.abc import Callable, Container
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from adv_jax import attacks

B, SHAPE, K = 6, (2, 3), 4
BOUNDS = (0.0, 1.0)
NORMS = ["linf", "l2", "l1", "rms"]


class Row(NamedTuple):
    """attack: called as attack(logits_fn, x, y, *, <scale>, bounds, key, **options).

    norm: it stays in the ball of radius `scale` in this norm, if not None.
    draws: it draws random numbers when it gets a key.
    needs_key: it raises without a key.
    reads_model: it calls the model.
    reads_labels: it uses the labels.
    sees_axes: the result depends on the position of an entry, so that reshaping matters.
    picky: it may leave any row, if it finds no better point than x.
    constant: its result has no gradient.
    variant: it combines parts that other rows test, and is not in `CORE` unless it is the first row
      of an attack.
    """

    attack: Callable
    options: dict = {}
    norm: str | None = None
    draws: bool = False
    needs_key: bool = False
    reads_model: bool = True
    reads_labels: bool = True
    sees_axes: bool = False
    picky: bool = False
    constant: bool = True
    variant: bool = False

    @property
    def traits(self) -> attacks.Traits:
        return attacks.traits_of(self.attack)

    @property
    def scale(self) -> str:
        return self.traits.size


def noise(attack: Callable, **fields) -> Row:
    return Row(attack, draws=True, needs_key=True, reads_model=False, reads_labels=False, **fields)


def needing_bounds(attack: Callable) -> Callable:
    """Returns the attack with `BOUNDS` as the default of bounds=None."""

    @functools.wraps(attack)
    def bounded(*args, bounds, **options):
        return attack(*args, bounds=bounds or BOUNDS, **options)

    return bounded


def of_the_prediction(attack: Callable) -> Callable:
    """Returns the attack without labels: dlr is constant if y ranks third or lower."""

    @functools.wraps(attack)
    def unlabeled(logits_fn, x, y, **options):
        return attack(logits_fn, x, None, **options)

    return unlabeled


@functools.wraps(attacks.transferred)
def on_itself(logits_fn, x, y, **options) -> jax.Array:
    """Transfers FGSM from the model to itself."""
    return attacks.transferred(logits_fn, x, y, source_fn=logits_fn, attack=attacks.fgsm, **options)


def by_norm(name: str, norms: list[str], make: Callable = Row, **fields) -> dict[str, Row]:
    """Returns a row for each norm; all but the first are variants, and it too if `variant`."""
    attack, options = getattr(attacks, name), fields.pop("options", {})
    variant = fields.pop("variant", False)
    return {
        f"{name}-{norm}": make(
            attack,
            options=options | {"norm": norm},
            norm=norm,
            variant=variant or norm != norms[0],
            **fields,
        )
        for norm in norms
    }


SHORT_SEARCH = {"search_steps": 3, "initial_const": 1.0}
DRAWS = {"draws": True, "needs_key": True}
TABLE = {
    **by_norm("fgsm", NORMS),
    "fgsm-sign-of-length-l2": Row(
        attacks.fgsm,
        options={"length": "l2", "loss": "binary_cross_entropy"},
        norm="l2",
        variant=True,
    ),
    "transferred": Row(on_itself, norm="linf"),
    "raw_gradient": Row(attacks.raw_gradient),
    "fgsm-l2-through": Row(
        attacks.fgsm, options={"norm": "l2", "constant": False}, norm="l2", constant=False
    ),
    "raw_gradient-through": Row(attacks.raw_gradient, options={"constant": False}, constant=False),
    "gaussian_noise": noise(attacks.gaussian_noise),
    "sign_noise": noise(attacks.sign_noise, norm="linf"),
    **by_norm("uniform_noise", NORMS, make=noise),
    **by_norm("pgd", NORMS, options={"num_steps": 3}, draws=True, picky=True),
    "pgd-restarts": Row(
        attacks.pgd, options={"num_steps": 2, "restarts": 3}, norm="linf", variant=True, **DRAWS
    ),
    "bim": Row(attacks.bim, options={"num_steps": 3}, norm="linf", variant=True),
    **by_norm("mi_fgsm", ["linf", "l2"], options={"num_steps": 3}, variant=True),
    **by_norm("vmi_fgsm", ["linf", "l2"], options={"num_steps": 3, "num_neighbors": 2}, **DRAWS),
    **by_norm("adv_alpha", ["linf", "l2", "l1"]),
    **by_norm(
        "virtual_adversarial", ["linf", "l2"], options={"xi": 0.1}, reads_labels=False, **DRAWS
    ),
    **by_norm("apgd", ["linf", "l2", "l1"], options={"num_steps": 4}, draws=True, picky=True),
    "apgd-dlr": Row(
        of_the_prediction(attacks.apgd),
        options={"loss": "dlr", "num_steps": 2, "restarts": 2},
        norm="linf",
        variant=True,
        picky=True,
        reads_labels=False,
        **DRAWS,
    ),
    "apgd-targets": Row(
        attacks.apgd,
        options={"loss": "dlr", "num_targets": 2, "num_steps": 2},
        norm="linf",
        variant=True,
        picky=True,
        draws=True,
    ),
    **by_norm(
        "square",
        ["linf", "l2"],
        options={"num_queries": 20, "block_size": 4},
        sees_axes=True,
        picky=True,
        **DRAWS,
    ),
    "auto_attack": Row(
        attacks.auto_attack,
        options={  # The other members, tested alone and in test_auto_attack.py, compile for long.
            **{"members": ("apgd-ce", "fab-t"), "num_steps": 3, "num_targets": 2},
            "block_size": 4,
        },
        norm="linf",
        sees_axes=True,
        variant=True,
        **DRAWS,
    ),
    "auto_attack-plus": Row(
        attacks.auto_attack,
        options={
            **{"version": "plus", "num_steps": 2, "num_queries": 4, "num_targets": 2},
            "block_size": 4,
        },
        norm="linf",
        sees_axes=True,
        variant=True,
        **DRAWS,
    ),
    **by_norm("deepfool", ["linf", "l2"]),
    **by_norm("fab", ["linf", "l2"], options={"num_steps": 4}),
    "fab-targets": Row(
        attacks.fab,
        options={"num_targets": 2, "num_steps": 3, "restarts": 2},
        norm="linf",
        variant=True,
        **DRAWS,
    ),
    "ddn": Row(attacks.ddn, options={"num_steps": 30}, norm="l2", variant=True),
    **by_norm("fmn", ["linf", "l2", "l1"], options={"num_steps": 20}),
    "ead": Row(
        attacks.ead,
        options=SHORT_SEARCH | {"num_steps": 20, "learning_rate": 0.1},
        norm="l1",
        variant=True,
    ),
    "carlini_wagner": Row(
        needing_bounds(attacks.carlini_wagner),
        options=SHORT_SEARCH | {"num_steps": 20, "learning_rate": 0.1},
        norm="l2",
    ),
    # Rounding grows with each turn of L-BFGS.
    "lbfgs": Row(
        attacks.lbfgs,
        options=SHORT_SEARCH | {"num_steps": 5},
        norm="l2",
    ),
    **by_norm(
        "hop_skip_jump",
        ["l2", "linf"],
        options={"num_steps": 2, "initial_evals": 10},
        variant=True,
        **DRAWS,
    ),
    "boundary": Row(
        attacks.boundary,
        options={"num_steps": 20},
        norm="l2",
        variant=True,
        **DRAWS,
    ),
    "jsma": Row(attacks.jsma, picky=True),
}
# The first row of each attack; its core promises and those of rows that are no variants are tested
# by default.
FIRST = {name.partition("-")[0]: name for name in reversed(TABLE)}
CORE = [name for name, row in TABLE.items() if name in FIRST.values() or not row.variant]
# One attack for each kind of search: a formula, a fixed loop, a loop with an early stop.
FEW = ("fgsm-linf", "pgd-linf", "deepfool-linf")
# Those, and one attack each that searches, penalizes, shrinks its ball or only draws.
KINDS = (*FEW, "square-linf", "carlini_wagner", "fmn-linf", "gaussian_noise")


def marked(name: str, quick: Container[str] = (), slow: Container[str] = KINDS) -> Any:
    """Returns a row's name for `parametrize`: those in `quick` run by default.

    Others in `slow` are slow, where one attack for each kind of search is enough; the rest is
    exhaustive.
    """
    rest = pytest.mark.slow if name in slow else pytest.mark.exhaustive
    return pytest.param(name, marks=() if name in quick else rest)


def run(row, x, y, scale, *, logits_fn, bounds=BOUNDS, keys):
    """Calls the attack of a row."""
    options = row.options | {row.scale: scale, "bounds": bounds, "key": keys}
    return row.attack(logits_fn, x, y, **options)


def norm_of(r, kind):
    r = np.asarray(r, np.float64).reshape(len(r), -1)
    order = {"linf": np.inf, "l1": 1, "l2": 2, "rms": 2}[kind]
    length = np.linalg.norm(r, ord=order, axis=1)
    return length / np.sqrt(r.shape[1]) if kind == "rms" else length

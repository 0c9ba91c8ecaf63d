"""Accuracy and confidence of a classifier, clean and as curves over the size of attacks."""

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import norms
from adv_jax.checks import check_finite, check_flags, logit_flags
from adv_jax.evaluate.batching import over_rows
from adv_jax.evaluate.checks import (
    check_attacks,
    check_sequence_of_sizes,
    checked_inside,
)
from adv_jax.evaluate.crafting import at_size, naming
from adv_jax.evaluate.predicting import predicted, predictions
from adv_jax.evaluate.preparing import check_named
from adv_jax.evaluate.traits import scale_of, sizes_of
from adv_jax.random import row_keys
from adv_jax.types import Array, Attack, Key, LogitsFn, is_known, working_dtype


class Clean(NamedTuple):
    """Accuracy and confidence on unperturbed rows.

    accuracy: f[], the share of rows classified correctly.
    confidence: f[], the mean of the largest probability over all rows.
    """

    accuracy: Array
    confidence: Array


class Curve(NamedTuple):
    """Results of one attack at E sizes; shares are fractions in [0, 1].

    accuracy, confidence: f[E], as in `Clean`.
    success: f[E], the share of correctly classified rows that the attack fools; 0 without any.
    l2, linf: f[E], the mean norms of the perturbation.
    """

    accuracy: Array
    confidence: Array
    success: Array
    l2: Array
    linf: Array


class Curves(NamedTuple):
    """clean; attacks: name -> Curve; worst_case: f[E], the share that no attack misclassifies."""

    clean: Clean
    attacks: dict[str, Curve]
    worst_case: Array


def curves(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    attacks: Mapping[str, Attack],
    *,
    eps: Sequence[float],
    batch_size: int = 500,
    key: Key | None = None,
) -> Curves:
    """Returns the curves of `evaluate`, without its audit; traceable.

    Inside jit only eps, batch_size, and the shape and dtype of y are checked.

    Args:
      logits_fn, x, y, attacks, batch_size, key: as in `evaluate`; `attacks` may be empty. An attack
        whose size is its eps is not run at 0.
      eps: sizes >= 0 of all attacks.

    Raises:
      UserError: as `evaluate`.
    """
    check_named("attacks", attacks)
    x, y, batch_size, known = checked_inside(logits_fn, x, y, batch_size=batch_size)
    check_sequence_of_sizes("eps", eps, x)
    if known:
        check_attacks(attacks, sizes_of(attacks, eps), x, bounds=None)
    keys = None if key is None else row_keys(key, len(y))
    sizes = np.asarray(eps, working_dtype(x.dtype))

    def rows(x: Array, y: Array, keys: Key | None) -> dict[str, Any]:
        clean = predicted(logits_fn, x)
        zeros = jnp.zeros(len(x), working_dtype(x.dtype))
        unmoved = clean | {"l2": zeros, "linf": zeros}

        def under(attack: Attack, eps: Array) -> dict[str, Array]:
            x_adv = at_size(attack, logits_fn, x, y, eps, keys)
            logits = logits_fn(x_adv)
            return measures(logits, x, x_adv) | logit_flags(logits)

        def at_all_sizes(attack: Attack) -> dict[str, Array]:
            # With eps = 0 the result is x: skip the attack.
            (run,) = np.nonzero((sizes > 0) | (scale_of(attack) != "eps"))
            # One after another: the activations of all sizes would be E times as many.
            found = jax.lax.map(functools.partial(under, attack), jnp.asarray(sizes[run]))
            return jax.tree.map(
                lambda at_x, at_run: jnp.tile(at_x, (len(sizes), 1)).at[run].set(at_run),
                unmoved,
                found,
            )

        attacked = {}
        for name, attack in attacks.items():
            with naming(name, attack):
                attacked[name] = at_all_sizes(attack)
        return {"clean": clean, "attacks": attacked}

    measured = over_rows(rows, (x, y, keys), batch_size=batch_size)
    _check_known(measured["clean"], measured["attacks"])
    return curves_of_rows(measured["clean"], measured["attacks"], y, num_sizes=len(eps))


def clean(logits_fn: LogitsFn, x: Array, y: Array, *, batch_size: int = 500) -> Clean:
    """Returns accuracy and confidence on N unperturbed rows; traceable.

    Inside jit only batch_size, and the shape and dtype of y are checked.

    Args:
      logits_fn, x, y, batch_size: as in `evaluate`; x may also be integers that logits_fn takes,
        such as indices of rows.

    Raises:
      UserError: as `evaluate`.
    """
    x, y, batch_size, _ = checked_inside(logits_fn, x, y, batch_size=batch_size, integers=True)
    rows = over_rows(lambda x: predicted(logits_fn, x), (x,), batch_size=batch_size)
    _check_known(rows, {})
    return curves_of_rows(rows, {}, y, num_sizes=0).clean


def _check_known(clean: Mapping[str, Any], attacked: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks the `logit_flags` at x and under each attack, unless they are traced."""
    if is_known(clean["finite"]):
        check_flags(clean)
        for name, rows in attacked.items():
            check_finite(rows["finite"], f"x under {name}")


def measures(logits: Array, x: Array, x_adv: Array) -> dict[str, Array]:
    """Returns `predictions` of the logits at x_adv, and {"l2", "linf": f32[B]} of x_adv - x."""
    lengths = {name: norms.norm(x_adv - x, name) for name in ("l2", "linf")}
    return predictions(logits) | lengths


def curves_of_rows(
    clean: Mapping[str, Any],
    attacked: Mapping[str, Mapping[str, Any]],
    y: Any,
    *,
    num_sizes: int,
) -> Curves:
    """Returns the means over the rows of NumPy or traced arrays.

    Args:
      clean: from `predictions`, f[N] each.
      attacked: attack -> the result of `measures`, f[E, N] each.
      num_sizes: E.
    """
    y = y.astype(np.int32)
    right_at_first = clean["label"] == y
    y = y[None]

    def curve(rows: Mapping[str, Any]) -> Curve:
        fooled = right_at_first[None] & (rows["label"] != y)
        return Curve(
            accuracy=(rows["label"] == y).mean(-1),
            confidence=rows["confidence"].mean(-1),
            success=fooled.sum(-1) / right_at_first.sum().clip(1),
            l2=rows["l2"].mean(-1),
            linf=rows["linf"].mean(-1),
        )

    right = (rows["label"] == y for rows in attacked.values())
    always_right: Any = functools.reduce(
        operator.and_, right, np.ones((num_sizes, y.shape[1]), bool)
    )
    return Curves(
        clean=Clean(right_at_first.mean(), clean["confidence"].mean()),
        attacks={name: curve(rows) for name, rows in attacked.items()},
        worst_case=always_right.mean(-1),
    )

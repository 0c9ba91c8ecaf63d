"""Evaluation of a classifier under attacks of several sizes, with an audit of the result."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.checks import check_finite
from adv_jax.evaluate.auditing import Audit, AuditWarning, audit, step_of, violations
from adv_jax.evaluate.batching import Progress, over_batches, over_parts, silent
from adv_jax.evaluate.budget import at_size
from adv_jax.evaluate.checks import (
    check_attacks,
    check_sizes,
    checked_data,
    checked_predictions,
)
from adv_jax.evaluate.measures import Clean, Curve, measures, summary
from adv_jax.evaluate.probing import probe
from adv_jax.types import Array, Attack, Bounds, Key, LogitsFn


class Evaluation(NamedTuple):
    """The result of `evaluate`: NumPy arrays over E sizes and N rows.

    eps: f[E], the sizes.
    clean: accuracy and confidence without an attack.
    attacks: name -> accuracy, confidence, success, l2 and linf, f[E] each.
    worst_case: f[E], the share of rows that stay correct under every attack.
    correct: name -> bool[E, N], the rows classified correctly under the attack.
    audit: signs that the evaluation is unreliable.
    """

    eps: np.ndarray
    clean: Clean
    attacks: dict[str, Curve]
    worst_case: np.ndarray
    correct: dict[str, np.ndarray]
    audit: Audit


def evaluate(
    logits_fn: LogitsFn,
    x: ArrayLike,
    y: ArrayLike,
    attacks: Mapping[str, Attack],
    *,
    eps: Sequence[float],
    batch_size: int = 500,
    key: Key | None = None,
    bounds: Bounds | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluates a classifier under each attack and the worst case over them, with an audit.

    Each attack is compiled once and runs on all local devices, or on the mesh on which x lies. The
    sizes (perturbation budgets) run one after another, not vmapped, so early stopping saves time.
    Each problem that the audit finds is also issued as an `AuditWarning`.

    Args:
      logits_fn: f32[B, *D] -> logits f32[B, K], before any softmax; rows must not interact.
      x, y: f[N, *D] and classes i32[N].
      attacks: name -> untargeted attack. Leave its size (eps, std, tau or gamma, see `scale_of`)
        unbound; bind other settings with functools.partial.
      eps: E sizes >= 0, in the attack's units; 0 gives the clean accuracy.
      batch_size: maximum number of rows per batch and device. About 50 is fast for a convolutional
        net on CPUs. The result does not depend on it.
      key: for random attacks; each row has its own key, derived from its index.
      bounds: (lo, hi) of valid inputs, numbers or arrays f[*D], or None. x must be inside; the
        audit reports any x_adv outside. Attacks do not receive them: bind `bounds` to an attack to
        make it clip.
      progress: wraps the list of batches, as rich.progress.track or tqdm.tqdm.

    Raises:
      UserError: data, sizes, attacks, bounds or the model are invalid; an input or a logit is NaN.
      ValueError: raised by an attack, such as for an unknown norm or a missing key.

    >>> from adv_jax import attacks
    >>> x, y = jnp.array([[1., 0.], [.2, 0.]]), jnp.array([0, 0])
    >>> w = jnp.array([[1., -1.], [0., 0.]])  # Class 0 where the first entry is positive.
    >>> found = evaluate(lambda x: x @ w, x, y, {"fgsm": attacks.fgsm}, eps=[0, .5, 1.5])
    >>> found.attacks["fgsm"].accuracy
    array([1. , 0.5, 0. ])
    """
    x, y = checked_data(x, y, bounds=bounds, batch_size=batch_size)
    check_sizes(eps)
    check_attacks(attacks, eps, x, bounds=bounds)
    over = partial(over_batches, batch_size=batch_size, progress=progress)
    clean = checked_predictions(logits_fn, x, y, batch_size=batch_size, progress=progress)
    sizes = np.asarray(eps, np.float32)
    wanted = (step_of(attack, bounds) for attack in attacks.values())
    steps = [step for step in dict.fromkeys(wanted) if step is not None]
    look = over_parts(partial(probe, steps=steps), logits_fn, x, in_axes=(0, 0, None))
    probed = over(lambda x, y: look(x, y, sizes), (x, y), description="gradients")
    keys = None if key is None else norms.row_keys(key, len(x))
    attacked = {}
    for name, attack in attacks.items():
        run = partial(_attacked, attack=attack, bounds=bounds)
        of_size = over_parts(run, logits_fn, x, in_axes=(0, 0, 0, None))
        rows = partial(_at_all_sizes, of_size, sizes)
        attacked[name] = over(rows, (x, y, keys), description=name)
        check_finite(attacked[name]["finite"], f"x under {name}")
    labels = np.asarray(y)
    found: Any = summary(clean, attacked, labels, num_sizes=len(eps))
    audited = audit(
        attacks,
        attacked,
        clean["label"],
        labels,
        stepped=dict(zip(steps, probed.get("one_step", ()), strict=True)),
        eps=eps,
        probed=probed,
        shape=x.shape[1:],
        bounds=bounds,
    )
    for warning in audited.warnings:
        warnings.warn(warning, AuditWarning, stacklevel=2)
    correct = {name: rows["label"] == labels for name, rows in attacked.items()}
    return Evaluation(
        np.asarray(eps, float), found.clean, found.attacks, found.worst_case, correct, audited
    )


def _attacked(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    keys: Key | None,
    size: Array,
    *,
    attack: Attack,
    bounds: Bounds | None,
) -> dict[str, Array]:
    """Returns measures, violations and {"finite": bool} of a batch at one size: f[B] each."""
    x_adv = at_size(attack, logits_fn, x, y, size, keys)
    logits = logits_fn(x_adv)
    return {
        "finite": jnp.isfinite(logits).all(axis=1),
        **measures(logits, x, x_adv),
        **violations(attack, x, x_adv, size, bounds=bounds),
    }


def _at_all_sizes(of_size: Callable[..., Any], eps: np.ndarray, *batch: Any) -> Any:
    """Calls of_size(*batch, size) -> f[parts, B] for each size; returns f[parts, E, B]."""
    found = jax.device_get([of_size(*batch, size) for size in eps])
    return jax.tree.map(lambda *parts: np.stack(parts, axis=1), *found)

"""A row of a leaderboard: clean and robust accuracy under the standard AutoAttack."""

import os
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import numpy as np

from adv_jax import __version__
from adv_jax.attacks.auto_attack import MEMBERS, auto_attack
from adv_jax.checks import checked_number, own_keywords
from adv_jax.evaluate.auditing import issue
from adv_jax.evaluate.preparing import named_norm, with_settings
from adv_jax.evaluate.progress import Progress, shown
from adv_jax.evaluate.streaming import streamed
from adv_jax.types import Bounds, Key, LogitsFn, Norm, UserError, described

_USUAL = {"linf": 8 / 255, "l2": 0.5}


@own_keywords
def benchmark(
    logits_fn: LogitsFn,
    data: Any,
    *,
    threat_model: Norm | None = None,
    norm: Norm | None = None,
    eps: float | None = None,
    bounds: Bounds | None = None,
    name: str = "",
    batch_size: int = 500,
    key: Key | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | bool = True,
) -> dict[str, Any]:
    """Returns clean and robust accuracy by the standard AutoAttack, as RobustBench's `benchmark`.

    Each problem that the audit finds is listed, and issued as an `AuditWarning`.

    Args:
      logits_fn, batch_size, folder, progress: as in `evaluate_batches`.
      data: arrays (x, y) or (x, y, aux), an iterable of such batches, or a `data.Dataset`, whose
        test rows are used.
      threat_model: "Linf" or "L2", the norm of the ball; None: "Linf".
      norm: the same by its name in attacks, "linf" or "l2".
      eps: radius of the ball, >= 0; None: 8/255 for "Linf", 0.5 for "L2", as usual on CIFAR-10.
      bounds: (lo, hi) of valid inputs. Default: those of a Dataset, else (0, 1).
      name: of the model, for the record.
      key: default: jax.random.key(0).

    Returns:
      A record that `json.dumps` takes: name, threat_model, eps, bounds, n (rows), clean and robust
      (accuracies in [0, 1]), attacks (accuracy after each of AutoAttack's attacks, in their order),
      warnings, seconds (with compilation), device, versions.

    Raises:
      UserError: another threat model; and as `evaluate_batches`.

    Source: [croce2020]; [croce2021], sec. 3.

    >>> import jax.numpy as jnp
    >>> x, y = jnp.array([[.9], [.4]]), jnp.array([0, 0])
    >>> found = benchmark(lambda x: jnp.hstack([x - .3, .3 - x]), (x, y), eps=.2)
    >>> found["clean"], found["robust"], found["n"]
    (1.0, 0.5, 2)
    """
    started = time.perf_counter()
    kind = named_norm(norm, threat_model) or "linf"
    named = {"linf": "Linf", "l2": "L2"}.get(kind)
    if named is None and threat_model is None:
        raise UserError(f"norm must be linf or l2 for benchmark, got {described(norm)}")
    if named is None:
        raise UserError(f'threat_model must be "Linf" or "L2", got {described(threat_model)}')
    eps = _USUAL[kind] if eps is None else eps
    checked_number("eps", eps, "[0, inf)")
    if bounds is None:
        bounds = getattr(data, "bounds", None)
    bounds = (0.0, 1.0) if bounds is None else bounds
    members = {member: partial(auto_attack, members=(member,)) for member in MEMBERS}
    with shown(progress) as steps:
        found = streamed(
            logits_fn,
            _batches(data),
            with_settings(members, bounds=bounds, norm=kind),
            eps=[eps],
            batch_size=batch_size,
            key=jax.random.key(0) if key is None else key,
            folder=folder,
            progress=steps,
            bounds=bounds,
            in_sequence=True,
        )
    issue(found.audit.warnings)
    correct = found.correct[MEMBERS[-1]]
    return {
        "name": name,
        "threat_model": named,
        "eps": float(eps),
        "bounds": [np.asarray(bound, float).tolist() for bound in bounds],
        "n": correct.shape[1],
        "clean": float(found.clean.accuracy),
        "robust": float(found.worst_case[0]),
        "attacks": {member: float(found.attacks[member].accuracy[0]) for member in MEMBERS},
        "warnings": list(found.audit.warnings),
        "seconds": time.perf_counter() - started,
        "device": jax.devices()[0].device_kind,
        "versions": {"adv_jax": __version__, "jax": jax.__version__},
    }


def _batches(data: Any) -> Iterable[Any]:
    """Returns the batches of arrays, of a Dataset's test rows, or of an iterable of batches."""
    if hasattr(data, "test"):
        return [tuple(data.test)]
    if isinstance(data, tuple):
        return [data]
    if hasattr(data, "dtype") or not isinstance(data, Iterable):
        allowed = "arrays (x, y), a Dataset, or an iterable of batches (x, y)"
        raise UserError(f"data must be {allowed}, got {described(data)}")
    return data

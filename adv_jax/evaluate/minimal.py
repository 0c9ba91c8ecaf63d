"""The smallest size at which an attack succeeds, for each row."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax.annotations import function_name
from adv_jax.checks import checked_count, checked_number, finite_rows, own_keywords, with_aux
from adv_jax.evaluate.auditing import issue
from adv_jax.evaluate.batching import over_batches
from adv_jax.evaluate.checks import check_attacks, checked_data, checked_predictions
from adv_jax.evaluate.compiled import Batched
from adv_jax.evaluate.crafting import check_crafted, crafted
from adv_jax.evaluate.preparing import with_settings
from adv_jax.evaluate.progress import Progress, shown
from adv_jax.evaluate.traits import ball_of
from adv_jax.random import row_keys
from adv_jax.types import Array, Attack, Bounds, Key, LogitsFn, Norm, working_dtype


@own_keywords
def minimal_eps(
    logits_fn: LogitsFn,
    x: ArrayLike,
    y: ArrayLike,
    attack: Attack,
    *,
    high: float,
    num_steps: int = 12,
    batch_size: int = 500,
    key: Key | None = None,
    bounds: Bounds | None = None,
    norm: Norm | None = None,
    threat_model: Norm | None = None,
    aux: Any = None,
    progress: Progress | bool = True,
) -> np.ndarray:
    """Returns the smallest eps in (0, high] at which an attack fools each row, by bisection.

    The attack succeeds at the eps returned and fails at an eps at most high / 2^num_steps below;
    a smaller eps at which it also succeeds may be missed.

    Args:
      logits_fn, x, y, batch_size, key, bounds, norm, threat_model, aux: as in `evaluate`.
      attack: as in `evaluate`. It gets the sizes of a batch as f32[B, 1, ..., 1], which broadcast
        with x.
      high: > 0, the first eps.
      num_steps: bisection steps, >= 1; the attack runs num_steps + 1 times.
      progress: as in `evaluate`; it wraps the bisection steps.

    Returns:
      f32[N] (f64 for x f64): 0 for rows misclassified without an attack, inf for those not fooled
      at high. Whole numbers under l0.

    Raises:
      UserError: as `evaluate`.

    >>> from adv_jax import attacks
    >>> x, y = jnp.array([[.3, 0.], [-.1, 0.], [5., 0.]]), jnp.array([0, 0, 0])
    >>> w = jnp.array([[1., -1.], [0., 0.]])  # Class 0 where the first entry is positive.
    >>> minimal_eps(lambda x: x @ w, x, y, attacks.fgsm, high=1.).round(3)
    array([0.3, 0. , inf], dtype=float32)
    """
    num_steps = checked_count("num_steps", num_steps)
    batch_size = checked_count("batch_size", batch_size)
    high = checked_number("high", high, "(0, inf)")
    x, y, aux = checked_data(x, y, aux, bounds=bounds)
    chosen = with_settings({"attack": attack}, bounds=bounds, norm=norm, threat_model=threat_model)
    check_attacks(chosen, {"attack": [high]}, x, bounds=bounds, name="high")
    clean, warnings = checked_predictions(logits_fn, x, y, aux, batch_size=batch_size)
    issue(warnings)
    keys = None if key is None else row_keys(key, len(x))

    def fooled(logits_fn: LogitsFn, x: Array, y: Array, keys: Any, aux: Any, eps: Array) -> Any:
        x_adv, flags = crafted(chosen["attack"], logits_fn, x, y, eps, keys, aux)
        logits = with_aux(logits_fn, aux)(x_adv)
        flags["finite"] = finite_rows(logits)
        return jnp.argmax(logits, axis=1).astype(y.dtype) != y, flags

    program = Batched(fooled, logits_fn)

    def fooled_at(eps: np.ndarray) -> np.ndarray:
        hit, flags = over_batches(program, (x, y, keys, aux, eps), batch_size=batch_size)
        check_crafted(function_name(attack), flags)
        return hit

    upper = np.full(len(x), high, working_dtype(x.dtype))
    lower, withstand = np.zeros_like(upper), ~fooled_at(upper)
    with shown(progress) as steps:
        for _ in steps(range(num_steps), "bisection"):
            middle = (lower + upper) / 2
            hit = fooled_at(middle)
            lower, upper = np.where(hit, lower, middle), np.where(hit, middle, upper)
    if ball_of(chosen["attack"]) == "l0":  # The radius is a number of features.
        upper = np.floor(upper)
    upper[withstand] = np.inf
    upper[clean["label"] != y] = 0
    return upper

"""How a classifier does under attack: accuracy and confidence against the size of the attack."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.metrics import mean_over_rows
from adv_jax.types import Array, Attack, Key, LogitsFn, UserError

Curve = dict[str, Array]  # name -> f32[E], one entry for each eps


def evaluate(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    attacks: Mapping[str, Attack],
    *,
    eps: Sequence[float],
    batch_size: int = 500,
    key: Key | None = None,
) -> dict[str, Curve]:
    """Curves of a classifier under each attack, and under the worst of them.

    Args:
      logits_fn: f32[B, *D] -> logits f32[B, K]; rows must not interact.
      x, y: f32[N, *D] and i32[N].
      attacks: name -> attack with its keyword `eps` left free.
      eps: sizes of the attacks, in units of x; 0 gives the clean accuracy.
      batch_size: rows at a time; exactly N rows are counted whatever it is.
      key: for attacks that draw random numbers.

    Returns:
      name -> {"eps", "accuracy", "confidence", "success", "l2", "linf"}, f32[E] each:
      confidence is the mean of the largest probability, right or wrong; success the share of
      the correctly classified that the attack changes; l2 and linf the mean norms of the
      perturbation. "worst_case" -> {"eps", "accuracy"}: a row counts as correct only if no
      attack changes it. All rates are fractions in [0, 1].

    Raises:
      UserError: no attack or eps; a negative eps; x and y of different lengths; no batch.
    """
    if not attacks or not len(eps):
        raise UserError("evaluate needs at least one attack and one eps")
    for size in eps:
        if not size >= 0:
            raise UserError(f"eps has {size}; allowed are numbers of at least 0")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; allowed are whole numbers of at least 1")
    if len(x) != len(y):
        raise UserError(f"x has {len(x)} rows and y {len(y)}; allowed are equal numbers")
    measure = jax.jit(
        lambda x, y, key: curves(logits_fn, x, y, attacks, eps=eps, batch_size=batch_size, key=key)
    )
    measured = measure(jnp.asarray(x), jnp.asarray(y), key)
    return {name: {"eps": jnp.asarray(eps), **curve} for name, curve in measured.items()}


def curves(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    attacks: Mapping[str, Attack],
    *,
    eps: Sequence[float],
    batch_size: int,
    key: Key | None,
) -> dict[str, Curve]:
    """`evaluate` without its checks: traceable, for use inside a compiled program."""
    sizes = jnp.asarray(eps, jnp.float32)

    def rows(x, y, key):
        def under(attack: Attack, eps: Array) -> dict[str, Array]:
            x_adv = attack(logits_fn, x, y, eps=eps, key=key)
            return _row_measures(logits_fn(x_adv), y) | {
                name: norms.norm(x_adv - x, name) for name in ("l2", "linf")
            }

        clean = _row_measures(logits_fn(x), y)["accuracy"]
        per_attack = {
            name: jax.vmap(lambda eps, attack=attack: under(attack, eps))(sizes)
            for name, attack in attacks.items()
        }
        for measured in per_attack.values():
            measured["changed"] = clean * (1 - measured["accuracy"])
        all_correct = jnp.stack([m["accuracy"] for m in per_attack.values()]).min(0)
        return per_attack | {"worst_case": {"accuracy": all_correct}, "": {"clean": clean}}

    means = mean_over_rows(rows, x, y, batch_size=batch_size, key=key)
    clean = means.pop("")["clean"]
    for measured in means.values():
        if "changed" in measured:
            measured["success"] = measured.pop("changed") / jnp.maximum(clean, 1e-12)
    return means


def clean(logits_fn: LogitsFn, x: Array, y: Array, *, batch_size: int = 500) -> dict[str, Array]:
    """{"accuracy", "confidence": f32[]} on N unperturbed rows; traceable."""
    return mean_over_rows(
        lambda x, y, _: _row_measures(logits_fn(x), y), x, y, batch_size=batch_size
    )


def _row_measures(logits: Array, y: Array) -> dict[str, Array]:
    """Logits f32[B, K], labels i32[B] -> f32[B] each."""
    return {
        "accuracy": jnp.argmax(logits, axis=1) == y,
        "confidence": jax.nn.softmax(logits.astype(jnp.float32)).max(axis=1),
    }

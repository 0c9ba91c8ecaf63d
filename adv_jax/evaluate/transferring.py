"""Transfer of adversarial examples between models."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax.annotations import function_name
from adv_jax.checks import checked_count, checked_number, finite_rows, own_keywords, with_aux
from adv_jax.evaluate.auditing import issue
from adv_jax.evaluate.batching import over_batches
from adv_jax.evaluate.checks import (
    check_attacks,
    check_model,
    checked_data,
    checked_predictions,
    like_batch,
)
from adv_jax.evaluate.compiled import Batched
from adv_jax.evaluate.crafting import check_crafted, crafted
from adv_jax.evaluate.preparing import check_named, with_settings
from adv_jax.evaluate.progress import Progress, shown, silent
from adv_jax.random import row_keys
from adv_jax.types import Array, Attack, Bounds, Key, LogitsFn, Norm, UserError, working_dtype


@own_keywords
def transfer(
    models: Mapping[str, LogitsFn],
    x: ArrayLike,
    y: ArrayLike,
    attack: Attack,
    *,
    eps: float,
    batch_size: int = 500,
    key: Key | None = None,
    bounds: Bounds | None = None,
    norm: Norm | None = None,
    threat_model: Norm | None = None,
    aux: Any = None,
    progress: Progress | bool = True,
) -> np.ndarray:
    """Returns the accuracy of each model on the adversarial examples crafted on each.

    Args:
      models: name -> logits_fn, M of them with the same classes, as in `evaluate`.
      x, y, attack, batch_size, key, bounds, norm, threat_model, aux, progress: as in `evaluate`.
      eps: >= 0, the size of the attack.

    Returns:
      f[M, M]: row i, column j is the accuracy of model j on examples crafted on model i; the
      diagonal is the white-box accuracy.

    Raises:
      UserError: as `evaluate`.

    >>> from adv_jax import attacks
    >>> x, y = jnp.array([[1., 1.]]), jnp.array([0])
    >>> first, second = jnp.array([[1., -1.], [0., 0.]]), jnp.array([[0., 0.], [1., -1.]])
    >>> models = {"first": lambda x: x @ first, "second": lambda x: x @ second}
    >>> transfer(models, x, y, attacks.fgsm, eps=2.)
    array([[0., 1.],
           [1., 0.]])
    """
    chosen = with_settings({"attack": attack}, bounds=bounds, norm=norm, threat_model=threat_model)
    with shown(progress) as steps:
        rows = transferred_rows(
            models,
            x,
            y,
            chosen["attack"],
            eps=eps,
            batch_size=batch_size,
            key=key,
            bounds=bounds,
            aux=aux,
            progress=steps,
        )
    return rows.mean(-1)


def transferred_rows(
    models: Mapping[str, LogitsFn],
    x: ArrayLike,
    y: ArrayLike,
    attack: Attack,
    *,
    eps: float,
    batch_size: int,
    key: Key | None,
    bounds: Bounds | None = None,
    aux: Any = None,
    progress: Progress = silent,
) -> np.ndarray:
    """Returns which rows `transfer` finds correct, bool[M, M, N].

    key: one key, or one for each row (`random.row_keys`).

    Raises:
      UserError: as `evaluate`.
    """
    check_named("models", models)
    if not models:
        raise UserError("models must have one or more entries, got none")
    batch_size = checked_count("batch_size", batch_size)
    x, y, aux = checked_data(x, y, aux, bounds=bounds)
    eps = checked_number("eps", eps, "[0, inf)")
    check_attacks({"attack": attack}, {"attack": [eps]}, x, bounds=bounds)
    _check_same_classes(models, *like_batch(x, aux, batch_size), y=y)
    for name, logits_fn in models.items():
        with _naming(name):
            _, warnings = checked_predictions(logits_fn, x, y, aux, batch_size=batch_size)
        issue((f"{name}: {warning}" for warning in warnings), stacklevel=5)
    keys = None if key is None else row_keys(key, len(x))

    size = np.asarray(eps, working_dtype(x.dtype))

    def correct_rows(name: str) -> np.ndarray:
        """Returns the rows bool[M, N] that each model gets right if crafted on the named one."""

        def correct(
            models: Any, x: Array, y: Array, keys: Key | None, aux: Any, eps: Array
        ) -> tuple[Array, dict[str, Array]]:
            x_adv, flags = crafted(attack, models[name], x, y, eps, keys, aux)
            logits = [with_aux(logits_fn, aux)(x_adv) for logits_fn in models.values()]
            labels = [jnp.argmax(of_model, axis=1) for of_model in logits]
            finite = [finite_rows(of_model) for of_model in logits]
            flags["finite"] = jnp.stack(finite).all(axis=0)
            return jnp.stack(labels).astype(y.dtype) == y[None], flags

        program = Batched(correct, dict(models), in_axes=(0, 0, 0, 0, None))
        found, flags = over_batches(
            lambda *rows: program(*rows, size),
            (x, y, keys, aux),
            batch_size=batch_size,
            progress=progress,
            description=name,
        )
        check_crafted(function_name(attack), flags)
        return found

    return np.stack([correct_rows(name) for name in models])


def _check_same_classes(models: Mapping[str, LogitsFn], x: Any, aux: Any, *, y: Array) -> None:
    """Raises UserError as `check_model`, or if models differ in their numbers of classes."""
    counts = {}
    for name, logits_fn in models.items():
        with _naming(name):
            counts[name] = check_model(logits_fn, x, aux, y=y).shape[1]
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise UserError(f"models must have the same number of classes, got {found}")


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Puts the name of a model before an error about it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {error}") from error

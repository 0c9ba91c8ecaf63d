"""Splits, labeled subsets and epoch orders, as pure functions of labels and a seed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.data.arguments import as_array, number
from adv_jax.data.dataset import DataError
from adv_jax.types import described, is_known

# Separate random streams, so that `split` and `labeled_subset` with the same seed differ.
_SPLIT, _LABELED = 0, 1


def split(
    labels: np.ndarray, *, num_valid: int, seed: int, stratified: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Splits off `num_valid` examples for validation, as evenly over the classes as possible.

    Args:
      labels: integers [N].
      num_valid: 0 to N - 1.
      seed: an integer >= 0; the split is the same on any machine and version.
      stratified: split in the proportions of the classes instead.

    Returns:
      (train, valid): i32[N - num_valid] and i32[num_valid], ascending indices; together 0..N-1.

    Raises:
      DataError: an invalid argument.
    """
    labels = _check_labels(labels)
    if not isinstance(stratified, bool | np.bool_):
        raise DataError(f"stratified must be True or False, got {described(stratified)}")
    num_valid = _whole("num_valid", num_valid, 0, len(labels) - 1)
    order = _rounds(labels, seed, _SPLIT, stratified=stratified)
    return np.sort(order[num_valid:]), np.sort(order[:num_valid])


def labeled_subset(
    labels: np.ndarray, *, num_labels: int, num_classes: int, seed: int
) -> np.ndarray:
    """Chooses the examples that keep their label, equally many of each class.

    For one seed, smaller subsets are part of larger ones.

    Args:
      labels: integers [N] in [0, num_classes).
      num_labels: N for all, or a positive multiple of `num_classes` for which every class has
        enough examples.
      num_classes: K >= 1.
      seed: an integer >= 0; the subset is the same on any machine and version.

    Returns:
      i32[num_labels], ascending indices into `labels`.

    Raises:
      DataError: an invalid argument.
    """
    labels = _check_labels(labels)
    seed = _whole("seed", seed, 0)
    num_classes = _whole("num_classes", num_classes, int(labels.max(initial=0)) + 1)
    classes, counts = np.unique(labels, return_counts=True)
    per_class = int(counts.min()) if len(classes) == num_classes else 0
    if per_class:
        multiples = f"a multiple of num_classes={num_classes} from {num_classes} to "
        allowed = f"{multiples}{num_classes * per_class}, or all {len(labels)}"
    else:
        empty = min({*range(len(classes) + 1)} - {*classes.tolist()})
        allowed = f"all {len(labels)}, as class {empty} has no examples"
    num_labels = _whole("num_labels", num_labels, 1, len(labels), allowed=allowed)
    if num_labels == len(labels):
        return np.arange(len(labels), dtype=np.int32)
    if num_labels % num_classes or num_labels > num_classes * per_class:
        raise DataError(f"num_labels must be {allowed}, got {num_labels}")
    return np.sort(_rounds(labels, seed, _LABELED)[:num_labels])


def epoch_order(key_or_seed: jax.Array | int, epoch: jax.Array | int, n: int) -> jax.Array:
    """Returns the order of `n` examples in epoch `epoch`, i32[n], a permutation of 0..n-1.

    No state is carried between epochs: a resumed run repeats the order.

    Args:
      key_or_seed: a typed key, or a seed for `jax.random.key`, 0 to 2^32 - 1; may be traced.
      epoch: an integer from 0 to 2^32 - 1; may be traced.
      n: the number of examples, >= 0.

    Raises:
      DataError: invalid `n`, or `key_or_seed` or `epoch` unless traced.
    """
    n = _whole("n", n, 0)
    if is_known(epoch):
        epoch = _whole("epoch", epoch, 0, 2**32 - 1)
    is_key = isinstance(key_or_seed, jax.Array) and jnp.issubdtype(
        key_or_seed.dtype, jax.dtypes.prng_key
    )
    if np.ndim(key_or_seed) if is_key else is_known(key_or_seed):
        # JAX keeps 32 bits of a seed.
        allowed = "one typed key or a whole number from 0 to 2^32 - 1"
        _whole("key_or_seed", key_or_seed, 0, 2**32 - 1, allowed=allowed)
    key = key_or_seed if is_key else jax.random.key(key_or_seed)
    return jax.random.permutation(jax.random.fold_in(key, epoch), jnp.arange(n, dtype=jnp.int32))


def _rounds(labels: np.ndarray, seed: int, stream: int, *, stratified: bool = False) -> np.ndarray:
    """Returns a random order i32[N] in rounds of one remaining example per class.

    stratified: a round takes the same share of every class.
    """
    seed = _whole("seed", seed, 0)
    # NumPy guarantees the raw bits; `Generator.permutation` may change between versions.
    bits = np.random.PCG64((seed, stream)).random_raw(len(labels))
    order = np.argsort(bits, kind="stable")
    shuffled = labels[order]
    round_of = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(shuffled == label)
        turns = np.arange(len(members))
        round_of[members] = (turns + 0.5) / len(members) if stratified else turns
    return order[np.argsort(round_of, kind="stable")].astype(np.int32)


def _check_labels(labels: np.ndarray) -> np.ndarray:
    labels = as_array("labels", labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not labels.size:
        raise DataError(f"labels must be integers [N], N >= 1, got {described(labels)}")
    if labels.min() < 0:
        raise DataError(f"labels must be integers >= 0, got {labels.min()}")
    return labels


def _whole(field: str, value: Any, low: int, high: int | None = None, *, allowed: str = "") -> int:
    span = f"{low}, {low + 1}, ..." if high is None else f"{low}, ..., {high}"
    return number(field, value, f"{{{span}}}", allowed=allowed)

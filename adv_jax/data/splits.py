"""Which examples are used for what: pure functions of labels and a seed."""

import operator

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.data.dataset import DataError

# Each use draws from a stream of its own: with one stream, `split` and `labelled_subset` of the
# same labels and seed would choose the same examples.
_SPLIT, _LABELLED = 0, 1


def split(
    labels: np.ndarray, *, num_valid: int, seed: int, stratified: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Sets `num_valid` examples aside for validation, as evenly over the classes as possible.

    Args:
      labels: integers [N].
      num_valid: 0 to N - 1.
      seed: an integer >= 0; the same seed gives the same split on any machine and version.
      stratified: in the proportions of the classes instead.

    Returns:
      (train, valid): i32[N - num_valid] and i32[num_valid], ascending indices; together 0..N-1.

    Raises:
      DataError: `labels`, `num_valid` or `seed` is not as above.
    """
    labels = _check_labels(labels)
    num_valid = _whole("num_valid", num_valid, 0, len(labels) - 1)
    order = _rounds(labels, seed, _SPLIT, stratified=stratified)
    return np.sort(order[num_valid:]), np.sort(order[:num_valid])


def labelled_subset(
    labels: np.ndarray, *, num_labels: int, num_classes: int, seed: int
) -> np.ndarray:
    """Chooses the examples that keep their label: equally many of each class.

    For one seed a smaller subset is part of a larger one.

    Args:
      labels: integers [N] in [0, num_classes).
      num_labels: N, which means all of them, or a positive multiple of `num_classes` for which
        every class has enough examples.
      num_classes: K >= 1.
      seed: an integer >= 0; the same seed gives the same subset on any machine and version.

    Returns:
      i32[num_labels], ascending indices into `labels`.

    Raises:
      DataError: an argument is not as above.
    """
    labels = _check_labels(labels)
    num_classes = _whole("num_classes", num_classes, int(labels.max(initial=0)) + 1)
    per_class = int(np.bincount(labels, minlength=num_classes).min())
    allowed = (
        f"multiples of num_classes={num_classes} from {num_classes} to {num_classes * per_class}, "
        f"or all {len(labels)}"
    )
    num_labels = _whole("num_labels", num_labels, 1, len(labels), allowed=allowed)
    if num_labels == len(labels):
        return np.arange(len(labels), dtype=np.int32)
    if num_labels % num_classes or num_labels > num_classes * per_class:
        raise DataError(f"num_labels: {num_labels} found, allowed are {allowed}")
    return np.sort(_rounds(labels, seed, _LABELLED)[:num_labels])


def epoch_order(key_or_seed: jax.Array | int, epoch: jax.Array | int, n: int) -> jax.Array:
    """The order in which epoch `epoch` visits `n` examples.

    No state is carried from epoch to epoch, so a resumed run repeats the order of a whole one.

    Args:
      key_or_seed: a typed key, or the integer of `jax.random.key`; may be traced.
      epoch: an integer from 0 to 2^32 - 1; may be traced.
      n: the number of examples, >= 0.

    Returns:
      i32[n], a permutation of 0..n-1.

    Raises:
      DataError: `n` is not as above, or `epoch`, where it is not traced.
    """
    n = _whole("n", n, 0)
    if not isinstance(epoch, jax.core.Tracer):
        epoch = _whole("epoch", epoch, 0, 2**32 - 1)
    is_key = isinstance(key_or_seed, jax.Array) and jnp.issubdtype(
        key_or_seed.dtype, jax.dtypes.prng_key
    )
    key = key_or_seed if is_key else jax.random.key(key_or_seed)
    return jax.random.permutation(jax.random.fold_in(key, epoch), jnp.arange(n, dtype=jnp.int32))


def _rounds(labels: np.ndarray, seed: int, stream: int, *, stratified: bool = False) -> np.ndarray:
    """i32[N], a random order in rounds: each takes one example of every class that has one left.

    stratified: a round takes the same share of every class.
    """
    seed = _whole("seed", seed, 0)
    # Raw bits, as NumPy fixes them for ever; `Generator.permutation` may change between versions.
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
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not labels.size:
        raise DataError(
            f"labels: {labels.dtype} of shape {labels.shape} found, allowed are integers [N >= 1]"
        )
    if labels.min() < 0:
        raise DataError(f"labels: {labels.min()} found, allowed are integers >= 0")
    return labels


def _whole(
    field: str, value: jax.Array | int, low: int, high: int | None = None, *, allowed: str = ""
) -> int:
    allowed = allowed or (f"integers >= {low}" if high is None else f"integers {low} to {high}")
    try:
        whole = operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < low or (high is not None and whole > high):
        raise DataError(f"{field}: {value!r} found, allowed are {allowed}")
    return whole

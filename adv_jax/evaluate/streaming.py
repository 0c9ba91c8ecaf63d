"""Evaluation of data that arrive in batches and need not fit into memory."""

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import __version__
from adv_jax.checks import checked_count, checked_labels, checked_number, own_keywords
from adv_jax.evaluate.auditing import issue
from adv_jax.evaluate.checks import checked_data
from adv_jax.evaluate.evaluation import Evaluation, Sizes, checked_suite, concluded
from adv_jax.evaluate.finished import ROWS, Folder
from adv_jax.evaluate.preparing import with_settings
from adv_jax.evaluate.progress import Progress, shown
from adv_jax.evaluate.rounding import check_bits
from adv_jax.evaluate.setup import RowDigest
from adv_jax.evaluate.suite import Rows, Suite, joined
from adv_jax.random import one_key, row_keys
from adv_jax.ranges import COUNT
from adv_jax.types import (
    Attack,
    Bounds,
    Key,
    LogitsFn,
    Norm,
    UserError,
    described,
    described_array,
    host_array,
)


@own_keywords
def evaluate_batches(
    logits_fn: LogitsFn,
    batches: Iterable[Any],
    attacks: Mapping[str, Attack],
    *,
    eps: Sizes,
    batch_size: int = 500,
    key: Key | None = None,
    bounds: Bounds | None = None,
    norm: Norm | None = None,
    threat_model: Norm | None = None,
    bits: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    examples: bool = False,
    progress: Progress | bool = True,
) -> Evaluation:
    """Evaluates a classifier as `evaluate` does, on rows that arrive in batches.

    The result equals that of `evaluate` on all rows. Memory holds one block of rows, and a few
    numbers of each row.

    Args:
      batches: yields (x, y) or (x, y, aux), arrays or tensors of any number of rows on the CPU: a
        torch DataLoader, a Grain loader, a TFDS iterator.
      logits_fn, attacks, eps, bounds, norm, threat_model, bits: as in `evaluate`.
      batch_size: rows at a time on each device. The rows of the batches are arranged in blocks of
        batch_size rows for each device; the last block is padded.
      key: one key; a row's key is derived from its index in the stream.
      folder: where each finished block is written, in a file 00000.npz, 00001.npz, ... The same
        call with the same folder skips these blocks; `batches` must yield the same rows. A model
        that calls Python, such as `bridges.black_box`, is known by its predictions of the first
        block and the logits of its first rows.
      examples: also writes the adversarial examples, `examples/ATTACK` f[E, B, *D], to the files.
      progress: as in `evaluate`; it wraps the iterable of blocks.

    Raises:
      UserError: as `evaluate`; no batch; a batch of another form or other shapes; the folder is of
        an evaluation with another model, attack, setting or other rows.

    >>> from adv_jax import attacks
    >>> batches = [(np.array([[1., 0.]]), [0]), (np.array([[.2, 0.]]), [0])]
    >>> w = np.array([[1., -1.], [0., 0.]])
    >>> found = evaluate_batches(lambda x: x @ w, batches, {"fgsm": attacks.fgsm}, eps=[0, .5, 1.5])
    >>> found.attacks["fgsm"].accuracy
    array([1. , 0.5, 0. ])
    """
    bits = checked_number("bits", bits, COUNT, optional=True)
    with shown(progress) as steps:
        found = streamed(
            logits_fn,
            batches,
            with_settings(attacks, bounds=bounds, norm=norm, threat_model=threat_model),
            eps=eps,
            batch_size=batch_size,
            key=key,
            folder=folder,
            progress=steps,
            bounds=bounds,
            bits=bits,
            examples=examples,
        )
    issue(found.audit.warnings)
    return found


def streamed(
    logits_fn: LogitsFn,
    batches: Iterable[Any],
    attacks: Mapping[str, Attack],
    *,
    eps: Sizes,
    batch_size: int,
    key: Key | None,
    folder: str | os.PathLike[str] | None,
    progress: Progress,
    bounds: Bounds | None,
    bits: int | None = None,
    examples: bool = False,
    in_sequence: bool = False,
) -> Evaluation:
    """`evaluate_batches` without its warnings; in_sequence: as in `Suite`."""
    batch_size = checked_count("batch_size", batch_size)
    key = None if key is None else one_key(key)
    if not isinstance(batches, Iterable):
        raise UserError(f"batches must be an iterable of (x, y), got {described(batches)}")
    if examples and folder is None:
        raise UserError("folder must be a path with examples=True, got None")
    suite, kept, parts, count, shape = None, None, [], 0, ()
    inputs = RowDigest()
    size = batch_size * jax.local_device_count()
    for index, block in enumerate(progress(blocks(batches, size), "blocks")):
        x, y, aux = checked_data(*block, bounds=bounds)
        check_bits(bits, x, bounds)
        keys = None if key is None else row_keys(key, len(x), first=count)
        rows = Rows(x, y, keys, aux)
        if suite is None:
            suite = checked_suite(
                logits_fn,
                rows,
                attacks,
                eps,
                batch_size=batch_size,
                bounds=bounds,
                bits=bits,
                examples=examples,
                in_sequence=in_sequence,
            )
            shape = x.shape[1:]
            if folder is not None:
                kept = Folder(folder, _settings(suite, rows, key, size))
        checked_labels(y, jax.ShapeDtypeStruct((len(y), suite.num_classes), x.dtype))
        measured = kept.load(index, block) if kept else None
        if measured is None:
            measured = suite.measure(rows, batch_size=batch_size, full=index > 0)
            if kept:
                kept.save(index, block, measured)
        parts.append(measured._replace(examples={}))
        count += len(x)
        inputs.add(block[0])
    if suite is None:
        raise UserError("batches must yield one or more rows, got none")
    setup = inputs.setup(bounds=bounds, bits=bits, key=key)
    return concluded(suite, joined(parts), eps, shape=shape, setup=setup)


def blocks(batches: Iterable[Any], size: int) -> Iterator[tuple[Any, Any, Any]]:
    """Yields the rows of (x, y) or (x, y, aux) as NumPy arrays, in blocks of `size` rows.

    A block inside one batch is a view of it.

    Raises:
      UserError: as `_rows`; x, y or aux of a batch have another form than those of the first one.

    >>> [x.tolist() for x, y, aux in blocks([([1, 2, 3], [0, 0, 0]), ([4, 5], [0, 0])], 2)]
    [[1, 2], [3, 4], [5]]
    """
    first, parts, count = None, [], 0
    for batch in batches:
        rows = _rows(batch)
        fields = zip(("x", "y", "aux"), rows, strict=True)
        forms = {name: (_form(field), described(field)) for name, field in fields}
        first = first or forms
        for name, (form, found) in forms.items():
            wanted, before = first[name]
            if form != wanted:
                raise UserError(f"{name} must be as in the first batch, {before}, got {found}")
        start, stop = 0, len(rows[0])
        while start < stop:
            end = min(stop, start + size - count)
            parts.append(jax.tree.map(itemgetter(slice(start, end)), rows))
            start, count = end, count + end - start
            if count == size:
                yield _joined(parts)
                parts, count = [], 0
    if parts:
        yield _joined(parts)


def _rows(batch: Any) -> tuple[Any, Any, Any]:
    """Returns (x, y, aux) of a batch as NumPy arrays.

    Raises:
      UserError: it is no such tuple, or not of arrays that JAX takes, with as many rows each.
    """
    sequence = isinstance(batch, tuple | list)
    if not sequence or len(batch) not in (2, 3):
        found = f"a {type(batch).__name__} of {len(batch)}" if sequence else described_array(batch)
        raise UserError(f"batches must yield (x, y) or (x, y, aux), got {found}")
    x, y = _array("x", batch[0]), _array("y", batch[1])
    aux = jax.tree.map(partial(_array, "aux"), batch[2]) if len(batch) == 3 else None
    lengths = {array.shape[:1] for array in (x, y, *jax.tree.leaves(aux))}
    if len(lengths) > 1 or () in lengths:
        found = ", ".join(described(array) for array in (x, y, *jax.tree.leaves(aux)))
        raise UserError(f"batches must yield arrays of the same number of rows, got {found}")
    return x, y, aux


def _array(name: str, value: Any) -> np.ndarray:
    """Returns an array, tensor or list as a NumPy array; raises UserError if JAX takes none."""
    array = host_array(value)
    if array is None:
        raise UserError(f"{name} must be an array of numbers in each batch, got {described(value)}")
    return array


def _form(tree: Any) -> tuple[Any, ...]:
    """Returns the structure of a tree of rows, the shape of a row, and whether it has floats."""
    leaves, structure = jax.tree.flatten(tree)
    floats = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)  # Also bfloat16.
    return structure, [(leaf.shape[1:], floats(leaf)) for leaf in leaves]


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *a: np.concatenate(a), *parts)


def _settings(suite: Suite, rows: Rows, key: Key | None, size: int) -> dict[str, Any]:
    """Returns what determines the result of a block beside its rows, as JSON values."""
    prints = suite.fingerprints(rows, batch_size=size // jax.local_device_count())
    bounds = suite.bounds
    return {
        **prints,
        **{f"eps of {name}": [float(value) for value in own] for name, own in suite.eps.items()},
        "key": None if key is None else np.asarray(jax.random.key_data(key)).tolist(),
        ROWS: size,
        "bits": suite.bits,
        "examples": suite.examples,
        **({"in_sequence": True} if suite.in_sequence else {}),
        "bounds": None if bounds is None else [np.asarray(bound).tolist() for bound in bounds],
        "versions": {"adv_jax": __version__, "jax": jax.__version__},
    }

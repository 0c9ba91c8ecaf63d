"""The programs of an evaluation, and what they measure of a block of rows."""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.checks import check_flags, finite_rows, with_aux
from adv_jax.evaluate.balls import lengths, steps_of, violations
from adv_jax.evaluate.batching import first_batch, over_batches
from adv_jax.evaluate.compiled import Batched
from adv_jax.evaluate.crafting import check_crafted, crafted, naming
from adv_jax.evaluate.measures import measures
from adv_jax.evaluate.predicting import predicted
from adv_jax.evaluate.probing import Step, probe, probe_values
from adv_jax.evaluate.progress import Progress, silent
from adv_jax.evaluate.rounding import rounded
from adv_jax.types import Array, Attack, Bounds, Key, LogitsFn, UserError, working_dtype

# The name of what a model that calls Python is known by, and the number of rows.
LOGITS, _KNOWN_ROWS = "logits", 16


class Rows(NamedTuple):
    """N rows: x f[N, *D], y i32[N], keys key[N] or None, aux a tree of f[N, ...] or None."""

    x: Array
    y: Array
    keys: Key | None
    aux: Any


class Measured(NamedTuple):
    """The results of an evaluation for N rows, as NumPy arrays f[..., N].

    y: i32[N]. clean: of `predictions`. probed: of `probe` or `probe_values`.
    attacked: attack -> `measures` and `violations`, f[E, N] each.
    examples: attack -> x_adv f[E, *D, N], if they are wanted.
    """

    y: np.ndarray
    clean: dict[str, np.ndarray]
    probed: dict[str, np.ndarray]
    attacked: dict[str, dict[str, np.ndarray]]
    examples: dict[str, np.ndarray]


class Suite:
    """A model, attacks and their sizes, with a program for each pass over the data.

    eps: attack -> its E sizes. bounds, bits: as in `evaluate`.
    differentiable: whether logits_fn has a derivative; else gradients are not probed.
    examples: whether `measure` returns them.
    in_sequence: each attack starts from the results of the one before. For attacks that return
      misclassified rows unchanged, at one size.
    """

    def __init__(
        self,
        logits_fn: LogitsFn,
        attacks: Mapping[str, Attack],
        eps: Mapping[str, Sequence[float]],
        *,
        bounds: Bounds | None,
        bits: int | None,
        num_classes: int,
        differentiable: bool,
        examples: bool = False,
        in_sequence: bool = False,
    ):
        self.attacks, self.eps, self.bounds, self.bits = attacks, eps, bounds, bits
        self.examples, self.in_sequence = examples, in_sequence
        self.num_classes = num_classes
        wanted = [steps_of(attack, eps[name], bounds) for name, attack in attacks.items()]
        steps = list(dict.fromkeys(itertools.chain.from_iterable(wanted)))
        self.steps: list[Step] = steps if differentiable else []

        self._clean = Batched(predicted, logits_fn)
        self._logits = Batched(_logits, logits_fn)
        look = partial(probe, steps=self.steps) if differentiable else _values
        self._look = Batched(partial(_probed, look), logits_fn)
        keep = examples or in_sequence
        self._attacked = {
            name: Batched(
                partial(_attacked, attack=attack, bounds=bounds, bits=bits, keep=keep),
                logits_fn,
                in_axes=(0, 0, 0, 0, None),
            )
            for name, attack in attacks.items()
        }

    def measure(
        self,
        rows: Rows,
        *,
        batch_size: int,
        full: bool = False,
        progress: Progress = silent,
    ) -> Measured:
        """Runs each pass over the rows.

        Args:
          batch_size, full, progress: as in `over_batches`.

        Raises:
          UserError: a logit is NaN or infinite, all are probabilities, or an attack refuses a
            setting, or needs a derivative that logits_fn lacks.
        """
        self._check_attacks(first_batch(rows, batch_size=batch_size, full=full))
        over = partial(over_batches, batch_size=batch_size, full=full, progress=progress)
        clean = over(self._clean, (rows.x, rows.aux), description="clean")
        check_flags(clean)
        probed = over(self._look, (rows.x, rows.y, rows.aux), description="gradients")
        attacked, examples = {}, {}
        for name, program in self._attacked.items():
            sizes = np.asarray(self.eps[name], working_dtype(rows.x.dtype))
            attacked[name] = over(partial(_at_all_sizes, program, sizes), rows, description=name)
            check_crafted(name, attacked[name].pop("flags"))
            if (x_adv := attacked[name].pop("x_adv", None)) is not None and self.examples:
                examples[name] = x_adv
            if x_adv is not None and self.in_sequence:
                rows = rows._replace(x=np.moveaxis(x_adv[0], -1, 0))
        return Measured(np.asarray(rows.y), clean, probed, attacked, examples)

    def _check_attacks(self, batch: tuple[Any, ...]) -> None:
        """Traces all attacks before any runs, as a wrong setting would lose the work of others."""
        for name, program in self._attacked.items():
            with naming(name, self.attacks[name]):
                program.trace(*batch, working_dtype(batch[0].dtype).type(0))

    def fingerprints(self, rows: Rows, *, batch_size: int) -> dict[str, Any]:
        """Returns pass -> SHA-256 of its operations and arrays, for batches of batch_size rows.

        Python has no such digest: a model that calls it is known by its predictions of the rows,
        and by the logits of some of them, which tell a change of weights that moves no prediction.

        Raises:
          UserError: an attack calls Python, and the model does not.
        """
        devices = jax.local_device_count()

        def batched(leaf: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((devices, batch_size, *leaf.shape[1:]), leaf.dtype)

        like, size = jax.tree.map(batched, rows), working_dtype(rows.x.dtype).type(0)
        found = {"logits_fn": self._clean.fingerprint(like.x, like.aux)}
        is_black_box = self._clean.calls_back(like.x, like.aux)
        if is_black_box:
            logits = over_batches(
                self._logits, (rows.x, rows.aux), batch_size=batch_size, description="clean"
            ).T
            found["predictions"] = hashlib.sha256(logits.argmax(axis=1).tobytes()).hexdigest()
            found[LOGITS] = logits[:_KNOWN_ROWS].astype(float).tolist()
        for name, program in self._attacked.items():
            if program.calls_back(*like, size) and not is_black_box:
                allowed = "None for an attack that calls Python, which has no digest"
                raise UserError(f"folder must be {allowed}, got one for {name}")
            found[f"attacks[{name!r}]"] = program.fingerprint(*like, size)
        return found


def joined(parts: Sequence[Measured]) -> Measured:
    """Returns the measurements of consecutive rows as those of all of them."""
    found = jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=-1), *parts)
    in_order = lambda of_attacks: {name: of_attacks[name] for name in parts[0].attacked}
    return found._replace(attacked=in_order(found.attacked))  # JAX sorts the keys of a dict.


def _logits(logits_fn: LogitsFn, x: Array, aux: Any) -> Array:
    return with_aux(logits_fn, aux)(x).T


def _probed(
    look: Callable[..., dict[str, Array]], logits_fn: LogitsFn, x: Array, y: Array, aux: Any
) -> dict[str, Array]:
    return look(with_aux(logits_fn, aux), x, y)


def _values(logits_fn: LogitsFn, x: Array, _: Array) -> dict[str, Array]:
    return probe_values(logits_fn, x)


def _attacked(
    logits_fn: LogitsFn,
    x: Array,
    y: Array,
    keys: Key | None,
    aux: Any,
    size: Array,
    *,
    attack: Attack,
    bounds: Bounds | None,
    bits: int | None,
    keep: bool,
) -> dict[str, Any]:
    """Returns measures, violations and "flags" of a batch at one size: f[..., B] each."""
    x_adv, flags = crafted(attack, logits_fn, x, y, size, keys, aux)
    fn = with_aux(logits_fn, aux)
    if bits is not None and bounds is not None:
        fools = lambda point: jnp.argmax(fn(point), axis=1).astype(y.dtype) != y
        x_adv = rounded(attack, x, x_adv, size, bits=bits, bounds=bounds, fools=fools)
    logits = fn(x_adv)
    return {
        "flags": {**flags, "finite": finite_rows(logits)},
        **measures(logits, x, x_adv),
        **violations(attack, x, x_adv, size, bounds=bounds),
        **lengths(attack, x, x_adv),
        **({"x_adv": jnp.moveaxis(x_adv, 0, -1)} if keep else {}),
    }


def _at_all_sizes(of_size: Callable[..., Any], eps: np.ndarray, *batch: Any) -> Any:
    """Calls of_size(*batch, size) -> f[parts, ..., B] for each size; f[parts, E, ..., B]."""
    found = jax.device_get([of_size(*batch, size) for size in eps])
    return jax.tree.map(lambda *parts: np.stack(parts, axis=1), *found)

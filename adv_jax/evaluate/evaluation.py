"""Evaluation of a classifier under attacks of several sizes, with an audit of the result."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from adv_jax.checks import checked_count, checked_number, has_derivative, own_keywords
from adv_jax.evaluate.auditing import audit, issue
from adv_jax.evaluate.checks import check_model, checked_data, checked_sizes, like_batch
from adv_jax.evaluate.measures import curves_of_rows
from adv_jax.evaluate.preparing import noticed, with_settings
from adv_jax.evaluate.progress import Progress, shown
from adv_jax.evaluate.result import Evaluation, Examples
from adv_jax.evaluate.rounding import check_bits
from adv_jax.evaluate.setup import RowDigest, Setup
from adv_jax.evaluate.suite import Measured, Rows, Suite
from adv_jax.evaluate.traits import ball_of, settings_of
from adv_jax.random import row_keys
from adv_jax.ranges import COUNT
from adv_jax.types import Array, Attack, Bounds, Key, LogitsFn, Norm

Sizes = Sequence[float] | Mapping[str, Sequence[float]]  # of all attacks, or of each


@own_keywords
def evaluate(
    logits_fn: LogitsFn,
    x: ArrayLike,
    y: ArrayLike,
    attacks: Mapping[str, Attack],
    *,
    eps: Sizes,
    batch_size: int = 500,
    key: Key | None = None,
    bounds: Bounds | None = None,
    norm: Norm | None = None,
    threat_model: Norm | None = None,
    aux: Any = None,
    bits: int | None = None,
    examples: bool = False,
    progress: Progress | bool = True,
) -> Evaluation:
    """Evaluates a classifier under each attack and the worst case over them, with an audit.

    Each attack is compiled once and runs on all local devices, or on the mesh on which x lies. A
    later call with an equal model and equal shapes compiles nothing. The sizes (perturbation
    budgets) run one after another, not vmapped, so early stopping saves time. Each problem that the
    audit finds is also issued as an `AuditWarning`.

    Args:
      logits_fn: f32[B, *D] -> logits f32[B, K], before any softmax; rows must not interact. With
        aux: (x, aux) -> logits.
      x, y: f[N, *D] and classes i32[N].
      attacks: name -> untargeted attack. Leave its size (eps, std, tau or gamma, see `scale_of`)
        unbound; bind other settings with functools.partial. A plain function of yours gets eps and,
        if it takes it, key; `adv_jax.attack` says what it is to the audit.
      eps: E sizes >= 0, in the attack's units; 0 gives the clean accuracy. Or a dict: the E sizes
        of each attack, as linf and l2 attacks need.
      batch_size: maximum number of rows per batch and device. About 50 is fast for a convolutional
        net on CPUs. The result does not depend on it.
      key: for random attacks; each row has its own key, derived from its index. None: attacks that
        can start at random start at x, and those that must draw numbers are refused.
      bounds: (lo, hi) of valid inputs, numbers or arrays f[*D], or None. x must be inside; the
        audit reports any x_adv outside. Attacks that take `bounds` and have none bound get them.
      norm: "linf", "l2", ...: of the attacks that take `norm` and have none bound; None: their own.
      threat_model: "Linf" or "L2", the same by the name of leaderboards.
      aux: tree of f[N, ...], which a model takes beside x, such as an attention mask. Each row
        keeps its own in every batch.
      bits: rounds x_adv to images of that many bits, lo + k (hi - lo) / (2^bits - 1), inside ball
        and bounds, before it is classified. x must be such images.
      examples: also returns the adversarial examples, for `Evaluation.report` and for yourself, of
        all rows, attacks and sizes.
      progress: True: a bar for each pass over the data, on a terminal and once the call lasts over
        two seconds; False: nothing; or a function that wraps the list of batches, as
        rich.progress.track or tqdm.tqdm.

    Raises:
      UserError: data, sizes, attacks, bounds or the model are invalid; an input is NaN, or a logit
        at x or at an example; a function for loss is not finite at x or has a gradient of NaN; an
        attack returns NaN; raised by an attack, such as for an unknown norm or a missing key.

    >>> import jax.numpy as jnp
    >>> from adv_jax import attacks
    >>> x, y = jnp.array([[1., 0.], [.2, 0.]]), jnp.array([0, 0])
    >>> w = jnp.array([[1., -1.], [0., 0.]])  # Class 0 where the first entry is positive.
    >>> found = evaluate(lambda x: x @ w, x, y, {"fgsm": attacks.fgsm}, eps=[0, .5, 1.5])
    >>> found.attacks["fgsm"].accuracy
    array([1. , 0.5, 0. ])
    """
    bits = checked_number("bits", bits, COUNT, optional=True)
    with shown(progress) as steps:
        suite, measured = measured_rows(
            logits_fn,
            x,
            y,
            with_settings(attacks, bounds=bounds, norm=norm, threat_model=threat_model),
            eps=eps,
            batch_size=batch_size,
            key=key,
            bounds=bounds,
            aux=aux,
            bits=bits,
            examples=examples,
            progress=steps,
        )
    setup = RowDigest().add(x).setup(bounds=bounds, bits=bits, key=key)
    found = concluded(suite, measured, eps, shape=np.shape(x)[1:], setup=setup)
    if examples:
        found = with_examples(found, np.asarray(x), measured)
    issue(found.audit.warnings)
    return found


def with_examples(found: Evaluation, x: np.ndarray, measured: Measured) -> Evaluation:
    """Returns the evaluation with the inputs f[N, *D] and the adversarial examples."""
    adversarial = {name: np.moveaxis(x_adv, -1, 1) for name, x_adv in measured.examples.items()}
    confidence = {name: rows["confidence"] for name, rows in measured.attacked.items()}
    examples = Examples(x, adversarial, confidence, measured.clean["confidence"])
    return found._replace(examples=examples)


def measured_rows(
    logits_fn: LogitsFn,
    x: ArrayLike,
    y: ArrayLike,
    attacks: Mapping[str, Attack],
    *,
    eps: Sizes,
    batch_size: int,
    key: Key | None,
    bounds: Bounds | None,
    aux: Any = None,
    bits: int | None = None,
    examples: bool,
    progress: Progress,
) -> tuple[Suite, Measured]:
    """Returns the programs of `evaluate` and what they measure of each row, for `concluded`.

    key: one key, or one for each row (`random.row_keys`).

    Raises:
      UserError: as `evaluate`.
    """
    batch_size = checked_count("batch_size", batch_size)
    x, y, aux = checked_data(x, y, aux, bounds=bounds)
    check_bits(bits, x, bounds)
    keys = None if key is None else row_keys(key, len(x))
    rows = Rows(x, y, keys, aux)
    suite = checked_suite(
        logits_fn,
        rows,
        attacks,
        eps,
        batch_size=batch_size,
        bounds=bounds,
        bits=bits,
        examples=examples,
    )
    return suite, suite.measure(rows, batch_size=batch_size, progress=progress)


def _like_one_row(rows: Array) -> jax.ShapeDtypeStruct:
    like = jax.typeof(rows)
    return jax.ShapeDtypeStruct((1, *like.shape[1:]), like.dtype)


def checked_suite(
    logits_fn: LogitsFn,
    rows: Rows,
    attacks: Mapping[str, Attack],
    eps: Sizes,
    *,
    batch_size: int,
    bounds: Bounds | None,
    bits: int | None,
    examples: bool = False,
    in_sequence: bool = False,
) -> Suite:
    """Returns the programs of `evaluate`, after checks of its arguments on these rows.

    Raises:
      UserError: as `evaluate`.
    """
    sizes = checked_sizes(attacks, eps, rows.x, bounds=bounds)
    batch = like_batch(rows.x, rows.aux, batch_size)
    logits = check_model(logits_fn, *batch, y=rows.y)
    some = jax.tree.map(_like_one_row, rows)
    return Suite(
        logits_fn,
        {n: noticed(attack, *some, num_classes=logits.shape[1]) for n, attack in attacks.items()},
        sizes,
        bounds=bounds,
        bits=bits,
        num_classes=logits.shape[1],
        differentiable=has_derivative(logits_fn, *(part for part in batch if part is not None)),
        examples=examples,
        in_sequence=in_sequence,
    )


def concluded(
    suite: Suite, measured: Measured, eps: Sizes, *, shape: tuple[int, ...], setup: Setup
) -> Evaluation:
    """Returns means and audit of what was measured; shape: *D, of a row."""
    labels, clean, probed, attacked, _ = measured
    num_sizes = len(next(iter(suite.eps.values())))
    found: Any = curves_of_rows(clean, attacked, labels, num_sizes=num_sizes)
    audited = audit(
        suite.attacks,
        attacked,
        clean["label"],
        labels,
        stepped=dict(zip(suite.steps, probed.get("one_step", ()), strict=True)),
        eps=eps,
        probed=probed,
        shape=shape,
        bounds=suite.bounds,
    )
    sizes = {name: np.asarray(values, float) for name, values in suite.eps.items()}
    return Evaluation(
        eps=sizes if isinstance(eps, Mapping) else np.asarray(eps, float),
        clean=found.clean,
        attacks=found.attacks,
        worst_case=found.worst_case,
        correct={name: rows["label"] == labels for name, rows in attacked.items()},
        audit=audited,
        labels=labels,
        predicted={name: rows["label"] for name, rows in attacked.items()},
        predicted_clean=clean["label"],
        norms={name: ball_of(attack) for name, attack in suite.attacks.items()},
        settings={name: settings_of(attack) for name, attack in suite.attacks.items()},
        setup=setup,
    )

"""Randomized smoothing: a certified radius under l2 for any classifier, by sampling."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy.special import betaincinv, ndtri

from adv_jax.checks import check_finite, checked_count, checked_number, own_keywords
from adv_jax.evaluate.auditing import issue
from adv_jax.evaluate.batching import over_batches
from adv_jax.evaluate.checks import check_model, known_batch, like_batch, warnings_of_rows
from adv_jax.evaluate.compiled import Batched
from adv_jax.evaluate.progress import Progress, shown
from adv_jax.perturbations import moved
from adv_jax.random import draw_rows, row_keys
from adv_jax.types import Array, Key, LogitsFn, check_known, working_dtype

ABSTAINED = -1
_PROBE = 2  # folded into a key, after the indices of the two samples


class Smoothed(NamedTuple):
    """The result of `certify_smoothed`: NumPy arrays over N rows.

    label: i32[N], the class of the smoothed classifier, or -1 if it abstains.
    radius: f64[N], the l2 radius within which this class does not change; 0 if it abstains.
    probability: f64[N], the lower confidence bound of the class's probability under noise.
    """

    label: np.ndarray
    radius: np.ndarray
    probability: np.ndarray


@own_keywords
def certify_smoothed(
    logits_fn: LogitsFn,
    x: ArrayLike,
    *,
    std: float,
    key: Key | None,
    num_selection: int = 100,
    num_estimation: int = 100_000,
    alpha: float = 0.001,
    batch_size: int = 1000,
    progress: Progress | bool = True,
) -> Smoothed:
    """Certifies the classifier that votes over Gaussian noise, within an l2 ball around each row.

        g(x) = argmax_c P(argmax_j logit_j(x + n) = c),  n ~ N(0, std^2)
        radius = std * Phi^-1(p),  p the lower bound of P(class), by Clopper and Pearson

    A first sample selects the class, a second one estimates its probability; g abstains
    if p <= 1/2.
    Each row's statement is wrong with a probability of at most alpha. `((found.label == y) &
    (found.radius > r)).mean()` is the certified accuracy at the radius r. Noise is not clipped to
    the bounds of valid inputs. The model must be trained under such noise to be accurate.

    Args:
      logits_fn: f32[B, *D] -> f32[B, K], of which only the largest entry counts.
      x: f[N, *D].
      std: > 0, in units of x.
      key: one key, or one for each row.
      num_selection, num_estimation: noisy copies of each row in the two samples.
      alpha: in (0, 1).
      batch_size: maximum number of noisy copies at a time on each device. Each copy has its own
        noise, whatever the batches.
      progress: as in `evaluate`; it wraps the rows, one for each device at a time.

    Raises:
      UserError: an argument is invalid; logits_fn is no traceable model of x, or a logit is NaN or
        infinite; key is None or no key.

    Source: [cohen2019], sec. 3.2 (CERTIFY) and Theorem 1.

    >>> sure = lambda x: jnp.stack([x[:, 0], -x[:, 0]], axis=1)  # Class 0 where x > 0.
    >>> x = jnp.array([[2.], [-9.], [0.]])
    >>> found = certify_smoothed(sure, x, std=1., key=jax.random.key(0), num_estimation=1000)
    >>> found.label.tolist(), bool((found.radius <= abs(x[:, 0])).all())  # The distances to 0.
    ([0, 1, -1], True)
    """
    given: Any = x
    x = known_batch(given)
    num_selection = checked_count("num_selection", num_selection)
    num_estimation = checked_count("num_estimation", num_estimation)
    batch_size = checked_count("batch_size", batch_size)
    std, dtype = checked_number("std", std, "(0, inf)"), working_dtype(x.dtype)
    span = jnp.finfo(dtype)
    allowed = f"from {span.tiny:.2g} to {span.max:.2g}"
    check_known("std", std, lambda s: (span.tiny <= s) & (s <= span.max), allowed)
    alpha = checked_number("alpha", alpha, "(0, 1)")
    keys = row_keys(key, len(x))
    check_model(logits_fn, *like_batch(x, None, batch_size), y=jnp.zeros(len(x), jnp.int32))
    size: Any = np.asarray(std, dtype)
    # Noisy copies are what the votes are taken of: the model may differ there from x.
    noise = jax.random.normal(jax.random.fold_in(keys[0], _PROBE), x.shape, dtype)
    issue(warnings_of_rows(logits_fn, moved(x, size * noise), None, batch_size=batch_size))

    sizes = {"selection": num_selection, "estimation": num_estimation}
    counts = partial(_counts, sizes=sizes, batch_size=batch_size)
    program = Batched(counts, logits_fn, in_axes=(0, 0, None))
    with shown(progress) as steps:
        found = over_batches(
            lambda x, keys: program(x, keys, size),
            (x, keys),
            batch_size=1,
            progress=steps,
            description="noise",
        )
    check_finite(found["finite"], "x under noise")
    label = found["selection"].argmax(axis=0)
    votes = np.take_along_axis(found["estimation"], label[None], axis=0)[0]
    probability = lower_confidence_bound(votes, num_estimation, alpha)
    sure = probability > 0.5
    radius = np.where(sure, std * ndtri(np.where(sure, probability, 0.5)), 0.0)
    return Smoothed(np.where(sure, label, ABSTAINED).astype(np.int32), radius, probability)


def lower_confidence_bound(successes: Any, trials: int, alpha: float) -> np.ndarray:
    """Returns the one-sided lower bound of Clopper and Pearson, of confidence 1 - alpha.

    >>> lower_confidence_bound([0, 100], 100, .001).round(4)  # 0 and alpha^(1 / trials)
    array([0.    , 0.9333])
    """
    successes = np.asarray(successes)
    bound = betaincinv(np.maximum(successes, 1), trials - successes + 1, alpha)
    return np.where(successes == 0, 0.0, bound)


def _counts(
    logits_fn: LogitsFn,
    x: Array,
    keys: Key,
    std: Array,
    *,
    sizes: dict[str, int],
    batch_size: int,
) -> dict[str, Array]:
    """Returns how many noisy copies of one row have each class: i32[K, 1] of each sample.

    x: f[1, *D]. Also returns {"finite": bool[1]}, whether all logits are.
    """

    def sampled(key: Key, total: int) -> tuple[Array, Array]:
        size = min(batch_size, total)

        def of_batch(finite: Array, i: Array) -> tuple[Array, Array]:
            copies = i * size + jnp.arange(size)
            of_copies = jax.vmap(jax.random.fold_in, (None, 0))(key, copies)
            noise = draw_rows(jax.random.normal, of_copies, x.shape[1:], std.dtype)
            logits = logits_fn(moved(x, std * noise))
            counted = copies < total  # The last batch may exceed the sample.
            votes = jax.nn.one_hot(logits.argmax(axis=1), logits.shape[1], dtype=jnp.int32)
            votes = jnp.where(counted[:, None], votes, 0).sum(axis=0)
            return finite & jnp.isfinite(logits).all(), votes

        finite, votes = jax.lax.scan(of_batch, jnp.array(True), jnp.arange(-(-total // size)))
        return votes.sum(axis=0), finite

    found, finite = {}, jnp.array(True)
    for i, (name, total) in enumerate(sizes.items()):
        counts, all_finite = sampled(jax.random.fold_in(keys[0], i), total)
        found[name], finite = counts[:, None], finite & all_finite
    return {**found, "finite": finite[None]}

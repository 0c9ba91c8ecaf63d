"""The density of a generator's samples at given inputs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax.checks import checked_count, checked_number
from adv_jax.generative.measures._rows import as_rows
from adv_jax.models.nearest_neighbor import squared_distances
from adv_jax.programs import run_compiled
from adv_jax.types import Array, UserError, described, is_real, widened


def parzen(
    samples: ArrayLike, x: ArrayLike, *, bandwidth: ArrayLike, batch_size: int = 100
) -> Array:
    """Returns the log-likelihood of inputs under a Gaussian Parzen window at the samples.

        log p(x) = log 1/n sum_i N(x; s_i, bandwidth^2 I)

    In high dimensions it says little about a generator: it depends on the bandwidth, and samples
    that repeat the training set score high ([theis2016]).

    Args:
      samples: f[n, *D].
      x: f[B, *D].
      bandwidth: standard deviation, above 0, in units of x; `parzen_bandwidth` chooses it. It must
        not round to 0 or infinity in the dtype of the result.
      batch_size: rows of x at a time; memory is batch_size * n.

    Returns:
      f32[B] in nats.

    Raises:
      UserError: samples and x of different inputs, without rows or not finite; a bandwidth or
        batch_size out of range.

    Source: [goodfellow2014], sec. 5.

    >>> x = jnp.zeros((1, 2))  # One sample at a distance of 1: -1/2 - log(2 pi).
    >>> parzen(jnp.array([[1., 0.]]), x, bandwidth=1.)
    Array([-2.337877], dtype=float32)
    """
    batch_size = checked_count("batch_size", batch_size)
    flat, rows = as_rows(samples, x)
    limits = jnp.finfo(flat.dtype)
    checked_number("bandwidth", bandwidth, f"[{float(limits.tiny)}, {float(limits.max)}]")
    width = jnp.asarray(bandwidth, flat.dtype)
    size, norm = flat.shape[1], jnp.log(2 * jnp.pi) + 2 * jnp.log(width)
    features = flat.T

    def of_row(row: Array) -> Array:
        (squares,) = squared_distances(row[:, None], features)
        # Divide before the square, as that of a small width is 0. The root of 0 has no derivative.
        apart = squares > 0
        scaled = jnp.square(jnp.sqrt(jnp.where(apart, squares, 1)) / width)
        logs = jnp.where(apart, -scaled / 2, 0)
        return jax.nn.logsumexp(logs) - jnp.log(len(flat)) - size * norm / 2

    return run_compiled(lambda rows: jax.lax.map(of_row, rows, batch_size=batch_size), rows)


def parzen_bandwidth(samples: ArrayLike, held_out: ArrayLike, bandwidths: ArrayLike) -> Array:
    """Returns the bandwidth with the largest mean log-likelihood of held-out inputs: f32[].

    Args:
      samples: f[n, *D].
      held_out: f[B, *D], neither the generator's training set nor the test set.
      bandwidths: f[m], the candidates, one or more.

    Raises:
      UserError: see `parzen`; bandwidths of another shape.
    """
    if not is_real(bandwidths) or np.ndim(bandwidths) != 1 or not np.size(bandwidths):
        raise UserError(
            f"bandwidths must be f[m] with one candidate or more, got {described(bandwidths)}"
        )
    widths = widened(jnp.asarray(bandwidths))
    means = [jnp.mean(parzen(samples, held_out, bandwidth=width)) for width in widths]
    return widths[jnp.argmax(jnp.stack(means))]

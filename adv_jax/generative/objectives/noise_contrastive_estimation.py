"""Noise-contrastive estimation of an RBM, with noise made of images and of its own samples."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from adv_jax.generative import boltzmann
from adv_jax.generative.boltzmann import ODD
from adv_jax.generative.objectives.contrastive_divergence import chains
from adv_jax.generative.objectives.noise_contrastive import noise_contrastive
from adv_jax.objectives.stating import objective
from adv_jax.ranges import COUNT
from adv_jax.types import Apply, Array, Aux, Batch, Key, UserError, Variables


@objective(
    predicts=("loss",),
    state=chains,
    ranges={"levels": "[0, 1]", "floor": "(0, 0.5]", "ratio": COUNT, "steps": COUNT},
)
def noise_contrastive_estimation(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    levels: Sequence[float] = (0.8, 1.0),
    floor: float = 0.01,
    ratio: int = 1,
    steps: int = 1,
) -> tuple[Array, Aux]:
    """Returns the loss of a density p that classifies data v against noise u of a density q.

        -E log h(v) - ratio E log(1 - h(u)),   h = p / (p + ratio q)
        q = mean over k and levels a of prod_i Bernoulli(m_kai),
        m_ka = floor + (1 - 2 floor) (a x_k + (1 - a) mean_k x_k)

    The x_k are other images, and E[v | h] of persistent Gibbs chains, detached. So there is noise
    near data, and where the machine itself has mass. q of each half of the batch has the images of
    the other half, as q must not depend on the data that it is compared with. log q is exact even
    if the chains do not mix.

    Args:
      apply: a `models.normalized_rbm`, or a model like it.
      variables: those of the model, and "chains", first those of this objective's `state`.
      batch: {"x": f32[B, *D], "y": i32[B]}, at least two rows; labels are not used. Values in
        [0, 1] are probabilities, from which v is drawn.
      key: for v, u and the chains.
      levels: a, in [0, 1], one or more, of equal shares; 0 is noise of independent pixels.
      floor: the least probability of each value of a pixel, in (0, .5].
      ratio: draws of noise for each of the data, >= 1.
      steps: Gibbs steps of the chains, >= 1.

    Returns:
      loss f32[] in nats, and (model_state, metrics): the state has the chains after these steps;
      "data" and "noise" are the means of log p - log q in nats, and "guessed" the mean of the
      shares of both that are classified rightly, .5 if p and q are equal.

    Raises:
      UserError: the batch has one row, or levels are empty.

    Sources: [gutmann2010], eq. 2 to 5; the noise is our choice.
    """
    x = batch["x"]
    if len(x) < 2:
        raise UserError(f"batch must have at least two rows, got {len(x)}")
    if not len(levels):
        raise UserError(f"levels must have one entry or more, got {levels}")
    key_data, key_chains, key_own, *keys = jax.random.split(key, 5)
    extras = apply(variables, x, key=key_data, method="machines").extras
    (machine,), ((data,),) = extras["machines"], extras["data"]
    fixed = jax.lax.stop_gradient(machine)
    (start,) = variables["chains"].values()
    end = boltzmann.gibbs(fixed, start, key_chains, steps)
    (own,) = boltzmann.means(fixed, boltzmann.sample(fixed, end, key_own), ODD)

    # Both as the machine's means, whose noise they join.
    rows, data = x.reshape(len(x), -1).astype(own.dtype), data.astype(own.dtype)
    half = len(x) // 2
    sides = (rows[half:], data[:half]), (rows[:half], data[half:])
    noise, log_q_data, log_q_noise = [], [], []
    for (images, part), key_noise in zip(sides, keys, strict=True):
        log_odds = _log_odds(jnp.concatenate([images, own]), levels, floor)
        drawn = _drawn(log_odds, ratio * len(part), key_noise)
        noise.append(drawn)
        log_q_data.append(_log_density(log_odds, part))
        log_q_noise.append(_log_density(log_odds, drawn))
    v = jnp.concatenate([data, *noise]).reshape(-1, *x.shape[1:])
    log_p = apply(variables, v, method="log_density").logits
    log_ratios = log_p - jnp.concatenate([*log_q_data, *log_q_noise])
    of_data, of_noise = log_ratios[: len(x)], log_ratios[len(x) :]
    threshold = jnp.log(float(ratio))
    right = jnp.mean(of_data > threshold) + jnp.mean(of_noise < threshold)
    metrics = {"data": of_data.mean(), "noise": of_noise.mean(), "guessed": right / 2}
    state = {"chains": dict.fromkeys(variables["chains"], end)}
    return noise_contrastive(of_data, of_noise, float(ratio)), (state, metrics)


def _log_odds(images: Array, levels: Sequence[float], floor: float | Array) -> Array:
    """f[K, D] in [0, 1] -> log-odds of the pixels of each part of the mixture, f[L K, D]."""
    mean = images.mean(axis=0, keepdims=True)
    means = jnp.concatenate([level * images + (1 - level) * mean for level in levels])
    means = floor + (1 - 2 * floor) * means
    return jnp.log(means) - jnp.log1p(-means)


def _drawn(log_odds: Array, count: int, key: Key) -> Array:
    """Draws from the mixture: f[count, D] of zeros and ones."""
    key_part, key_pixels = jax.random.split(key)
    part = jax.random.randint(key_part, (count,), 0, len(log_odds))
    return boltzmann.draw(jax.nn.sigmoid(log_odds[part]), key_pixels)


def _log_density(log_odds: Array, v: Array) -> Array:
    """Returns log q(v) of the mixture, in nats: f[B, D] -> f[B]."""
    of_parts = v @ log_odds.T - jnp.sum(jax.nn.softplus(log_odds), axis=1)[None]
    return jax.nn.logsumexp(of_parts, axis=1) - jnp.log(float(len(log_odds)))

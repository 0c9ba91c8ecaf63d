"""Fooling images: inputs without a meaning that a model is sure of, by evolution."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from adv_jax.checks import (
    as_batch,
    check_bounds,
    check_box,
    check_function,
    checked_count,
    checked_number,
    is_whole,
    own_keywords,
    traced_model,
)
from adv_jax.convolution import fast_in_loops
from adv_jax.perturbations import choose, limits
from adv_jax.programs import run_compiled
from adv_jax.random import one_key
from adv_jax.types import Array, Bounds, Key, UserError, check_known, described, is_known

HALVE_EVERY = 1000  # generations, after which fewer pixels mutate


class Champions(NamedTuple):
    """The best image of each target.

    fitness: f[T], the probability of the target.
    images: f[T, *D].
    """

    fitness: Array
    images: Array


@own_keywords
def fooling_images(
    probs_fn: Callable[[Array], Array],
    shape: tuple[int, ...],
    y: Array,
    *,
    num_generations: int = 200,
    num_offspring: int = 100,
    rate: ArrayLike = 0.1,
    strength: ArrayLike = 15.0,
    bounds: Bounds = (0.0, 1.0),
    key: Key,
) -> Array:
    """Evolves an image for each target class from noise, by probabilities of the model alone.

        x'_i = clip(x_i + (hi - lo) delta_i)   with the probability rate / 2^floor((t - 1) / 1000),
        delta = (2 u)^a - 1   for u < 1/2,   else 1 - (2 - 2 u)^a,   a = 1 / (strength + 1)

    for uniform u. Each child x' of generation t, which counts from 1, is that of a random champion
    x, and takes the place of the champion of every target whose probability it raises (MAP-Elites,
    direct encoding). So all targets evolve in one population, and progress for one may help
    another.

    There is no input to perturb, so the signature differs from that of the attacks.

    Args:
      probs_fn: a JAX function f[B, *D] -> f[B, K] of probabilities, which need no derivative: wrap
        other programs in `jax.pure_callback`. Their sum may be other than 1, as for K logistic
        outputs. An image with NaN for a target is no candidate for it.
      shape: of an image, [*D].
      y: i32[T], the targets.
      num_generations: after the first, of random images, >= 1.
      num_offspring: images of each generation, >= 1.
      rate: share of the pixels that mutate, f32[], in (0, 1].
      strength: the larger, the smaller the mutations, f32[], > 0.
      bounds: (lo, hi) of the pixels, finite.
      key: one key.

    Returns:
      f32[T, *D], the champion of each target.

    Raises:
      UserError: the shape, a count, the rate, the strength or the bounds out of range; no key;
        probs_fn returns another shape, nothing but NaN or -inf for a target, or, where values are
        known, a champion's probability outside [0, 1]; a target is not one of its classes.

    Source: [nguyen2015], sec. 2.2 and 2.3. The number of offspring is chosen.

    >>> w = jnp.array([[4., -4.], [-4., 4.]])  # Class 0 where the first pixel is brighter.
    >>> probs_fn = lambda x: jax.nn.softmax(x @ w)
    >>> images = fooling_images(probs_fn, (2,), jnp.array([0, 1]), key=jax.random.key(0))
    >>> jnp.round(images, 1)
    Array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    check_function(probs_fn, name="probs_fn")
    num_generations = checked_count("num_generations", num_generations)
    num_offspring = checked_count("num_offspring", num_offspring)
    checked_number("rate", rate, "(0, 1]")
    checked_number("strength", strength, "(0, inf)")
    like = _images_like(shape, bounds, num_offspring)
    probs = traced_model(probs_fn, like, name="probs_fn")
    if probs.ndim != 2 or len(probs) != num_offspring:
        allowed = f"probabilities f[B, K] with B = {num_offspring}"
        raise UserError(f"probs_fn must return {allowed}, got {described(probs)}")
    y, key, (lo, hi) = _checked_targets(y, probs.shape[1]), one_key(key), limits(like, bounds)
    fast_fn = fast_in_loops(probs_fn)

    def selected(champions: Champions, children: Array) -> Champions:
        probs = fast_fn(children)[:, y]
        probs = jnp.where(jnp.isnan(probs), -jnp.inf, probs)
        best = Champions(probs.max(axis=0), children[jnp.argmax(probs, axis=0)])
        return choose(best.fitness > champions.fitness, best, champions)

    def evolved(rate: Array, strength: Array) -> Champions:
        def generation(count: Array, champions: Champions) -> Champions:
            of_parents, of_mutations = jax.random.split(jax.random.fold_in(key, count))
            parents = jax.random.randint(of_parents, like.shape[:1], 0, len(y))
            halvings = ((count - 1) // HALVE_EVERY).astype(like.dtype)
            moves = mutations(of_mutations, like, rate * jnp.exp2(-halvings), strength)
            children = champions.images[parents] + (hi - lo) * moves
            return selected(champions, jnp.clip(children, lo, hi))

        of_first = jax.random.fold_in(key, 0)
        first = lo + (hi - lo) * jax.random.uniform(of_first, like.shape, like.dtype)
        fitness = jnp.full(len(y), -jnp.inf, probs.dtype)
        nothing = Champions(fitness, jnp.broadcast_to(first[:1], (len(y), *like.shape[1:])))
        return jax.lax.fori_loop(1, num_generations + 1, generation, selected(nothing, first))

    numbers = (jnp.asarray(number, like.dtype) for number in (rate, strength))
    champions = jax.lax.stop_gradient(run_compiled(evolved, *numbers))
    _check_found(champions, y)
    return champions.images


def _images_like(shape: Any, bounds: Bounds | None, count: int) -> Array:
    """Returns f32[count, *shape] inside the bounds, after checking these and the shape."""
    if not isinstance(shape, tuple | list) or not all(is_whole(n) and n > 0 for n in shape):
        raise UserError(
            f"shape must be a tuple of whole numbers of at least 1, got {described(shape)}"
        )
    if bounds is None:
        raise UserError("bounds must be finite (lo, hi), got None")
    check_bounds(bounds, (count, *shape))
    check_box(bounds)
    return as_batch(jnp.broadcast_to(limits(jnp.zeros(shape), bounds)[0], (count, *shape)))


def _check_found(champions: Champions, y: Array) -> None:
    """Checks the known fitness of the champions.

    Raises:
      UserError: a target has no image, or a fitness is no probability; 0.01 is rounding, as in
        bfloat16.
    """
    if not is_known(champions.fitness):
        return
    targets, fitness = np.asarray(y), np.asarray(champions.fitness)
    lost = targets[fitness == -np.inf]
    if lost.size:
        raise UserError(
            "probs_fn must return a number above -inf for some image, got none for the target "
            f"{lost[0]}"
        )
    other = np.flatnonzero((fitness < -0.01) | (fitness > 1.01))
    if other.size:
        raise UserError(
            f"probs_fn must return probabilities from 0 to 1, got {fitness[other[0]]:g} for the "
            f"target {targets[other[0]]}: pass the softmax of logits"
        )


def _checked_targets(y: Array, num_classes: int) -> Array:
    """Returns the targets as a JAX array i32[T] after checking them."""
    targets = np.asarray(y) if is_known(y) else y
    if targets.ndim != 1 or not targets.size or targets.dtype.kind not in "iu":
        raise UserError(f"y must be targets i32[T], got {described(y)}")
    check_known(
        "y",
        y,
        lambda label: (label >= 0) & (label < num_classes),
        f"classes from 0 to {num_classes - 1}",
    )
    return jnp.asarray(targets)


def mutations(key: Key, like: Array, rate: ArrayLike, strength: ArrayLike) -> Array:
    """Draws delta of `fooling_images`, 0 where a pixel does not mutate: f[B, *D] in (-1, 1)."""
    of_pixels, of_sizes = jax.random.split(key)
    u = jax.random.uniform(of_sizes, like.shape, like.dtype)
    power = 1 / (strength + 1)
    delta = jnp.where(u < 0.5, (2 * u) ** power - 1, 1 - (2 - 2 * u) ** power)
    mutates = jax.random.uniform(of_pixels, like.shape, like.dtype) < rate
    return jnp.where(mutates, delta, 0)

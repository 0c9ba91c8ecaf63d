"""Models that draw random numbers or have no useful derivative, prepared for any attack.

Both wrappers declare how the gradient differs from that of the model. The audit of
`adv_jax.evaluate` therefore does not take it for gradient masking.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.checks import arity, check_takes, checked_count, own_keywords
from adv_jax.convolution import fast_in_loops
from adv_jax.programs import run_compiled
from adv_jax.random import check_seed
from adv_jax.types import Array, Key, LogitsFn, UserError, described

StochasticFn = Callable[..., Array]  # (x f[B, *D], key) or (x, aux, key) -> logits f[B, K]
Fn = Callable[[Array], Array]

# Contexts of the audit, part of JAX's cache keys, so that no compiled function confuses them:
# `expectation` draws the same numbers for all x; and `straight_through` is its `backward`.
fixed_draws = jax.make_user_context(False)
declared = jax.make_user_context(False)


@own_keywords
def expectation(stochastic_fn: StochasticFn, num_samples: int, *, seed: int = 0) -> LogitsFn:
    """Expectation over transformation (EOT): a random model's logits, averaged over its draws.

        logits(x) = 1/S sum_s f(x, k_s(x)),   S = num_samples

    The gradient is the mean of the gradients of the draws. In the mean of the logits, the log ratio
    log p_j / p_y of any two classes is the mean over the draws. [athalye2018eot] averages log p_y,
    which differs by the normalization.

    The key k_s(x) of a row derives from the bits of its numbers, so each step of an attack has
    fresh draws, and the model is a pure function of x whose rows are independent. An attack that
    keeps the best of many points also keeps lucky draws, and where it rounds its result into the
    ball, the result has others: measure the accuracy of `stochastic_fn` with keys of your own.

    Args:
      stochastic_fn: (x f[1, *D], key) -> logits f[1, K], or (x, aux, key) for side inputs of the
        row. It is mapped over the rows by `vmap` and over the draws in sequence.
      num_samples: draws per row, >= 1; 10 to 30 are usual.
      seed: of the draws.

    Returns:
      f[B, *D] -> f[B, K], or (x, aux) -> f[B, K]: a logits_fn for every attack and for `evaluate`.

    Raises:
      UserError: num_samples below 1; seed is no whole number that int32 holds; stochastic_fn takes
        other arguments; when called: it returns no f[1, K].

    Sources: [athalye2018eot], eq. 1; [athalye2018], sec. 4.2 (randomized defenses).

    >>> noisy = lambda x, key: x + jax.random.normal(key, x.shape)
    >>> logits_fn = expectation(noisy, num_samples=1000)
    >>> jnp.round(logits_fn(jnp.array([[5., 0.], [0., 5.]])), 0) + 0
    Array([[5., 0.],
           [0., 5.]], dtype=float32)
    """
    check_takes("stochastic_fn", stochastic_fn, ("x", "key"), ("x", "aux", "key"))
    return averaged(stochastic_fn, checked_count("num_samples", num_samples), seed=seed)


def averaged(
    stochastic_fn: StochasticFn, num_samples: int, *, seed: int, name: str = "stochastic_fn"
) -> LogitsFn:
    """Returns `expectation` of a function; name: of the argument that it is, for messages."""
    check_seed(seed)

    def mean(x: Array, *aux: Any) -> Array:
        keys = _keys_of_rows(jnp.zeros_like(x) if fixed_draws.value else x, seed)

        # Recompute each draw in the backward pass: the activations of all would be S times as many.
        @jax.checkpoint
        def draw(sample: Array) -> Array:
            def of_row(key: Key, *row: Any) -> Array:
                one = jax.tree.map(lambda a: a[None], row)
                logits = stochastic_fn(*one, jax.random.fold_in(key, sample))
                is_array = isinstance(logits, jax.Array | np.ndarray)
                if not is_array or logits.ndim < 2 or len(logits) != 1:
                    raise UserError(f"{name} must return logits f[1, K], got {described(logits)}")
                return jnp.asarray(logits)[0]

            return jax.vmap(of_row)(keys, x, *aux)

        return jax.lax.map(draw, jnp.arange(num_samples)).mean(axis=0)

    def logits_fn(x: Array, *aux: Any) -> Array:
        takes = ("x", "aux", "key") if aux else ("x", "key")
        with arity(name, stochastic_fn, takes):
            return run_compiled(mean, jnp.asarray(x), *aux)

    return logits_fn


def identity(x: Array) -> Array:
    """Returns x."""
    return x


@own_keywords
def straight_through(preprocess: Fn, backward: Fn = identity) -> Fn:
    """Backward pass differentiable approximation (BPDA): another function's derivative.

        y = preprocess(x),   dy/dx := d backward(x) / dx

    For steps without a useful derivative, such as rounding, JPEG or a denoiser. In reverse mode
    only (`jax.grad`, `jax.vjp`), as attacks differentiate.

    Args:
      preprocess: f[B, *D] -> f[B, *E], any JAX function.
      backward: a differentiable function close to it, f[B, *D] -> f[B, *E]; the default is the
        identity.

    Returns:
      f[B, *D] -> f[B, *E], to compose with a model: `lambda x: net(defended(x))`.

    Raises:
      UserError: a function takes other arguments than x; backward(x) has another shape than
        preprocess(x); by a gradient, preprocess returns no floats, which have none.

    Source: [athalye2018], sec. 4.1.

    >>> rounded, x = straight_through(jnp.round), jnp.array([.3, .8])
    >>> rounded(x), jax.grad(lambda x: (3 * rounded(x)).sum())(x)
    (Array([0., 1.], dtype=float32), Array([3., 3.], dtype=float32))
    """
    check_takes("preprocess", preprocess, ("x",))
    check_takes("backward", backward, ("x",))

    @jax.custom_vjp
    def passed(x: Array) -> Array:
        return preprocess(x)

    def forward(x: Array) -> tuple[Array, Callable[[Array], tuple[Array]]]:
        y = fast_in_loops(preprocess)(x)
        if not jnp.issubdtype(y.dtype, jnp.floating):
            raise UserError(f"preprocess must return floats, got {described(y)}")
        like, pullback = jax.vjp(lambda x: fast_in_loops(backward)(x).astype(y.dtype), x)
        if y.shape != like.shape:
            raise UserError(
                f"backward must return the shape of preprocess, {described(y)}, got "
                f"{described(like)}"
            )
        return y, pullback

    passed.defvjp(forward, lambda pullback, g: pullback(g))
    return lambda x: backward(x) if declared.value else passed(x)


def _keys_of_rows(x: Array, seed: int) -> Key:
    """Returns key[B] by the bits of each row f[B, *D], with the hash sum_i a_i m(bits_i), a_i odd.

    Without m, the finalizer of MurmurHash3, binary rows would have 512 hashes, as the other bits of
    1.0 are 0.
    """
    width = min(x.dtype.itemsize, 4)
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(x), jnp.dtype(f"uint{8 * width}"))
    words = bits.reshape(len(x), -1).astype(jnp.uint32)
    key = jax.random.key(seed)
    factors = jax.random.bits(key, (1, words.shape[1]), jnp.uint32) | jnp.uint32(1)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, (_mixed(words) * factors).sum(axis=1))


def _mixed(words: Array) -> Array:
    """Returns words u32 of which each bit depends on all bits of those given; 0 stays 0."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        words = (words ^ (words >> shift)) * jnp.uint32(factor)
    return words ^ (words >> 16)

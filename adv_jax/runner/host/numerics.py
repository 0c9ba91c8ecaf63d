"""The settings of JAX on which the numbers of a run depend."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def same_numerics() -> Iterator[None]:
    """Gives a run the same products and random numbers, whatever the user sets for these in JAX.

    Those are `jax_default_matmul_precision`, `jax_default_prng_impl` and
    `jax_threefry_partitionable`.
    """
    with (
        # By default accelerators round float32 products to 10 bits or less, which loses eps .00045.
        jax.default_matmul_precision("float32"),
        jax.default_prng_impl("threefry2x32"),
        jax.threefry_partitionable(True),
    ):
        yield

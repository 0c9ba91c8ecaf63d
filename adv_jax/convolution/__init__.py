"""Convolution and max-pooling that are fast inside `lax` loops, and a rewrite that puts them in."""

from adv_jax.convolution._conv import MARGINS as MARGINS
from adv_jax.convolution._conv import Padding as Padding
from adv_jax.convolution._conv import conv as conv
from adv_jax.convolution._pooling import max_pool_2x2 as max_pool_2x2
from adv_jax.convolution._rewriting import fast_in_loops as fast_in_loops

__all__ = ["conv", "fast_in_loops", "max_pool_2x2"]

"""The former name of `adv_jax.configs.common`, for configs in a clone that import it."""

from adv_jax.configs.common import *  # noqa: F403

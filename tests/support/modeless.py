"""A config without modes."""

from adv_jax.configs.common import base


def get_config():
    return base("modeless", {"name": "mnist"})

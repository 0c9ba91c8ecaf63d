"""Trains and evaluates a config from Python: `adv_jax.train.run(config, workdir)`."""

from adv_jax.runner.run.epochs import Diverged
from adv_jax.runner.run.training import run

__all__ = ["Diverged", "run"]

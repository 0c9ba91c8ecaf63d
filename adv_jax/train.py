"""Trains and evaluates a config from Python: `adv_jax.train.run(config, workdir)`."""

from adv_jax.runner.run.epochs import Diverged
from adv_jax.runner.run.training import run

__all__ = ["Diverged", "run"]

if __name__ == "__main__":
    raise SystemExit("error: the command must be python -m adv_jax.main, got adv_jax.train")

"""Configs on noise in the shapes of their data, so that no data are needed to compile them."""

from collections.abc import Mapping
from typing import Any

from adv_jax.runner.config.document import with_values
from adv_jax.runner.config.fields import check
from papers.running import budget
from papers.running.target import Run

# Fields of a residual net for CIFAR-10.
RESNET_18 = {"model.stem": 64, "model.stages": (64, 128, 256, 512), "model.blocks": 2}


def config_of(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config as in its paper, on noise.

    Args:
      name: NAME or NAME:MODE.
      fields: {path: value} to change.

    Raises:
      UserError: the config refuses its mode or a field.
    """
    name, _, mode = name.partition(":")
    config = budget.config_of(Run(name, mode), budget.BUDGETS[budget.PAPER], {})
    shapes = f"launch.compiling.shapes:{config['data']['name']}"
    config = with_values(config, {"data.name": shapes, "data.source": "import", **fields})
    check(config)
    return config

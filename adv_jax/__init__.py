"""Adversarial perturbations and adversarial training as pure JAX functions."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adv_jax import (
        attacks,
        bridges,
        convolution,
        data,
        evaluate,
        generative,
        losses,
        models,
        norms,
        objectives,
        step,
        tabular,
    )
    from adv_jax.attacks import attack

__version__ = "0.1.0"
__all__ = ["attack", "attacks", "bridges", "convolution", "data", "evaluate", "generative"]
__all__ += ["losses", "models", "norms", "objectives", "step", "tabular"]


def __getattr__(name: str) -> ModuleType | Callable[..., Any]:
    """Imports a room on its first use, so that `import adv_jax` alone stays light."""
    if name == "attack":
        return importlib.import_module(f"{__name__}.attacks").attack
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]

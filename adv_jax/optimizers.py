"""Optimizers and schedules by name: optax's, with times in epochs."""

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import optax

from adv_jax.config import bind

_OPTIMIZERS = SimpleNamespace(__all__=["adam", "sgd"], adam=optax.adam, sgd=optax.sgd)
_SCHEDULES = SimpleNamespace(
    __all__=["exponential_decay", "linear_schedule", "piecewise_constant_schedule"],
    exponential_decay=optax.exponential_decay,
    linear_schedule=optax.linear_schedule,
    piecewise_constant_schedule=optax.piecewise_constant_schedule,
)


def optimizer(spec: Mapping[str, Any], *, steps_per_epoch: int) -> optax.GradientTransformation:
    """The optax optimizer that {"name": ..., **kwargs} describes.

    A keyword may be a number or a schedule {"name": ..., **kwargs} of optax, whose argument is
    the epoch, counted from 0: within an epoch a value is held, as in the papers' programs.

    Raises:
      ConfigError: an unknown name or keyword.
    """
    schedules: dict[str, Any] = {
        key: partial(_of_step, bind(value, _SCHEDULES, field=f"optimizer.{key}")(), steps_per_epoch)
        for key, value in spec.items()
        if isinstance(value, Mapping)
    }
    make = bind(spec, _OPTIMIZERS, field="optimizer", **schedules)
    return optax.inject_hyperparams(make.func)(**make.keywords)


def _of_step(schedule: Callable, steps_per_epoch: int, step):
    return schedule(step // steps_per_epoch)

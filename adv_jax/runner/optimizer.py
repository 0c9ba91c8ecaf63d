"""The optimizer that a config describes."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import optax

from adv_jax import optimizers
from adv_jax.runner.config import ConfigError, bind

_OPTIMIZERS = SimpleNamespace(__all__=["adam", "sgd"], adam=optax.adam, sgd=optimizers.sgd)
# What counts epochs in the schedules, and in the plateau's rule.
IN_EPOCHS = ("transition_begin", "transition_steps", "boundaries", "patience", "cooldown")
_PLATEAUS = SimpleNamespace(
    __all__=["reduce_on_plateau"], reduce_on_plateau=optax.contrib.reduce_on_plateau
)


def optimizer(
    spec: Mapping[str, Any], *, steps_per_epoch: int
) -> optax.GradientTransformationExtraArgs:
    """The optax optimizer that {"name": ..., **kwargs} describes.

    A keyword may be a number or a schedule {"name": ..., **kwargs} of optax, whose argument is
    the epoch, counted from 0: within an epoch a value is held, as in the papers' programs.
    `plateau` is {"name": "reduce_on_plateau", **kwargs}, which sees the mean over each epoch of
    what `update` is given as `value`, the loss.

    Raises:
      ConfigError: an unknown name or keyword.
    """
    parts: dict[str, Any] = {}
    for key, value in spec.items():
        if isinstance(value, Mapping):
            field = f"optimizer.{key}"
            if key == "plateau":
                if "accumulation_size" in value:
                    found = f"{field}.accumulation_size is {value['accumulation_size']!r}"
                    raise ConfigError(f"{found}; allowed is none: it is the steps of an epoch")
                make = bind(value, _PLATEAUS, field=field)
                parts[key] = make(accumulation_size=steps_per_epoch)
            else:
                schedule = bind(value, optimizers.SCHEDULES, field=field)()
                parts[key] = optimizers.in_epochs(schedule, steps_per_epoch)
    make = bind(spec, _OPTIMIZERS, field="optimizer", **parts)
    return optax.inject_hyperparams(make.func, hyperparam_dtype=jnp.float32)(**make.keywords)

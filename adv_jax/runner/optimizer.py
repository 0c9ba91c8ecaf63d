"""Builds the optimizer of a config."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import optax

from adv_jax import optimizers
from adv_jax.runner.binding import MAKER, bind
from adv_jax.runner.config import ConfigError
from adv_jax.runner.schema import is_import_path, parameters_of

OPTIMIZERS = SimpleNamespace(__all__=["adam", "sgd"], adam=optax.adam, sgd=optimizers.sgd)
# The settings of schedules and of plateau that count epochs.
IN_EPOCHS = ("transition_begin", "transition_steps", "boundaries", "patience", "cooldown")
PLATEAUS = SimpleNamespace(
    __all__=["reduce_on_plateau"], reduce_on_plateau=optax.contrib.reduce_on_plateau
)


def optimizer(
    spec: Mapping[str, Any], *, steps_per_epoch: int
) -> optax.GradientTransformationExtraArgs:
    """Builds the optax optimizer of a spec {"name": ..., **kwargs}.

    A keyword is a number or an optax schedule {"name": ..., **kwargs}. A schedule's argument is the
    epoch, from 0: its value is constant within an epoch, as in the papers' code. `plateau` is
    {"name": "reduce_on_plateau", **kwargs} and monitors the mean loss of each epoch.

    Raises:
      ConfigError: an unknown name or keyword, or a function that makes no optimizer.
    """
    parts: dict[str, Any] = {}
    for key, value in spec.items():
        if isinstance(value, Mapping):
            field = f"optimizer.{key}"
            if key == "plateau":
                if "accumulation_size" in value:
                    size = f"{field}.accumulation_size"
                    found = value["accumulation_size"]
                    raise ConfigError(f"{size} must be unset (it is one epoch), got {found!r}")
                make = bind(value, PLATEAUS, field=field)
                parts[key] = make(accumulation_size=steps_per_epoch)
            else:
                schedule = bind(value, optimizers.SCHEDULES, field=field)()
                parts[key] = optimizers.in_epochs(schedule, steps_per_epoch)
    make = bind(spec, OPTIMIZERS, field="optimizer", call=MAKER, **parts)
    if is_import_path(spec["name"]) and not isinstance(
        found := make(), optax.GradientTransformation
    ):
        raise ConfigError(
            "optimizer.name must make an optax.GradientTransformation, got "
            f"{spec['name']!r}, which made a {type(found).__name__}"
        )
    # As float32 arrays, counts such as a schedule's steps could not be branched on.
    taken = parameters_of(make.func).items()
    counts = [name for name, p in taken if p.annotation is int or type(p.default) is int]
    inject = optax.inject_hyperparams(make.func, counts, hyperparam_dtype=jnp.float32)
    return inject(**make.keywords)

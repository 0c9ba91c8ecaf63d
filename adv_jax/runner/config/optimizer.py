"""Builds the optimizer of a config, and its average of the weights."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from adv_jax import optimizers
from adv_jax.annotations import parameters_of
from adv_jax.ranges import COUNT, ranged
from adv_jax.runner.config.binding import MAKER, Registry, bind
from adv_jax.runner.config.document import ConfigError, is_import_path
from adv_jax.types import UserError

# The settings of schedules and of plateau that count epochs.
IN_EPOCHS = (
    *("transition_begin", "transition_steps", "decay_steps", "boundaries"),
    *("patience", "cooldown"),
)


def optimizer(
    spec: Mapping[str, Any], *, steps_per_epoch: int, field: str = "optimizer"
) -> optax.GradientTransformationExtraArgs:
    """Builds the optax optimizer of a spec {"name": ..., **kwargs}.

    The spec {"name": "players", PART: spec, ...} has an optimizer for each part of the parameters.
    A keyword is a number or an optax schedule {"name": ..., **kwargs}. A schedule's argument is the
    epoch, from 0: its value is constant within an epoch, as in the papers' code. `plateau` is
    {"name": "reduce_on_plateau" or "bold_driver", **kwargs} and monitors the mean loss of each
    epoch.

    Raises:
      ConfigError: an unknown name or keyword, or a function that makes no optimizer.
    """
    if spec.get("name") == "players":
        return _players(spec, steps_per_epoch, field)
    parts: dict[str, Any] = {}
    for key, value in spec.items():
        if isinstance(value, Mapping):
            inner = f"{field}.{key}"
            if key == "plateau":
                if "accumulation_size" in value:
                    size = f"{inner}.accumulation_size"
                    found = value["accumulation_size"]
                    raise ConfigError(f"{size} must be unset (it is one epoch), got {found!r}")
                make = bind(value, optimizers.PLATEAUS, field=inner)
                parts[key] = make(accumulation_size=steps_per_epoch)
            else:
                schedule = bind(value, optimizers.SCHEDULES, field=inner)()
                parts[key] = optimizers.in_epochs(schedule, steps_per_epoch)
    make = bind(spec, optimizers.OPTIMIZERS, field=field, call=MAKER, **parts)
    if is_import_path(spec["name"]) and not isinstance(
        found := make(), optax.GradientTransformation
    ):
        raise ConfigError(
            f"{field}.name must make an optax.GradientTransformation, got "
            f"{spec['name']!r}, which made a {type(found).__name__}"
        )
    # As float32 arrays, counts such as a schedule's steps could not be branched on.
    taken = parameters_of(make.func).items()
    counts = [name for name, p in taken if p.annotation is int or type(p.default) is int]
    inject = optax.inject_hyperparams(make.func, counts, hyperparam_dtype=jnp.float32)
    return inject(**make.keywords)


def is_entrywise(spec: Mapping[str, Any]) -> bool:
    """Returns whether an entry's update depends on no other, nor on the name of its array."""
    make = optimizers.OPTIMIZERS.get(spec["name"])
    settings = getattr(make, "entrywise", ())
    return bool(settings) and spec.keys() <= {"name", *settings}


def _players(
    spec: Mapping[str, Any], steps_per_epoch: int, field: str
) -> optax.GradientTransformationExtraArgs:
    """Builds the optimizer of a game; `optimizers.players` has its settings.

    Raises:
      ConfigError: as `optimizer` and `optimizers.players`; a player without an optimizer.
    """
    players = {name: own for name, own in spec.items() if name != "every"}
    built = _built(players, steps_per_epoch, field)
    try:
        return optimizers.players(every=spec.get("every"), **built)
    except UserError as error:
        raise ConfigError(f"{field}.{error}") from error


def _built(spec: Mapping[str, Any], steps_per_epoch: int, field: str) -> dict[str, Any]:
    """Builds the optimizers of players; a player may have players of its own."""
    built: dict[str, Any] = {}
    for player, own in spec.items():
        path = f"{field}.{player}"
        if player == "name":
            continue
        if not isinstance(own, Mapping):
            allowed = "an optimizer, a dict with a name"
            named = [name for name, part in spec.items() if isinstance(part, Mapping)]
            players = f"; the players are {', '.join(named)}" if named else ""
            raise ConfigError(f"{path} must be {allowed}, got {own!r}{players}")
        if own.get("name") == "players":
            built[player] = _built(own, steps_per_epoch, path)
        else:
            built[player] = optimizer(own, steps_per_epoch=steps_per_epoch, field=path)
    return built


def averaging(spec: Mapping[str, Any], *, steps_per_epoch: int) -> optimizers.Weights:
    """Builds the weights of `optimizers.averaged` of a spec {"name": ..., **kwargs}.

    Raises:
      ConfigError: an unknown name or keyword.
      UserError: a value is not legal.
    """
    return bind(spec, averages(steps_per_epoch), field="averaging")()


def averages(steps_per_epoch: int) -> Registry:
    """Returns the averages that a config may name, with epochs in place of updates."""

    @ranged(first_epoch=COUNT)
    def swa(first_epoch: int) -> optimizers.Weights:
        return optimizers.swa(first_epoch * steps_per_epoch, steps_per_epoch)

    return {"ema": optimizers.ema, "swa": swa}

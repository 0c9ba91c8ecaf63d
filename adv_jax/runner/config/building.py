"""Builds the model, the objective and the attacks of a config."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import optax

from adv_jax import attacks
from adv_jax.checks import like_x
from adv_jax.objectives.stating import FirstState
from adv_jax.optimizers import averaged
from adv_jax.runner.config.binding import (
    ATTACK,
    ATTACKS,
    INITIALIZERS,
    MAKER,
    MODELS,
    OBJECTIVE,
    OBJECTIVES,
    bind,
    named,
)
from adv_jax.runner.config.document import ConfigError, is_import_path, is_model_field
from adv_jax.runner.config.optimizer import averaging, optimizer
from adv_jax.types import Attack, LogitsFn


def model_of(spec: Mapping[str, Any], sources: Mapping[str, LogitsFn]) -> nn.Module:
    """Builds the module of a spec; nested specs are initializers.

    `weights` is no setting of the module, but the file from which it starts.
    """
    spec = {field: value for field, value in spec.items() if field != "weights"}
    inits = {
        field: bind(value, INITIALIZERS, field=f"model.{field}")()
        for field, value in spec.items()
        if isinstance(value, Mapping)
    }
    trained = _trained(spec, sources)
    made = bind(spec, MODELS, field="model", call=MAKER, **inits, **trained)()
    if not isinstance(made, nn.Module):
        raise ConfigError(
            f"model.name must make a Flax Linen module, got {spec['name']!r}, which made a "
            f"{type(made).__name__}"
        )
    return made


def predicted_by(model: nn.Module) -> str:
    """Returns what a module predicts: "labels", "real" or "loss"; see `adv_jax.models`.

    Raises:
      ConfigError: its class variable `predicts` is something else.
    """
    found, legal = getattr(model, "predicts", "labels"), ("labels", "real", "loss")
    if found not in legal:
        raise ConfigError(f"predicts of the model must be {', '.join(legal)}, got {found!r}")
    return found


def objective_of(
    spec: Mapping[str, Any],
    field: str,
    sources: Mapping[str, LogitsFn],
    *,
    free: Sequence[str] = (),
) -> partial:
    """Builds the objective of a spec; a nested `objective` gets its attack from the outer one."""
    parts: dict[str, Any] = {
        key: objective_of(value, f"{field}.{key}", sources, free=("attack",))
        if key == "objective"
        else like_x(attack_of(value, f"{field}.{key}", sources), f"{field}.{key}")
        for key, value in spec.items()
        if isinstance(value, Mapping)
    }
    trained = _trained(spec, sources)
    return bind(spec, OBJECTIVES, field=field, free=free, call=OBJECTIVE, **parts, **trained)


def first_state_of(spec: Mapping[str, Any]) -> FirstState | None:
    """Returns the function that makes the first state of an objective, or None if it has none."""
    return getattr(named(spec, OBJECTIVES, field="objective", call=OBJECTIVE), "state", None)


def trained_by(spec: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Returns what the models of an objective may predict; None: anything, as a user's does."""
    function = named(spec, OBJECTIVES, field="objective", call=OBJECTIVE)
    return getattr(function, "predicts", None if is_import_path(spec["name"]) else ("labels",))


def attack_of(
    spec: Mapping[str, Any],
    field: str,
    sources: Mapping[str, LogitsFn],
    *,
    free: Sequence[str] = (),
) -> Attack:
    """Builds the attack of a spec; a nested attack gets its size from the outer attack."""
    parts: dict[str, Any] = {
        key: attack_of(value, f"{field}.{key}", sources, free=attacks.SIZES)
        for key, value in spec.items()
        if isinstance(value, Mapping)
    }
    trained = _trained(spec, sources)
    return bind(spec, ATTACKS, field=field, free=free, call=ATTACK, **parts, **trained)


def attacks_of(config: Mapping[str, Any], sources: Mapping[str, LogitsFn]) -> dict[str, Attack]:
    """Builds the attacks of the evaluation, by name; their sizes are those of `evaluation.eps`."""
    return {
        name: attack_of(spec, f"evaluation.attacks.{name}", sources, free=attacks.SIZES)
        for name, spec in config["evaluation"]["attacks"].items()
    }


def objective_and_optimizer(
    config: Mapping[str, Any], sources: Mapping[str, LogitsFn], *, steps_per_epoch: int
) -> tuple[partial, optax.GradientTransformation]:
    """Builds what trains: the objective, and the optimizer with the average of its weights."""
    objective = objective_of(config["objective"], "objective", sources)
    made = optimizer(config["optimizer"], steps_per_epoch=steps_per_epoch)
    if average := config.get("averaging"):
        made = averaged(made, averaging(average, steps_per_epoch=steps_per_epoch))
    return objective, made


def _trained(spec: Mapping[str, Any], sources: Mapping[str, LogitsFn]) -> dict[str, Any]:
    """Returns {field: trained model} for the fields `..._fn`, which hold workdirs."""
    return {field: sources.get(value) for field, value in spec.items() if is_model_field(field)}

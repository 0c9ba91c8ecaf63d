"""Lists the parts of a config: each `{name, **settings}` and where its name is looked up."""

from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter
from typing import Any, NamedTuple

from adv_jax import optimizers
from adv_jax.ranges import Range, stated
from adv_jax.runner.config.binding import (
    ATTACK,
    ATTACKS,
    INITIALIZERS,
    MAKER,
    MODELS,
    OBJECTIVE,
    OBJECTIVES,
    Call,
    Registry,
    named,
    settings,
)
from adv_jax.runner.config.document import is_import_path
from adv_jax.runner.config.optimizer import averages

Inner = Callable[[str], tuple[Registry, Call | None]]


class Part(NamedTuple):
    """A part of a config.

    field: its path, such as "objective.attack".
    spec: {"name": ..., **settings}.
    registry: the functions that the name may mean.
    call: see `binding.bind`.
    """

    field: str
    spec: Mapping[str, Any]
    registry: Registry
    call: Call | None

    def settings(self) -> tuple[dict[str, Parameter], bool]:
        """Returns the parameters that are settings, and whether the function takes any other.

        Raises:
          ConfigError: the name is missing or unknown.
        """
        function = named(self.spec, self.registry, field=self.field, call=self.call)
        return settings(function, self.call if is_import_path(self.spec["name"]) else None)

    def ranges(self) -> dict[str, Range]:
        """Returns {setting: range} as the function states them; {} for an unknown or a user's."""
        name = self.spec.get("name")
        if not isinstance(name, str) or name not in self.registry:
            return {}
        return stated(self.registry[name])


def parts(config: Mapping[str, Any]) -> Iterator[Part]:
    """Yields the parts of a config, which need not be complete."""
    initializer, attack = (INITIALIZERS, None), (ATTACKS, ATTACK)
    objective = (OBJECTIVES, OBJECTIVE)
    in_objective = lambda key: objective if key == "objective" else attack
    yield from _tree("model", config.get("model"), MODELS, MAKER, lambda _: initializer)
    yield from _tree("objective", config.get("objective"), *objective, in_objective)
    yield from _optimizers("optimizer", config.get("optimizer"))
    if isinstance(average := config.get("averaging"), Mapping):
        yield Part("averaging", average, averages(1), None)
    for name, spec in config.get("evaluation", {}).get("attacks", {}).items():
        yield from _tree(f"evaluation.attacks.{name}", spec, *attack, lambda _: attack)
    data = config.get("data", {})
    if is_import_path(data.get("name")):
        yield Part("data", data, {}, MAKER)


def ranges_of_parts(config: Mapping[str, Any]) -> dict[str, Range]:
    """Returns {path: range} of the settings whose part states one."""
    return {f"{p.field}.{name}": found for p in parts(config) for name, found in p.ranges().items()}


def _tree(
    field: str, spec: Any, registry: Registry, call: Call | None, inner: Inner
) -> Iterator[Part]:
    """Yields a part and those in it, whose registry and call are inner(key)."""
    if isinstance(spec, Mapping):
        yield Part(field, spec, registry, call)
        for key, value in spec.items():
            yield from _tree(f"{field}.{key}", value, *inner(key), inner)


def _optimizers(field: str, spec: Any) -> Iterator[Part]:
    """Yields an optimizer with its schedules, or those of the players of a game."""
    schedule, plateau = (optimizers.SCHEDULES, None), (optimizers.PLATEAUS, None)
    inner = lambda key: plateau if key == "plateau" else schedule
    if not isinstance(spec, Mapping) or spec.get("name") != "players":
        yield from _tree(field, spec, optimizers.OPTIMIZERS, MAKER, inner)
        return
    yield Part(field, spec, optimizers.OPTIMIZERS, MAKER)
    for player, own in spec.items():
        if player != "every":
            yield from _optimizers(f"{field}.{player}", own)

"""Binds the functions that a config names: ours by name, the user's by import path."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from adv_jax import attacks, generative, models, objectives
from adv_jax.annotations import accepts, allowed_values, catch_all, fits, parameters_of
from adv_jax.data import preprocessing
from adv_jax.models import initializers
from adv_jax.ranges import positional_of
from adv_jax.runner.config import plugins
from adv_jax.runner.config.document import ConfigError, is_document, is_import_path
from adv_jax.types import not_one_of

# The parameters that the program passes at run time; a config cannot set them.
_RUNTIME = {"apply", "variables", "batch", "logits_fn", "x", "y", "key", "parent", "name"}
_ARRAYS = {"aux"}  # of functions of ours: rows beside x, which no document holds
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


Registry = Mapping[str, Callable[..., Any]]  # what a config may name


def registry(*modules: Any) -> dict[str, Callable[..., Any]]:
    """Returns {name: function} of the public names of several modules, which share none.

    Raises:
      ValueError: two modules share a name.
    """
    counts = Counter(name for module in modules for name in module.__all__)
    if shared := [name for name, count in counts.items() if count > 1]:
        where = " and ".join(module.__name__ for module in modules)
        raise ValueError(f"the names of {where} must differ, got {', '.join(shared)} twice")
    found = {name: getattr(module, name) for module in modules for name in module.__all__}
    return dict(sorted(found.items()))


ATTACKS = registry(attacks)
INITIALIZERS = registry(initializers)
MODELS = registry(models, generative.models)
OBJECTIVES = registry(objectives, generative.objectives)
PREPROCESSING = registry(preprocessing)


class Call(NamedTuple):
    """The arguments that the program passes to a function."""

    positional: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


ATTACK = Call(("logits_fn", "x", "y"))  # and key, which it need not take
OBJECTIVE = Call(("apply", "variables", "batch"), ("key",))
MAKER = Call()  # of a model, an optimizer or a data set


def bind(
    spec: Mapping[str, Any],
    registry: Registry,
    *,
    field: str,
    free: Iterable[str] = (),
    call: Call | None = None,
    **parts: Any,
) -> partial:
    """Returns the function that `spec` names, with its other entries bound as keywords.

    Args:
      spec: {"name": ..., **kwargs}.
      registry: the functions by their legal names.
      field: the spec's path in the config, for messages.
      free: required keywords that the caller will pass later.
      call: how the program calls the function; None if an import path is not allowed.
      parts: functions bound from nested specs; they replace the entries of the same names.

    Raises:
      ConfigError: the name or a required keyword is missing, a name or keyword is unknown (the
        message suggests the nearest legal one), or a value does not fit its annotation.
    """
    function = named(spec, registry, field=field, call=call)
    name = spec["name"]
    keywords = {key: value for key, value in spec.items() if key != "name"} | parts
    legal, takes_any = settings(function, call if is_import_path(name) else None)
    for key in keywords:
        if key not in legal and not takes_any:
            raise ConfigError(not_one_of(f"a setting of {field}.{name}", key, legal))
    for key, parameter in legal.items():
        required = parameter.default is inspect.Parameter.empty
        if required and key not in keywords and key not in free:
            raise ConfigError(f"{field}.{key} must be given, as {name} needs it, got none")
    for key, value in keywords.items():
        annotation = legal[key].annotation if key in legal else Any
        if key not in parts and is_document(value) and not fits(value, annotation):
            allowed = allowed_values(annotation, function="a dict with a name")
            raise ConfigError(f"{field}.{key} must be {allowed}, got {value!r}")
    return partial(function, **keywords)


def named(
    spec: Mapping[str, Any], registry: Registry, *, field: str, call: Call | None = None
) -> Callable[..., Any]:
    """Returns the function that `spec` names; see `bind`.

    Raises:
      ConfigError: the name is missing or unknown, or its function cannot be called as `call`.
    """
    name = spec.get("name")
    if call and is_import_path(name):
        function = plugins.find(name, field=f"{field}.name")
        _check_call(function, call, field=f"{field}.name", name=name)
        return function
    if not isinstance(name, str) or name not in registry:
        module, dot, attribute = str(name).rpartition(".")
        hint = f"; an import path has a colon: '{module}:{attribute}'" if dot else ""
        hint = (hint or " (your own: 'module:attribute')") if call else ""
        raise ConfigError(not_one_of(f"{field}.name", name, registry) + hint)
    return registry[name]


def settings(
    function: Callable[..., Any], call: Call | None = None
) -> tuple[dict[str, inspect.Parameter], bool]:
    """Returns the parameters that a config may set, and whether any other keyword is accepted."""
    parameters = parameters_of(function)
    first = set(positional_of(parameters)[: len(call.positional)]) if call else _ARRAYS
    passed = _RUNTIME | first
    own = {k: p for k, p in parameters.items() if k not in passed and p.kind not in _VARIADIC}
    return own, catch_all(parameters) is not None


def _check_call(function: Callable[..., Any], call: Call, *, field: str, name: str) -> None:
    """Raises ConfigError if a user's function does not take what the program passes."""
    parameters = parameters_of(function)
    if not accepts(parameters, call.positional, call.keywords):
        by_name = ["*", *call.keywords] if call.keywords else []
        legal, found = ", ".join([*call.positional, *by_name]), ", ".join(parameters)
        raise ConfigError(f"{field} must take ({legal}), got {name!r}, which takes ({found})")

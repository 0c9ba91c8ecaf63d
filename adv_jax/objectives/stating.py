"""The decorator of objectives, by which they state what training with them needs."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from flax.errors import InvalidRngError

from adv_jax.annotations import accepts
from adv_jax.checks import check_complete, check_keywords, checked_apply, is_targeted, like_x
from adv_jax.random import one_key
from adv_jax.ranges import ranged
from adv_jax.types import Apply, Array, UserError, Variables, check_callable, described

Function = TypeVar("Function", bound=Callable)
_ATTACKS = ("attack", "unlabeled_attack")  # Keywords of an objective.
# Keyword of an objective -> an example of the functions that it takes.
_FUNCTIONS = {**dict.fromkeys(_ATTACKS, "pgd"), "objective": "lwa"}

_POSITIONAL = ("apply", "variables", "batch")

FirstState = Callable[[Apply, Variables, Array], Variables]  # (apply, variables, x) -> collections


@contextlib.contextmanager
def _explained(
    kept: str | None, variables: Any = None, batch: Any = None, *, key: Any = None
) -> Iterator[None]:
    """Explains the error that missing parts of the batch or variables, or no key, lead to.

    Args:
      kept: name of the function that makes the state which the objective keeps in the variables,
        or None.
    """
    try:
        yield
    except KeyError as error:
        part = error.args[0]
        if part in ("x", "y") and batch is not None and part not in batch:
            raise UserError(f"batch must have {part}, got {', '.join(batch)}") from error
        if kept and isinstance(variables, Mapping) and part not in variables:
            allowed = f"{part}, which {kept}(apply, variables, x) makes"
            raise UserError(f"variables must have {allowed}, got {', '.join(variables)}") from error
        raise
    except UserError as error:
        if str(error).startswith("labels must be"):  # Losses call them so, and a batch y.
            raise UserError(f"y{str(error).removeprefix('labels')}") from error
        raise
    except (TypeError, InvalidRngError) as error:
        if key is None and "PRNG" in str(error):
            raise UserError("key must be one key of jax.random, got None") from error
        raise


def _check_batch(batch: Any, *, labeled: bool) -> None:
    """Raises UserError unless x, y and unlabeled, where they are given, are rows that fit together.

    labeled: whether y are labels of x, and so as many.
    """
    if not isinstance(batch, Mapping):
        allowed = "a dict of arrays such as {'x': x, 'y': y}"
        raise UserError(f"batch must be {allowed}, got {described(batch)}")
    shapes = {}
    for name in ("x", "y", "unlabeled"):
        part = batch.get(name)
        if part is None or isinstance(part, Mapping):  # A model of yours may take a dict.
            continue
        if name != "y" and not hasattr(part, "shape"):
            raise UserError(f"batch must have arrays, got {name} {described(part)}")
        shapes[name] = np.shape(part)
        if shapes[name] == ():
            allowed = f"rows of {name} (step.over_steps takes one batch for each step)"
            raise UserError(f"batch must have {allowed}, got {described(part)}")
        if shapes[name][0] == 0:  # The mean over no rows is NaN.
            raise UserError(f"batch must have at least one row, got {name} {described(part)}")
    x, y, others = (shapes.get(name) for name in ("x", "y", "unlabeled"))
    if labeled and x and y and y[0] != x[0]:
        raise UserError(f"y must have the {x[0]} rows of x, got {described(batch['y'])}")
    if x and others and others[1:] != x[1:]:
        legal = f"inputs of the shape {[*x[1:]]}, as x"
        raise UserError(f"unlabeled must be {legal}, got {described(batch['unlabeled'])}")


def _check_functions(given: Mapping[str, Any]) -> None:
    """Raises UserError for what should be a function, and for an attack that is targeted."""
    for name in _FUNCTIONS.keys() & given.keys():
        check_callable(given[name], name, such_as=_FUNCTIONS[name])
        if name in _ATTACKS and is_targeted(given[name]):
            allowed = "an attack away from the labels it gets, the true ones, by targeted=False"
            raise UserError(f"{name} must be {allowed}, got targeted=True")


def objective(
    *,
    predicts: tuple[str, ...] = ("labels",),
    state: FirstState | None = None,
    ranges: Mapping[str, str] = {},
) -> Callable[[Function], Function]:
    """Decorates an objective: stores `predicts` and `state` on it, and checks its calls.

    It refuses, in one line: unknown and missing keywords, an attack that is no function or is
    targeted, values outside a setting's `ranges` or annotation, a wrong key, and a batch that is no
    dict of arrays, lacks x or y, or whose parts do not fit together. An objective without it trains
    models that predict labels, carries no state, and takes any values.

    Args:
      predicts: what its model may predict, as `adv_jax.models` explains it.
      state: makes the first state, {collection: tree}, which the objective keeps in the variables
        from step to step, from the model, its variables and a batch x f32[B, *D].
      ranges: of settings that are numbers, such as {"alpha": "[0, 1]"}; see `adv_jax.ranges`.

    Raises:
      UserError: the function does not take (apply, variables, batch, *, key); as
        `ranges.check_ranges`.

    >>> @objective(predicts=("loss",))
    ... def bound(apply, variables, batch, *, key):
    ...     "Returns the loss f32[] and (model_state, metrics)."
    >>> bound.predicts
    ('loss',)
    """

    def stated(function: Function) -> Function:
        signature = inspect.signature(function)
        if not accepts(signature.parameters, _POSITIONAL, ("key",)):
            legal, found = ", ".join(_POSITIONAL), ", ".join(signature.parameters)
            taken = f"{function.__name__}, which takes ({found})"
            raise UserError(f"an objective must take ({legal}, *, key), got {taken}")
        checked = ranged(**ranges)(function)
        optional = {p.name for p in signature.parameters.values() if p.default is None}
        attacks = signature.parameters.keys() & _ATTACKS
        kept = f"{function.__name__}.state" if state else None

        @functools.wraps(checked)
        def called(*args: Any, **given: Any) -> Any:
            check_keywords(function.__name__, given, signature)
            is_set = lambda name: given[name] is not None or name not in optional
            _check_functions({name: given[name] for name in filter(is_set, given)})
            for name in attacks & given.keys():
                if given[name] is not None:
                    given[name] = like_x(given[name], name)
            models = map(checked_apply, args[:1])
            key = given.get("key")
            if key is not None or ("key" in given and "attack" in attacks):
                one_key(key)
            batch = args[2] if len(args) > 2 else given.get("batch")
            if batch is not None:
                _check_batch(batch, labeled="labels" in predicts)
            with _explained(kept, *args[1:3], key=key):
                try:
                    return checked(*models, *args[1:], **given)
                except TypeError:
                    check_complete(function.__name__, args, given, signature)
                    raise

        stating: Any = called
        vars(stating).update(predicts=predicts, state=state)
        return stating

    return stated

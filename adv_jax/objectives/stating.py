"""What an objective says of itself, for whoever trains with it."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from adv_jax.checks import check_callable, own_keywords
from adv_jax.ranges import ranged
from adv_jax.types import Apply, Array, Variables

Function = TypeVar("Function", bound=Callable)
# Keyword of an objective -> an example of the functions that it takes.
_FUNCTIONS = {"attack": "pgd", "unlabeled_attack": "pgd", "objective": "lwa"}

FirstState = Callable[[Apply, Variables, Array], Variables]  # (apply, variables, x) -> collections


def objective(
    *,
    predicts: tuple[str, ...] = ("labels",),
    state: FirstState | None = None,
    ranges: Mapping[str, str] = {},
) -> Callable[[Function], Function]:
    """Returns a decorator that gives an objective the attributes of its arguments' names.

    It also refuses, in one line, unknown keywords and an attack that is no function. An objective
    without it trains models that predict labels, carries no state, and takes any numbers.

    Args:
      predicts: what its model may predict, as `adv_jax.models` explains it.
      state: makes the first state, {collection: tree}, which the objective keeps in the variables
        from step to step, from the model, its variables and a batch x f32[B, *D].
      ranges: of settings that are numbers, such as {"alpha": "[0, 1]"}; see `adv_jax.ranges`.

    >>> @objective(predicts=("loss",))
    ... def bound(apply, variables, batch, *, key):
    ...     "Returns the loss f32[] and (model_state, metrics)."
    >>> bound.predicts
    ('loss',)
    """

    def stated(function: Function) -> Function:
        parameters = inspect.signature(function).parameters.values()
        optional = {parameter.name for parameter in parameters if parameter.default is None}

        @functools.wraps(function)
        def called(*args: Any, **given: Any) -> Any:
            for name in _FUNCTIONS.keys() & given.keys():
                if given[name] is not None or name not in optional:
                    check_callable(given[name], name, such_as=_FUNCTIONS[name])
            return function(*args, **given)

        stating: Any = own_keywords(called)
        vars(stating).update(predicts=predicts, state=state)
        return ranged(**ranges)(stating)

    return stated

"""What an objective says of itself, for whoever trains with it."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from adv_jax.ranges import ranged
from adv_jax.types import Apply, Array, Variables

Function = TypeVar("Function", bound=Callable)
FirstState = Callable[[Apply, Variables, Array], Variables]  # (apply, variables, x) -> collections


def objective(
    *,
    predicts: tuple[str, ...] = ("labels",),
    state: FirstState | None = None,
    ranges: Mapping[str, str] = {},
) -> Callable[[Function], Function]:
    """Returns a decorator that gives an objective the attributes of its arguments' names.

    An objective without it trains models that predict labels, carries no state, and takes any
    numbers.

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
        vars(function).update(predicts=predicts, state=state)
        return ranged(**ranges)(function)

    return stated

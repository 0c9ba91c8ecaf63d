"""What an objective says of itself, for whoever trains with it."""

from collections.abc import Callable
from typing import TypeVar

from adv_jax.types import Apply, Array, Variables

Function = TypeVar("Function", bound=Callable)
FirstState = Callable[[Apply, Variables, Array], Variables]  # (apply, variables, x) -> collections


def objective(
    *, predicts: tuple[str, ...] = ("labels",), state: FirstState | None = None
) -> Callable[[Function], Function]:
    """Returns a decorator that gives an objective the attributes `predicts` and `state`.

    An objective without it trains models that predict labels, and carries no state.

    Args:
      predicts: what its model may predict, as `adv_jax.models` explains it.
      state: makes the first state, {collection: tree}, which the objective keeps in the variables
        from step to step, from the model, its variables and a batch x f32[B, *D].

    >>> @objective(predicts=("loss",))
    ... def bound(apply, variables, batch, *, key):
    ...     "Returns the loss f32[] and (model_state, metrics)."
    >>> bound.predicts
    ('loss',)
    """

    def stated(function: Function) -> Function:
        vars(function).update(predicts=predicts, state=state)
        return function

    return stated

"""The papers' optimizers, schedules and averages of weights, built on optax."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adv_jax.annotations import parameters_of
from adv_jax.checks import checked_count
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import (
    Array,
    UserError,
    check_callable,
    check_optimizer,
    described,
    dtype_of,
    working_dtype,
)

Weights = Callable[[Array], Array]  # i32[], updates done -> f32[], the weight of the last iterate

# The ranges of settings that optimizers and schedules share. One may state another range.
_SHARED = {
    **dict.fromkeys(("learning_rate", "weight_decay", "eps", "eps_root"), "[0, inf)"),
    **dict.fromkeys(("b1", "b2"), "[0, 1)"),
    **dict.fromkeys(("momentum", "decay"), "[0, 1]"),
    **dict.fromkeys(("initial_accumulator_value", "initial_scale"), "[0, inf)"),
    **dict.fromkeys(("init_value", "end_value", "transition_begin"), "[0, inf)"),
    # At 0 and below, optax's schedules are constant.
    **dict.fromkeys(("transition_steps", "decay_rate"), "(0, inf)"),
}


def _rule(*, entrywise: bool | tuple[str, ...] = False, **ranges: str) -> Callable[[Any], Any]:
    """Returns a decorator of a function that makes an optimizer or a schedule: it states ranges.

    Args:
      entrywise: whether an entry's update depends on no other, nor on the name of its array; or
        the settings with which it does not.
      ranges: of its settings that have no range in `_SHARED`, or another one.
    """

    def stating(make: Any) -> Any:
        parameters = parameters_of(make)
        shared = {name: text for name, text in _SHARED.items() if name in parameters}
        checked: Any = ranged(**shared | ranges)(make)
        checked.entrywise = tuple(parameters) if entrywise is True else entrywise or ()
        return checked

    return stating


@_rule(
    entrywise=("learning_rate", "momentum", "nesterov", "plateau"),
    l1="[0, inf)",
    max_norm="(0, inf)",
    convolution_scale="[0, inf)",
)
def sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: float | None = None,
    nesterov: bool = False,
    weight_decay: float | None = None,
    l1: float | None = None,
    max_norm: float | None = None,
    convolution_scale: float | None = None,
    plateau: optax.GradientTransformationExtraArgs | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns `optax.sgd` with penalties, max-norm and a scaled learning rate of convolutions.

    Args:
      learning_rate, momentum, nesterov: as in `optax.sgd`.
      weight_decay: lambda of a loss term lambda / 2 |W|^2, without the biases.
      l1: lambda of a loss term lambda |W|_1, without the biases; its slope at 0 is 0.
      max_norm: largest l2 norm of the weights into one unit, enforced by projection after each
        step, without the biases.
      convolution_scale: factor of the learning rate of convolutions.
      plateau: `optax.contrib.reduce_on_plateau` or `bold_driver`.

    Raises:
      UserError: nesterov without a momentum; plateau is not an optimizer; by `update`, l1 or
        max_norm without params.

    Sources: [srivastava2014], sec. 5.1 (max-norm), as [nokland2015], sec. 4, has all of them
    but the scale, that is of [goodfellow2013], in Pylearn2's cifar10_no_aug_valid.yaml, and l1,
    that is of [maronas2016], eq. 7.
    """
    if nesterov and momentum is None:
        raise UserError("momentum must be a number from 0 to 1 with nesterov=True, got None")
    parts: list[optax.GradientTransformation] = []
    if weight_decay is not None:
        parts.append(optax.add_decayed_weights(weight_decay, mask=_are_weights))
    if l1 is not None:
        parts.append(optax.masked(_add_signs(l1), _are_weights))
    parts.append(optax.sgd(learning_rate, momentum, nesterov))
    if convolution_scale is not None:
        parts.append(_scaled_convolutions(convolution_scale))
    if plateau is not None:
        check_optimizer(plateau, "plateau")
        parts.append(plateau)
    if max_norm is not None:
        parts.append(_inside_ball(max_norm))
    return optax.with_extra_args_support(optax.chain(*parts) if len(parts) > 1 else parts[0])


@_rule(entrywise=True, rho="[0, 1)", eps="(0, inf)")
def adadelta(
    learning_rate: optax.ScalarOrSchedule = 1.0, rho: float = 0.95, eps: float = 1e-6
) -> optax.GradientTransformationExtraArgs:
    """Returns `optax.adadelta` with the rate of the source, 1; optax's default climbs the loss.

    Args:
      learning_rate: a factor of the update, which has its units without it.
      rho: decay of both averages of squares, in [0, 1).
      eps: added to both.

    Source: [zeiler2012], Algorithm 1; sec. 4.1 has rho .95 and eps 1e-6.
    """
    return optax.adadelta(learning_rate, rho=rho, eps=eps)


class BoldDriver(NamedTuple):
    """The state of `bold_driver`.

    scale: f32[], the factor of the updates.
    before: f32[], the mean loss of the last whole epoch; inf before there is one.
    total: f32[], the sum of the losses of this epoch so far.
    count: i32[], its steps so far.
    """

    scale: Array
    before: Array
    total: Array
    count: Array


@ranged(increase="[1, inf)", decrease="[0, 1]", accumulation_size=COUNT)
def bold_driver(
    increase: float = 1.05, decrease: float = 0.5, accumulation_size: int = 1
) -> optax.GradientTransformationExtraArgs:
    """Scales updates by a factor that grows while the loss falls, and shrinks when it rises.

        s <- s * increase if the mean loss of an epoch is at most that of the epoch before,
        s <- s * decrease if not

    The first epoch leaves the factor at 1. The last step of an epoch already has its new factor.
    Unlike the source's driver, this one does not take back the steps of an epoch whose loss has
    risen. A mean loss of NaN counts as a rise, and the next epoch keeps the factor. `update` needs
    the loss of the step, `value=loss`.

    Args:
      increase: at least 1.
      decrease: in [0, 1].
      accumulation_size: steps of an epoch, >= 1.

    Raises:
      UserError: an argument out of range; by `update`, without value.

    Source: [battiti1989], as [maronas2016], sec. 3.3.1, has it.
    """

    def init(params: Any) -> BoldDriver:
        return BoldDriver(jnp.float32(1), jnp.float32(jnp.inf), jnp.float32(0), jnp.int32(0))

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, BoldDriver]:
        _check_given("value", value)
        total, count = state.total + value, state.count + 1
        mean, is_whole = total / accumulation_size, count == accumulation_size
        risen = jnp.where(mean <= state.before, increase, decrease)
        # The first epoch has nothing to compare with.
        factor = jnp.where(is_whole & jnp.isfinite(state.before), risen, 1.0)
        scale = state.scale * factor
        return optax.tree.scale(scale, updates), BoldDriver(
            scale=scale,
            before=jnp.where(is_whole, mean, state.before),
            total=jnp.where(is_whole, 0.0, total),
            count=jnp.where(is_whole, 0, count),
        )

    return optax.GradientTransformationExtraArgs(init, update)


@_rule()
def players(
    every: Mapping[str, Any] | None = None, **optimizers: Any
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer for a game: each part of the parameters has an optimizer of its own.

    Args:
      every: {part: k}, the parts that move in every k-th step only, from the first on; one part or
        more moves in each step.
      optimizers: {part: optimizer}, for each key of the parameters. {part: {inner: optimizer}} has
        one for each part of a part, whose steps are every={part: {inner: k}}.

    Raises:
      UserError: a player is not an optimizer, or two have the same path; `every` names another
        part, has steps below 1 or leaves steps in which no part moves; and, by `init`, a part
        without an optimizer or an optimizer without a part.
    """
    owners = _owners(optimizers)
    steps_of = {} if every is None else _steps_of(every, optimizers)
    if owners and all(steps_of.get(part, 1) > 1 for part in owners):
        raise UserError(f"every must let one player move in each step, got {described(steps_of)}")

    def timed(part: str, one: optax.GradientTransformation) -> optax.GradientTransformation:
        if part not in steps_of:
            return one
        return optax.conditionally_mask(one, partial(_is_due, steps_of[part]))

    moved: dict[Hashable, optax.GradientTransformation] = {
        part: timed(part, one) for part, one in owners.items()
    }
    return optax.with_extra_args_support(
        optax.partition(moved, lambda params: _labels(params, optimizers))
    )


def _steps_of(every: Any, optimizers: Mapping[str, Any], field: str = "every") -> dict[str, int]:
    """Returns {path: steps} of the parts that `every` names."""
    if not isinstance(every, Mapping):
        raise UserError(f"{field} must be a dict of players and their steps, got {every!r}")
    found = {}
    for name, steps in every.items():
        if name not in optimizers:
            names = ", ".join(optimizers) or "none"
            raise UserError(f"{field} must name a player, {names}, got {name!r}")
        own = optimizers[name]
        if isinstance(own, Mapping):
            inner = _steps_of(steps, own, f"{field}.{name}")
            found |= {f"{name}.{part}": count for part, count in inner.items()}
        else:
            found[name] = checked_count(f"{field}.{name}", steps)
    return found


def _owners(optimizers: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns {path: optimizer} of all parts that have one."""
    found = {}
    for part, own in optimizers.items():
        path = f"{prefix}{part}"
        if isinstance(own, Mapping):
            inner = _owners(own, f"{path}.")
        else:
            check_optimizer(own, path)
            inner = {path: own}
        for name in inner:
            if name in found:  # As "a.b" beside {"a": {"b": ...}}.
                raise UserError(f"{name} must name one part, got two")
        found |= inner
    return found


def _labels(params: Any, optimizers: Any, path: str = "") -> Any:
    """Returns the path of the owner of each part of the parameters."""
    if not isinstance(optimizers, Mapping):
        return path
    parts = params.keys() if isinstance(params, Mapping) else ()
    if parts != optimizers.keys():
        whole, got = path or "the model", ", ".join(optimizers) or "none"
        allowed = f"the parts of {whole}, {', '.join(parts)}"
        if not parts:
            allowed = f"one optimizer for {whole}, which has no parts"
        raise UserError(f"the players of the optimizer must be {allowed}, got {got}")
    inner = f"{path}." if path else ""
    return {part: _labels(params[part], optimizers[part], f"{inner}{part}") for part in optimizers}


def _is_due(every: int, step: Array) -> Array:
    return step % every == 0


@ranged(values="[0, inf)", boundaries="{0, 1, ...}")
def piecewise_constant(values: Sequence[float], boundaries: Sequence[int]) -> optax.Schedule:
    """Returns a schedule with values[i] from epoch boundaries[i - 1] on, counted from 0.

    `optax.piecewise_constant_schedule` takes a dict with integer keys, which a config cannot hold.

    Raises:
      UserError: no values; len(boundaries) != len(values) - 1; boundaries do not increase.
    """
    if len(values) == 0:
        raise UserError("values must have at least 1 entry, got 0")
    if len(values) != len(boundaries) + 1:
        raise UserError(
            f"boundaries must have {len(values) - 1} entries, one less than values, "
            f"got {len(boundaries)}"
        )
    if any(first >= second for first, second in pairwise(boundaries)):
        raise UserError(f"boundaries must increase, got {described(boundaries)}")
    return optax.join_schedules([optax.constant_schedule(v) for v in values], boundaries)


# What a config may name.
OPTIMIZERS: Mapping[str, Any] = {
    "adadelta": adadelta,
    "adagrad": _rule(entrywise=True)(optax.adagrad),
    "adam": _rule(entrywise=True)(optax.adam),
    "players": players,
    "rmsprop": _rule(entrywise=True)(optax.rmsprop),
    "sgd": sgd,
}
PLATEAUS: Mapping[str, Any] = {
    "bold_driver": bold_driver,
    "reduce_on_plateau": _rule(
        factor="(0, 1)",
        patience=COUNT,  # With 0 optax reduces after each improvement, and never on a plateau.
        rtol="[0, 1]",
        atol="[0, inf)",
        cooldown="{0, 1, ...}",
        accumulation_size=COUNT,
        min_scale="[0, inf)",
    )(optax.contrib.reduce_on_plateau),
}
SCHEDULES: Mapping[str, Any] = {
    "cosine_decay_schedule": _rule(decay_steps="(0, inf)", alpha="[0, 1]", exponent="[0, inf)")(
        optax.cosine_decay_schedule
    ),
    "exponential_decay": _rule()(optax.exponential_decay),
    "linear_schedule": _rule()(optax.linear_schedule),
    "piecewise_constant": piecewise_constant,
    "polynomial_schedule": _rule(power="[0, inf)")(optax.polynomial_schedule),
}


@ranged(steps_per_epoch=COUNT)
def in_epochs(schedule: optax.Schedule, steps_per_epoch: int) -> optax.Schedule:
    """Converts a schedule over epochs to one over steps, constant within an epoch."""

    def by_step(step: Any) -> Any:
        return schedule(step // steps_per_epoch)

    return by_step


class Averaged(NamedTuple):
    """The state of `averaged`.

    count: i32[], updates done.
    average: the average of the parameters, in float32 if they have 16 bits; before the first
      update, their initial values.
    optimizer: the state of the optimizer.
    """

    count: Array
    average: Any
    optimizer: Any


def averaged(
    optimizer: optax.GradientTransformation, weight: Weights
) -> optax.GradientTransformationExtraArgs:
    """Returns the optimizer with an average a of the parameters in its state, `Averaged`.

        a_t = a_{t-1} + w_t (params_t - a_{t-1})

    The updates do not depend on the average.

    Args:
      weight: t -> w_t in [0, 1], t = 1, 2, ... the number of updates; `ema` or `swa`.

    Raises:
      UserError: an argument of another type; by `update`, without params.
    """
    check_optimizer(optimizer)
    check_callable(weight, "weight", such_as="ema(0.99)")
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Averaged:
        return Averaged(jnp.int32(0), _widened(params), inner.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Averaged]:
        _check_given("params", params)
        updates, optimizer_state = inner.update(updates, state.optimizer, params, **extra)
        count = state.count + 1
        moved = optax.apply_updates(params, updates)
        average = optax.incremental_update(_widened(moved), state.average, weight(count))
        return updates, Averaged(count, average, optimizer_state)

    return optax.GradientTransformationExtraArgs(init, update)


@ranged(decay="(0, 1)")
def ema(decay: float) -> Weights:
    """Returns the weights of `optax.ema` with debiasing, (1 - decay) / (1 - decay^t).

    Args:
      decay: in (0, 1).

    Raises:
      UserError: decay is not in (0, 1).
    """
    return lambda count: (decay - 1) / jnp.expm1(math.log(decay) * count)


@ranged(first=COUNT, every=COUNT)
def swa(first: int, every: int) -> Weights:
    """Returns the weights of stochastic weight averaging, the plain mean of some iterates.

    These are the iterates first, first + every, first + 2 every, ...; before the first of them, the
    average is the last iterate.

    Args:
      first: >= 1.
      every: >= 1; the updates of one epoch in the source.

    Raises:
      UserError: an argument below 1.

    Source: [izmailov2018], Algorithm 1 with a constant learning rate.
    """

    def weight(count: Array) -> Array:
        since = count - first
        index = jnp.maximum(since, 0) // every + 1
        return jnp.where(since < 0, 1.0, jnp.where(since % every == 0, 1 / index, 0.0))

    return weight


def _widened(params: Any) -> Any:
    """Returns parameters in float32 or wider: in 16 bits an average stops moving."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, working_dtype(dtype_of(leaf))), params)


def _are_weights(params: Any) -> Any:
    """Returns a mask of the leaves that are weights: those with two axes or more."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _add_signs(l1: Array | float) -> optax.GradientTransformation:
    """Adds the slope of l1 |W|_1 to the gradients."""

    def added(gradient: Array, weights: Array) -> Array:
        return gradient + l1 * jnp.sign(weights)

    return _with_weights(added)


def _scaled_convolutions(scale: Array | float) -> optax.GradientTransformation:
    """Scales the updates of convolutions, the layers whose kernel has four axes."""

    def is_convolution(node: Any) -> bool:
        return isinstance(node, Mapping) and "kernel" in node and node["kernel"].ndim == 4

    def scaled(node: Any) -> Any:
        return optax.tree.scale(scale, node) if is_convolution(node) else node

    return optax.stateless(lambda updates, _: jax.tree.map(scaled, updates, is_leaf=is_convolution))


def _inside_ball(max_norm: Array | float) -> optax.GradientTransformation:
    """Projects each unit's updated weights onto the l2 ball of radius max_norm."""

    def moved(update: Array, weights: Array) -> Array:
        if weights.ndim < 2:
            return update
        project = jax.vmap(optax.projections.projection_l2_ball, (-1, None), -1)
        return project(weights + update, max_norm) - weights

    return _with_weights(moved)


def _with_weights(change: Callable[[Array, Array], Array]) -> optax.GradientTransformation:
    """Maps `change`, (update, weights) -> update, over the leaves."""

    def changed(updates: Any, params: Any) -> Any:
        _check_given("params", params)
        return jax.tree.map(change, updates, params)

    return optax.stateless(changed)


def _check_given(name: str, value: Any) -> None:
    if value is None:
        raise UserError(f"{name} must be given to update, got None")

"""The training step and its wrappers over steps, replicas and devices.

make_step      (objective, optimizer) -> step(state, batch) -> (state, metrics)
over_replays   repeats a step on one batch
over_steps     maps a step over a leading axis of batches, by lax.scan
over_replicas  maps a function over a leading axis of replicas (seeds, hyper-parameters)
over_devices   maps a function over a leading axis of devices, by pmap

Call what they return under `jit`: bare, those with a loop compile it in each call.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from adv_jax.annotations import catch_all, function_name, unwrapped
from adv_jax.random import check_seed
from adv_jax.ranges import COUNT, ranged
from adv_jax.types import (
    Array,
    Batch,
    Key,
    Metrics,
    Objective,
    UserError,
    Variables,
    check_callable,
    check_choice,
    check_optimizer,
    check_variables,
    described,
    dtype_of,
    widened,
)

DEVICES = "devices"  # name of the pmapped axis
_STATISTICS = "batch_stats"  # Flax's collection of batch normalization
# optax mixes floats and integers, which strict dtype promotion forbids.
_optax_promotion = partial(jax.numpy_dtype_promotion, "standard")
TrainStep = Callable[["TrainState", Batch], tuple["TrainState", Metrics]]


class TrainState(flax.struct.PyTreeNode):
    """The state that a run carries from step to step.

    step: i32[], steps done.
    seed: i32[], of this replica; all random draws derive from seed and step.
    params, model_state: the model's variables.
    opt_state: the optimizer's state.
    hyper: {name: f32[]}, the real-valued settings that differ between replicas, which a step reads
      (docs/api/training.md has an example); runs name them by config path.
    """

    step: Array
    seed: Array
    params: Any
    model_state: Any
    opt_state: Any
    hyper: dict[str, Array]

    @property
    def variables(self) -> Variables:
        return {"params": self.params, **self.model_state}

    @property
    def key(self) -> Key:
        """The key of this step, derived from seed and step only, so that runs can be resumed."""
        return jax.random.fold_in(jax.random.key(self.seed), self.step)


def init_state(
    variables: Variables,
    optimizer: optax.GradientTransformation,
    *,
    seed: Array | int,
    hyper: dict[str, Array] | None = None,
) -> TrainState:
    """Returns the initial state for variables {"params": ..., **model_state}.

    Raises:
      UserError: the seed is not one whole number that int32 holds, variables lack "params", or the
        optimizer is no optax transformation.
    """
    check_seed(seed)
    check_variables(variables)
    check_optimizer(optimizer)
    model_state = {name: value for name, value in variables.items() if name != "params"}
    with _optax_promotion():
        opt_state = optimizer.init(variables["params"])
    return TrainState(
        step=jnp.int32(0),
        seed=jnp.int32(seed),
        params=variables["params"],
        model_state=model_state,
        opt_state=opt_state,
        hyper=hyper or {},
    )


@ranged(shards=COUNT, microbatches=COUNT)
def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    shards: int = 1,
    microbatches: int = 1,
) -> TrainStep:
    """Returns a function that does one gradient step.

    Args:
      objective: (variables, batch, *, key) -> (loss f32[], (model_state, metrics)), with the
        model, the attack and all options bound.
      optimizer: any optax transformation; it receives the loss as `value`.
      shards: devices that share each batch. If > 1, the step must run inside `over_devices`;
        groups of `shards` neighbors average gradients, model state and metrics.
      microbatches: equal parts of each batch (or shard) that are computed one after another, for
        batches whose activations exceed the memory. Their mean gradient is that of the batch if
        the loss is a mean over rows; each part draws its own noise. As with shards, a layer of
        batch normalization sees a part alone, and the means of its statistics are kept.

    Returns:
      step(state, batch) -> (state, metrics f32[] each), pure; the metrics include "loss". It warns
      if the objective leaves out the "batch_stats" of the state, which then stay as they are.

    Raises:
      UserError: the objective is no function or has arguments that are not bound, or it keeps a
        state of the rows of a batch, as `free` does, and batches are divided; the optimizer is no
        optax transformation, or a count is not at least 1; raised by `step`, if the state is no
        TrainState, the objective returns something else, or microbatches do not divide a batch.
    """
    check_callable(objective, "objective")
    _check_bound(objective)
    _check_divided(objective, {"shards": shards, "microbatches": microbatches})
    check_optimizer(optimizer)
    update = optax.with_extra_args_support(optimizer).update

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        _check_state(state)
        key = state.key
        if shards > 1:
            key = jax.random.fold_in(key, shard_index(shards))

        def loss(params, batch, key):
            variables = {"params": params, **state.model_state}
            found = objective(variables, batch, key=key)
            value, (model_state, metrics) = _checked_results(objective, found, state.model_state)
            return value, (model_state, jax.tree.map(_as_float, metrics))

        gradient = partial(jax.value_and_grad(loss, has_aux=True), state.params)
        if microbatches > 1:
            gradient = partial(_mean_over_parts, gradient, microbatches)
        (value, (model_state, metrics)), grads = gradient(batch, key)
        metrics = {**metrics, "loss": value}  # An objective may call a metric so too.
        if shards > 1:
            grads, model_state, metrics = mean_over_shards((grads, model_state, metrics), shards)
        with _optax_promotion():
            updates, opt_state = update(grads, state.opt_state, state.params, value=metrics["loss"])
        return (
            state.replace(
                step=state.step + 1,
                params=optax.apply_updates(state.params, updates),
                model_state={**state.model_state, **model_state},
                opt_state=opt_state,
            ),
            metrics,
        )

    return step


def _check_state(state: Any) -> None:
    if not isinstance(state, TrainState):
        found = f"{type(state).__module__}.{type(state).__qualname__}".removeprefix("builtins.")
        raise UserError(f"state must be a TrainState of step.init_state, got a {found}")


def _check_bound(objective: Objective) -> None:
    """Raises UserError unless an objective can be called with variables, a batch and a key."""
    try:
        signature = inspect.signature(objective)
    except (TypeError, ValueError):  # A builtin has none.
        return
    try:
        signature.bind(None, None, key=None)
    except TypeError:
        given = signature.parameters
        single = [p for p in given.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        if {"variables", "batch"} <= given.keys():
            own = {"variables", "batch", "key"}
        else:
            own = {*[p.name for p in single if p.kind != p.KEYWORD_ONLY][:2], "key"}
        free = " and ".join(p.name for p in single if p.default is p.empty and p.name not in own)
        if "key" not in given and catch_all(given) is None:
            bind = ": the key must be named key"
        else:
            bind = f": bind {free} with functools.partial" if free else ""
        found = f"one of ({', '.join(signature.parameters)})"
        allowed = "a function (variables, batch, *, key)"
        raise UserError(f"objective must be {allowed}, got {found}{bind}") from None


def _check_divided(objective: Any, parts: Mapping[str, int]) -> None:
    """Raises UserError if batches are divided for an objective that keeps a state of their rows."""
    for name, count in parts.items():
        if count > 1 and callable(getattr(unwrapped(objective), "state", None)):
            own = function_name(objective)
            raise UserError(
                f"{name} must be 1 for {own}, which keeps a state of whole batches, got {count}"
            )


def _mean_over_parts(fn: Callable, count: int, batch: Batch, key: Key) -> Any:
    """Returns the mean of fn(part, key) over equal parts of the rows, computed one by one."""
    if (rows := _length("batch", batch, of="rows")) % count:
        raise UserError(f"microbatches must divide the {rows} rows of a batch, got {count}")
    parts = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch)
    found = jax.eval_shape(fn, jax.tree.map(lambda leaf: leaf[0], parts), key)

    # A sum of many parts in bfloat16 would not grow any more.
    wide = lambda leaf: widened(leaf) if _is_float(leaf) else leaf

    def add(total: Any, part: tuple[Batch, Key]) -> tuple[Any, None]:
        added = lambda a, b: a + wide(b) if _is_float(a) else b
        return jax.tree.map(added, total, fn(*part)), None

    zeros = jax.tree.map(lambda leaf: wide(jnp.zeros(leaf.shape, leaf.dtype)), found)
    total, _ = jax.lax.scan(add, zeros, (parts, jax.random.split(key, count)))
    mean = lambda sum, like: (sum / count).astype(like.dtype) if _is_float(sum) else sum
    return jax.tree.map(mean, total, found)


def _checked_results(
    objective: Any, found: Any, before: Mapping[str, Any]
) -> tuple[Array, tuple[Any, Any]]:
    """Returns the results of an objective; raises UserError if they have another form.

    Parameters in the model state would replace those of the optimizer. A collection that it lacks
    stays as it was `before`; for statistics of batches this is often a mistake, and a warning.
    """
    match found:
        case (loss, (Mapping() as model_state, Mapping())):
            if _STATISTICS in before and _STATISTICS not in model_state:
                warnings.warn(
                    f"{function_name(objective)} returns no {_STATISTICS}, so that they stay as "
                    "they are: return the model_state of the pass with train=True, or to freeze "
                    f'them {{"{_STATISTICS}": variables["{_STATISTICS}"]}}',
                    stacklevel=2,
                )
            is_real = jnp.issubdtype(dtype_of(loss), jnp.floating)
            if np.shape(loss) == () and is_real and "params" not in model_state:
                return found
    allowed = "return (loss f32[], (model_state without params, {name: metric}))"
    raise UserError(f"objective must {allowed}, got {function_name(objective)}: {described(found)}")


def _as_float(metric: Any) -> Array:
    """Returns a metric as an array that parts of a batch average."""
    metric = jnp.asarray(metric)
    return metric if _is_float(metric) else metric.astype(jnp.float32)


def _is_float(leaf: Array) -> bool:
    """Returns whether parts average an array; integers, as a count of steps, they share."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _length(name: str, tree: Any, *, of: str) -> int:
    """Returns the length of the leading axis of all arrays of a tree, or raises UserError."""
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    if len(lengths) != 1 or () in lengths:
        counts = ", ".join(str(*length) or "a scalar" for length in sorted(lengths))
        found = f"{counts} in {described(tree)}" if lengths else described(tree)
        raise UserError(f"{name} must be arrays of equally many {of}, got {found}")
    return lengths.pop()[0]


@ranged(times=COUNT)
def over_replays(step: TrainStep, times: int) -> TrainStep:
    """Returns a function that takes `times` steps on one batch; its metrics are their means."""
    if times == 1:
        return step

    def steps(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        state, metrics = jax.lax.scan(lambda state, _: step(state, batch), state, length=times)
        return state, jax.tree.map(lambda values: values.mean(0), metrics)

    return steps


def over_steps(step: TrainStep) -> TrainStep:
    """Returns a function that runs S steps, on batches with a leading axis S, by `lax.scan`.

    Its metrics are f32[S] each.

    Raises:
      UserError: by the function, if arrays of the batches have different numbers of steps.
    """
    check_callable(step, "step")

    def steps(state: TrainState, batches: Batch) -> tuple[TrainState, Metrics]:
        _length("batches", batches, of="steps")
        return jax.lax.scan(step, state, batches)

    return steps


def over_replicas(fn: Callable, *, platform: str | None = None) -> Callable:
    """Maps fn over a leading axis of every argument; replicas are independent.

    Replicas are vectorized on accelerators and run in sequence on CPUs, where a batched matrix
    product is slower than single ones.

    platform: of the devices, such as "cpu"; None: that for which the program is lowered, which
      traces fn in both forms.

    Raises:
      UserError: by the function, if arguments have different numbers of replicas.
    """
    check_callable(fn, "fn")

    def in_sequence(*args: Any) -> Any:
        _length("arguments", args, of="replicas")
        return jax.lax.map(lambda args: fn(*args), args)

    def vectorized(*args: Any) -> Any:
        if _length("arguments", args, of="replicas") > 1:
            return jax.vmap(fn)(*args)
        # An axis of length 1 costs kernels on a GPU, such as batched products.
        alone = fn(*jax.tree.map(lambda leaf: leaf[0], args))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], alone)

    if platform is None:
        return partial(jax.lax.platform_dependent, cpu=in_sequence, default=vectorized)
    return in_sequence if platform == "cpu" else vectorized


def over_devices(
    fn: Callable,
    devices: Sequence[jax.Device] | None = None,
    *,
    in_axes: Any = 0,
    donate: tuple[int, ...] = (),
    by: str = "pmap",
) -> Callable:
    """Maps fn over a leading axis of every argument, one entry per device, by `jax.pmap`.

    devices: default: the first local ones.
    in_axes: as in jax.vmap, one number or None for each argument; None for an argument shared by
      all devices.
    donate: indices of donated arguments.
    by: "pmap", or "shard_map", JAX's successor, which gives the same numbers in one process.

    Raises:
      UserError: another `by`, no function, no devices; raised by the function, if there is not one
        entry per device of a shard_map.

    The function only maps; `adv_jax.runner.host.devices.layout` assigns replicas and their shards
    to devices.
    """
    check_choice("by", by, ("pmap", "shard_map"))
    check_callable(fn, "fn")
    if devices is not None and not len(devices):
        raise UserError("devices must be at least one device, got none")
    if by == "shard_map":
        return _by_shard_map(fn, devices or jax.local_devices(), in_axes, donate)
    return jax.pmap(fn, axis_name=DEVICES, in_axes=in_axes, devices=devices, donate_argnums=donate)


def _by_shard_map(
    fn: Callable, devices: Sequence[jax.Device], in_axes: Any, donate: tuple[int, ...]
) -> Callable:
    """Maps fn as `over_devices` does, over all of the devices, by `jax.shard_map`."""
    automatic = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((len(devices),), (DEVICES,), (automatic,), devices=tuple(devices))
    mapped, shared = jax.sharding.PartitionSpec(DEVICES), jax.sharding.PartitionSpec()

    def on_mesh(*args: Any) -> Any:
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        args = tuple(
            jax.tree.map(lambda leaf, axis=axis: jnp.moveaxis(leaf, axis, 0), arg) if axis else arg
            for arg, axis in zip(args, axes, strict=True)
        )
        split = [part for part, axis in zip(args, axes, strict=True) if axis is not None]
        for leaf in jax.tree.leaves(split):
            if leaf.shape[:1] != (len(devices),):
                allowed = f"arrays with one entry for each of {len(devices)} devices"
                raise UserError(f"arguments must be {allowed}, got {described(leaf)}")

        # The part of a device keeps the leading axis, of length 1.
        def on_device(*parts: Any) -> Any:
            own = (
                part if axis is None else jax.tree.map(lambda leaf: leaf[0], part)
                for part, axis in zip(parts, axes, strict=True)
            )
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], fn(*own))

        specs = tuple(shared if axis is None else mapped for axis in axes)
        # False: groups of shards differ, which the types of arrays cannot tell.
        return jax.shard_map(
            on_device, mesh=mesh, in_specs=specs, out_specs=mapped, check_vma=False
        )(*args)

    return jax.jit(on_mesh, donate_argnums=donate)


@ranged(shards=COUNT)
def shard_index(shards: int) -> Array:
    """Returns the index of this device's part of its replica's batches: i32[] in [0, shards)."""
    _devices_of(shards)
    return jax.lax.axis_index(DEVICES) % shards


@ranged(shards=COUNT)
def mean_over_shards(tree: Any, shards: int) -> Any:
    """Returns the mean over the devices that share a replica; of integers, the largest.

    The words of keys are integers, so the devices go on with one key.
    """
    groups = [list(range(i, i + shards)) for i in range(0, _devices_of(shards), shards)]
    leaves, structure = jax.tree.flatten(tree)
    floats = [leaf for leaf in leaves if _is_float(leaf)]
    means = iter(jax.lax.pmean(floats, DEVICES, axis_index_groups=groups))

    def largest(leaf: Array) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = largest(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        return jax.lax.pmax(leaf, DEVICES, axis_index_groups=groups)

    found = [next(means) if _is_float(leaf) else largest(leaf) for leaf in leaves]
    return jax.tree.unflatten(structure, found)


def _devices_of(shards: int) -> int:
    """Returns the number of devices of the map, or raises UserError if shards do not fit."""
    try:
        devices = jax.lax.axis_size(DEVICES)
    except NameError:
        raise UserError(f"shards must be 1 outside over_devices, got {shards}") from None
    if devices % shards:
        raise UserError(f"shards must divide the {devices} devices of over_devices, got {shards}")
    return devices

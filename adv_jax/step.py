"""A training step is a function, and scale is a wrapper around it.

make_step      (objective, optimizer) -> step(state, batch) -> (state, metrics)
over_steps     step -> the same over a leading axis of batches, by lax.scan
over_replicas  fn -> the same over a leading axis of replicas (seeds, hyper-parameters)
over_devices   fn -> the same over a leading axis of devices, by pmap: the only place of it
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from adv_jax.types import Array, Batch, Key, Metrics, Objective, UserError, Variables

DEVICES = "devices"  # name of the pmapped axis
Step = Callable[["TrainState", Batch], tuple["TrainState", Metrics]]


class TrainState(flax.struct.PyTreeNode):
    """All that a run carries from step to step; nothing random is carried but the seed.

    step: i32[], steps done.
    seed: i32[], of this replica.
    params, model_state: the model's variables.
    opt_state: the optimizer's.
    hyper: {config path: f32[]}, the real-valued settings that differ between replicas.
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
        """The key of this step, a function of seed and step: a resumed run replays its draws."""
        return jax.random.fold_in(jax.random.key(self.seed), self.step)


def init_state(
    variables: Variables,
    optimizer: optax.GradientTransformation,
    *,
    seed: Array | int,
    hyper: dict[str, Array] | None = None,
) -> TrainState:
    """The state before the first step, of fresh variables {"params": ..., **model_state}."""
    model_state = {name: value for name, value in variables.items() if name != "params"}
    return TrainState(
        step=jnp.int32(0),
        seed=jnp.int32(seed),
        params=variables["params"],
        model_state=model_state,
        opt_state=optimizer.init(variables["params"]),
        hyper=hyper or {},
    )


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    shards: int = 1,
) -> Step:
    """One gradient step.

    Args:
      objective: (variables, batch, *, key) -> (loss f32[], (model_state, metrics)), with the
        model, the attack and the numbers bound.
      optimizer: any optax transformation; one that takes the loss gets it, as `value`.
      shards: devices that share each batch. With more than one, the step must run inside
        `over_devices`, `shards` neighbours of which average gradients, model state and metrics.

    Returns:
      step(state, batch) -> (state, metrics f32[] each), pure; the metrics have "loss".
    """
    update = optax.with_extra_args_support(optimizer).update

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = state.key
        if shards > 1:
            key = jax.random.fold_in(key, shard_index(shards))

        def loss(params):
            return objective({"params": params, **state.model_state}, batch, key=key)

        (value, (model_state, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(
            state.params
        )
        metrics = {"loss": value, **metrics}
        if shards > 1:
            grads, model_state, metrics = mean_over_shards((grads, model_state, metrics), shards)
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


def over_steps(step: Step) -> Step:
    """(state, batches with a leading axis S) -> (state, metrics f32[S] each): S steps in one."""

    def steps(state: TrainState, batches: Batch) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(step, state, batches)

    return steps


def over_replicas(fn: Callable) -> Callable:
    """fn over a leading axis of every argument: replica i as if it ran alone.

    On accelerators replicas are vectorised. A CPU runs them one after another: there a product
    of stacked matrices is slower than as many single ones.
    """
    if jax.default_backend() != "cpu":
        return jax.vmap(fn)
    return lambda *args: jax.lax.map(lambda args: fn(*args), args)


def over_devices(
    fn: Callable,
    devices: Sequence[jax.Device] | None = None,
    *,
    in_axes: Any = 0,
    donate: tuple[int, ...] = (),
) -> Callable:
    """fn over a leading axis of every argument, one entry for each device; compiled.

    Without `devices` the first ones at hand are used. `in_axes`: as of jax.vmap, None for an
    argument that all share. `donate`: arguments that are used up.
    Replicas come first, as they need no communication; where devices are left over, neighbours
    share a replica's batches (`make_step`'s shards).
    """
    return jax.pmap(fn, axis_name=DEVICES, in_axes=in_axes, devices=devices, donate_argnums=donate)


def use_cores(*programs: tuple[int, int]) -> None:
    """Offers the CPU's cores as devices; before JAX's first computation.

    Work that is split by itself, as replicas or rows, goes faster on a core for each part than
    on all cores for one part after another. XLA_FLAGS that name a number of devices stand.

    Args:
      programs: replicas and shards of each program to come; none: of rows, which can be split into
        any number of parts.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        # Not os.cpu_count(): a batch system may give fewer than the machine has.
        affinity = getattr(os, "sched_getaffinity", None)  # Of Linux.
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        devices = max((_devices(*program, cores) for program in programs), default=cores)
        jax.config.update("jax_num_cpu_devices", devices)


def _devices(replicas: int, shards: int, cores: int) -> int:
    """Of a CPU, for one program.

    Cores that cannot share the replicas evenly take turns at more devices, up to four each: five
    replicas on two cores need half the time as five devices that they need on one after another.
    Shards wait for each other, and get no more devices than there are cores.
    """
    if shards > 1 or replicas <= cores:
        return max(1, min(replicas * shards, cores))
    return next((n for n in range(cores, 4 * cores + 1) if replicas % n == 0), cores)


def check_devices() -> None:
    """Starts JAX.

    Raises:
      UserError: JAX_PLATFORMS in the environment names what is not here.
    """
    try:
        jax.devices()
    # Of "cuda" without a GPU, JAX 0.10 only asserts that something was found.
    except (RuntimeError, AssertionError) as error:
        wanted = os.environ.get("JAX_PLATFORMS")
        reason = str(error).partition("\n")[0] or "there is no device of it"
        raise UserError(
            f"JAX_PLATFORMS is {wanted!r}; allowed is cpu, or none: {reason}"
        ) from error


def shard_index(shards: int) -> Array:
    """Which part of its replica's batches this device takes: i32[] in [0, shards)."""
    return jax.lax.axis_index(DEVICES) % shards


def mean_over_shards(tree: Any, shards: int) -> Any:
    """The mean over the devices that share a replica."""
    devices = jax.lax.axis_size(DEVICES)
    groups = [list(range(i, i + shards)) for i in range(0, devices, shards)]
    return jax.lax.pmean(tree, DEVICES, axis_index_groups=groups)


class Layout(NamedTuple):
    """Where the replicas run.

    devices: those used, of all processes; each has the same number of replicas.
    shards: neighbouring devices that share a replica's batches; 1 for none.
    """

    devices: list[jax.Device]
    shards: int

    def spread(self, tree: Any) -> Any:
        """Leaves [R, ...] -> [devices, replicas of a device, ...]."""
        groups = len(self.devices) // self.shards

        def spread(leaf):
            leaf = jnp.asarray(leaf)
            leaf = leaf.reshape(groups, leaf.shape[0] // groups, *leaf.shape[1:])
            return jnp.repeat(leaf, self.shards, axis=0)

        return jax.tree.map(spread, tree)

    def place(self, tree: Any) -> Any:
        """`spread`, with each part on its own device; a process holds its devices' parts."""
        own = slice(*self._own())
        parts = jax.tree.map(lambda leaf: leaf[own], self.spread(tree))
        return over_devices(lambda tree: tree, self.devices)(parts)

    def gather(self, tree: Any) -> Any:
        """The inverse of `spread`: leaves [devices, replicas of a device, ...] -> [R, ...]."""

        def gather(leaf):
            leaf = leaf[:: self.shards]
            return leaf.reshape(-1, *leaf.shape[2:])

        return jax.tree.map(gather, tree)

    def fetch(self, tree: Any) -> Any:
        """The inverse of `place`, as NumPy arrays, copied; every process gets all of it."""
        if jax.process_count() > 1:
            return self.gather(multihost_utils.process_allgather(tree, tiled=True))
        # Of an array for which there was no memory, NumPy's copy would abort the process.
        return self.gather(jax.tree.map(np.array, jax.block_until_ready(tree)))

    def copies(self, tree: Any) -> Any:
        """One copy of every leaf on each device: [...] -> [devices of this process, ...]."""
        copy = over_devices(lambda _, tree: tree, self.devices, in_axes=(0, None))
        return copy(jnp.arange(*self._own()), tree)

    def _own(self) -> tuple[int, int]:
        """The places of this process' devices among all."""
        each = len(self.devices) // jax.process_count()
        return each * jax.process_index(), each * (jax.process_index() + 1)


def layout(num_replicas: int, *, shards: int = 1) -> Layout:
    """As many of the devices at hand as divide the work evenly, as many of each process.

    Raises:
      UserError: fewer devices than shards, or no even division among the processes.
    """
    processes = jax.process_count()
    # Of one process after another; of each, as many as the one with the fewest has.
    hosts = [[d for d in jax.devices() if d.process_index == p] for p in range(processes)]
    most = min(map(len, hosts)) * processes // shards
    if not most:
        raise UserError(
            f"shards is {shards}; allowed are 1 to {min(map(len, hosts)) * processes}, "
            "the devices here"
        )
    even = [
        n
        for n in range(1, min(most, num_replicas) + 1)
        if num_replicas % n == 0 and n * shards % processes == 0
    ]
    if not even:
        raise UserError(
            f"replicas x shards are {num_replicas} x {shards}; allowed are multiples of "
            f"{processes}, the processes, that their {most * shards} devices can share evenly"
        )
    each = max(even) * shards // processes
    return Layout([device for devices in hosts for device in devices[:each]], shards)

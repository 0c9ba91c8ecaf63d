"""Builds the pure functions of one replica from a config.

The functions read a replica's real-valued settings from its state. One compiled program therefore
serves all replicas of a grid.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adv_jax import evaluate, models
from adv_jax.data import Dataset
from adv_jax.runner.config.building import (
    attacks_of,
    first_state_of,
    model_of,
    objective_and_optimizer,
    predicted_by,
)
from adv_jax.runner.config.document import with_values
from adv_jax.runner.config.optimizer import is_entrywise
from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.run.batches import Batches
from adv_jax.runner.run.measures import Measures
from adv_jax.runner.run.packing import Packing
from adv_jax.runner.run.weights import fitted, replaced
from adv_jax.runner.store.result import Loss
from adv_jax.step import TrainState, init_state, make_step, over_replays, over_steps
from adv_jax.types import Array, Batch, LogitsFn, Metrics, Objective, Variables

SMALL = 8192  # Largest number of entries of an array that is packed with others in an epoch.


class RunState(NamedTuple):
    """The checkpointed state of one replica.

    state: parameters, optimizer state and step.
    best: variables of the lowest validation error; {} without a validation set.
    best_error: f32[], the lowest validation error, a fraction, or the lowest validation loss of a
      model without classes; inf before the first epoch.
    best_epoch: i32[], its epoch, from 1; 0 before the first epoch.
    stopped: bool[], whether early stopping has ended the training.
    """

    state: TrainState
    best: Variables
    best_error: Array
    best_epoch: Array
    stopped: Array


class Functions(NamedTuple):
    """The functions of one replica: those of its `Experiment`, or what replays their traces."""

    init: Any
    epoch: Any
    monitor: Any
    evaluate: Any


class Experiment:
    """The functions of one replica: init, epoch, monitor and evaluate.

    They are pure. `arrays` are the arrays of the data set, `rows` the rows of the replica.

    steps_per_epoch: number of updates.
    model, apply: the Linen module, and its apply function.
    predicts: "labels", "real" or "loss"; see `adv_jax.models`.
    attacks: those of the evaluation, by name.
    measures: what `monitor` and `evaluate` measure.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        dataset: Dataset,
        sources: Mapping[str, LogitsFn] = MappingProxyType({}),
    ) -> None:
        """Builds each part once, so that invalid settings raise here.

        Args:
          config: the complete config.
          dataset: the output of `inputs.load`. If its test images are smaller than its training
            images, training takes random crops of the test size.
          sources: workdir -> trained model, for the fields `..._fn`. A missing source raises only
            when it is called.

        Raises:
          ConfigError: an unknown name or setting.
        """
        self._config, self._sources = config, sources
        self._may_stop = bool(config["patience"] or config.get("stop"))
        self._replays = config.get("replays", 1)
        self._batches = Batches(config, dataset)
        self.steps_per_epoch = self._batches.count * self._replays
        self.model = model_of(config["model"], sources)
        self.apply = models.apply_fn(self.model)
        self.predicts = predicted_by(self.model)
        self._parts({})
        self._is_entrywise = is_entrywise(config["optimizer"])
        self.attacks = attacks_of(config, sources)
        self.measures = Measures(config, self.apply, self.predicts, self.attacks, self._batches)

    def _parts(self, hyper: Mapping[str, Any]) -> tuple[Objective, optax.GradientTransformation]:
        """Returns the objective and the optimizer of a replica with these settings."""
        config, steps = with_values(self._config, hyper), self.steps_per_epoch
        objective, optim = objective_and_optimizer(config, self._sources, steps_per_epoch=steps)
        return partial(objective, self.apply), optim

    def init(self, seed: Array, hyper: dict[str, Array], start: Any = None) -> RunState:
        """Initializes a replica from its seed i32[] and its settings {path: f32[]}.

        start: the entry of `pretrained.starts` for this replica; None or {} for none.
        """
        x = jnp.zeros((2, *self._batches.shape), jnp.float32)
        variables = models.init(self.model, jax.random.key(seed), x)
        if start:
            variables = self._started(variables, start)
        if first := first_state_of(self._config["objective"]):
            batch = jnp.zeros((self._batches.size, *self._batches.shape), jnp.float32)
            variables = {**variables, **first(self.apply, variables, batch)}
        state = init_state(variables, self._parts(hyper)[1], seed=seed, hyper=hyper)
        return RunState(
            state=state,
            best=variables if self._config["data"]["num_valid"] else {},
            best_error=jnp.float32(jnp.inf),
            best_epoch=jnp.int32(0),
            stopped=jnp.bool_(False),
        )

    def _started(self, variables: Variables, start: Mapping[str, Any]) -> Variables:
        """Returns the initial variables with those of `model.weights` or `pretrained`."""
        if file := self._config["model"].get("weights"):
            return fitted(variables, start, file)
        convert = getattr(self.model, "converted", dict)
        return {**variables, "params": replaced(variables["params"], convert(start))}

    def epoch(
        self, run: RunState, arrays: Batch, rows: Mapping[str, Array], *, packed: bool = False
    ) -> tuple[RunState, Metrics]:
        """Trains for one epoch -> (run, metrics f32[batches] each).

        A stopped replica does not change, and its metrics are 0. If the training set is a stream,
        `arrays` are a chunk of its batches, {"x", "y"}, which are trained on in their order.

        packed: small arrays of the parameters are one vector in the loop, if the optimizer works
          entry by entry.
        """
        objective, optim = self._parts(run.state.hyper)
        shards = self._config["replicas"]["shards"]
        microbatches = self._config.get("microbatches", 1)
        packing = Packing(run.state.params, limit=SMALL if packed and self._is_entrywise else 0)
        objective = packing.objective(objective)
        step = make_step(objective, optim, shards=shards, microbatches=microbatches)
        step = over_replays(step, self._replays)

        def step_on(state: TrainState, part: Mapping[str, Array]) -> tuple[TrainState, Metrics]:
            return step(state, self._batches.batch(arrays, part, state.key))

        epoch = run.state.step // self.steps_per_epoch
        parts = self._batches.of_epoch(arrays, rows, run.state.seed, epoch)

        def train(state: TrainState) -> tuple[TrainState, Metrics]:
            state, metrics = over_steps(step_on)(packing.state(state), parts)
            return packing.unpacked(state), metrics

        state, metrics = _unless_stopped(run, train) if self._may_stop else train(run.state)
        return run._replace(state=state), metrics

    def monitor(
        self, run: RunState, arrays: Batch, rows: Mapping[str, Array]
    ) -> tuple[RunState, Metrics]:
        """Measures errors or losses after an epoch; updates the best model and `stopped`."""
        epoch = run.state.step // self.steps_per_epoch  # counted from 1
        measures, key = self.measures, run.state.key
        weights = self._weights(run.state)
        variables = measures.test_variables(weights, arrays, rows)
        metrics = measures.of_test_set(variables, arrays, key)
        if watched := self._config.get("monitor_attacks"):
            metrics |= measures.under_attacks(watched, variables, arrays, key)
        stopped = run.stopped
        if len(rows["valid"]):
            found = measures.of_rows(variables, arrays, rows["valid"], key)
            metrics[f"valid_{measures.name}"] = found
            better = (found < run.best_error) & ~run.stopped
            keep = partial(jax.tree.map, lambda new, old: jnp.where(better, new, old))
            run = run._replace(
                best=keep(weights, run.best),
                best_error=keep(found, run.best_error),
                best_epoch=keep(epoch, run.best_epoch),
            )
            if patience := self._config["patience"]:
                stopped |= epoch - run.best_epoch >= patience
        stop = self._config.get("stop")
        if stop or self._config.get("monitor_train"):
            found = measures.of_rows(variables, arrays, rows["train"], key)
            metrics[f"train_{measures.name}"] = found
        if stop:
            stopped |= _is_done(stop, run.state, metrics)
        return run._replace(stopped=stopped), metrics

    def _weights(self, state: TrainState) -> Variables:
        """Returns the variables to test: with `averaging`, those of the averaged weights."""
        if not self._config.get("averaging"):
            return state.variables
        return {**state.variables, "params": state.opt_state.average}

    def final_variables(self, run: RunState, arrays: Batch, rows: Mapping[str, Array]) -> Variables:
        """Returns the variables of the final (or best) model for testing."""
        return self.measures.test_variables(run.best or self._weights(run.state), arrays, rows)

    def evaluate(
        self, run: RunState, arrays: Batch, rows: Mapping[str, Array]
    ) -> evaluate.Curves | Loss:
        """Evaluates the final (or best) model on the test set, clean and under each attack."""
        variables = self.final_variables(run, arrays, rows)
        return self.measures.final(variables, arrays, jax.random.key(run.state.seed))


def initial(
    replicas: Sequence[Replica], starts: Mapping[str, Any] = MappingProxyType({})
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
    """Returns the arguments of `Experiment.init` for all replicas: i32[R], {path: f32[R]}, starts.

    starts: the output of `pretrained.starts`.
    """
    seeds = np.array([replica.seed for replica in replicas], np.int32)
    hyper = {
        path: np.array([replica.overrides[path] for replica in replicas], np.float32)
        for path in replicas[0].overrides
    }
    return seeds, hyper, dict(starts)


def _unless_stopped(
    run: RunState, train: Callable[[TrainState], tuple[TrainState, Metrics]]
) -> tuple[TrainState, Metrics]:
    """Returns train(run.state); after early stopping, the same state and metrics of 0."""
    _, metrics = jax.eval_shape(train, run.state)
    zeros = lambda state: (state, jax.tree.map(jnp.zeros_like, metrics))
    return jax.lax.cond(run.stopped, zeros, train, run.state)


def _is_done(stop: Mapping[str, float], state: TrainState, metrics: Metrics) -> Array:
    """Returns whether a condition of `stop` holds: bool[]."""
    done = metrics["train_error"] <= stop["train_error"]
    if "rate_scale" in stop:
        scale = optax.tree.get(state.opt_state, "scale")
        done |= scale <= stop["rate_scale"]
    return done

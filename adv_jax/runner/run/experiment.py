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
from adv_jax.data import Dataset, augmentation, epoch_order
from adv_jax.data.streams import in_natural_units
from adv_jax.evaluate.batching import over_rows
from adv_jax.optimizers import averaged
from adv_jax.runner.config.building import (
    attack_of,
    first_state_of,
    model_of,
    objective_of,
    predicted_by,
    replaced,
)
from adv_jax.runner.config.document import with_values
from adv_jax.runner.config.optimizer import averaging, is_entrywise, optimizer
from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.store.result import Loss
from adv_jax.step import (
    Packing,
    TrainState,
    init_state,
    make_step,
    over_replays,
    over_steps,
    shard_index,
)
from adv_jax.types import (
    Apply,
    Array,
    Batch,
    Key,
    LogitsFn,
    Metrics,
    Objective,
    Variables,
)

EVALUATION_BATCH = 500
SMALL = 8192  # Largest number of entries of an array that is packed with others in an epoch.
_AUGMENTED = 2**30  # Folded into a step's key, to differ from all keys of the objective.


class RunState(NamedTuple):
    """The checkpointed state of one replica.

    Attributes:
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


class Experiment:
    """The functions of one replica: init, epoch, monitor and evaluate.

    They are pure. `arrays` are the arrays of the data set, `rows` the rows of the replica.
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
        self._config = config
        self._inputs = dataset.test.x.shape[1:]
        self._crops = dataset.train.x.shape[1:] != self._inputs
        self._batch_size = config["batch_size"]
        self._streamed = dataset.stream is not None
        self._batches_per_epoch = (
            dataset.stream.num_batches
            if dataset.stream
            else (len(dataset.train.y) - config["data"]["num_valid"]) // self._batch_size
        )
        self._shards = config["replicas"]["shards"]
        self._may_stop = bool(config["patience"] or config.get("stop"))
        self._replays = config.get("replays", 1)
        self.steps_per_epoch = self._batches_per_epoch * self._replays
        self._sources = sources
        self.model = model_of(config["model"], sources)
        self.apply = models.apply_fn(self.model)
        self.predicts = predicted_by(self.model)
        self._parts({})
        self._is_entrywise = is_entrywise(config["optimizer"])
        self.attacks = {
            name: attack_of(spec, f"evaluation.attacks.{name}", sources, free=evaluate.SCALES)
            for name, spec in config["evaluation"]["attacks"].items()
        }

    def _parts(self, hyper: Mapping[str, Any]) -> tuple[Objective, optax.GradientTransformation]:
        config = with_values(self._config, hyper)
        objective = objective_of(config["objective"], "objective", self._sources)
        optim = optimizer(config["optimizer"], steps_per_epoch=self.steps_per_epoch)
        if average := config.get("averaging"):
            optim = averaged(optim, averaging(average, steps_per_epoch=self.steps_per_epoch))
        return partial(objective, self.apply), optim

    def init(self, seed: Array, hyper: dict[str, Array], start: Any = None) -> RunState:
        """Initializes a replica from its seed i32[] and its settings {path: f32[]}.

        start: pre-trained parameters, which replace those of equal names; None or {} for none.
        """
        x = jnp.zeros((2, *self._inputs), jnp.float32)
        variables = models.init(self.model, jax.random.key(seed), x)
        if start:
            convert = getattr(self.model, "converted", dict)
            variables = {**variables, "params": replaced(variables["params"], convert(start))}
        if first := first_state_of(self._config["objective"]):
            batch = jnp.zeros((self._batch_size, *self._inputs), jnp.float32)
            variables = {**variables, **first(self.apply, variables, batch)}
        state = init_state(variables, self._parts(hyper)[1], seed=seed, hyper=hyper)
        return RunState(
            state=state,
            best=variables if self._config["data"]["num_valid"] else {},
            best_error=jnp.float32(jnp.inf),
            best_epoch=jnp.int32(0),
            stopped=jnp.bool_(False),
        )

    def epoch(
        self, run: RunState, arrays: Batch, rows: Mapping[str, Array]
    ) -> tuple[RunState, Metrics]:
        """Trains for one epoch -> (run, metrics f32[batches] each).

        A stopped replica does not change, and its metrics are 0. If the training set is a stream,
        `arrays` are a chunk of its batches, {"x", "y"}, which are trained on in their order.
        """
        objective, optim = self._parts(run.state.hyper)
        microbatches = self._config.get("microbatches", 1)
        packing = Packing(run.state.params, limit=SMALL if self._is_entrywise else 0)
        objective = packing.objective(objective)
        step = make_step(objective, optim, shards=self._shards, microbatches=microbatches)
        step = over_replays(step, self._replays)

        def step_on(state, part):
            if self._streamed:
                x = unlabelled = in_natural_units(part["x"])
                y = part["y"]
            else:
                x, y = (arrays[name][part["labelled"]] for name in ("x", "y"))
                unlabelled = arrays.get("unlabelled", arrays["x"])[part["train"]]
            batch = {"x": x, "y": y, "unlabelled": unlabelled, "second": x}
            return step(state, self._augmented(state.key, batch))

        if self._streamed:
            parts = {name: self._batches(arrays[name]) for name in ("x", "y")}
        else:
            epoch = run.state.step // self.steps_per_epoch
            parts = {
                name: self._batches(self._shuffled(rows[name], run.state.seed, epoch))
                for name in ("labelled", "train")
            }

        def train(state):
            state, metrics = over_steps(step_on)(packing.state(state), parts)
            return packing.unpacked(state), metrics

        state, metrics = _unless_stopped(run, train) if self._may_stop else train(run.state)
        return run._replace(state=state), metrics

    def _augmented(self, key: Key, batch: Batch) -> Batch:
        """Distorts, crops and mirrors a batch at random, as the config says."""
        data = self._config["data"]
        settings = {name: data[name] for name in augmentation.OFF if name in data}
        if self._shards > 1:
            key = jax.random.fold_in(key, shard_index(self._shards))
        return {**batch} | {
            name: augmentation.augmented(
                jax.random.fold_in(key, _AUGMENTED + i), batch[name], self._inputs, **settings
            )
            for i, name in enumerate(("x", "unlabelled", "second"))
        }

    def _whole(self, arrays: Batch, rows: Array) -> Array:
        """Returns training images with the center crop of the test images: f32[n, *D]."""
        x = arrays["x"][rows]
        return augmentation.center_crop(x, self._inputs) if self._crops else x

    def _shuffled(self, rows: Array, seed: Array, epoch: Array) -> Array:
        """Shuffles rows for an epoch: i32[N] -> i32[batches * B].

        If there are fewer rows than the epoch needs, they repeat in the same order. If all rows are
        labeled, both halves of a batch are the same images, as in the ladder's reference code.
        """
        visited = self._batches_per_epoch * self._batch_size
        order = rows[epoch_order(seed, epoch, len(rows))]
        return jnp.tile(order, -(-visited // len(rows)))[:visited]

    def _batches(self, rows: Array) -> Array:
        """Cuts rows into batches, of which this shard has a part: [N, ...] -> [N / B, b, ...]."""
        each = self._batch_size // self._shards
        batches = rows.reshape(-1, self._shards, each, *rows.shape[1:])
        return batches[:, shard_index(self._shards) if self._shards > 1 else 0]

    def monitor(
        self, run: RunState, arrays: Batch, rows: Mapping[str, Array]
    ) -> tuple[RunState, Metrics]:
        """Measures errors or losses after an epoch; updates the best model and `stopped`."""
        epoch = run.state.step // self.steps_per_epoch  # counted from 1
        weights = self._weights(run.state)
        variables = self.test_variables(weights, arrays, rows)
        logits_fn = _logits_fn(self.apply, variables)
        measure = "loss" if self.predicts == "loss" else "error"

        def found_on(name: str) -> Array:
            """Returns the error or loss on a subset, gathering its images batch by batch."""
            seen = partial(self._whole, arrays)
            if measure == "loss":
                return self._loss(variables, rows[name], run.state.key, seen).mean
            labels = self._classes(arrays["y"][rows[name]])
            found = _clean(lambda rows: logits_fn(seen(rows)), rows[name], labels)
            # Round to whole images, so that comparisons do not depend on the compiled program.
            count = len(rows[name])
            return jnp.round(count * (1 - found.accuracy)) / count

        metrics = self._tested(variables, arrays, run.state.key)
        if watched := self._config.get("monitor_attacks"):
            metrics |= self._errors_under(watched, logits_fn, arrays, run.state.key)
        stopped = run.stopped
        if len(rows["valid"]):
            metrics[f"valid_{measure}"] = found = found_on("valid")
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
            metrics[f"train_{measure}"] = found_on("train")
        if stop:
            stopped |= _is_done(stop, run.state, metrics)
        return run._replace(stopped=stopped), metrics

    def _tested(self, variables: Variables, arrays: Batch, key: Key) -> Metrics:
        """Returns the error and the confidence on the test set, or the loss."""
        if self.predicts == "loss":
            return {"test_loss": self._loss(variables, arrays["test_x"], key).mean}
        labels = self._classes(arrays["test_y"])
        test = _clean(_logits_fn(self.apply, variables), arrays["test_x"], labels)
        return {"test_error": jnp.maximum(1 - test.accuracy, 0), "test_confidence": test.confidence}

    def _loss(
        self,
        variables: Variables,
        rows: Array,
        key: Key,
        images: Callable[[Array], Array] = lambda rows: rows,
    ) -> Loss:
        """Returns the mean loss of a model without classes.

        Args:
          rows: f32[N, *D], or i32[N], of which `images` makes the inputs batch by batch.
          key: for the model's noise.
        """

        def losses(rows: Array, index: Array) -> Array:
            own = jax.random.fold_in(key, index[0])
            return self.apply(variables, images(rows), key=own, method="row_loss").logits

        found = over_rows(losses, (rows, jnp.arange(len(rows))), batch_size=EVALUATION_BATCH)
        return Loss(found.mean())

    def _classes(self, labels: Array) -> Array:
        """Returns the classes that the model is to find: the labels, or 1 for real images."""
        return jnp.ones_like(labels) if self.predicts == "real" else labels

    def _errors_under(
        self, watched: Mapping[str, Any], logits_fn: LogitsFn, arrays: Batch, key: Key
    ) -> Metrics:
        """Returns {"NAME_error": f32[]} under `monitor_attacks`, of the first test images."""
        x, y = (arrays[name][: watched["rows"]] for name in ("test_x", "test_y"))
        attacks = {name: self.attacks[name] for name in watched["names"]}
        measure = partial(evaluate.curves, eps=[watched["eps"]], batch_size=EVALUATION_BATCH)
        curves = measure(logits_fn, x, self._classes(y), attacks, key=key).attacks
        return {f"{name}_error": jnp.maximum(1 - c.accuracy[0], 0) for name, c in curves.items()}

    def _weights(self, state: TrainState) -> Variables:
        """Returns the variables to test: with `averaging`, those of the averaged weights."""
        if not self._config.get("averaging"):
            return state.variables
        return {**state.variables, "params": state.opt_state.average}

    def test_variables(
        self, variables: Variables, arrays: Batch, rows: Mapping[str, Array]
    ) -> Variables:
        """Replaces the batch statistics by averages over the labeled training set.

        Averages the mean and the unbiased variance over batches in the order of the rows; those of
        a generator over as many batches of its images. Returns a model without batch statistics
        unchanged.
        """
        if "batch_stats" not in variables:
            return variables
        size = min(self._batch_size, len(rows["labelled"]))
        count = len(rows["labelled"]) // size
        batches = rows["labelled"][: count * size].reshape(count, size)

        def stats_of(rows: Array) -> Any:
            x = self._whole(arrays, rows)
            seen = {**variables, **self.apply(variables, x, train=True).model_state}
            if self.predicts != "real":
                return seen["batch_stats"]
            # The generator has as many images, drawn by a key that differs between batches.
            key = jax.random.key(rows[0])
            drawn = self.apply(seen, x, train=True, key=key, method="sample")
            return drawn.model_state["batch_stats"]

        stats = jax.lax.map(stats_of, batches)
        return {**variables, "batch_stats": jax.tree.map(lambda s: s.mean(0), stats)}

    def final_variables(self, run: RunState, arrays: Batch, rows: Mapping[str, Array]) -> Variables:
        """Returns the variables of the final (or best) model for testing."""
        return self.test_variables(run.best or self._weights(run.state), arrays, rows)

    def logits_fn(self, run: RunState, arrays: Batch, rows: Mapping[str, Array]) -> LogitsFn:
        """Returns the final (or best) model for testing."""
        return _logits_fn(self.apply, self.final_variables(run, arrays, rows))

    def evaluate(
        self, run: RunState, arrays: Batch, rows: Mapping[str, Array]
    ) -> evaluate.Curves | Loss:
        """Evaluates the final (or best) model on the test set, clean and under each attack."""
        if self.predicts == "loss":
            variables = self.final_variables(run, arrays, rows)
            return self._loss(variables, arrays["test_x"], jax.random.key(run.state.seed))
        return evaluate.curves(
            self.logits_fn(run, arrays, rows),
            arrays["test_x"],
            self._classes(arrays["test_y"]),
            self.attacks,
            eps=self._config["evaluation"]["eps"],
            batch_size=EVALUATION_BATCH,
            key=jax.random.key(run.state.seed),
        )


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


def _clean(logits_fn: LogitsFn, x: Array, y: Array) -> evaluate.Clean:
    return evaluate.clean(logits_fn, x, y, batch_size=EVALUATION_BATCH)


def _logits_fn(apply: Apply, variables: Variables) -> LogitsFn:
    return lambda x: apply(variables, x).logits

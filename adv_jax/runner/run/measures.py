"""Measures a model: errors or losses, clean and under attack."""

from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from adv_jax import evaluate
from adv_jax.evaluate.batching import over_rows
from adv_jax.runner.run.batches import Batches
from adv_jax.runner.store.result import Loss
from adv_jax.types import Apply, Array, Attack, Batch, Key, LogitsFn, Metrics, Variables

EVALUATION_BATCH = 500  # rows that are evaluated at once


class Measures:
    """The measures of one replica's model. Its methods are pure.

    name: "loss" for a model without classes, else "error".
    attacks: the attacks of the evaluation, by name.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        apply: Apply,
        predicts: str,
        attacks: Mapping[str, Attack],
        batches: Batches,
    ) -> None:
        """Takes the config, and the parts of an `Experiment` that are built from it."""
        self._config, self._apply, self._predicts = config, apply, predicts
        self._attacks, self._batches = attacks, batches
        self.name = "loss" if predicts == "loss" else "error"

    def logits_fn(self, variables: Variables) -> LogitsFn:
        """Returns a model for testing."""
        return lambda x: self._apply(variables, x).logits

    def of_test_set(self, variables: Variables, arrays: Batch, key: Key) -> Metrics:
        """Returns the error and the confidence on the test set, or the loss."""
        if self.name == "loss":
            return {"test_loss": self._loss(variables, arrays["test_x"], key).mean}
        labels = self._classes(arrays["test_y"])
        test = self._clean(self.logits_fn(variables), arrays["test_x"], labels)
        error = _error(test.accuracy, len(labels))
        return {"test_error": error, "test_confidence": test.confidence}

    def of_rows(self, variables: Variables, arrays: Batch, rows: Array, key: Key) -> Array:
        """Returns the error or the loss on training rows, gathering their images batch by batch."""

        def seen(rows: Array) -> Array:
            return self._batches.center_cropped(arrays, rows)

        if self.name == "loss":
            return self._loss(variables, rows, key, seen).mean
        labels = self._classes(arrays["y"][rows])
        logits_fn = self.logits_fn(variables)
        found = self._clean(lambda rows: logits_fn(seen(rows)), rows, labels)
        return _error(found.accuracy, len(rows))

    def under_attacks(
        self, watched: Mapping[str, Any], variables: Variables, arrays: Batch, key: Key
    ) -> Metrics:
        """Returns {"NAME_error": f32[]} under `monitor_attacks`, of the first test images."""
        x, y = (arrays[name][: watched["rows"]] for name in ("test_x", "test_y"))
        attacks = {name: self._attacks[name] for name in watched["names"]}
        found = evaluate.curves(
            self.logits_fn(variables),
            x,
            self._classes(y),
            attacks,
            eps=[watched["eps"]],
            batch_size=EVALUATION_BATCH,
            key=key,
        )
        curves = found.attacks.items()
        return {f"{name}_error": _error(curve.accuracy[0], len(y)) for name, curve in curves}

    def final(self, variables: Variables, arrays: Batch, key: Key) -> evaluate.Curves | Loss:
        """Returns all measures on the test set, clean and under each attack."""
        if self.name == "loss":
            return self._loss(variables, arrays["test_x"], key)
        return evaluate.curves(
            self.logits_fn(variables),
            arrays["test_x"],
            self._classes(arrays["test_y"]),
            self._attacks,
            eps=self._config["evaluation"]["eps"],
            batch_size=EVALUATION_BATCH,
            key=key,
        )

    def test_variables(
        self, variables: Variables, arrays: Batch, rows: Mapping[str, Array]
    ) -> Variables:
        """Replaces the batch statistics by averages over the labeled training set.

        Averages the mean and the unbiased variance over batches in the order of the rows; those of
        a generator over as many batches of its images. Noise and dropout are off where the model
        works without a key. Returns a model without batch statistics unchanged.
        """
        if "batch_stats" not in variables:
            return variables
        size = min(self._batches.size, len(rows["labeled"]))
        count = len(rows["labeled"]) // size
        batches = rows["labeled"][: count * size].reshape(count, size)

        def after(rows: Array) -> tuple[Array, Variables]:
            """Returns a batch, and the variables with its statistics."""
            x = self._batches.center_cropped(arrays, rows)
            try:
                found = self._apply(variables, x, train=True)
            except flax.errors.InvalidRngError:  # A module that has no pass without its dropout.
                found = self._apply(variables, x, train=True, key=jax.random.key(rows[0]))
            return x, {**variables, **found.model_state}

        def of_batch(rows: Array) -> Array:
            # As one vector: on a GPU each array costs a copy in each turn.
            return ravel_pytree(after(rows)[1]["batch_stats"])[0]

        def of_batch_and_samples(rows: Array) -> Any:
            x, seen = after(rows)
            # The generator has as many images, drawn by a key that differs between batches. Its
            # arrays stay apart, so that XLA leaves out its pass if only the discriminator is read.
            key = jax.random.key(rows[0])
            drawn = self._apply(seen, x, train=True, key=key, method="sample")
            return drawn.model_state["batch_stats"]

        def averaged(stats_of: Callable[[Array], Any]) -> Any:
            return jax.tree.map(lambda s: s.mean(0), jax.lax.map(stats_of, batches))

        if self._predicts == "real":
            return {**variables, "batch_stats": averaged(of_batch_and_samples)}
        stats = averaged(of_batch)
        return {**variables, "batch_stats": ravel_pytree(variables["batch_stats"])[1](stats)}

    def _classes(self, labels: Array) -> Array:
        """Returns the classes that the model is to find: the labels, or 1 for real images."""
        return jnp.ones_like(labels) if self._predicts == "real" else labels

    def _clean(self, logits_fn: LogitsFn, x: Array, y: Array) -> evaluate.Clean:
        return evaluate.clean(logits_fn, x, y, batch_size=EVALUATION_BATCH)

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
            return self._apply(variables, images(rows), key=own, method="row_loss").logits

        found = over_rows(losses, (rows, jnp.arange(len(rows))), batch_size=EVALUATION_BATCH)
        return Loss(found.mean())


def _error(accuracy: Array, count: int) -> Array:
    """Rounds the error to whole rows, so that it does not depend on the compiled program."""
    return jnp.abs(jnp.round(count * (1 - accuracy))) / count

"""The batches of an epoch: which rows they have, in which order, and how they are augmented."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from adv_jax.data import Dataset, augmentation, epoch_order
from adv_jax.data.streams import in_natural_units
from adv_jax.step import shard_index
from adv_jax.types import Array, Batch, Key

_AUGMENTED = 2**30  # Folded into a step's key, to differ from all keys of the objective.


class Batches:
    """The training batches of one replica. Its methods are pure.

    count: the number of batches in an epoch.
    size: B, the number of rows in a batch; each of several shards trains on its part.
    shape: of an input in training and in tests, [*D].
    """

    def __init__(self, config: Mapping[str, Any], dataset: Dataset) -> None:
        """If the test images are smaller than the training images, training takes random crops."""
        self.size, self.shape = config["batch_size"], dataset.test.x.shape[1:]
        self._data, self._shards = config["data"], config["replicas"]["shards"]
        self._crops = dataset.train.x.shape[1:] != self.shape
        self._streamed = dataset.stream is not None
        self.count = (
            dataset.stream.num_batches
            if dataset.stream
            else (len(dataset.train.y) - config["data"]["num_valid"]) // self.size
        )

    def of_epoch(
        self, arrays: Batch, rows: Mapping[str, Array], seed: Array, epoch: Array
    ) -> dict[str, Array]:
        """Returns what `batch` needs of each batch, with a leading axis of batches.

        These are the rows of its two halves, {"labeled", "train"}. If the training set is a stream,
        `arrays` are a chunk of its batches, {"x", "y"}, and the batches themselves are returned.
        """
        if self._streamed:
            return {name: self._cut(arrays[name]) for name in ("x", "y")}
        halves = ("labeled", "train")
        return {name: self._cut(self._shuffled(rows[name], seed, epoch)) for name in halves}

    def batch(self, arrays: Batch, part: Mapping[str, Array], key: Key) -> Batch:
        """Returns a batch {"x", "y", "unlabeled"} with random distortions and crops, if any.

        With some it also has "second", the images of x with distortions and crops of their own.
        """
        if self._streamed:
            x = unlabeled = in_natural_units(part["x"])
            y = part["y"]
        else:
            x, y = (arrays[name][part["labeled"]] for name in ("x", "y"))
            unlabeled = arrays.get("unlabeled", arrays["x"])[part["train"]]
        settings = {
            name: self._data[name]
            for name, off in augmentation.OFF.items()
            if self._data.get(name, off) != off
        }
        if self._shards > 1:
            key = jax.random.fold_in(key, shard_index(self._shards))
        images = {"x": x, "unlabeled": unlabeled}
        if settings or self._crops:
            images["second"] = x
        return {"y": y} | {
            name: augmentation.augmented(
                jax.random.fold_in(key, _AUGMENTED + i), image, self.shape, **settings
            )
            for i, (name, image) in enumerate(images.items())
        }

    def center_cropped(self, arrays: Batch, rows: Array) -> Array:
        """Returns training images with the center crop of the test images: f32[n, *D]."""
        x = arrays["x"][rows]
        return augmentation.center_crop(x, self.shape) if self._crops else x

    def _shuffled(self, rows: Array, seed: Array, epoch: Array) -> Array:
        """Shuffles rows for an epoch: i32[N] -> i32[batches * B].

        If there are fewer rows than the epoch needs, they repeat in the same order. If all rows are
        labeled, both halves of a batch are the same images, as in the ladder's reference code.
        """
        visited = self.count * self.size
        order = rows[epoch_order(seed, epoch, len(rows))]
        return jnp.tile(order, -(-visited // len(rows)))[:visited]

    def _cut(self, rows: Array) -> Array:
        """Cuts rows into batches, of which this shard has a part: [N, ...] -> [N / B, b, ...]."""
        batches = rows.reshape(-1, self._shards, self.size // self._shards, *rows.shape[1:])
        return batches[:, shard_index(self._shards) if self._shards > 1 else 0]

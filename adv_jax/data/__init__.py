"""Data sets as arrays in natural units, their splits, and the order of an epoch.

>>> from adv_jax import data
>>> digits = data.load("mnist", source="embedded")
>>> digits.train.x.shape, digits.test.x.shape
((4000, 28, 28, 1), (1000, 28, 28, 1))
>>> train, valid = data.split(digits.train.y, num_valid=500, seed=0)
>>> data.epoch_order(0, 1, len(train)).shape
(3500,)

Invalid files and arguments raise a `DataError` with a one-line message.
"""

from adv_jax.data.arrays import from_arrays
from adv_jax.data.dataset import Arrays, DataError, Dataset, MissingData
from adv_jax.data.loading import load
from adv_jax.data.splits import epoch_order, labeled_subset, split
from adv_jax.data.streams import from_batches

__all__ = [
    "Arrays",
    "DataError",
    "Dataset",
    "MissingData",
    "epoch_order",
    "from_arrays",
    "from_batches",
    "labeled_subset",
    "load",
    "split",
]

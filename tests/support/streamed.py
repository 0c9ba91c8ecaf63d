"""Data sets as a user loads them: the embedded digits in memory and in batches."""

import itertools

import numpy as np

from adv_jax import data

ROWS, BATCH, SEED = 280, 40, 3
calls = itertools.count()
fails_at = -1  # the number of the call of `batches` that raises


def digits():
    whole = data.load("mnist", source="embedded")
    return data.Arrays(whole.train.x[:ROWS], whole.train.y[:ROWS]), whole.test


def in_memory():
    train, test = digits()
    return data.from_arrays("digits", train=train, test=(test.x[:50], test.y[:50]), bounds=(0, 1))


def batches(epoch):
    """Yields the batches that a run of the seed takes of the data in memory."""
    if next(calls) == fails_at:
        raise OSError("the disk is gone")
    (x, y), _ = digits()
    order = np.asarray(data.epoch_order(SEED, epoch, ROWS)).reshape(-1, BATCH)
    return ((x[rows], y[rows]) for rows in order)


def load():
    _, test = digits()
    return data.from_batches(
        "digits",
        train=batches,
        num_batches=ROWS // BATCH,
        test=(test.x[:50], test.y[:50]),
        num_classes=10,
        bounds=(0, 1),
    )

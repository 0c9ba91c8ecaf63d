"""Trainings that take seconds: flags, configs, data, and the comparison of two runs."""

import json
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from adv_jax import data
from adv_jax.data import files

QUICK = "--config=configs/quickstart.py:quick"
LADDER = "--config=configs/ladder_mnist.py:quick"
EPOCHS = 20
TINY = [
    QUICK,
    "--config.model.features=(8,)",
    "--config.batch_size=500",
    "--config.data.num_valid=3000",  # so that an epoch has two steps
    f"--config.epochs={EPOCHS}",
    "--config.evaluation.eps=(0.0, 0.1, 0.2)",
]


def few_digits(num_train: int, num_test: int) -> data.Dataset:
    """Returns the first embedded digits."""
    whole = data.load("mnist", source="embedded")
    train, test = whole.train, whole.test
    return whole._replace(
        train=data.Arrays(train.x[:num_train], train.y[:num_train]),
        test=data.Arrays(test.x[:num_test], test.y[:num_test]),
    )


def serve(patch: pytest.MonkeyPatch, dataset: data.Dataset) -> None:
    """Lets `data.load` return this data set, whatever it is asked for."""
    patch.setattr(data, "load", lambda name, *, source, dir: dataset)


def document(*, seeds=1, seed=3, num_labels=0, features=(8,), init="fan_in"):
    """Returns a config of two epochs."""
    attack = {"name": "fgsm", "norm": "linf", "eps": 0.1}
    mixed = {"name": "adversarial_mix", "alpha": 0.5, "attack": attack}
    return {
        "experiment": "small",
        "seed": seed,
        "replicas": {"seeds": seeds, "grid": None, "shards": 1},
        "data": {"name": "mnist", "source": "embedded", "dir": "", "num_valid": 0}
        | {"num_labels": num_labels},
        "model": {"name": "mlp", "features": features, "num_classes": 10}
        | {"output_init": {"name": init}},
        "objective": mixed if features else {"name": "cross_entropy"},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "epochs": 2,
        "batch_size": 40,
        "patience": 0,
        "monitor_every": 1,
        "checkpoint_every": 1,
        "checkpoints_kept": 2,
        "trackers": (),
        "evaluation": {"attacks": {"fgsm": {"name": "fgsm"}}, "eps": (0.0, 0.2)},
    }


def result_of(workdir: Path) -> dict:
    return json.loads((workdir / "result.json").read_text())


def digest(path: Path) -> str:
    return files.sha256(path)


def assert_same_run(workdir: Path, other: Path, *, epochs: int = EPOCHS) -> None:
    """Asserts that metrics, result and final parameters are equal bit for bit.

    Ignores the seconds, and the commit, which may change while the tests run.
    """
    mask = {"seconds": 0, "git": None}
    assert (workdir / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert result_of(workdir) | mask == result_of(other) | mask
    ours, theirs = (
        ocp.PyTreeCheckpointer().restore(folder / "checkpoints" / str(epochs) / "tree")
        for folder in (workdir, other)
    )
    assert len(jax.tree.leaves(ours)) > 5
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)

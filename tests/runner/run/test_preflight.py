"""Preflight: configs whose parts do not fit are refused before a run writes anything."""

import jax
import pytest
import short_run
from short_run import serve

from adv_jax import data
from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import training
from adv_jax.types import UserError


@pytest.fixture(scope="module")
def digits():
    return short_run.few_digits(400, 200)


@pytest.fixture(autouse=True)
def load_digits(monkeypatch, digits):
    serve(monkeypatch, digits)


def document(**changes):
    """A config of two epochs; keys of `changes` are paths with __ for the dot."""
    return with_values(short_run.document(), {k.replace("__", "."): v for k, v in changes.items()})


def ladder_of(layers="6-10", **changes):
    return {
        "model": {"name": "ladder", "layers": layers, "noise_std": (0.1,) * 3},
        "objective": {"name": "ladder", "weights": (1.0, 0.1, 0.1)},
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model__num_classes": 5},
            "model must have 10 classes, as data.name has, got 5; did you mean "
            "model.num_classes=10?",
        ),
        (
            {"objective": {"name": "consistency", "attack": {"name": "fgsm", "eps": 0.1}}},
            "batch must have second, another augmentation of x",
        ),
        (ladder_of("6-3"), "model must have 10 classes, as data.name has, got 3"),
        (
            ladder_of(replicas__shards=2),
            "replicas.shards must be 1 for a model with batch normalization, got 2",
        ),
        (
            ladder_of(microbatches=2),
            "microbatches must be 1 for a model with batch normalization, got 2",
        ),
        (
            {"batch_size": 50, "microbatches": 3},
            "microbatches must be a divisor of batch_size / replicas.shards, 50, got 3",
        ),
        (
            {"objective": {"name": "free", "eps": 0.1}, "replicas__shards": 2},
            "replicas.shards must be 1 for objective.free, got 2",
        ),
        (
            ladder_of(model=document()["model"]),
            "model must have a method 'autoencode', got MLP",
        ),
        (
            {"objective": {"name": "vae"}},
            "model.name must be a model that predicts 'loss', as objective.vae trains it, "
            "got 'mlp', which predicts 'labels'",
        ),
        (
            {
                "objective": {
                    "name": "awp",
                    "objective": {"name": "cross_entropy"},
                    "attack": {"name": "fgsm", "eps": 0.1},
                }
            },
            "objective.objective.name must be an objective that takes an attack, "
            "got 'cross_entropy'",
        ),
        (
            {
                "objective": {
                    "name": "lwa_rep",
                    "layer": 1,
                    "attack": {"name": "fgsm", "eps": 0.1},
                },
                "replicas__grid": {"objective.layer": (1, 2)},
            },
            "replicas.grid must be fields that JAX can trace",
        ),
        # The sizes of the grid, in either order.
        *(
            (
                {
                    "objective__attack__bounds": (0.0, 1.0),
                    "replicas__grid": {"objective.attack.eps": sizes},
                },
                "objective.attack.eps must be at most 1, the linf width of the bounds (0.0, 1.0), "
                "got 2",
            )
            for sizes in ((0.1, 2.0), (2.0, 0.1))
        ),
        (ladder_of("6-ten"), "layer 2 of model.layers must be UNITS, fc:UNITS"),
        (
            ladder_of(objective={"name": "ladder", "weights": (1.0, 0.1, 0.1), "draw": "new"}),
            "objective.draw must be fresh or same, got 'new'",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(UserError) as error:
        training.run(document(**changes), tmp_path / "run")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_run_without_jit_is_refused_before_anything_is_written(tmp_path):
    with (
        jax.disable_jit(),
        pytest.raises(UserError, match="jax_disable_jit must be False, .*, got True$"),
    ):
        training.run(document(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_outside_the_bounds_of_the_data_set_are_refused(tmp_path, digits, monkeypatch):
    bright = digits._replace(test=data.Arrays(digits.test.x * 255, digits.test.y))
    serve(monkeypatch, bright)
    with pytest.raises(data.DataError, match=r"\(0.0, 1.0\), got values from 0 to 255"):
        training.run(document(), tmp_path / "run")
    assert not (tmp_path / "run").exists()

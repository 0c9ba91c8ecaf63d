"""Nets on inputs of Covertype's scales, made up: what docs/experiments.md says of `inputs=raw`."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from adv_jax import data, train
from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import trained

ROOT = Path(__file__).parents[3]
# UCI's ranges of the ten measured features, and its shares of the classes.
LOW = np.array([1859, 0, 0, 0, -173, 0, 0, 0, 0, 0])
HIGH = np.array([3858, 360, 66, 1397, 601, 7117, 254, 254, 254, 7173])
SHARES = np.array([0.3646, 0.4876, 0.0615, 0.0047, 0.0163, 0.0299, 0.0354])


def cells(count, seed):
    """Uniform measurements, two flags, and a class drawn without regard to them."""
    rng = np.random.default_rng(seed)
    area, soil = np.eye(4)[rng.integers(4, size=count)], np.eye(40)[rng.integers(40, size=count)]
    x = np.concatenate([rng.uniform(LOW, HIGH, (count, 10)), area, soil], axis=1)
    return data.Arrays(x.astype(np.float32), rng.choice(7, count, p=SHARES).astype(np.int32))


@pytest.mark.slow
@pytest.mark.parametrize("inputs", ["raw", "standardized"])
def test_most_relus_die_on_inputs_without_scaling(monkeypatch, tmp_path, inputs):
    made_up = data.Dataset("covtype", "drawn", {}, cells(2500, 0), cells(500, 1), 7, None)
    monkeypatch.setattr(data, "load", lambda name, *, source, dir: made_up)
    get_config = runpy.run_path(str(ROOT / "configs/shallow_covtype.py"))["get_config"]
    config = get_config(f"quick,model=A,inputs={inputs}").to_dict()
    changes = {"epochs": 2, "data.num_valid": 500, "evaluation.eps": (0.0,)}
    train.run(with_values(config, changes), tmp_path / "run")
    model = trained.load(str(tmp_path / "run"))
    output = model.apply(model.variables, model.dataset.train.x)
    (hidden,) = map(np.asarray, output.extras.values())
    dead = np.mean((hidden == 0).all(axis=0))
    if inputs == "standardized":
        assert dead < 0.05
        return
    predictions = np.asarray(output.logits).argmax(axis=1)
    assert dead > 0.75 and np.mean(predictions == 1) > 0.95  # class 2 of 7, the most frequent

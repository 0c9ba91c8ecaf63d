"""Nets on inputs of Covertype's scales, made up: what docs/experiments.md says of `inputs=raw`."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from short_run import serve

from adv_jax import data, train
from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import trained
from papers.shallow_thesis import valid_rows

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
    serve(monkeypatch, made_up)
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


def least_margins(x, y, w, low, high, eps):
    """The least margin of each row of a linear net over the valid rows in the ball: f64[N].

    low, high: f[54], the two inputs of each category, which is in reach if they are eps apart.
    """
    slopes = w[:, y].T[:, None] - w.T[None]  # [N, K, D]: of the margins over each class
    margins = np.einsum("nd,nkd->nk", x, slopes) - eps * np.abs(slopes[:, :, :10]).sum(-1)
    for group in (slice(10, 14), slice(14, 54)):
        here = x[:, group] == high[group]
        change = slopes[:, :, group] * (high - low)[group]
        near = np.broadcast_to((high - low)[group] <= eps, here.shape)
        free = here | (near & (here & near).any(1, keepdims=True))
        margins += np.where(free[:, None], change, np.inf).min(-1)
        margins -= (change * here[:, None]).sum(-1)
    margins[np.arange(len(y)), y] = np.inf
    return margins.min(axis=1)


@pytest.mark.parametrize(
    "scaled",
    [
        pytest.param(True, marks=pytest.mark.slow),
        pytest.param(False, marks=pytest.mark.exhaustive),
    ],
    ids=["standardized", "raw"],
)
def test_accuracy_among_valid_rows_is_that_of_the_best_attack_on_a_linear_net(scaled, monkeypatch):
    sizes = (0, 0.25, 0.5, 0.75, 1.5)
    monkeypatch.setattr(valid_rows, "SIZES", np.array(sizes))
    seen, x = cells(400, 0).x, cells(60, 1).x
    if scaled:  # A rare category is as long as one of a share of 4 %.
        mean, std = seen.mean(0), np.maximum(seen.std(0), 0.2)
        seen, x = (seen - mean) / std, (x - mean) / std
    rng = np.random.default_rng(3)
    w = (rng.normal(size=(54, 7)) * np.r_[np.full(10, 0.1), np.ones(44)][:, None]).astype("f")
    w[:10] /= np.maximum(seen[:, :10].std(0), 1)[:, None]
    y = (x @ w).argmax(1).astype(np.int32)
    parts = data.Arrays(seen, np.zeros(400, np.int32)), data.Arrays(x, y)
    dataset = data.Dataset("covtype", "drawn", {}, *parts, 7, None)
    found = valid_rows._of_model(SimpleNamespace(logits_fn=lambda x: x @ w, dataset=dataset))
    low, high = (limit(np.concatenate([x, seen]), axis=0) for limit in (np.min, np.max))
    expected = [(least_margins(x, y, w, low, high, eps) > 0).mean() for eps in sizes]
    np.testing.assert_allclose(found["valid"], expected, atol=1e-6)
    assert found["share"].tolist() == [1, 0, 0, 0, 0]
    assert found["fgsm"][1] < found["valid"][1]

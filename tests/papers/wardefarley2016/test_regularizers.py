"""Errors of ensembles and of nets with weight decay: on linear models, against NumPy in float64."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax.data.dataset import Arrays, Dataset
from adv_jax.runner.run.trained import Trained
from adv_jax.types import UserError
from papers.running import runs as shared
from papers.wardefarley2016 import regularizers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6)).astype(np.float32)
W = RNG.normal(size=(7, 6, 3)).astype(np.float32)
Y = (X @ W.mean(axis=0)).argmax(axis=1).astype(np.int32)
DATA = Dataset("drawn", "drawn", {}, Arrays(X, Y), Arrays(X, Y), num_classes=3, bounds=None)


def linear(w, x):
    return x @ w


def nets(weights):
    return {seed: partial(linear, jnp.asarray(w)) for seed, w in enumerate(weights, 1)}


@pytest.fixture
def workdirs_of(monkeypatch):
    """Names in the place of the directories of runs {weight decay: weights of its nets}."""

    def named(*runs):
        known = {}
        for i, (decay, weights) in enumerate(runs):
            models = [
                Trained(net, lambda *_: None, {}, "labels", DATA, {"seed": seed})
                for seed, net in nets(weights).items()
            ]
            known[Path(str(i))] = SimpleNamespace(
                data="drawn",
                config={"model": {}, "optimizer": {"weight_decay": decay} if decay else {}},
                result={
                    "data": {},
                    "replicas": [{"seed": seed, "epochs": 1} for seed in nets(weights)],
                },
                models=lambda models=models: models,
            )
        monkeypatch.setattr(shared, "finished", lambda path, **_: known[Path(path)])
        return [str(i) for i in range(len(runs))]

    return named


def test_ensembles_of_three_share_no_net_and_have_the_mean_probability():
    found = regularizers.ensembles(nets(W))
    assert [*found] == [1, 2]
    for first, ensemble in found.items():
        members = W[[first - 1, first + 1, first + 3]]
        expected = np.mean([oracles.softmax(np.float64(X) @ w) for w in members], axis=0)
        np.testing.assert_allclose(np.exp(ensemble(jnp.asarray(X))), expected, rtol=1e-5)
    (two,) = regularizers.ensembles(nets(W[:2])).values()
    expected = np.mean([oracles.softmax(np.float64(X) @ w) for w in W[:2]], axis=0)
    np.testing.assert_allclose(np.exp(two(jnp.asarray(X))), expected, rtol=1e-5)


@pytest.mark.slow
def test_an_ensemble_is_attacked_through_its_mean_probability(workdirs_of):
    runs = workdirs_of((0, W[:3]), (0.01, W[3:4]))
    by_seed = regularizers.regularizers(runs).document["by_seed"]
    x = np.float64(X)
    p = np.stack([oracles.softmax(x @ w) for w in W[:3]])
    of_class = p[:, np.arange(len(Y)), Y]
    # -grad log mean_m p_m(y) = sum_m p_m(y) (p_m - onehot) W_m^T / sum_m p_m(y).
    slopes = np.stack([(q - np.eye(3)[Y]) @ w.T for q, w in zip(p, W[:3], strict=True)])
    g = (of_class[..., None] * slopes).sum(axis=0)
    moved = x + 0.25 * np.sign(g)
    mean = np.mean([oracles.softmax(moved @ w) for w in W[:3]], axis=0)
    expected = np.mean(mean.argmax(axis=1) != Y)
    assert by_seed["ensembles, FGSM .25"] == {1: pytest.approx(expected, abs=1.5 / len(Y))}
    assert expected > by_seed["ensembles, clean"][1] + 0.1
    assert by_seed["single nets, clean"][2] == pytest.approx(
        np.mean((x @ W[1]).argmax(axis=1) != Y), abs=1e-6
    )
    assert [*by_seed["weight decay 0.01, FGSM .1"]] == [1]


def test_runs_without_a_net_of_no_weight_decay_are_refused(workdirs_of):
    with pytest.raises(UserError, match="one of them 0, got weight decay 0.01"):
        regularizers.regularizers(workdirs_of((0.01, W[:1])))
    with pytest.raises(UserError, match="different optimizer.weight_decay"):
        regularizers.regularizers(workdirs_of((0, W[:1]), (0, W[1:2])))

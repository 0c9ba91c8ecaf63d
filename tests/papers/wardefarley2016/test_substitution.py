"""The figure of substitutes: a linear net, whose errors under noise and FGSM are known."""

from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.data.dataset import Arrays, Dataset
from adv_jax.runner.run.trained import Trained
from adv_jax.types import UserError
from papers.running import runs as shared
from papers.running.works import TARGETS
from papers.wardefarley2016 import substitution

RNG = np.random.default_rng(0)
X = RNG.uniform(0.3, 0.7, size=(600, 20)).astype(np.float32)
W = RNG.choice([-1.0, 1.0], size=20).astype(np.float32)
MARGIN = (X - 0.5) @ W
Y = (MARGIN > 0).astype(np.int32)


@pytest.fixture
def drawn(monkeypatch):
    """Returns the figure of runs of a linear net with these bounds and the task `predicts`."""

    def made(bounds=(0, 1), predicts="labels"):
        data = Dataset("drawn", "drawn", {}, *[Arrays(X, Y)] * 2, num_classes=2, bounds=bounds)
        logits_fn = lambda x: jnp.stack([jnp.zeros(len(x)), 10 * (x - 0.5) @ W], axis=1)
        about = lambda seed: {"seed": seed, "experiment": "small"}
        run = SimpleNamespace(
            path=Path("run"),
            data="drawn",
            config={"model": {"name": "linear"}, "data": {}},
            result={
                "data": {},
                "replicas": [{"seed": seed, "overrides": {}, "epochs": 1} for seed in (1, 2)],
            },
            models=lambda: [
                Trained(logits_fn, None, {}, predicts, data, about(seed)) for seed in (1, 2)
            ],
        )
        monkeypatch.setattr(shared, "finished", lambda path, **_: run)
        return substitution.substitutes(["run"]).document

    return made


@pytest.mark.slow
def test_the_errors_of_a_linear_net_are_those_of_its_margins(drawn, monkeypatch):
    monkeypatch.setattr(substitution, "ROUNDS", 3)
    found = drawn()
    by_seed = found["by_seed"]
    rows = TARGETS["wardefarley2016.substitute"].rows
    assert by_seed.keys() == {row.measure.name for row in rows}
    margins = np.abs(MARGIN[: -substitution.FIRST])
    own, other, noise = substitution.QUERIED
    for eps in substitution.EPSILONS:
        # All 20 entries move by eps, and stay within the bounds.
        expected = np.mean(margins < 20 * eps)
        assert by_seed[f"{own}, {eps:g}"] == {1: pytest.approx(expected, abs=0.01)} | {
            2: pytest.approx(expected, abs=0.01)
        }
    errors = [np.mean([*by_seed[f"{name}, 0.1"].values()]) for name in (noise, other, own)]
    assert errors == sorted(errors) and errors[1] > errors[0] + 0.2
    assert found["agreed"].keys() == {1, 2} and min(found["agreed"].values()) > 0.7


@pytest.mark.parametrize("given", [{"bounds": None}, {"predicts": "real"}])
def test_other_runs_than_classifiers_of_pixels_are_refused(drawn, given):
    with pytest.raises(UserError, match=r"must be a classifier of pixels in \[0, 1\], got a run"):
        drawn(**given)

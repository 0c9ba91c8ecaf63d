"""The figure of nets on disjoint halves: linear nets, whose examples are known."""

from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.types import UserError
from papers.wardefarley2016 import cross_dataset

X = np.array([[0.2, 0.0], [-0.07, 0.0], [0.03, 0.0]], np.float32)
Y = np.array([0, 1, 0])


def net(seed, weights):
    w = jnp.asarray(weights)
    test = SimpleNamespace(x=X, y=Y)
    data = SimpleNamespace(test=(test.x, test.y))
    return SimpleNamespace(
        logits_fn=lambda x: jnp.stack([x @ w, -x @ w], axis=1), dataset=data, about={"seed": seed}
    )


def run(half, seeds, weights=(1.0, 0.0), **changes):
    config = {"data": {"name": "drawn", "half": half}, "model": {}, "seed": seeds[0], **changes}
    result = {
        "data": {"name": "drawn"},
        "replicas": [{"seed": seed, "epochs": 2} for seed in seeds],
    }
    found = SimpleNamespace(path=Path(f"half{half}"), config=config, result=result, data="drawn")
    found.models = lambda: [net(seed, weights) for seed in seeds]
    return found


def drawn(monkeypatch, *runs):
    monkeypatch.setattr(cross_dataset, "finished", lambda path: runs[int(str(path))])
    return cross_dataset.halves([str(i) for i in range(len(runs))])


@pytest.mark.slow
def test_examples_of_the_first_half_are_shown_to_the_second_and_noise_is_not_theirs(monkeypatch):
    # The first net reads the first number, the second net both equally: moving the first by eps
    # toward the other class changes the sum by eps too, and the second number stays.
    first, second = run(1, [1, 2]), run(2, [101, 102], (1.0, 1.0))
    by_seed = drawn(monkeypatch, second, first).document["by_seed"]
    own, other, noise = cross_dataset.SHOWN
    # Errors of 1, 2 and 3 of 3 rows, whose margins are .03, .07 and .2.
    for eps, wrong in ((0.05, 1), (0.1, 2), (0.25, 3)):
        expected = {1: pytest.approx(wrong / 3, rel=1e-5), 2: pytest.approx(wrong / 3, rel=1e-5)}
        assert by_seed[f"{own}, {eps:g}"] == expected == by_seed[f"{other}, {eps:g}"]
        assert by_seed[f"{noise}, {eps:g}"].keys() == {1, 2}


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([run(1, [1])], "workdir must be two runs of one config with data.half=1 and 2, got half1"),
        ([run(1, [1]), run(1, [2])], "data.half=1 and 2, got half1, half1"),
        ([run(1, [1]), run(2, [2], model={"name": "mlp"})], "workdir must be two runs of one conf"),
        (
            [run(1, [1, 2]), run(2, [2, 3])],
            r"workdir must be runs of different seeds, got \[2\] in",
        ),
    ],
)
def test_other_runs_than_two_halves_are_refused_in_one_line(monkeypatch, runs, message):
    with pytest.raises(UserError, match=message) as caught:
        drawn(monkeypatch, *runs)
    assert "\n" not in str(caught.value)

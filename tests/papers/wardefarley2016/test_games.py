"""Figures of games of classifiers: errors by weight, leaks, and matched clusters."""

from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.data.dataset import Arrays, Dataset
from adv_jax.runner.run.trained import Trained
from adv_jax.types import Output, UserError
from papers.running import runs as shared
from papers.running import works
from papers.wardefarley2016 import games, targets

RNG = np.random.default_rng(0)
WEIGHT = "objective.weight"


def run_of(objective, errors, *, grid=True):
    """A finished run with the test errors {(weight, seed): error}."""
    replicas = [
        {"seed": seed, "overrides": {WEIGHT: weight}, "test_error": error, "epochs": 2}
        for (weight, seed), error in errors.items()
    ]
    return SimpleNamespace(
        path=Path("run"),
        data="the 5,000-digit sample of MNIST",
        config={
            "experiment": "small",
            "data": {"num_labels": 100},
            "model": {"name": "judged"},
            "objective": {"name": objective},
            "epochs": 2,
            "replicas": {"grid": {WEIGHT: (0, 1)} if grid else None},
        },
        result={"data": {}, "replicas": replicas},
    )


ERRORS = {(0.0, 1): 0.3, (0.0, 2): 0.5, (1.0, 1): 0.1, (1.0, 2): 0.2}


@pytest.mark.parametrize("name", ["domain_adversarial", "output_matching"])
def test_the_errors_of_all_seeds_are_drawn_by_weight(name, monkeypatch):
    monkeypatch.setattr(shared, "finished", lambda path, **_: run_of(name, ERRORS))
    found = getattr(games, name)(["run"])
    none, full = found.document["by_seed"].values()
    assert none == {1: 0.3, 2: 0.5} and full == {1: 0.1, 2: 0.2}
    assert "40.0 (0), 15.0 (1)" in found.document["caption"]


@pytest.mark.parametrize("name", ["domain_adversarial", "output_matching", "censored"])
def test_every_row_of_a_target_is_in_its_figure(name, monkeypatch):
    errors = {(weight, 1): 0.5 for weight in targets.WEIGHTS}
    run = run_of(name, errors)
    run.models = lambda: [
        SimpleNamespace(about={"seed": seed, "overrides": {WEIGHT: weight}})
        for weight, seed in errors
    ]
    monkeypatch.setattr(shared, "finished", lambda path, **_: run)
    monkeypatch.setattr(games, "leaks", lambda model: dict.fromkeys(games.ATTRIBUTES, 0.5))
    found = getattr(games, name)(["run"]).document["by_seed"]
    rows = works.TARGETS[f"wardefarley2016.{name}"].rows
    assert {row.measure.name for row in rows} == found.keys()


def test_a_seed_given_twice_is_refused(monkeypatch):
    monkeypatch.setattr(shared, "finished", lambda path, **_: run_of("output_matching", ERRORS))
    with pytest.raises(UserError, match="workdir must be runs of different seeds, got run, run"):
        games.output_matching(["a", "b"])


@pytest.mark.parametrize(("objective", "grid"), [("gan", True), ("domain_adversarial", False)])
def test_a_run_of_another_game_or_without_a_grid_is_refused(objective, grid, monkeypatch):
    monkeypatch.setattr(shared, "finished", lambda path, **_: run_of(objective, ERRORS, grid=grid))
    with pytest.raises(UserError, match="must be a run of domain_adversarial with a grid of"):
        games.domain_adversarial(["run"])


def trained(logits_fn, x, y, **about):
    parts = Arrays(x, y), Arrays(x, y)
    dataset = Dataset("drawn", "drawn", {}, *parts, num_classes=4, bounds=None)
    about = {"seed": 0, "epochs": 1, "experiment": "small", "objective": {"name": "catgan"}} | about
    apply = lambda variables, x, *, method: Output(x, {}, {})
    return Trained(logits_fn, apply, {}, "labels", dataset, about)


def test_clusters_are_matched_before_errors_are_counted(monkeypatch):
    y = (np.arange(40) % 4).astype(np.int32)
    x = np.roll(np.eye(4, dtype=np.float32), 1, axis=0)[y]
    mixed = x.copy()
    mixed[0] = np.roll(mixed[0], 1)  # One image in the cluster of another label.
    run = run_of("catgan", ERRORS, grid=False)
    run.models = lambda: [trained(lambda x: x, x, y, seed=seed) for seed, x in ((1, mixed), (2, x))]
    monkeypatch.setattr(shared, "finished", lambda path, **_: run)
    found = games.clusters(["run"]).document
    assert found["by_seed"] == {games.CLUSTERS: {1: 1 / 40, 2: 0}}
    assert np.trace(found["counts"]) == 39 and np.sum(found["counts"]) == 40
    assert "1.2 % are in the cluster of another label, mean over seeds" in found["caption"]


def test_clusters_of_another_objective_are_refused(monkeypatch):
    monkeypatch.setattr(shared, "finished", lambda path, **_: run_of("gan", ERRORS, grid=False))
    with pytest.raises(UserError, match="workdir must be a run of catgan, got run"):
        games.clusters(["run"])


@pytest.mark.slow
def test_a_fresh_adversary_finds_what_the_adversary_of_the_game_misses(monkeypatch):
    # The features tell both attributes; the game's adversary always guesses even.
    monkeypatch.setattr(games, "EPOCHS", 5)
    y = RNG.integers(0, 4, 2000).astype(np.int32)
    x = np.eye(4, dtype=np.float32)[y]
    even = jnp.array([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]])
    found = games.leaks(trained(lambda x: x @ even, x, y))
    assert found["public attribute"] == 0
    assert found["private attribute, the game's adversary"] == pytest.approx(np.mean(y % 2))
    assert found["private attribute, a fresh adversary"] < 0.01


@pytest.mark.slow
def test_a_fresh_adversary_is_helpless_if_features_tell_nothing():
    x, y = RNG.normal(size=(2000, 3)), RNG.integers(0, 2, 2000)
    guess = games.fresh_adversary(jnp.float32(x[:1000]), jnp.asarray(y[:1000]), seed=0)
    wrong = np.mean(np.asarray(guess(jnp.float32(x[1000:]))).argmax(axis=1) != y[1000:])
    assert 0.4 < wrong < 0.6

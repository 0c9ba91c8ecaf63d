"""Averaged weights: against optax.ema and a mean in NumPy, tested in place of the last, resumed."""

import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from points import alone, arrays_of, document, jnp_tree, same
from short_run import assert_same_run, few_digits, serve
from short_run import document as run_document

from adv_jax import evaluate, train
from adv_jax.optimizers import averaged, ema, swa
from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.run import trained
from adv_jax.runner.run.experiment import Experiment
from adv_jax.runner.run.inputs import rows_of
from adv_jax.types import UserError

EMA = {"name": "ema", "decay": 0.9}
AWP = {
    "name": "awp",
    "gamma": 0.01,
    "objective": {"name": "trades", "beta": 6.0},
    "attack": {"name": "pgd", "eps": 0.1, "num_steps": 3, "returns": "last"},
}


def iterates(weight, *, steps=12):
    """Returns the weights f32[steps, 3] of SGD on noise, and their averages."""
    optimizer = averaged(optax.sgd(0.1, momentum=0.9), weight)
    start = jnp.array([1.0, -2.0, 0.5])
    gradients = np.random.default_rng(0).normal(size=(steps, 3)).astype("f")

    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state.average)

    with jax.numpy_dtype_promotion("standard"):
        state = optimizer.init(start)
        np.testing.assert_array_equal(state.average, start)
        _, (params, averages) = jax.lax.scan(step, (start, state), gradients)
    return np.asarray(params), np.asarray(averages)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_ema_of_the_weights_is_that_of_optax_with_debiasing(decay):
    params, averages = iterates(ema(decay))
    reference = optax.ema(decay)
    with jax.numpy_dtype_promotion("standard"):
        state = reference.init(jnp.zeros(3))
        for point, average in zip(params, averages, strict=True):
            expected, state = reference.update(jnp.asarray(point), state)
            np.testing.assert_allclose(average, expected, rtol=1e-3 * decay, atol=1e-5)


def test_swa_is_the_mean_of_the_weights_at_the_ends_of_epochs():
    first, every = 5, 3  # the iterates 5, 8 and 11, counted from 1
    params, averages = iterates(swa(first, every))
    for count, average in enumerate(averages, start=1):
        seen = range(first, count + 1, every) if count >= first else [count]
        expected = np.mean([params[n - 1] for n in seen], axis=0)
        np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-6)


def trained_run(dataset, *, epochs=2, **changes):
    """Returns the experiment, its rows, and its state and measures after these epochs."""
    experiment = Experiment(document(**changes), dataset)
    rows = jnp_tree(alone(rows_of(document(**changes), dataset, [Replica(1, {})])))
    run = experiment.init(jnp.int32(1), {})
    for _ in range(epochs):
        run, _ = experiment.epoch(run, arrays_of(dataset), rows)
        run, measured = experiment.monitor(run, arrays_of(dataset), rows)
    return experiment, rows, run, measured


@pytest.mark.slow
@pytest.mark.parametrize("averaging", [EMA, {"name": "swa", "first_epoch": 1}])
def test_the_averaged_weights_are_tested_and_do_not_change_the_training(dataset, averaging):
    experiment, rows, run, measured = trained_run(dataset, averaging=averaging)
    _, _, plain, _ = trained_run(dataset)
    jax.tree.map(same, run.state.params, plain.state.params)
    found = experiment.final_variables(run, arrays_of(dataset), rows)["params"]
    average = run.state.opt_state.average
    jax.tree.map(np.testing.assert_array_equal, found, average)
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), average, run.state.params)
    assert max(jax.tree.leaves(apart)) > 1e-3
    logits = lambda x: experiment.apply({"params": average}, x).logits
    clean = evaluate.clean(logits, dataset.test.x, dataset.test.y)
    assert float(measured["test_error"]) == pytest.approx(1 - float(clean.accuracy), abs=1e-6)


@pytest.mark.slow
def test_the_best_model_is_one_of_the_averages(dataset):
    _, _, run, _ = trained_run(dataset, epochs=1, averaging=EMA, data__num_valid=8)
    assert int(run.best_epoch) == 1
    jax.tree.map(np.testing.assert_array_equal, run.best["params"], run.state.opt_state.average)


@pytest.mark.slow
def test_a_run_of_awp_with_averaging_resumes_bit_for_bit_and_its_replicas_are_independent(
    tmp_path, monkeypatch, capsys
):
    digits = few_digits(400, 200)
    serve(monkeypatch, digits)
    config = run_document(seeds=2) | {"averaging": EMA, "objective": AWP}
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    train.run(config, whole)
    shutil.copytree(whole, begun)
    (begun / "result.json").unlink()
    shutil.rmtree(begun / "checkpoints" / "2")
    train.run(config, begun)
    assert "resumed after epoch 1" in capsys.readouterr().out
    assert_same_run(begun, whole, epochs=2)
    train.run(config | {"seed": 4, "replicas": config["replicas"] | {"seeds": 1}}, tmp_path / "one")
    second = trained.load(whole, replica=1).variables
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
        second,
        trained.load(tmp_path / "one").variables,
    )


@pytest.mark.parametrize(
    ("averaging", "words"),
    [
        (
            {"name": "ema", "decay": 1.0},
            "decay must be a number above 0 and below 1, got 1",
        ),
        ({"name": "mean"}, "averaging.name must be one of ema, swa, got 'mean'"),
        ({"name": "swa", "first_epoch": 1, "every": 2}, "a setting of averaging.swa must be one "),
        ({"name": "ema"}, "averaging.decay must be given, as ema needs it, got none"),
    ],
)
def test_bad_settings_of_averaging_are_refused(dataset, averaging, words):
    with pytest.raises(UserError) as error:
        Experiment(document(averaging=averaging), dataset)
    assert str(error.value).startswith(words)


def test_swa_must_begin_within_the_run(tmp_path):
    config = run_document() | {"averaging": {"name": "swa", "first_epoch": 3}}
    with pytest.raises(UserError) as error:
        train.run(config, tmp_path / "run")
    expected = "averaging.first_epoch must be 1 to 2, the number of epochs, got 3"
    assert str(error.value) == expected

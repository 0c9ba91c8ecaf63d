"""Experiments: construction, test statistics, and evaluated models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from points import CLASSES, FEATURES, alone, arrays_of, document, jnp_tree, same

from adv_jax import evaluate
from adv_jax.optimizers import OPTIMIZERS
from adv_jax.runner.config.document import ConfigError, with_values
from adv_jax.runner.config.replicas import Replica
from adv_jax.runner.run.experiment import Experiment
from adv_jax.runner.run.inputs import rows_of

# Test statistics and evaluation


def ladder_document(**changes):
    config = document(batch_size=10, **changes)
    model = {"name": "ladder", "layers": f"6-{CLASSES}", "noise_std": (0.3, 0.3, 0.3)}
    config["model"] = model | {"activation": "relu"}
    config["objective"] = {"name": "ladder", "weights": (1.0, 0.1, 0.1)}
    return config


@pytest.mark.slow
def test_test_variables_average_means_and_unbiased_variances_of_labeled_batches(dataset):
    config = ladder_document(data__num_labels=24, data__num_valid=4)
    experiment = Experiment(config, dataset)
    rows = alone(rows_of(config, dataset, [Replica(4, {})]))
    variables = experiment.init(jnp.int32(4), {}).state.variables
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda v: v + rng.normal(size=v.shape).astype(np.float32), variables)
    found = jax.jit(experiment.measures.test_variables)(variables, arrays_of(dataset), rows)
    encoder = jax.tree.map(lambda v: np.asarray(v, float), variables["params"]["encoder"])
    moments = {"mean1": [], "var1": [], "mean2": [], "var2": []}
    for start in (0, 10):  # Four rows fill no batch.
        h = dataset.train.x[rows["labeled"][start : start + 10]].astype(float)
        for layer in (1, 2):
            a = h @ encoder[f"W{layer}"]["kernel"]
            moments[f"mean{layer}"].append(a.mean(0))
            moments[f"var{layer}"].append(a.var(0, ddof=1))
            z = (a - a.mean(0)) / np.sqrt(a.var(0) + 1e-10)
            h = np.maximum(z + encoder[f"beta{layer}"], 0)
    assert found["batch_stats"].keys() == moments.keys()
    for name, values in moments.items():
        assert not np.allclose(*values, rtol=0.01)
        same(found["batch_stats"][name], np.mean(values, axis=0))
    jax.tree.map(np.testing.assert_array_equal, found["params"], variables["params"])


@pytest.mark.slow
def test_fewer_labels_than_a_batch_are_one_batch(dataset):
    config = ladder_document(data__num_labels=8)
    experiment = Experiment(config, dataset)
    rows = alone(rows_of(config, dataset, [Replica(4, {})]))
    variables = experiment.init(jnp.int32(4), {}).state.variables
    found = experiment.measures.test_variables(variables, arrays_of(dataset), jnp_tree(rows))
    kernel = np.asarray(variables["params"]["encoder"]["W1"]["kernel"], float)
    a = dataset.train.x[rows["labeled"]].astype(float) @ kernel
    same(found["batch_stats"]["mean1"], a.mean(0))
    same(found["batch_stats"]["var1"], a.var(0, ddof=1))


class Dropping(nn.Module):
    """A module whose dropout needs a key in training, as Flax's own does."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.0)(nn.Dense(4)(x))
        return nn.Dense(CLASSES)(nn.Dropout(0.5, deterministic=not train)(x))


@pytest.mark.slow
def test_batch_normalization_and_dropout_of_flax_train_together(dataset):
    config = document(batch_size=10, data__num_labels=20)
    config["model"] = {"name": f"{__name__}:Dropping"}
    experiment = Experiment(config, dataset)
    rows = alone(rows_of(config, dataset, [Replica(4, {})]))
    variables = experiment.init(jnp.int32(4), {}).state.variables
    found = experiment.measures.test_variables(variables, arrays_of(dataset), jnp_tree(rows))
    dense = variables["params"]["Dense_0"]
    inputs = dataset.train.x[rows["labeled"]].reshape(2, 10, -1)  # two batches
    hidden = inputs @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
    same(found["batch_stats"]["BatchNorm_0"]["mean"], hidden.mean(1).mean(0))


def test_test_variables_of_a_model_without_batch_statistics_are_unchanged(dataset):
    experiment = Experiment(document(), dataset)
    variables = experiment.init(jnp.int32(0), {}).state.variables
    assert experiment.measures.test_variables(variables, {}, {}) is variables


def linear_reference(params, x, y, eps):
    """Accuracy of softmax regression under FGSM of each eps, row by row in float64."""
    w, b = (np.asarray(params["logits"][name], float) for name in ("kernel", "bias"))
    right = np.zeros(len(eps))
    for row, label in zip(x.astype(float), y, strict=True):
        logits = row @ w + b
        p = np.exp(logits - logits.max())
        step = np.sign(w @ (p / p.sum() - np.eye(CLASSES)[label]))
        right += [np.argmax((row + e * step) @ w + b) == label for e in eps]
    return right / len(y)


@pytest.mark.slow
@pytest.mark.parametrize("num_valid", [0, 8])
def test_evaluation_uses_the_best_model_or_else_the_last(dataset, num_valid):
    config = document(data__num_valid=num_valid)
    config["evaluation"]["attacks"] = {"fgsm": {"name": "fgsm"}, "n": {"name": "uniform_noise"}}
    experiment = Experiment(config, dataset)
    rows = alone(rows_of(config, dataset, [Replica(1, {})]))
    run = experiment.init(jnp.int32(1), {})
    rng = np.random.default_rng(2)
    kernels = rng.normal(size=(2, FEATURES, CLASSES)).astype(np.float32)
    kernels[:, 0] = 0  # The number of the row tells nothing.
    first, last = (
        {"logits": {"kernel": k, "bias": np.zeros(CLASSES, np.float32)}} for k in kernels
    )
    run = run._replace(
        best={"params": first} if num_valid else {}, state=run.state.replace(params=last)
    )
    result = jax.jit(experiment.evaluate)(run, arrays_of(dataset), rows)
    test = dataset.test
    chosen, other = (first, last) if num_valid else (last, first)
    expected = linear_reference(chosen, test.x, test.y, (0.0, 0.5))
    assert expected[0] != linear_reference(other, test.x, test.y, (0.0,))[0]
    same(result.clean.accuracy, expected[0])
    assert set(result.attacks) == {"fgsm", "n"}
    same(result.attacks["fgsm"].accuracy, expected)
    same(result.attacks["n"].accuracy[0], expected[0])


def test_monitored_attacks_perturb_the_first_test_rows_after_each_epoch(dataset):
    config = document() | {"monitor_attacks": {"names": ("fgsm",), "eps": 0.5, "rows": 12}}
    config["evaluation"]["attacks"] = {"fgsm": {"name": "fgsm"}, "n": {"name": "uniform_noise"}}
    experiment = Experiment(config, dataset)
    rows = alone(rows_of(config, dataset, [Replica(1, {})]))
    run = experiment.init(jnp.int32(1), {})
    kernel = np.random.default_rng(3).normal(size=(FEATURES, CLASSES)).astype(np.float32)
    kernel[0] = 0  # The number of the row tells nothing.
    params = {"logits": {"kernel": kernel, "bias": np.zeros(CLASSES, np.float32)}}
    run = run._replace(state=run.state.replace(params=params))
    _, metrics = jax.jit(experiment.monitor)(run, arrays_of(dataset), rows)
    assert metrics.keys() == {"test_error", "test_confidence", "fgsm_error"}
    x, y = dataset.test.x[:12], dataset.test.y[:12]
    (expected,) = linear_reference(params, x, y, (0.5,))
    assert 0 < expected < 1
    same(metrics["fgsm_error"], 1 - expected)


def test_evaluation_without_attacks_takes_only_clean_measures(dataset):
    experiment = Experiment(document(), dataset)
    rows = alone(rows_of(document(), dataset, [Replica(1, {})]))
    run = experiment.init(jnp.int32(1), {})
    result = experiment.evaluate(run, arrays_of(dataset), rows)
    assert result.attacks == {}
    logits_fn = experiment.measures.logits_fn(run.state.variables)
    measured = evaluate.clean(logits_fn, dataset.test.x, dataset.test.y)
    same(result.clean, measured)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.name", "mpl", "model.name must be one of "),
        ("objective.name", "cross", "objective.name must be one of "),
        (
            "optimizer.name",
            "adm",
            f"optimizer.name must be one of {', '.join(OPTIMIZERS)}, got 'adm'; did you",
        ),
        ("model.feature", 3, "a setting of model.mlp must be one of "),
        (
            "evaluation.attacks",
            {"a": {"name": "fgms"}},
            "evaluation.attacks.a.name must be one of ",
        ),
        (
            "evaluation.attacks",
            {"a": {"name": "fgsm", "esp": 1}},
            "a setting of evaluation.attacks.a.fgsm must be one of ",
        ),
        (
            "objective.attack",
            {"name": "fgsm"},
            "objective.attack.eps must be given, as fgsm needs it",
        ),
        (
            "objective.attack",
            {"name": "fgsm", "eps": 1},
            "a setting of objective.cross_entropy must be",
        ),
        ("model.hidden_init", {"name": "spars"}, "model.hidden_init.name must be one of"),
    ],
)
def test_bad_settings_are_refused_when_the_parts_are_built(dataset, path, value, message):
    with pytest.raises(ConfigError) as error:
        Experiment(with_values(document(), {path: value}), dataset)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)

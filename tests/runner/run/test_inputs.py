"""Preprocessing in a run: fitted arrays are stored in the workdir, and all readers use them."""

import json
import shutil

import jax
import numpy as np
import pytest
from short_run import few_digits, serve

from adv_jax import attacks, data, evaluate, train
from adv_jax.data import DataError, augmentation, preprocessing
from adv_jax.runner.config.document import ConfigError
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.run import evaluation, inputs, trained
from adv_jax.runner.run.preflight import check_fit
from adv_jax.runner.store.workdir import Workdir, WorkdirError
from adv_jax.types import UserError

ZCA = ({"name": "contrast_norm", "norm": 10.0}, {"name": "zca", "regularizer": 0.1})


@pytest.fixture(scope="module")
def digits():
    return few_digits(400, 150)


@pytest.fixture(autouse=True)
def load_digits(monkeypatch, digits):
    serve(monkeypatch, digits)


def document(preprocess=None, *, attack=None, epochs=2):
    """A small legal config; without `preprocess` if it is None."""
    attack = attack or {"name": "fgsm", "eps": 0.1}
    config = {
        "experiment": "small",
        "seed": 3,
        "replicas": {"seeds": 1, "grid": None, "shards": 1},
        "data": {"name": "mnist", "source": "embedded", "dir": "", "num_valid": 100},
        "model": {"name": "mlp", "features": (8,), "num_classes": 10},
        "objective": {"name": "adversarial_mix", "alpha": 0.5, "attack": attack},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "epochs": epochs,
        "batch_size": 50,
        "patience": 0,
        "monitor_every": 1,
        "checkpoint_every": 1,
        "checkpoints_kept": 2,
        "trackers": (),
        "evaluation": {"attacks": {"fgsm": {"name": "fgsm"}}, "eps": (0.0, 0.2)},
    }
    config["data"] |= {"num_labels": 0} | ({} if preprocess is None else {"preprocess": preprocess})
    return config


def load(config, workdir):
    return inputs.load(config, replicas(config), workdir)


@pytest.fixture(scope="module")
def whitened(digits, tmp_path_factory):
    """A finished run on whitened digits: (workdir, result, inputs as they were fitted)."""
    workdir = tmp_path_factory.mktemp("runs") / "zca"
    with pytest.MonkeyPatch.context() as patch:
        serve(patch, digits)
        fitted = load(document(ZCA), workdir)
        return workdir, train.run(document(ZCA), workdir), fitted


@pytest.fixture(scope="module")
def plain(digits, tmp_path_factory):
    """The workdir of a finished run without preprocessing."""
    workdir = tmp_path_factory.mktemp("runs") / "plain"
    with pytest.MonkeyPatch.context() as patch:
        serve(patch, digits)
        train.run(document((), epochs=1), workdir)
    return workdir


@pytest.fixture
def no_fit(monkeypatch):
    """Makes fitting of the whitening fail; restoring still works."""

    def zca(*, regularizer):
        def fit(x):
            raise AssertionError("fitted again")

        return fit

    monkeypatch.setattr(preprocessing, "zca", zca)


def assert_same(one, other):
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name])


@pytest.mark.slow
def test_preprocessing_steps_apply_in_order_and_fit_on_the_training_set(digits, whitened):
    dataset = whitened[2].dataset
    norm = preprocessing.contrast_norm(norm=10.0)(digits.train.x)
    zca = preprocessing.zca(regularizer=0.1)(norm.apply(digits.train.x))
    for part, found in ((digits.train, dataset.train), (digits.test, dataset.test)):
        np.testing.assert_array_equal(zca.apply(norm.apply(part.x)), found.x)
        np.testing.assert_array_equal(part.y, found.y)
    assert dataset.bounds is None and digits.bounds == (0, 1)


@pytest.mark.slow
def test_fitted_arrays_are_stored_and_no_reader_fits_again(whitened, no_fit):
    workdir, result, fitted = whitened
    with np.load(workdir / "preprocess.npz") as stored:
        assert set(stored) == {"0.norm", "1.mean", "1.matrix"}
    assert_same(load(document(ZCA), workdir).dataset, fitted.dataset)
    model = trained.load(workdir)
    assert_same(model.dataset, fitted.dataset)
    assert model.about["preprocess"] == list(ZCA)
    found = evaluate.clean(model.logits_fn, *map(np.asarray, model.dataset.test))
    expected = 1 - result["replicas"][0]["test_error"]
    assert float(found.accuracy) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(whitened, tmp_path, no_fit, capsys):
    workdir, result, _ = whitened
    begun = tmp_path / "begun"
    shutil.copytree(workdir, begun)
    (begun / "result.json").unlink()
    shutil.rmtree(begun / "checkpoints" / "2")
    again = train.run(document(ZCA), begun)
    assert "resumed after epoch 1" in capsys.readouterr().out
    assert again["replicas"] == result["replicas"] and again["evaluation"] == result["evaluation"]


@pytest.mark.slow
def test_a_loaded_model_uses_the_stored_arrays(whitened, tmp_path, digits):
    workdir, _, fitted = whitened
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    with np.load(workdir / "preprocess.npz") as stored:
        np.savez(other / "preprocess.npz", **(dict(stored) | {"1.mean": stored["1.mean"] + 1}))
    shift = fitted.fitted["1.matrix"].sum(0)
    found = trained.load(other).dataset.test.x.reshape(150, -1)
    expected = fitted.dataset.test.x.reshape(150, -1) - shift
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(shift).max() > 0.1


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda file: file.unlink(), "preprocess.npz is missing; the run cannot resume without it"),
        (lambda file: file.write_bytes(file.read_bytes()[:-50]), "preprocess.npz is damaged: "),
        (lambda file: file.write_bytes(b""), "preprocess.npz is damaged: "),
        (lambda file: file.write_bytes(b"no zip"), "preprocess.npz is damaged: "),
        (lambda file: np.savez(file, other=1), r"arrays of contrast_norm must be .*got \[\]"),
    ],
)
def test_missing_or_wrong_stored_arrays_are_refused_and_not_fitted_again(
    whitened, tmp_path, harm, says
):
    workdir = tmp_path / "copy"
    shutil.copytree(whitened[0], workdir)
    harm(workdir / "preprocess.npz")
    for reader in (trained.load, lambda path: train.run(document(ZCA), path)):
        with pytest.raises(UserError, match=says) as error:
            reader(workdir)
        assert "\n" not in str(error.value)


def test_a_flipped_byte_of_the_stored_arrays_is_refused(whitened, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(whitened[0], workdir)
    file = workdir / "preprocess.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(WorkdirError, match=r"preprocess\.npz is damaged"):
        trained.load(workdir)


@pytest.mark.slow
def test_a_config_without_preprocessing_leaves_the_data(digits, plain):
    for preprocess in (None, ()):
        found = load(document(preprocess), plain / "elsewhere")
        assert found.dataset is digits and found.fitted is None
    assert not (plain / "preprocess.npz").exists()


def test_a_preprocessing_step_without_arrays_is_restored(digits, tmp_path, monkeypatch):
    train_x, test_x = (np.repeat(part.x, 3, axis=-1) for part in (digits.train, digits.test))
    colored = digits._replace(
        train=digits.train._replace(x=train_x), test=digits.test._replace(x=test_x)
    )
    serve(monkeypatch, colored)
    bounded = {"name": "fgsm", "eps": 0.1, "bounds": (0.0, 1.0)}
    config = document(({"name": "gray"},), attack=bounded)
    fitted = load(config, tmp_path)
    with Workdir(tmp_path, config) as files:
        files.record_data(fitted.document, fitted.rows, fitted.fitted)
    dataset = load(config, tmp_path).dataset
    assert_same(dataset, fitted.dataset)
    np.testing.assert_allclose(dataset.test.x, digits.test.x, atol=1e-7)
    assert dataset.bounds == (0, 1)
    check_fit(config, dataset)


@pytest.mark.parametrize("first", [{"name": "standardize"}, ZCA[0] | {"norm": 2.0}])
def test_another_preprocessing_is_refused_as_another_config(whitened, no_fit, first):
    with pytest.raises(WorkdirError, match=r"holds a run of another config: data\.preprocess is "):
        train.run(document((first, ZCA[1])), whitened[0])


def test_other_data_are_refused_before_they_are_preprocessed(whitened, no_fit, digits, monkeypatch):
    other = digits._replace(sha256={"mnist": "another"})
    serve(monkeypatch, other)
    with pytest.raises(WorkdirError, match="a run on other data: sha256 of "):
        train.run(document(ZCA), whitened[0])


@pytest.mark.parametrize(
    ("preprocess", "error", "says"),
    [
        ("zca", ConfigError, r"data.preprocess must be a tuple such as .*, got 'zca'"),
        ({"name": "zca"}, ConfigError, r"data.preprocess must be a tuple such as .*, got {'name'"),
        (("zca",), ConfigError, r"data.preprocess must be a tuple such as .*, got \('zca',\)"),
        (({},), ConfigError, r"data.preprocess\[0\].name must be one of blend, contrast"),
        (
            (ZCA[0], {"name": "zac"}),
            ConfigError,
            r"data.preprocess\[1\].name must be .*, got 'zac'; did you mean 'zca'",
        ),
        (({"name": "zca", "eps": 1},), ConfigError, "a setting of .* must be one of regularizer"),
        (
            ({"name": "zca", "regularizer": -1},),
            ConfigError,
            r"data.preprocess\[0\].regularizer must be a finite number of at least 0, got -1",
        ),
        (({"name": "gray"},), DataError, r"gray must be images .* got the shape \(28, 28, 1\)"),
    ],
)
def test_bad_preprocessing_is_refused_before_anything_is_written(tmp_path, preprocess, error, says):
    with pytest.raises(error, match=says) as caught:
        train.run(document(preprocess), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_attacks_are_monitored_on_at_most_all_test_images(digits):
    watched = {"names": ("fgsm",), "eps": 0.1, "rows": len(digits.test.y)}
    config = document() | {"monitor_attacks": watched}
    check_fit(config, digits)
    says = rf"^monitor_attacks.rows must be 1 to {watched['rows']}, the size of the test set, got "
    watched["rows"] += 1
    with pytest.raises(ConfigError, match=says):
        check_fit(config, digits)


def test_bounds_of_an_attack_must_include_the_preprocessed_inputs(tmp_path):
    attack = {"name": "fgsm", "eps": 0.1, "bounds": (0.0, 1.0)}
    with pytest.raises(ConfigError, match=r"objective.attack.bounds must include .* inputs, -"):
        train.run(document(({"name": "standardize"},), attack=attack), tmp_path / "run")


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (False, 2.0), (0.0,), "01"])
def test_bounds_that_are_no_interval_are_refused_as_by_the_attacks(tmp_path, bounds):
    attack = {"name": "fgsm", "eps": 0.1, "bounds": bounds}
    says = r"objective.attack.bounds must be \(lo, hi\) with lo < hi, got "
    with pytest.raises(UserError, match=says):
        train.run(document((), attack=attack), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_evaluation_of_a_whitened_run_uses_whitened_inputs_without_bounds(
    whitened, tmp_path, capsys
):
    workdir, result, _ = whitened
    evaluation.run([str(workdir)], attack_names=["fgsm"], eps=[0.0, 0.2], out=str(tmp_path))
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["bounds"] is None and found["preprocess"] == list(ZCA)
    expected = 1 - np.array(result["evaluation"]["fgsm"]["error"][0])
    np.testing.assert_allclose(found["attacks"]["fgsm"]["accuracy"], expected)
    with pytest.raises(ValueError, match="bounds must be .* carlini_wagner, got None"):
        evaluation.run(
            [str(workdir)], attack_names=["carlini_wagner"], eps=[0.1], out=str(tmp_path)
        )


@pytest.mark.slow
def test_models_of_different_inputs_are_not_evaluated_together(whitened, plain):
    with pytest.raises(
        UserError, match=r"workdir must be runs with the same data\.preprocess, got .*plain"
    ):
        evaluation.run([str(whitened[0]), str(plain)], attack_names=["fgsm"], eps=[0.1])


# Crops


def cropped(size=20, **changes):
    config = document()
    config["data"]["crop"] = size
    return config | changes


@pytest.mark.slow
def test_crops_are_random_in_training_and_centered_in_tests(digits, tmp_path):
    loaded = load(cropped(), tmp_path)
    np.testing.assert_array_equal(loaded.dataset.test.x, digits.test.x[:, 4:24, 4:24])
    assert loaded.dataset.train.x.shape == digits.train.x.shape
    result = train.run(cropped(), tmp_path / "run")
    model = trained.load(tmp_path / "run")
    assert model.dataset.test.x.shape == (150, 20, 20, 1)
    # The model is that of the run's own figures.
    wrong = model.logits_fn(model.dataset.test.x).argmax(1) != model.dataset.test.y
    assert result["replicas"][0]["test_error"] == pytest.approx(float(wrong.mean()), abs=1e-6)


@pytest.mark.slow
def test_training_on_random_crops_differs_from_center_crops(digits, tmp_path, monkeypatch):
    errors = train.run(cropped(epochs=4), tmp_path / "random")["replicas"]
    middle = digits._replace(train=data.Arrays(digits.train.x[:, 4:24, 4:24], digits.train.y))
    middle = middle._replace(test=data.Arrays(digits.test.x[:, 4:24, 4:24], digits.test.y))
    serve(monkeypatch, middle)
    fixed = train.run(document(epochs=4), tmp_path / "fixed")["replicas"]
    assert errors[0]["confidence"] != fixed[0]["confidence"]


@pytest.mark.slow
def test_shards_of_a_batch_are_cropped_independently(tmp_path, monkeypatch):
    drawn = []

    def random_crop(key, x, shape):
        jax.debug.callback(lambda key: drawn.append(tuple(key.tolist())), jax.random.key_data(key))
        return augmentation.center_crop(x, shape)

    monkeypatch.setattr(augmentation, "random_crop", random_crop)
    shards = {"seeds": 1, "grid": None, "shards": 2}
    train.run(cropped(epochs=1, replicas=shards), tmp_path / "run")
    assert len(drawn) == len(set(drawn)) == 2 * 3 * 300 // 50  # shards, augmentations, steps


@pytest.mark.parametrize("size", [29, 1000])
def test_a_crop_larger_than_the_images_is_refused(tmp_path, size):
    with pytest.raises(ConfigError, match=rf"data.crop must be 0 .* \(28, 28, 1\), got {size}"):
        train.run(cropped(size), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Trained models as sources of adversarial examples


def with_source(path, **changes):
    config = document(**changes)
    attack = {"name": "fgsm", "norm": "l2"}
    fixed = {"name": "transferred", "source_fn": str(path), "attack": attack}
    own = {"name": "fgsm", "norm": "l2"}
    return config | {"evaluation": {"attacks": {"fixed": fixed, "own": own}, "eps": (0.0, 1.0)}}


@pytest.mark.slow
def test_the_fixed_adversarial_set_comes_from_the_source_for_every_run(plain, tmp_path):
    source = trained.load(plain)
    x, y = source.dataset.test
    x_adv = attacks.fgsm(source.logits_fn, x, y, eps=1.0, norm="l2")
    lengths = np.linalg.norm((np.asarray(x_adv) - x).reshape(len(x), -1), axis=1)
    # In so small a net some rows have no active unit, and no gradient.
    assert np.all((lengths == 0) | (np.abs(lengths - 1) < 1e-4)) and lengths.any()
    for epochs in (2, 3):
        workdir = tmp_path / f"run{epochs}"
        curves = train.run(with_source(plain, epochs=epochs), workdir)["evaluation"]
        wrong = trained.load(workdir).logits_fn(x_adv).argmax(1) != y
        assert curves["fixed"]["error"][0][1] == pytest.approx(float(wrong.mean()), abs=1e-6)
        assert curves["fixed"]["error"] != curves["own"]["error"]
        assert curves["fixed"]["l2"][0][1] == pytest.approx(lengths.mean(), rel=1e-4)


@pytest.mark.slow
def test_a_finished_run_loads_without_the_source_of_its_evaluation(plain, tmp_path, capsys):
    source = tmp_path / "source"
    shutil.copytree(plain, source)
    train.run(with_source(source, epochs=1), tmp_path / "run")
    shutil.rmtree(source)
    assert trained.load(tmp_path / "run").about["epochs"] == 1
    train.run(with_source(source, epochs=1), tmp_path / "run")
    assert "run holds the finished run" in capsys.readouterr().out


@pytest.mark.slow
def test_a_source_that_is_not_finished_or_was_preprocessed_otherwise_is_refused(plain, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(plain, copy)
    (copy / "result.json").unlink()
    says = r"evaluation.attacks.fixed.source_fn must be a finished run, got '\S+'"
    with pytest.raises(ConfigError, match=says):
        train.run(with_source(copy), tmp_path / "run")
    # Its bounds tell nothing: whatever they were, after whitening there are none.
    unbounded = {"name": "contrast_norm", "norm": 2.0}
    other = with_source(whitened_with(tmp_path, unbounded))
    other["data"]["preprocess"] = ({"name": "contrast_norm", "norm": 1.0},)
    with pytest.raises(ConfigError, match=r"source_fn must .* same inputs, .*1\.0.*2\.0"):
        train.run(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def whitened_with(tmp_path, step):
    train.run(document((step,), epochs=1), tmp_path / "source")
    return tmp_path / "source"


@pytest.mark.parametrize(("field", "value"), [("mirror", True), ("pad", 2), ("zoom", 0.1)])
def test_augmenting_inputs_that_are_not_images_is_refused(
    tmp_path, digits, monkeypatch, field, value
):
    flat = [data.Arrays(part.x.reshape(-1, 784), part.y) for part in (digits.train, digits.test)]
    flat = digits._replace(train=flat[0], test=flat[1])
    serve(monkeypatch, flat)
    config = document()
    config["data"][field] = value
    with pytest.raises(
        ConfigError, match=rf"data.{field} must be (False|0|0\.0), .* are not images"
    ):
        train.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_missing_source_and_one_with_other_inputs_are_refused(plain, whitened, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        train.run(with_source(tmp_path / "nowhere"), tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"evaluation.attacks.fixed.source_fn must be .* same inputs"
    ):
        train.run(with_source(whitened[0]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


BLEND = {"name": "blend", "cells": 3, "strength": 0.5}


def adapting(*target, preprocess=()):
    """A config whose unlabeled and test images are of another domain."""
    config = document(preprocess, epochs=1)
    config["data"]["target"] = target
    return config


def test_the_steps_of_the_target_change_unlabeled_and_test_images_alone(digits, tmp_path):
    found = load(adapting(BLEND), tmp_path / "run")
    blended = preprocessing.blend(cells=3, strength=0.5)(digits.train.x)
    expected = digits._replace(
        test=digits.test._replace(x=blended.apply(digits.test.x)),
        unlabeled=blended.apply(digits.train.x),
    )
    assert_same(found.dataset, expected)
    assert found.dataset.bounds == (0, 1) and set(found.fitted) == {
        "target.0.cells",
        "target.0.strength",
    }


def test_the_target_follows_the_preprocessing_and_is_fitted_to_its_output(digits, tmp_path):
    steps = ({"name": "standardize"}, {"name": "contrast_norm", "norm": 2.0})
    found = load(adapting(steps[1], preprocess=steps[:1]), tmp_path / "run").dataset
    standard = preprocessing.standardize()(digits.train.x).apply
    norm = preprocessing.contrast_norm(norm=2.0)(digits.train.x).apply
    np.testing.assert_array_equal(found.train.x, standard(digits.train.x))
    np.testing.assert_array_equal(found.unlabeled, norm(standard(digits.train.x)))
    np.testing.assert_array_equal(found.test.x, norm(standard(digits.test.x)))
    assert found.bounds is None


@pytest.mark.slow
def test_a_run_trains_on_both_domains_and_reloads_the_target(tmp_path):
    result = train.run(adapting(BLEND), tmp_path / "run")
    model = trained.load(tmp_path / "run")
    assert model.about["preprocess"] == [BLEND]
    found = evaluate.clean(model.logits_fn, *map(np.asarray, model.dataset.test))
    assert float(1 - found.accuracy) == pytest.approx(result["replicas"][0]["test_error"], abs=1e-6)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (({"name": "blnd"},), r"data.target\[0\].name must be .*'blend'"),
        (({"name": "blend", "cells": 1},), r"data.target\[0\].cells must be .* got 1"),
        ("blend", "data.target must be a tuple such as .* got 'blend'"),
    ],
)
def test_a_bad_target_is_refused_before_anything_is_written(tmp_path, target, says):
    config = adapting()
    config["data"]["target"] = target
    with pytest.raises(UserError, match=says):
        train.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def halved(half):
    config = document()
    config["data"]["half"] = half
    return config


def test_the_two_halves_of_the_training_data_are_disjoint_and_have_the_same_classes(
    digits, tmp_path
):
    first, second, whole = (load(halved(h), tmp_path).dataset.train for h in (1, 2, 0))
    assert len(first.y) == len(second.y) == 200
    joined = np.sort(np.concatenate([first.x, second.x]).reshape(400, -1), axis=0)
    np.testing.assert_array_equal(joined, np.sort(digits.train.x.reshape(400, -1), axis=0))
    np.testing.assert_allclose(np.bincount(first.y), np.bincount(second.y), atol=1)
    np.testing.assert_array_equal(whole.x, digits.train.x)


def test_a_third_half_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data.half must be .*, got 3"):
        train.run(halved(3), tmp_path / "run")

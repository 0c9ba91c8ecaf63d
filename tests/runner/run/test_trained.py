"""The loaded model equals the evaluated model of the run; loading changes no file."""

import errno
import hashlib
import json
import re
import runpy
import shutil
import tempfile
from functools import partial
from unittest.mock import Mock

import jax
import numpy as np
import pytest
from short_run import few_digits, serve

from adv_jax import evaluate, train
from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import trained
from adv_jax.runner.run.task import common_task
from adv_jax.types import UserError
from papers.running.runs import require_same_inputs


def config_of(name, **changes):
    made = runpy.run_path(f"configs/{name}.py")["get_config"]("quick").to_dict()
    common = {"data.num_valid": 100, "batch_size": 100, "evaluation.eps": (0.0, 0.1)}
    changes = {path.replace("__", "."): value for path, value in changes.items()}
    return with_values(made, common | changes)


@pytest.fixture(scope="module")
def digits():
    return few_digits(400, 150)


@pytest.fixture(autouse=True)
def load_digits(monkeypatch, digits):
    serve(monkeypatch, digits)


@pytest.fixture(scope="module")
def replicas(digits, tmp_path_factory):
    """A finished run of two seeds, whose best epochs are not the last: (workdir, result)."""
    workdir = tmp_path_factory.mktemp("runs") / "two"
    with pytest.MonkeyPatch.context() as patch:
        serve(patch, digits)
        small = {"model__features": (8,), "epochs": 4, "replicas__seeds": 2}
        config = config_of("quickstart", optimizer__learning_rate=0.05, **small)
        return workdir, train.run(config, workdir)


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def error_of(model):
    found = evaluate.clean(model.logits_fn, *map(jax.numpy.asarray, model.dataset.test))
    return 1 - float(found.accuracy)


@pytest.mark.slow
def test_loaded_variables_reproduce_the_logits_of_the_model(replicas):
    model = trained.load(replicas[0], replica=1)
    x = model.dataset.test.x[:7]
    params = jax.tree.map(np.asarray, model.variables["params"])
    dense = lambda h, layer: h @ params[layer]["kernel"] + params[layer]["bias"]
    logits = dense(np.maximum(dense(x.reshape(7, -1), "hidden1"), 0), "logits")
    np.testing.assert_allclose(model.logits_fn(x), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_load_all_equals_loading_the_replicas_one_by_one(replicas, monkeypatch):
    workdir, result = replicas
    one_by_one = [trained.load(workdir, replica=i) for i in range(len(result["replicas"]))]
    reads, read = [], trained.inputs.load
    monkeypatch.setattr(trained.inputs, "load", lambda *given: reads.append(1) or read(*given))
    at_once = trained.load_all(workdir)
    assert len(reads) == 1 and len(at_once) == len(one_by_one) == 2
    for found, expected in zip(at_once, one_by_one, strict=True):
        assert found.about == expected.about
        jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)
        x = expected.dataset.test.x[:7]
        np.testing.assert_array_equal(found.logits_fn(x), expected.logits_fn(x))


@pytest.mark.slow
@pytest.mark.parametrize("replica", [0, 1])
def test_each_replica_is_the_model_that_the_run_evaluated(replicas, replica):
    workdir, result = replicas
    before = contents(workdir)
    model = trained.load(workdir, replica=replica)
    assert contents(workdir) == before
    expected = result["replicas"][replica]
    assert error_of(model) == pytest.approx(expected["test_error"], abs=1e-6)
    assert result["replicas"][0]["test_error"] != result["replicas"][1]["test_error"]
    about = model.about
    assert (about["seed"], about["epochs"], about["best_epoch"]) == (
        expected["seed"],
        4,
        expected["best_epoch"],
    )
    assert about["data"] == result["data"] and json.dumps(about)


@pytest.mark.slow
def test_a_loaded_model_has_the_batch_statistics_of_the_test(tmp_path):
    config = config_of(
        "ladder_mnist",
        epochs=1,
        data__num_valid=0,
        data__num_labels=100,
        model__layers="16-10",
        model__noise_std=(0.3, 0.3, 0.3),
        objective__weights=(10.0, 1.0, 0.1),
        evaluation__attacks={},
    )
    result = train.run(config, tmp_path / "run")
    model = trained.load(tmp_path / "run")
    assert error_of(model) == pytest.approx(result["replicas"][0]["test_error"], abs=1e-6)
    assert model.about["best_epoch"] is None


@pytest.mark.slow
def test_a_replica_of_a_grid_states_the_objective_that_it_had(tmp_path):
    config = config_of(
        "quickstart",
        epochs=1,
        model__features=(4,),
        objective={"name": "label_smoothing", "smoothing": 0.1},
        replicas__grid={"objective.smoothing": (0.1, 0.2)},
        evaluation__attacks={},
    )
    train.run(config, tmp_path / "run")
    models = trained.load_all(tmp_path / "run")
    assert [model.about["objective"]["smoothing"] for model in models] == [0.1, 0.2]


def test_a_damaged_checkpoint_is_skipped_only_in_an_unfinished_run(replicas, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(replicas[0], workdir)
    for path in (workdir / "checkpoints" / "4" / "tree").rglob("*"):
        if path.is_file():
            path.write_bytes(b"?")
    before = contents(workdir)
    says = "checkpoints must have an intact checkpoint of epoch 4, the last of the finished run"
    with pytest.raises(UserError, match=says):
        trained.load(workdir)
    assert contents(workdir) == before
    shutil.rmtree(workdir / "checkpoints" / "4")
    with pytest.raises(UserError, match=says):
        trained.load(workdir)
    (workdir / "result.json").unlink()
    assert trained.load(workdir).about["epochs"] == 3
    shutil.rmtree(workdir / "checkpoints")
    with pytest.raises(UserError, match="checkpoints must have an intact checkpoint, got none"):
        trained.load(workdir)


def test_a_run_that_goes_on_while_it_is_read_is_read_again(replicas, tmp_path, monkeypatch):
    workdir = tmp_path / "copy"
    shutil.copytree(replicas[0], workdir)
    saved = workdir / "checkpoints"
    shutil.move(saved / "4", tmp_path / "4")
    result = (workdir / "result.json").rename(tmp_path / "result.json")

    class Late(trained.Checkpoints):
        """The run ends, and deletes its only checkpoint, before this is read."""

        def restore(self, like):
            if (saved / "3").exists():
                shutil.rmtree(saved / "3")
                shutil.move(tmp_path / "4", saved / "4")
                result.rename(workdir / "result.json")
            return super().restore(like)

    monkeypatch.setattr(trained, "Checkpoints", Late)
    assert trained.load(workdir).about["epochs"] == 4


def test_without_a_folder_for_temporary_files_the_variable_is_named(replicas, monkeypatch):
    full = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    monkeypatch.setattr(tempfile, "TemporaryDirectory", Mock(side_effect=full))
    with pytest.raises(UserError, match="^TMPDIR must be a folder that takes files, got none: No "):
        trained.load(replicas[0])


def test_a_folder_without_a_run_is_refused(replicas, tmp_path, monkeypatch, digits):
    workdir, _ = replicas
    with pytest.raises(
        UserError, match="workdir must be the directory of a run, got .* no config.json"
    ):
        trained.load(tmp_path)
    for replica in (2, -1, "0", 0.5, None):
        with pytest.raises(UserError, match=f"replica must be 0 to 1, .*, got {replica!r}"):
            trained.load(workdir, replica=replica)
    other = digits._replace(sha256={"mnist": "another"})
    serve(monkeypatch, other)
    with pytest.raises(UserError, match="holds a run on other data"):
        trained.load(workdir)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json is damaged"):
        trained.load(tmp_path)


def goodfellow(mode, **changes):
    make = runpy.run_path("configs/goodfellow_mnist.py")["get_config"]
    changes = {path.replace("__", "."): value for path, value in changes.items()}
    common = {"epochs": 1, "data.num_valid": 100, "evaluation.attacks": {}}
    return with_values(make(f"quick,{mode}").to_dict(), common | changes)


@pytest.mark.slow
def test_a_student_loads_without_the_teacher_but_a_stack_needs_the_classifier(replicas, tmp_path):
    teacher = tmp_path / "teacher"
    shutil.copytree(replicas[0], teacher)
    student = goodfellow(f"model=softmax,method=distillation,source={teacher}")
    stack = goodfellow(f"method=dae,source={teacher}", model__features=(8,))
    found = {
        name: train.run(config, tmp_path / name)["replicas"][0]["test_error"]
        for name, config in (("student", student), ("stack", stack))
    }
    assert error_of(trained.load(tmp_path / "stack")) == pytest.approx(found["stack"], abs=1e-6)
    shutil.rmtree(teacher)
    assert error_of(trained.load(tmp_path / "student")) == pytest.approx(found["student"], abs=1e-6)
    message = "^model.classifier_fn must be a finished run, got '.*teacher'$"
    with pytest.raises(UserError, match=message):
        trained.load(tmp_path / "stack")


def changed(digits, **test):
    return digits._replace(test=digits.test._replace(**test))


def test_a_source_on_other_inputs_or_classes_is_refused_with_the_field(replicas, digits):
    part = {"objective": {"name": "distillation", "teacher_fn": str(replicas[0])}}
    assert list(trained.source_fns(part, digits)) == [str(replicas[0])]
    x, y = digits.test
    # A teacher of all digits may teach a sample of them.
    assert list(trained.source_fns(part, changed(digits, x=x[:5], y=y[:5]))) == [str(replicas[0])]
    others = {
        "data.name other and mnist": digits._replace(name="other"),
        "bounds None and (0.0, 1.0)": digits._replace(bounds=None),
        "num_classes 12 and 10": digits._replace(num_classes=12),
        "inputs of the shape (27, 28, 1) and (28, 28, 1)": changed(digits, x=x[:, 1:]),
    }
    said = "objective.teacher_fn must be a run on the same inputs, of the same classes, got"
    for apart, other in others.items():
        with pytest.raises(UserError, match=f"^{said} .*: {re.escape(apart)}$"):
            trained.source_fns(part, other)
    centered = part | {"data": {"preprocess": ("center",)}}
    with pytest.raises(UserError, match=rf"^{said} .*: data.preprocess \['center'\] and \[\]$"):
        trained.source_fns(centered, digits)


def test_test_sets_are_the_same_up_to_the_rounding_of_their_inputs(digits):
    x, y = digits.test
    assert trained.tested_apart(digits, changed(digits, x=np.nextafter(x, np.float32(1)))) == ""
    assert trained.tested_apart(digits, changed(digits, y=y[::-1])) == "other test labels"
    for other in (x[:, ::-1], x + np.float32(1 / 1023)):
        assert trained.tested_apart(digits, changed(digits, x=other)).startswith(
            "other test inputs"
        )
    assert trained.tested_apart(digits, changed(digits, x=x[:5], y=y[:5])) == "other test labels"
    # Ages differ, beside incomes of a far larger range.
    incomes, ages = 1e6 * y, np.arange(len(y)) % 90
    tables = [
        changed(digits, x=np.float32(np.stack([incomes, own], 1))) for own in (ages, ages[::-1])
    ]
    assert trained.tested_apart(*tables).startswith("other test inputs")


def test_models_of_equal_files_that_are_tested_on_other_labels_are_not_compared(replicas):
    model = trained.load(replicas[0])
    discriminator = model._replace(predicts="real", dataset=trained._real(model.dataset))
    options = {"norm": None, "eps": [0.1], "bounds": "data", "num_examples": 5}
    compared = partial(common_task, attack_names=["fgsm"], batch_size=5, seed=0, **options)
    assert len(compared({"one": model, "two": model}).labels) == 5
    legal = "workdir must be runs that are tested on the same data"
    for pair, apart in (((model, discriminator), "10 and 2"), ((discriminator, model), "2 and 10")):
        with pytest.raises(UserError, match=f"^{legal}, got one and two: num_classes {apart}$"):
            compared(dict(zip(("one", "two"), pair, strict=True)))
        with pytest.raises(UserError, match=f"same data, got num_classes {apart}$"):
            require_same_inputs(pair)


def test_a_temperature_that_is_not_positive_is_refused(replicas, tmp_path):
    for temperature in (0.0, -2.0):
        config = goodfellow("model=softmax,method=teacher", objective__temperature=temperature)
        message = "objective.temperature must be a finite number above 0, got"
        with pytest.raises(UserError, match=message):
            train.run(config, tmp_path / "run")

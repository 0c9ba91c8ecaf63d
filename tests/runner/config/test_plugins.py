"""Parts of an experiment in the user's own module, found by import path from the current folder."""

import hashlib
import json
import shutil
import sys
from functools import partial

import jax
import numpy as np
import pytest
from refusals import refusal
from short_run import document

from adv_jax import train
from adv_jax.runner.config.plugins import find, recorded
from adv_jax.runner.run import evaluation, trained
from adv_jax.types import UserError

refused = partial(refusal, error=UserError)
MINE = """
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from adv_jax import data

NUMBER = 3


def load(count: int = 90, dir=""):
    y = np.arange(count) % 3
    x = np.eye(3)[y] + np.linspace(-0.2, 0.2, 3 * count).reshape(count, 3)
    return data.from_arrays("corners", train=(x, y), test=(x[:30], y[:30]), bounds=(-1, 2))


class Net(nn.Module):
    units: int = 4
    alpha: "float" = 5.0  # which adversarial_mix has in [0, 1]

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(self.alpha * jnp.tanh(nn.Dense(self.units)(x)))


def doubled(apply, variables, batch, *, key, attack, weight: float):
    x_adv = attack(lambda x: apply(variables, x).logits, batch["x"], batch["y"], key=key)
    logits = apply(variables, x_adv, train=True, key=key).logits
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
    return weight * losses.mean(), ({}, {})


def shift(logits_fn, x, y, *, eps, key=None, **others):
    return x + eps


def momentum(learning_rate, steps: int = 2):
    assert isinstance(steps, int)
    return optax.trace(0.5 * steps / 2) if learning_rate is None else optax.sgd(learning_rate, 0.9)


def keyless(logits_fn, x, y, *, eps):
    return x


def one(x):
    return x


def four():
    return 4


def mislabeled():
    part = np.zeros((3, 2)), np.array([0, 1, 2])
    return data.from_arrays("bad", train=part, test=part, num_classes=2)


def broken():
    raise KeyError("no file")
"""


def here(folder, patch):
    """Makes a folder the current one, and forgets the module of another."""
    patch.chdir(folder)
    patch.setattr(sys, "dont_write_bytecode", True)  # Two edits may fall into one second.
    patch.setattr("adv_jax.runner.config.plugins._loaded", {})
    patch.delitem(sys.modules, "mine", raising=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with mine.py only."""
    (tmp_path / "mine.py").write_text(MINE)
    here(tmp_path, monkeypatch)
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    """A folder with mine.py and a finished run of it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "mine.py").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        here(folder, patch)
        train.run(config(model={"units": 5}), "run")
    sys.modules.pop("mine", None)
    return folder


@pytest.fixture
def finished(trained_run, folder):
    """The current folder, with mine.py and a copy of its finished run."""
    shutil.copytree(trained_run / "run", folder / "run")
    return folder


def config(**changes):
    """Returns a config whose parts are in mine.py; `changes` replace fields of its parts."""
    attack = {"name": "mine:shift", "eps": 0.1}
    parts = {
        "data": {"name": "mine:load", "source": "import", "dir": "", "num_valid": 0}
        | {"num_labels": 0, "count": 60},
        "model": {"name": "mine:Net"},
        "objective": {"name": "mine:doubled", "weight": 0.5, "attack": attack},
        "optimizer": {"name": "mine:momentum", "learning_rate": 0.1},
        "evaluation": {"attacks": {"own": {"name": "mine:shift"}}, "eps": (0.0, 0.2)},
    }
    changed = {name: spec | changes.get(name, {}) for name, spec in parts.items()}
    return document() | {"batch_size": 30} | changed


@pytest.mark.slow
def test_an_attack_that_returns_nan_has_no_error(folder):
    (folder / "mine.py").write_text(MINE.replace("return x + eps", "return x + eps / (eps - 0.2)"))
    changed = config(objective={"attack": {"name": "mine:shift", "eps": 0.0}})
    changed["evaluation"] = {"attacks": {"own": {"name": "mine:shift"}}, "eps": (0.0, 0.2)}
    said = refused(train.run, changed, "run")
    assert said == "evaluation.attacks.own must return finite inputs, got NaN or infinity"
    assert not (folder / "run" / "result.json").exists()


@pytest.mark.slow
def test_an_attack_without_random_numbers_needs_no_key(folder):
    attack = {"name": "mine:keyless"}
    changed = config(objective={"attack": attack | {"eps": 0.1}})
    changed["evaluation"] = {"attacks": {"own": attack}, "eps": (0.0, 0.2)}
    found = train.run(changed, "run")["evaluation"]["own"]["error"][0]
    assert found[0] == found[1]  # It returns x.
    evaluation.run(["run"], attack_names=["mine:keyless"], eps=[0.2], bounds=None)
    document = json.loads((folder / "run" / "evaluation" / "evaluation.json").read_text())
    assert document["attacks"]["mine:keyless"]["accuracy"] == [pytest.approx(1 - found[0])]


@pytest.mark.slow
def test_all_parts_of_a_run_come_from_the_users_file(finished, capsys):
    folder, file = finished, finished / "run" / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"warnings": ["accuracy rises"]}))
    result = train.run(config(model={"units": 5}), "run")
    said = capsys.readouterr().out
    assert "holds the finished run\n" in said and "\nwarning: accuracy rises\n" in said
    assert (result["data"]["name"], result["data"]["source"]) == ("corners", "import")
    assert result["data"]["sizes"]["train"] == 60
    recorded = json.loads((folder / "run" / "config.json").read_text())
    assert recorded["modules"] == {"mine": hashlib.sha256(MINE.encode()).hexdigest()}
    model = trained.load("run")
    shapes = jax.tree.map(np.shape, model.variables["params"])
    assert shapes["Dense_0"]["kernel"] == (5, 3)  # the last layer
    # The attack adds eps to each value: the run's own error is that of the shifted test set.
    x, y = model.dataset.test
    wrong = float((model.logits_fn(x + np.float32(0.2)).argmax(1) != y).mean())
    assert result["evaluation"]["own"]["error"][0][1] == pytest.approx(wrong, abs=1e-6)
    evaluation.run(["run"], attack_names=["mine:shift"], eps=[0.2], bounds=None)
    found = json.loads((folder / "run" / "evaluation" / "evaluation.json").read_text())
    assert found["attacks"]["mine:shift"]["accuracy"] == [pytest.approx(1 - wrong, abs=1e-6)]


@pytest.mark.slow
def test_a_run_is_not_resumed_or_loaded_after_a_change_of_the_users_file(finished):
    folder = finished
    (folder / "mine.py").write_text(MINE.replace("jnp.tanh", "jnp.sin"))
    message = refused(train.run, config(model={"units": 5}), "run")
    assert message.startswith("workdir run holds a run of another config: the file of module mine ")
    message = refused(trained.load, "run")
    assert message.startswith(f"run/config.json: modules.mine must be the SHA-256 of {folder}/mine")
    (folder / "mine.py").write_text(MINE)
    assert trained.load("run").about["epochs"] == 2


def test_a_changed_file_is_imported_again_before_the_next_run(folder):
    before = recorded(config())["modules"]["mine"]
    assert find("mine:four", field="f")() == 4
    (folder / "mine.py").write_text(MINE.replace("return 4", "return 5"))
    assert find("mine:four", field="f")() == 4  # A run in progress keeps its code.
    assert recorded(config())["modules"]["mine"] != before
    assert find("mine:four", field="f")() == 5


@pytest.mark.slow
def test_a_run_read_from_another_folder_names_the_missing_module(finished, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    message = refused(trained.load, "../run")
    assert message.startswith(
        "../run/config.json: data.name must be package.module:attribute of a "
    )
    assert f"from {tmp_path}/elsewhere, got 'mine:load'" in message
    assert message.endswith("(ModuleNotFoundError: No module named 'mine')")


def test_a_config_without_import_paths_is_recorded_as_it_is():
    assert recorded(document()) == document()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"model": {"name": "nowhere:Net"}},
            "model.name must be package.module:attribute of a mod",
        ),
        ({"model": {"name": "mine:Nett"}}, "got 'mine:Nett'; did you mean 'mine:Net'?"),
        ({"model": {"name": "mine:NUMBER"}}, "must be a function or a class, got 'mine:NUMBER', a"),
        (
            {"model": {"name": "mine:"}},
            "model.name must be a name or package.module:attribute, got",
        ),
        ({"model": {"name": "mine.Net"}}, "an import path has a colon: 'mine:Net'"),
        ({"model": {"name": "sys:exit"}}, "model.name must be in a module with a file, got 'sys:"),
        (
            {"model": {"name": "mine:four"}},
            "must make a Flax Linen module, got 'mine:four', which m",
        ),
        (
            {"model": {"unit": 3}},
            "a setting of model.mine:Net must be one of units, alpha, got 'unit'",
        ),
        ({"model": {"alpha": "x"}}, "model.alpha must be a number, got 'x'"),
        (
            {"objective": {"name": "mine:one"}},
            "must take (apply, variables, batch, *, key), got 'mine:one', which takes (x)",
        ),
        (
            {"objective": {"attack": {"name": "mine:one", "eps": 1}}},
            "objective.attack.name must t",
        ),
        (
            {"optimizer": {"name": "mine:four", "learning_rate": 1}},
            "a setting of optimizer.mine:four",
        ),
        (
            {"data": {"name": "mine:broken", "count": 1}},
            "a setting of data.mine:broken must be left out",
        ),
        (
            {"data": {"counts": 6}},
            "a setting of data.mine:load must be one of count, dir, got 'cou",
        ),
        ({"data": {"count": "x"}}, "data.count must be a number, got 'x'"),
        ({"data": {"name": "mnist"}}, "data.name must be package.module:function for data.source"),
        (
            {"data": {"source": "files"}},
            "data.source must be 'import' for data.name 'mine:load', got",
        ),
    ],
)
def test_invalid_parts_are_refused_in_one_line(folder, changes, says):
    assert says in refused(train.run, config(**changes), "run")
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mine:four", "mine:four must return an adv_jax.data.Dataset, got a int"),
        ("mine:mislabeled", "bad: the label of row 2 of y_train must be 0 to 1, got 2"),
        (
            "mine:broken",
            "data.name must load a data set, got 'mine:broken' (KeyError: 'no file' in ",
        ),
        (
            "mnist",
            "data.name must be package.module:function for data.source 'import', got 'mnist'",
        ),
    ],
)
def test_a_function_that_returns_no_valid_data_set_is_refused(folder, name, says):
    changed = config()
    changed["data"] = {k: v for k, v in changed["data"].items() if k != "count"} | {"name": name}
    assert says in refused(train.run, changed, "run")


def test_an_optimizer_must_be_one_of_optax(folder):
    changed = config()
    changed["optimizer"] = {"name": "mine:four"}
    assert (
        "must make an optax.GradientTransformation, got 'mine:four', which made a int"
        in refused(train.run, changed, "run")
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("jnp.tanh(", "jnp.reshape(3, ", "in mine.py, line 25"),
        (
            "    return x + eps",
            "    raise RuntimeError('no')",
            "RuntimeError: no in mine.py, line 36",
        ),
        (
            "    return x + eps",
            "    return x[:1] + eps",
            "objective.attack must return an array of the shape of x, float32[30, 3], got float32",
        ),
        ("weight * losses.mean(), ({}, {})", "losses", "got doubled: float32[30]"),
        ("({}, {})", "({}, {'a': losses})", "objective must return metrics f32[], got a, an array"),
        ("nn.Dense(3)", "nn.Dense(4)", "model must have 3 classes, as data.name has, got 4"),
    ],
)
def test_an_error_in_the_users_code_is_one_line_before_training(folder, old, new, says):
    assert old in MINE
    (folder / "mine.py").write_text(MINE.replace(old, new))
    assert says in refused(train.run, config(), "run")
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("def Net(:", "(SyntaxError: invalid syntax (mine.py, line 1))"),
        ("import absent_package", "(ModuleNotFoundError: No module named 'absent_package')"),
        ("\n1 / 0", "(ZeroDivisionError: division by zero in mine.py, line 2)"),
        ("import sys\nsys.exit('bye')", "(SystemExit: bye in mine.py, line 2)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_refused_in_one_line(folder, content, says):
    (folder / "mine.py").write_text(content)
    assert refused(find, "mine:Net", field="model.name").endswith(says)

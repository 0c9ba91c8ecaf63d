"""Every config in every mode is valid, builds, and has no unread field."""

import ast
import json
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import flags
from config_files import CONFIGS, FOLDER, config_of
from config_modes import MODES
from marks import exhaustive_after
from ml_collections import config_flags
from short_run import serve

from adv_jax import data, train
from adv_jax.runner.config.building import attack_of
from adv_jax.runner.config.document import leaves, with_values
from adv_jax.runner.config.fields import validate
from adv_jax.runner.config.replicas import replicas
from adv_jax.runner.run.experiment import Experiment
from adv_jax.runner.run.inputs import rows_of
from adv_jax.runner.store.result import Loss

NOT_EMBEDDED = {
    "backprop_cifar10": "tfds",
    "goodfellow_cifar10": "tfds",
    "huang_vgg_cifar10": "tfds",
    "ladder_cifar10": "tfds",
    "shallow_cifar10": "tfds",
    "shallow_covtype": "sklearn",
    "resnet_cifar10": "tfds",
    "wrn_cifar10": "tfds",
}
# The trained models that configs name.
SOURCES = {"RUN": lambda x: x.reshape(len(x), -1)[:, :10]}
EVERY = [(name, mode) for name, modes in MODES.items() for mode in modes]


def noise(name: str, size: int, shape: tuple[int, ...], num_classes: int = 10) -> data.Dataset:
    """Returns noise with balanced classes for training; the first 20 rows are the test set."""
    x = np.random.default_rng(0).random((size, *shape), np.float32)
    y = (np.arange(size) % num_classes).astype(np.int32)
    parts = data.Arrays(x, y), data.Arrays(x[:20], y[:20])
    return data.Dataset(name, "made up", {}, *parts, num_classes, (0.0, 1.0))


@pytest.fixture(scope="module")
def datasets():
    return {
        "mnist": noise("mnist", 1200, (28, 28, 1)),
        "cifar10": noise("cifar10", 4000, (32, 32, 3)),
        "covtype": noise("covtype", 700, (54,), num_classes=7),
    }


@pytest.fixture
def digits(datasets):
    return datasets["mnist"]


def shrunk(config: dict) -> dict:
    """Returns the config for few images: one epoch and a small validation set."""
    changes = {"data.num_valid": min(config["data"]["num_valid"], 20), "epochs": 1}
    return with_values(config, changes)


def test_every_config_is_in_the_table_of_modes():
    assert {path.stem for path in CONFIGS} == set(MODES), "see tests/support/config_modes.py"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_docstring_of_a_config_has_the_commands_and_links_the_results(path):
    document = ast.get_docstring(ast.parse(path.read_text()))
    command = f"python -m adv_jax.main --config=configs/{path.name}"
    assert f"Run:    {command}" in document and f"Quick:  {command}:quick" in document
    pages = r"docs/results\.md|papers/\w+/README\.md|No result of this config is stored"
    assert re.search(pages, document)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_docstring_of_a_config_has_at_most_40_lines(path):
    assert len(ast.get_docstring(ast.parse(path.read_text())).splitlines()) <= 40


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_guide_has_a_section_for_each_config(path):
    guide = (FOLDER.parent / "docs" / "experiments.md").read_text()
    assert f"\n## `{path.stem}`\n" in guide


def trace(config, dataset):
    """Returns the shapes of the state after an epoch, its metrics and its evaluation."""
    runs = replicas(config)
    rows = {key: values[0] for key, values in rows_of(config, dataset, runs).items()}
    experiment = Experiment(config, dataset, SOURCES)
    arrays = dataset.arrays()
    hyper = {path: np.float32(value) for path, value in runs[0].overrides.items()}
    run = jax.eval_shape(experiment.init, np.int32(0), hyper)
    run, metrics = jax.eval_shape(experiment.epoch, run, arrays, rows)
    _, measured = jax.eval_shape(experiment.monitor, run, arrays, rows)
    evaluation = jax.eval_shape(experiment.evaluate, run, arrays, rows)
    return SimpleNamespace(
        run=run,
        metrics=metrics,
        measured=measured,
        evaluation=evaluation,
        num_train=len(rows["train"]),
    )


@pytest.mark.parametrize(("name", "mode"), EVERY)
def test_every_config_is_valid_and_plain_json(name, mode):
    config = config_of(name, mode)
    validate(config)
    assert config["experiment"] == name
    embedded = "embedded" if "quick" in mode else "tfds"
    assert config["data"]["source"] == NOT_EMBEDDED.get(name, embedded)
    json.dumps(config)  # as config.json
    for path, value in leaves(config):
        parts = jax.tree.leaves(value, is_leaf=lambda part: not isinstance(part, tuple | dict))
        assert all(isinstance(part, str | int | float | bool) for part in parts), path


# The first mode of one config of each kind of net and step.
KINDS = ("quickstart", "huang_mlp_mnist", "ladder_mnist")
FIRST = [next(at for at in EVERY if at[0] == name) for name in KINDS]


def costs(name, mode):
    """Returns the mark of a config's trace.

    The later modes of a config change numbers, repeat blocks or join what other traces have apart;
    `test_a_run_reads_every_field_and_trains` trains some of them.
    """
    if (name, mode) in FIRST:
        return ()
    number = [of for at, of in EVERY if at == name].index(mode)
    return pytest.mark.exhaustive if number else pytest.mark.slow


@pytest.mark.parametrize(("name", "mode"), [pytest.param(*at, marks=costs(*at)) for at in EVERY])
def test_every_config_traces_an_epoch_and_its_evaluation(name, mode, datasets):
    config = shrunk(config_of(name, mode))
    traced = trace(config, datasets[config["data"]["name"]])
    assert traced.metrics["loss"].shape == (traced.num_train // config["batch_size"],)
    if isinstance(traced.evaluation, Loss):  # a model without classes
        assert "test_loss" in traced.measured and not config["evaluation"]["attacks"]
        return
    assert "test_error" in traced.measured
    sizes = (len(config["evaluation"]["eps"]),)
    assert traced.evaluation.attacks.keys() == config["evaluation"]["attacks"].keys()
    assert all(curve.accuracy.shape == sizes for curve in traced.evaluation.attacks.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    exhaustive_after(
        1, ["goodfellow_mnist", "backprop_cifar10", "huang_lenet_mnist", "ladder_mnist"]
    ),
)
def test_the_state_of_a_run_stays_float32_with_float64_enabled(name, datasets):
    config = shrunk(config_of(name, "quick"))
    with jax.enable_x64(True):
        state = trace(config, datasets[config["data"]["name"]]).run
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(state)}
    assert np.dtype(np.float32) in dtypes and np.dtype(np.float64) not in dtypes


def test_modes_and_options_of_the_configs_set_the_documented_fields():
    assert config_of("ladder_mnist", "labels=100")["data"]["num_labels"] == 100
    assert "attack" not in config_of("ladder_mnist", "noise=none")["objective"]
    assert config_of("ladder_mnist", "noise=sgn")["objective"]["attack"]["eps"] == 0.00045
    both = config_of("ladder_mnist", "noise=sgn,unlabeled_noise=udg")["objective"]
    assert both["attack"]["norm"] == "linf" and both["unlabeled_attack"]["name"] == "raw_gradient"
    assert both["unlabeled_attack"]["tau"] == 4.5e-10  # 4.5e-8 on the gradient of a mean over 100
    assert config_of("ladder_mnist", "table=24")["objective"]["unlabeled_attack"]["norm"] == "rms"
    assert config_of("shallow_mnist", "width=5")["model"]["features"] == (5,)
    assert config_of("shallow_mnist", "model=A")["objective"] == {"name": "cross_entropy"}
    mixed = config_of("shallow_mnist", "model=C")["objective"]
    assert mixed["attack"] == {"name": "gaussian_noise", "std": 0.25} and mixed["alpha"] == 0.5
    for width in (60, 80, 100, 120, 150):  # Table 3.1
        raw = config_of("shallow_covtype", f"inputs=raw,width={width}")
        assert raw["model"]["features"] == (width,) and "preprocess" not in raw["data"]
    swept = replicas(config_of("shallow_mnist", "sweep=eps"))
    assert [r.overrides["objective.attack.eps"] for r in swept][:3] == [0.0, 0.05, 0.1]
    assert config_of("goodfellow_mnist", "temperature=7,method=teacher")["objective"] == {
        "name": "tempered_cross_entropy",
        "temperature": 7.0,
    }
    # Nokland prints .5, of a gradient that counts (1 - momentum).
    conv = config_of("backprop_cifar10", "net=conv")["optimizer"]
    assert conv["learning_rate"] == pytest.approx(0.5 * (1 - conv["momentum"]))
    assert config_of("goodfellow_mnist", "model=tanh")["model"]["activation"] == "tanh"
    # The program of [rasmus2015] lowers the layers' noise for the whole ladder only.
    for training, std in (("ladder", 0.2), ("gamma", 0.3), ("bottom", 0.3)):
        noise = config_of("ladder_mnist", f"labels=1000,training={training}")["model"]["noise_std"]
        assert noise == (0.3,) + (std,) * 6
    for name in MODES:
        assert config_of(name, "") == config_of(name, "paper")


# Functions of adv_jax that walk a whole document, whatever its fields.
WALKERS = ("leaves", "_check_document")


class Recorder(dict):
    """A nested dict that records the dotted path of every value that is read.

    Reads by `leaves` (range checks) and JSON (config.json) do not count, as they visit all values.
    """

    def __init__(self, values: dict, seen: set[str], prefix: str = "") -> None:
        super().__init__(
            {
                key: Recorder(value, seen, f"{prefix}{key}.")
                if isinstance(value, dict) and f"{prefix}{key}" != "replicas.grid"
                else value
                for key, value in values.items()
            }
        )
        self._seen, self._prefix = seen, prefix

    def __deepcopy__(self, memo: dict) -> "Recorder":
        return Recorder(dict(super().items()), self._seen, self._prefix)

    def __getitem__(self, key):
        self._seen.add(f"{self._prefix}{key}")
        return super().__getitem__(key)

    def get(self, key, default=None):
        self._seen.add(f"{self._prefix}{key}")
        return super().get(key, default)

    def items(self):
        frame = sys._getframe(1)
        asked_by = frame.f_globals["__name__"]
        if asked_by.startswith("adv_jax.") and frame.f_code.co_name not in WALKERS:
            self._seen.update(f"{self._prefix}{key}" for key in self)
        return super().items()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode"),
    exhaustive_after(
        1,
        [
            ("quickstart", "quick"),
            ("huang_mlp_mnist", "quick,method=lwa_rep"),
            ("ladder_mnist", "quick,labels=100,noise=sgn"),
            ("huang_mlp_mnist", "quick,method=lwa_rep_relative"),
            ("huang_mlp_mnist", "quick,method=dropout"),
            ("huang_lenet_mnist", "quick"),
            ("fast_mnist", "quick"),
            pytest.param("wrn_cifar10", "quick", marks=pytest.mark.exhaustive),
            pytest.param(
                "resnet_cifar10", "quick,method=adversarial_mix", marks=pytest.mark.exhaustive
            ),
            ("online_mnist", "quick,rule=pa1"),
            ("rules_mnist", "quick,optimizer=bold_driver,regularizer=affine"),
            ("rules_mnist", "quick,optimizer=adadelta,regularizer=dropconnect"),
            pytest.param(
                "rules_mnist",
                "quick,net=inception,regularizer=morphology",
                marks=pytest.mark.exhaustive,
            ),
            pytest.param(
                "rules_mnist",
                "quick,net=average,regularizer=l1,loss=squared_error",
                marks=pytest.mark.exhaustive,
            ),
            pytest.param("huang_vgg_cifar10", "quick,method=lwa_rep", marks=pytest.mark.exhaustive),
            ("shallow_mnist", "quick,model=A,width=5"),
            ("shallow_mnist", "quick,model=C,width=5"),
            ("shallow_mnist", "quick,sweep=eps,width=5"),
            ("shallow_cifar10", "quick"),
            ("shallow_covtype", "quick,width=60"),
            pytest.param("ladder_conv_mnist", "quick,noise=sgn", marks=pytest.mark.exhaustive),
            ("backprop_mnist", "quick,method=adversarial"),
            ("backprop_cifar10", "quick,net=fc,method=adversarial_dropout,preprocess=simple"),
            pytest.param("goodfellow_cifar10", "quick", marks=pytest.mark.exhaustive),
            pytest.param("trades_mnist", "quick,method=trades_awp", marks=pytest.mark.exhaustive),
            ("goodfellow_mnist", "quick,model=softmax,method=smoothing"),
            ("autoencoder_mnist", "quick,training=stacked"),
        ],
    ),
)
def test_a_run_reads_every_field_and_trains(name, mode, datasets, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data, "load", lambda name, *, source, dir: datasets[name])
    config = shrunk(config_of(name, mode))
    if name == "ladder_mnist":  # narrower, but as deep
        config["model"]["layers"] = "12-11-11-11-11-10"
    if name == "ladder_conv_mnist":
        layers = config["model"]["layers"]
        config["model"]["layers"] = re.sub(r":(32|64|128):", ":3:", layers)
    if name == "huang_lenet_mnist":
        config["model"]["features"] = (2, 2, 8)
    if name == "huang_vgg_cifar10":
        config["model"] |= {"stages": ((2,) * 3,) * 2, "units": (4, 4)}
    if name == "wrn_cifar10":
        config["objective"]["attack"]["num_steps"], config["batch_size"] = 1, 500
    if name == "goodfellow_cifar10":  # ZCA of 3,072 components takes a minute.
        config["data"]["preprocess"] = config["data"]["preprocess"][:1]
        config["model"] |= {"maps": (2, 2, 2), "kernel_sizes": (2, 2, 2), "units": (4,)}
    seen: set[str] = set()
    result = train.run(Recorder(config, seen), tmp_path / "run")
    fields = {path for path, _ in leaves(config)} | {"replicas.grid"}
    assert fields - seen == set()
    if "test_loss" not in result["replicas"][0]:
        assert all(0 <= replica["test_error"] <= 1 for replica in result["replicas"])
    assert len(result["replicas"]) == len(replicas(config))


@pytest.mark.slow
def test_the_recorder_finds_an_unread_field(digits, tmp_path, capsys, monkeypatch):
    serve(monkeypatch, digits)
    checked = "adv_jax.runner.config.fields.check_fields"
    monkeypatch.setattr(checked, lambda config: None)  # It refuses them.
    config = shrunk(config_of("shallow_mnist", "quick,model=A,width=5")) | {"unread": 1}
    config["data"]["unread"] = 2
    seen: set[str] = set()
    train.run(Recorder(config, seen), tmp_path / "run")
    assert {path for path, _ in leaves(config)} - seen == {"unread", "data.unread"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm", "shape"),
    [
        ("huang_mlp_mnist", 1.5, (28, 28)),
        ("huang_lenet_mnist", 1.5, (28, 28, 1)),
        ("huang_vgg_cifar10", 0.5, (28, 28, 3)),
    ],
)
def test_each_attack_of_huang_2015_has_the_l2_norm_of_the_paper(name, norm, shape):
    """[huang2015], Tables 1 to 3: an l2 norm of 1.5, and of .5 on CIFAR-10."""
    config = config_of(name, "fixed=RUN")
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(20, *shape)), jnp.float32)
    y = jnp.asarray(rng.integers(0, 10, 20))
    w = jnp.asarray(rng.normal(scale=0.02, size=(math.prod(shape), 10)), jnp.float32)
    columns = config["evaluation"]["attacks"]
    assert columns.keys() == {"fixed", "adv_loss_sign", "adv_loss", "adv_alpha"}
    assert norm in config["evaluation"]["eps"]
    for column, spec in columns.items():
        attack = attack_of(spec, column, SOURCES, free=("eps",))
        moved = attack(lambda x: jnp.tanh(x.reshape(20, -1) @ w), x, y, eps=norm) - x
        lengths = np.linalg.norm(np.reshape(moved, (20, -1)), axis=1)
        np.testing.assert_allclose(lengths, norm, rtol=1e-4, err_msg=column)


LADDERS = ("ladder_mnist", "ladder_conv_mnist", "ladder_cifar10")


@pytest.mark.parametrize("name", LADDERS)
def test_the_field_in_the_docstring_of_a_ladder_disables_the_decay(name):
    text = Path(f"configs/{name}.py").read_text()
    path, value = re.search(r"--config\.(\S+)=(\S+) disables the decay", text).groups()
    config = with_values(config_of(name, "paper"), {path: float(value)})
    schedule = {k: v for k, v in config["optimizer"]["learning_rate"].items() if k != "name"}
    rates = optax.linear_schedule(**schedule)(np.arange(config["epochs"]))
    np.testing.assert_allclose(rates, 0.002, rtol=1e-6)


@pytest.mark.parametrize("name", LADDERS)
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gradient_pass", "clean"),
        ("virtual_labels", "clean"),
        ("draw", "same"),
        ("statistics", "frozen"),
        ("attack.constant", False),
    ],
)
def test_choices_that_maronas_2016_leaves_open_are_fields_of_each_ladder(name, path, value):
    config = config_of(name, "quick,noise=sgn")
    assert f"objective.{path}" in dict(leaves(config))
    validate(with_values(config, {f"objective.{path}": value}))


@pytest.mark.slow
def test_an_override_on_the_command_line_changes_the_experiment(digits):
    def parsed(*argv):
        values = flags.FlagValues()
        line = ["main", f"--config={CONFIGS[0].with_stem('quickstart')}:quick", *argv]
        flag = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=line)
        values(line)
        return shrunk(flag.value.to_dict())

    def built(config):
        experiment = Experiment(config, digits)
        run = jax.eval_shape(experiment.init, np.int32(0), {})
        return experiment.steps_per_epoch, jax.tree.map(lambda leaf: leaf.shape, run.state.params)

    steps, params = built(parsed())
    assert steps == 11 and params["hidden1"]["kernel"] == (784, 400)
    argv = ["--config.model.features=(7,)", "--config.batch_size=50", "--config.data.num_valid=0"]
    steps, params = built(parsed(*argv))
    assert steps == 24 and params["hidden1"]["kernel"] == (784, 7)
    overridden = parsed("--config.replicas.seeds=3", "--config.seed=9", "--config.patience=2")
    assert [replica.seed for replica in replicas(overridden)] == [9, 10, 11]


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_quick_evaluations_under_attack_iterate(name):
    """One step overestimates robust accuracy; the papers' own evaluations are not touched."""
    quick = config_of(name, "quick")["evaluation"]["attacks"]
    names = {spec["name"] for spec in quick.values()}
    assert not names or "pgd" in names, "add pgd to the attacks of the quick evaluation"
    if name == "quickstart":
        same = {**quick["fgsm"], "name": "pgd", "num_steps": 10}
        assert quick["pgd"] == same
        assert "pgd" not in config_of(name, "paper")["evaluation"]["attacks"]

"""Bad command lines are refused in one line."""

import ast
import re
import runpy
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from adv_jax.runner.config import catalog, command_line
from adv_jax.runner.config.command_line import check_overrides, expanded, explain_flags, workdirs
from adv_jax.runner.config.fields import check
from adv_jax.suggestions import suggestion
from adv_jax.types import UserError

CONFIG = """
from ml_collections import ConfigDict

def get_config(mode="paper"):
    if mode not in ("paper", "quick"):
        raise ValueError(f"mode must be paper or quick, got {mode!r}")
    config = ConfigDict({"epochs": 3, "rate": 0.1, "model": {"features": (3, 2)}})
    config.replicas = {"seeds": 1}
    if mode == "quick":
        config.only_quick = 1
    return config
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    for name in ("ladder_mnist", "quickstart"):
        (tmp_path / "configs" / f"{name}.py").write_text(CONFIG)
    (tmp_path / "configs" / "common.py").write_text("SHARED = 1\n")  # which is no config
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explained(monkeypatch, *argv):
    """Returns the error message of a command line, which must be one line."""
    monkeypatch.setattr(sys, "argv", ["prog", *argv])  # ml_collections reads it, too.
    argv = expanded(sys.argv)
    # It loads each config into this module, which keeps the get_config of the last one.
    monkeypatch.delitem(sys.modules, "config_config", raising=False)
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values)
    read = lambda: (values(argv), config.value.to_dict())
    with pytest.raises(Exception) as error:
        read()
    message = explain_flags(argv, error.value)
    assert message
    assert "\n" not in message
    return message


def test_an_unknown_config_file_is_refused_with_the_existing_ones(folder, monkeypatch):
    assert explained(monkeypatch, "--config=configs/lader_mnist.py:quick") == (
        "--config must be one of configs/ladder_mnist.py, configs/quickstart.py, got "
        "'configs/lader_mnist.py'; did you mean 'configs/ladder_mnist.py'?"
    )
    assert explained(monkeypatch, "--config=nothing") == (
        f"--config must be one of {', '.join(catalog.names())}, got 'nothing'"
    )


def test_a_file_without_get_config_is_refused_by_name(tmp_path, monkeypatch):
    own = tmp_path / "own.py"
    own.write_text("width = 3")
    assert explained(monkeypatch, f"--config={own}") == (
        f"{own} must define get_config, a function that returns a config, got none"
    )


@pytest.mark.parametrize("missing", ["configs", "configs.common"])
def test_a_config_that_imports_common_by_its_name_in_a_clone_is_refused_with_the_other(
    missing, tmp_path, monkeypatch
):
    monkeypatch.delitem(sys.modules, "configs.common", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)  # As where no clone is in the path.
    own = tmp_path / "own.py"
    own.write_text("from configs.common import base")
    assert explained(monkeypatch, f"--config={own}") == (
        f"{own} must import adv_jax.configs.common, got configs.common, its name in a clone"
    )


def test_an_unknown_config_name_is_refused_with_the_nearest_one(folder, monkeypatch):
    assert explained(monkeypatch, "--config=lader_mnist:quick").endswith(
        f" {', '.join(catalog.names())}, got 'lader_mnist'; did you mean 'ladder_mnist'?"
    )


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("ladder_mnist.py", "; did you mean 'ladder_mnist'?"),
        ("/nowhere/ladder_mnist.py", "; did you mean 'ladder_mnist'?"),
        ("nothere.py", ""),
    ],
)
def test_a_file_that_does_not_exist_is_refused_without_the_list_of_names(
    folder, monkeypatch, path, near
):
    assert explained(monkeypatch, f"--config={path}") == (
        "--config must be an existing file, or a name that `python -m adv_jax` lists, got "
        f"{path!r}{near}"
    )


@pytest.mark.parametrize("given", ["own", "own:quick"])
def test_a_file_without_its_suffix_is_refused_with_it(folder, monkeypatch, given):
    (folder / "own.py").write_text(CONFIG)
    assert explained(monkeypatch, f"--config={given}") == (
        "--config must be a name or a file, got 'own'; did you mean 'own.py'?"
    )


@pytest.mark.parametrize(
    ("override", "legal", "field", "meant"),
    [
        ("epoch=3", "epochs, model, rate, replicas", "epoch", "epochs"),
        (
            "modle.features=(1,)",
            "epochs, model, rate, replicas",
            "modle.features",
            "model.features",
        ),
        ("model.featurs=(1,)", "model.features", "model.featurs", "model.features"),
        ("replicas.sed=(1,)", "replicas.seeds", "replicas.sed", "replicas.seeds"),
    ],
)
def test_an_unknown_field_is_refused_with_its_group_and_the_nearest_one(
    folder, monkeypatch, override, legal, field, meant
):
    message = explained(
        monkeypatch, "--config=configs/ladder_mnist.py", "--config.rate=.2", f"--config.{override}"
    )
    assert message == (
        f"a field of --config must be one of {legal}, got {field!r}; did you mean {meant!r}?"
    )


def test_a_group_around_an_unknown_field_is_not_suggested(folder, monkeypatch):
    message = explained(monkeypatch, "--config=configs/ladder_mnist.py", "--config.model.x=1")
    assert message.endswith(", got 'model.x'")


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--epochs=3", "'epochs'; did you mean 'config.epochs'?"),
        ("--seeds=3", "'seeds'; did you mean 'config.replicas.seeds'?"),
        ("--confi=3", "'confi'. Did you mean: config ?"),
        ("--zzz=3", "'zzz'"),
    ],
)
def test_a_field_that_is_given_as_a_flag_is_found_in_the_config(folder, monkeypatch, flag, said):
    message = explained(monkeypatch, "--config=configs/ladder_mnist.py", flag)
    assert message == f"Unknown command line flag {said}"


def test_suggested_fields_depend_on_the_chosen_mode(folder, monkeypatch):
    wrong = "--config.only_quik=3"
    quick = explained(monkeypatch, "--config=configs/ladder_mnist.py:quick", wrong)
    assert quick.endswith("; did you mean 'only_quick'?")
    assert "only_quick" not in explained(monkeypatch, "--config=configs/ladder_mnist.py", wrong)


@pytest.mark.parametrize("value", ["three", "1.5"])
def test_a_value_that_is_not_a_whole_number_is_refused_with_the_field(folder, monkeypatch, value):
    message = explained(monkeypatch, "--config=configs/ladder_mnist.py", f"--config.epochs={value}")
    assert message == f"--config.epochs must be a whole number, got {value!r}"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rate=fast", "--config.rate must be a number, got 'fast'"),
        ("model=mlp", "--config.model must be a dict, got 'mlp'"),
        ("model={'a': (1, ", """--config.model must be a dict, got "{'a': (1, \""""),
        (
            "model={'a':",
            """--config.model must be a dict, got "{'a':"; quote it, as a shell splits at """
            'spaces: --config.model="..."',
        ),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_field(folder, monkeypatch, override, said):
    message = explained(monkeypatch, "--config=configs/ladder_mnist.py", f"--config.{override}")
    assert message == said


def test_a_part_that_is_set_to_a_name_is_told_the_field_of_its_name(monkeypatch):
    override = "--config.model=lenet"
    message = explained(monkeypatch, "--config=configs/quickstart.py:quick", override)
    assert message == "--config.model must be a dict, got 'lenet'; did you mean 'model.name'?"


def test_a_schedule_of_a_field_that_is_a_number_is_told_the_dict_around_it(monkeypatch):
    schedule = {"name": "cosine_decay_schedule", "init_value": 0.1, "decay_steps": 3}
    override = f"--config.optimizer.learning_rate={schedule}"
    config = "--config=configs/quickstart.py:quick"
    message = explained(monkeypatch, config, override, "--config.optimizer.name=sgd")
    field = "--config.optimizer.learning_rate must be a number, got "
    meant = re.fullmatch(rf'{field}"(.*)"; did you mean --config.optimizer="(.*)"\?', message)
    assert meant, message
    assert meant[1] == str(schedule)
    expected = {"name": "sgd", "learning_rate": schedule}
    assert ast.literal_eval(meant[2]) == expected


@pytest.mark.parametrize(
    ("group", "overrides", "blamed", "meant"),
    [
        ("averaging", [".name=ema"], ".name=ema", {"name": "ema"}),
        (
            "averaging",
            ["={'name': 'ema'}", ".decay=.9"],
            *(".decay=.9", {"name": "ema", "decay": 0.9}),
        ),
        (
            "averaging",
            [".name=ema", ".attack.name=pgd"],
            *(".name=ema", {"name": "ema", "attack": {"name": "pgd"}}),
        ),
        (
            "monitor_attacks",
            [".names=('fgsm',)", ".rows=9"],
            *(".names=('fgsm',)", {"names": ("fgsm",), "eps": "?", "rows": 9}),
        ),
        ("averaging", [".decay=.9"], ".decay=.9", {"name": "?", "decay": 0.9}),
        ("stop", [".rate_scale=.3"], ".rate_scale=.3", {"train_error": "?", "rate_scale": 0.3}),
        (
            "pretrained",
            [".workdir=runs/x"],
            *(".workdir=runs/x", {"workdir": "runs/x", "part": "?"}),
        ),
        (
            "evaluation.attacks.sq",
            ["={'name': 'square'}", ".num_queries=9"],
            *(".num_queries=9", {"name": "square", "num_queries": 9}),
        ),
        ("replicas.grid", [".model.width=3"], ".model.width=3", {"model.width": 3}),
    ],
)
def test_a_field_of_a_group_that_the_file_lacks_is_refused_with_the_dict_that_sets_it(
    monkeypatch, group, overrides, blamed, meant
):
    given = [f"--config.{group}{override}" for override in overrides]
    field, _, value = blamed.partition("=")
    assert explained(monkeypatch, "--config=configs/quickstart.py:quick", *given) == (
        f"--config.{group}{field} must be in a dict, as the config file has no {group}, got "
        f'{value!r}; did you mean --config.{group}="{meant}"?'
    )


def test_an_error_without_a_config_keeps_its_message(folder, monkeypatch):
    missing = UserError("--config must be a name")
    assert explain_flags(["prog", "--workdir=x"], missing) == str(missing)
    message = explained(monkeypatch, "--confg=configs/ladder_mnist.py")
    assert "confg" in message
    assert "Did you mean: config" in message


def test_an_unknown_mode_is_refused_by_the_config(folder, monkeypatch):
    message = explained(monkeypatch, "--config=configs/ladder_mnist.py:quik")
    assert "mode must be paper or quick, got 'quik'" in message


def test_an_unknown_field_is_refused_with_a_config_after_a_space(folder, monkeypatch):
    message = explained(monkeypatch, "--config", "configs/ladder_mnist.py", "--config.epoch", "3")
    assert message.startswith("a field of --config must be one of ") and "got 'epoch'; " in message


def test_a_field_below_a_number_is_refused_by_name(folder, monkeypatch):
    message = explained(
        monkeypatch, "--config=configs/ladder_mnist.py", "--config.model.features.x=1"
    )
    assert message.startswith("a field of --config must be one of ")
    assert "got 'model.features.x'; " in message


# Optional fields


def overridden(monkeypatch, *argv, config="quickstart"):
    """Returns a quick config with overrides, as the commands parse it."""
    argv = ["prog", f"--config=configs/{config}.py:quick", *argv]
    monkeypatch.setattr(sys, "argv", argv)
    values, argv = flags.FlagValues(), expanded(argv)
    config = config_flags.DEFINE_config_file(
        "config", flag_values=values, lock_config=False, accept_new_attributes=True
    )
    values(argv)
    check_overrides(argv, config.value)
    return config.value.to_dict()


def quickstart():
    return runpy.run_path("configs/quickstart.py")["get_config"]("quick").to_dict()


def test_a_config_without_overrides_stays_as_it_is(monkeypatch):
    assert overridden(monkeypatch) == quickstart()


def test_an_optional_field_that_the_config_has_can_be_set(monkeypatch):
    config = overridden(monkeypatch, "--config.stop.train_error=1", config="backprop_cifar10")
    assert config["stop"]["train_error"] == 1


def test_optional_fields_of_the_named_functions_can_be_set(monkeypatch):
    config = overridden(
        monkeypatch,
        "--config.objective.attack.name=pgd",
        "--config.objective.attack.num_steps=5",
        "--config.model.dtype=bfloat16",
        "--config.evaluation.attacks.fgsm.loss=margin",
        "--config.evaluation.attacks.own={'name': 'pgd', 'num_steps': 3}",
        "--config.optimizer.b1=1",
        "--config.stop={'train_error': 0.1}",
        "--config.monitor_train",
        "--config.data.crop=20",
    )
    expected = quickstart()
    expected["objective"]["attack"] |= {"name": "pgd", "num_steps": 5}
    expected["model"]["dtype"] = "bfloat16"
    expected["evaluation"]["attacks"]["fgsm"]["loss"] = "margin"
    expected["evaluation"]["attacks"]["own"] = {"name": "pgd", "num_steps": 3}
    expected["optimizer"]["b1"] = 1.0
    expected |= {"stop": {"train_error": 0.1}, "monitor_train": True}
    expected["data"]["crop"] = 20
    assert config == expected
    assert isinstance(config["optimizer"]["b1"], float)  # as its default is


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "objective.attack.num_steps=5",
            "objective.attack.targeted, got 'objective.attack.num_step",
        ),
        ("objective.attack.bound=5", "did you mean 'objective.attack.bounds'?"),
        ("model.dtyp=bfloat16", "got 'model.dtyp'; did you mean 'model.dtype'?"),
        (
            "evaluation.epsilon=1",
            "must be one of evaluation.attacks, evaluation.eps, got 'evaluation.",
        ),
        ("data.mirorr=True", "got 'data.mirorr'; did you mean 'data.mirror'?"),
        ("monitor_trian=True", "got 'monitor_trian'; did you mean 'monitor_train'?"),
        ("source=files", "got 'source'; did you mean 'data.source'?"),
        ("lr=.1", "got 'lr'; did you mean 'optimizer.learning_rate'?"),
        ("seeds=3", "got 'seeds'; did you mean 'replicas.seeds'?"),
        ("model.name=mpl", "model.name must be one of adversarial_autoencoder, "),
    ],
)
def test_a_misspelled_optional_field_is_refused_with_the_nearest(monkeypatch, override, message):
    with pytest.raises(UserError) as error:
        overridden(monkeypatch, f"--config.{override}")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_optional_field_is_not_blamed_for_a_missing_part(monkeypatch):
    config = ["prog", "--config=configs/quickstart.py:quick", "--config.model.dtype=bfloat16"]
    message = explain_flags([*config, "--config.modle.features=(1,)"], KeyError("modle"))
    assert message.endswith("got 'modle.features'; did you mean 'model.features'?")


# Fractions and flagfiles

BAD_FRACTIONS = ["1/0", "8//255", "a/b", "8/255/2", "1/nan", "inf/2", "/2", "2/", "1e999/2"]


def test_fractions_are_read_exactly_wherever_a_config_has_a_real_number(monkeypatch):
    config = overridden(
        monkeypatch,
        "--config.objective.attack.eps=8/255",
        "--config.objective.attack.name=pgd",
        "--config.objective.attack.step_size=2/255",  # A field that the config does not have.
        "--config.objective.attack.bounds=(-1/2, .5)",
        "--config.evaluation.attacks.own={'name': 'pgd', 'step_size': 1/255}",
        "--config.evaluation.eps=0,8/255",
        "--config.replicas.grid={'objective.attack.eps': (1/3, 16/255)}",
        "--config.data.dir=8/255",
    )
    attack = config["objective"]["attack"]
    assert (attack["eps"], attack["step_size"]) == (8 / 255, 2 / 255)
    assert attack["bounds"] == (-0.5, 0.5)
    assert config["evaluation"]["attacks"]["own"]["step_size"] == 1 / 255
    assert config["evaluation"]["eps"] == (0, 8 / 255)
    assert config["replicas"]["grid"] == {"objective.attack.eps": (1 / 3, 16 / 255)}
    assert config["data"]["dir"] == "8/255"  # A path.


def test_the_last_of_several_overrides_counts_of_tuples_too(tmp_path, monkeypatch):
    (tmp_path / "flags").write_text("--config.evaluation.eps=(0,.5)\n--config.epochs=3\n")
    given = [f"--flagfile={tmp_path / 'flags'}", "--config.evaluation.eps=(0,1/255)"]
    config = overridden(monkeypatch, *given, "--config.epochs", "4", "--config.epochs", "5")
    assert (config["evaluation"]["eps"], config["epochs"]) == ((0, 1 / 255), 5)
    given = ["--config.evaluation.eps", "(0,.5)", "--config.evaluation.eps", "(0,.1)"]
    assert overridden(monkeypatch, *given)["evaluation"]["eps"] == (0, 0.1)
    others = ["--config.l[0].q=7", "--config.l[1].q=8", "--config.on", "--workdir", "a"]
    line = [*others, "--config.a", "4", "--config.a", "-3", "--", "--config.a=2"]
    assert expanded(["prog", *line])[1:] == [*others, "--config.a=-3", "--", "--config.a=2"]


@pytest.mark.parametrize("text", BAD_FRACTIONS)
def test_what_is_no_fraction_is_refused_in_one_line(monkeypatch, text):
    message = explained(
        monkeypatch, "--config=configs/quickstart.py:quick", f"--config.objective.attack.eps={text}"
    )
    assert message == f"--config.objective.attack.eps must be a number, got {text!r}"
    for field in ("evaluation.eps=({})", "evaluation.eps={}", "replicas.grid={{'a': {}}}"):
        with pytest.raises((UserError, flags.Error)):
            check(overridden(monkeypatch, f"--config.{field.format(text)}"))


@pytest.mark.parametrize(
    ("flag", "kind"), [("--replica=0,1", "a whole number"), ("--minutes=ten", "a number")]
)
def test_a_flag_that_is_no_number_is_refused_in_one_line(monkeypatch, flag, kind):
    values = flags.FlagValues()
    flags.DEFINE_integer("replica", 0, "", flag_values=values)
    flags.DEFINE_float("minutes", 0, "", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    with pytest.raises(UserError) as error:
        command_line.read_flags(["prog", flag])
    name, _, value = flag.partition("=")
    assert str(error.value) == f"{name} must be {kind}, got {value!r}"


def test_a_flagfile_may_name_a_config_and_its_fields_by_their_short_names(tmp_path, monkeypatch):
    (tmp_path / "flags").write_text("# comment\n--config=quickstart:quick\n--config.epochs=3\n")
    argv = expanded(["prog", f"--flagfile={tmp_path / 'flags'}", "--config.seed=4"])
    assert argv == [
        "prog",
        f"--config={catalog.path('quickstart')}:quick",
        "--config.epochs=3",
        "--config.seed=4",
    ]
    with pytest.raises(UserError, match=r"^--flagfile must be .*, got '.*no' \(No such file or "):
        expanded(["prog", f"--flagfile={tmp_path / 'no'}"])


def test_one_dash_is_as_good_as_two():
    path = str(catalog.path("quickstart"))
    for line in (["-config=quickstart:quick"], ["-config", "quickstart:quick"]):
        assert expanded(["prog", *line]) == ["prog", f"-config={path}:quick"]


def test_a_folder_with_a_comma_in_its_name_is_one_run(tmp_path):
    (tmp_path / "a,b").mkdir()
    both = f"{tmp_path}/c,{tmp_path}/d"
    assert workdirs([f"{tmp_path}/a,b", both]) == [
        f"{tmp_path}/{name}" for name in ("a,b", "c", "d")
    ]


@pytest.mark.parametrize("value", ["", "runs/a,", "runs/a,,runs/b"])
def test_no_path_is_not_taken_for_the_current_folder(value):
    with pytest.raises(UserError, match=f"^--workdir must be directories of runs, got '{value}'$"):
        workdirs([value])


def test_a_config_whose_name_can_be_no_path_is_refused_in_one_line():
    said = explain_flags(["prog", f"--config={'a' * 300}"], OSError())
    assert re.match(r"--config must be one of .*, got a str, 'a", said) and "\n" not in said


@pytest.mark.parametrize(
    ("found", "legal", "meant"),
    [
        ("mine:nope", ["mine:fori", "mine:load"], None),
        ("mine:laod", ["mine:fori", "mine:load"], "mine:load"),
        ("model.zzz", ["model.width", "model.depth"], None),
        ("configs/zzz.py", ["configs/rbm_mnist.py", "configs/quickstart.py"], None),
        ("configs/rbm.py", ["configs/rbm_mnist.py", "configs/quick.py"], "configs/rbm_mnist.py"),
        ("objective.attack.epsilon", ["objective.attack.eps"], "objective.attack.eps"),
        ("modle.width", ["model.width", "model.depth"], "model.width"),
        ("epoch", ["epochs", "plan.eps"], "epochs"),
        ("lr", ["epochs", "optimizer.learning_rate"], "optimizer.learning_rate"),
        ("data_dir", ["epochs", "data.dir"], "data.dir"),
    ],
)
def test_the_last_part_of_a_name_must_be_near_for_a_suggestion(found, legal, meant):
    assert suggestion(found, legal) == ("" if meant is None else f"; did you mean {meant!r}?")


def test_a_name_of_several_groups_suggests_all_of_them():
    found = suggestion("eps", ["epochs", "attack.eps", "optimizer.eps"])
    assert found == "; did you mean 'attack.eps' or 'optimizer.eps'?"


def test_a_name_of_a_group_below_is_the_one_suggested():
    legal = ["evaluation.eps", "objective.attack.eps", "objective.name"]
    assert suggestion("objective.eps", legal) == "; did you mean 'objective.attack.eps'?"


def test_a_flagfile_that_cannot_be_read_ends_the_command_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["prog", f"--flagfile={tmp_path / 'nope'}"])
    with pytest.raises(SystemExit, match=r"^error: --flagfile must be a file .*nope' \(No such"):
        runpy.run_module("adv_jax.main")

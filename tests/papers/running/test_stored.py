"""Stored results are read, and damaged ones refused."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest
from reproduced import write_results

from adv_jax.types import UserError
from papers.running import stored
from papers.running.works import TARGETS

ROOT = Path(__file__).parents[3]


@pytest.fixture
def copied(results, tmp_path):
    """A copy of the results, and a function that changes a document there."""
    shutil.copytree(results, tmp_path / "results")

    def change(name, edit):
        path = tmp_path / "results" / name
        document = json.loads(path.read_text())
        edit(document)
        path.write_text(json.dumps(document))
        return tmp_path / "results"

    return change


def test_no_stored_command_names_a_folder_of_the_machine_that_ran_it():
    found = stored.read(ROOT / "papers").targets.values()
    commands = [one["command"] for result in found for one in result["trainings"].values()]
    assert commands and not [command for command in commands if "=/" in command]


@pytest.mark.slow
def test_results_of_another_version_or_config_are_refused_by_name(copied):
    def value(document):
        document["rows"][0]["paper"] = 0.8

    folder = copied("maronas2016/results/table26.json", value)
    with pytest.raises(
        UserError, match=r"table26.json: maronas2016.table26.row1 must be 0.796, .*, got 0.8$"
    ):
        stored.read(folder)

    def restored(document):
        document["rows"][0]["paper"] = 0.796

    copied("maronas2016/results/table26.json", restored)
    # Table 25's training, once more with another configuration.
    document = json.loads((folder / "maronas2016/results/table26.json").read_text())
    key = "ladder_conv_mnist:table=25"
    document["target"], document["claims"] = "maronas2016.table25", []
    document["trainings"] = {key: document["trainings"][key]}
    document["rows"] = [row for row in document["rows"] if row["training"] == key]
    document["trainings"][key]["config"]["batch_size"] = 3
    (folder / "maronas2016/results/table25.json").write_text(json.dumps(document))
    message = f"table26.json: config of trainings.{key} must be as in .*table25.json "
    with pytest.raises(UserError, match=message) as refused:
        stored.read(folder)
    assert "\n" not in str(refused.value)
    document["budget"] = "shrot"
    (folder / "maronas2016/results/table25.json").write_text(json.dumps(document))
    with pytest.raises(
        UserError,
        match="table25.json: budget must be one of quick, short, paper, got 'shrot'; did",
    ):
        stored.read(folder)
    document["budget"], document["paper"] = "paper", "nobody"
    (folder / "maronas2016/results/table25.json").write_text(json.dumps(document))
    with pytest.raises(
        UserError, match="table25.json: paper must be one of goodfellow2014, .*, got 'nobody'"
    ):
        stored.read(folder)


@pytest.mark.slow
def test_results_from_data_in_another_folder_are_alike_if_the_data_are(tmp_path):
    """Tables 17 and 18 share a training, whose data the sums tell apart."""
    folder = write_results(tmp_path, ("maronas2016.table17", "maronas2016.table18"))
    path, key = folder / "maronas2016/results/table18.json", "ladder_mnist:table=17"
    document = json.loads(path.read_text())
    document["trainings"][key]["config"]["data"]["dir"] = "/elsewhere"
    path.write_text(json.dumps(document))
    assert len(stored.read(folder).targets) == 2
    document["trainings"][key]["data"]["sha256"]["train"] = "1" * 64
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=f"data of trainings.{key} must be as in"):
        stored.read(folder)


def test_a_missing_folder_or_a_damaged_file_is_named(tmp_path):
    with pytest.raises(UserError, match="results must be a folder of results, got .*nowhere"):
        stored.read(tmp_path / "nowhere")
    (damaged := TARGETS["maronas2016.table4"].file(tmp_path)).parent.mkdir(parents=True)
    damaged.write_text('{"target": "mar')
    with pytest.raises(
        UserError, match="maronas2016/results/table4.json is damaged, it is not JSON"
    ):
        stored.read(tmp_path)


TARGET, RUN = (
    "shallow_thesis/results/fig3.3.json",
    "shallow_thesis/results/runs/shallow_mnist_A.json",
)
SWEEP = "shallow_mnist:sweep=eps replicas.seeds=6"  # the training of TARGET
IN_SWEEP = ("trainings", SWEEP)
GONE = object()


def edited(folder, name, keys, value):
    """A copy of a result of the repository with the field at `keys` gone or replaced."""
    document = json.loads((ROOT / "papers" / name).read_text())
    inside = document
    for key in keys[:-1]:
        inside = inside[key]
    if value is GONE:
        inside["misspelt"] = inside.pop(keys[-1])
    else:
        inside[keys[-1]] = value
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("name", "keys", "value", "message"),
    [
        (TARGET, ("rows",), 5, "rows must be a list, got 5"),
        (TARGET, ("rows",), [], "rows must be a list of at least one entry, got []"),
        (TARGET, ("rows",), GONE, "rows must be given, got none"),
        (TARGET, ("rows", 1, "id"), GONE, "rows.1.id must be given, got none"),
        (TARGET, ("rows", 0, "mean"), GONE, "rows.0.mean must be given, got none"),
        (TARGET, ("rows", 0, "sd"), math.nan, "rows.0.sd must be a finite number, got nan"),
        (TARGET, ("rows", 0, "sd"), -1.0, "rows.0.sd must be greater than or equal to 0, got -1.0"),
        (TARGET, ("rows", 0, "metric"), "bits", "rows.0.metric must be 'error_percent', 'error', "),
        (TARGET, ("claims",), [{"text": "a"}], "claims.0.id must be given, got none"),
        (TARGET, ("claims",), [{"text": "a", "id": None}], "claims.0.form must be given, got"),
        (TARGET, ("claims", 0, "rows"), ["a"], "claims.0.rows must be one of "),
        (TARGET, ("rows", 0, "training"), "b", "rows.0.training must be one of "),
        (TARGET, ("trainings",), [], "trainings must be an object, got []"),
        (TARGET, (*IN_SWEEP, "versions"), GONE, f"trainings.{SWEEP}.versions must be given, got"),
        (TARGET, (*IN_SWEEP, "command"), GONE, f"trainings.{SWEEP}.command must be given, got"),
        (TARGET, (*IN_SWEEP, "config"), {}, f"trainings.{SWEEP}.config.data must be given, got"),
        (RUN, ("replicas",), [], "replicas must be a list of at least one entry, got []"),
        (RUN, ("replicas", 2, "test_error"), GONE, "replicas.2.test_error must be given, got"),
        (RUN, ("replicas", 2, "test_error"), 1.1, "replicas.2.test_error must be in [0, 1], got"),
        (RUN, ("seconds",), GONE, "seconds must be given, got none"),
        (RUN, ("device",), 5, "device must be a text, got 5"),
        (
            "maronas2016/results/figures/fig10.json",
            ("caption",),
            GONE,
            "caption must be given, got",
        ),
    ],
)
def test_a_field_that_is_missing_or_of_another_kind_is_named(tmp_path, name, keys, value, message):
    with pytest.raises(UserError, match=re.escape(f"{name}: {message}")) as refused:
        stored.read(edited(tmp_path, name, keys, value))
    assert "\n" not in str(refused.value)


def test_data_elsewhere_and_trackers_decide_no_number():
    before = {"epochs": 3, "tensorboard": False, "data": {"name": "mnist", "dir": "a"}}
    now = {"epochs": 3, "trackers": ["mlflow"], "data": {"name": "mnist", "source": "files"}}
    assert (
        stored.deciding(before) == stored.deciding(now) == {"epochs": 3, "data": {"name": "mnist"}}
    )

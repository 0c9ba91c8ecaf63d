"""`adv_jax.evaluate` on two trained models: output, files and errors."""

import csv
import hashlib
import json
import re
import runpy
import shutil
from functools import partial

import jax
import numpy as np
import pytest
from command_line import ROOT
from marks import exhaustive_after
from PIL import Image

from adv_jax import evaluate, train
from adv_jax.attacks import fgsm
from adv_jax.runner.config.binding import ATTACKS
from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import evaluation
from adv_jax.runner.run.trained import load
from adv_jax.types import UserError

ALL = ("evaluation.csv", "evaluation.json", "evaluation.png", "minimal_eps.csv")
TRANSFER = ("transfer.csv", "transfer.json", "transfer.png")


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "evaluation"
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Workdirs a and b of quickstart, small, with the seeds 0 and 1."""
    folder = tmp_path_factory.mktemp("runs")
    made = runpy.run_path(str(ROOT / "configs/quickstart.py"))["get_config"]("quick").to_dict()
    changes = {"model.features": (16,), "epochs": 2, "batch_size": 50}
    changes["evaluation.eps"] = (0.0, 0.1, 0.2)
    for seed, name in enumerate("ab"):
        train.run(with_values(made, changes | {"seed": seed}), folder / name)
    return folder


@pytest.fixture(scope="module")
def done(commands, runs):
    """Returns the output of the command, and the files of the runs before it."""
    before = contents(runs)
    finished = commands.run(
        f"--workdir={runs / 'a'},{runs / 'b'}",
        "--attacks=fgsm,gaussian_noise",
        "--eps=0,.1,.2",
        "--minimal_eps",
        module="adv_jax.evaluate",
    )
    assert (finished.status, finished.err) == (0, "")
    return finished.out, before


def document(folder, name="evaluation.json"):
    return json.loads((folder / "evaluation" / name).read_text())


def table(folder, name):
    with (folder / "evaluation" / name).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_command_reproduces_the_evaluation_of_the_run(runs, done):
    for name in "ab":
        result = json.loads((runs / name / "result.json").read_text())
        found = document(runs / name)
        (replica,) = result["replicas"]
        assert found["clean"]["accuracy"] == pytest.approx(1 - replica["test_error"])
        fgsm, expected = found["attacks"]["fgsm"], result["evaluation"]["fgsm"]
        np.testing.assert_allclose(fgsm["accuracy"], 1 - np.array(expected["error"][0]))
        for measure in ("confidence", "success", "l2", "linf"):
            np.testing.assert_allclose(fgsm[measure], expected[measure][0], rtol=1e-4)
        worst = np.minimum(fgsm["accuracy"], found["attacks"]["gaussian_noise"]["accuracy"])
        assert (np.array(found["worst_case"]) <= worst).all()


@pytest.mark.slow
def test_evaluation_json_records_run_data_and_settings(runs, done):
    found, result = document(runs / "b"), json.loads((runs / "b" / "result.json").read_text())
    assert (found["experiment"], found["seed"], found["replica"]) == ("quickstart", 1, 0)
    assert (found["epochs"], found["examples"], found["bounds"]) == (2, 1000, [0, 1])
    assert found["data"] == result["data"] and found["versions"] == result["versions"]
    assert found["git"] is None or re.fullmatch(r"\S+", found["git"])
    assert found["attacks"]["fgsm"]["settings"] == {"bounds": [0, 1]}
    assert found["attacks"]["gaussian_noise"]["scale"] == "std"
    assert found["audit"]["outside_bounds"] == {"fgsm": 0, "gaussian_noise": 0}
    assert isinstance(found["audit"]["warnings"], list)


@pytest.mark.slow
def test_evaluation_json_is_read_as_an_evaluation_of_the_same_rows(runs, done):
    text = (runs / "a" / "evaluation" / "evaluation.json").read_text()
    found, trained = evaluate.Evaluation.from_json(text), load(runs / "a")
    attacks = {"fgsm": partial(fgsm, bounds=(0, 1))}
    options = {"eps": [0, 0.1, 0.2], "key": jax.random.key(0), "bounds": (0.0, 1.0)}
    mine = evaluate.evaluate(trained.logits_fn, *trained.dataset.test, attacks, **options)
    np.testing.assert_array_equal(found.labels, trained.dataset.test[1])
    np.testing.assert_array_equal(found.predicted["fgsm"], mine.predicted["fgsm"])
    np.testing.assert_array_equal(found.interval("fgsm"), mine.interval("fgsm"))
    assert (found.norms["fgsm"], found.setup) == ("linf", mine.setup)


@pytest.mark.slow
def test_the_tables_hold_the_numbers_of_the_document(runs, done):
    found = document(runs / "a")
    rows = table(runs / "a", "evaluation.csv")
    assert [(r["attack"], float(r["eps"])) for r in rows] == [
        (attack, eps) for attack in ("fgsm", "gaussian_noise") for eps in (0, 0.1, 0.2)
    ]
    for measure in ("accuracy", "confidence", "success", "l2", "linf"):
        expected = [v for curve in found["attacks"].values() for v in curve[measure]]
        assert [float(row[measure]) for row in rows] == expected


@pytest.mark.slow
def test_minimal_eps_of_the_examples_agrees_with_the_curve(runs, done):
    found, rows = document(runs / "a"), table(runs / "a", "minimal_eps.csv")
    smallest = np.array([float(row["fgsm"]) for row in rows])
    assert [int(row["example"]) for row in rows] == list(range(1000))
    curve = found["attacks"]["fgsm"]
    assert (smallest > 0).mean() == pytest.approx(curve["accuracy"][0])
    # The share of rows that the attack of size .2 does not fool; the first bisection is at .1.
    withstand = (1 - curve["success"][2]) * curve["accuracy"][0]
    assert found["minimal_eps"]["fgsm"]["withstand"] == pytest.approx(withstand)
    assert np.isinf(smallest).mean() == pytest.approx(withstand)
    assert (smallest > 0.1).mean() >= (1 - curve["success"][1]) * curve["accuracy"][0] - 1e-9
    assert found["minimal_eps"]["fgsm"]["median"] == pytest.approx(np.median(smallest))
    share = f"{100 * withstand:.3g} % not fooled up to 0.2"
    assert f"smallest eps under fgsm: median {np.median(smallest):.4g}; {share}\n" in done[0]


@pytest.mark.slow
def test_the_transfer_matrix_has_the_white_box_accuracy_on_its_diagonal(runs, done):
    found = document(runs / "a", "transfer.json")
    matrix = np.array(found["accuracy"]["fgsm"])
    own = [document(runs / name)["attacks"]["fgsm"]["accuracy"][2] for name in "ab"]
    np.testing.assert_allclose(np.diag(matrix), own)
    assert found["eps"] == 0.2 and list(found["models"]) == ["a", "b"]
    (cell,) = [
        float(row["accuracy"])
        for row in table(runs / "a", "transfer.csv")
        if (row["attack"], row["crafted on"], row["tested on"]) == ("fgsm", "b", "a")
    ]
    assert cell == matrix[1, 0] != matrix[0, 1]


@pytest.mark.slow
def test_figures_are_pngs_and_nothing_else_is_written_or_changed(runs, done):
    names = {path.name for path in (runs / "a" / "evaluation").iterdir()}
    assert names == {*ALL, *TRANSFER}
    assert {path.name for path in (runs / "b" / "evaluation").iterdir()} == set(ALL)
    for path in runs.rglob("evaluation/*.png"):
        with Image.open(path) as image:
            assert image.format == "PNG" and image.width > 800
            assert len(np.unique(image.convert("L"))) > 10
    assert contents(runs) == done[1]


@pytest.mark.slow
def test_the_command_prints_progress_lines_and_accuracies_in_percent(runs, done):
    out, _ = done
    assert re.search(r"^a fgsm  \d+\.\d s$", out, re.MULTILINE)
    accuracy = document(runs / "a")["attacks"]["fgsm"]["accuracy"][1]
    assert re.search(rf"│ 0\.1 │ +{100 * accuracy:.2f} │", out)


@pytest.mark.slow
def test_the_command_applies_out_examples_norm_and_bounds(runs, tmp_path, capsys):
    evaluation.run(
        [str(runs / "a"), str(runs / "b")],
        attack_names=["fgsm"],
        eps=[30.0],
        norm="l2",
        bounds=None,
        num_examples=33,
        batch_size=10,
        out=str(tmp_path / "out"),
    )
    found = json.loads((tmp_path / "out" / "b" / "evaluation.json").read_text())
    assert (found["examples"], found["bounds"]) == (33, None)
    assert found["attacks"]["fgsm"]["settings"] == {"norm": "l2"}
    np.testing.assert_allclose(found["attacks"]["fgsm"]["l2"], [30], rtol=1e-5)
    assert (tmp_path / "out" / "transfer.json").exists()


@pytest.mark.slow
def test_a_run_that_is_deleted_meanwhile_is_not_made_again(runs, tmp_path, monkeypatch):
    workdir, draw = tmp_path / "run", evaluation._evaluation_png
    shutil.copytree(runs / "a", workdir)

    def deleting(*args):
        shutil.rmtree(workdir)
        return draw(*args)

    monkeypatch.setattr(evaluation, "_evaluation_png", deleting)
    with pytest.raises(UserError, match=f"^workdir {workdir} was deleted during the evaluation$"):
        evaluation.run([str(workdir)], attack_names=["fgsm"], eps=[0.1], num_examples=50)
    assert not workdir.exists()


@pytest.mark.slow
def test_an_evaluation_replaces_an_earlier_one_in_its_folder(runs, tmp_path):
    options = {"attack_names": ["fgsm"], "eps": [0.0, 0.1], "num_examples": 20}
    out = tmp_path / "out"
    names = lambda folder: {path.name for path in folder.iterdir() if path.is_file()}
    evaluation.run([str(runs / "a")], **options, minimal_eps=True, out=str(out))
    (out / "notes.csv").touch()
    assert names(out) == {*ALL, "notes.csv"}
    evaluation.run([str(runs / "a"), str(runs / "b")], **options, out=str(out))
    assert names(out) == {*TRANSFER, "notes.csv"}
    assert names(out / "a") == {*ALL} - {"minimal_eps.csv"}
    evaluation.run([str(runs / "a")], **options, out=str(out))
    assert names(out) == {*ALL, "notes.csv"} - {"minimal_eps.csv"}
    own = tmp_path / "own"
    own.mkdir()
    (own / "transfer.json").write_text('{"mine": 1}')
    (own / "minimal_eps.csv").touch()
    evaluation.run([str(runs / "a")], **options, out=str(own))
    assert names(own) == {*ALL, "transfer.json"}


@pytest.mark.slow
def test_the_files_of_a_run_are_kept_when_a_later_one_fails(runs, tmp_path, monkeypatch):
    evaluated = evaluation._evaluated

    def failing(name, *args, **options):
        if name == "b":
            raise UserError("b fails")
        return evaluated(name, *args, **options)

    monkeypatch.setattr(evaluation, "_evaluated", failing)
    options = {"attack_names": ["fgsm"], "eps": [0.1], "num_examples": 20, "out": str(tmp_path)}
    with pytest.raises(UserError, match="^b fails$"):
        evaluation.run([str(runs / "a"), str(runs / "b")], **options)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {*ALL} - {"minimal_eps.csv"}
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_a_report_of_one_run_has_its_accuracy_and_of_two_runs_is_refused(runs, tmp_path):
    page, options = tmp_path / "page" / "report.html", {"num_examples": 50}
    arguments = {"attack_names": ["fgsm"], "eps": [0.1], "report": str(page)} | options
    evaluation.run([str(runs / "a")], **arguments, out=str(tmp_path / "evaluation"))
    accuracy = document(tmp_path)["attacks"]["fgsm"]["accuracy"][0]
    assert f"{100 * accuracy:.1f} %" in page.read_text("utf-8")
    (folder := tmp_path / "folder.html").mkdir()
    with pytest.raises(UserError, match=f"^report must be of one run, got {page} for 2 runs$"):
        evaluation.run([str(runs / "a"), str(runs / "b")], **arguments)
    with pytest.raises(UserError, match=f"^{folder} must be a file, got a folder$"):
        evaluation.run([str(runs / "a")], **arguments | {"report": str(folder)})
    other = str(tmp_path / "evaluation" / "evaluation.csv")
    with pytest.raises(UserError, match=f"^report must end in .html, got {other}$"):
        evaluation.run([str(runs / "a")], **arguments | {"report": other})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attack_names": ["fgms"]}, "attacks must be one of .*, got 'fgms'; did you mean 'fgsm'"),
        ({"attack_names": ["pgd(num_steps=3"]}, "attacks must be NAME or NAME\\(setting=value, "),
        (
            {"attack_names": ["pgd(3)"]},
            "attacks must be NAME or NAME\\(setting=value, ...\\), got ",
        ),
        ({"attack_names": ["fgsm(name=pgd)"]}, "attacks must be NAME or NAME\\(setting=value, "),
        ({"attack_names": ["pgd(num_steps=2*3)"]}, "attacks must be NAME or NAME\\(setting=value"),
        ({"attack_names": ["pgd(targeted=True)"]}, "attacks must lead away from the true labels"),
        ({"attack_names": ["pgd(steps=3)"]}, "a setting of attacks.pgd must .*'num_steps'\\?"),
        ({"attack_names": ["pgd(num_steps=x)"]}, "attacks.num_steps must be a number, got 'x'"),
        (
            {"attack_names": ["pgd(eps=.1)"]},
            "attacks must leave eps to --eps, got 'pgd\\(eps=.1\\)",
        ),
        ({"attack_names": []}, "attacks must have one or more entries, got none"),
        ({"norm": "l7"}, "norm must be .* got 'l7'"),
        (
            {"norm": "linf", "attack_names": ["fgsm", "ddn"]},
            "norm must be l2 for ddn, got linf",
        ),
        ({"eps": [-0.1]}, "eps must be a finite number of at least 0, got -0.1"),
        ({"eps": [255.0]}, "eps of fgsm must be at most 1, .* got 255"),
        ({"bounds": (0.0, 0.5)}, "x must be within the bounds"),
        ({"num_examples": 0}, "num_examples must be 1 to 1000, .*, got 0"),
        ({"num_examples": 2000}, "num_examples must be 1 to 1000, .*, got 2000"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"replica": 3}, "replica must be 0 to 0, .* got 3"),
        ({"workdirs": []}, "workdir must be .*, got none"),
        (
            {"eps": [0.0], "minimal_eps": True},
            "^--eps must have a number above 0 for --minimal_eps, got 0$",
        ),
    ],
)
def test_bad_arguments_are_refused_in_one_line_and_nothing_is_written(
    runs, tmp_path, change, message
):
    arguments = {"workdirs": [str(runs / "a")], "attack_names": ["fgsm"], "eps": [0.1]}
    with pytest.raises(ValueError, match=message) as error:
        evaluation.run(**arguments | {"out": str(tmp_path / "out")} | change)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_same_run_twice_and_a_folder_without_a_run_are_refused(runs):
    with pytest.raises(UserError, match="workdir must be different runs"):
        evaluation.run([str(runs / "a")] * 2, attack_names=["fgsm"], eps=[0.1])
    with pytest.raises(UserError, match=r"no config\.json"):
        evaluation.run([str(runs)], attack_names=["fgsm"], eps=[0.1])


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_refused_before_the_attacks(runs, tmp_path, capsys):
    (tmp_path / "out").touch()
    arguments = {"attack_names": ["fgsm"], "eps": [0.1], "num_examples": 10}
    with pytest.raises(UserError, match="out must be a folder, got a file$"):
        evaluation.run([str(runs / "a")], **arguments, out=str(tmp_path / "out"))
    assert capsys.readouterr().out == ""  # No line of an attack.


@pytest.mark.slow
def test_runs_whose_names_have_markup_are_evaluated(runs, tmp_path, capsys):
    """Rich, Matplotlib and JSON read these names in their own way."""
    for name in ("a[b]$x$\\frac", "\udcff"):
        shutil.copytree(runs / "a", tmp_path / name)
        arguments = {"attack_names": ["fgsm"], "eps": [0.1], "num_examples": 10}
        evaluation.run([str(runs / "a"), str(tmp_path / name)], **arguments, out=f"{tmp_path}/out")
    assert "a[b]$x$\\frac" in capsys.readouterr().out
    crafted = {row["crafted on"] for row in csv.DictReader((tmp_path / "out/transfer.csv").open())}
    assert len(crafted) == 2


@pytest.mark.slow
def test_the_epochs_of_an_unfinished_run_are_printed(runs, tmp_path, capsys):
    shutil.copytree(runs / "a", tmp_path / "a")
    arguments = {"attack_names": ["fgsm"], "eps": [0.1], "num_examples": 10}
    evaluation.run([str(tmp_path / "a")], **arguments)
    assert "not finished" not in capsys.readouterr().out
    # As if the run had been stopped in its last epoch.
    (tmp_path / "a" / "result.json").unlink()
    shutil.rmtree(tmp_path / "a" / "checkpoints" / "2")
    evaluation.run([str(tmp_path / "a")], **arguments)
    assert capsys.readouterr().out.startswith("a is not finished: after 1 of 2 epochs\n")


@pytest.mark.slow
def test_an_attack_of_the_command_may_have_settings(commands, runs, tmp_path):
    one_step = "pgd(num_steps=1, step_size=1/10, random_start=False)"
    arguments = [f"--workdir={runs / 'a'}", f"--out={tmp_path}", "--eps=.1", "--num_examples=50"]
    finished = commands.run(f"--attacks={one_step},fgsm", *arguments, module="adv_jax.evaluate")
    assert (finished.status, finished.err) == (0, "")
    found = json.loads((tmp_path / "evaluation.json").read_text())["attacks"]
    assert found.keys() == {one_step, "fgsm"}
    np.testing.assert_allclose(found[one_step]["l2"], found["fgsm"]["l2"], rtol=1e-4)
    np.testing.assert_array_equal(found[one_step]["accuracy"], found["fgsm"]["accuracy"])


@pytest.mark.slow
def test_audit_warnings_are_printed_and_stored(runs, tmp_path, capsys, monkeypatch):
    def deaf(logits_fn, x, y, *, eps, key=None):
        return 1 - x

    monkeypatch.setitem(ATTACKS, "deaf", deaf)
    evaluation.run(
        [str(runs / "a")], attack_names=["deaf"], eps=[0.0], num_examples=40, out=str(tmp_path)
    )
    audit = json.loads((tmp_path / "evaluation.json").read_text())["audit"]
    assert audit.keys() == set(evaluate.Audit._fields)
    assert audit["rises"].keys() == {"deaf"} and isinstance(audit["misleading"], float)
    left_the_ball, ignored_eps = audit["warnings"]
    assert left_the_ball.startswith("deaf leaves the linf ball")
    assert "of the rows at eps = 0" in ignored_eps
    printed = capsys.readouterr().out
    assert all(f"warning: {warning}\n" in printed for warning in audit["warnings"])


OF_BOUNDS = "error: bounds must be two finite numbers lo,hi, or data, or none"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "message"),
    exhaustive_after(
        2,
        [
            ("--eps=.1,x", "error: eps must be numbers, got .1,x\n"),
            ("--eps=8/255,8//255", "error: eps must be numbers, got 8/255,8//255\n"),
            ("--bounds=1", f"{OF_BOUNDS}, got 1\n"),
            ("--bounds=0,inf", f"{OF_BOUNDS}, got 0,inf\n"),
            (
                "--seed=99999999999999999999",
                "error: flag --seed=99999999999999999999: 99999999999999999999 is not an integer "
                "in the range [0, 1073741824]\n",
            ),
            (
                "eps=.1",
                "error: the arguments must be flags, --..., got 'eps=.1'; "
                "did you mean '--eps=.1'?\n",
            ),
            (
                "--atacks=fgsm",
                "error: Unknown command line flag 'atacks'. Did you mean: attacks ?\n",
            ),
        ],
    ),
)
def test_bad_flags_are_refused_in_one_line_with_status_1(commands, runs, flag, message):
    finished = commands.run(f"--workdir={runs / 'a'}", flag, module="adv_jax.evaluate")
    assert (finished.status, finished.out, finished.err) == (1, "", message)

"""The command that draws the figures of papers: what it writes, says and refuses."""

import json
import re
import runpy
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import ROOT
from PIL import Image

from adv_jax import train
from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import trained
from adv_jax.types import UserError
from papers.running import figures
from papers.running.drawing import rounded
from papers.running.works import FIGURES

TOYS = [
    name
    for name, draw in FIGURES.items()
    if name.startswith("maronas2016.") and not figures.takes_run(draw)
]


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    """The workdir of quickstart, small."""
    made = runpy.run_path(str(ROOT / "configs/quickstart.py"))["get_config"]("quick").to_dict()
    workdir = tmp_path_factory.mktemp("runs") / "a"
    changes = {"model.features": (16,), "epochs": 1, "batch_size": 50, "evaluation.eps": (0.0, 0.1)}
    train.run(with_values(made, changes), workdir)
    return workdir


@pytest.mark.slow
def test_the_command_in_an_empty_folder(commands, tmp_path):
    done = commands.run("maronas2016.fig26", cwd=tmp_path, module="adv_jax.report")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("maronas2016.fig26: The line -20 x0 - 40 x1 - 40 = 0.5 between")
    assert done.out.endswith(
        "".join(f"  papers/maronas2016/results/figures/fig26.{kind}\n" for kind in ("png", "json"))
    )
    folder = tmp_path / "papers/maronas2016/results/figures"
    assert sorted(path.name for path in folder.iterdir()) == ["fig26.json", "fig26.png"]
    found = json.loads((folder / "fig26.json").read_text())
    assert (found["paper"], found["figure"], found["seed"]) == ("maronas2016", "fig26", 0)
    assert found["settings"]["w"] == [-20, -40] and len(found["x"]) == 120
    assert found["versions"]["jax"] and "device" in found


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_every_toy_is_a_png_and_a_json_of_numbers(name, drawn_toys):
    with Image.open(drawn_toys / f"{name.partition('.')[2]}.png") as image:
        assert image.format == "PNG" and min(image.size) > 450
        assert len(np.unique(image.convert("L"))) > 10
    text = (drawn_toys / f"{name.partition('.')[2]}.json").read_text()
    assert not re.search("NaN|Infinity", text)
    assert json.loads(text)["caption"].endswith(".")
    assert len(text) < 100_000


def numbers(document):
    """All numbers of a document, in its order, but for those of who drew it."""
    if isinstance(document, dict):
        parts = [v for k, v in document.items() if k not in ("versions", "git", "device")]
        return [number for part in parts for number in numbers(part)]
    if isinstance(document, list):
        return [number for part in document for number in numbers(part)]
    return [document] if isinstance(document, int | float) else []


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_stored_figures_are_those_that_the_code_draws(name, drawn_toys):
    kept, new = (
        json.loads((folder / f"{name.partition('.')[2]}.json").read_text())
        for folder in (ROOT / "papers/maronas2016/results/figures", drawn_toys)
    )
    words = [re.sub(r"[-\d.e]+", "#", document["caption"]) for document in (kept, new)]
    assert kept.keys() == new.keys() and words[0] == words[1]
    np.testing.assert_allclose(numbers(kept), numbers(new), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_figure_of_a_run_has_its_errors(trained_run, tmp_path, capsys):
    figures.run(["maronas2016.fig23_24"], workdirs=[str(trained_run)], out=str(tmp_path))
    found = json.loads((tmp_path / "maronas2016/results/figures/fig23_24.json").read_text())
    result = json.loads((trained_run / "result.json").read_text())
    assert found["test_error"]["clean"] == pytest.approx(result["replicas"][0]["test_error"])
    assert found["test_error"]["fgsm"] > 0.9 > found["test_error"]["sign_noise"]
    assert found["run"]["experiment"] == "quickstart" and found["run"]["data"] == result["data"]
    with Image.open(tmp_path / "maronas2016/results/figures/fig23_24.png") as image:
        assert image.format == "PNG"
    percent = f"{100 * found['test_error']['clean']:.2f} % clean; Maronas 2016 has"
    assert percent in capsys.readouterr().out


@pytest.mark.slow
def test_one_run_and_several_are_drawn_at_once(trained_run, tmp_path):
    names = ["wardefarley2016.fig1.2", "wardefarley2016.rubbish"]
    figures.run(names, workdirs=[str(trained_run)], out=str(tmp_path))
    folder = tmp_path / "wardefarley2016/results/figures"
    found = sorted(path.name for path in folder.iterdir())
    assert found == ["fig1.2.json", "fig1.2.png", "rubbish.json", "rubbish.png"]
    result = json.loads((trained_run / "result.json").read_text())
    windows = json.loads((folder / "fig1.2.json").read_text())
    assert len(windows["windows"]) == 100
    share = len(windows["misclassified"]) / 100
    assert share == pytest.approx(result["replicas"][0]["test_error"], abs=0.1)
    assert json.loads((folder / "rubbish.json").read_text())["rows"][0]["run"] == windows["run"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"names": []},
            "figure must be one that `python -m adv_jax.report --list` names, got none",
        ),
        (
            {"names": ["maronas2016.fig62"]},
            "figure must be .*, got 'maronas2016.fig62'; did you mean",
        ),
        ({"names": ["fig27"]}, "figure must be one that .* names, got 'fig27'"),
        (
            {"names": ["huang2015"]},
            "figure must be huang2015.fig1, .*, huang2015.transfer.*, got 'huang2015'",
        ),
        (
            {"names": ["maronas2016.fig3", "huang2015.fig9"]},
            "figure must be .*, got 'huang2015.fig9'",
        ),
        (
            {"names": ["maronas2016.fig23_24"]},
            "workdir must be a run for maronas2016.fig23_24, got none",
        ),
        (
            {"names": ["maronas2016.fig3"], "workdirs": ["here"]},
            "workdir must be unset for maronas2016.fig3, got here",
        ),
        (
            {
                "names": ["wardefarley2016.rubbish", "wardefarley2016.fig1.2"],
                "workdirs": ["a", "b"],
            },
            "workdir must be one run for wardefarley2016.fig1.2, got a, b",
        ),
        (
            {"names": ["maronas2016.fig23_24"], "workdirs": ["/nowhere"]},
            "workdir must be the directory of a run, got /nowhere",
        ),
        (
            {"names": ["maronas2016.fig23_24"], "workdirs": ["a", "b"]},
            "workdir must be one run for maronas2016.fig23_24, got a, b",
        ),
        (
            {"names": ["shallow_thesis.fig3.4"]},
            "workdir must be a run for shallow_thesis.fig3.4, got none",
        ),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        figures.run(**arguments, out=str(tmp_path / "out"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["shallow_thesis.fig3.5", "wardefarley2016.label_smoothing"])
def test_one_point_of_a_grid_is_not_drawn_as_a_run(name, monkeypatch, tmp_path):
    of_a_grid = SimpleNamespace(about={"overrides": {"objective.attack.eps": 0.1}})
    monkeypatch.setattr(trained, "load", lambda workdir: of_a_grid)
    message = "workdir must be a run without a grid, got here with objective.attack.eps"
    with pytest.raises(UserError, match=message):
        figures.run([name], workdirs=["here"], out=str(tmp_path))


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match="file/maronas2016/results/figures cannot be written: Not a directory"
    ):
        figures.run(["maronas2016.fig3"], out=str(tmp_path / "file"))


@pytest.mark.slow
def test_mistakes_on_the_command_line_are_one_line_and_a_status(commands, tmp_path):
    done = commands.run("maronas2016.fg26", cwd=tmp_path, module="adv_jax.report")
    assert (done.status, done.out) == (1, "")
    assert re.fullmatch(
        r"error: figure must be .*, got 'maronas2016.fg26'.*'maronas2016.fig26'\?\n", done.err
    )
    done = commands.run("maronas2016.fig26", "--workdri=x", cwd=tmp_path, module="adv_jax.report")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: Unknown command line flag 'workdri'. Did you mean: ")
    done = commands.run(cwd=tmp_path, module="adv_jax.report")
    assert (done.status, done.out) == (1, "")
    assert re.fullmatch(r"error: figure must be one that .* names, got none\n", done.err)
    assert list(tmp_path.iterdir()) == []


def test_the_list_has_a_line_for_each_figure():
    listed = {line.split()[0]: line for line in figures.lines()}
    assert list(listed) == list(FIGURES)
    of_one = {name for name, line in listed.items() if line.endswith(" (--workdir)")}
    assert {"maronas2016.fig23_24", "shallow_thesis.fig3.5", "wardefarley2016.fig1.2"} <= of_one
    for name in (
        "huang2015.fig2",
        "nokland2015.fig1",
        "shallow_thesis.fig3.4",
        "wardefarley2016.table1.1",
    ):
        assert listed[name].endswith(" (--workdir ...)")
    assert "--workdir" not in listed["maronas2016.fig26"] + listed["shallow_thesis.example"]
    description = "Fig. 3: plain gradient descent and momentum in a narrow valley."
    assert listed["maronas2016.fig3"] == f"{'maronas2016.fig3':38}{description}"


def test_numbers_have_six_significant_digits():
    assert rounded(np.float32(1 / 3)) == 0.333333
    assert rounded([[1234567.8, 0], [-1e-9, 2]]) == [[1234570, 0], [-1e-9, 2]]

"""`python -m launch.join`: runs of some seeds each, joined, equal the run of all."""

import json
import runpy
import shutil

import jax
import numpy as np
import pytest
from command_line import ROOT
from fabricated import finish

from adv_jax import train
from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import trained
from adv_jax.runner.store.workdir import default_path
from adv_jax.types import UserError
from launch.join import join
from papers.pages import report
from papers.running.budget import BUDGETS
from papers.running.target import Row, Run, Target
from papers.running.trainings import Training, plan

VALUES = {
    "model.features": (8,),
    "batch_size": 500,
    "epochs": 2,
    "evaluation.eps": (0.0, 0.2),
    "seed": 3,
    "replicas.seeds": 3,
    "replicas.grid": {"objective.attack.eps": (0.05, 0.1)},
    "data.preprocess": ({"name": "pixel_scale", "mean": 0.5, "divisor": 1.0},),
    "objective.attack.bounds": None,
    "evaluation.attacks": {"fgsm": {"name": "fgsm", "norm": "linf", "bounds": None}},
}


def config_of(first, count):
    make = runpy.run_path(str(ROOT / "configs" / "quickstart.py"))["get_config"]
    return with_values(make("quick").to_dict(), VALUES | {"seed": first, "replicas.seeds": count})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Seeds 3 to 5 in one program, and as two runs: 3 alone, 4 and 5."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seeds in {"all": (3, 3), "one": (3, 1), "two": (4, 2)}.items():
        train.run(config_of(*seeds), folder / name)
    return folder


@pytest.fixture(scope="module")
def joined(runs):
    return join([runs / "two", runs / "one"], into=runs / "joined")


def document(path, name):
    return json.loads((path / name).read_text())


def close(found, expected):
    """Equal but for rounding: the programs differ in the number of their replicas."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


@pytest.mark.slow
def test_a_joined_run_equals_the_run_of_all_seeds_in_one_program(runs, joined):
    assert joined == runs / "joined" / default_path(config_of(3, 3)).name
    for name in ("config.json", "data.json"):
        assert document(joined, name) == document(runs / "all", name)
    for name in ("preprocess.npz", "rows.npz"):
        with np.load(joined / name) as found, np.load(runs / "all" / name) as expected:
            assert set(found) == set(expected)
            for key in found:
                np.testing.assert_array_equal(found[key], expected[key], err_msg=key)
    found, expected = (document(path, "result.json") for path in (joined, runs / "all"))
    assert found.keys() == expected.keys() and found["data"] == expected["data"]
    replicas = [(r["seed"], r["overrides"], r["epochs"]) for r in found["replicas"]]
    assert replicas == [(r["seed"], r["overrides"], r["epochs"]) for r in expected["replicas"]]
    close(found["evaluation"], expected["evaluation"])
    close(found["replicas"][0]["test_error"], expected["replicas"][0]["test_error"])
    parts = [document(runs / name, "result.json")["seconds"] for name in ("one", "two")]
    assert found["seconds"] == pytest.approx(sum(parts), abs=0.1)
    lines = [
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (joined, runs / "all")
    ]
    close(*lines)
    assert (joined / "figures" / "learning.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("replica", [0, 4])
def test_a_joined_run_has_the_models_of_its_parts(runs, joined, replica):
    point, seed = divmod(replica, 3)
    found = trained.load(joined, replica=replica)
    part, there = ("one", point) if seed == 0 else ("two", 2 * point + seed - 1)
    expected = trained.load(runs / part, replica=there)
    assert found.about == expected.about | {"replica": replica}
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)


@pytest.mark.slow
def test_a_joined_run_is_finished_and_cannot_be_joined_there_again(runs, joined, capsys):
    before = (joined / "result.json").read_bytes()
    train.run(config_of(3, 3), joined)
    assert "holds the finished run" in capsys.readouterr().out
    with pytest.raises(UserError, match="must not have the joined run already"):
        join([runs / "one", runs / "two"], into=runs / "joined")
    assert (joined / "result.json").read_bytes() == before


@pytest.mark.slow
def test_a_killed_join_is_completed_by_the_next_one(runs, joined, tmp_path):
    begun = tmp_path / joined.name
    begun.mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (begun / name).write_bytes((joined / name).read_bytes())
    assert join([runs / "one", runs / "two"], into=tmp_path) == begun
    for name in ("metrics.jsonl", "result.json"):
        assert (begun / name).read_bytes() == (joined / name).read_bytes()


@pytest.mark.slow
def test_a_table_is_made_of_joined_runs_without_training(tmp_path, monkeypatch):
    run = Run("quickstart", "", VALUES | {"replicas.grid": None})
    target = Target("maronas2016.small", "a small net", (Row("a", run),))
    (whole,) = plan(target, BUDGETS["quick"], runs=tmp_path / "runs", data={}).values()
    parts = []
    for seed in (3, 4):
        config = with_values(whole.config, {"seed": seed, "replicas.seeds": 1})
        train.run(config, tmp_path / str(seed))
        parts.append(tmp_path / str(seed))
    assert join(parts, into=tmp_path / "runs") == whole.workdir
    monkeypatch.setattr(train, "run", lambda *_: pytest.fail("it trains"))
    settings = {"runs": tmp_path / "runs", "results": tmp_path / "results", "data": {}}
    found = report.reproduce(target, BUDGETS["quick"], **settings)
    errors = [100 * document(path, "result.json")["replicas"][0]["test_error"] for path in parts]
    assert list(found["rows"][0]["values"].values()) == pytest.approx(errors)


def made_up(folder, name, first, count, **options):
    """A finished run that nobody trained."""
    config = with_values(config_of(first, count), options.pop("changes", {}))
    training = Training(Run("quickstart"), config, folder / name, "")
    finish(training, lambda replica, eps: 0.5, **options)
    return folder / name


@pytest.mark.slow
def test_runs_that_cannot_be_joined_are_refused_in_one_line(runs, tmp_path):
    one, two = made_up(tmp_path, "one", 3, 1), made_up(tmp_path, "two", 4, 2)
    other = made_up(tmp_path, "other", 4, 2, changes={"batch_size": 50})
    far, again = made_up(tmp_path, "far", 5, 1), made_up(tmp_path, "again", 3, 2)
    old = made_up(tmp_path, "old", 4, 2, versions={"flax": "0.1"})
    copy = made_up(tmp_path, "copy", 4, 2, sha="1" * 64)
    otherwise = shutil.copytree(runs / "two", tmp_path / "otherwise")
    with np.load(otherwise / "preprocess.npz") as arrays:
        np.savez(otherwise / "preprocess.npz", **{name: a + 1 for name, a in arrays.items()})
    begun = made_up(tmp_path, "begun", 4, 2)
    (begun / "result.json").unlink()
    for paths, said in (
        ([], r"runs must be two or more, got \[\]"),
        ([one], "runs must be two or more, got"),
        ([one, f"{one}/../{one.name}"], "runs must be different, got"),
        ([one, tmp_path], "no config.json"),
        ([one, begun], f"workdir must be a finished run, got {begun}"),
        (
            [one, other],
            f"{other} must be that of {one} but for the seeds, got others: batch_size is",
        ),
        ([one, far], f"seed of {far} must be 4, the next after {one}, got 5"),
        ([again, two], f"seed of {two} must be 5, .*, got 4"),
        ([one, old], "flax must be the same in all runs, got .*0.1 in"),
        ([one, copy], "the data set mnist must be the same in all runs, got .*11111111"),
        ([one, two], f"{one}/preprocess.npz is missing"),
        (
            [runs / "one", otherwise],
            f"preprocess.npz must be the same in all runs, got {otherwise}",
        ),
    ):
        with pytest.raises(UserError, match=said) as error:
            join(paths, into=tmp_path / "runs")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_runs_that_started_from_other_weights_or_runs_are_not_joined(runs, tmp_path):
    paths = [shutil.copytree(runs / name, tmp_path / name) for name in ("one", "two")]
    for path, value in zip(paths, (1.0, 2.0), strict=True):
        config = document(path, "config.json")
        config["model"]["weights"] = "w.npz"
        (path / "config.json").write_text(json.dumps(config))
        np.savez(path / "weights.npz", a=np.full(3, value))
    with pytest.raises(UserError, match=r"^model.weights w.npz must be the same in all runs, got "):
        join(paths, into=tmp_path / "joined")
    shutil.copy(paths[0] / "weights.npz", paths[1])
    for path, sha256 in zip(paths, ("1" * 64, "2" * 64), strict=True):
        (path / "sources.json").write_text(json.dumps({"src": sha256}))
    said = "^the run src that they read must be the same in all runs, got 2222.* and 11111111 in "
    with pytest.raises(UserError, match=said):
        join(paths, into=tmp_path / "joined")
    assert not (tmp_path / "joined").exists()
    shutil.copy(paths[0] / "sources.json", paths[1])
    joined = join(paths, into=tmp_path / "joined")
    assert document(joined, "sources.json") == {"src": "1" * 64}
    with np.load(joined / "weights.npz") as arrays:
        np.testing.assert_array_equal(arrays["a"], np.ones(3))


@pytest.mark.slow
def test_joining_a_single_run_exits_with_1_and_one_line(commands, tmp_path):
    done = commands.run(str(tmp_path), module="launch.join")
    assert (done.status, done.out) == (1, "")
    assert done.err == f"error: runs must be two or more, got ['{tmp_path}']\n"

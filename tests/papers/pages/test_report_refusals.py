"""`python -m launch.reproduce` refuses wrong input, and then writes nothing."""

import json
import re

import pytest
from fabricated import finish
from reproduced import fabricate

from adv_jax.types import UserError
from papers.pages import report
from papers.running import reproduction
from papers.running.budget import BUDGETS
from papers.running.trainings import plan
from papers.running.works import TARGETS

PAPER, QUICK = BUDGETS["paper"], BUDGETS["quick"]


@pytest.mark.slow
def test_results_of_other_versions_data_or_configs_are_refused_by_name(tmp_path, never_train):
    target = TARGETS["maronas2016.table22"]
    settings = {"runs": tmp_path / "runs", "results": tmp_path / "results", "data": {}}
    with_noise, without = plan(target, PAPER, runs=tmp_path / "runs", data={}).values()
    error = lambda replica, eps: 0.01
    finish(with_noise, error)
    finish(without, error, versions={"jax": "0.9.1"})
    name = re.escape(str(without.workdir / "result.json"))
    with pytest.raises(
        UserError, match=f"jax must be the same .*, got 0.9.1 in {name} and .*result.json"
    ):
        report.reproduce(target, PAPER, **settings)
    finish(without, error, sha="f" * 64)
    with pytest.raises(UserError, match=f"data set mnist must be .*, got ffffffff.* in {name} and"):
        report.reproduce(target, PAPER, **settings)
    # One that was copied from another run: seeds 1 to 3 only.
    result = finish(without, error)
    (without.workdir / "result.json").write_text(
        json.dumps(result | {"replicas": result["replicas"][:3]})
    )
    with pytest.raises(UserError, match=f"{name}: replicas must be the .* got 3 of ladder_mnist"):
        report.reproduce(target, PAPER, **settings)
    (without.workdir / "result.json").write_text("{}")
    with pytest.raises(UserError, match=f"{name}: experiment must be given, got none"):
        report.reproduce(target, PAPER, **settings)
    for field in ("seconds", "data.sizes", "data.sha256", "versions", "versions.jaxlib"):
        lacking = json.loads(json.dumps(finish(without, error)))
        *parents, last = field.split(".")
        del (lacking[parents[0]] if parents else lacking)[last]
        (without.workdir / "result.json").write_text(json.dumps(lacking))
        message = f"{name}: {field}(.adv_jax|.train)? must be given, got none"
        with pytest.raises(UserError, match=f"^{message}$"):
            report.reproduce(target, PAPER, **settings)
    finish(without, error)
    (without.workdir / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match="metrics.jsonl cannot be read: No such file"):
        report.reproduce(target, PAPER, **settings)
    (without.workdir / "config.json").write_text(json.dumps(with_noise.config))
    with pytest.raises(UserError, match="holds a run of another config: objective.attack"):
        report.reproduce(target, PAPER, **settings)
    # What is installed counts where something is still to be trained.
    for file in without.workdir.iterdir():
        file.unlink()
    finish(with_noise, error, versions={"optax": "0.1"})
    with pytest.raises(UserError, match="optax must be the same .*, got 0.1 in .* in installed"):
        report.reproduce(target, PAPER, **settings)
    assert list((tmp_path / "results").rglob("*.*")) == []


@pytest.mark.parametrize("budget", ["paper", "short"])
def test_a_sample_of_the_data_decides_nothing(tmp_path, never_train, budget):
    settings = {"runs": tmp_path, "results": tmp_path / "results"}
    data = {"data.source": "embedded"}
    words = f"data_source must be tfds or files.* with the budget {budget}, got 'embedded'"
    with pytest.raises(UserError, match=words):
        report.reproduce(TARGETS["maronas2016.table22"], BUDGETS[budget], data=data, **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_smaller_budget_never_replaces_a_larger_one(tmp_path, never_train):
    target = TARGETS["maronas2016.table17"]
    settings = {"runs": tmp_path / "runs", "results": tmp_path / "results", "data": {}}
    for budget in (QUICK, PAPER):
        fabricate("maronas2016.table17", tmp_path / "runs", budget=budget)
        report.reproduce(target, budget, **settings)
    path = tmp_path / "results" / "maronas2016/results/table17.json"
    before = path.read_bytes()
    with pytest.raises(
        UserError,
        match="table17.json of budget paper with 150 epochs and 10 seeds; the new one is of "
        "budget quick with 20 epochs and 2 seeds",
    ):
        report.reproduce(target, QUICK, **settings)
    fewer = PAPER.limited(seeds=3, epochs=None)
    with pytest.raises(UserError, match="and 10 seeds; the new one .* 150 epochs and 3 seeds"):
        report.reproduce(target, fewer, **settings)
    assert path.read_bytes() == before
    shorter = BUDGETS["short"].limited(seeds=None, epochs=10)
    fabricate("maronas2016.table17", tmp_path / "runs", budget=BUDGETS["short"])
    report.reproduce(target, BUDGETS["short"], **settings | {"results": tmp_path / "short"})
    with pytest.raises(
        UserError, match="30 epochs and 3 seeds; the new one .* 10 epochs and 3 seeds"
    ):
        report.reproduce(target, shorter, **settings | {"results": tmp_path / "short"})
    path.write_text('{"figure": 3}')
    with pytest.raises(UserError, match="must be a result of maronas2016.table17, got another"):
        report.reproduce(target, PAPER, **settings)


def test_a_full_disk_is_named_and_leaves_no_half_of_a_result(mounted, tmp_path, never_train):
    disk = mounted("64k")
    fabricate("maronas2016.table17", tmp_path)
    (disk / "filler").write_bytes(bytes(48 * 1024))
    settings = {"runs": tmp_path, "results": disk / "results", "data": {}}
    with pytest.raises(
        UserError, match="maronas2016/results/table17.* cannot be written: No space left"
    ):
        report.reproduce(TARGETS["maronas2016.table17"], PAPER, **settings)
    assert not (disk / "results" / "maronas2016/results/table17.json").exists()
    assert not list(disk.rglob("*.part"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            [],
            "target must be all, or a target or paper in `launch.reproduce --list`, got none",
        ),
        (
            ["maronas2016.tabel20"],
            "target must be .*, got 'maronas2016.tabel20'; did you mean 'maronas2016.table20'",
        ),
        (["maronsa"], "did you mean 'maronas2016'"),
    ],
)
def test_unknown_targets_are_refused_with_the_nearest(names, message):
    with pytest.raises(UserError, match=message) as error:
        reproduction.chosen(names)
    assert "\n" not in str(error.value)


def test_missing_data_are_named_and_nothing_is_written(tmp_path):
    data = {"data.source": "files", "data.dir": str(tmp_path)}
    settings = {"runs": tmp_path / "runs", "results": tmp_path / "results", "data": data}
    with pytest.raises(UserError, match=re.escape(str(tmp_path))) as error:
        report.reproduce(TARGETS["maronas2016.table17"], PAPER, **settings)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "results").rglob("*.*")) == []


def test_a_refused_command_makes_no_folder(tmp_path, monkeypatch):
    """Neither --judge without results nor --check with a training that fails leaves a folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--results must be .* results of .*, got papers"):
        report.rejudge([TARGETS["huang2015.table1"]], results="papers")

    def refuse(config, workdir):
        raise UserError("data.dir must be a folder with MNIST, got none")

    monkeypatch.setattr(reproduction.train, "run", refuse)
    settings = {"runs": "runs", "results": "papers", "data": {}}
    found, failures = report.reproduce_all([TARGETS["huang2015.table1"]], PAPER, **settings)
    assert found == [] and failures[0].endswith("got none")
    assert list(tmp_path.iterdir()) == []

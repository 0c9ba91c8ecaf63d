"""The stages of `benchmarks.accelerator` keep, resume, leave out and judge as the guide says.

Timings themselves are no test.
"""

import argparse
import json
import re
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import short_run

from benchmarks import accelerator, accelerator_worker, attacks_worker, pages
from benchmarks.accelerator_stages import STAGES, Stage, Work, stage_names
from benchmarks.accelerator_tables import tables
from benchmarks.timing import Worker, WorkerError, spread

LADDER = Work("task", task="ladder", steps=10)


class Answers:
    """Workers whose device gives these numbers of the checks."""

    def __init__(self, *, attacked=0.5, losses=(2.0,), replicas=1e-6):
        self.answers = {
            "attacked": {"square": {"device": attacked, "cpu": 0.5}},
            "trained": {"device": list(losses), "cpu": [2.0], "replicas": replicas},
        }

    def call(self, side, request, **arguments):
        return self.answers[request]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"attacked": 0.47}, "square: accuracy 0.470 on the device, 0.500"),
        ({"losses": [2.01]}, "lwa: losses [2.01] on the device"),
        ({"losses": [np.nan]}, "lwa: losses [nan] on the device"),
        ({"replicas": 0.1}, "vmapped replicas differ from single ones by 1.0e-01"),
    ],
)
def test_nothing_is_timed_on_a_device_that_computes_other_numbers(wrong, sentence, capsys):
    assert accelerator.checks(Answers())["trainings"]["lwa"]["replicas"] == 1e-6
    with pytest.raises(SystemExit, match="nothing is timed"):
        accelerator.checks(Answers(**wrong))
    assert sentence in capsys.readouterr().out


class Sides:
    """Workers whose blocks take these seconds; a side may fail at a request, or differ."""

    def __init__(self, seconds, *, failing=(), losses=None):
        self.seconds, self.failing, self.losses = seconds, failing, losses or {}
        self.called = []

    def call(self, side, request, *, form=None, **arguments):
        self.called.append((side, request))
        if (side, request) in self.failing:
            raise WorkerError(f"{request!r} took more than 45 s")
        seconds = self.seconds.get(side)
        facts = {"compile_seconds": 5.0, "first_seconds": seconds}
        facts |= {"loss": self.losses.get(side, 3.0)}
        return {"prepare": facts, "run": seconds, "export": None}[request]


@pytest.fixture
def installed(monkeypatch):
    """All of PyTorch's forms count as installed, except those put into the set."""
    missing = set()
    find = lambda package: None if package in missing else package
    monkeypatch.setattr(accelerator.util, "find_spec", find)
    monkeypatch.setattr("benchmarks.timing.SETTLE_SECONDS", 0)
    return missing


def compared(sides, forms, *, known=None, left=1e9):
    *_, last = accelerator.compare(
        sides, LADDER, forms, known=known or {}, rounds=2, left=lambda: left
    )
    return last


def report(stages, platform="gpu"):
    """A report of an H100, or of a CPU."""
    machine = {"device": "H100", "platform": platform, "cpu": "Abacus", "cpus": 3, "python": "3.11"}
    return {
        "benchmark": "accelerator",
        "machine": machine,
        "versions": {"jax": "0.10.2"},
        "threads": 2,
        "stages": stages,
    }


def cells(title, stages):
    [found] = [table for table in tables(report(stages)) if table.title == title]
    return found.rows


def test_each_form_takes_turns_with_adv_jax(installed):
    found = compared(Sides({"adv_jax": 0.2, "eager": 0.4, "graph": 0.1}), ("eager", "graph"))
    ms = {form: facts["ms"][form]["median"] for form, facts in found["forms"].items()}
    assert ms == {"eager": 40.0, "graph": 10.0}  # blocks of ten steps
    assert [facts["times_as_fast"]["median"] for facts in found["forms"].values()] == [2.0, 0.5]
    assert [len(facts["ms"]["adv_jax"]["rounds"]) for facts in found["forms"].values()] == [2, 2]


def test_a_peer_that_is_not_installed_is_a_line(installed, capsys):
    installed.add("foolbox")
    found = compared(Sides({"adv_jax": 0.2, "eager": 0.4}), ("foolbox", "eager"))
    assert list(found["forms"]) == ["eager"]
    assert found["left_out"] == {"foolbox": "foolbox is not installed"}
    assert "foolbox is left out: foolbox is not installed\n" in capsys.readouterr().out


@pytest.mark.parametrize("request_", ["prepare", "run"])
def test_a_limit_that_strikes_ends_that_form_alone(request_, installed):
    seconds = {"adv_jax": 0.2, "eager": 0.4, "graph": 0.1, "compiled": 0.3}
    sides = Sides(seconds, failing=[("graph", request_)])
    found = compared(sides, ("eager", "graph", "compiled"))
    assert list(found["forms"]) == ["eager", "compiled"]
    assert found["left_out"] == {"graph": f"{request_!r} took more than 45 s"}


def test_a_form_whose_limit_exceeds_the_time_left_is_not_begun(installed):
    sides = Sides({"adv_jax": 0.2, "eager": 0.4})
    found = compared(sides, ("eager", "compiled"), left=60)
    assert list(found["forms"]) == ["eager"]
    assert found["left_out"] == {"compiled": "no time was left"}
    assert ("compiled", "prepare") not in sides.called


def test_a_worker_that_takes_too_long_is_ended():
    start = time.perf_counter()
    too_long = pytest.raises(WorkerError, match="'describe' took more than 0.1 s")
    with Worker("benchmarks.adv_jax_worker") as worker, too_long:
        worker.call("describe", within=0.1)
    assert time.perf_counter() - start < 5


def ran(path, sides, forms, *, names=("ladder",)):
    """Runs stages of the ladder with these sides, as the command does -> (its report, failed)."""
    found, left = accelerator.resumed(path, report({})), lambda: 1e9

    def measure(name):
        known = found["stages"].get(name, {})
        asked = [form for form in accelerator.missing(name, found) if form in forms]
        yield from accelerator.compare(sides, LADDER, asked, known=known, rounds=1, left=left)

    save = lambda: accelerator.write(path, found)
    return found, accelerator.run_stages(names, found, measure=measure, save=save, left=left)


class Interrupted(Sides):
    """Sides that are cut off while the compiled form is prepared."""

    def call(self, side, request, **arguments):
        if (side, request) == ("compiled", "prepare"):
            raise KeyboardInterrupt
        return super().call(side, request, **arguments)


def test_a_run_that_is_cut_off_keeps_what_it_has_and_goes_on(tmp_path, installed):
    path, seconds = tmp_path / "out.json", {"adv_jax": 0.2, "eager": 0.4, "graph": 0.1}
    with pytest.raises(KeyboardInterrupt):
        ran(path, Interrupted(seconds), ("eager", "graph", "compiled"))
    kept = json.loads(path.read_text())["stages"]["ladder"]
    assert list(kept["forms"]) == ["eager", "graph"]
    sides = Sides({"adv_jax": 0.2, "compiled": 0.3, "compiled graph": 0.3})
    found, failed = ran(path, sides, accelerator.STAGES["ladder"].forms)
    assert failed == []
    forms = found["stages"]["ladder"]["forms"]
    assert list(forms) == ["eager", "graph", "compiled", "compiled graph"]
    assert forms["eager"] == kept["forms"]["eager"]
    assert {side for side, _ in sides.called} == {"adv_jax", "compiled", "compiled graph"}
    again = Sides({})
    ran(path, again, ())
    assert again.called == []


def test_a_form_that_was_left_out_is_tried_again(tmp_path, installed):
    path, seconds = tmp_path / "out.json", dict.fromkeys(("adv_jax", *STAGES["ladder"].forms), 0.2)
    ran(path, Sides(seconds, failing=[("graph", "prepare")]), STAGES["ladder"].forms)
    sides = Sides(seconds)
    found, _ = ran(path, sides, STAGES["ladder"].forms)
    assert "graph" in found["stages"]["ladder"]["forms"]
    assert found["stages"]["ladder"]["left_out"] == {}
    assert {side for side, _ in sides.called} == {"adv_jax", "graph"}


def test_a_stage_whose_own_side_fails_does_not_end_the_others(tmp_path, installed):
    path = tmp_path / "out.json"
    sides = Sides({}, failing=[("adv_jax", "prepare")])
    found, failed = ran(path, sides, ("eager",), names=("ladder", "pgd_lenet"))
    assert failed == ["ladder", "pgd_lenet"]
    assert found["stages"] == {}


def test_a_report_of_other_versions_is_not_resumed(tmp_path, capsys):
    path = tmp_path / "out.json"
    path.write_text(json.dumps(report({"checks": {}})))
    same = accelerator.resumed(path, report({}))
    assert list(same["stages"]) == ["checks"]
    other = accelerator.resumed(path, report({}) | {"versions": {"jax": "0.11.2"}})
    assert other["stages"] == {}
    assert "starting afresh" in capsys.readouterr().out


def test_minutes_keep_the_order_and_pass_over_what_is_too_long(monkeypatch):
    stages = {"a": 50.0, "b": 70.0, "c": 30.0, "d": 30.0}
    stages = {name: Stage(seconds=seconds) for name, seconds in stages.items()}
    monkeypatch.setattr(accelerator, "STAGES", stages)
    clock, run = [100.0], []

    def measure(name):
        run.append(name)
        clock[0] -= stages[name].seconds
        yield {}

    accelerator.run_stages(
        list(stages), report({}), measure=measure, save=lambda: None, left=lambda: clock[0]
    )
    assert run == ["a", "c"]


def test_names_of_stages_are_refused_with_those_there_are():
    assert stage_names("checks,ladder") == ["checks", "ladder"]
    with pytest.raises(argparse.ArgumentTypeError, match=r"one of checks, .*, got 'lader'"):
        stage_names("checks,lader")


def test_a_goal_is_not_met_beside_some_of_the_forms(installed):
    seconds = dict.fromkeys(STAGES["ladder"].forms, 0.2) | {"adv_jax": 0.1, "eager": 0.4}
    found = compared(Sides(seconds), STAGES["ladder"].forms)
    goal = ("FC ladder, 100 + 100, float32", "graph / adv_jax", "2.00 (2.00-2.00)", "at least 1")
    assert cells("Goals", {"ladder": found}) == [(*goal, "yes")]
    failing = [(form, "prepare") for form in ("graph", "compiled", "compiled graph")]
    found = compared(Sides(seconds, failing=failing), STAGES["ladder"].forms)
    [(_, ratio, _, _, met)] = cells("Goals", {"ladder": found})
    assert (ratio, met) == ("eager / adv_jax", "of eager only")
    rows = cells("Beside PyTorch on the same device", {"ladder": found})
    assert rows[2][1:3] == ["PyTorch, graph", "left out: 'prepare' took more than 45 s"]


def test_a_form_that_computes_something_else_says_so_and_is_no_peer(installed, capsys):
    sides = Sides({"adv_jax": 0.2, "eager": 0.4, "graph": 0.1}, losses={"eager": 3.2, "graph": 3.4})
    found = compared(sides, ("eager", "graph"))
    assert "graph differs: loss 3.4, ours 3" in capsys.readouterr().out
    rows = cells("Beside PyTorch on the same device", {"ladder": found})
    assert [row[2] for row in rows] == ["loss 3", "loss 3.2", "differs: loss 3.4, ours 3"]
    [(_, ratio, *_)] = cells("Goals", {"ladder": found})
    assert ratio == "eager / adv_jax"


@pytest.mark.parametrize(("rounds", "met"), [([4.0, 6.0, 7.0], "yes"), ([4.0, 4.9, 7.0], "no")])
def test_ten_seeds_at_once_have_to_be_five_times_as_fast_on_a_gpu(rounds, met, monkeypatch):
    monkeypatch.setattr("benchmarks.timing.SETTLE_SECONDS", 0)

    class Seeds:
        def call(self, side, request, *, work, **arguments):
            if request == "prepare":
                return {"compile_seconds": 1.0, "first_seconds": 1.0}
            return 1.0 if work["seeds"] == 10 else 0.4

    work = Work("task", task="mlp_10", steps=500)
    timed = accelerator.seeds(Seeds(), work, rounds=1)
    assert timed["times_as_fast"]["median"] == 4.0
    timed["times_as_fast"] = spread(rounds)
    [(*_, demand, is_met)] = cells("Goals", {"seeds_mlp_10": timed})
    assert (demand, is_met) == ("at least 5", met)


def test_titles_have_the_sizes_that_ran(installed):
    stage = STAGES["pgd_resnet18_bfloat16"]
    assert stage.work.title == "PGD-20 linf, PreAct-ResNet-18, 512 images, bfloat16"
    small = stage.work._replace(**stage.small)
    assert small.title == "PGD-2 linf, narrow PreAct-ResNet, 8 images, bfloat16"
    found = compared(Sides({"adv_jax": 0.2, "eager": 0.4}), ("eager",)) | {"work": small._asdict()}
    [beside] = tables(report({"pgd_resnet18_bfloat16": found}, platform="cpu"))  # and no goals
    assert beside.rows[0][0] == small.title


@pytest.mark.slow
def test_a_stage_compiles_for_a_gpu_that_is_not_there():
    pytest.importorskip("jax_cuda13_plugin", reason="needs the extra cuda")
    command = "benchmarks.accelerator_compile --topology=h100:1 --stages=seeds_mlp_10"
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=pages.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"10 seeds, 784-400-400-10, batch 10.*product.*elementwise", done.stdout)


class OwnProcess:
    """In place of the workers: this process, whose device is the CPU."""

    def call(self, side, request, *, within, **arguments):
        assert side == accelerator.OURS
        return getattr(accelerator_worker, request)(**arguments)


@pytest.mark.exhaustive
def test_a_device_that_is_the_cpu_computes_the_same_numbers(monkeypatch):
    monkeypatch.setattr(accelerator, "COMPARED", ("mlp_10",))
    few = short_run.few_digits(500, 10)
    lenet = attacks_worker.trained_variables("lenet", *few.train)
    monkeypatch.setattr(accelerator_worker, "_lenet", lambda: jax.device_get(lenet))
    found = accelerator.checks(OwnProcess(), digits=10)
    assert set(found["attacks"]) == {"pgd linf", "deepfool", "square"}
    assert all(both["device"] == both["cpu"] < 1 for both in found["attacks"].values())
    assert len(found["trainings"]["mlp_10"]["cpu"]) == 3


@pytest.mark.slow
def test_a_stage_runs_on_a_cpu_in_small(tmp_path):
    out = tmp_path / "accelerator.json"
    command = "benchmarks.accelerator --stages seeds_mlp_10 --rounds 1 --out"
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), str(out)],
        cwd=pages.ROOT,
        env={**accelerator.os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())["stages"]["seeds_mlp_10"]["times_as_fast"]["median"] > 0

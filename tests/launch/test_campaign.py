"""`launch.reproduce missing`: what it trains, in which order, and where it goes on."""

import contextlib
import json
import signal
import subprocess
import sys
import time

import pytest
from command_line import ROOT, environment
from fabricated import finish
from marks import exhaustive_after

from adv_jax import train
from adv_jax.runner.host.signals import Interrupted
from adv_jax.runner.store.formats import as_json
from adv_jax.runner.store.workdir import InUse, Workdir
from adv_jax.types import UserError
from launch import _campaign, _carry
from launch._campaign import Campaign, Folders
from papers.running import epoch_times
from papers.running.budget import BUDGETS
from papers.running.epoch_times import workload
from papers.running.target import Claim, Row, Run, Target
from papers.running.trainings import newest_epoch, plan, share_trained

TINY = {
    "data.source": "embedded",
    "data.num_valid": 3000,
    "replicas.seeds": 3,
    "model.features": (8,),
    "batch_size": 500,
    "evaluation.eps": (0.0, 0.2),
}
SHORT = Run("quickstart", "quick", TINY | {"epochs": 2})
LONG = Run("quickstart", "quick", TINY | {"epochs": 6})


def target(name, *runs, claims=0):
    rows = tuple(Row(f"row {i}", run) for i, run in enumerate(runs))
    rows += (Row("again", runs[0]),)
    said = tuple(Claim(f"claim {i}", "gain", ("row 0", "again")) for i in range(claims))
    return Target(f"maronas2016.{name}", name, rows, said)


LONGER = target("longer", LONG, claims=1)
SHORTER = target("shorter", SHORT, claims=1)
BOTH = target("both", SHORT, LONG)


@pytest.fixture(autouse=True)
def no_stored_results(tmp_path, monkeypatch):
    (tmp_path / "stored").mkdir()
    monkeypatch.setattr(_campaign, "STORED", tmp_path / "stored")


def folders(folder, carry=None):
    return Folders(folder / "runs", folder / "results", {}, carry)


def trainings(one, folder):
    return list(plan(one, BUDGETS["paper"], runs=folder / "runs", data={}).values())


def spend(folder, *targets, seconds=600, carry=None):
    return Campaign(targets, folders(folder, carry)).run(time.monotonic() + seconds)


def results(folder):
    found = (folder / "results").rglob("*.json")
    return {path.stem: json.loads(path.read_text()) for path in found}


def numbers(folder, name):
    return {row["label"]: row["values"] for row in results(folder)[name]["rows"]}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    stored = pytest.MonkeyPatch()
    stored.setattr(_campaign, "STORED", folder / "none")
    (folder / "none").mkdir()
    assert spend(folder, BOTH) == []
    stored.undo()
    return folder


@pytest.fixture
def trained(monkeypatch):
    """The workdirs of all trainings that begin, in order."""
    begun, run = [], train.run

    def noted(config, workdir, **options):
        begun.append(workdir)
        return run(config, workdir, **options)

    monkeypatch.setattr(train, "run", noted)
    return begun


@pytest.mark.slow
def test_each_first_epoch_is_measured_and_then_most_verdicts_per_second_come_first(
    tmp_path, trained
):
    assert spend(tmp_path, LONGER, SHORTER) == []
    long, short = (trainings(one, tmp_path)[0].workdir for one in (LONGER, SHORTER))
    # One measured epoch serves both, whose steps are the same; two epochs come before six.
    assert trained == [long, short, long]
    assert results(tmp_path).keys() == {"longer", "shorter"}


@pytest.mark.slow
def test_a_target_is_written_when_its_last_run_ends_and_then_nothing_is_missing(
    tmp_path, trained, capsys
):
    assert spend(tmp_path, BOTH) == []
    assert results(tmp_path).keys() == {"both"}
    del trained[:]
    again = Campaign([BOTH], folders(tmp_path))
    assert (again.trainings, again.run(time.monotonic() + 60), trained) == ([], [], [])


@pytest.mark.slow
def test_a_run_that_the_time_cuts_off_goes_on_bit_for_bit(tmp_path, uninterrupted):
    long = trainings(BOTH, tmp_path)[1]
    with pytest.raises(Interrupted) as stopped:
        train.run(long.config, long.workdir, ends=time.monotonic())
    assert stopped.value.signum == signal.SIGALRM and newest_epoch(long.workdir) == 1
    assert spend(tmp_path, BOTH) == []
    assert numbers(tmp_path, "both") == numbers(uninterrupted, "both")


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(1, ["carried.tgz", "carried", "carried.tar"]))
def test_another_machine_goes_on_from_what_was_carried(tmp_path, uninterrupted, name):
    """Results name the folder of the runs, so both machines have it in the same place."""
    carry, runs = tmp_path / name, tmp_path / "runs"
    short, long = trainings(BOTH, tmp_path)
    train.run(short.config, short.workdir)
    with pytest.raises(Interrupted):
        train.run(long.config, long.workdir, ends=time.monotonic())
    Campaign([BOTH], folders(tmp_path, carry)).run(time.monotonic())  # no time, only a copy
    runs.rename(tmp_path / "first machine")
    campaign = Campaign([BOTH], folders(tmp_path, carry))
    epochs = [share_trained(training) for training in campaign.trainings]
    assert epochs == [1, pytest.approx(0.99 / 6)]
    assert campaign.run(time.monotonic() + 600) == []
    assert numbers(tmp_path, "both") == numbers(uninterrupted, "both")
    assert _carry.unpack(carry, tmp_path / "elsewhere", tmp_path / "others") == []
    assert (tmp_path / "others/maronas2016/results/both.json").exists()


@pytest.mark.slow
def test_what_does_not_fit_stays_behind_and_is_named(tmp_path, monkeypatch, capsys):
    (long,) = trainings(LONGER, tmp_path)
    with pytest.raises(Interrupted):
        train.run(long.config, long.workdir, ends=time.monotonic())
    monkeypatch.setattr(_carry, "MAX_BYTES", 1000)
    Campaign([LONGER], folders(tmp_path, tmp_path / "carry")).run(time.monotonic())
    assert f"not carried, as 0 MB are full: {long.workdir}" in capsys.readouterr().out
    assert list((tmp_path / "carry").rglob("*")) == []


@pytest.mark.slow
def test_a_copy_that_a_kill_left_between_two_names_is_read(tmp_path):
    short, _ = trainings(BOTH, tmp_path)
    train.run(short.config, short.workdir)
    Campaign([BOTH], folders(tmp_path, tmp_path / "carry")).run(time.monotonic())
    (tmp_path / "carry").rename(tmp_path / ".carry.old")
    copied = _carry.unpack(tmp_path / "carry", tmp_path / "elsewhere", tmp_path / "others")
    assert copied == [short.workdir.name]


def test_an_archive_of_another_kind_is_refused(tmp_path):
    wrong = tmp_path / "carry.tar"
    wrong.write_text("text")
    with pytest.raises(UserError, match="^--carry must be a folder or an archive that"):
        Campaign([BOTH], folders(tmp_path, wrong))


@pytest.mark.slow
def test_a_second_call_on_the_folder_takes_other_work_or_says_so(tmp_path, trained, capsys):
    short, long = trainings(BOTH, tmp_path)
    with Workdir(long.workdir, long.config):
        with pytest.raises(InUse):
            Workdir(long.workdir, long.config)
        assert spend(tmp_path, BOTH) == []
        assert share_trained(short) == 1 and results(tmp_path) == {}
        capsys.readouterr()
        assert spend(tmp_path, BOTH) == []
        assert capsys.readouterr().out.splitlines()[-1] == (
            f"--runs is in use: another call trains all that is missing in {tmp_path / 'runs'}"
        )
    assert spend(tmp_path, BOTH) == []
    assert results(tmp_path).keys() == {"both"}


@pytest.mark.slow
def test_a_training_that_fails_is_reported_and_others_go_on(tmp_path):
    broken = target("broken", SHORT._replace(values=SHORT.values | {"data.source": "files"}))
    (message,) = spend(tmp_path, broken, SHORTER)
    assert "data.dir must be the folder" in message
    assert results(tmp_path).keys() == {"shorter"}


def made(folder, *targets, share=0.01):
    """Writes the finished workdirs of targets, without training."""
    found = [training for one in targets for training in trainings(one, folder)]
    for training in found:
        finish(training, lambda replica, eps: share)
    return found


def test_a_damaged_workdir_fails_alone_and_stays(tmp_path):
    damaged, _ = made(tmp_path, SHORTER, LONGER)
    (damaged.workdir / "result.json").write_text("{")
    campaign = Campaign([SHORTER, LONGER], folders(tmp_path, tmp_path / "carry"))
    campaign.print_plan()
    (message,) = campaign.run(time.monotonic() + 60)
    assert message.startswith(f"{damaged.workdir.name}: ") and "is damaged" in message
    assert results(tmp_path).keys() == {"longer"}
    assert (tmp_path / "carry/results/maronas2016/results/longer.json").exists()
    assert (damaged.workdir / "result.json").read_text() == "{"


@pytest.mark.parametrize("error", [UserError("disk full"), KeyboardInterrupt])
def test_runs_whose_result_cannot_be_written_stay_in_the_copy(tmp_path, monkeypatch, error):
    def fails(*_, **__):
        raise error

    (training,) = made(tmp_path, SHORTER)
    monkeypatch.setattr(_campaign, "reproduce", fails)
    with contextlib.suppress(KeyboardInterrupt):
        failures = spend(tmp_path, SHORTER, carry=tmp_path / "carry")
        assert failures == ["maronas2016.shorter: disk full"]
    assert (tmp_path / "carry/runs" / training.workdir.name / "result.json").exists()


def test_a_call_for_fewer_works_leaves_the_others_in_the_copy(tmp_path):
    for training in trainings(BOTH, tmp_path):  # LONGER and SHORTER
        training.workdir.mkdir(parents=True)
        (training.workdir / "config.json").write_text(json.dumps(as_json(training.config)))
        (training.workdir / "checkpoints/1").mkdir(parents=True)
    there, carry = tmp_path / "there", tmp_path / "carry.tar"
    spend(tmp_path, LONGER, SHORTER, seconds=0, carry=carry)
    (tmp_path / "runs").rename(tmp_path / "first machine")
    spend(tmp_path, SHORTER, seconds=0, carry=carry)
    assert len(_carry.unpack(carry, there / "runs", there / "results")) == 2


def test_a_result_goes_to_the_copy_also_when_it_goes_to_the_stored_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(_campaign, "STORED", tmp_path / "results")
    (tmp_path / "results").mkdir()
    made(tmp_path, SHORTER)
    carry, there = tmp_path / "carry", tmp_path / "there"
    for _ in range(2):  # The second call finds the result stored, and leaves it in the copy.
        assert spend(tmp_path, SHORTER, carry=carry) == []
        assert _carry.unpack(carry, there / "runs", there / "results") == []
        assert results(there).keys() == {"shorter"}


def test_a_copy_that_cannot_be_written_at_the_end_is_an_error(tmp_path, monkeypatch):
    campaign = Campaign([SHORTER], folders(tmp_path, tmp_path / "carry.tar"))
    (tmp_path / "carry.tar").mkdir()
    (tmp_path / "carry.tar/thesis.txt").write_text("years of work")
    (message,) = campaign.run(time.monotonic())
    assert message.startswith("--carry: --carry must be a folder") and "thesis.txt" in message
    assert (tmp_path / "carry.tar/thesis.txt").exists()


@pytest.mark.parametrize("content", ["[1]", '{"a": "b"}', "{"])
def test_a_damaged_record_of_times_is_named(tmp_path, content):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/cut_off.json").write_text(content)
    with pytest.raises(UserError, match=r"^\S+cut_off.json (must be seconds by|is damaged)"):
        Campaign([SHORTER], folders(tmp_path))


def test_the_unknown_is_measured_first_and_a_guess_excludes_nothing(tmp_path, monkeypatch):
    """An epoch of three replicas takes 150 s by a guess, and 3 s on this device."""
    elsewhere = Run("mlp_mnist", "quick", {"data.source": "embedded", "replicas.seeds": 3})
    unknown = target("unknown", elsewhere, claims=1)
    short, long, new = (trainings(one, tmp_path)[0] for one in (SHORTER, LONGER, unknown))
    other = target("other", SHORT._replace(values=SHORT.values | {"batch_size": 250}), claims=1)
    (small,) = trainings(other, tmp_path)
    guesses = {workload(small.config): 50.0, workload(short.config): 1.0}
    monkeypatch.setattr(epoch_times, "measured", lambda *_: {workload(short.config): 1.0})
    monkeypatch.setattr(epoch_times, "measured_or_guessed", lambda *_: guesses)
    campaign = Campaign([LONGER, other, SHORTER, unknown], folders(tmp_path))

    def first_seen(seconds):
        found = campaign._candidates(time.monotonic() + seconds)
        return list(dict.fromkeys(training.workdir for training in found))

    one_day = [new.workdir, short.workdir, long.workdir, small.workdir]
    assert first_seen(86400) == one_day and first_seen(60) == one_day
    assert first_seen(2) == [new.workdir, small.workdir]


def test_a_training_of_a_call_that_was_killed_is_taken_over(tmp_path, monkeypatch):
    short, long = trainings(BOTH, tmp_path)
    killed = []

    def run(config, workdir, **_):
        if workdir == short.workdir and not killed:
            killed.append(workdir)
            raise InUse("in use")
        finish(next(one for one in (short, long) if one.workdir == workdir), lambda *_: 0.01)

    monkeypatch.setattr(train, "run", run)
    assert spend(tmp_path, BOTH) == [] and results(tmp_path).keys() == {"both"}


def test_an_accelerator_compiles_the_next_program_while_one_trains(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(_campaign, "compile_ahead", lambda _, workdir: compiled.append(workdir))
    short, long = trainings(BOTH, tmp_path)
    campaign = Campaign([BOTH], folders(tmp_path))
    assert campaign._compiling(short, time.monotonic() + 60) is None  # a CPU
    monkeypatch.setattr(_campaign.jax, "default_backend", lambda: "gpu")
    campaign._compiling(short, time.monotonic() + 60).join()
    campaign._compiling(long, time.monotonic() + 60).join()
    assert compiled == [long.workdir, short.workdir]
    assert campaign._compiling(short, time.monotonic()) is None  # no time to train it


@pytest.mark.slow
def test_flags_of_the_other_use_are_refused(commands):
    for argv, message in (
        (["missing", "--budget=short"], "--budget must be unset with missing, got 'short'"),
        (["missing", "--minutes=nan"], "--minutes must be 0 or more, got nan"),
        (["missing", "huang2015"], "missing must stand alone, with targets in --works, got"),
        (["missing", "--judge"], "--judge must be unset with missing, got True"),
        (["huang2015.table1", "--minutes=3"], "--minutes must be unset without missing, got 3.0"),
        (["missing", "--works=huagn2015"], "did you mean 'huang2015'?"),
        (
            ["missing", "--dry-run", "--carry=a.zip"],
            "--carry must be a folder, without a suffix if it is new",
        ),
        (["all", "--list", "--check"], "--check must be unset with --list, got True"),
        (["all", "--power", "--check"], "--check must be unset with --power, got True"),
        (["all", "--judge", "--budget=short"], "--budget must be unset with --judge, got 'short'"),
        (["all", "--judge", "--power"], "--power must be unset with --judge, got True"),
        (
            ["--judge"],
            "target must be all, or a target or paper in `launch.reproduce --list`, got none",
        ),
        (
            ["--list", "foo"],
            "target must be all, or a target or paper in `launch.reproduce --list`, got 'foo'",
        ),
        (
            ["all", "--power", "--results=/nothing"],
            "folder with results of the targets, got /nothing",
        ),
        (["missing", "--dry-run", "--data_source="], "should be one of <tfds|files|embedded>"),
        (["missing", "--data_source=embedded"], "data_source must be tfds or files"),
        (
            ["huang2015", "--data_source=files", "--data_dir=/nothing"],
            "--data_dir must be a folder, got /nothing",
        ),
    ):
        done = commands.run(*argv, module="launch.reproduce")
        assert done.status == 1 and done.err.startswith("error: "), argv
        assert message in done.err and len(done.err.splitlines()) == 1


AHEAD = """
import sys
from pathlib import Path
import jax
import test_campaign as made
from adv_jax import train
from adv_jax.runner.run.training import compile_ahead
folder = Path(sys.argv[1])
jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
(training,) = made.trainings(made.SHORTER, folder)
programs = lambda: {path.name for path in (folder / "compiled").glob("*-cache")}
compile_ahead(training.config, training.workdir)
before = programs()
assert len(before) == 4 and not training.workdir.exists()
train.run(training.config, training.workdir)
assert programs() == before
"""


@pytest.mark.slow
def test_a_run_compiles_nothing_that_was_compiled_ahead(tmp_path):
    paths = [ROOT, ROOT / "tests" / "launch", ROOT / "tests" / "support"]
    env = environment(PYTHONPATH=":".join(map(str, paths)))
    command = [sys.executable, "-c", AHEAD, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# The priority is only recorded: at the lowest one, this test would wait for all that run beside it.
NICE = """
import atexit, os, runpy
os.nice = lambda lower: atexit.register(lambda: print(lower, len(os.sched_getaffinity(0))))
runpy.run_module("launch.reproduce", run_name="__main__")
"""


@pytest.mark.slow
def test_nice_takes_one_core_at_the_lowest_priority_and_a_dry_run_trains_nothing(tmp_path):
    where = [f"--runs={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}"]
    # A target that no device at hand can run in full: it stays missing.
    argv = ["missing", "--nice", "--dry-run", "--works=nokland2015.table3", *where]
    carried = tmp_path / "carry/runs/rules_mnist-12345678"
    carried.mkdir(parents=True)
    (carried / "config.json").write_text("{}")
    argv.append(f"--carry={tmp_path / 'carry'}")
    options = {"cwd": ROOT, "env": environment(), "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", NICE, *argv], **options)
    assert done.returncode == 0, done.stderr
    assert "nokland2015.table3" in done.stdout and done.stdout.endswith("19 1\n")
    assert "--carry has more epochs of rules_mnist-12345678" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"stored", "carry"}


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from launch import _campaign
import test_campaign as made
from papers.running.target import Run
folder = Path({folder!r})
_campaign.STORED = folder / "stored"
values = made.TINY | {{"epochs": 3, "batch_size": 1, "model.features": (400, 400)}}
slow = made.target("slow", Run("quickstart", "quick", values | {{"replicas.seeds": 200}}))
began = time.monotonic()
broken = made.SHORT._replace(values=made.TINY | {{"data.source": "files"}})
targets = [made.target("broken", broken), slow] if {seconds} == 15 else [slow]
_campaign.Campaign(targets, made.folders(folder)).run(began + {seconds})
print("left out without an epoch")
"""


@pytest.mark.slow
def test_the_time_ends_the_process_inside_an_epoch_and_the_next_call_takes_other_work(tmp_path):
    tests = str(ROOT / "tests" / "launch")
    code = SCRIPT.format(tests=tests, folder=str(tmp_path), seconds=15)
    path = f"{ROOT}:{ROOT / 'tests' / 'support'}"
    command = [sys.executable, "-c", code]
    began = time.monotonic()
    options = {"cwd": ROOT, "capture_output": True, "text": True}
    done = subprocess.run(command, env=environment(PYTHONPATH=path), **options)
    # The training that failed before is not forgotten.
    assert done.returncode == 1 and "data.dir must be the folder" in done.stderr
    assert "time is up inside an epoch" in done.stdout and time.monotonic() - began < 60
    bounds = json.loads((tmp_path / "runs" / "cut_off.json").read_text())
    assert all(5 < seconds < 20 for seconds in bounds.values())
    shorter = SCRIPT.format(tests=tests, folder=str(tmp_path), seconds=min(bounds.values()) - 1)
    done = subprocess.run(
        [sys.executable, "-c", shorter], env=environment(PYTHONPATH=path), **options
    )
    assert "left out without an epoch" in done.stdout

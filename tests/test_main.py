"""The command line: what a run leaves behind, how it stops and goes on, what it refuses."""

import gzip
import json
import os
import re
import signal
import struct
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from command_line import MODULE, ROOT, call, terminal
from full_disk import filled
from PIL import Image
from short_run import EPOCHS, QUICK, TINY, assert_same_run, digest, result_of

import adv_jax

LADDER = "--config=configs/ladder_mnist.py:quick"


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """File -> (time of its last change, digest)."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, digest(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# What a run leaves behind.


def test_a_real_shell_command_trains_and_a_missing_config_is_one_line(tmp_path):
    done = call(MODULE, *TINY, "--config.epochs=1", f"--workdir={tmp_path / 'run'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "epoch 1/1" in done.stdout and (tmp_path / "run" / "result.json").exists()
    missing = call(MODULE)
    assert missing.returncode == 1
    assert missing.stderr == (
        "error: --config must be a name (see python -m adv_jax) or a file, got none\n"
    )


def test_the_version_needs_no_config(commands):
    assert commands.run("--version") == (0, f"adv_jax {adv_jax.__version__}\n", "")


def test_config_json_holds_the_config_with_its_overrides(uninterrupted):
    config = json.loads((uninterrupted / "config.json").read_text())
    assert config["model"]["features"] == [8] and config["epochs"] == EPOCHS
    assert config["objective"]["attack"]["eps"] == 0.2  # as the file has it


def test_metrics_jsonl_has_a_line_for_each_epoch(uninterrupted):
    text = (uninterrupted / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, EPOCHS + 1))
    for line in lines:
        assert (line["replica"], line["seed"]) == (0, 0)
        assert all(0 <= line[rate] <= 1 for rate in ("test_error", "valid_error", "accuracy"))
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_result_json_has_every_key_of_the_contract_and_rates_are_fractions(uninterrupted):
    result = result_of(uninterrupted)
    assert result["experiment"] == "quickstart"
    assert result["data"]["name"] == "mnist" and result["data"]["source"] == "embedded"
    sizes = {"train": 3500, "valid": 500, "labelled": 3500, "test": 1000}
    assert result["data"]["sizes"] == sizes
    assert all(re.fullmatch("[0-9a-f]{64}", sha) for sha in result["data"]["sha256"].values())
    (replica,) = result["replicas"]
    assert (replica["seed"], replica["overrides"], replica["epochs"]) == (0, {}, EPOCHS)
    assert 1 <= replica["best_epoch"] <= EPOCHS
    assert 0.1 < replica["confidence"] < 1 and 0 < replica["test_error"] < 0.9
    assert (replica["test_error"] * 1000).is_integer()  # an exact count of 1,000 images
    fgsm = result["evaluation"]["fgsm"]
    assert fgsm["eps"] == [0.0, 0.1, 0.2]
    assert np.shape(fgsm["error"]) == np.shape(fgsm["confidence"]) == (1, 3)
    assert fgsm["error"][0][0] == replica["test_error"]
    assert fgsm["error"][0] == sorted(fgsm["error"][0])
    assert result["seconds"] > 0
    assert result["versions"]["jax"] == jax.__version__
    assert {"python", "adv_jax", "jaxlib", "flax", "optax", "numpy"} <= result["versions"].keys()
    assert result["git"] is None or re.fullmatch(r"\S+", result["git"])


def test_the_best_epoch_is_the_first_with_the_lowest_validation_error(uninterrupted):
    workdir = uninterrupted
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    errors = [line["valid_error"] for line in lines]
    best = result_of(workdir)["replicas"][0]["best_epoch"]
    assert best == 1 + errors.index(min(errors))


def test_result_json_is_the_last_file_written(uninterrupted):
    workdir = uninterrupted
    last = (workdir / "result.json").stat().st_mtime_ns
    assert all(path.stat().st_mtime_ns <= last for path in workdir.rglob("*"))
    assert not list(workdir.rglob("*.part"))


def test_the_last_few_checkpoints_are_kept(uninterrupted):
    kept = {path.name for path in (uninterrupted / "checkpoints").iterdir()}
    assert kept == {str(EPOCHS - 2), str(EPOCHS - 1), str(EPOCHS)}


@pytest.mark.parametrize("name", ["learning.png", "evaluation.png"])
def test_figures_are_pngs_of_a_sensible_size(uninterrupted, name):
    with Image.open(uninterrupted / "figures" / name) as image:
        assert image.format == "PNG"
        assert image.width > 800 and image.height > 300
        assert len(np.unique(image.convert("L"))) > 10  # more than a white page


def test_rows_npz_records_a_partition_of_the_training_set(uninterrupted):
    with np.load(uninterrupted / "rows.npz") as rows:
        train, valid, labelled = (rows[name][0] for name in ("train", "valid", "labelled"))
    assert sorted([*train, *valid]) == list(range(4000))
    np.testing.assert_array_equal(train, labelled)  # num_labels=0 stands for all


def test_a_finished_run_is_said_to_be_one_and_left_as_it_is(commands, uninterrupted):
    workdir = uninterrupted
    before = contents(workdir)
    again = commands.run(*TINY, f"--workdir={workdir}")
    assert (again.status, again.err) == (0, "")
    assert again.out == f"workdir {workdir}\n{workdir} holds the finished run\n"
    assert contents(workdir) == before


def test_another_config_in_a_workdir_is_refused_with_the_fields_that_differ(
    commands, uninterrupted
):
    workdir = uninterrupted
    before = contents(workdir)
    other = [f"--workdir={workdir}", "--config.seed=7", "--config.objective.attack.eps=0.1"]
    done = commands.run(*TINY, *other)
    assert done.status == 1
    assert done.err == (
        f"error: workdir {workdir} holds a run of another config: objective.attack.eps is 0.1 but "
        "was 0.2; seed is 7 but was 0\n"
    )
    assert contents(workdir) == before


def test_without_a_workdir_the_run_goes_to_one_named_by_config_and_hash(commands, tmp_path):
    short = [f"--config={ROOT}/configs/quickstart.py:quick", *TINY[1:], "--config.epochs=1"]
    first = commands.run(*short, cwd=tmp_path)
    (path,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"quickstart-[0-9a-f]{8}", path.name)
    assert first.status == 0 and first.out.startswith(f"workdir runs/{path.name}\n")
    by_name = ["--config=quickstart:quick", *short[1:]]
    again = commands.run(*by_name, cwd=tmp_path)
    assert again.out.endswith(f"runs/{path.name} holds the finished run\n")
    separate = commands.run("--config", "quickstart:quick", *short[1:], cwd=tmp_path)
    assert separate.out == again.out
    other = commands.run(*short, "--config.seed=1", cwd=tmp_path)
    assert other.status == 0 and len(list((tmp_path / "runs").iterdir())) == 2


def test_a_grid_on_the_command_line_makes_replicas(commands, tmp_path):
    grid = "--config.replicas.grid={'objective.attack.eps': (0.1, 0.2)}"
    argv = [*TINY, "--config.epochs=2", "--config.replicas.seeds=2", grid]
    done = commands.run(*argv, f"--workdir={tmp_path / 'run'}")
    assert (done.status, done.err) == (0, "")
    replicas = result_of(tmp_path / "run")["replicas"]
    found = [(r["overrides"]["objective.attack.eps"], r["seed"]) for r in replicas]
    assert found == [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    where = [(line["epoch"], line["replica"]) for line in map(json.loads, lines)]
    assert where == [(epoch, replica) for epoch in (1, 2) for replica in range(4)]
    assert done.out.count("objective.attack.eps=0.1") == 2  # in the closing table
    assert re.search(r"test error [\d.]+ % \(sd [\d.]+\) on 1000 examples", done.out)


# How a run stops and goes on.


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on_bit_for_bit(
    commands, uninterrupted, tmp_path, signum
):
    argv = [*TINY, f"--workdir={tmp_path / 'run'}"]
    process = commands.start(*argv)
    process.wait_for("epoch 3/")
    process.signal(signum)
    stopped = process.finish()
    assert (stopped.status, stopped.err) == (128 + signum, "")
    assert "stopping after this epoch" in stopped.out
    last = stopped.out.splitlines()[-1]
    saved = re.fullmatch(
        rf"stopped after epoch (\d+) of {EPOCHS}, saved in {tmp_path / 'run'}; "
        "run the same command to resume",
        last,
    )
    assert saved and int(saved[1]) < EPOCHS
    assert not (tmp_path / "run" / "result.json").exists()
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == int(saved[1])
    resumed = commands.run(*argv)
    assert (resumed.status, resumed.err) == (0, "")
    assert f"resumed after epoch {saved[1]}\n" in resumed.out
    assert f"epoch {int(saved[1]) + 1}/" in resumed.out and "epoch 1/" not in resumed.out
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_signal_before_the_first_epoch_stops_at_once(commands, tmp_path):
    # Something that never answers, so that the run waits for its data for sure.
    fifo = tmp_path / "data" / "train-images-idx3-ubyte"
    fifo.parent.mkdir()
    os.mkfifo(fifo)
    for name in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (fifo.parent / name).touch()
    files = ["--config.data.source=files", f"--config.data.dir={fifo.parent}"]
    process = commands.start(*TINY, *files, f"--workdir={tmp_path / 'run'}")
    writer = os.open(fifo, os.O_WRONLY)  # until the other side has opened it
    time.sleep(0.5)  # Python answers no signal that comes just before a read that blocks.
    process.signal(signal.SIGINT)
    stopped = process.finish()
    os.close(writer)
    assert (stopped.status, stopped.err) == (130, "")
    assert "stopped by SIGINT" in stopped.out
    assert not (tmp_path / "run").exists()


def test_kills_at_any_moment_change_nothing(commands, uninterrupted, tmp_path):
    argv = [*TINY, f"--workdir={tmp_path / 'run'}"]
    checkpoints = tmp_path / "run" / "checkpoints"
    random = np.random.default_rng(0)
    # Epoch 4 is told when the checkpoint of epoch 2 is on disk, though perhaps not yet that of 3.
    for begun in ("epoch 4/", "resumed after epoch"):
        process = commands.start(*argv)
        process.wait_for(begun)
        time.sleep(random.uniform(0, 0.1))
        process.signal(signal.SIGKILL)
        assert process.finish().status == -signal.SIGKILL
    process = commands.start(*argv)
    process.wait_for("resumed after epoch")
    process.wait_until(lambda: list(checkpoints.glob("*tmp*")))  # a checkpoint under way
    process.signal(signal.SIGKILL)
    assert process.finish().status == -signal.SIGKILL
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 9, "repl')  # the kill may tear a line
    last = commands.run(*argv)
    assert (last.status, last.err) == (0, "")
    assert re.search(r"resumed after epoch \d+", last.out)
    assert_same_run(tmp_path / "run", uninterrupted)
    assert not list(checkpoints.glob("*tmp*"))


def stop_in_the_middle(commands, argv) -> int:
    """Interrupts a new run after a few epochs -> the last epoch that was saved."""
    process = commands.start(*argv)
    process.wait_for("epoch 5/")
    process.signal(signal.SIGTERM)
    return int(re.search(r"stopped after epoch (\d+)", process.finish().out)[1])


def test_a_damaged_checkpoint_is_left_out_and_an_older_one_taken(commands, uninterrupted, tmp_path):
    argv = [*TINY, f"--workdir={tmp_path / 'run'}"]
    epoch = stop_in_the_middle(commands, argv)
    for file in (tmp_path / "run" / "checkpoints" / str(epoch)).rglob("d/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    resumed = commands.run(*argv)
    assert (resumed.status, resumed.err) == (0, "")
    assert f"checkpoint of epoch {epoch} is damaged and set aside: " in resumed.out
    assert f"resumed after epoch {epoch - 1}\n" in resumed.out
    assert_same_run(tmp_path / "run", uninterrupted)


def test_with_every_checkpoint_damaged_the_run_starts_anew(commands, uninterrupted, tmp_path):
    argv = [*TINY, f"--workdir={tmp_path / 'run'}"]
    stop_in_the_middle(commands, argv)
    for file in (tmp_path / "run" / "checkpoints").rglob("d/*"):
        os.truncate(file, file.stat().st_size // 2)
    resumed = commands.run(*argv)
    assert (resumed.status, resumed.err) == (0, "")
    assert resumed.out.count("is damaged and set aside: ") == 3
    assert "no checkpoint is intact: restarting from epoch 0\n" in resumed.out
    assert f"epoch 1/{EPOCHS}" in resumed.out
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_second_process_in_the_workdir_is_refused(commands, uninterrupted, tmp_path):
    argv = [*TINY, f"--workdir={tmp_path / 'run'}"]
    first = commands.start(*argv)
    first.wait_for("epoch 1/")
    first.pause()
    second = commands.run(*argv)
    first.signal(signal.SIGCONT)
    assert second.status == 1
    assert second.err == f"error: workdir {tmp_path / 'run'} is in use by another process\n"
    assert first.finish().status == 0
    assert_same_run(tmp_path / "run", uninterrupted)


@pytest.fixture
def small_disk(mounted):
    """A file system of 3 MB."""
    return mounted("3m")


def test_on_a_full_disk_the_run_says_so_and_goes_on_when_there_is_space(
    commands, uninterrupted, small_disk
):
    argv = [*TINY, f"--workdir={small_disk / 'run'}"]
    process = commands.start(*argv)
    process.wait_for("epoch 5/")
    process.pause()
    with filled(small_disk):
        process.signal(signal.SIGCONT)
        full = process.finish()
    assert full.status == 1
    # A thread of Orbax that is still writing may, rarely, add words of its own as Python ends.
    assert re.match(r"error: .*No space left on device.*\n", full.err)
    assert str(small_disk / "run") in full.err
    resumed = commands.run(*argv)
    assert (resumed.status, resumed.err) == (0, "")
    assert re.search(r"resumed after epoch \d+\n", resumed.out)
    assert "damaged" not in resumed.out
    assert_same_run(small_disk / "run", uninterrupted)


def test_a_loss_that_is_not_finite_stops_the_run_and_the_good_checkpoint_stays(commands, tmp_path):
    # Three epochs of 8 steps at the usual rate, then 1e20: the loss of step 25 is that of the
    # weights before it and still finite, that of step 26 is not.
    rate = "--config.optimizer.learning_rate"
    argv = [
        LADDER,
        "--config.model.layers=8-10",
        "--config.model.noise_std=(0.3, 0.3, 0.3)",
        "--config.objective.weights=(1.0, 1.0, 1.0)",
        "--config.batch_size=500",
        f"{rate}.transition_begin=2.0",
        f"{rate}.transition_steps=1.0",
        f"{rate}.end_value=1e20",
        "--config.epochs=6",
        f"--workdir={tmp_path / 'run'}",
    ]
    line = (
        f"error: loss is nan at step 26 (epoch 4) of replica 0 (seed 1); last good checkpoint: "
        f"epoch 3 in {tmp_path / 'run' / 'checkpoints'}\n"
    )
    diverged = commands.run(*argv)
    assert (diverged.status, diverged.err) == (1, line)
    assert not (tmp_path / "run" / "result.json").exists()
    before = digest(tmp_path / "run" / "metrics.jsonl")
    again = commands.run(*argv)
    assert "resumed after epoch 3" in again.out and "damaged" not in again.out
    assert (again.status, again.err) == (1, line)
    assert digest(tmp_path / "run" / "metrics.jsonl") == before


def test_on_a_terminal_there_is_a_bar_that_fits_80_columns_and_a_table(commands, tmp_path):
    argv = [*TINY, "--config.epochs=3", f"--workdir={tmp_path / 'run'}"]
    with terminal() as (tty, shown):
        process = commands.start(*argv, tty=tty, COLUMNS="80", TERM="xterm")
        process.wait_until((tmp_path / "run").exists)  # by then it holds the terminal
        text = shown()
    done = process.finish()
    assert (done.status, done.err) == (0, "")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    bar = r"epoch 3/3 ━+ loss [\d.]+  accuracy [\d.]+  \d+ steps/s 0:00:00"
    bars = re.findall(bar, text)
    assert bars and all(len(line) <= 80 for line in bars)
    assert "epoch 0/3 " in text and "compiling" in text
    assert "test error" in text and "best epoch" in text
    assert f"results in {tmp_path / 'run'}" in text


# What is refused: one line, nothing written.


def refused(commands, tmp_path, *argv: str, **env: str) -> str:
    """Runs a bad command -> its one line, after "error: "."""
    workdir = tmp_path / "refused"
    done = commands.run(*argv, f"--workdir={workdir}", **env)
    assert done.status == 1
    assert re.fullmatch(r"error: [^\n]+\n", done.err), done.err
    assert not workdir.exists()
    return done.err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        # The file, its mode and its fields.
        (["--config=configs/quickstar.py"], ["quickstar.py", "did you mean", "quickstart.py"]),
        (["--config=configs"], ["--config must be one of", "got 'configs'"]),
        (["--config=lader_mnist:quick"], ["'lader_mnist'", "did you mean 'ladder_mnist'?"]),
        (["--config=quickstart:quik"], ["mode must be paper or quick, got 'quik'"]),
        (["--config=quickstart:quick", "--config.epoch=3"], ["did you mean 'epochs'?"]),
        (["--config=configs/quickstart.py:quik"], ["mode must be paper or quick, got 'quik'"]),
        (
            ["--config=configs/ladder_mnist.py:quick,labels=7"],
            ["labels must be full, 1000 or 100, got '7'"],
        ),
        (["--config=configs/shallow_mnist.py:quick,wide=5"], ["'wide'; did you mean 'width'?"]),
        (
            [QUICK, "--config.epoch=3"],
            ["a field of --config", "got 'epoch'", "did you mean 'epochs'?"],
        ),
        (
            [QUICK, "--config.objective.attack.esp=.1"],
            ["'objective.attack.esp'", "did you mean 'objective.attack.eps'?"],
        ),
        ([QUICK, "--confg=x"], ["confg", "Did you mean: config"]),
        # Words without dashes.
        (
            [QUICK, "config.epochs=1", "--config.seed=2", "quick"],
            ["must be flags, --..., got 'config.epochs=1', 'quick'"],
        ),
        # Names.
        (
            [QUICK, "--config.model.name=mlpp"],
            ["model.name must be", "got 'mlpp'", "did you mean 'mlp'?"],
        ),
        (
            [QUICK, "--config.objective.name=x"],
            ["objective.name must be one of", "got 'x'", "ladder"],
        ),
        (
            [QUICK, "--config.objective.attack.name=fgms"],
            ["objective.attack.name must be", "got 'fgms'", "did you mean 'fgsm'?"],
        ),
        (
            [QUICK, "--config.evaluation.attacks.fgsm.name=pdg"],
            ["evaluation.attacks.fgsm.name must be", "got 'pdg'"],
        ),
        ([QUICK, "--config.optimizer.name=adm"], ["optimizer.name must be", "got 'adm'", "'adam'"]),
        (
            [QUICK, "--config.model.activation=rely"],
            ["activation must be", "'rely'", "relu"],
        ),
        (
            [QUICK, "--config.objective.attack.norm=l7"],
            ["objective.attack.norm must be", "'l7'", "linf"],
        ),
        (
            [QUICK, "--config.evaluation.attacks.fgsm.norm=l7"],
            ["evaluation.attacks.fgsm.norm must be", "'l7'", "linf"],
        ),
        ([QUICK, "--config.data.name=mnits"], ["data.name", "'mnits'", "'mnist'"]),
        ([QUICK, "--config.data.source=file"], ["data.source", "'file'", "'files'", "'tfds'"]),
        # Types.
        ([QUICK, "--config.batch_size=ten"], ["batch_size", "'ten'"]),
        ([QUICK, "--config.epochs=1.5"], ["epochs", "'1.5'"]),
        ([QUICK, "--config.tensorboard=perhaps"], ["tensorboard", "perhaps"]),
        ([QUICK, "--config.model.features=wide"], ["model.features", "'wide'"]),
        ([QUICK, "--config.model.features=(8, 'x')"], ["model.features", "'x'"]),
        ([QUICK, "--config.objective.attack.eps=big"], ["objective.attack.eps", "big"]),
        ([QUICK, "--config.model=mlp"], ["model"]),
        # Ranges.
        ([QUICK, "--config.batch_size=0"], ["batch_size must be", "at least 1", "got 0"]),
        ([QUICK, "--config.epochs=0"], ["epochs must be", "at least 1", "got 0"]),
        ([QUICK, "--config.seed=-1"], ["seed must be", "from 0", "got -1"]),
        ([QUICK, "--config.replicas.seeds=0"], ["replicas.seeds must be", "from 1", "got 0"]),
        ([QUICK, "--config.objective.attack.eps=-0.1"], ["eps must be", "at least 0", "got -0.1"]),
        ([QUICK, "--config.objective.attack.eps=nan"], ["eps must be", "at least 0", "got nan"]),
        ([QUICK, "--config.objective.attack.eps=inf"], ["eps must be", "got inf"]),
        (
            [QUICK, "--config.objective.alpha=2"],
            ["objective.alpha must be", "from 0 to 1", "got 2"],
        ),
        (
            [QUICK, "--config.evaluation.eps=(0.0, -1.0)"],
            ["evaluation.eps must be", "at least 0", "got -1.0"],
        ),
        ([QUICK, "--config.evaluation.eps=()"], ["evaluation.eps"]),
        (
            [QUICK, "--config.checkpoints_kept=0"],
            ["checkpoints_kept must be", "at least 1", "got 0"],
        ),
        (
            [QUICK, "--config.optimizer.learning_rate=nan"],
            ["optimizer.learning_rate must be", "got nan"],
        ),
        # Sizes that do not fit the 4,000 digits or each other.
        ([QUICK, "--config.batch_size=3501"], ["batch_size must be 1 to 3500", "got 3501"]),
        ([QUICK, "--config.data.num_valid=4000"], ["num_valid", "4000", "3999"]),
        ([QUICK, "--config.data.num_valid=9000"], ["num_valid", "9000", "3999"]),
        (
            [QUICK, "--config.data.num_labels=101"],
            ["num_labels must be a multiple of num_classes=10", "101"],
        ),
        ([QUICK, "--config.data.num_labels=5000"], ["num_labels", "5000", "3500"]),
        (
            [LADDER, "--config.objective.weights=(1.0, 2.0)"],
            ["objective.weights must have 7", "got 2"],
        ),
        ([LADDER, "--config.model.noise_std=(0.3,)"], ["model.noise_std must have 7", "got 1"]),
        ([QUICK, "--config.replicas.shards=3"], ["replicas.shards must be 1 to", "got 3"]),
        ([QUICK, "--config.replicas.shards=0"], ["replicas.shards must be", "got 0"]),
        # Attacks that cannot be meant.
        (
            [QUICK, "--config.objective.attack.bounds=(0.0, 0.5)"],
            ["objective.attack.bounds must", "0 to 1, got (0.0, 0.5)"],
        ),
        (
            [QUICK, "--config.objective.attack.bounds=(0.0,)"],
            ["bounds must be two numbers", "got (0.0,)"],
        ),
        ([QUICK, "--config.objective.attack.bounds=('a','b')"], ["bounds must be two numbers"]),
        # In 0..1 the farthest point is 1 away under linf, and under l2 28, the root of 784.
        (
            [QUICK, "--config.evaluation.eps=(0.0, 5.0)"],
            ["evaluation.eps of evaluation.attacks.fgsm must be at most 1, the linf", "got 5"],
        ),
        (
            [QUICK, "--config.evaluation.attacks.fgsm.norm=l2", "--config.evaluation.eps=(29.0,)"],
            ["evaluation.eps of evaluation.attacks.fgsm must be at most 28, the l2", "got 29"],
        ),
        (
            [QUICK, "--config.objective.attack.eps=8"],
            ["objective.attack.eps must be at most 1, the linf width of the bounds", "got 8"],
        ),
        (
            [QUICK, "--config.replicas.grid={'objective.attack.eps': (8.0,)}"],
            ["objective.attack.eps must be at most 1", "got 8"],
        ),
        # Processes.
        ([QUICK, "--num_processes=2"], ["--num_processes must be unset", "got 2"]),
        ([QUICK, "--process_id=0"], ["--process_id must be unset", "got 0"]),
        (
            [QUICK, "--coordinator=foo", "--num_processes=1", "--process_id=0"],
            ["--coordinator must be HOST:PORT of the first process, or auto, got 'foo'"],
        ),
        (
            [QUICK, "--coordinator=localhost:65536", "--num_processes=1", "--process_id=0"],
            ["--coordinator must be HOST:PORT", "got 'localhost:65536'"],
        ),
        # Grids.
        (
            [QUICK, "--config.replicas.grid={'objective.attack.esp': (.1,)}"],
            ["replicas.grid", "objective.attack.esp", "did you mean 'objective.attack.eps'?"],
        ),
        (
            [QUICK, "--config.replicas.grid={'objective.attack.eps': ('a',)}"],
            ["objective.attack.eps", "'a'"],
        ),
        (
            [QUICK, "--config.replicas.grid={'objective.attack.eps': ()}"],
            ["replicas.grid", "()", "tuple of numbers"],
        ),
        (
            [QUICK, "--config.replicas.grid={'objective.attack.eps': (-1.0,)}"],
            ["objective.attack.eps", "-1.0"],
        ),
        ([QUICK, "--config.replicas.grid={'batch_size': (50, 100)}"], ["replicas.grid"]),
        ([QUICK, "--config.replicas.grid=eps"], ["replicas.grid"]),
        ([QUICK, "--config.replicas.grid=[1, 2]"], ["replicas.grid"]),
    ],
    ids=lambda value: value[-1] if value[0].startswith("--") else "",
)
def test_bad_input_is_one_line_and_nothing_is_written(commands, tmp_path, argv, says):
    line = refused(commands, tmp_path, *argv)
    for words in says:
        assert words in line


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


@pytest.fixture
def idx_files(tmp_path) -> Path:
    """40 + 20 images of noise, gzipped as they are published."""
    folder = tmp_path / "idx"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28))
    for split, count in (("train", 40), ("t10k", 20)):
        for name, values in (
            ("images-idx3", pixels[:count]),
            ("labels-idx1", np.arange(count) % 10),
        ):
            (folder / f"{split}-{name}-ubyte.gz").write_bytes(gzip.compress(idx(values)))
    return folder


def from_files(folder: Path) -> list[str]:
    return [
        *TINY,
        "--config.data.name=drawn",
        "--config.data.source=files",
        f"--config.data.dir={folder}",
        "--config.data.num_valid=10",
        "--config.batch_size=10",
        "--config.epochs=1",
    ]


def test_files_are_read_and_their_digests_recorded(commands, idx_files, tmp_path):
    done = commands.run(*from_files(idx_files), f"--workdir={tmp_path / 'run'}")
    assert (done.status, done.err) == (0, "")
    recorded = result_of(tmp_path / "run")["data"]["sha256"]
    assert recorded == {path.name: digest(path) for path in idx_files.iterdir()}


@pytest.mark.parametrize("damage", ["missing", "truncated", "not gzip", "wrong magic"])
def test_bad_data_files_are_named(commands, idx_files, tmp_path, damage):
    victim = idx_files / "t10k-images-idx3-ubyte.gz"
    content = victim.read_bytes()
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(
            {
                "truncated": content[: len(content) // 2],
                "not gzip": b"not gzip",
                "wrong magic": gzip.compress(b"\x00\x00\x0d" + gzip.decompress(content)[3:]),
            }[damage]
        )
    assert "t10k-images-idx3-ubyte" in refused(commands, tmp_path, *from_files(idx_files))


def test_files_without_a_folder_and_tfds_without_a_network_name_what_to_do(commands, tmp_path):
    line = refused(commands, tmp_path, QUICK, "--config.data.source=files")
    assert "data.dir" in line
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    tfds = ["--config.data.source=tfds", f"--config.data.dir={tmp_path / 'tfds'}"]
    line = refused(commands, tmp_path, QUICK, *tfds, **nowhere)
    assert "cannot be fetched" in line and "'files'" in line and "'embedded'" in line
    assert not (tmp_path / "tfds").exists()


def test_a_workdir_that_is_a_file_is_refused_and_left_alone(commands, tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    done = commands.run(*TINY, f"--workdir={path}")
    assert done.status == 1
    assert re.fullmatch(rf"error: {path} cannot be written: .*exists\n", done.err)
    assert path.read_text() == "mine"


def test_a_workdir_on_a_disk_that_cannot_be_written_is_refused(commands, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = commands.run(*TINY, f"--workdir={small_disk / 'run'}")
    assert done.status == 1
    assert re.fullmatch(r"error: \S+/run cannot be written: Read-only file system\n", done.err)


def test_tensorboard_without_tensorboardx_is_refused_before_anything_is_done(commands, tmp_path):
    line = refused(commands, tmp_path, *TINY, "--config.tensorboard=True", BLOCKED="tensorboardX")
    assert "tensorboard must be False" in line and "pip install 'adv-jax[tensorboard]'" in line

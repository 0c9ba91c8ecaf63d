"""The command line: files of a run, stopping and resuming."""

import json
import os
import re
import runpy
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from command_line import MODULE, ROOT, call, terminal
from full_disk import filled
from marks import exhaustive_after
from PIL import Image
from short_run import EPOCHS, LADDER, TINY, assert_same_run, digest, result_of

import adv_jax


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Returns {file: (time of the last change, digest)}."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, digest(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Files of a finished run.


@pytest.mark.slow
def test_a_real_shell_command_trains_and_a_missing_config_is_one_line(tmp_path):
    done = call(MODULE, *TINY, "--config.epochs=1", f"--workdir={tmp_path / 'run'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "epoch 1/1" in done.stdout and (tmp_path / "run" / "result.json").exists()
    missing = call(MODULE)
    assert missing.returncode == 1
    assert missing.stderr == (
        "error: --config must be a name (see python -m adv_jax) or a file, got none\n"
    )


def test_the_module_that_only_python_imports_names_the_command(monkeypatch):
    monkeypatch.delitem(sys.modules, "adv_jax.train", raising=False)
    with pytest.raises(SystemExit, match="^error: the command must be python -m adv_jax.main, got"):
        runpy.run_module("adv_jax.train", run_name="__main__")


def test_the_version_needs_no_config(commands):
    assert commands.run("--version") == (0, f"adv_jax {adv_jax.__version__}\n", "")


@pytest.mark.slow
def test_config_json_holds_the_config_with_the_overrides(uninterrupted):
    config = json.loads((uninterrupted / "config.json").read_text())
    assert config["model"]["features"] == [8] and config["epochs"] == EPOCHS
    assert config["objective"]["attack"]["eps"] == 0.2  # as the file has it


@pytest.mark.slow
def test_metrics_jsonl_has_a_line_for_each_epoch(uninterrupted):
    text = (uninterrupted / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, EPOCHS + 1))
    for line in lines:
        assert (line["replica"], line["seed"]) == (0, 0)
        assert all(0 <= line[rate] <= 1 for rate in ("test_error", "valid_error", "accuracy"))
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.slow
def test_result_json_has_every_key_of_the_contract_and_rates_are_fractions(uninterrupted):
    result = result_of(uninterrupted)
    assert result["experiment"] == "quickstart"
    assert result["data"]["name"] == "mnist" and result["data"]["source"] == "embedded"
    sizes = {"train": 1000, "valid": 3000, "labeled": 1000, "test": 1000}
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


@pytest.mark.slow
def test_the_best_epoch_is_the_first_with_the_lowest_validation_error(uninterrupted):
    workdir = uninterrupted
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    errors = [line["valid_error"] for line in lines]
    best = result_of(workdir)["replicas"][0]["best_epoch"]
    assert best == 1 + errors.index(min(errors))


@pytest.mark.slow
def test_result_json_is_the_last_file_written(uninterrupted):
    workdir = uninterrupted
    last = (workdir / "result.json").stat().st_mtime_ns
    assert all(path.stat().st_mtime_ns <= last for path in workdir.rglob("*"))
    assert not list(workdir.rglob("*.part"))


@pytest.mark.slow
def test_only_the_last_few_checkpoints_are_kept(uninterrupted):
    kept = {path.name for path in (uninterrupted / "checkpoints").iterdir()}
    assert kept == {str(EPOCHS - 2), str(EPOCHS - 1), str(EPOCHS)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["learning.png", "evaluation.png"])
def test_figures_are_pngs_of_a_sensible_size(uninterrupted, name):
    with Image.open(uninterrupted / "figures" / name) as image:
        assert image.format == "PNG"
        assert image.width > 800 and image.height > 300
        assert len(np.unique(image.convert("L"))) > 10  # more than a white page


@pytest.mark.slow
def test_rows_npz_records_a_partition_of_the_training_set(uninterrupted):
    with np.load(uninterrupted / "rows.npz") as rows:
        train, valid, labeled = (rows[name][0] for name in ("train", "valid", "labeled"))
    assert sorted([*train, *valid]) == list(range(4000))
    np.testing.assert_array_equal(train, labeled)  # num_labels=0 stands for all


@pytest.mark.slow
def test_a_finished_run_is_reported_and_left_unchanged(commands, uninterrupted):
    workdir = uninterrupted
    before = contents(workdir)
    again = commands.run(*TINY, f"--workdir={workdir}")
    assert (again.status, again.err) == (0, "")
    assert again.out.startswith(f"workdir {workdir}\n{workdir} holds the finished run\n")
    error = json.loads((workdir / "result.json").read_text())["replicas"][0]["test_error"]
    assert f"test error {100 * error:.3f} %" in again.out
    assert "test error % under attack" in again.out
    assert contents(workdir) == before


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_default_workdir_is_named_by_config_and_hash(commands, tmp_path):
    short = [f"--config={ROOT}/configs/quickstart.py:quick", *TINY[1:], "--config.epochs=1"]
    first = commands.run(*short, cwd=tmp_path)
    (path,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"quickstart-[0-9a-f]{8}", path.name)
    assert first.status == 0 and first.out.startswith(f"workdir runs/{path.name}\n")
    by_name = ["--config=quickstart:quick", *short[1:]]
    again = commands.run(*by_name, cwd=tmp_path)
    assert f"runs/{path.name} holds the finished run\n" in again.out
    separate = commands.run("--config", "quickstart:quick", *short[1:], cwd=tmp_path)
    assert separate.out == again.out
    other = commands.run(*short, "--config.seed=1", cwd=tmp_path)
    assert other.status == 0 and len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.slow
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
    # In the closing tables: two seeds, then two attacks and their worst case.
    assert done.out.count("objective.attack.eps=0.1") == 2 + 3
    errors = [np.mean([r["test_error"] for r in replicas[i : i + 2]]) for i in (0, 2)]
    low, high = (f"{100 * error:.3f}" for error in sorted(errors))
    assert f"test error {low} to {high} % over 2 settings on 1000 examples" in done.out


# How a run stops and goes on.


@pytest.mark.slow
@pytest.mark.parametrize("signum", exhaustive_after(1, [signal.SIGTERM, signal.SIGINT]))
def test_a_signal_saves_the_run_and_the_same_command_resumes_bit_for_bit(
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


@pytest.mark.slow
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


def stop_in_the_middle(commands, argv) -> int:
    """Interrupts a new run after a few epochs, and returns the last saved epoch."""
    process = commands.start(*argv)
    process.wait_for("epoch 5/")
    process.signal(signal.SIGTERM)
    return int(re.search(r"stopped after epoch (\d+)", process.finish().out)[1])


@pytest.mark.slow
def test_a_damaged_checkpoint_is_skipped_for_an_older_one(commands, uninterrupted, tmp_path):
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


@pytest.mark.slow
def test_a_run_with_every_checkpoint_damaged_starts_anew(commands, uninterrupted, tmp_path):
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_full_disk_is_reported_and_the_run_resumes_when_there_is_space(
    commands, uninterrupted, mounted
):
    small_disk = mounted("3m")
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


@pytest.mark.slow
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
        "--config.checkpoint_every=1",
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


@pytest.mark.slow
def test_a_terminal_shows_a_bar_within_80_columns_and_a_table(commands, tmp_path):
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

"""The guide docs/extending.md runs as it stands, from an empty folder to the table of a sweep."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from command_line import ROOT, environment

PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")


def run(folder: Path, *argv: str, status: int = 0) -> str:
    """Runs Python in a folder that is not the repository's, and returns what it prints."""
    command = [sys.executable, *argv]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def execute(folder: Path, kind: str, block: str) -> str:
    if (name := FILE.match(block)) is not None:
        (folder / name[1]).write_text(block)
        return ""
    if kind == "python":
        return run(folder, "-c", block)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert {command[0] for command in commands} == {"python"}
    return "".join(run(folder, *command[1:]) for command in commands)


def test_the_guide_has_files_commands_and_a_program():
    assert [FILE.match(block)[1] for _, block in BLOCKS if FILE.match(block)] == [
        "mine.py",
        "my_config.py",
        "ring.py",
        "ring_config.py",
        "large.py",
    ]
    assert {kind for kind, _ in BLOCKS} == {"python", "sh"}


@pytest.mark.slow
def test_the_guide_runs_from_an_empty_folder_to_the_table_of_a_sweep(tmp_path):
    has_ray = find_spec("ray") and find_spec("optuna")
    printed = [
        execute(tmp_path, kind, block)
        for kind, block in BLOCKS
        if has_ray or "launch.sweep" not in block
    ]
    assert "stripes (2, 3)" in "".join(printed) and "diversity" in "".join(printed)
    results = {p.parent.name: json.loads(p.read_text()) for p in tmp_path.glob("*/result.json")}
    assert results.keys() == {"run", "run8", "run_ring", "run_slow", "run_npz", "run_large"} | (
        {"sweep"} if has_ray else set()
    )
    assert results["run"]["replicas"][0]["test_error"] < 0.2
    assert results["run_npz"]["data"]["source"] == "npz"
    assert results["run_large"]["data"]["sizes"]["train"] == 600
    assert (tmp_path / "run" / "evaluation" / "evaluation.json").exists()
    smallest = (tmp_path / "run" / "evaluation" / "minimal_eps.csv").read_text().splitlines()
    assert smallest[0] == "example,label,pgd,mine:random_fgsm" and len(smallest) == 301
    assert list((tmp_path / "figures").rglob("fig1.3.png"))
    if has_ray:
        points = results["sweep"]["points"]
        assert len(points) == 4 and {point["status"] for point in points} == {"finished"}


@pytest.mark.slow
def test_a_run_of_the_guide_resumes_until_its_file_changes(tmp_path):
    for kind, block in BLOCKS[:2]:
        execute(tmp_path, kind, block)
    train = ["-m", "adv_jax.main", "--config=my_config.py", "--workdir=run"]
    run(tmp_path, *train)
    whole = json.loads((tmp_path / "run" / "result.json").read_text())
    # As if the run had been stopped before its last epoch.
    (tmp_path / "run" / "result.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "3")
    assert "resumed after epoch 2" in run(tmp_path, *train)
    resumed = json.loads((tmp_path / "run" / "result.json").read_text())
    assert resumed["evaluation"] == whole["evaluation"]
    with (tmp_path / "mine.py").open("a") as file:
        file.write("\n# changed\n")
    said = run(tmp_path, *train, status=1)
    assert "error: workdir run holds a run of another config: the file of module mine has" in said
    (tmp_path / "elsewhere").mkdir()
    evaluate = ["-m", "adv_jax.evaluate", "--workdir=../run"]
    said = run(tmp_path / "elsewhere", *evaluate, status=1)
    assert re.fullmatch(r"error: \.\./run/config.json: .*No module named 'mine'\)\n", said), said

"""The guide docs/extending.md runs as it stands, from an empty folder to the table of a sweep."""

import json
import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from command_line import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")


def run(commands, folder: Path, module: str, *argv: str, status: int = 0) -> str:
    """Runs `python -m MODULE` in a folder outside the repository, and returns what it prints."""
    done = commands.run(*argv, module=module, cwd=folder)
    assert done.status == status, done.out + done.err
    return done.out + done.err


def execute(commands, folder: Path, kind: str, block: str) -> str:
    if (name := FILE.match(block)) is not None:
        (folder / name[1]).write_text(block)
        return ""
    if kind == "python":
        return run_program(commands, folder, block)
    return "".join(execute_line(commands, folder, line) for line in block.splitlines())


def execute_line(commands, folder: Path, line: str) -> str:
    python, flag, what, *argv = shlex.split(line)
    assert python == "python" and flag in ("-c", "-m")
    return (run_program if flag == "-c" else run)(commands, folder, what, *argv)


def run_program(commands, folder: Path, text: str) -> str:
    (folder / "program.py").write_text(text)
    return run(commands, folder, "program")


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
def test_the_guide_runs_from_an_empty_folder_to_the_table_of_a_sweep(commands, tmp_path):
    has_ray = find_spec("ray") and find_spec("optuna")
    printed = [
        execute(commands, tmp_path, kind, block)
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
def test_a_run_of_the_guide_resumes_until_its_file_changes(commands, tmp_path):
    for kind, block in BLOCKS[:2]:
        execute(commands, tmp_path, kind, block)
    train = ["adv_jax.main", "--config=my_config.py", "--workdir=run"]
    run(commands, tmp_path, *train)
    whole = json.loads((tmp_path / "run" / "result.json").read_text())
    # As if the run had been stopped before its last epoch.
    (tmp_path / "run" / "result.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "3")
    assert "resumed after epoch 2" in run(commands, tmp_path, *train)
    resumed = json.loads((tmp_path / "run" / "result.json").read_text())
    assert resumed["evaluation"] == whole["evaluation"]
    with (tmp_path / "mine.py").open("a") as file:
        file.write("\n# changed\n")
    said = run(commands, tmp_path, *train, status=1)
    assert "error: workdir run holds a run of another config: the file of module mine has" in said
    (tmp_path / "elsewhere").mkdir()
    evaluate = ["adv_jax.evaluate", "--workdir=../run"]
    said = run(commands, tmp_path / "elsewhere", *evaluate, status=1)
    assert re.fullmatch(r"error: \.\./run/config.json: .*No module named 'mine'\)\n", said), said

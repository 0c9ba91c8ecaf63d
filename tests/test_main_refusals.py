"""The command line refuses bad input in one line and writes no file; data from files."""

import gzip
import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from marks import slow_after
from short_run import LADDER, QUICK, TINY, digest, result_of


def refused(commands, tmp_path, *argv: str, **env: str) -> str:
    """Runs a bad command, and returns its one line of error."""
    workdir = tmp_path / "refused"
    done = commands.run(*argv, f"--workdir={workdir}", **env)
    assert done.status == 1
    assert re.fullmatch(r"error: [^\n]+\n", done.err), done.err
    assert not workdir.exists()
    return done.err


@pytest.mark.parametrize(
    ("argv", "says"),
    slow_after(
        24,
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
            ([QUICK, "--config.model.width=9"], ["did you mean 'model.features'?"]),
            ([QUICK, "--confg=x"], ["confg", "Did you mean: config"]),
            # Words without dashes.
            (
                [QUICK, "config.epochs=1", "--config.seed=2", "quick"],
                ["got 'config.epochs=1', 'quick'; did you mean '--config.epochs=1'?"],
            ),
            (
                [QUICK, "epochs=3"],
                ["must be flags, --..., got 'epochs=3'; did you mean '--config.epochs=3'?"],
            ),
            (
                ["--config=tests/support/modeless.py:quick"],
                ["whose get_config takes no mode, got 'quick'"],
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
            (
                [QUICK, "--config.optimizer.name=adm"],
                ["optimizer.name must be", "got 'adm'", "'adam'"],
            ),
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
            ([QUICK, "--config.data.source=file"], ["data.source", "'file'", "'files'", "tfds"]),
            # Types.
            ([QUICK, "--config.batch_size=ten"], ["batch_size", "'ten'"]),
            ([QUICK, "--config.epochs=1.5"], ["epochs", "'1.5'"]),
            ([QUICK, "--config.trackers=perhaps"], ["trackers", "perhaps"]),
            ([QUICK, "--config.model.features=wide"], ["model.features", "'wide'"]),
            (
                [QUICK, "--config.evaluation.eps=[0.0,", "0.1]"],
                ["evaluation.eps", "'[0.0,'", "quote it"],
            ),
            ([QUICK, "--config.batch_size=9", "0.1]"], ["got '0.1]'; quote the flag before"]),
            ([QUICK, "--config.model.features=(8, 'x')"], ["model.features", "'x'"]),
            ([QUICK, "--config.objective.attack.eps=big"], ["objective.attack.eps", "big"]),
            ([QUICK, "--config.model=mlp"], ["model"]),
            # Ranges.
            ([QUICK, "--config.batch_size=0"], ["batch_size must be", "at least 1", "got 0"]),
            ([QUICK, "--config.epochs=0"], ["epochs must be", "at least 1", "got 0"]),
            ([QUICK, "--config.seed=-1"], ["seed must be", "from 0", "got -1"]),
            ([QUICK, "--config.replicas.seeds=0"], ["replicas.seeds must be", "from 1", "got 0"]),
            (
                [QUICK, "--config.objective.attack.eps=-0.1"],
                ["eps must be", "at least 0", "got -0.1"],
            ),
            (
                [QUICK, "--config.objective.attack.eps=nan"],
                ["eps must be", "at least 0", "got nan"],
            ),
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
                ["data.num_labels must be a multiple of num_classes=10", "101"],
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
                ["bounds must be (lo, hi) with lo < hi, got (0.0,)"],
            ),
            (
                [QUICK, "--config.objective.attack.bounds=('a','b')"],
                ["bounds must be (lo, hi) with lo < hi, got ('a', 'b')"],
            ),
            # In 0..1 the farthest point is 1 away under linf, and under l2 28, the root of 784.
            (
                [QUICK, "--config.evaluation.eps=(0.0, 5.0)"],
                ["evaluation.eps of evaluation.attacks.fgsm must be at most 1, the linf", "got 5"],
            ),
            (
                [
                    QUICK,
                    "--config.evaluation.attacks.fgsm.norm=l2",
                    "--config.evaluation.eps=(29.0,)",
                ],
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
                [QUICK, "--coordinator=auto"],
                ["--coordinator must be HOST:PORT", "outside a job of Slurm, got 'auto'"],
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
    ),
    ids=lambda value: value[-1] if value[0].startswith("--") else "",
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(commands, tmp_path, argv, says):
    line = refused(commands, tmp_path, *argv)
    for words in says:
        assert words in line


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


@pytest.fixture
def idx_files(tmp_path) -> Path:
    """Writes 40 + 20 images of noise as gzipped idx files."""
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


@pytest.mark.slow
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


def test_a_missing_data_folder_and_a_missing_network_name_the_remedy(commands, tmp_path):
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
    assert done.err == f"error: {path} must be a folder, got a file\n"
    assert path.read_text() == "mine"


def test_an_empty_workdir_is_not_taken_for_none(commands):
    done = commands.run(*TINY, "--workdir=")
    assert (done.status, done.out) == (1, "")
    assert done.err == "error: flag --workdir=: must be a path, got ''\n"


def test_a_workdir_on_a_disk_that_cannot_be_written_is_refused(commands, mounted):
    small_disk = mounted("3m")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = commands.run(*TINY, f"--workdir={small_disk / 'run'}")
    assert done.status == 1
    assert re.fullmatch(r"error: \S+/run cannot be written: Read-only file system\n", done.err)


def test_tensorboard_without_tensorboardx_is_refused_before_anything_is_done(commands, tmp_path):
    given = "--config.trackers=('tensorboard',)"
    line = refused(commands, tmp_path, *TINY, given, BLOCKED="tensorboardX")
    assert "must be of installed packages, got 'tensorboard' without tensorboardX: pip in" in line

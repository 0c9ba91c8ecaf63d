"""Settings of the whole suite; JAX reads them when it starts, hence the order below."""

import importlib.metadata
import importlib.util
import os
import subprocess

from command_line import DEVICE_COUNT, serving

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
# No implicit f32[B, D] + f32[D], nor f32 + i32: a scale of each row must not be taken for one of
# each column, nor a batch of float32 become float64.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
# Most programs run once: what matters is how long they take to compile, in one piece, with LLVM
# told to optimise less and with XLA's older emitters of fused loops, where it still has them: a
# process ends at a flag that its XLA does not know.
FLAGS = {
    DEVICE_COUNT: 4,
    "--xla_backend_optimization_level": 0,
    "--xla_cpu_parallel_codegen_split_count": 1,
}
if importlib.metadata.version("jaxlib").startswith("0.10."):
    FLAGS["--xla_cpu_use_fusion_emitters"] = "false"
for flag, value in FLAGS.items():
    if flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}={value}".strip()

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402
from short_run import TINY  # noqa: E402

# The same examples in every run; compiling the first one takes longer than any deadline.
hypothesis.settings.register_profile("adv_jax", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("adv_jax")


def pytest_runtest_setup(item):
    if item.get_closest_marker("tfds") and importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs TensorFlow: pip install -e '.[tfds]'")


@pytest.fixture(autouse=True, scope="session")
def _compile_once(tmp_path_factory):
    """Each program of the process and of its children, however many tests ask for it."""
    folder = str(tmp_path_factory.mktemp("compiled"))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Of each module: a process has not memory mappings enough for all of them."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """What starts `python -m adv_jax.main`, as `command_line` says."""
    with serving(tmp_path_factory.mktemp("commands")) as server:
        yield server


@pytest.fixture(scope="session")
def uninterrupted(commands, tmp_path_factory):
    """The workdir of a run that nothing has disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    done = commands.run(*TINY, f"--workdir={workdir}")
    assert (done.status, done.err) == (0, "")
    return workdir


@pytest.fixture
def mounted(tmp_path):
    """size, as "2m" -> the folder of a file system of its own of that size."""
    path = tmp_path / "disk"

    def mount(size):
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)]
        if os.getuid() or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root can mount a small file system")
        return path

    yield mount
    if path.is_mount():
        subprocess.run(["umount", "-l", str(path)], check=True)

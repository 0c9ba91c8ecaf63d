"""Settings of the whole suite. JAX reads the environment when it is imported, after this."""

import gc
import importlib.metadata
import importlib.util
import os
import subprocess

from command_line import DEVICE_COUNT, ROOT, serving

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
# No implicit f32[B, D] + f32[D], nor f32 + i32: a scale of each row must not be taken for one of
# each column, nor a batch of float32 become float64.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
# Most programs run once, so that compilation should be fast: no parallel code generation, little
# optimization by LLVM, and XLA's older emitters of fused loops. XLA aborts at an unknown flag, and
# only jaxlib 0.10 still has the last one.
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
from compilations import forget_programs  # noqa: E402
from short_run import TINY  # noqa: E402

# The same examples in every run; compiling the first one takes longer than any deadline.
hypothesis.settings.register_profile("adv_jax", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("adv_jax")


def pytest_runtest_setup(item):
    if item.get_closest_marker("tfds") and importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs TensorFlow: pip install -e '.[tfds]'")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks the examples of all pages but README.md as slow, as they train and attack."""
    for item in items:
        if item.path.suffix == ".md" and item.path != ROOT / "README.md":
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """Spares the garbage collector all that lasts: modules and thousands of tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _compile_once(tmp_path_factory):
    """Compiles each program once for all tests, also those of child processes."""
    folder = str(tmp_path_factory.mktemp("compiled"))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Drops compiled programs after a module that leaves many."""
    yield
    forget_programs()


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """Returns a `command_line.Server`, which starts `python -m adv_jax.main`."""
    with serving(tmp_path_factory.mktemp("commands")) as server:
        yield server


@pytest.fixture(scope="session")
def uninterrupted(commands, tmp_path_factory):
    """Returns the workdir of a run without an interruption."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    done = commands.run(*TINY, f"--workdir={workdir}")
    assert (done.status, done.err) == (0, "")
    return workdir


@pytest.fixture
def mounted(tmp_path):
    """Returns a function that mounts a file system of a size such as "2m" and returns its path."""
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


@pytest.fixture
def x64():
    """Enables float64."""
    with jax.enable_x64(True):
        yield

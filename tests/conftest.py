"""Settings of the whole suite; JAX reads them when it starts, hence the order below."""

import importlib.util
import os

DEVICE_COUNT = "--xla_force_host_platform_device_count"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
if DEVICE_COUNT not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DEVICE_COUNT}=4".strip()

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

# The same examples in every run; compiling the first one takes longer than any deadline.
hypothesis.settings.register_profile("adv_jax", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("adv_jax")


def pytest_runtest_setup(item):
    if item.get_closest_marker("tfds") and importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs TensorFlow: pip install -e '.[tfds]'")


@pytest.fixture
def strict_ranks():
    """No implicit f32[B, D] + f32[D]: a scale per row must not be taken for one per column."""
    with jax.numpy_rank_promotion("raise"):
        yield

"""Float64 where a test asks for it."""

import jax
import pytest


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield

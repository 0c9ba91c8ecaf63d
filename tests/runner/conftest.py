"""The data set of the experiments."""

import pytest
from points import points


@pytest.fixture(scope="session")
def dataset():
    """Noisy points around a center for each class; x[:, 0] is the number of the row."""
    return points()

"""`load` refuses unknown names and sources."""

import pytest

from adv_jax import data


def _refusal(*args, **kwargs) -> str:
    with pytest.raises(data.DataError) as error:
        data.load(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_unknown_names_and_sources_are_refused_with_the_nearest_legal_one():
    assert "got 'mnits'; did you mean 'mnist'?" in _refusal("mnits", source="files")
    message = _refusal("mnist", source="file")
    assert "data.source must be one of 'tfds', 'files', 'embedded' for mnist" in message
    assert "got 'file'; did you mean 'files'?" in message
    assert "did you mean" not in _refusal("mnist", source="cloud")

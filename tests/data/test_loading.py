"""`load` refuses unknown names and sources."""

import pytest
from refusals import refusal

from adv_jax import data


def _refusal(*args, **kwargs):
    return refusal(data.load, *args, error=data.DataError, **kwargs)


def test_unknown_names_and_sources_are_refused_with_the_nearest_legal_one():
    assert "got 'mnits'; did you mean 'mnist'?" in _refusal("mnits", source="files")
    message = _refusal("mnist", source="file")
    assert "data.source must be one of tfds, files, embedded for mnist" in message
    assert "got 'file'; did you mean 'files'?" in message
    assert "did you mean" not in _refusal("mnist", source="cloud")
    own = "for mnist, or a name of your own for source npz, got 'npz'"
    assert _refusal("mnist", source="npz", dir="mnist.npz").endswith(own)


@pytest.mark.parametrize("source", ["npz", "files", "embedded"])
@pytest.mark.parametrize("value", [5, None, ["mnist"]])
def test_arguments_that_are_no_texts_are_refused(source, value):
    assert _refusal(value, source=source) == f"data.name must be a text, got {value}"
    assert _refusal("own", source=value) == f"data.source must be a text, got {value}"
    assert _refusal("own", source=source, dir=value) == f"data.dir must be a text, got {value}"


def test_the_folder_of_a_data_set_may_be_a_path(tmp_path):
    assert "data.dir must be a folder with own.npz" in _refusal("own", source="npz", dir=tmp_path)


def test_a_folder_without_files_for_a_name_of_ones_own_is_named(tmp_path):
    says = "or your own name for the idx files in data.dir, {!r}, which has none of them, got 'own'"
    for dir in ("", str(tmp_path)):
        assert says.format(dir) in _refusal("own", source="files", dir=dir)
    assert "your own name" not in _refusal("own", source="tfds")


def test_the_text_of_a_data_set_has_its_shapes_and_not_its_numbers():
    text = str(data.load("mnist", source="embedded"))
    assert len(text) < 1000 and "\n" not in text
    assert "name='mnist', source='embedded'" in text
    assert "train=(float32[4000, 28, 28, 1], int32[4000])" in text

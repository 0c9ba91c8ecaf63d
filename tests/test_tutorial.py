"""The tutorial: its notebook shows the outputs of its code."""

import re
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
from matplotlib import image

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOK = DOCS / "tutorial.ipynb"
NUMBER = re.compile(r"\d+(?:\.\d+)?")
# Rounding differs between machines, and training amplifies it.
TOLERANCE = {"rel": 0.05, "abs": 0.03}


def cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def agree(found, shown):
    """Returns whether two texts have the same words and nearly the same numbers."""
    words = [NUMBER.sub("#", text).split() for text in (found, shown)]
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (found, shown)]
    return words[0] == words[1] and numbers[0] == pytest.approx(numbers[1], **TOLERANCE)


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture(scope="module")
def executed(committed, folder, tmp_path_factory):
    """Runs all cells of the notebook in a Jupyter kernel, in an empty folder."""
    settings = tmp_path_factory.mktemp("jupyter")
    with pytest.MonkeyPatch.context() as patch:
        # The kernel has its own backend, which shows figures; the reader's JAX is not strict.
        for name in ("MPLBACKEND", "JAX_NUMPY_RANK_PROMOTION", "JAX_NUMPY_DTYPE_PROMOTION"):
            patch.delenv(name, raising=False)
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(settings))
        where = {"metadata": {"path": str(folder)}}
        client = nbclient.NotebookClient(
            nbformat.from_dict(committed), timeout=600, kernel_name="python3", resources=where
        )
        return client.execute()


def test_the_notebook_is_valid_and_small_and_names_no_local_path(committed):
    nbformat.validate(committed)
    assert NOTEBOOK.stat().st_size < 100_000
    assert set(committed.metadata) == {"kernelspec", "language_info"}
    for cell in committed.cells:
        assert not cell.metadata and cell.get("execution_count") is None
    text = "".join(cell.source for cell in committed.cells)
    text += "".join(map(printed, cells(committed)))
    assert not re.search(r"(?<![\w.])/(home|root|tmp|usr|Users)/|site-packages", text)


@pytest.mark.slow
def test_the_notebook_prints_the_outputs_that_are_shown(committed, executed):
    for shown, found in zip(cells(committed), cells(executed), strict=True):
        assert [o.text for o in found.outputs if o.get("name") == "stderr"] == []
        assert agree(printed(found), printed(shown)), f"{found.source}\n\n{printed(found)}"
        kinds = [{output.output_type for output in cell.outputs} for cell in (shown, found)]
        assert kinds[0] == kinds[1], found.source


@pytest.mark.slow
def test_the_committed_figure_equals_the_one_that_the_notebook_saves(executed, folder):
    (drawn,) = folder.iterdir()
    pixels = [image.imread(path) for path in (drawn, DOCS / drawn.name)]
    assert pixels[0].shape == pixels[1].shape
    assert np.abs(pixels[0] - pixels[1]).mean() < 0.02


@pytest.mark.parametrize("found", ["pgd: 0.16", "fgsm: 0.06", "pgd: 0.06 0.06", ""])
def test_agree_rejects_another_number_word_or_length(found):
    assert agree("pgd: 0.07", "pgd: 0.06") and not agree(found, "pgd: 0.06")

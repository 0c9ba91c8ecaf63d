"""Made once: the figures of papers that need no run, and results for the pages."""

import json
import shutil
from pathlib import Path

import pytest
from reproduced import write_results

from adv_jax import train
from papers.pages import chapters
from papers.running import figures, stored
from papers.running.works import FIGURES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def drawn_toys(tmp_path_factory):
    """The folder of Maronas' PNG and JSON files."""
    out = tmp_path_factory.mktemp("out")
    toys = [name for name, draw in FIGURES.items() if not figures.takes_run(draw)]
    figures.run([name for name in toys if name.startswith("maronas2016.")], out=str(out))
    return out / "maronas2016" / "results" / "figures"


@pytest.fixture(scope="session")
def document(drawn_toys):
    """Name of a figure -> what its JSON holds."""
    return lambda name: json.loads((drawn_toys / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def found():
    """The results in the repository."""
    return stored.read(ROOT / "papers")


@pytest.fixture(scope="session")
def by_work(found):
    """Name of a paper -> its chapter, of the results in the repository."""
    return chapters.of_all(found)


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """All that is in the repository, over it fabricated results of two targets and a quick one."""
    folder = tmp_path_factory.mktemp("stored") / "results"
    for path in sorted((ROOT / "papers").glob("*/results")):
        shutil.copytree(path, folder / path.relative_to(ROOT / "papers"))
    write_results(folder.parent)
    # A quick result does not replace the stored one of the paper's length.
    (folder / "maronas2016/results/table17.json").unlink(missing_ok=True)
    write_results(folder.parent, ("maronas2016.table17",), "quick")
    return folder


@pytest.fixture
def never_train(monkeypatch):
    monkeypatch.setattr(train, "run", lambda *_: pytest.fail("it trains"))

import pytest
from command_line import serving
from short_run import TINY


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("commands")) as server:
        yield server


@pytest.fixture(scope="session")
def uninterrupted(commands, tmp_path_factory):
    """The workdir of a run that nothing has disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    done = commands.run(*TINY, f"--workdir={workdir}")
    assert (done.status, done.err) == (0, "")
    return workdir

"""A warning of our own code is an error in the tests, a warning of other code is not."""

import runpy
import warnings

import pytest


def warn_in(module):
    warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module=module)


@pytest.mark.parametrize(
    "module", ["adv_jax", "adv_jax.step", "launch._space", "benchmarks.tasks", "configs.quickstart"]
)
def test_a_warning_of_our_own_code_is_an_error(module):
    with pytest.raises(DeprecationWarning, match="old"):
        warn_in(module)


def test_a_warning_of_a_config_that_is_run_is_an_error(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("import warnings\nwarnings.warn('old', DeprecationWarning)\n")
    with pytest.raises(DeprecationWarning, match="old"):
        runpy.run_path(str(path))


@pytest.mark.parametrize("module", ["jax", "launcher", "my.launch"])
def test_a_warning_of_other_code_is_not_an_error(module):
    with pytest.warns(DeprecationWarning, match="old"):
        warn_in(module)

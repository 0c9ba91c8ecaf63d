"""host.numerics: a run does not depend on the user's settings of JAX."""

import jax
import numpy as np
import pytest
from short_run import document

from adv_jax import train
from adv_jax.runner.run.trained import load


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """A run whose initial weights, batches and dropout are drawn, and its result."""
    config = document(num_labels=1000)
    config["model"]["dropout"] = (0.2, 0.2)
    workdir = tmp_path_factory.mktemp("usual")
    return config, workdir, train.run(config, workdir)


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [jax.threefry_partitionable(False), jax.default_prng_impl("rbg")],
    ids=["not partitionable", "rbg"],
)
def test_a_run_and_its_model_draw_the_same_numbers_under_other_settings_of_jax(
    usual, tmp_path, setting
):
    config, workdir, expected = usual
    with setting:
        found = train.run(config, tmp_path)
        model = load(workdir)
        logits = model.logits_fn(model.dataset.test.x[:9])
    for part in ("replicas", "evaluation"):
        assert found[part] == expected[part]
    assert (tmp_path / "metrics.jsonl").read_text() == (workdir / "metrics.jsonl").read_text()
    model = load(workdir)
    np.testing.assert_array_equal(logits, model.logits_fn(model.dataset.test.x[:9]))

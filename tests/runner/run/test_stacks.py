"""Autoencoders that are stacked layer by layer, and the nets that start from them."""

from functools import partial

import jax
import numpy as np
import pytest
import short_run
from config_files import config_of
from short_run import serve

from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import trained, training
from adv_jax.runner.run.experiment import Experiment

FEATURES = (6, 5, 4)


@pytest.mark.slow
def test_a_stack_trains_one_layer_at_a_time_and_starts_other_nets(monkeypatch, tmp_path):
    digits = short_run.few_digits(80, 20)
    serve(monkeypatch, digits)
    small = {"model.features": FEATURES, "batch_size": 40, "epochs": 1, "data.num_valid": 0}
    first = with_values(config_of("autoencoder_mnist", "quick,training=stacked"), small)
    training.run(first, tmp_path / "stack")
    stack = trained.load(tmp_path / "stack").variables["params"]
    begun = Experiment(first, digits).init(np.int32(1), {}).state.params
    close = partial(np.allclose, rtol=1e-5, atol=1e-7)
    for part in ("encoder", "decoder"):
        for layer in ("hidden1", "hidden2", "hidden3"):
            # A compiled initialization may round differently.
            same = jax.tree.map(close, stack[part][layer], begun[part][layer])
            # In the first epoch only the first layer has a rate above 0.
            assert set(jax.tree.leaves(same)) == {layer != "hidden1"}
    for name, options in (("autoencoder_mnist", "net=wide"), ("mlp_mnist", "net=wide")):
        mode = f"quick,{options},pretrained={tmp_path / 'stack'}"
        still = {"optimizer.learning_rate": 0.0}
        training.run(with_values(config_of(name, mode), small | still), tmp_path / name)
        found = trained.load(tmp_path / name).variables["params"]
        encoder = found.get("encoder", {layer: found.get(layer) for layer in stack["encoder"]})
        jax.tree.map(np.testing.assert_array_equal, encoder, stack["encoder"])

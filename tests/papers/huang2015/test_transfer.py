"""papers.huang2015.transfer: examples of a linear net between two clouds, whose fate is known."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.data.dataset import Arrays
from adv_jax.types import UserError
from papers.huang2015 import transfer

D = 100


def cloud(n):
    """Class 0 is at 0 and class 1 at (2, 0, ..., 0); a step of 1.5 along e_1 crosses over."""
    y = np.arange(n) % 2
    return Arrays(2 * np.float32(y)[:, None] * np.eye(D, dtype=np.float32)[0], y)


@pytest.mark.slow
def test_all_models_lose_to_steps_across_the_border_and_not_to_noise(monkeypatch):
    # The other entries of the noise share its length: it moves e_1 by about 1.5 / 10.
    w = jnp.zeros((D, 2)).at[0].set(jnp.array([-1.0, 1.0]))
    nets = [
        SimpleNamespace(
            dataset=SimpleNamespace(train=cloud(80), test=cloud(6)),
            logits_fn=lambda x: (x - jnp.eye(D)[:1]) @ w,
            about={"seed": seed},
        )
        for seed in (1, 2)
    ]
    run = SimpleNamespace(
        models=lambda: nets,
        data="clouds",
        config={"model": {"features": ()}},
        result={"replicas": [{"seed": 1, "epochs": 1}, {"seed": 2, "epochs": 1}]},
    )
    monkeypatch.setattr(transfer, "finished", lambda path: run)
    document = transfer.models_without_a_net(["run"]).document
    assert document["clean"] == {"nearest neighbor": 0.0, "boosted trees": 0.0}
    assert document["by_seed"] == {
        "nearest neighbor.noise": {1: 0.0, 2: 0.0},
        "nearest neighbor.adversarial": {1: 1.0, 2: 1.0},
        "boosted trees.noise": {1: 0.0, 2: 0.0},
        "boosted trees.adversarial": {1: 1.0, 2: 1.0},
    }


def test_several_runs_are_refused():
    with pytest.raises(UserError, match="workdir must be one run for transfer, got a, b"):
        transfer.models_without_a_net(["a", "b"])

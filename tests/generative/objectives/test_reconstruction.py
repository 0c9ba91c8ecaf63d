"""Reconstruction of clean inputs from corrupted ones, of the whole net or of each layer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import exhaustive_after
from sklearn.decomposition import PCA

from adv_jax import data, generative, models
from adv_jax.optimizers import sgd
from adv_jax.step import init_state, make_step
from adv_jax.types import Output

KEY = jax.random.key(0)
SHAPE = (2, 3, 1)
X = jnp.asarray(np.random.default_rng(0).uniform(size=(8, *SHAPE)), jnp.float32)
BATCH = {"x": X[:1], "y": jnp.zeros(1, jnp.int32), "unlabeled": X}


def net(**settings):
    model = generative.models.autoencoder(shape=SHAPE, **settings)
    return models.apply_fn(model), models.init(model, jax.random.key(1), X)


class Seen:
    """A model whose loss is the mean of its input; keeps its inputs."""

    def __init__(self):
        self.inputs = []

    def apply(self, variables, x, clean, *, train, key, method):
        assert (variables, train, method) == ({}, True, "row_loss")
        self.inputs.append((np.asarray(x), np.asarray(clean)))
        return Output(x.reshape(len(x), -1).mean(axis=1), {}, {})


def seen(x, **noise):
    model = Seen()
    batch = {"unlabeled": x}
    loss, _ = generative.objectives.reconstruction(model.apply, {}, batch, key=KEY, **noise)
    ((noisy, clean),) = model.inputs
    np.testing.assert_array_equal(clean, x)
    assert float(loss) == pytest.approx(noisy.mean(), rel=1e-4)
    return noisy


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="level must be one of input, stacked, got 'inputs'"):
        generative.objectives.reconstruction(Seen().apply, {}, BATCH, key=KEY, level="inputs")


@pytest.mark.slow
def test_without_noise_the_loss_is_the_model_s_own_on_all_images():
    apply, variables = net(features=(4,))
    found, _ = generative.objectives.reconstruction(apply, variables, BATCH, key=KEY)
    expected = float(apply(variables, X, method="row_loss").logits.mean())
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_masking_sets_a_share_of_the_values_to_0_and_keeps_the_others():
    x = jnp.ones((200, 100))
    noisy = seen(x, masking=0.25)
    assert set(np.unique(noisy)) == {0, 1}
    # 20,000 draws: five standard deviations are .015.
    assert (noisy == 0).mean() == pytest.approx(0.25, abs=0.016)


def test_gaussian_noise_has_the_given_standard_deviation():
    x = jnp.full((200, 100), 3.0)
    noise = seen(x, noise_std=0.5) - 3
    assert (noise.mean(), noise.std()) == (
        pytest.approx(0, abs=0.02),
        pytest.approx(0.5, rel=0.02),
    )


def stacked(params, apply, **noise):
    options = {"level": "stacked", "key": KEY, **noise}
    return generative.objectives.reconstruction(apply, {"params": params}, BATCH, **options)


@pytest.mark.slow
def test_the_stacked_loss_is_the_sum_over_layers_of_clean_activations():
    apply, variables = net(features=(5, 4), activation="sigmoid", tied=True)
    total, (_, metrics) = stacked(variables["params"], apply)
    hidden = apply(variables, X).extras["hidden1"]
    expected = {
        f"layer{layer}_loss": float(
            apply(variables, h, h, layer=layer, method="layer_loss").logits.mean()
        )
        for layer, h in ((1, X), (2, hidden))
    }
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(expected, 1e-6)
    assert float(total) == pytest.approx(sum(expected.values()), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("noise", exhaustive_after(1, [{"masking": 0.3}, {}]))
def test_the_loss_of_a_layer_moves_this_layer_only(noise):
    apply, variables = net(features=(5, 4), activation="sigmoid")
    params = variables["params"]
    total = jax.grad(lambda p: stacked(p, apply, **noise)[0])(params)
    for layer in (1, 2):
        loss = lambda p, layer=layer: stacked(p, apply, **noise)[1][1][f"layer{layer}_loss"]
        own = jax.grad(loss)(params)
        for part in ("encoder", "decoder"):
            mine, other = own[part][f"hidden{layer}"], own[part][f"hidden{3 - layer}"]
            assert not any(leaf.any() for leaf in jax.tree.leaves(other))
            assert all(leaf.any() for leaf in jax.tree.leaves(mine))
            close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
            jax.tree.map(close, total[part][f"hidden{layer}"], mine)


@pytest.mark.slow
def test_a_linear_autoencoder_finds_the_subspace_of_principal_components():
    digits = data.load("mnist", source="embedded").train.x[:1000]
    # Centered, so that the biases stay near 0, and of few values, so that it converges.
    x = digits[:, 4:24, 4:24].reshape(-1, 5, 4, 5, 4, 1).mean(axis=(2, 4))
    x = jnp.asarray(x - x.mean(axis=0))
    model = generative.models.autoencoder(
        shape=x.shape[1:], features=(3,), linear_code=True, loss="squared_error"
    )
    objective = partial(generative.objectives.reconstruction, models.apply_fn(model))
    optimizer = sgd(0.05, momentum=0.9)
    state = init_state(models.init(model, KEY, x), optimizer, seed=0)
    step = make_step(objective, optimizer)
    batch = {"unlabeled": x}
    train = jax.jit(lambda s: jax.lax.scan(lambda s, _: step(s, batch), s, length=3000))
    state, metrics = train(state)
    flat = np.asarray(x).reshape(len(x), -1)
    pca = PCA(3).fit(flat)
    residue = flat - pca.inverse_transform(pca.transform(flat))
    assert float(metrics["loss"][-1]) == pytest.approx((residue**2).sum(axis=1).mean(), rel=1e-3)
    basis, _ = np.linalg.qr(np.asarray(state.params["encoder"]["hidden1"]["kernel"]))
    # Cosines of the principal angles between both subspaces.
    cosines = np.linalg.svd(basis.T @ pca.components_.T, compute_uv=False)
    assert cosines.min() > 0.999

"""Initial values of models.ladder, and the numbers of its parameters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.stats
from ladders import (
    BATCH,
    FC,
    GAUSS,
    SIG,
    Net,
    autoencode,
    compiled,
    fix_noise,
    in_float32,
    initial,
    make_apply,
    oracle_of,
    random_batch,
)

from adv_jax import models


def test_the_full_ladder_has_the_parameters_of_the_reference():
    shapes = jax.eval_shape(
        lambda key: models.init(models.ladder(), key, jnp.zeros((2, 28, 28, 1))),
        jax.random.key(0),
    )
    params = shapes["params"]
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert size(params) == 3_105_710
    encoder, decoder = params["encoder"], params["decoder"]
    assert sum(size(encoder[f"W{layer}"]) for layer in range(1, 7)) == 1_536_500
    assert sum(size(decoder[f"V{layer}"]) for layer in range(1, 7)) == 1_536_500
    assert sum(size(encoder[f"beta{layer}"]) for layer in range(1, 7)) == 2260
    assert size(encoder["gamma"]) == 10
    assert sum(size(decoder[f"g{layer}"]) for layer in range(7)) == 30_440


@pytest.mark.slow
def test_the_gauss_reconstruction_is_initially_zero(monkeypatch):
    fix_noise(monkeypatch)
    variables = initial(FC)
    _, batch = in_float32({}, random_batch())
    _, extras, _ = compiled(partial(autoencode, make_apply()))(variables, batch)
    np.testing.assert_array_equal(extras["z_hat"][0], 0)
    # Above the input, 0 is renormalized by the mean and variance of the clean pre-activations,
    # which the oracle knows.
    clean = oracle_of(variables).encode([np.float64(batch[x]) for x in ("x", "unlabeled")])
    for layer in range(1, FC.top + 1):
        mean, variance = clean.moments[layer][1]
        expected = np.broadcast_to(-mean / np.sqrt(variance + 1e-10), (BATCH, *FC.shapes[layer]))
        np.testing.assert_allclose(extras["z_hat"][layer], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_sig_reconstruction_is_initially_the_noisy_value_and_its_sigmoid():
    # Without noise, of layer 0: x + sigmoid(x).
    net = FC._replace(denoising="sig")
    _, batch = in_float32({}, random_batch(net))
    apply = make_apply(net, noise_std=(0.0,) * 4)
    _, extras, _ = compiled(partial(autoencode, apply))(initial(net), batch)
    u = np.float64(batch["unlabeled"])
    np.testing.assert_allclose(extras["z_hat"][0], u + oracles.sigmoid(u), rtol=1e-5)


@pytest.mark.slow
def test_ladder_matrices_have_variance_one_over_fan_in_and_scales_are_identity():
    net = Net("400-300-10", ((200,), (400,), (300,), (10,)), denoising="sig-gauss-sig-gauss")
    params = initial(net)["params"]
    encoder, decoder = params["encoder"], params["decoder"]
    for kernel in (encoder["W1"], encoder["W2"], decoder["V1"], decoder["V2"]):
        scaled = np.asarray(kernel["kernel"]) * np.sqrt(kernel["kernel"].shape[0])
        assert scipy.stats.kstest(scaled.ravel()[::7], "norm").pvalue > 1e-3
    for layer in (1, 2, 3):
        np.testing.assert_array_equal(encoder[f"beta{layer}"], 0)
    np.testing.assert_array_equal(encoder["gamma"], 1)
    assert decoder["g1"].keys() == set(GAUSS) and decoder["g2"].keys() == set(SIG)
    for name, a in decoder["g1"].items():
        np.testing.assert_array_equal(a, 1 if name in ("a2", "a7") else 0)
    for name, a in decoder["g2"].items():
        np.testing.assert_array_equal(a, 1 if name in ("a2", "b1", "c2") else 0)
    # Not tied, and no two matrices from one draw.
    assert np.abs(encoder["W2"]["kernel"].T - decoder["V2"]["kernel"]).max() > 0.1


def test_ladder_convolutions_are_initially_uniform_with_variance_one_over_fan_in():
    net = Net("convv:30:5:1:1-convf:40:3:1:1-globalmeanpool", ((9, 9, 8), (), (), ()))
    params = initial(net)["params"]
    # 3 / fan_in is the square of the bound; the way down begins from the maps above.
    for kernel, fan_in in [
        (params["encoder"]["W1"], 25 * 8),
        (params["encoder"]["W2"], 9 * 30),
        (params["decoder"]["V1"], 25 * 30),
        (params["decoder"]["V2"], 9 * 40),
    ]:
        scaled = np.asarray(kernel["kernel"]) / np.sqrt(3 / fan_in)
        assert scipy.stats.kstest(scaled.ravel()[::3], "uniform", (-1, 2)).pvalue > 1e-3
    assert params["decoder"]["V2"]["kernel"].shape == (3, 3, 40, 30)


@pytest.mark.slow
@pytest.mark.parametrize("denoising", ["gauss", "0"])
def test_stored_statistics_are_initially_mean_0_and_variance_1(denoising):
    for name, values in initial(FC, denoising=denoising)["batch_stats"].items():
        np.testing.assert_array_equal(values, 1 if name.startswith("var") else 0)

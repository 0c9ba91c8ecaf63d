"""A classifier with an adversary: parts, the split at a layer, and the logits of both."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import generative, models

X = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 16, 16, 1)), jnp.float32)
KEY = jax.random.key(0)


def built(model):
    return models.apply_fn(model), models.init(model, KEY, X)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "features", "layer", "read"),
    [("mlp", (5, 4), 1, (5,)), ("mlp", (5, 4), 2, (4,)), ("lenet", (2, 3, 4), 2, (1, 1, 3))],
)
def test_the_net_is_its_features_then_its_classes(net, features, layer, read):
    model = generative.models.judged(net=net, features=features, layer=layer, num_classes=3)
    apply, variables = built(model)
    h = apply(variables, X, method="represent").logits
    assert h.shape == (3, *read)
    expected = apply(variables, h, method="classify").logits
    np.testing.assert_allclose(apply(variables, X).logits, expected, atol=1e-6)
    assert apply(variables, h, method="judge").logits.shape == (3, 2)
    assert variables["params"].keys() == {"classifier", "adversary"}


@pytest.mark.slow
def test_with_layer_0_the_adversary_reads_probabilities():
    apply, variables = built(generative.models.judged(features=(5,), layer=0, num_classes=3))
    assert variables["params"]["adversary"]["hidden1"]["kernel"].shape == (3, 100)
    assert apply(variables, jnp.eye(3), method="judge_classes").logits.shape == (3, 2)


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_does_not_exist_is_refused(layer):
    with pytest.raises(ValueError, match=f"^model.layer must be 0 to 2, got {layer}"):
        built(generative.models.judged(features=(5, 4), layer=layer))


def test_an_adversary_of_features_does_not_judge_classes():
    apply, variables = built(generative.models.judged(features=(5,), layer=1, num_classes=5))
    with pytest.raises(ValueError, match="^model.layer must be 0, for an adversary of .*, got 1"):
        apply(variables, jnp.eye(5), method="judge_classes")


@pytest.mark.slow
def test_the_logits_of_a_censored_net_join_both_predictions():
    apply, variables = built(generative.models.censored(features=(5,), num_classes=3))
    h = apply(variables, X, method="represent").logits
    pair = oracles.softmax(np.float64(apply(variables, h, method="classify").logits))
    parity = oracles.softmax(np.float64(apply(variables, h, method="judge").logits))
    both = np.float64(apply(variables, X).logits)
    expected = np.stack([pair[:, k // 2] * parity[:, k % 2] for k in range(6)], axis=1)
    np.testing.assert_allclose(np.exp(both), expected, rtol=1e-5)
    np.testing.assert_array_equal(both.argmax(axis=1) // 2, pair.argmax(axis=1))
    np.testing.assert_array_equal(both.argmax(axis=1) % 2, parity.argmax(axis=1))

"""models.layered: nets cut at any layer, dropout and DropConnect."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import exhaustive_after

from adv_jax import models
from adv_jax.models.layered import Layered
from adv_jax.step import init_state, make_step

NETS = {
    "mlp": (models.mlp(features=(5, 4), num_classes=3), (6,)),
    "lenet": (models.lenet(features=(2, 3, 4), num_classes=3, activation="tanh"), (16, 16, 1)),
    "convnet": (
        models.convnet(stages=((2, 3), (4,)), kernel_size=3, units=(5, 4), num_classes=3),
        (9, 8, 2),
    ),
    "inception": (
        models.convnet(stages=((2, (1, 2, 3, 2, 1, 2)), (3,)), units=(4,), num_classes=3),
        (9, 8, 2),
    ),
}
LAYERED = [name for name in models.__all__ if issubclass(getattr(models, name), Layered)]


def batch_of(shape, size=4):
    return np.random.default_rng(0).normal(size=(size, *shape)).astype(np.float32)


@pytest.fixture(scope="module", params=exhaustive_after(1, NETS))
def net(request):
    """(apply, variables, x, number of hidden layers) of a net; biases are random."""
    model, shape = NETS[request.param]
    x = batch_of(shape)
    shapes = jax.eval_shape(lambda: models.init(model, jax.random.key(0), x))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape).astype(np.float32), shapes)
    return models.apply_fn(model), variables, x, len(variables["params"]) - 1


def test_lower_and_upper_half_compose_to_the_net_at_every_layer(net):
    apply, variables, x, layers = net
    whole = apply(variables, x)
    for layer in range(1, layers + 1):
        h, below, _ = apply(variables, x, method="represent", layer=layer)
        np.testing.assert_array_equal(h, whole.extras[f"hidden{layer}"])
        logits, above, _ = apply(variables, h, method="classify", layer=layer)
        np.testing.assert_array_equal(logits, whole.logits)
        assert {*below, *above} == whole.extras.keys() and not {*below} & {*above}


def in_bfloat16(name):
    """A net of the table that computes in bfloat16, weights for it, and inputs."""
    model, shape = NETS[name]
    model, x = model.clone(dtype="bfloat16"), batch_of(shape)
    shapes = jax.eval_shape(lambda: models.init(model, jax.random.key(0), x))
    rng = np.random.default_rng(1)
    draw = lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(leaf.dtype)
    return models.apply_fn(model), jax.tree.map(draw, shapes), x


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(2, NETS))
def test_in_bfloat16_weights_logits_extras_and_gradients_stay_float32(name):
    apply, variables, x = in_bfloat16(name)
    logits, extras, _ = whole = apply(variables, x)
    by_weights, by_x = jax.grad(lambda v, x: apply(v, x).logits.sum(), (0, 1))(variables, x)
    kept = {leaf.dtype for leaf in jax.tree.leaves((variables, whole, by_weights, by_x))}
    assert kept == {jnp.dtype("float32")}
    fine = models.apply_fn(NETS[name][0])(variables, x).logits
    size = np.abs(fine).max()
    assert 1e-4 * size < np.abs(logits - fine).max() < 0.03 * size  # 8 bits a product
    for layer in range(1, len(extras) + 1):
        h = apply(variables, x, method="represent", layer=layer).logits
        np.testing.assert_array_equal(h, extras[f"hidden{layer}"])
        upper = apply(variables, h, method="classify", layer=layer).logits
        np.testing.assert_array_equal(upper, logits)


def test_bfloat16_layers_equal_the_numpy_version():
    apply, variables, x = in_bfloat16("mlp")
    rounded = lambda values: np.float64(np.asarray(values).astype(jnp.bfloat16))
    h = rounded(x)
    for name in ("hidden1", "hidden2", "logits"):
        layer = {part: rounded(values) for part, values in variables["params"][name].items()}
        h = rounded(rounded(h @ layer["kernel"]) + layer["bias"])
        h = h if name == "logits" else np.maximum(h, 0)
    # Sums may be rounded once more or less: two units in the last place of 8 bits.
    np.testing.assert_allclose(apply(variables, x).logits, h, rtol=2**-6, atol=2**-6)


@pytest.mark.slow
def test_the_upper_half_is_not_changed_by_parameters_of_the_lower(net):
    apply, variables, x, layers = net
    for layer in range(1, layers + 1):
        h = apply(variables, x, method="represent", layer=layer).logits
        slope = jax.grad(
            lambda v, h=h, layer=layer: apply(v, h, method="classify", layer=layer).logits.sum()
        )(variables)["params"]
        for number in range(1, layers + 1):
            moved = any(
                np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope[f"hidden{number}"])
            )
            assert moved == (number > layer)


@pytest.mark.slow
@pytest.mark.parametrize("train", [True, False])
def test_dropout_leaves_the_mean_and_drops_the_stated_share_in_training_only(train):
    # One layer of identity weights: the logits are the sum of what is left of the 4000 inputs.
    rates, size = (0.2, 0.5), 4000
    model = models.mlp(features=(size,), num_classes=1, dropout=rates)
    params = {
        "hidden1": {"kernel": np.eye(size, dtype=np.float32), "bias": np.zeros(size, np.float32)},
        "logits": {"kernel": np.ones((size, 1), np.float32), "bias": np.zeros(1, np.float32)},
    }
    x = np.ones((3, size), np.float32)
    apply = models.apply_fn(model)
    logits, extras, _ = apply({"params": params}, x, train=train, key=jax.random.key(3))
    h = np.asarray(extras["hidden1"])
    if not train:
        np.testing.assert_array_equal(h, 1)
        np.testing.assert_allclose(logits, size)
        return
    assert {*np.unique(h)} == {np.float32(0), np.float32(1 / 0.8)}
    sd = np.sqrt(size * 0.2 * 0.8)
    assert np.all(np.abs((h == 0).sum(axis=1) - 0.2 * size) < 5 * sd)
    assert not np.array_equal(h[0], h[1])
    # A value is 2.5 with probability .4, else 0: variance 1.5.
    assert np.all(np.abs(logits - size) < 5 * np.sqrt(1.5 * size))


def dropconnected(train, rate=0.2, size=200):
    """Hidden activations f[3, size] of a row of ones, twice, and of zeros, under weights of 1."""
    model = models.mlp(features=(size,), num_classes=1, dropconnect=rate)
    params = {
        "hidden1": {"kernel": np.eye(size, dtype="f"), "bias": np.full(size, 7, np.float32)},
        "logits": {"kernel": np.ones((size, 1), np.float32), "bias": np.zeros(1, np.float32)},
    }
    x = np.ones((3, size), np.float32)
    x[2] = 0
    apply = models.apply_fn(model)
    output = apply({"params": params}, x, train=train, key=jax.random.key(3))
    h = np.asarray(output.extras["hidden1"])
    np.testing.assert_allclose(output.logits[:, 0], h.sum(axis=1), rtol=1e-6)  # No weight dropped.
    return h


@pytest.mark.slow
def test_dropconnect_drops_weights_in_training_for_all_rows_alike_and_no_bias():
    h = dropconnected(train=True)
    np.testing.assert_array_equal(h[0], h[1])
    np.testing.assert_array_equal(h[2], 7)
    assert {*np.unique(h[0])} == {np.float32(7), np.float32(7 + 1 / 0.8)}
    sd = np.sqrt(200 * 0.2 * 0.8)
    assert abs((h[0] == 7).sum() - 0.2 * 200) < 5 * sd


@pytest.mark.slow
def test_dropconnect_keeps_the_weights_in_a_test():
    h = dropconnected(train=False)
    np.testing.assert_array_equal(h, [[8.0] * 200, [8.0] * 200, [7.0] * 200])


@pytest.mark.slow
def test_dropconnect_in_microbatches_draws_a_mask_for_each_part():
    # The gradient of the mean output by the weights into one unit is its inputs' mean mask.
    model = models.mlp(features=(1,), num_classes=1, dropconnect=0.5)
    params = {
        "hidden1": {"kernel": np.ones((400, 1), np.float32), "bias": np.zeros(1, np.float32)},
        "logits": {"kernel": np.ones((1, 1), np.float32), "bias": np.zeros(1, np.float32)},
    }
    apply = models.apply_fn(model)

    def objective(variables, batch, *, key):
        return apply(variables, batch["x"], train=True, key=key).logits.mean(), ({}, {})

    def masks(parts):
        step = make_step(objective, optax.sgd(1.0), microbatches=parts)
        state = init_state({"params": params}, optax.sgd(1.0), seed=0)
        state, _ = step(state, {"x": jnp.ones((4, 400))})
        return {*np.unique(1 - np.asarray(state.params["hidden1"]["kernel"]))}

    assert masks(1) == {0, 2} and masks(4) == {0, 0.5, 1, 1.5, 2}


def test_a_layered_net_without_hidden_layers_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Layered()


def test_a_number_of_rates_that_does_not_fit_the_layers_is_refused():
    with pytest.raises(ValueError, match="dropout must have 0 or 3 entries, one for the"):
        models.init(
            models.mlp(features=(3, 3), dropout=(0.1, 0.1)), jax.random.key(0), batch_of((4,))
        )


def test_the_nets_of_the_papers_have_the_printed_sizes():
    def sizes(model, shape):
        made = jax.eval_shape(lambda: models.init(model, jax.random.key(0), jnp.zeros((2, *shape))))
        return {name: layer["kernel"].shape for name, layer in made["params"].items()}

    huang = sizes(models.convnet(), (28, 28, 3))
    assert huang["hidden7"] == (7 * 7 * 256, 2048) and huang["logits"] == (2048, 10)
    srivastava = sizes(models.convnet(stages=((96,), (128,), (256,)), kernel_size=5), (32, 32, 3))
    assert srivastava["hidden1"] == (5, 5, 3, 96) and srivastava["hidden4"] == (4 * 4 * 256, 2048)


@pytest.mark.parametrize("name", LAYERED)
def test_every_layer_of_every_net_heeds_the_initializers_and_the_dtype(name):
    key, x = jax.random.key(0), jnp.zeros((2, 28, 28, 1))
    hidden, output = map(nn.initializers.constant, (0.25, 0.5))
    model = getattr(models, name)(hidden_init=hidden, output_init=output, dtype="bfloat16")
    initial = jax.jit(lambda: models.init(model, key, x))
    for path, leaf in jax.tree_util.tree_leaves_with_path(initial()["params"]):
        layer, kind = path[0].key, path[-1].key
        drawn = {"bias": 0, "scale": 1, "kernel": 0.5 if layer == "logits" else 0.25}[kind]
        np.testing.assert_array_equal(leaf, drawn, f"{layer} {kind}")

    def factors(model):
        logits_of = lambda v: models.apply_fn(model)(v, x, train=True, key=key).logits
        traced = jax.jit(logits_of).trace(jax.eval_shape(initial))
        program = traced.lower(lowering_platforms=("tpu",)).as_text()  # On CPUs some are float32.
        return re.findall(r"(?:dot_general|convolution)[ (]%.*: \(tensor<[\dx]*x(\w+)>", program)

    coarse, fine = map(factors, (model, model.clone(dtype=None)))
    assert set(fine) == {"f32"} and coarse == ["bf16"] * len(fine)

"""models.ladder with objectives.ladder: against NumPy in float64, layer by layer."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from ladders import (
    BATCH,
    FC,
    KEY,
    LARGE,
    SMALL,
    Net,
    autoencode,
    compiled,
    cost,
    fix_noise,
    in_float32,
    initial,
    make_apply,
    module,
    nets,
    noise_of,
    oracle_of,
    oracle_params,
    random_batch,
    random_variables,
    run_of,
)

from adv_jax import models
from adv_jax.data import Arrays, Dataset
from adv_jax.runner.run.experiment import Experiment

# The whole pass and its costs.


@nets("fc", "fc-sig", "fc-upper", slow=["fc-gamma", "small", "small-gamma", "large", "large-gamma"])
def test_every_layer_of_training_equals_the_numpy_version(net):
    run = run_of(net)
    (logits, extras, _), expected = run.output, run.expected
    np.testing.assert_allclose(logits, expected.corrupted_logits, rtol=1e-8)
    assert len(extras["z"]) == net.top + 1
    for z, expected_z in zip(extras["z"], expected.z, strict=True):
        np.testing.assert_allclose(z, expected_z, rtol=1e-8, atol=1e-10)
    assert extras["z_hat"].keys() == {layer for layer, word in enumerate(net.words) if word}
    for layer, z_hat in extras["z_hat"].items():
        np.testing.assert_allclose(z_hat, expected.z_hat[layer], rtol=1e-7, atol=1e-9)
    weighted = sum(net.weights[layer] * c for layer, c in expected.C.items())
    assert run.metrics["supervised"] == pytest.approx(expected.supervised, rel=1e-8)
    assert run.metrics["denoising"] == pytest.approx(weighted, rel=1e-8)
    assert run.loss == pytest.approx(expected.supervised + weighted, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("noise_std", [(0.3, 0.0, 0.0, 0.0), (0.0, 0.5, 0.5, 0.5)])
def test_the_input_and_each_layer_have_a_noise_level(x64, monkeypatch, noise_std):
    variables, batch = random_variables(), random_batch()
    oracle = oracles.Ladder(oracle_params(variables), noise_std)
    expected = oracle(batch["x"], batch["y"], batch["unlabeled"], noise_of())
    fix_noise(monkeypatch)
    apply = make_apply(noise_std=noise_std)
    logits, extras, _ = compiled(partial(autoencode, apply))(variables, batch)
    np.testing.assert_allclose(logits, expected.corrupted_logits, rtol=1e-9)
    for layer, z_hat in extras["z_hat"].items():
        np.testing.assert_allclose(z_hat, expected.z_hat[layer], rtol=1e-8)


@pytest.mark.slow
def test_the_cost_of_each_layer_equals_the_numpy_version(x64, monkeypatch):
    fix_noise(monkeypatch)
    costs = run_of().expected.C
    one_hot = 2 * np.eye(FC.top + 1)
    each = lambda *args: [cost(make_apply(), tuple(weights), *args) for weights in one_hot]
    for layer, (loss, (_, metrics)) in enumerate(
        compiled(each)(random_variables(), random_batch())
    ):
        assert float(metrics["denoising"]) == pytest.approx(2 * costs[layer], rel=1e-8)
        expected = run_of().expected.supervised + 2 * costs[layer]
        assert float(loss) == pytest.approx(expected, rel=1e-8)


def test_the_accuracy_is_measured_on_the_corrupted_labeled_half():
    run = run_of()
    hits = run.expected.corrupted_logits.argmax(axis=1) == random_batch()["y"]
    assert 0 < hits.mean() < 1
    assert run.metrics["accuracy"] == pytest.approx(hits.mean())


@pytest.mark.slow
def test_the_ladder_in_float32_agrees_with_float64(monkeypatch):
    fix_noise(monkeypatch)
    variables, batch = in_float32(random_variables(), random_batch())
    with jax.enable_x64(False):
        loss, _ = compiled(partial(cost, make_apply(), FC.weights))(variables, batch)
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(run_of().loss, rel=1e-4)


@pytest.mark.slow
def test_a_layer_that_is_not_reconstructed_has_no_parameters_in_the_decoder():
    # Nor has pooling a matrix or, below the top, a beta.
    upper = FC._replace(denoising="0-0-sig-gauss")
    for net, encoder, decoder in [
        (upper, "W1 W2 W3 beta1 beta2 beta3 gamma", "V3 g2 g3"),
        (FC.gamma_model, "W1 W2 W3 beta1 beta2 beta3 gamma", "g3"),
        (FC._replace(denoising="0"), "W1 W2 W3 beta1 beta2 beta3 gamma", ""),
        (SMALL, "W1 W3 W5 beta1 beta3 beta5 gamma", "V1 V3 V5 g0 g1 g2 g3 g4 g5"),
        (LARGE, "W1 W2 W4 W5 beta1 beta2 beta4 beta5 beta6", "V1 V2 V4 V5 g0 g1 g2 g3 g4 g5 g6"),
    ]:
        x = jnp.zeros((2, *net.shapes[0]))
        params = jax.eval_shape(partial(models.init, module(net)), KEY, x)["params"]
        assert params["encoder"].keys() == set(encoder.split())
        assert params.get("decoder", {}).keys() == set(decoder.split())


class Plain(nn.Module):
    """The encoder of LARGE in Flax's own layers: convolutions, batch norms, pools."""

    @nn.compact
    def __call__(self, x):
        def norm(x, number, *, beta=True):
            settings = {"use_running_average": False, "epsilon": 1e-10, "use_scale": False}
            return nn.BatchNorm(**settings, use_bias=beta, name=f"beta{number}")(x)

        leaky = lambda x: nn.leaky_relu(x, 0.1)
        conv = lambda maps, size, number, padding="VALID": nn.Conv(
            maps, (size, size), padding=padding, use_bias=False, name=f"W{number}"
        )
        x = leaky(norm(conv(3, 2, 1)(x), 1))
        x = leaky(norm(conv(4, 3, 2, [(2, 2), (2, 2)])(x), 2))
        x = norm(nn.max_pool(x, (2, 2), (2, 2), padding="SAME"), 3, beta=False)
        x = leaky(norm(conv(5, 2, 4)(x), 4))
        x = leaky(norm(conv(3, 1, 5)(x), 5))
        return norm(x.mean((1, 2)), 6)


@pytest.mark.slow
@jax.numpy_rank_promotion("allow")
@jax.numpy_dtype_promotion("standard")
def test_a_ladder_without_noise_and_costs_is_a_batch_normalized_net(x64):
    net = LARGE._replace(denoising="0")
    variables, batch = random_variables(net), random_batch(net)
    encoder = variables["params"]["encoder"]

    def loss(encoder):
        params = {
            name: {"bias": value} if name.startswith("beta") else value
            for name, value in encoder.items()
        }
        logits, _ = Plain().apply({"params": params}, batch["x"], mutable=["batch_stats"])
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(BATCH), batch["y"]])

    def ladder(encoder):
        apply = make_apply(net, noise_std=(0.0,) * 7)
        return cost(apply, (0.0,) * 7, {**variables, "params": {"encoder": encoder}}, batch)[0]

    both = compiled(lambda *args: [jax.value_and_grad(fn)(*args) for fn in (loss, ladder)])
    expected, found = both(encoder)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
    jax.tree.map(close, found, expected)


# The clean path.


@nets("fc", slow=["small"])
def test_a_clean_training_pass_stores_the_mean_and_the_unbiased_variance(x64, net):
    variables, batch = random_variables(net), random_batch(net)
    oracle = oracle_of(variables, net)
    clean = oracle.encode([batch["x"], batch["unlabeled"]])
    run = compiled(lambda variables, x: make_apply(net)(variables, x, train=True))
    logits, extras, state = run(variables, batch["x"])
    np.testing.assert_allclose(logits, oracle.logits(clean.z[-1][0]), rtol=1e-8)
    for layer in range(1, net.top + 1):
        np.testing.assert_allclose(extras["z"][layer], clean.z[layer][0], rtol=1e-8, atol=1e-10)
        mean, variance = clean.moments[layer][0]
        stats = state["batch_stats"]
        np.testing.assert_allclose(stats[f"mean{layer}"], mean, rtol=1e-9, atol=1e-12)
        # m / (m - 1), m the number of images, however many pixels they have.
        corrected = variance * BATCH / (BATCH - 1)
        np.testing.assert_allclose(stats[f"var{layer}"], corrected, rtol=1e-9)


@pytest.mark.slow
def test_the_training_passes_leave_the_stored_statistics_alone():
    variables, batch = in_float32(random_variables(), random_batch())
    _, (state, _) = compiled(partial(cost, make_apply(), FC.weights))(variables, batch)
    jax.tree.map(np.testing.assert_array_equal, state["batch_stats"], variables["batch_stats"])


@nets("fc", slow=["large"])
def test_test_images_use_the_clean_path_and_stored_statistics(x64, net):
    variables, batch = random_variables(net), random_batch(net)
    stats, layers = variables["batch_stats"], range(1, net.top + 1)
    expected = oracle_of(variables, net).classify(
        batch["x"], [stats[f"mean{i}"] for i in layers], [stats[f"var{i}"] for i in layers]
    )
    # No key: no noise is drawn.
    logits, extras, state = compiled(make_apply(net))(variables, batch["x"])
    np.testing.assert_allclose(logits, expected, rtol=1e-9)
    assert len(extras["z"]) == net.top + 1 and not state


def small_experiment(dataset, *, batch_size):
    """An experiment with the ladder FC, on any small data set."""
    return Experiment(
        {
            "seed": 0,
            "replicas": {"seeds": 1, "grid": None, "shards": 1},
            "data": {"num_valid": 0, "num_labels": 0},
            "model": {"name": "ladder", "layers": FC.layers, "noise_std": FC.noise_std},
            "objective": {"name": "ladder", "weights": FC.weights},
            "optimizer": {"name": "adam", "learning_rate": 0.002},
            "batch_size": batch_size,
            "patience": 0,
            "evaluation": {"attacks": {}, "eps": ()},
        },
        dataset,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labeled", "batch_size"), [((3, 1, 4, 15, 9, 2, 6, 5), 4), ((8, 7, 0, 12, 11), 8)]
)
def test_test_statistics_are_plain_averages_over_the_labeled_batches(x64, labeled, batch_size):
    rng = np.random.default_rng(5)
    x = rng.uniform(size=(16, *FC.shapes[0]))
    y = np.arange(16, dtype=np.int32) % 3
    dataset = Dataset("none", "none", {}, Arrays(x, y), Arrays(x, y), 3, (0, 1))
    variables = random_variables()
    found = small_experiment(dataset, batch_size=batch_size).measures.test_variables(
        variables, {"x": jnp.asarray(x), "y": jnp.asarray(y)}, {"labeled": jnp.array(labeled)}
    )
    # The first 4 and the next 4 labeled rows; or all 5, as there are fewer than a batch.
    batches = [labeled[:4], labeled[4:]] if batch_size == 4 else [labeled]
    oracle = oracle_of(variables)
    moments = [oracle.encode([x[list(rows)]] * 2).moments for rows in batches]
    for layer in range(1, FC.top + 1):
        mean = np.mean([m[layer][0][0] for m in moments], axis=0)
        corrected = [
            m[layer][0][1] * len(rows) / (len(rows) - 1)
            for m, rows in zip(moments, batches, strict=True)
        ]
        stats = found["batch_stats"]
        np.testing.assert_allclose(stats[f"mean{layer}"], mean, rtol=1e-9)
        np.testing.assert_allclose(stats[f"var{layer}"], np.mean(corrected, axis=0), rtol=1e-9)
    jax.tree.map(np.testing.assert_array_equal, found["params"], variables["params"])


# Shapes of the images, and settings that do not fit.


@pytest.mark.slow
def test_images_of_any_rank_are_flattened_in_every_pass(monkeypatch):
    variables, batch = in_float32(random_variables(), random_batch())
    fix_noise(monkeypatch)

    @compiled
    def passes(variables, batch):
        apply = make_apply()
        return autoencode(apply, variables, batch), apply(variables, batch["x"]).logits

    flat = passes(variables, batch)
    image = lambda x: x.reshape(BATCH, 2, 3, 1)
    images = passes(variables, {name: image(batch[name]) for name in ("x", "unlabeled")})
    np.testing.assert_array_equal(images[1], flat[1])
    np.testing.assert_array_equal(images[0].logits, flat[0].logits)
    np.testing.assert_array_equal(images[0].extras["z_hat"][0], flat[0].extras["z_hat"][0])


def test_images_without_a_channel_axis_are_accepted_below_a_convolution():
    net = Net("convv:3:2:1:1-globalmeanpool", ((4, 5, 1), (3, 4, 3), (3,)))
    variables, batch = in_float32(random_variables(net), random_batch(net))
    apply, x = make_apply(net), batch["x"]
    logits = compiled(lambda x: apply(variables, x).logits)
    np.testing.assert_array_equal(logits(x[..., 0]), logits(x))
    with pytest.raises(
        ValueError, match=r"model.layers must be .* shape \(20,\), which are not images"
    ):
        logits(x.reshape(BATCH, 20))


@pytest.mark.parametrize("noise_std", [(0.3,) * 3, (0.3,) * 5, ()])
def test_noise_for_another_number_of_layers_is_refused_by_name(noise_std):
    words = f"model.noise_std must have 4 entries, .*got {len(noise_std)}"
    with pytest.raises(ValueError, match=words):
        initial(FC, noise_std=noise_std)


@pytest.mark.parametrize("denoising", ["0-0-0-gauss", "0"])
def test_a_weight_of_a_layer_that_is_not_reconstructed_is_refused(denoising):
    net = FC._replace(denoising=denoising)
    run = lambda: cost(make_apply(net), (0, 1, 0, 0), random_variables(net), random_batch())
    with pytest.raises(
        ValueError, match=r"objective.weights must be 0 for layer 1, .*\(0, 1, 0, 0\)"
    ):
        jax.eval_shape(run)


def test_more_weights_than_pixels_are_refused_by_name():
    net = Net("convf:3:1:1:1-convv:3:4:1:1-globalmeanpool", ((3, 6, 1), (), (), ()))
    words = "layer 2 of model.layers must have K <= 3 above 3 x 6 pixels, got 'convv:3:4:1:1'"
    with pytest.raises(ValueError, match=words):
        initial(net)


def test_a_mean_over_other_pixels_than_there_are_is_refused_by_name():
    net = Net("convf:3:1:1:1-globalmeanpool:6:3", ((3, 6, 1), (), ()))
    # Behind its line JAX may say that it shortened the traceback.
    words = "(?m)must be globalmeanpool above 3 x 6 pixels, got 'globalmeanpool:6:3'$"
    with pytest.raises(ValueError, match=words):
        initial(net)


def test_the_ladder_refuses_a_batch_of_one_row():
    variables, batch = random_variables(), random_batch()
    with pytest.raises(ValueError, match=r"x must have 2 rows or more \(batch_size"):
        make_apply()(variables, batch["x"][:1], train=True)
    one_row = {name: batch[name][:1] for name in ("x", "y", "unlabeled")}
    with pytest.raises(ValueError, match=r"x must have 2 rows or more \(batch_size"):
        cost(make_apply(), FC.weights, variables, one_row)

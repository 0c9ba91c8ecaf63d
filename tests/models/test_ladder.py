"""models.ladder with objectives.ladder: against NumPy in float64, layer by layer."""

import importlib
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.stats

from adv_jax import models, objectives
from adv_jax.data import Arrays, Dataset
from adv_jax.experiment import Experiment

# No two widths are equal, so that the shape of a noise tells its layer.
INPUTS, FEATURES, BATCH = 6, (7, 5, 3), 8
TOP = len(FEATURES)
NOISE_STD = (0.4, 0.3, 0.25, 0.2)
WEIGHTS = (1.5, 0.7, 0.3, 0.9)
WIDTHS = (INPUTS, *FEATURES)
MODULE = importlib.import_module("adv_jax.models.ladder")  # The package's name is the class.


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def random_variables(seed=0):
    """Variables f64 of which none has its initial value."""
    rng = np.random.default_rng(seed)
    matrix = lambda rows, columns: {"kernel": rng.normal(size=(rows, columns)) / np.sqrt(rows)}
    encoder = {"gamma": rng.normal(1, 0.3, size=FEATURES[-1])}
    decoder, stats = {}, {}
    for layer in range(1, TOP + 1):
        below, units = WIDTHS[layer - 1], WIDTHS[layer]
        encoder |= {f"W{layer}": matrix(below, units)}
        encoder |= {f"beta{layer}": rng.normal(0, 0.3, size=units)}
        decoder |= {f"V{layer}": matrix(units, below)}
        stats |= {f"mean{layer}": rng.normal(size=units)}
        stats |= {f"var{layer}": rng.uniform(0.5, 2, size=units)}
    for layer, units in enumerate(WIDTHS):
        decoder[f"g{layer}"] = {f"a{i}": rng.normal(0, 0.6, size=units) for i in range(1, 11)}
    return {"params": {"encoder": encoder, "decoder": decoder}, "batch_stats": stats}


def random_batch(seed=1):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.uniform(size=(BATCH, INPUTS)),
        "y": rng.integers(0, FEATURES[-1], size=BATCH),
        # Another distribution: joint batch statistics would differ from separate ones.
        "unlabelled": 2 * rng.uniform(size=(BATCH, INPUTS)) ** 2 + 0.5,
    }


def oracle_params(variables):
    encoder, decoder = (variables["params"][part] for part in ("encoder", "decoder"))
    array = lambda a: np.array(a, np.float64)
    layers = range(1, TOP + 1)
    return SimpleNamespace(
        W=[array(encoder[f"W{layer}"]["kernel"]) for layer in layers],
        V=[array(decoder[f"V{layer}"]["kernel"]) for layer in layers],
        beta=[array(encoder[f"beta{layer}"]) for layer in layers],
        gamma=array(encoder["gamma"]),
        a=[
            [array(decoder[f"g{layer}"][f"a{i}"]) for i in range(1, 11)] for layer in range(TOP + 1)
        ],
    )


@pytest.fixture
def noise(monkeypatch):
    """The noise that the model is made to draw: of each half the L+1 arrays f64[B, D_l]."""
    rng = np.random.default_rng(2)
    halves = [[rng.normal(size=(BATCH, units)) for units in WIDTHS] for _ in range(2)]
    of_shape = {n.shape: n for n in map(np.stack, zip(*halves, strict=True))}
    of_shape |= {n.shape: n for n in halves[0]}  # A pass of one half has the first half's.
    monkeypatch.setattr(MODULE, "normal", lambda key, shape: jnp.asarray(of_shape[shape]))
    return halves


def make_apply(**settings):
    model = models.ladder(**{"features": FEATURES, "noise_std": NOISE_STD} | settings)
    return models.apply_fn(model)


def total_cost(oracle, batch, noise, weights=WEIGHTS):
    result = oracle(batch["x"], batch["y"], batch["unlabelled"], noise)
    return result.supervised + np.dot(weights, result.C)


def autoencode(apply, variables, batch):
    x, u, key = batch["x"], batch["unlabelled"], jax.random.key(0)

    @jax.jit  # One compilation is faster than one for each operation.
    def run(variables, x, u):
        return apply(variables, x, u, u, train=True, key=key, method="autoencode")

    return run(variables, x, u)


def cost(variables, batch, *, weights=WEIGHTS, **settings):
    """objectives.ladder, compiled -> (loss, (model state, metrics))."""

    @jax.jit
    def run(variables, batch):
        return objectives.ladder(
            make_apply(**settings), variables, batch, key=jax.random.key(0), weights=weights
        )

    return run(variables, batch)


def cost_and_gradient(variables, batch):
    @jax.jit
    def run(params):
        return cost({**variables, "params": params}, batch)[0]

    return jax.value_and_grad(run)(variables["params"])


@pytest.mark.parametrize("noise_std", [NOISE_STD, (0.3, 0.0, 0.0, 0.0), (0.0, 0.5, 0.5, 0.5)])
def test_every_layer_of_training_equals_the_numpy_version(x64, noise, noise_std):
    variables, batch = random_variables(), random_batch()
    oracle = oracles.Ladder(oracle_params(variables), noise_std)
    expected = oracle(batch["x"], batch["y"], batch["unlabelled"], noise)
    logits, extras, _ = autoencode(make_apply(noise_std=noise_std), variables, batch)
    np.testing.assert_allclose(logits, expected.corrupted_logits, rtol=1e-9)
    assert sorted(extras["z"]) == sorted(extras["z_hat"]) == list(range(TOP + 1))
    for layer in range(TOP + 1):
        np.testing.assert_allclose(extras["z"][layer], expected.z[layer], rtol=1e-9)
        np.testing.assert_allclose(extras["z_hat"][layer], expected.z_hat[layer], rtol=1e-8)


def test_each_layer_has_its_own_cost_as_in_the_numpy_version(x64, noise):
    variables, batch = random_variables(), random_batch()
    oracle = oracles.Ladder(oracle_params(variables), NOISE_STD)
    expected = oracle(batch["x"], batch["y"], batch["unlabelled"], noise)
    for layer in range(TOP + 1):
        weights = [0.0] * (TOP + 1)
        weights[layer] = 2.0
        loss, (_, metrics) = cost(variables, batch, weights=weights)
        assert float(metrics["supervised"]) == pytest.approx(expected.supervised, rel=1e-9)
        assert float(metrics["denoising"]) == pytest.approx(2 * expected.C[layer], rel=1e-8)
        assert float(loss) == pytest.approx(expected.supervised + 2 * expected.C[layer], rel=1e-8)
    loss, _ = cost(variables, batch)
    assert float(loss) == pytest.approx(total_cost(oracle, batch, noise), rel=1e-8)


def test_the_accuracy_is_that_of_the_corrupted_labelled_half(x64, noise):
    variables, batch = random_variables(), random_batch()
    oracle = oracles.Ladder(oracle_params(variables), NOISE_STD)
    result = oracle(batch["x"], batch["y"], batch["unlabelled"], noise)
    _, (_, metrics) = cost(variables, batch)
    hits = result.corrupted_logits.argmax(axis=1) == batch["y"]
    assert float(metrics["accuracy"]) == pytest.approx(hits.mean())


def test_float32_agrees_with_float64(noise):
    variables, batch = random_variables(), random_batch()
    oracle = oracles.Ladder(oracle_params(variables), NOISE_STD)
    variables = jax.tree.map(jnp.float32, variables)
    in_float32 = {name: jnp.asarray(array) for name, array in batch.items()}
    loss, _ = cost(variables, in_float32)
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(total_cost(oracle, batch, noise), rel=1e-4)


# What reimplementations get wrong, by the numbers of settings_maronas.md, sec. 8.10. (Number 2 is
# among the gradients below, 11 among the noises, 13 among the tests of the clean path.)


class JointStatistics(oracles.Ladder):  # 1
    def statistics(self, halves):
        together = np.concatenate(halves)
        return [(together.mean(axis=0), together.var(axis=0))] * len(halves)


class TargetAfterBeta(oracles.Ladder):  # 3
    def target(self, clean, layer):
        return clean.z[layer][1] + (self.params.beta[layer - 1] if layer else 0)


class TargetAfterActivation(oracles.Ladder):  # 3
    def target(self, clean, layer):
        return clean.h[layer][1]


class NoiseBeforeNormalisation(oracles.Ladder):  # 4
    def noisy(self, halves, noise):
        noisy = [a + n for a, n in zip(halves, noise, strict=True)]
        moments = self.statistics(noisy)
        return [self.normalise(a, m) for a, m in zip(noisy, moments, strict=True)], moments


class NoNoiseOnTop(oracles.Ladder):  # 4
    def encode(self, halves, noise=None):
        if noise is not None:
            noise = [[*half[:-1], 0 * half[-1]] for half in noise]
        return super().encode(halves, noise)


class LogitsIntoTheDecoder(oracles.Ladder):  # 5
    def from_above(self, corrupted):
        return self.logits(corrupted.z[self.top][1])


class CleanSoftmaxIntoTheDecoder(oracles.Ladder):
    def __call__(self, labelled, labels, unlabelled, noise, **kwargs):
        self.clean_softmax = self.encode([labelled, unlabelled]).h[self.top][1]
        return super().__call__(labelled, labels, unlabelled, noise, **kwargs)

    def from_above(self, corrupted):
        return self.clean_softmax


class NormalisedDownwards(oracles.Ladder):  # 6
    def passed_down(self, z_hat, z_hat_normalised):
        return z_hat_normalised


class NotRenormalised(oracles.Ladder):  # 7
    def renormalised(self, z_hat, clean_moments):
        return z_hat


class RenormalisedByItself(oracles.Ladder):  # 7
    def renormalised(self, z_hat, clean_moments):
        return self.normalise(z_hat, (z_hat.mean(axis=0), z_hat.var(axis=0)))


class DividedByTheVariance(oracles.Ladder):  # sec. 8.4, until October 2015
    def renormalised(self, z_hat, clean_moments):
        mean, variance = clean_moments
        return (z_hat - mean) / variance


class SummedOverTheUnits(oracles.Ladder):  # 8
    def distance(self, difference):
        return (difference**2).sum(axis=1).mean()


class GammaBeforeBeta(oracles.Ladder):  # 9
    def logits(self, z):
        return self.params.gamma * z + self.params.beta[-1]


class NoGamma(oracles.Ladder):  # 9
    def logits(self, z):
        return z + self.params.beta[-1]


class UnbiasedVariance(oracles.Ladder):
    def statistics(self, halves):
        return [(a.mean(axis=0), a.var(axis=0, ddof=1)) for a in halves]


class LargeEpsilon(oracles.Ladder):  # 10
    epsilon = 1e-5


MISTAKES = [
    JointStatistics,
    TargetAfterBeta,
    TargetAfterActivation,
    NoiseBeforeNormalisation,
    NoNoiseOnTop,
    LogitsIntoTheDecoder,
    CleanSoftmaxIntoTheDecoder,
    NormalisedDownwards,
    NotRenormalised,
    RenormalisedByItself,
    DividedByTheVariance,
    SummedOverTheUnits,
    GammaBeforeBeta,
    NoGamma,
    UnbiasedVariance,
]


def test_each_classical_mistake_would_change_the_cost(x64, noise):
    variables, batch = random_variables(), random_batch()
    loss = float(cost(variables, batch)[0])
    params = oracle_params(variables)
    right = total_cost(oracles.Ladder(params, NOISE_STD), batch, noise)
    assert loss == pytest.approx(right, rel=1e-8)
    changes = {
        mistake.__name__: abs(total_cost(mistake(params, NOISE_STD), batch, noise) - loss)
        for mistake in MISTAKES
    }
    # 10,000 times the agreement above.
    assert {name: change for name, change in changes.items() if change < 1e-4 * loss} == {}


def test_an_almost_dead_unit_is_normalised_like_any_other(x64, noise):
    # Pre-activations of variance 1e-6 of the usual: beside it 1e-5 is large, 1e-10 is not.
    variables, batch = random_variables(), random_batch()
    variables["params"]["encoder"]["W1"]["kernel"][:, 0] *= 1e-3
    _, extras, _ = autoencode(make_apply(), variables, batch)
    result = {}
    for oracle in (oracles.Ladder, LargeEpsilon):
        ladder = oracle(oracle_params(variables), NOISE_STD)
        result[oracle] = ladder(batch["x"], batch["y"], batch["unlabelled"], noise)
    np.testing.assert_allclose(extras["z"][1], result[oracles.Ladder].z[1], rtol=1e-9)
    assert np.std(extras["z"][1][:, 0]) == pytest.approx(1, abs=1e-3)
    assert np.std(result[LargeEpsilon].z[1][:, 0]) < 0.5


def test_a_constant_pixel_and_a_dead_unit_stay_finite_in_float32():
    variables, batch = jax.tree.map(jnp.float32, random_variables()), random_batch()
    variables["params"]["encoder"]["W1"]["kernel"] *= jnp.ones((1, 7)).at[0, 0].set(0)
    batch |= {name: jnp.float32(batch[name]).at[:, 0].set(0) for name in ("x", "unlabelled")}

    value, gradient = cost_and_gradient(variables, batch)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))


# Gradients.


class FrozenTargets(oracles.Ladder):
    """What a stop-gradient on the clean pass would differentiate: z and moments are constants."""

    frozen = None

    def __call__(self, labelled, labels, unlabelled, noise, **kwargs):
        self.frozen = self.frozen or self.encode([labelled, unlabelled])
        return super().__call__(labelled, labels, unlabelled, noise, **kwargs)

    def target(self, clean, layer):
        return super().target(self.frozen, layer)


class FrozenStatistics(FrozenTargets):
    """Targets are differentiated, the statistics that renormalise z_hat are not."""

    def target(self, clean, layer):
        return oracles.Ladder.target(self, clean, layer)

    def __call__(self, *args, **kwargs):
        self.layer = self.top
        return super().__call__(*args, **kwargs)

    def renormalised(self, z_hat, clean_moments):
        layer, self.layer = self.layer, self.layer - 1
        return self.normalise(z_hat, self.frozen.moments[layer][1])


def numerical_gradients(oracle_type, variables, batch, noise, only=""):
    """d cost / d parameter, by central differences of the NumPy version: {name: f64[...]}.

    only: what the parameters' names begin with.
    """
    params = oracle_params(variables)
    oracle = oracle_type(params, NOISE_STD)
    total_cost(oracle, batch, noise)  # What is frozen is frozen here.
    gradients = {}

    def gradient(name, holder, index):
        if not name.startswith(only):
            return

        def cost(value):
            before, holder[index] = holder[index], value
            result = total_cost(oracle, batch, noise)
            holder[index] = before
            return result

        gradients[name] = oracles.numerical_gradient(cost, holder[index])

    for layer in range(1, TOP + 1):
        gradient(f"W{layer}", params.W, layer - 1)
        gradient(f"V{layer}", params.V, layer - 1)
        gradient(f"beta{layer}", params.beta, layer - 1)
    gradient("gamma", vars(params), "gamma")
    for layer in range(TOP + 1):
        for i in range(10):
            gradient(f"g{layer}.a{i + 1}", params.a[layer], i)
    return gradients


def test_gradients_flow_into_the_targets_and_their_statistics(x64, noise):
    variables, batch = random_variables(), random_batch()

    _, gradient = cost_and_gradient(variables, batch)
    found = {"gamma": gradient["encoder"]["gamma"]}
    for layer in range(1, TOP + 1):
        found[f"W{layer}"] = gradient["encoder"][f"W{layer}"]["kernel"]
        found[f"beta{layer}"] = gradient["encoder"][f"beta{layer}"]
        found[f"V{layer}"] = gradient["decoder"][f"V{layer}"]["kernel"]
    for layer in range(TOP + 1):
        found |= {f"g{layer}.{a}": g for a, g in gradient["decoder"][f"g{layer}"].items()}
    expected = numerical_gradients(oracles.Ladder, variables, batch, noise)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    for frozen in (FrozenTargets, FrozenStatistics):
        for name, value in numerical_gradients(frozen, variables, batch, noise, "W").items():
            assert np.abs(value - found[name]).max() > 0.01 * np.abs(found[name]).max()


# Noise.


def test_every_layer_and_half_draws_its_own_standard_normal_noise(monkeypatch):
    variables, draw = jax.tree.map(jnp.float32, random_variables()), MODULE.normal

    @jax.jit
    def drawn(x):
        draws = []
        monkeypatch.setattr(MODULE, "normal", lambda *args: draws.append(draw(*args)) or draws[-1])
        make_apply()(variables, x, x, x, key=jax.random.key(0), method="autoencode")
        return tuple(draws)

    recorded = drawn(jnp.ones((300, INPUTS)))
    assert [noise.shape for noise in recorded] == [(2, 300, units) for units in WIDTHS]
    columns = np.concatenate([np.moveaxis(n, 1, 2).reshape(-1, 300) for n in recorded])
    assert scipy.stats.kstest(columns.ravel(), "norm").pvalue > 1e-3
    # No column repeats another: of 861 pairs of 300 numbers, |r| > .25 (4.3 sd) in none.
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlation).max() < 0.25


def test_noise_std_of_a_layer_is_added_at_that_layer_alone(noise):
    # Layer 0 is the input itself; without other noise nothing else changes z there.
    variables, batch = jax.tree.map(jnp.float32, random_variables()), random_batch()
    x = jnp.float32(batch["x"])
    for layer in range(TOP + 1):
        noise_std = [0.0] * (TOP + 1)
        noise_std[layer] = 0.5
        apply = make_apply(noise_std=noise_std)
        z = apply(variables, x, key=jax.random.key(0), method="corrupted").extras["z"]
        quiet = make_apply(noise_std=(0.0,) * (TOP + 1))
        z_clean = quiet(variables, x, key=jax.random.key(0), method="corrupted").extras["z"]
        for below in range(layer):
            np.testing.assert_array_equal(z[below], z_clean[below])
        added = np.float32(0.5) * noise[0][layer]
        np.testing.assert_allclose(z[layer] - z_clean[layer], added, atol=1e-5)


def test_the_corrupted_pass_of_an_attack_is_the_labelled_half_of_training(x64, noise):
    variables, batch, apply = random_variables(), random_batch(), make_apply()
    oracle = oracles.Ladder(oracle_params(variables), NOISE_STD)
    expected = oracle(batch["x"], batch["y"], batch["unlabelled"], noise)
    output = apply(variables, batch["x"], train=True, key=jax.random.key(0), method="corrupted")
    np.testing.assert_allclose(output.logits, expected.corrupted_logits, rtol=1e-9)
    for layer in range(TOP + 1):
        z = expected.corrupted.z[layer][0]
        np.testing.assert_allclose(output.extras["z"][layer], z, rtol=1e-9)


# Initial values, sizes, shapes.


def test_the_full_network_has_the_parameters_of_the_document():
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


def initial(model, x):
    return jax.jit(lambda key: models.init(model, key, x))(jax.random.key(3))


def test_at_the_beginning_every_reconstruction_is_zero():
    model = models.ladder(features=FEATURES, noise_std=NOISE_STD)
    batch = {name: jnp.asarray(array) for name, array in random_batch().items()}
    variables = initial(model, batch["x"])
    _, extras, _ = autoencode(models.apply_fn(model), variables, batch)
    np.testing.assert_array_equal(extras["z_hat"][0], 0)
    # Above the input, 0 is renormalised by the mean and variance of the clean pre-activations,
    # which the oracle knows.
    oracle = oracles.Ladder(oracle_params(variables), NOISE_STD)
    clean = oracle.encode([np.float64(batch["x"]), np.float64(batch["unlabelled"])])
    for layer in range(1, TOP + 1):
        mean, variance = clean.moments[layer][1]
        expected = np.broadcast_to(-mean / np.sqrt(variance + 1e-10), (BATCH, WIDTHS[layer]))
        np.testing.assert_allclose(extras["z_hat"][layer], expected, rtol=1e-4, atol=1e-5)


def test_matrices_begin_with_variance_one_over_their_inputs_and_beta_gamma_with_zero_one():
    model = models.ladder(features=(400, 300, 10), noise_std=NOISE_STD)
    params = initial(model, jnp.zeros((2, 200)))["params"]
    encoder, decoder = params["encoder"], params["decoder"]
    for kernel in (encoder["W1"], encoder["W2"], decoder["V1"], decoder["V2"]):
        scaled = np.asarray(kernel["kernel"]) * np.sqrt(kernel["kernel"].shape[0])
        assert scipy.stats.kstest(scaled.ravel()[::7], "norm").pvalue > 1e-3
    for layer in (1, 2, 3):
        np.testing.assert_array_equal(encoder[f"beta{layer}"], 0)
    np.testing.assert_array_equal(encoder["gamma"], 1)
    for i, a in ((i, decoder["g1"][f"a{i}"]) for i in range(1, 11)):
        np.testing.assert_array_equal(a, 1 if i in (2, 7) else 0)
    # Not tied, and no two matrices from one draw.
    assert np.abs(encoder["W2"]["kernel"].T - decoder["V2"]["kernel"]).max() > 0.1


def test_images_of_any_rank_are_flattened_in_every_pass(noise):
    variables, batch = jax.tree.map(jnp.float32, random_variables()), random_batch()
    apply, x, u = make_apply(), jnp.float32(batch["x"]), jnp.float32(batch["unlabelled"])
    image = lambda x: x.reshape(BATCH, 2, 3, 1)
    flat = autoencode(apply, variables, {"x": x, "unlabelled": u})
    images = autoencode(apply, variables, {"x": image(x), "unlabelled": image(u)})
    np.testing.assert_array_equal(images.logits, flat.logits)
    np.testing.assert_array_equal(images.extras["z_hat"][0], flat.extras["z_hat"][0])
    np.testing.assert_array_equal(apply(variables, image(x)).logits, apply(variables, x).logits)


@pytest.mark.parametrize("noise_std", [(0.3,) * 3, (0.3,) * 5, ()])
def test_a_noise_for_another_number_of_layers_is_refused_by_name(noise_std):
    model = models.ladder(features=FEATURES, noise_std=noise_std)
    words = f"model.noise_std has {len(noise_std)} entries; allowed are 4"
    with pytest.raises(ValueError, match=words):
        models.init(model, jax.random.key(0), jnp.zeros((2, INPUTS)))


# What no cost reads is not computed.


def products(fn, *args):
    """Output shapes of the matrix products in the compiled fn, sorted."""
    # What is dead is dropped at any level; the lowest one compiles fastest.
    options = {"xla_backend_optimization_level": 0}
    text = jax.jit(fn).lower(*args).compile(options).as_text()
    assert "custom-call" not in text  # A product might hide behind one.
    return sorted(
        tuple(map(int, shape.split(",")))
        for shape in re.findall(r"= f32\[([\d,]+)\]\S* dot\(", text)
    )


def gradient_products(weights, bottom=0):
    variables = jax.tree.map(jnp.float32, random_variables())
    for layer in range(bottom):
        del variables["params"]["decoder"][f"V{layer + 1}"]
        del variables["params"]["decoder"][f"g{layer}"]
    batch = {name: jnp.asarray(array) for name, array in random_batch().items()}
    apply = make_apply(bottom=bottom)

    def loss(params, batch, key):
        return objectives.ladder(
            apply, {**variables, "params": params}, batch, key=key, weights=weights
        )[0]

    return products(jax.grad(loss), variables["params"], batch, jax.random.key(0))


def expected_products(*, lowest):
    """Shapes of the products that the formula needs when `lowest` is the lowest cost's layer.

    Forward: W h in the corrupted pass of both halves and in the clean pass of one, V z_hat down
    to `lowest`. Backward: for each of them the gradient by the matrix and, except at the input,
    by the vector. The clean pass of the labelled half is not among them.
    """
    needed = []
    for layer in range(1, TOP + 1):
        below, units = WIDTHS[layer - 1], WIDTHS[layer]
        for batch in ((2, BATCH), (BATCH,)):
            needed += [(*batch, units), {below, units}]
            needed += [(*batch, below)] if layer > 1 else []
        if layer > lowest:
            needed += [(BATCH, below), {below, units}, (BATCH, units)]
    return needed


def assert_same_products(found, needed):
    # XLA may compute the transposed gradient of a matrix, or flatten the two halves.
    plain = lambda shape: tuple(sorted(shape)) if isinstance(shape, set) else shape
    canonical = lambda shape: (2 * BATCH, shape[2]) if len(shape) == 3 else shape
    unordered = lambda shapes: sorted(tuple(sorted(canonical(plain(s)))) for s in shapes)
    assert unordered(found) == unordered(needed)


@pytest.mark.parametrize("bottom", [0, TOP])
def test_a_cost_on_top_alone_compiles_to_no_product_of_the_decoder(bottom):
    weights = (0.0,) * TOP + (2.0,)
    assert_same_products(gradient_products(weights, bottom), expected_products(lowest=TOP))


def test_the_decoder_stops_at_the_lowest_layer_with_a_cost():
    assert_same_products(gradient_products((0, 0, 1.0, 1.0)), expected_products(lowest=2))


def test_the_full_cost_compiles_to_no_product_of_the_labelled_clean_pass():
    found = gradient_products(WEIGHTS)
    assert_same_products(found, expected_products(lowest=0))
    assert len(found) == 9 * TOP - 2


def test_the_gamma_model_reconstructs_its_top_alone(x64, noise):
    variables, batch = random_variables(), random_batch()
    expected = oracles.Ladder(oracle_params(variables), NOISE_STD)(
        batch["x"], batch["y"], batch["unlabelled"], noise
    )
    for layer in range(TOP):
        del variables["params"]["decoder"][f"V{layer + 1}"]
        del variables["params"]["decoder"][f"g{layer}"]
    _, extras, _ = autoencode(make_apply(bottom=TOP), variables, batch)
    assert extras["z"].keys() == extras["z_hat"].keys() == {TOP}
    loss, _ = cost(variables, batch, weights=(0, 0, 0, 2.0), bottom=TOP)
    assert float(loss) == pytest.approx(expected.supervised + 2 * expected.C[TOP], rel=1e-8)
    # It has no parameters below either.
    model = models.ladder(features=FEATURES, noise_std=NOISE_STD, bottom=TOP)
    fresh = initial(model, jnp.zeros((2, INPUTS)))
    assert fresh["params"]["decoder"].keys() == {f"g{TOP}"}


# The clean path.


def test_a_clean_training_pass_stores_the_mean_and_the_unbiased_variance(x64):
    variables, batch = random_variables(), random_batch()
    oracle = oracles.Ladder(oracle_params(variables), NOISE_STD)
    clean = oracle.encode([batch["x"], batch["unlabelled"]])
    logits, extras, state = make_apply()(variables, batch["x"], train=True)
    np.testing.assert_allclose(logits, oracle.logits(clean.z[TOP][0]), rtol=1e-9)
    for layer in range(1, TOP + 1):
        np.testing.assert_allclose(extras["z"][layer], clean.z[layer][0], rtol=1e-9)
        mean, variance = clean.moments[layer][0]
        stats = state["batch_stats"]
        np.testing.assert_allclose(stats[f"mean{layer}"], mean, rtol=1e-9)
        # m / (m - 1), m the number of images.
        corrected = variance * BATCH / (BATCH - 1)
        np.testing.assert_allclose(stats[f"var{layer}"], corrected, rtol=1e-9)


def test_the_training_passes_leave_the_stored_statistics_alone():
    variables = jax.tree.map(jnp.float32, random_variables())
    batch = {name: jnp.asarray(array) for name, array in random_batch().items()}
    _, (state, _) = cost(variables, batch)
    jax.tree.map(np.testing.assert_array_equal, state["batch_stats"], variables["batch_stats"])


def test_a_test_image_is_classified_by_the_clean_path_on_stored_statistics(x64):
    variables, batch = random_variables(), random_batch()
    stats = variables["batch_stats"]
    oracle = oracles.Ladder(oracle_params(variables), NOISE_STD)
    layers = range(1, TOP + 1)
    expected = oracle.classify(
        batch["x"], [stats[f"mean{i}"] for i in layers], [stats[f"var{i}"] for i in layers]
    )
    apply = make_apply()
    logits, _, state = apply(variables, batch["x"])  # No key: no noise is drawn.
    np.testing.assert_allclose(logits, expected, rtol=1e-9)
    assert not state
    # A row's answer does not depend on its neighbours.
    np.testing.assert_allclose(apply(variables, batch["x"][:1]).logits, expected[:1], rtol=1e-9)


def small_experiment(dataset, *, batch_size):
    """An experiment with the ladder of this file, on any small data set."""
    return Experiment(
        {
            "seed": 0,
            "replicas": {"seeds": 1, "grid": None, "shards": 1},
            "data": {"num_valid": 0, "num_labels": 0},
            "model": {"name": "ladder", "features": FEATURES, "noise_std": NOISE_STD},
            "objective": {"name": "ladder", "weights": WEIGHTS},
            "optimizer": {"name": "adam", "learning_rate": 0.002},
            "batch_size": batch_size,
            "patience": 0,
            "evaluation": {"attacks": {}, "eps": ()},
        },
        dataset,
    )


@pytest.mark.parametrize(
    ("labelled", "batch_size"), [((3, 1, 4, 15, 9, 2, 6, 5), 4), ((8, 7, 0, 12, 11), 8)]
)
def test_test_statistics_are_plain_averages_over_the_labelled_batches(x64, labelled, batch_size):
    rng = np.random.default_rng(5)
    x = rng.uniform(size=(16, INPUTS))
    y = np.arange(16, dtype=np.int32) % 3
    dataset = Dataset("none", "none", {}, Arrays(x, y), Arrays(x, y), 3, (0, 1))
    variables = random_variables()
    found = small_experiment(dataset, batch_size=batch_size).test_variables(
        variables, {"x": jnp.asarray(x), "y": jnp.asarray(y)}, {"labelled": jnp.array(labelled)}
    )
    # The first 4 and the next 4 labelled rows; or all 5, as there are fewer than a batch.
    batches = [labelled[:4], labelled[4:]] if batch_size == 4 else [labelled]
    oracle = oracles.Ladder(oracle_params(variables), NOISE_STD)
    moments = [oracle.encode([x[list(rows)]] * 2).moments for rows in batches]
    for layer in range(1, TOP + 1):
        mean = np.mean([m[layer][0][0] for m in moments], axis=0)
        corrected = [
            m[layer][0][1] * len(rows) / (len(rows) - 1)
            for m, rows in zip(moments, batches, strict=True)
        ]
        stats = found["batch_stats"]
        np.testing.assert_allclose(stats[f"mean{layer}"], mean, rtol=1e-9)
        np.testing.assert_allclose(stats[f"var{layer}"], np.mean(corrected, axis=0), rtol=1e-9)
    jax.tree.map(np.testing.assert_array_equal, found["params"], variables["params"])


# Settings that do not fit.


@pytest.mark.parametrize("bottom", [-1, TOP + 1])
def test_a_bottom_outside_the_layers_is_refused(bottom):
    model = models.ladder(features=FEATURES, noise_std=NOISE_STD, bottom=bottom)
    with pytest.raises(ValueError, match=f"model.bottom is {bottom}; allowed are 0 to {TOP}"):
        initial(model, jnp.zeros((2, INPUTS)))


def test_a_weight_below_the_bottom_is_refused():
    with pytest.raises(ValueError, match=r"objective.weights is \(1, 0, 0, 1\); .* layer 3"):
        cost(random_variables(), random_batch(), weights=(1, 0, 0, 1), bottom=TOP)


def test_a_batch_of_one_row_is_refused():
    variables, batch = random_variables(), random_batch()
    with pytest.raises(ValueError, match="batch_size is 1"):
        make_apply()(variables, batch["x"][:1], train=True)

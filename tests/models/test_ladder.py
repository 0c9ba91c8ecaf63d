"""models.ladder with objectives.ladder: against NumPy in float64, layer by layer."""

import functools
import importlib
import re
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.stats

from adv_jax import attacks, models, objectives
from adv_jax.data import Arrays, Dataset
from adv_jax.runner.experiment import Experiment

MODULE = importlib.import_module("adv_jax.models.ladder")  # The package's name is the class.
KEY = jax.random.key(0)
BATCH = 8
GAUSS = [f"a{i}" for i in range(1, 11)]
SIG = ["a1", "a2", "a3", "a4", "b1", "c1", "c2", "c3", "c4"]


class Net(NamedTuple):
    """A ladder: its settings, and the shapes of the layers 0..L.

    No two shapes are equal, so that the shape of a noise tells its layer.
    """

    layers: str
    shapes: tuple[tuple[int, ...], ...]
    activation: str = "relu"
    scale_softmax: bool = True
    denoising: str = "gauss"

    @property
    def top(self):
        return len(self.shapes) - 1

    @property
    def noise_std(self):
        return tuple(0.4 - 0.03 * layer for layer in range(self.top + 1))

    @property
    def weights(self):
        """Of the costs: those of a whole ladder, or of what is reconstructed."""
        return tuple(1.5 / (2 * i + 1) if word else 0.0 for i, word in enumerate(self.words))

    @property
    def words(self):
        """The denoising function of each layer 0..L, None for "0"."""
        words = self.denoising.split("-")
        words = words * (self.top + 1) if len(words) == 1 else words
        return [None if word == "0" else word for word in words]

    @property
    def specs(self):
        """(kind, *numbers) of each layer 1..L."""
        words = [word.split(":") for word in self.layers.split("-")]
        return [
            (kind, *map(int, numbers)) if kind.isalpha() else ("fc", int(kind))
            for kind, *numbers in words
        ]

    @property
    def gamma_model(self):
        return self._replace(denoising="0-" * self.top + "gauss")


FC = Net("7-fc:5-3", ((6,), (7,), (5,), (3,)))
# Like Conv-Small: full and valid, a pool of 5 x 4 pixels, a matrix above the mean over all pixels.
SMALL = Net(
    "convf:3:2:1:1-maxpool:2:2-convv:4:2:1:1-globalmeanpool:2:1-fc:3",
    ((4, 3, 2), (5, 4, 3), (3, 2, 3), (2, 1, 4), (4,), (3,)),
    denoising="gauss-sig-sig-gauss-gauss-sig",
)
# Like Conv-Large: it ends on the mean over all pixels, leaks, and scales no softmax.
LARGE = Net(
    "convv:3:2:1:1-convf:4:3:1:1-maxpool:2:2-convv:5:2:1:1-convv:3:1:1:1-globalmeanpool:0",
    ((6, 4, 2), (5, 3, 3), (7, 5, 4), (4, 3, 4), (3, 2, 5), (3, 2, 3), (3,)),
    activation="leaky_relu",
    scale_softmax=False,
)
NETS = {
    "fc": FC,
    "fc-sig": FC._replace(denoising="sig"),
    "fc-gamma": FC.gamma_model,
    "fc-upper": FC._replace(denoising="0-0-sig-gauss"),
    "small": SMALL,
    "small-gamma": SMALL.gamma_model,
    "large": LARGE,
    "large-gamma": LARGE.gamma_model,
}


def nets(*names):
    return pytest.mark.parametrize("net", [NETS[name] for name in names or NETS], ids=names or NETS)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def random_variables(net=FC, seed=0):
    """Variables f64 of which none has its initial value."""
    rng = np.random.default_rng(seed)

    def kernel(*shape):
        return {"kernel": rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))}

    encoder, decoder, stats = {}, {}, {}
    for layer, ((kind, *numbers), below, here) in enumerate(
        zip(net.specs, net.shapes, net.shapes[1:], strict=False), start=1
    ):
        if kind == "fc":
            encoder[f"W{layer}"] = kernel(np.prod(below), *here)
            decoder[f"V{layer}"] = kernel(*here, np.prod(below))
        elif kind in ("convv", "convf"):
            size = numbers[1]
            encoder[f"W{layer}"] = kernel(size, size, below[-1], here[-1])
            decoder[f"V{layer}"] = kernel(size, size, here[-1], below[-1])
        if "pool" not in kind or layer == net.top:
            encoder[f"beta{layer}"] = rng.normal(0, 0.3, size=here[-1])
        if net.words[layer - 1] is None:
            decoder.pop(f"V{layer}", None)
        stats[f"mean{layer}"] = rng.normal(size=here[-1])
        stats[f"var{layer}"] = rng.uniform(0.5, 2, size=here[-1])
    if net.scale_softmax:
        encoder["gamma"] = rng.normal(1, 0.3, size=net.shapes[-1])
    for layer, (word, shape) in enumerate(zip(net.words, net.shapes, strict=True)):
        if word:
            names = {"gauss": GAUSS, "sig": SIG}[word]
            decoder[f"g{layer}"] = {name: rng.normal(0, 0.6, size=shape[-1]) for name in names}
    return {"params": {"encoder": encoder, "decoder": decoder}, "batch_stats": stats}


def random_batch(net=FC, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.uniform(size=(BATCH, *net.shapes[0])),
        "y": rng.integers(0, *net.shapes[-1], size=BATCH),
        # Another distribution: joint batch statistics would differ from separate ones.
        "unlabelled": 2 * rng.uniform(size=(BATCH, *net.shapes[0])) ** 2 + 0.5,
    }


def in_float32(variables, batch):
    arrays = {name: jnp.asarray(array) for name, array in batch.items()}
    narrow = lambda a: jnp.float32(a) if jnp.issubdtype(a.dtype, jnp.floating) else a
    return jax.tree.map(narrow, (variables, arrays))


def oracle_params(variables, net=FC):
    variables = jax.tree.map(lambda a: np.array(a, np.float64), variables)
    encoder, decoder = (variables["params"].get(part, {}) for part in ("encoder", "decoder"))
    layers = range(1, net.top + 1)
    return SimpleNamespace(
        kinds=[kind for kind, *_ in net.specs],
        W=[encoder.get(f"W{layer}", {}).get("kernel") for layer in layers],
        V=[decoder.get(f"V{layer}", {}).get("kernel") for layer in layers],
        beta=[encoder.get(f"beta{layer}") for layer in layers],
        gamma=encoder.get("gamma", 1.0),
        g=[decoder.get(f"g{layer}") for layer in range(net.top + 1)],
        slope={"relu": 0, "leaky_relu": 0.1}[net.activation],
    )


def noise_of(net=FC):
    """What `fix_noise` makes a net draw: of each half the L+1 arrays f64[B, *S_l]."""
    rng = np.random.default_rng(2)
    return [[rng.normal(size=(BATCH, *shape)) for shape in net.shapes] for _ in range(2)]


def fix_noise(monkeypatch, net=FC):
    halves = noise_of(net)

    def draws(key, shape, *, first):
        if shape[1:] in net.shapes:  # of one half
            return jnp.asarray(halves[first][net.shapes.index(shape[1:])])
        layer = net.shapes.index(shape[2:])
        return jnp.stack([half[layer] for half in halves[first : first + shape[0]]])

    monkeypatch.setattr(MODULE, "draws", draws)


def make_apply(net=FC, **settings):
    return models.apply_fn(module(net, **settings))


def module(net, **settings):
    names = ("layers", "activation", "noise_std", "denoising", "scale_softmax")
    return models.ladder(**{name: getattr(net, name) for name in names} | settings)


def compiled(fn):
    """In half the time: these programs run once."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(fn, compiler_options=options)


def initial(net, **settings):
    x = jnp.zeros((2, *net.shapes[0]))
    init = lambda key: models.init(module(net, **settings), key, x)
    return compiled(init)(jax.random.key(3))


def autoencode(apply, variables, batch, key=KEY):
    x, u = batch["x"], batch["unlabelled"]
    return apply(variables, x, u, u, train=True, key=key, method="autoencode")


def on_batch(apply, variables, x, key=KEY, **options):
    return apply(variables, x, train=True, key=key, method="on_batch", **options)


def cost(apply, weights, variables, batch, **options):
    return objectives.ladder(apply, variables, batch, key=KEY, weights=weights, **options)


def cost_and_gradient(net, variables, batch):
    """Loss and its gradient by the parameters."""

    def loss(params):
        return cost(make_apply(net), net.weights, {**variables, "params": params}, batch)[0]

    return compiled(jax.value_and_grad(loss))(variables["params"])


def oracle_of(variables, net=FC, kind=oracles.Ladder):
    return kind(oracle_params(variables, net), net.noise_std)


def total_cost(oracle, batch, net=FC):
    result = oracle(batch["x"], batch["y"], batch["unlabelled"], noise_of(net))
    return result.supervised + sum(net.weights[layer] * c for layer, c in result.C.items())


class Run(NamedTuple):
    """A training pass in float64 with the noise of `noise_of`, and the NumPy version of it."""

    output: tuple
    loss: float
    metrics: dict
    expected: SimpleNamespace


@functools.cache
def run_of(net=FC):
    variables, batch, apply = random_variables(net), random_batch(net), make_apply(net)
    both = lambda *args: (autoencode(apply, *args), cost(apply, net.weights, *args))
    with pytest.MonkeyPatch.context() as monkeypatch, jax.enable_x64(True):
        fix_noise(monkeypatch, net)
        output, (loss, (_, metrics)) = compiled(both)(variables, batch)
    oracle = oracle_of(variables, net)
    expected = oracle(batch["x"], batch["y"], batch["unlabelled"], noise_of(net))
    return Run(output, float(loss), jax.tree.map(float, metrics), expected)


# The whole pass and its costs.


@nets()
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


@pytest.mark.parametrize("noise_std", [(0.3, 0.0, 0.0, 0.0), (0.0, 0.5, 0.5, 0.5)])
def test_the_input_and_the_layers_have_each_their_own_noise(x64, monkeypatch, noise_std):
    variables, batch = random_variables(), random_batch()
    oracle = oracles.Ladder(oracle_params(variables), noise_std)
    expected = oracle(batch["x"], batch["y"], batch["unlabelled"], noise_of())
    fix_noise(monkeypatch)
    apply = make_apply(noise_std=noise_std)
    logits, extras, _ = compiled(partial(autoencode, apply))(variables, batch)
    np.testing.assert_allclose(logits, expected.corrupted_logits, rtol=1e-9)
    for layer, z_hat in extras["z_hat"].items():
        np.testing.assert_allclose(z_hat, expected.z_hat[layer], rtol=1e-8)


def test_each_layer_has_its_own_cost_as_in_the_numpy_version(x64, monkeypatch):
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


def test_the_accuracy_is_that_of_the_corrupted_labelled_half():
    run = run_of()
    hits = run.expected.corrupted_logits.argmax(axis=1) == random_batch()["y"]
    assert 0 < hits.mean() < 1
    assert run.metrics["accuracy"] == pytest.approx(hits.mean())


def test_float32_agrees_with_float64(monkeypatch):
    fix_noise(monkeypatch)
    variables, batch = in_float32(random_variables(), random_batch())
    with jax.enable_x64(False):
        loss, _ = compiled(partial(cost, make_apply(), FC.weights))(variables, batch)
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(run_of().loss, rel=1e-4)


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


# What reimplementations of the program of [rasmus2015] get wrong. Targets without a gradient are
# among the gradients below, noise on the input among the noises, and prediction by the corrupted
# pass among the tests of the clean path.


class JointStatistics(oracles.Ladder):
    def statistics(self, halves):
        return super().statistics([np.concatenate(halves)]) * len(halves)


class TargetAfterBeta(oracles.Ladder):
    def target(self, clean, layer):
        return clean.z[layer][1] + (self.params.beta[layer - 1] if layer else 0)


class TargetAfterActivation(oracles.Ladder):
    def target(self, clean, layer):
        return clean.h[layer][1]


class NoiseBeforeNormalisation(oracles.Ladder):
    def noisy(self, halves, noise, moments=None):
        noisy = [a + n for a, n in zip(halves, noise, strict=True)]
        return super().noisy(noisy, [0, 0], moments)


class NoNoiseOnTop(oracles.Ladder):
    def encode(self, halves, noise=None):
        if noise is not None:
            noise = [[*half[:-1], 0 * half[-1]] for half in noise]
        return super().encode(halves, noise)


class NoNoiseOnPooling(oracles.Ladder):
    def encode(self, halves, noise=None):
        if noise is not None:
            noisy = [True, *("pool" not in kind for kind in self.params.kinds)]
            noise = [[n * on for n, on in zip(half, noisy, strict=True)] for half in noise]
        return super().encode(halves, noise)


class LogitsIntoTheDecoder(oracles.Ladder):
    def from_above(self, corrupted):
        return self.logits(corrupted.z[self.top][1])


class CleanSoftmaxIntoTheDecoder(oracles.Ladder):
    def __call__(self, labelled, labels, unlabelled, noise, **kwargs):
        self.clean_softmax = self.encode([labelled, unlabelled]).h[self.top][1]
        return super().__call__(labelled, labels, unlabelled, noise, **kwargs)

    def from_above(self, corrupted):
        return self.clean_softmax


class NormalisedDownwards(oracles.Ladder):
    def passed_down(self, z_hat, z_hat_normalised):
        return z_hat_normalised


class NotRenormalised(oracles.Ladder):
    def renormalised(self, z_hat, clean_moments):
        return z_hat


class RenormalisedByItself(oracles.Ladder):
    def renormalised(self, z_hat, clean_moments):
        return self.normalise(z_hat, self.statistics([z_hat])[0])


class DividedByTheVariance(oracles.Ladder):  # as that program until October 2015
    def renormalised(self, z_hat, clean_moments):
        mean, variance = clean_moments
        return (z_hat - mean) / variance


class SummedOverTheUnits(oracles.Ladder):
    def distance(self, difference):
        return (difference**2).sum(axis=tuple(range(1, difference.ndim))).mean()


class DividedByTheMaps(oracles.Ladder):
    def distance(self, difference):
        return super().distance(difference) * difference[0].size / difference.shape[-1]


class GammaBeforeBeta(oracles.Ladder):
    def logits(self, z):
        return self.params.gamma * z + self.params.beta[-1]


class NoGamma(oracles.Ladder):
    def logits(self, z):
        return z + self.params.beta[-1]


class UnbiasedVariance(oracles.Ladder):
    def statistics(self, halves):
        axes = tuple(range(halves[0].ndim - 1))
        return [(a.mean(axis=axes), a.var(axis=axes, ddof=1)) for a in halves]


class StatisticsOfEachPixel(oracles.Ladder):
    def statistics(self, halves):
        return [(a.mean(axis=0), a.var(axis=0)) for a in halves]


class ActivationOnPooling(oracles.Ladder):
    def activation(self, z, layer):
        h = super().activation(z, layer)
        return np.maximum(h, 0) if layer < self.top else h


class MeanWithoutFactor(oracles.Ladder):
    def mean(self, images):
        return images.mean(axis=(1, 2))


class UnpooledIntoOnePixel(oracles.Ladder):
    def unpooled(self, z_hat, shape):
        return super().unpooled(z_hat, shape) * (np.indices(shape)[1:3] % 2 == 0).all(axis=0)


class LargeEpsilon(oracles.Ladder):
    epsilon = 1e-5


ANYWHERE = [
    JointStatistics,
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
OF_IMAGES = [
    NoNoiseOnPooling,
    DividedByTheMaps,
    StatisticsOfEachPixel,
    ActivationOnPooling,
    MeanWithoutFactor,
    UnpooledIntoOnePixel,
]


@pytest.mark.parametrize(
    ("net", "mistakes"), [(FC, [*ANYWHERE, TargetAfterBeta]), (SMALL, ANYWHERE + OF_IMAGES)]
)
def test_each_classical_mistake_would_change_the_cost(net, mistakes):
    variables, batch, loss = random_variables(net), random_batch(net), run_of(net).loss
    cost_of = lambda kind: total_cost(oracle_of(variables, net, kind), batch, net)
    changes = {mistake.__name__: abs(cost_of(mistake) - loss) for mistake in mistakes}
    # 10,000 times the agreement of the tests above.
    assert {name: change for name, change in changes.items() if change < 1e-4 * loss} == {}


def test_an_almost_dead_unit_is_normalised_like_any_other(x64):
    # Pre-activations of variance 1e-6 of the usual: beside it 1e-5 is large, 1e-10 is not.
    variables, batch = random_variables(), random_batch()
    variables["params"]["encoder"]["W1"]["kernel"][:, 0] *= 1e-3
    _, extras, _ = compiled(partial(autoencode, make_apply()))(variables, batch)
    right, wrong = (
        oracle_of(variables, FC, kind).encode([batch["x"], batch["unlabelled"]]).z[1][1]
        for kind in (oracles.Ladder, LargeEpsilon)
    )
    np.testing.assert_allclose(extras["z"][1], right, rtol=1e-9)
    assert np.std(extras["z"][1][:, 0]) == pytest.approx(1, abs=1e-3)
    assert np.std(wrong[:, 0]) < 0.5


def test_a_constant_pixel_and_a_dead_unit_stay_finite_in_float32(monkeypatch):
    fix_noise(monkeypatch)
    variables, batch = in_float32(random_variables(), random_batch())
    kernel = variables["params"]["encoder"]["W1"]["kernel"]
    variables["params"]["encoder"]["W1"]["kernel"] = kernel.at[:, 0].set(0)
    batch |= {name: batch[name].at[:, 0].set(0) for name in ("x", "unlabelled")}
    value, gradient = cost_and_gradient(FC, variables, batch)
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


def numerical_gradients(kind, variables, batch, net, only=""):
    """d cost / d parameter, by central differences of the NumPy version: {name: f64[...]}.

    only: what the parameters' names begin with.
    """
    oracle = oracle_of(variables, net, kind)
    params = oracle.params
    total_cost(oracle, batch, net)  # What is frozen is frozen here.
    gradients = {}

    def gradient(name, holder, index):
        if not name.startswith(only):
            return

        def cost(value):
            before, holder[index] = holder[index], value
            result = total_cost(oracle, batch, net)
            holder[index] = before
            return result

        gradients[name] = oracles.numerical_gradient(cost, holder[index])

    for layer in range(1, net.top + 1):
        for name in ("W", "V", "beta"):
            if vars(params)[name][layer - 1] is not None:
                gradient(f"{name}{layer}", vars(params)[name], layer - 1)
    if net.scale_softmax:
        gradient("gamma", vars(params), "gamma")
    for layer, g in enumerate(params.g):
        for name in g or ():
            gradient(f"g{layer}.{name}", g, name)
    return gradients


@nets("fc", "small", "large-gamma")
def test_gradients_flow_into_the_targets_and_their_statistics(x64, monkeypatch, net):
    variables, batch = random_variables(net), random_batch(net)
    fix_noise(monkeypatch, net)
    _, gradient = cost_and_gradient(net, variables, batch)
    found = {}
    for name, value in (gradient["encoder"] | gradient["decoder"]).items():
        if name.startswith("g") and isinstance(value, dict):
            found |= {f"{name}.{a}": g for a, g in value.items()}
        else:
            found[name] = value["kernel"] if isinstance(value, dict) else value
    expected = numerical_gradients(oracles.Ladder, variables, batch, net)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    for frozen in (FrozenTargets, FrozenStatistics):
        for name, value in numerical_gradients(frozen, variables, batch, net, "W1").items():
            assert np.abs(value - found[name]).max() > 0.01 * np.abs(found[name]).max()


# Noise, and the two halves.


@pytest.fixture
def drawn(monkeypatch):
    """run -> the noise, as it is, that the model draws in it: a tuple of f32[*G, B, *S_l]."""
    draws = MODULE.draws

    def record(run):
        def recorded():
            noise = []
            keep = lambda *args, **kwargs: noise.append(draws(*args, **kwargs)) or noise[-1]
            monkeypatch.setattr(MODULE, "draws", keep)
            run()
            return tuple(noise)

        return compiled(recorded)()

    return record


def test_every_layer_and_half_draws_its_own_standard_normal_noise(drawn):
    variables, x = jax.tree.map(jnp.float32, random_variables()), jnp.ones((300, 6))
    recorded = drawn(lambda: autoencode(make_apply(), variables, {"x": x, "unlabelled": x}))
    assert [noise.shape for noise in recorded] == [(2, 300, *shape) for shape in FC.shapes]
    columns = np.concatenate([np.moveaxis(n, 1, 2).reshape(-1, 300) for n in recorded])
    assert scipy.stats.kstest(columns.ravel(), "norm").pvalue > 1e-3
    # No column repeats another: of 861 pairs of 300 numbers, |r| > .25 (4.3 sd) in none.
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlation).max() < 0.25


def test_a_half_draws_the_same_noise_whoever_is_beside_it(drawn):
    variables, batch = in_float32(random_variables(), random_batch())
    apply, x = make_apply(), batch["x"]
    both = drawn(lambda: autoencode(apply, variables, batch))
    labels_alone = make_apply(denoising="0")
    for half, run in [
        (0, lambda: autoencode(labels_alone, variables, batch)),
        (0, lambda: on_batch(apply, variables, x, noisy=True, half=0, frozen=False)),
        (1, lambda: on_batch(apply, variables, x, noisy=True, half=1, frozen=True)),
    ]:
        for alone, beside in zip(drawn(run), both, strict=True):
            np.testing.assert_array_equal(alone, beside[half])
    for labelled, unlabelled in both:
        assert np.abs(labelled - unlabelled).min() > 0
    assert drawn(lambda: on_batch(apply, variables, x, noisy=False, half=0, frozen=False)) == ()


@nets("fc", "small")
def test_on_batch_is_either_half_of_the_passes_of_training(x64, monkeypatch, net):
    variables, batch, expected = random_variables(net), random_batch(net), run_of(net).expected
    fix_noise(monkeypatch, net)

    @compiled
    def passes(variables, halves):
        run = partial(on_batch, make_apply(net), variables, frozen=False)
        each = lambda noisy: [run(x, noisy=noisy, half=half) for half, x in enumerate(halves)]
        return each(True), each(False)

    found = passes(variables, (batch["x"], batch["unlabelled"]))
    for halves, both in zip(found, (expected.corrupted, expected.clean), strict=True):
        for half, (logits, extras, state) in enumerate(halves):
            expected_logits = oracle_of(variables, net).logits(both.z[-1][half])
            np.testing.assert_allclose(logits, expected_logits, rtol=1e-8)
            for z, expected_z in zip(extras["z"], both.z, strict=True):
                np.testing.assert_allclose(z, expected_z[half], rtol=1e-8, atol=1e-10)
            # Nothing is stored.
            stats = variables["batch_stats"]
            jax.tree.map(np.testing.assert_array_equal, state["batch_stats"], stats)


def test_with_the_key_of_training_on_batch_has_its_labelled_logits():
    variables, batch = in_float32(random_variables(), random_batch())
    apply, keys = make_apply(), [jax.random.key(5), jax.random.key(6)]

    @compiled
    def both(variables, batch):
        run = partial(on_batch, apply, variables, noisy=True, half=0, frozen=False)
        trained = autoencode(apply, variables, batch, keys[0])
        return trained.logits, *(run(batch["x"], key).logits for key in keys)

    expected, same, other = both(variables, batch)
    np.testing.assert_allclose(same, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(other - expected).min() > 1e-3


def test_neither_half_sees_the_other():
    variables, batch = in_float32(random_variables(), random_batch())
    run = compiled(partial(autoencode, make_apply()))
    logits, extras, _ = run(variables, batch)
    of_labelled = run(variables, batch | {"unlabelled": batch["x"] ** 2})
    np.testing.assert_array_equal(of_labelled.logits, logits)
    of_unlabelled = run(variables, batch | {"x": batch["unlabelled"] + 1})
    jax.tree.map(np.testing.assert_array_equal, of_unlabelled.extras, extras)
    assert np.abs(of_unlabelled.logits - logits).min() > 0


@pytest.mark.parametrize(
    ("net", "noisy"), [(FC, True), (FC, False), (SMALL, True)], ids=["fc", "fc-clean", "small"]
)
def test_frozen_statistics_are_constants_of_a_rows_gradient(x64, monkeypatch, net, noisy):
    variables, batch = random_variables(net), random_batch(net)
    oracle, x, y = oracle_of(variables, net), batch["x"], batch["y"]
    noise = noise_of(net) if noisy else None
    fix_noise(monkeypatch, net)

    def numpy_loss(x, moments=None):
        z = oracle.encode([x, x], noise, moments).z[-1][1]
        return oracles.cross_entropies(oracle.logits(z), y).sum()

    def loss(x, frozen):
        apply = make_apply(net)
        logits = on_batch(apply, variables, x, noisy=noisy, half=1, frozen=frozen).logits
        return -jnp.sum(jax.nn.log_softmax(logits)[jnp.arange(BATCH), y])

    moments = oracle.encode([x, x], noise).moments
    expected = {
        False: oracles.numerical_gradient(numpy_loss, x),
        True: oracles.numerical_gradient(lambda x: numpy_loss(x, moments), x),
    }
    both = lambda x: {frozen: jax.value_and_grad(loss)(x, frozen) for frozen in (False, True)}
    for frozen, (value, by_x) in compiled(both)(x).items():
        assert float(value) == pytest.approx(numpy_loss(x), rel=1e-8)
        np.testing.assert_allclose(by_x, expected[frozen], rtol=1e-5, atol=1e-7)
    assert np.abs(expected[True] - expected[False]).max() > 0.1 * np.abs(expected[False]).max()


# Adversarial noise. What else objectives.ladder does with it, test_ladder_attack.py has.


def adversarial(oracle, x, labels, half, radius):
    """x + radius * direction of the gradient of the corrupted pass, in NumPy."""

    def loss(x):
        z = oracle.encode([x, x], noise_of()).z[-1][half]
        return oracles.cross_entropies(oracle.logits(z), labels).sum()

    gradient = oracles.numerical_gradient(loss, x)
    return x + radius * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)


def test_with_adversarial_noise_on_both_halves_the_cost_is_that_of_the_numpy_version(
    x64, monkeypatch
):
    fix_noise(monkeypatch)
    variables, batch, oracle = random_variables(), random_batch(), oracle_of(random_variables())
    x, y, u = batch["x"], batch["y"], batch["unlabelled"]
    options = {
        "attack": partial(attacks.fgsm, eps=0.2, norm="l2"),
        "unlabelled_attack": partial(attacks.fgsm, eps=0.1, norm="rms"),
    }
    loss, _ = compiled(partial(cost, make_apply(), FC.weights, **options))(variables, batch)
    virtual = oracle.logits(oracle.encode([x, u], noise_of()).z[-1][1]).argmax(axis=1)
    inputs = (
        adversarial(oracle, x, y, 0, 0.2),
        adversarial(oracle, u, virtual, 1, 0.1 * np.sqrt(6)),
    )
    expected = oracle(x, y, u, noise_of(), corrupted_inputs=inputs)
    total = expected.supervised + np.dot(FC.weights, list(expected.C.values())[::-1])
    assert float(loss) == pytest.approx(total, rel=1e-7)
    assert abs(float(loss) - run_of().loss) > 0.01


POOLED = Net("convv:3:2:1:1-maxpool:2:2-globalmeanpool", ((4, 3, 1), (3, 2, 3), (2, 1, 3), (3,)))
SHORT = Net("5-3", ((4,), (5,), (3,)))


@pytest.mark.parametrize("net", [SHORT, POOLED], ids=["fc", "pooled"])
def test_the_update_may_run_through_the_perturbations_of_a_whole_ladder(x64, monkeypatch, net):
    fix_noise(monkeypatch, net)
    variables, batch = random_variables(net), random_batch(net)
    params, along = (random_variables(net, seed)["params"] for seed in (0, 7))
    options = {
        "attack": partial(attacks.fgsm, eps=0.2, norm="l2", constant=False),
        "unlabelled_attack": partial(attacks.raw_gradient, tau=0.2, constant=False),
    }

    @compiled
    def loss_and_gradient(params):
        loss = lambda params: cost(
            make_apply(net), net.weights, {**variables, "params": params}, batch, **options
        )
        return jax.value_and_grad(loss, has_aux=True)(params)

    def loss(step):
        at = jax.tree.map(lambda a, b: a + step * b, params, along)
        return float(loss_and_gradient(at)[0][0])

    _, gradient = loss_and_gradient(params)
    dot = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, along)))
    # Here it is the derivative of the loss, not of the loss at points that stay.
    assert dot == pytest.approx((loss(1e-6) - loss(-1e-6)) / 2e-6, rel=1e-6)


def test_attacks_of_size_zero_are_the_baseline_bit_for_bit(monkeypatch):
    fix_noise(monkeypatch, SHORT)
    variables, batch = in_float32(random_variables(SHORT), random_batch(SHORT))

    def loss_and_gradient(eps, params):
        attack = None if eps is None else partial(attacks.fgsm, eps=eps)
        options = {"attack": attack, "unlabelled_attack": attack}
        run = partial(cost, make_apply(SHORT), SHORT.weights, batch=batch, **options)
        loss = lambda params: run(variables={**variables, "params": params})
        return jax.value_and_grad(loss, has_aux=True)(params)

    found = compiled(loss_and_gradient)(jnp.float32(0), variables["params"])
    none = compiled(partial(loss_and_gradient, None))(variables["params"])
    jax.tree.map(np.testing.assert_array_equal, found, none)


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


def test_with_gauss_every_reconstruction_is_zero_at_the_beginning(monkeypatch):
    fix_noise(monkeypatch)
    variables = initial(FC)
    _, batch = in_float32({}, random_batch())
    _, extras, _ = compiled(partial(autoencode, make_apply()))(variables, batch)
    np.testing.assert_array_equal(extras["z_hat"][0], 0)
    # Above the input, 0 is renormalised by the mean and variance of the clean pre-activations,
    # which the oracle knows.
    clean = oracle_of(variables).encode([np.float64(batch[x]) for x in ("x", "unlabelled")])
    for layer in range(1, FC.top + 1):
        mean, variance = clean.moments[layer][1]
        expected = np.broadcast_to(-mean / np.sqrt(variance + 1e-10), (BATCH, *FC.shapes[layer]))
        np.testing.assert_allclose(extras["z_hat"][layer], expected, rtol=1e-4, atol=1e-5)


def test_with_sig_the_reconstruction_begins_as_the_noisy_value_and_its_sigmoid():
    # Without noise, of layer 0: x + sigmoid(x).
    net = FC._replace(denoising="sig")
    _, batch = in_float32({}, random_batch(net))
    apply = make_apply(net, noise_std=(0.0,) * 4)
    _, extras, _ = compiled(partial(autoencode, apply))(initial(net), batch)
    u = np.float64(batch["unlabelled"])
    np.testing.assert_allclose(extras["z_hat"][0], u + oracles.sigmoid(u), rtol=1e-5)


def test_matrices_begin_with_variance_one_over_their_inputs_and_beta_gamma_with_zero_one():
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


def test_convolutions_begin_uniform_with_variance_one_over_their_inputs():
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


@pytest.mark.parametrize("denoising", ["gauss", "0"])
def test_stored_statistics_begin_with_mean_0_and_variance_1(denoising):
    for name, values in initial(FC, denoising=denoising)["batch_stats"].items():
        np.testing.assert_array_equal(values, 1 if name.startswith("var") else 0)


def test_images_of_any_rank_are_flattened_in_every_pass(monkeypatch):
    variables, batch = in_float32(random_variables(), random_batch())
    fix_noise(monkeypatch)

    @compiled
    def passes(variables, batch):
        apply = make_apply()
        return autoencode(apply, variables, batch), apply(variables, batch["x"]).logits

    flat = passes(variables, batch)
    image = lambda x: x.reshape(BATCH, 2, 3, 1)
    images = passes(variables, {name: image(batch[name]) for name in ("x", "unlabelled")})
    np.testing.assert_array_equal(images[1], flat[1])
    np.testing.assert_array_equal(images[0].logits, flat[0].logits)
    np.testing.assert_array_equal(images[0].extras["z_hat"][0], flat[0].extras["z_hat"][0])


def test_below_a_convolution_grey_images_may_do_without_an_axis_of_channels():
    net = Net("convv:3:2:1:1-globalmeanpool", ((4, 5, 1), (3, 4, 3), (3,)))
    variables, batch = in_float32(random_variables(net), random_batch(net))
    apply, x = make_apply(net), batch["x"]
    logits = compiled(lambda x: apply(variables, x).logits)
    np.testing.assert_array_equal(logits(x[..., 0]), logits(x))
    with pytest.raises(
        ValueError, match=r"model.layers must be .* shape \(20,\), which are not images"
    ):
        logits(x.reshape(BATCH, 20))


# What no cost reads is not computed.


def products(fn, *args):
    """Output shapes of the matrix products in the compiled fn, sorted."""
    text = compiled(fn).lower(*args).compile().as_text()  # What is dead is dropped at any level.
    assert "custom-call" not in text  # A product might hide behind one.
    return sorted(
        tuple(map(int, shape.split(",")))
        for shape in re.findall(r"= f32\[([\d,]+)\]\S* dot\(", text)
    )


def gradient_products(weights, net=FC):
    variables, batch = in_float32(random_variables(net), random_batch(net))
    apply = make_apply(net)

    def loss(params, batch, key):
        variables_at = {**variables, "params": params}
        return objectives.ladder(apply, variables_at, batch, key=key, weights=weights)[0]

    return products(jax.grad(loss), variables["params"], batch, KEY)


def expected_products(*, lowest):
    """Shapes of the products that the formula needs when `lowest` is the lowest cost's layer.

    Forward: W h in the corrupted pass of both halves and in the clean pass of one, V z_hat down
    to `lowest`. Backward: for each of them the gradient by the matrix and, except at the input,
    by the vector. The clean pass of the labelled half is not among them. With `lowest` above the
    top nothing is reconstructed, and nothing of the unlabelled half is among them.
    """
    needed = []
    passes = [(2, BATCH), (BATCH,)] if lowest <= FC.top else [(BATCH,)]
    for layer in range(1, FC.top + 1):
        (below,), (units,) = FC.shapes[layer - 1 : layer + 1]
        for batch in passes:
            needed += [(*batch, units), {below, units}]
            needed += [(*batch, below)] if layer > 1 else []
        if layer > lowest and lowest <= FC.top:
            needed += [(BATCH, below), {below, units}, (BATCH, units)]
    return needed


def assert_same_products(found, needed):
    # XLA may compute the transposed gradient of a matrix, or flatten the halves.
    plain = lambda shape: tuple(sorted(shape)) if isinstance(shape, set) else shape
    canonical = lambda shape: (shape[0] * shape[1], shape[2]) if len(shape) == 3 else shape
    unordered = lambda shapes: sorted(tuple(sorted(canonical(plain(s)))) for s in shapes)
    assert unordered(found) == unordered(needed)


@nets("fc", "fc-gamma")
def test_a_cost_on_top_alone_compiles_to_no_product_of_the_decoder(net):
    weights = (0.0,) * net.top + (2.0,)
    assert_same_products(gradient_products(weights, net), expected_products(lowest=net.top))


def test_the_decoder_stops_at_the_lowest_layer_with_a_cost():
    assert_same_products(gradient_products((0, 0, 1.0, 1.0)), expected_products(lowest=2))


def test_the_full_cost_compiles_to_no_product_of_the_labelled_clean_pass():
    found = gradient_products(FC.weights)
    assert_same_products(found, expected_products(lowest=0))
    assert len(found) == 9 * FC.top - 2


def test_where_nothing_is_reconstructed_no_product_of_the_unlabelled_half_is_compiled():
    net = FC._replace(denoising="0")
    found = gradient_products((0.0,) * 4, net)
    assert_same_products(found, expected_products(lowest=net.top + 1))
    assert len(found) == 3 * net.top - 1


def test_where_nothing_is_reconstructed_the_cost_is_that_of_the_labels():
    run = run_of(FC._replace(denoising="0"))
    assert run.output.extras["z_hat"] == {} and run.metrics["denoising"] == 0
    assert run.loss == pytest.approx(run_of(FC).expected.supervised, rel=1e-8)


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


def test_without_noise_and_costs_it_is_a_plain_batch_normalised_net(x64):
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


@nets("fc", "small")
def test_a_clean_training_pass_stores_the_mean_and_the_unbiased_variance(x64, net):
    variables, batch = random_variables(net), random_batch(net)
    oracle = oracle_of(variables, net)
    clean = oracle.encode([batch["x"], batch["unlabelled"]])
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


def test_the_training_passes_leave_the_stored_statistics_alone():
    variables, batch = in_float32(random_variables(), random_batch())
    _, (state, _) = compiled(partial(cost, make_apply(), FC.weights))(variables, batch)
    jax.tree.map(np.testing.assert_array_equal, state["batch_stats"], variables["batch_stats"])


@nets("fc", "large")
def test_a_test_image_is_classified_by_the_clean_path_on_stored_statistics(x64, net):
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
    """An experiment with the ladder of this file, on any small data set."""
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


@pytest.mark.parametrize(
    ("labelled", "batch_size"), [((3, 1, 4, 15, 9, 2, 6, 5), 4), ((8, 7, 0, 12, 11), 8)]
)
def test_test_statistics_are_plain_averages_over_the_labelled_batches(x64, labelled, batch_size):
    rng = np.random.default_rng(5)
    x = rng.uniform(size=(16, *FC.shapes[0]))
    y = np.arange(16, dtype=np.int32) % 3
    dataset = Dataset("none", "none", {}, Arrays(x, y), Arrays(x, y), 3, (0, 1))
    variables = random_variables()
    found = small_experiment(dataset, batch_size=batch_size).test_variables(
        variables, {"x": jnp.asarray(x), "y": jnp.asarray(y)}, {"labelled": jnp.array(labelled)}
    )
    # The first 4 and the next 4 labelled rows; or all 5, as there are fewer than a batch.
    batches = [labelled[:4], labelled[4:]] if batch_size == 4 else [labelled]
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


# Settings that do not fit.


@pytest.mark.parametrize("noise_std", [(0.3,) * 3, (0.3,) * 5, ()])
def test_a_noise_for_another_number_of_layers_is_refused_by_name(noise_std):
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


def test_a_batch_of_one_row_is_refused():
    variables, batch = random_variables(), random_batch()
    with pytest.raises(ValueError, match="batch_size must be >= 2"):
        make_apply()(variables, batch["x"][:1], train=True)

"""Known mistakes of reimplementations of the ladder change its cost."""

from functools import partial

import jax
import numpy as np
import oracles
import pytest
from ladders import (
    FC,
    SMALL,
    autoencode,
    compiled,
    cost_and_gradient,
    fix_noise,
    in_float32,
    make_apply,
    oracle_of,
    random_batch,
    random_variables,
    run_of,
    total_cost,
)

# Known mistakes of reimplementations of [rasmus2015]. Targets without a gradient are
# among the gradients, noise on the input among the noises, and prediction by the corrupted pass
# among the tests of the clean path in test_ladder.py.


class JointStatistics(oracles.Ladder):
    def statistics(self, halves):
        return super().statistics([np.concatenate(halves)]) * len(halves)


class TargetAfterBeta(oracles.Ladder):
    def target(self, clean, layer):
        return clean.z[layer][1] + (self.params.beta[layer - 1] if layer else 0)


class TargetAfterActivation(oracles.Ladder):
    def target(self, clean, layer):
        return clean.h[layer][1]


class NoiseBeforeNormalization(oracles.Ladder):
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
    def __call__(self, labeled, labels, unlabeled, noise, **kwargs):
        self.clean_softmax = self.encode([labeled, unlabeled]).h[self.top][1]
        return super().__call__(labeled, labels, unlabeled, noise, **kwargs)

    def from_above(self, corrupted):
        return self.clean_softmax


class NormalizedDownwards(oracles.Ladder):
    def passed_down(self, z_hat, z_hat_normalized):
        return z_hat_normalized


class NotRenormalized(oracles.Ladder):
    def renormalized(self, z_hat, clean_moments):
        return z_hat


class RenormalizedByItself(oracles.Ladder):
    def renormalized(self, z_hat, clean_moments):
        return self.normalize(z_hat, self.statistics([z_hat])[0])


class DividedByTheVariance(oracles.Ladder):  # as that program until October 2015
    def renormalized(self, z_hat, clean_moments):
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
    NoiseBeforeNormalization,
    NoNoiseOnTop,
    LogitsIntoTheDecoder,
    CleanSoftmaxIntoTheDecoder,
    NormalizedDownwards,
    NotRenormalized,
    RenormalizedByItself,
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "mistakes"), [(FC, [*ANYWHERE, TargetAfterBeta]), (SMALL, ANYWHERE + OF_IMAGES)]
)
def test_each_known_mistake_of_reimplementations_changes_the_cost(net, mistakes):
    variables, batch, loss = random_variables(net), random_batch(net), run_of(net).loss
    cost_of = lambda kind: total_cost(oracle_of(variables, net, kind), batch, net)
    changes = {mistake.__name__: abs(cost_of(mistake) - loss) for mistake in mistakes}
    # 10,000 times the agreement of the tests in test_ladder.py.
    assert {name: change for name, change in changes.items() if change < 1e-4 * loss} == {}


def test_an_almost_dead_unit_is_normalized_like_any_other(x64):
    # Pre-activations of variance 1e-6 of the usual: beside it 1e-5 is large, 1e-10 is not.
    variables, batch = random_variables(), random_batch()
    variables["params"]["encoder"]["W1"]["kernel"][:, 0] *= 1e-3
    _, extras, _ = compiled(partial(autoencode, make_apply()))(variables, batch)
    right, wrong = (
        oracle_of(variables, FC, kind).encode([batch["x"], batch["unlabeled"]]).z[1][1]
        for kind in (oracles.Ladder, LargeEpsilon)
    )
    np.testing.assert_allclose(extras["z"][1], right, rtol=1e-9)
    assert np.std(extras["z"][1][:, 0]) == pytest.approx(1, abs=1e-3)
    assert np.std(wrong[:, 0]) < 0.5


@pytest.mark.slow
def test_a_constant_pixel_and_a_dead_unit_stay_finite_in_float32(monkeypatch):
    fix_noise(monkeypatch)
    variables, batch = in_float32(random_variables(), random_batch())
    kernel = variables["params"]["encoder"]["W1"]["kernel"]
    variables["params"]["encoder"]["W1"]["kernel"] = kernel.at[:, 0].set(0)
    batch |= {name: batch[name].at[:, 0].set(0) for name in ("x", "unlabeled")}
    value, gradient = cost_and_gradient(FC, variables, batch)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))

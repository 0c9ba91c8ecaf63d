"""Independent versions of what adv_jax computes: NumPy in float64, written from the papers."""

from types import SimpleNamespace

import numpy as np


def softmax(logits):
    """f64[B, K] -> f64[B, K]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def cross_entropies(logits, labels):
    """-log softmax(logits)[label] of each row: f64[B, K], i[B] -> f64[B]."""
    return -np.log(softmax(np.asarray(logits, np.float64))[np.arange(len(labels)), labels])


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def numerical_gradient(fn, x, *, step=1e-6):
    """Central differences of a scalar function by every entry of x, in float64."""
    x = np.array(x, np.float64)
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        at = x[index]
        x[index] = at + step
        above = float(fn(x))
        x[index] = at - step
        below = float(fn(x))
        x[index] = at
        gradient[index] = (above - below) / (2 * step)
    return gradient


class Ladder:
    """The ladder's two passes, its decoder and its cost, from the notes on the reference program.

    Source: settings_maronas.md, sec. 8.1 to 8.4. A pass takes both halves of the batch, labelled
    first, and normalises each by its own statistics. Every decision that reimplementations get
    wrong is a method or an attribute of its own, so that a test can get it wrong on purpose.

    params: W and V: lists of f64[D_(l-1), D_l] and f64[D_l, D_(l-1)], l = 1..L; beta: list of
      f64[D_l], l = 1..L; gamma: f64[K]; a: list of the ten f64[D_l] of the combinator, l = 0..L.
    noise_std: of the layers 0..L.
    """

    epsilon = 1e-10

    def __init__(self, params, noise_std):
        self.params = params
        self.noise_std = noise_std
        self.top = len(params.W)

    def statistics(self, halves):
        """(mean, biased variance) for each half, by itself."""
        return [(a.mean(axis=0), a.var(axis=0)) for a in halves]

    def normalise(self, a, moments):
        mean, variance = moments
        return (a - mean) / np.sqrt(variance + self.epsilon)

    def noisy(self, halves, noise):
        """Normalised pre-activations, then noise (already scaled)."""
        moments = self.statistics(halves)
        z = [self.normalise(a, m) for a, m in zip(halves, moments, strict=True)]
        return [z + n for z, n in zip(z, noise, strict=True)], moments

    def logits(self, z):
        return self.params.gamma * (z + self.params.beta[-1])

    def activation(self, z, layer):
        if layer == self.top:
            return softmax(self.logits(z))
        return np.maximum(z + self.params.beta[layer - 1], 0)

    def encode(self, halves, noise=None):
        """halves: the two f64[B, D]; noise: of each half the L+1 standard normals, None for none.

        Returns z (before beta and gamma), h, moments, each [layer][half], moments[0] None.
        """
        draws = [
            [0 if noise is None else self.noise_std[layer] * n[layer] for n in noise or (0, 0)]
            for layer in range(self.top + 1)
        ]
        z = [[x + n for x, n in zip(halves, draws[0], strict=True)]]
        h, moments = [z[0]], [None]
        for layer in range(1, self.top + 1):
            a = [below @ self.params.W[layer - 1] for below in h[-1]]
            z_layer, used = self.noisy(a, draws[layer])
            z.append(z_layer)
            moments.append(used)
            h.append([self.activation(z_half, layer) for z_half in z_layer])
        return SimpleNamespace(z=z, h=h, moments=moments)

    def combinator(self, z, u, layer):
        a = self.params.a[layer]
        mu = a[0] * sigmoid(a[1] * u + a[2]) + a[3] * u + a[4]
        v = a[5] * sigmoid(a[6] * u + a[7]) + a[8] * u + a[9]
        return (z - mu) * v + mu

    def from_above(self, corrupted):
        """What enters the decoder: the corrupted softmax of the unlabelled half."""
        return corrupted.h[self.top][1]

    def passed_down(self, z_hat, z_hat_normalised):
        return z_hat

    def renormalised(self, z_hat, clean_moments):
        return self.normalise(z_hat, clean_moments)

    def target(self, clean, layer):
        return clean.z[layer][1]

    def distance(self, difference):
        """Mean over the rows of the sum of squares over the units, divided by their number."""
        return (difference**2).sum(axis=1).mean() / difference.shape[1]

    def __call__(self, labelled, labels, unlabelled, noise, *, corrupted_inputs=None):
        """All that the cost is made of; noise: of the labelled and of the unlabelled half.

        corrupted_inputs: replace the two inputs in the corrupted pass (adversarial noise).

        Returns z, z_hat (as the costs compare them), C: lists over the layers 0..L;
        corrupted_logits of the labelled half; supervised; corrupted and clean: the passes.
        """
        clean = self.encode([labelled, unlabelled])
        corrupted = self.encode(list(corrupted_inputs or (labelled, unlabelled)), noise)
        logits = self.logits(corrupted.z[self.top][0])
        z_hat, compared, costs, targets = {}, {}, {}, {}
        for layer in range(self.top, -1, -1):
            if layer == self.top:
                u = self.from_above(corrupted)
            else:
                above = self.passed_down(z_hat[layer + 1], compared[layer + 1])
                u = above @ self.params.V[layer]
            u = self.normalise(u, (u.mean(axis=0), u.var(axis=0)))
            z_hat[layer] = compared[layer] = self.combinator(corrupted.z[layer][1], u, layer)
            if layer > 0:
                compared[layer] = self.renormalised(z_hat[layer], clean.moments[layer][1])
            targets[layer] = self.target(clean, layer)
            costs[layer] = self.distance(compared[layer] - targets[layer])
        layers = range(self.top + 1)
        return SimpleNamespace(
            z=[targets[layer] for layer in layers],
            z_hat=[compared[layer] for layer in layers],
            C=[costs[layer] for layer in layers],
            corrupted_logits=logits,
            supervised=cross_entropies(logits, labels).mean(),
            corrupted=corrupted,
            clean=clean,
        )

    def classify(self, x, means, variances):
        """The clean path on stored statistics, layers 1..L: f64[B, D] -> logits f64[B, K]."""
        h = x
        for layer in range(1, self.top + 1):
            a = h @ self.params.W[layer - 1]
            z = self.normalise(a, (means[layer - 1], variances[layer - 1]))
            h = self.activation(z, layer)
        return self.logits(z)

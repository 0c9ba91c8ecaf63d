"""Independent NumPy versions of models and losses in float64, written from the papers."""

from types import SimpleNamespace

import numpy as np


def softmax(logits):
    """Softmax of each row: f64[B, K] -> f64[B, K]."""
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


def convolution(images, kernel, padding):
    """f64[B, H, W, C], f64[k, k, C, O] -> f64[B, H', W', O], a sum over kernel positions."""
    k = len(kernel)
    if padding == "full":
        images = np.pad(images, ((0, 0), (k - 1, k - 1), (k - 1, k - 1), (0, 0)))
    _, height, width, _ = images.shape
    return sum(
        images[:, u : height - k + 1 + u, v : width - k + 1 + v] @ kernel[u, v]
        for u in range(k)
        for v in range(k)
    )


def max_pool(images):
    """2x2 max-pooling, stride 2, of f64[B, H, W, C]; windows at the border may be smaller."""
    _, height, width, _ = images.shape
    rows = [
        np.stack([images[:, i : i + 2, j : j + 2].max(axis=(1, 2)) for j in range(0, width, 2)], 1)
        for i in range(0, height, 2)
    ]
    return np.stack(rows, axis=1)


class Ladder:
    """The ladder's two passes, its decoder and its cost, as in the reference program.

    Source: the program of [rasmus2015], ladder.py. A pass takes both halves of the batch, the
    labeled one first, and normalizes each by its own statistics. Each detail that reimplementations
    get wrong is a method or an attribute, so that a test can override it.

    params: lists over the layers l = 1..L: kinds, "fc", "convv", "convf", "maxpool" or
      "globalmeanpool"; W and V, f64[D_(l-1), D_l] and f64[D_l, D_(l-1)], or of convolutions
      f64[k, k, C_(l-1), C_l] and f64[k, k, C_l, C_(l-1)], None of pooling; beta f64[C_l], None of
      pooling below the top. gamma: f64[K], or 1. g: list over l = 0..L of the denoising
      function's {name: f64[C_l]}, None for layers without one. slope: slope of the rectifier
      below 0.
    noise_std: noise levels of the layers 0..L.
    """

    epsilon = 1e-10

    def __init__(self, params, noise_std):
        self.params = params
        self.noise_std = noise_std
        self.top = len(params.W)

    def statistics(self, halves):
        """Returns (mean, biased variance) of each channel for each half."""
        axes = tuple(range(halves[0].ndim - 1))
        return [(a.mean(axis=axes), a.var(axis=axes)) for a in halves]

    def normalize(self, a, moments):
        mean, variance = moments
        return (a - mean) / np.sqrt(variance + self.epsilon)

    def noisy(self, halves, noise, moments=None):
        """Returns normalized pre-activations plus scaled noise."""
        moments = moments or self.statistics(halves)
        z = [self.normalize(a, m) for a, m in zip(halves, moments, strict=True)]
        return [z + n for z, n in zip(z, noise, strict=True)], moments

    def pooled(self, images):
        return max_pool(images)

    def mean(self, images):
        # Times the width and sqrt(3), as if it were a convolution in Xavier's scale.
        return images.mean(axis=(1, 2)) * images.shape[2] * np.sqrt(3)

    def up(self, h, layer):
        """Returns the pre-activations of a layer."""
        kind, W = self.params.kinds[layer - 1], self.params.W[layer - 1]
        if kind == "fc":
            return h.reshape(len(h), -1) @ W
        if kind == "maxpool":
            return self.pooled(h)
        if kind == "globalmeanpool":
            return self.mean(h)
        return convolution(h, W, {"convv": "valid", "convf": "full"}[kind])

    def unpooled(self, z_hat, shape):
        spread = np.repeat(np.repeat(z_hat, 2, axis=1), 2, axis=2)
        return spread[:, : shape[1], : shape[2]]

    def down(self, z_hat, layer, shape):
        """Maps a layer's reconstruction down to the shape of the layer below."""
        kind, V = self.params.kinds[layer - 1], self.params.V[layer - 1]
        if kind == "fc":
            return (z_hat @ V).reshape(shape)
        if kind == "maxpool":
            return self.unpooled(z_hat, shape)
        if kind == "globalmeanpool":
            return np.broadcast_to(z_hat[:, None, None], shape)
        return convolution(z_hat, V, {"convv": "full", "convf": "valid"}[kind])

    def logits(self, z):
        return self.params.gamma * (z + self.params.beta[-1])

    def activation(self, z, layer):
        if layer == self.top:
            return softmax(self.logits(z))
        if "pool" in self.params.kinds[layer - 1]:
            return z
        a = z + self.params.beta[layer - 1]
        return np.where(a > 0, a, self.params.slope * a)

    def encode(self, halves, noise=None, moments=None):
        """Runs the encoder on both halves.

        halves: two arrays f64[B, *S_0]. noise: for each half L+1 standard normal arrays, or None.
        moments: as returned; replace the statistics of the batch.
        Returns z (before beta and gamma), h and moments, each [layer][half]; moments[0] is None.
        """
        draws = [
            [0 if noise is None else self.noise_std[layer] * n[layer] for n in noise or (0, 0)]
            for layer in range(self.top + 1)
        ]
        z = [[x + n for x, n in zip(halves, draws[0], strict=True)]]
        h, used = [z[0]], [None]
        for layer in range(1, self.top + 1):
            a = [self.up(below, layer) for below in h[-1]]
            z_layer, moments_layer = self.noisy(a, draws[layer], moments and moments[layer])
            z.append(z_layer)
            used.append(moments_layer)
            h.append([self.activation(z_half, layer) for z_half in z_layer])
        return SimpleNamespace(z=z, h=h, moments=used)

    def denoised(self, z, u, layer):
        """Returns z_hat by "sig" if there is a parameter b1, else by "gauss" (a1 to a10)."""
        p = self.params.g[layer]
        if "b1" in p:
            inner = p["c1"] + p["c2"] * z + p["c3"] * u + p["c4"] * z * u
            outer = p["a1"] + p["a2"] * z + p["a3"] * u + p["a4"] * z * u
            return outer + p["b1"] * sigmoid(inner)
        mu = p["a1"] * sigmoid(p["a2"] * u + p["a3"]) + p["a4"] * u + p["a5"]
        v = p["a6"] * sigmoid(p["a7"] * u + p["a8"]) + p["a9"] * u + p["a10"]
        return (z - mu) * v + mu

    def from_above(self, corrupted):
        """Returns the input of the decoder: the corrupted softmax of the unlabeled half."""
        return corrupted.h[self.top][1]

    def passed_down(self, z_hat, z_hat_normalized):
        return z_hat

    def renormalized(self, z_hat, clean_moments):
        return self.normalize(z_hat, clean_moments)

    def target(self, clean, layer):
        return clean.z[layer][1]

    def distance(self, difference):
        """Returns the mean over rows and units of the squared difference."""
        rows = difference.reshape(len(difference), -1)
        return (rows**2).sum(axis=1).mean() / rows.shape[1]

    def __call__(self, labeled, labels, unlabeled, noise, *, corrupted_inputs=None):
        """Returns the parts of the cost.

        noise: noise of the labeled and of the unlabeled half.
        corrupted_inputs: replace both inputs in the corrupted pass (adversarial noise).

        Returns z, a list over the layers 0..L; z_hat (as the costs compare them) and C, {layer:
        ...} of the reconstructed layers; corrupted_logits of the labeled half; supervised;
        corrupted and clean: both passes.
        """
        clean = self.encode([labeled, unlabeled])
        corrupted = self.encode(list(corrupted_inputs or (labeled, unlabeled)), noise)
        logits = self.logits(corrupted.z[self.top][0])
        z_hat, compared, costs = {}, {}, {}
        for layer in range(self.top, -1, -1):
            if self.params.g[layer] is None:
                break
            z = corrupted.z[layer][1]
            if layer == self.top:
                u = self.from_above(corrupted)
            else:
                above = self.passed_down(z_hat[layer + 1], compared[layer + 1])
                u = self.down(above, layer + 1, z.shape)
            axes = tuple(range(u.ndim - 1))
            u = self.normalize(u, (u.mean(axis=axes), u.var(axis=axes)))
            z_hat[layer] = compared[layer] = self.denoised(z, u, layer)
            if layer > 0:
                compared[layer] = self.renormalized(z_hat[layer], clean.moments[layer][1])
            costs[layer] = self.distance(compared[layer] - self.target(clean, layer))
        return SimpleNamespace(
            z=[self.target(clean, layer) for layer in range(self.top + 1)],
            z_hat=compared,
            C=costs,
            corrupted_logits=logits,
            supervised=cross_entropies(logits, labels).mean(),
            corrupted=corrupted,
            clean=clean,
        )

    def classify(self, x, means, variances):
        """The clean path on stored statistics, layers 1..L: f64[B, *S_0] -> logits f64[B, K]."""
        h = x
        for layer in range(1, self.top + 1):
            a = self.up(h, layer)
            z = self.normalize(a, (means[layer - 1], variances[layer - 1]))
            h = self.activation(z, layer)
        return self.logits(z)

"""Small ladders: variables, batches, and passes in JAX and NumPy."""

import functools
import importlib
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import models, objectives

MODULE = importlib.import_module("adv_jax.models.ladder")  # The package's name is the class.
KEY = jax.random.key(0)
BATCH = 8
GAUSS = [f"a{i}" for i in range(1, 11)]
SIG = ["a1", "a2", "a3", "a4", "b1", "c1", "c2", "c3", "c4"]


class Net(NamedTuple):
    """Settings of a ladder, and the shapes of the layers 0..L.

    All shapes differ, so that the shape of a noise array identifies its layer.
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
        """Weights of the costs of the layers 0..L; 0 for layers that are not reconstructed."""
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


def nets(*names, slow=()):
    """Parametrizes a test over these nets; those in `slow` are marked slow."""
    params = [pytest.param(NETS[name], id=name) for name in names]
    params += [pytest.param(NETS[name], id=name, marks=pytest.mark.slow) for name in slow]
    return pytest.mark.parametrize("net", params)


def random_variables(net=FC, seed=0):
    """Returns random variables f64; all differ from the initial values."""
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
        "unlabeled": 2 * rng.uniform(size=(BATCH, *net.shapes[0])) ** 2 + 0.5,
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
    """Returns the noise of `fix_noise`: for each half the L+1 arrays f64[B, *S_l]."""
    rng = np.random.default_rng(2)
    return [[rng.normal(size=(BATCH, *shape)) for shape in net.shapes] for _ in range(2)]


def fix_noise(monkeypatch, net=FC):
    halves = noise_of(net)

    def draws(key, shape, *, first, start):
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
    """Compiles with fewer optimizations, in half of the time, as these programs run once."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(fn, compiler_options=options)


def initial(net, **settings):
    x = jnp.zeros((2, *net.shapes[0]))
    init = lambda key: models.init(module(net, **settings), key, x)
    return compiled(init)(jax.random.key(3))


def autoencode(apply, variables, batch, key=KEY):
    x, u = batch["x"], batch["unlabeled"]
    return apply(variables, x, u, u, train=True, key=key, method="autoencode")


def on_batch(apply, variables, x, key=KEY, **options):
    return apply(variables, x, train=True, key=key, method="on_batch", **options)


def cost(apply, weights, variables, batch, **options):
    return objectives.ladder(apply, variables, batch, key=KEY, weights=weights, **options)


def cost_and_gradient(net, variables, batch):
    """Returns the loss and its gradient by the parameters."""

    def loss(params):
        return cost(make_apply(net), net.weights, {**variables, "params": params}, batch)[0]

    return compiled(jax.value_and_grad(loss))(variables["params"])


def oracle_of(variables, net=FC, kind=oracles.Ladder):
    return kind(oracle_params(variables, net), net.noise_std)


def total_cost(oracle, batch, net=FC):
    result = oracle(batch["x"], batch["y"], batch["unlabeled"], noise_of(net))
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
    expected = oracle(batch["x"], batch["y"], batch["unlabeled"], noise_of(net))
    return Run(output, float(loss), jax.tree.map(float, metrics), expected)

"""Mistakes with models of Flax NNX, Linen, Equinox and torch end in one line with the fix."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from adv_jax import attacks, evaluate
from adv_jax.types import UserError

X = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 6)), jnp.float32)
Y = jnp.array([0, 1, 2, 0])
KEY = jax.random.key(0)


class NNX(nnx.Module):
    """A layer, and dropout or batch normalization, in training mode until eval() is called."""

    def __init__(self, layer):
        rngs = nnx.Rngs(0)
        self.dense = nnx.Linear(6, 3, rngs=rngs)
        made = {"dropout": lambda: nnx.Dropout(0.5, rngs=rngs)}
        self.layer = made.get(layer, lambda: nnx.BatchNorm(3, rngs=rngs))()

    def __call__(self, x):
        return self.layer(self.dense(x))


class Linen(nn.Module):
    layer: str

    @nn.compact
    def __call__(self, x, train):
        if self.layer == "dropout":
            x = nn.Dropout(0.5, deterministic=not train)(x)
        else:
            x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(3)(x)


class Output(NamedTuple):
    """The output of a model of transformers."""

    logits: jax.Array
    hidden_states: tuple


class Torch:
    """What a torch module looks like to its caller."""

    __module__ = "torch.nn.modules.linear"

    def __call__(self, x):
        raise TypeError("linear(): argument 'input' must be Tensor, not ArrayImpl")


def linen(layer, train):
    model = Linen(layer)
    variables = model.init({"params": KEY, "dropout": KEY}, X, train=False)
    return lambda x: model.apply(variables, x, train=train)


def attacked(logits_fn, x=X, y=Y):
    return attacks.pgd(logits_fn, x, y, eps=0.1, num_steps=2)


def evaluated(logits_fn, x=X, y=Y):
    return evaluate.evaluate(logits_fn, x, y, {"fgsm": attacks.fgsm}, eps=[0.1])


w = jnp.ones((6, 3))
one_example = eqx.nn.MLP(6, 3, width_size=5, depth=1, key=KEY)
image_net = eqx.nn.Sequential(
    [eqx.nn.Conv2d(1, 2, 3, key=KEY), eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(8, 3, key=KEY)]
)


@pytest.mark.parametrize("call", [attacked, evaluated])
@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (NNX("dropout"), X, "call model.eval() in Flax NNX"),
        (NNX("norm"), X, "logits_fn must be a model in evaluation mode"),
        (linen("dropout", True), X, "pass train=False in Linen"),
        (linen("norm", True), X, "logits_fn must be a model in evaluation mode"),
        (
            one_example,
            X,
            "logits_fn must take a batch, float32[4, 6], got a model of one example: ",
        ),
        (image_net, jnp.ones((4, 1, 4, 4)), "pass jax.vmap(model)"),
        (lambda x: Output(x @ w, ()), X, "return output.logits"),
        (
            Torch(),
            X,
            "logits_fn must be made of JAX operations, got the torch module Torch: pass adv",
        ),
        (lambda x: x["a"] @ w, {"a": X, "b": X}, "x must be one array, a batch f32[B, *D] of floa"),
    ],
)
def test_mistake_is_reported_in_one_line(call, model, x, message):
    with pytest.raises(UserError) as error:
        call(model, x)
    assert message in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [linen("dropout", False), linen("norm", False), jax.vmap(one_example)],
    ids=["dropout", "norm", "equinox"],
)
def test_the_same_model_passes_after_the_fix(model):
    assert attacked(model).shape == X.shape


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["dropout", "norm"])
def test_an_nnx_model_passes_in_evaluation_mode(layer):
    model = NNX(layer)
    model.eval()
    assert attacked(model).shape == X.shape


def test_an_error_of_the_model_itself_is_not_replaced():
    with pytest.raises(TypeError, match="dot_general requires contracting dimensions"):
        attacked(lambda x: x @ jnp.ones((5, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda y: y[:, None], lambda y: jax.nn.one_hot(y, 3, dtype=int)])
def test_labels_in_a_column_or_one_hot_integers_are_classes(wrap):
    w = jnp.asarray(np.random.default_rng(1).normal(size=(6, 3)), jnp.float32)
    logits_fn = lambda x: x @ w
    np.testing.assert_allclose(attacked(logits_fn, X, wrap(Y)), attacked(logits_fn), atol=1e-7)
    through = jax.jit(lambda y: attacked(logits_fn, X, y))(wrap(Y))
    np.testing.assert_allclose(through, attacked(logits_fn), atol=1e-7)
    found = evaluated(logits_fn, X, np.asarray(wrap(Y)))
    np.testing.assert_array_equal(found.correct["fgsm"], evaluated(logits_fn).correct["fgsm"])


def test_integer_rows_that_are_not_one_hot_are_refused():
    with pytest.raises(
        UserError, match=r"y must be classes i32\[B\], or one-hot i32\[B, K\], got "
    ):
        attacked(lambda x: x @ w, X, jnp.eye(4, 3, dtype=int) * 2)

"""Mistakes with models of Flax NNX, Linen, Equinox and torch end in one line with the fix."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import adv_jax
from adv_jax import attacks, bridges, evaluate
from adv_jax.checks import arity
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
    """A torch module, as its caller sees it."""

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
    message = (
        r"y must be classes i32\[B\], or one-hot i32\[B, K\], got the row .*binary_cross_entropy"
    )
    with pytest.raises(UserError, match=message):
        attacked(lambda x: x @ w, X, jnp.eye(4, 3, dtype=int) * 2)


def with_criterion(logits_fn, x=X, y=Y):
    fooled = lambda logits, y: jnp.argmax(logits, axis=1) != y.reshape(-1)
    return attacks.pgd(logits_fn, x, y, eps=0.1, num_steps=2, fooled=fooled)


RAGGED = [[0], [1, 2], [0], [0]]
TOO_LARGE = np.asarray(Y, np.int64) + 2**32


@pytest.mark.parametrize("call", [attacked, evaluated])
@pytest.mark.parametrize("form", [lambda y: np.eye(3)[y].tolist(), lambda y: y[:, None].tolist()])
def test_labels_in_nested_lists_are_those_of_the_array(call, form):
    weights = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    logits_fn = lambda x: x @ weights
    found, expected = (call(logits_fn, y=y) for y in (form(np.asarray(Y)), Y))
    if call is evaluated:
        found, expected = (result.attacks["fgsm"].accuracy for result in (found, expected))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("call", [attacked, evaluated])
def test_ragged_labels_are_refused_in_one_line(call):
    with pytest.raises(UserError, match=r"^y must be .*, got \[\[0\], \[1, 2\], .*\]$"):
        call(lambda x: x @ w, y=RAGGED)


@pytest.mark.parametrize("call", [attacked, evaluated, with_criterion])
@pytest.mark.parametrize("form", [lambda y: y, lambda y: y[:, None], lambda y: -y])
def test_labels_beyond_32_bits_are_refused_and_not_wrapped(call, form):
    with pytest.raises(UserError, match=r"^y must be classes .*, got -?42949672\d\d"):
        call(lambda x: x @ w, y=form(TOO_LARGE))


def test_a_column_of_labels_is_no_one_hot_row_inside_jit():
    logits_fn = lambda x: x @ jnp.asarray(np.random.default_rng(1).normal(size=(6, 3)), jnp.float32)
    run = jax.jit(
        lambda y: attacks.apgd(logits_fn, X, y, eps=0.3, num_steps=3, num_targets=2, loss="dlr")
    )
    np.testing.assert_array_equal(run(Y[:, None]), run(Y))


DENSE = nn.Dense(3)


@pytest.mark.parametrize("call", [attacked, evaluated])
@pytest.mark.parametrize(
    ("model", "found"),
    [(DENSE.apply, "Dense.apply"), (DENSE, "a Dense"), (NNX, "the class NNX")],
)
def test_a_model_without_its_variables_is_refused_with_the_call_to_write(call, model, found):
    with pytest.raises(UserError) as error:
        call(model)
    said = f"logits_fn must be a function of x alone, got {found}: "
    assert str(error.value) == f"{said}pass lambda x: model.apply(variables, x)"


X_ALONE = "logits_fn must be a function of x alone (or of x and aux, if aux is given)"


def two_inputs(x, aux):
    return x @ w + aux[:, None]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: attacked(two_inputs),
            f"{X_ALONE}, got one of (x, aux)",
        ),
        (
            lambda: evaluated(two_inputs),
            f"{X_ALONE}, got one of (x, aux)",
        ),
        (
            lambda: attacks.fgsm(lambda x: x @ w, X, Y, eps=0.1, aux=jnp.ones(4)),
            "logits_fn must be a function of (x, aux), as aux is given, got one of (x)",
        ),
        (
            lambda: attacks.fgsm(two_inputs, X, Y, eps=0.1, loss=lambda o, y: o.sum(axis=1)),
            f"{X_ALONE}, got one of (x, aux)",
        ),
        (
            lambda: attacks.fgsm(lambda x: x @ w, X, Y, eps=0.1, loss=lambda o: o.sum(axis=1)),
            "loss must be a function of (outputs, y), got one of (o)",
        ),
        (
            lambda: attacks.pgd(lambda x: x @ w, X, Y, eps=0.1, fooled=lambda o, y, z: y > 0),
            "fooled must be a function of (outputs, y), got one of (o, y, z)",
        ),
    ],
)
def test_a_function_of_other_arguments_is_refused_with_those_it_gets(call, message):
    with pytest.raises(UserError) as error:
        call()
    assert str(error.value) == message
    assert not getattr(error.value, "__notes__", [])


@pytest.mark.parametrize(
    ("model", "x"),
    [(lambda x: x @ w, X[0]), (lambda x: x.reshape(len(x), -1) @ w, X[0].reshape(2, 3))],
)
def test_one_input_without_the_axis_of_the_batch_is_refused(model, x):
    with pytest.raises(UserError) as error:
        attacked(model, x=x, y=Y[:1])
    batch = "x must be a batch f32[B, *D], got float32"
    assert str(error.value) == f"{batch}{[*x.shape]}, one input to logits_fn: pass x[None]"


def test_one_logistic_output_is_not_taken_for_a_missing_axis():
    with pytest.raises(UserError, match="logits_fn must return logits f32"):
        attacked(lambda x: x @ w[:, 0])


@pytest.mark.parametrize("output", ["a", ["a", 1.0], print])
def test_a_result_that_is_no_array_is_refused(output):
    for call in (attacked, evaluated):
        with pytest.raises(UserError, match=r"^logits_fn must return logits f32\[B, K\].*, got "):
            call(lambda x: output)


def test_settings_by_position_are_refused_with_how_to_pass_them():
    with pytest.raises(UserError) as error:
        attacks.fgsm(lambda x: x @ w, X, Y, 0.1)
    first = "settings of fgsm must be given by name, as eps=0.1"
    assert str(error.value) == f"{first}, got 4 arguments by position"


@pytest.mark.parametrize("compiles", [True, False])
def test_an_error_of_the_attack_itself_does_not_blame_the_model(compiles):
    def broken(logits_fn, x, y, *, eps):
        return len(3)

    run = adv_jax.attack(compiles=compiles, rank=adv_jax.attacks.NOISE)(broken)
    with pytest.raises(TypeError, match="^object of type 'int' has no len"):
        run(two_inputs, X, None, eps=0.1)


def test_a_model_that_is_no_function_keeps_the_error_of_the_call():
    def calling(logits_fn, x, y, *, eps):
        return logits_fn(x)

    run = adv_jax.attack(compiles=False)(calling)
    with pytest.raises(TypeError, match="^'int' object is not callable"):
        run(3, X, None, eps=0.1)
    with (
        pytest.raises(TypeError, match="^'int' object is not callable"),
        arity("logits_fn", 3, ("x",)),
    ):
        calling(3, X, None, eps=0.1)


class Weighted(nn.Module):
    w: object

    def __call__(self, x):
        return x @ self.w

    def predict(self, x):
        return x @ self.w


def test_a_method_of_a_flax_module_that_works_without_variables_is_a_model():
    module = Weighted(np.asarray(w))
    found = attacks.fgsm(module.predict, X, Y, eps=0.1)
    np.testing.assert_array_equal(found, attacks.fgsm(lambda x: x @ w, X, Y, eps=0.1))
    for method in (module, module.apply, module.init, module.__call__):
        with pytest.raises(UserError, match="^logits_fn must be a function of x alone, got "):
            attacks.fgsm(method, X, Y, eps=0.1)


def test_labels_beyond_32_bits_are_refused_with_a_loss_of_the_user():
    y = np.array([0, 1, 2, 2**32], np.int64)
    with pytest.raises(UserError, match="^y must be integers of 32 bits, got 4294967296$"):
        attacks.fgsm(lambda x: x @ w, X, y, eps=0.1, loss=lambda o, y: o[:, 0] * y.astype(o.dtype))


def test_a_model_of_numpy_is_pointed_to_the_bridge():
    with pytest.raises(
        UserError,
        match=r"wrap NumPy by jax\.pure_callback, a model by adv_jax\.bridges\.black_box$",
    ):
        attacked(lambda x: np.dot(x, np.ones((6, 3))))


def test_a_black_box_that_is_no_function_is_refused():
    with pytest.raises(UserError) as error:
        bridges.black_box(np.ones(3))
    found = (
        "predict must be a function of NumPy arrays, got float64[3]: pass the method model.predict"
    )
    assert str(error.value) == found

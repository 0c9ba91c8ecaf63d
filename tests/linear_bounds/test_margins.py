"""Bounds of margins are below all that points of the ball reach, and exact where they can be."""

import functools
import itertools
from functools import partial

import bounded_nets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import counted
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import exhaustive_after

from adv_jax import attacks
from adv_jax.linear_bounds import METHODS, margin_bounds
from adv_jax.types import UserError

Y = np.array([0, 1, 2, 1], np.int32)


@functools.cache
def compiled(name, method, norm="linf", bounds=None):
    """Returns (variables, x, y, eps) -> margins, and (variables, points) -> logits, of a net."""
    _, logits = bounded_nets.built(name)
    options = {"method": method, "norm": norm, "bounds": bounds}

    def found(variables, x, y, eps):
        return margin_bounds(partial(logits, variables), x, y, eps, **options)

    return jax.jit(found), jax.jit(jax.vmap(logits, (None, 0)))


def assert_below(found, reached):
    """Fails if a bound exceeds what was reached, beyond rounding."""
    finite = np.isfinite(reached)
    assert (found[~finite] == np.inf).all()
    scale = 1 + abs(found[finite])
    assert (found[finite] <= reached[finite] + 1e-5 * scale).all()


# Each net by one of the methods in turn, then by the other one.
EACH = list(zip(bounded_nets.NETS, itertools.cycle(("crown", "crown_ibp")), strict=False))
CASES = EACH + [(name, m) for name, own in EACH for m in ("crown_ibp", "crown") if m != own]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method"), exhaustive_after(len(EACH), CASES))
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 100), size=st.sampled_from([0.01, 0.1, 0.5, 3.0]))
def test_no_point_of_the_ball_has_a_margin_below_the_bound(name, method, seed, size):
    variables, _ = bounded_nets.built(name, seed)
    x = bounded_nets.images(name, seed)
    bound, logits = compiled(name, method)
    found = np.asarray(bound(variables, x, Y, size))
    x_adv = bounded_nets.points(np.random.default_rng(seed), x, size)
    reached = bounded_nets.margins(logits(variables, jnp.float32(x_adv)), Y).min(0)
    assert_below(found, reached)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["l2", "rms", "l1"])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_bounds_hold_in_other_balls(norm, bounds):
    variables, _ = bounded_nets.built("relu")
    x, size = bounded_nets.images("relu"), {"l2": 0.5, "rms": 0.1, "l1": 2.0}[norm]
    x_adv = bounded_nets.points(np.random.default_rng(0), x, size, norm, bounds)
    for method in METHODS:
        bound, logits = compiled("relu", method, norm, bounds)
        reached = bounded_nets.margins(logits(variables, jnp.float32(x_adv)), Y).min(0)
        assert_below(np.asarray(bound(variables, x, Y, size)), reached)


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(2, ["relu", "tanh", "lenet"]))
def test_no_attack_finds_a_margin_below_the_bound(name):
    variables, logits = bounded_nets.built(name)
    x, logits_fn = bounded_nets.images(name), partial(logits, variables)
    y, bound = logits_fn(x).argmax(1), compiled(name, "crown", bounds=(0.0, 1.0))[0]
    for size in (0.03, 0.1):
        found = np.asarray(bound(variables, x, y, size))
        options = {"eps": size, "bounds": (0.0, 1.0), "num_steps": 30, "key": jax.random.key(0)}
        for loss in ("ce", "dlr"):
            x_adv = attacks.apgd(logits_fn, x, y, loss=loss, **options)
            assert_below(found, bounded_nets.margins(logits_fn(x_adv), y))


BALLS = [(norm, method) for norm in ("linf", "l2", "l1", "rms") for method in METHODS]


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "method"), exhaustive_after(4, BALLS))
def test_margins_of_an_affine_model_are_the_minima(norm, method):
    rng = np.random.default_rng(0)
    w, b, x = rng.normal(size=(6, 3)), rng.normal(size=3), rng.normal(size=(4, 6))
    v = rng.normal(size=(3, 3))  # Two layers: their intervals one by one would be looser.

    def logits_fn(x):
        return (x @ jnp.float32(w) + jnp.float32(b)[None]) @ jnp.float32(v)

    at_x = bounded_nets.margins((x @ w + b) @ v, Y)
    difference = (w @ v)[:, Y][:, :, None] - (w @ v)[:, None]  # [6, 4, 3]
    dual = {"linf": 1, "l2": 2, "rms": 2, "l1": np.inf}[norm]
    radius = 0.2 * np.linalg.norm(difference, dual, axis=0) * (6**0.5 if norm == "rms" else 1)
    found = margin_bounds(logits_fn, jnp.float32(x), jnp.asarray(Y), 0.2, method=method, norm=norm)
    np.testing.assert_allclose(found, at_x - radius, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_limits_of_the_inputs_cut_the_ball():
    w = jnp.array([[1.0, -1.0], [2.0, 0.0]])
    x, y = jnp.array([[0.1, 0.9]]), jnp.array([0])
    found = margin_bounds(lambda x: x @ w, x, y, 0.2, method="ibp", bounds=(0.0, 1.0))
    # 2 x1 + 2 x2 at (0, .7)
    np.testing.assert_allclose(found, [[np.inf, 1.4]], rtol=1e-6)
    by_feature = (np.zeros(2, np.float32), np.array([1.0, 0.95], np.float32))
    found = margin_bounds(lambda x: -x @ w, x, y, 0.2, method="ibp", bounds=by_feature)
    # -2 x1 - 2 x2 at (.3, .95)
    np.testing.assert_allclose(found, [[np.inf, -2.5]], rtol=1e-6)


def interval_mlp(params, x, eps):
    """[gowal2018] in NumPy: the margins of an MLP of ReLUs through its intervals."""
    lower, upper = np.float64(x).reshape(len(x), -1) - eps, np.float64(x).reshape(len(x), -1) + eps
    *hidden, last = [params[name] for name in ("hidden1", "hidden2", "logits")]
    for layer in hidden:
        w, b = np.float64(layer["kernel"]), np.float64(layer["bias"])
        middle, radius = (lower + upper) / 2 @ w + b, (upper - lower) / 2 @ abs(w)
        lower, upper = (middle - radius).clip(0), (middle + radius).clip(0)
    w, b = np.float64(last["kernel"]), np.float64(last["bias"])
    c = w[:, Y].T[:, :, None] - w[None]  # [4, units, 3]
    constant = b[Y][:, None] - b[None]
    positive = np.einsum("bu,buk->bk", lower, c.clip(0))
    return positive + np.einsum("bu,buk->bk", upper, c.clip(max=0)) + constant


def test_ibp_is_the_interval_arithmetic_of_numpy():
    variables, _ = bounded_nets.built("relu")
    x = bounded_nets.images("relu")
    expected = interval_mlp(variables["params"], x, 0.1)
    found = np.asarray(compiled("relu", "ibp")[0](variables, x, Y, 0.1))
    others = np.isfinite(found)
    np.testing.assert_allclose(found[others], expected[others], rtol=1e-4, atol=1e-4)


def crown_of_two_layers(layers, x, eps):
    """[zhang2018] in NumPy: the margins of one hidden layer of ReLUs, in closed form."""
    (v, a), (w, b) = (map(np.float64, (layer["kernel"], layer["bias"])) for layer in layers)
    x = np.float64(x).reshape(len(x), -1)
    h, radius = x @ v + a, eps * abs(v).sum(0)
    lower, upper = h - radius, h + radius
    unstable = (lower < 0) & (upper > 0)
    chord = np.where(unstable, upper / np.where(unstable, upper - lower, 1), lower >= 0)
    slope = np.where(unstable, upper > -lower, lower >= 0)
    c = w[:, Y].T[:, :, None] - w[None]
    below, above = c.clip(0), c.clip(max=0)
    offset = np.einsum("buk,bu->bk", above, np.where(unstable, -chord * lower, 0))
    pulled = below * slope[:, :, None] + above * chord[:, :, None]
    at_x = np.einsum("buk,bu->bk", pulled, h) + offset + b[Y][:, None] - b[None]
    return at_x - eps * abs(np.einsum("du,buk->bdk", v, pulled)).sum(1)


@pytest.mark.slow
def test_crown_is_its_closed_form_for_one_hidden_layer():
    rng = np.random.default_rng(0)
    draw = lambda *shape: np.float32(rng.normal(size=shape))
    hidden, last = (
        {"kernel": draw(72, 9), "bias": draw(9)},
        {"kernel": draw(9, 3), "bias": draw(3)},
    )
    x = bounded_nets.images("relu")

    def logits_fn(x):
        h = x.reshape(len(x), -1) @ hidden["kernel"] + hidden["bias"][None]
        return jax.nn.relu(h) @ last["kernel"] + last["bias"][None]

    expected = crown_of_two_layers((hidden, last), x, 0.02)
    for method in ("crown_ibp", "crown"):
        found = margin_bounds(logits_fn, x, jnp.asarray(Y), 0.02, method=method)
        others = np.isfinite(found)
        np.testing.assert_allclose(found[others], expected[others], rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(2, ["relu", "lenet", "tanh", "max_pool"]))
def test_linear_bounds_are_never_below_intervals_and_meet_the_margins_at_eps_zero(name):
    variables, _ = bounded_nets.built(name)
    x = bounded_nets.images(name)
    bound = {method: compiled(name, method)[0] for method in METHODS}
    for size in (0.01, 0.3):
        by_intervals = np.asarray(bound["ibp"](variables, x, Y, size))
        assert (bound["crown_ibp"](variables, x, Y, size) >= by_intervals).all()
        # Its intervals are as tight or tighter.
        assert (bound["crown"](variables, x, Y, size) >= by_intervals - 1e-4).all()
    clean = bounded_nets.margins(compiled(name, "crown")[1](variables, x[None])[0], Y)
    for of_method in bound.values():
        np.testing.assert_allclose(of_method(variables, x, Y, 0.0), clean, rtol=1e-4, atol=1e-4)


def test_bounds_of_a_model_that_ignores_x_are_its_margins():
    found = margin_bounds(
        lambda x: jnp.tile(jnp.array([[1.0, 3.0, 2.0]]), (len(x), 1)),
        bounded_nets.images("relu"),
        jnp.asarray(Y),
        0.1,
        method="crown",
    )
    np.testing.assert_allclose(found[1], [2, np.inf, 1])


@pytest.mark.slow
def test_margins_have_the_gradients_of_finite_differences():
    variables, logits = bounded_nets.built("relu")
    x = bounded_nets.images("relu")

    def total(scale):
        scaled = jax.tree.map(lambda w: w * scale, variables)
        found = margin_bounds(partial(logits, scaled), x, Y, 0.02, method="crown_ibp")
        return jnp.where(jnp.isinf(found), 0, found).sum()

    total = jax.jit(jax.value_and_grad(total))
    step = 1e-2
    slope = (total(1 + step)[0] - total(1 - step)[0]) / (2 * step)
    np.testing.assert_allclose(total(1.0)[1], slope, rtol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fn", "found"),
    [
        (jnp.sin, "the primitive sin"),
        (lambda x: x * x, "mul of two values that depend on x"),
        (lambda x: x @ x.T @ x, "dot_general of two values that depend on x"),
        (lambda x: 1 / x, "div by a value that depends on x"),
        (lambda x: jnp.where(x > 0, x, 0), "the primitive gt"),
        (jax.nn.softmax, "div by a value that depends on x"),
        (
            lambda x: x.astype(jnp.bfloat16).astype(jnp.float32),
            "convert_element_type with a result in bfloat16",
        ),
        (
            lambda x: jnp.matmul(x, jnp.eye(3), preferred_element_type=jnp.bfloat16),
            "dot_general with a result in bfloat16",
        ),
        (lambda x: jax.nn.leaky_relu(x, x[0, 0]), "the primitive ge"),
        (lambda x: jax.lax.scan(lambda c, _: (c + 1, None), x, None, 2)[0], "the primitive scan"),
        (lambda x: jax.nn.leaky_relu(x, 2.0), "the primitive ge"),
    ],
)
def test_a_primitive_without_a_rule_is_named(fn, found):
    x = jnp.ones((2, 3))
    with pytest.raises(UserError) as error:
        margin_bounds(fn, x, jnp.array([0, 1]), 0.1, method="ibp")
    assert str(error.value) == (
        "logits_fn must be made of affine maps, convolutions, pooling and monotone activations in "
        f"float32 to have bounds, got {found}"
    )


def test_a_value_whose_gradient_is_stopped_still_depends_on_x():
    w, x, y = jnp.array([[1.0, -1.0]]), jnp.array([[2.0]]), jnp.array([0])
    for method in METHODS:
        found = margin_bounds(lambda x: jax.lax.stop_gradient(x) @ w, x, y, 0.5, method=method)
        assert found[0, 1] == 3


@pytest.mark.slow
def test_a_function_that_only_has_the_name_of_an_activation_is_read():
    def leaky_relu(x, slope):
        return jnp.maximum(slope * x, -2 * x)

    found = margin_bounds(
        lambda x: jax.jit(leaky_relu)(x, 0.5),
        jnp.array([[1.0, 0.0]]),
        jnp.array([0]),
        1.0,
        method="ibp",
    )
    # max(x / 2, -2 x) is at least 0 in [0, 2], and at most 2 in [-1, 1].
    assert found[0, 1] <= 0 - 2


def test_a_bare_call_with_another_eps_or_bounds_compiles_nothing():
    w, x, y = jnp.eye(3)[:2], jnp.array([[0.3, 0.25]]), jnp.array([0])
    run = partial(margin_bounds, lambda x: jnp.tanh(x) @ w, x, y, method="crown")
    run(eps=0.1, bounds=(0.0, 1.0))
    with counted() as compiled:
        found = run(eps=0.2, bounds=(0.2, 2.0))
    assert compiled == []
    np.testing.assert_allclose(found[0, 2], np.tanh(0.2), rtol=1e-6)  # Not tanh(.3 - .2).


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bounds": (1.0, 0.0)}, "bounds must be (lo, hi) with lo < hi, got (1.0, 0.0)"),
        ({"bounds": (0.0, 0.2)}, "x must be within the bounds (0.0, 0.2), got 0.3"),
        (
            {"bounds": (jnp.zeros((2, 2)), jnp.ones((2, 2))), "x": jnp.zeros((2, 2))},
            "bounds must be (lo, hi) that broadcast to x, [1, 2], got (float32[2, 2], float32[2, 2",
        ),
        (
            {"norm": "l0"},
            'norm must be "linf" ("inf", jnp.inf), "l2" (2), "l1" (1) or "rms", got \'l0\'',
        ),
        ({"eps": -0.1}, "eps must be a finite number of at least 0, got -0.1"),
        ({"eps": ".1"}, "eps must be a real number, got '.1'"),
        ({"eps": jnp.ones(2)}, "eps must be a real number, got float32[2]"),
        ({"method": "CROWN"}, "method must be one of ibp, crown_ibp, crown, got 'CROWN'"),
        ({"y": jnp.array([5])}, "y must be classes from 0 to 1, got 5"),
        ({"y": jnp.array([[1.0, 0.0]])}, "y must be classes i32[B] with B = 1, got float32[1, 2]"),
        ({"x": jnp.array([[3, 0]])}, "x must be a batch f32[B, *D] of floats, got int32[1, 2]"),
        ({"logits_fn": nn.Dense(2)}, "logits_fn must be a function of x alone, got a Dense"),
    ],
)
def test_bad_input_gives_no_bound(changed, message):
    given = {"logits_fn": lambda x: x @ jnp.eye(2), "x": jnp.array([[0.3, 0.1]])}
    given |= {"y": jnp.array([0]), "eps": 0.1, "method": "ibp"} | changed
    with pytest.raises(UserError) as error:
        margin_bounds(given.pop("logits_fn"), given.pop("x"), given.pop("y"), **given)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("method", METHODS)
def test_bounds_of_inputs_of_16_bits_are_those_of_float64(method, dtype):
    rng = np.random.default_rng(0)
    x, w = (
        jnp.asarray(rng.uniform(size=(40, 20)), dtype),
        jnp.asarray(rng.normal(size=(20, 2)), dtype),
    )
    logits = np.asarray(x, np.float64) @ np.asarray(w, np.float64)
    y, apart = logits.argmax(axis=1), np.abs(np.diff(np.asarray(w, np.float64))).sum()
    least = np.ptp(logits, axis=1) - 0.1 * apart  # exact, as the model is linear
    found = margin_bounds(lambda x: x @ w.astype(x.dtype), x, jnp.asarray(y), 0.1, method=method)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found[np.arange(40), 1 - y], least, atol=1e-5)


def test_bounds_in_x64_take_classes_of_any_integers_without_promotion():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        x, w = jnp.array([[2.0, 0.0]]), jnp.array([[1.0, -1.0], [0.0, 0.0]])
        for y in (jnp.array([0], jnp.int64), jnp.array([0], jnp.int32), jnp.array([0], jnp.uint8)):
            found = margin_bounds(lambda x: x @ w, x, y, 0.5, method="crown", norm="l2")
            np.testing.assert_allclose(found, [[np.inf, 3]])

"""class_jacobian and adv_alpha: finite differences in float64, brute force over the classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.special import softmax

from adv_jax.attacks.deepfool import deepfool
from adv_jax.attacks.jacobian import adv_alpha, class_jacobian

B, D, K = 8, 5, 4
RNG = np.random.default_rng(0)
W_IN, W_OUT = RNG.normal(size=(D, 8)), RNG.normal(size=(8, K)) / 2
X = RNG.normal(size=(B, D))


def numpy_logits(x):
    return np.tanh(x @ W_IN) @ W_OUT


def logits_fn(x):
    w_in, w_out = (jnp.asarray(w, x.dtype) for w in (W_IN, W_OUT))
    return jnp.tanh(x.reshape(x.shape[0], D) @ w_in) @ w_out


def numpy_jacobian(values, x, h=1e-6):
    """d values / d x, [B, K, D], by central differences."""
    steps = h * np.eye(x.shape[1])
    return np.stack([(values(x + e) - values(x - e)) / (2 * h) for e in steps], axis=-1)


@pytest.fixture(params=["cpu", "default"])
def platform(request, monkeypatch):
    """Runs a test with a loop over the classes and with vmap, as on accelerators."""
    chosen = lambda *args, **forms: forms[request.param](*args)
    monkeypatch.setattr(jax.lax, "platform_dependent", chosen)


@pytest.mark.slow
@pytest.mark.parametrize(("platform", "loops"), [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_the_classes_form_a_loop_in_programs_for_cpus_only(platform, loops):
    traced = jax.jit(lambda x: class_jacobian(logits_fn, x)).trace(jnp.asarray(X, jnp.float32))
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.while") == loops


VALUES = {"probs": lambda x: softmax(numpy_logits(x), axis=1), "logits": numpy_logits}


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("of", ["probs", "logits"])
def test_the_jacobian_is_the_finite_difference(of):
    with jax.enable_x64(True):
        values, jacobian = class_jacobian(logits_fn, jnp.asarray(X), of)
    np.testing.assert_allclose(values, VALUES[of](X), atol=1e-12)
    np.testing.assert_allclose(jacobian, numpy_jacobian(VALUES[of], X), atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["probs", "logits"])
def test_the_jacobian_is_that_of_jax_in_float32_for_inputs_of_any_rank(of):
    x = jnp.asarray(X, jnp.float32).reshape(B, 1, D, 1)

    def one(row):
        logits = logits_fn(row[None])[0]
        return jax.nn.softmax(logits) if of == "probs" else logits

    values, jacobian = jax.jit(lambda x: class_jacobian(logits_fn, x, of))(x)
    assert (values.shape, jacobian.shape) == ((B, K), (B, K, 1, D, 1))
    np.testing.assert_allclose(jacobian, jax.vmap(jax.jacrev(one))(x), atol=1e-6)


def test_the_jacobian_is_accurate_where_one_class_is_almost_certain():
    # Logits [24, 0, 2, -3] times x = 1: float32 rounds the first probability to 1, yet its slope
    # is p_0 sum_k p_k (w_0 - w_k), about 24 e^-24 = 9e-10.
    w = np.array([24.0, 0.0, 2.0, -3.0])
    p = softmax(w)
    expected = p * (w - p @ w)
    expected[0] = p[0] * p[1:] @ (w[0] - w[1:])
    _, jacobian = class_jacobian(lambda x: x * jnp.float32(w)[None], jnp.ones((1, 1)))
    np.testing.assert_allclose(jacobian[0, :, 0], expected, rtol=1e-5)


def test_the_jacobian_needs_one_forward_pass():
    calls = []

    def counted(x):
        calls.append(None)
        return logits_fn(x)

    jax.make_jaxpr(lambda x: class_jacobian(counted, x))(jnp.zeros((B, D)))
    assert len(calls) == 1


def test_the_jacobian_is_of_probabilities_or_logits():
    with pytest.raises(ValueError, match="of must be one of logits, probs, got 'odds'"):
        class_jacobian(logits_fn, jnp.zeros((B, D)), "odds")


def shortest(v, gap, norm):
    """argmin ||r|| such that <v, r> >= gap, by a linear program or the pseudo-inverse."""
    d = len(v)
    if norm in ("l2", "rms"):
        return np.linalg.pinv(v[None])[:, 0] * gap
    if norm == "linf":  # Over (r, t): minimize t with |r_i| <= t.
        cost, split = np.eye(d + 1)[d], np.eye(d)
        inside = np.block([[split, -np.ones((d, 1))], [-split, -np.ones((d, 1))]])
        rows, bounds = np.vstack([inside, [*-v, 0]]), [*[(None, None)] * d, (0, None)]
        solved = linprog(cost, rows, [*np.zeros(2 * d), -gap], bounds=bounds)
        return solved.x[:d]
    solved = linprog(np.ones(2 * d), -np.concatenate([v, -v])[None], [-gap])  # r = r_+ - r_-
    return solved.x[:d] - solved.x[d:]


def length(r, norm):
    order = {"linf": np.inf, "l1": 1}.get(norm, 2)
    return np.linalg.norm(r, ord=order, axis=-1) / (np.sqrt(D) if norm == "rms" else 1)


def by_definition(y, norm):
    """Huang's r of each row, [B, D], and its class."""
    probs, jacobian = VALUES["probs"](X), numpy_jacobian(VALUES["probs"], X)
    r, chosen = [], []
    for p, t, label in zip(probs, jacobian, y, strict=True):
        others = [j for j in range(K) if j != label]
        candidates = [shortest(t[j] - t[label], p[label] - p[j], norm) for j in others]
        best = np.argmin([length(c, norm) for c in candidates])
        r.append(candidates[best])
        chosen.append(others[best])
    return np.stack(r), np.array(chosen)


@pytest.mark.slow
@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("norm", ["l2", "linf", "l1", "rms"])
def test_adv_alpha_is_the_shortest_step_to_equal_linear_probabilities(norm):
    probs = VALUES["probs"](X)
    y = probs.argmax(axis=1)
    expected, chosen = by_definition(y, norm)
    runner_up = np.argsort(probs, axis=1)[:, -2]
    assert (chosen != runner_up).any(), "some nearest class must not be the second most probable"
    with jax.enable_x64(True):
        x = jnp.asarray(X)
        np.testing.assert_allclose(
            adv_alpha(logits_fn, x, jnp.asarray(y), norm=norm) - x, expected, atol=1e-6
        )
        scaled = adv_alpha(logits_fn, x, jnp.asarray(y), norm=norm, eps=0.3) - x
    np.testing.assert_allclose(length(scaled, norm), 0.3, rtol=1e-9)
    direction = expected / length(expected, norm)[:, None]
    np.testing.assert_allclose(scaled, 0.3 * direction, atol=1e-5)


def test_adv_alpha_is_accurate_where_one_class_is_almost_certain():
    # Logits 24 and more ahead: float32 rounds the probability of class 0 to 1.
    w = np.array([[24.0, 0.0, 1.0, -3.0], [0.0, 2.0, -5.0, 1.0], [0.0, -3.0, 4.0, 2.0]])
    p = softmax(w[0])
    t = p[:, None] * (w.T - p @ w.T)
    t[0] = p[0] * p[1:] @ (w.T[0] - w.T[1:])
    v = t[1:] - t[0]
    nearest = v[np.argmin((p[0] - p[1:]) / np.linalg.norm(v, axis=1))]
    x = jnp.array([[1.0, 0.0, 0.0]])
    x_adv = adv_alpha(lambda x: x @ jnp.float32(w), x, jnp.array([0]), eps=1.0)
    np.testing.assert_allclose(x_adv[0] - x[0], nearest / np.linalg.norm(nearest), atol=1e-5)


def test_adv_alpha_of_a_misclassified_row_moves_only_with_eps():
    # Then the lead of y is negative, and so is the distance: the most negative wins.
    probs, jacobian = VALUES["probs"](X), numpy_jacobian(VALUES["probs"], X)
    y = (probs.argmax(axis=1) + 1) % K
    leads = np.take_along_axis(probs, y[:, None], 1) - probs
    v = jacobian - np.take_along_axis(jacobian, y[:, None, None], 1)
    slopes = np.linalg.norm(v, axis=2)
    slopes[np.arange(B), y] = 1  # the lead over itself is 0
    wrong = np.argmin(leads / slopes, axis=1)
    expected = (v / slopes[:, :, None])[np.arange(B), wrong]
    with jax.enable_x64(True):
        x = jnp.asarray(X)
        np.testing.assert_array_equal(adv_alpha(logits_fn, x, jnp.asarray(y)), x)
        moved = adv_alpha(logits_fn, x, jnp.asarray(y), eps=0.1) - x
    np.testing.assert_allclose(moved, 0.1 * expected, atol=1e-7)


@pytest.mark.slow
def test_adv_alpha_leaves_the_inputs_of_a_flat_model():
    x = jnp.asarray(X, jnp.float32)
    flat = lambda x: 0 * logits_fn(x) + jnp.array([[2.0, 0.0, 0.0, 0.0]])
    for eps in (None, 0.3):
        np.testing.assert_array_equal(adv_alpha(flat, x, jnp.zeros(B, int), eps=eps), x)


def test_adv_alpha_is_clipped_to_the_bounds():
    # softmax of [x_1, -x_1] at .5: only x_1 matters, and l2 of .8 would lead to -.3.
    logits_fn = lambda x: jnp.stack([x[:, 0], -x[:, 0]], axis=1)
    x_adv = adv_alpha(
        logits_fn, jnp.array([[0.5, 0.5]]), jnp.array([0]), eps=0.8, bounds=(0.0, 1.0)
    )
    np.testing.assert_allclose(x_adv, [[0.0, 0.5]], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["class_jacobian", "deepfool", "adv_alpha"])
def test_memory_does_not_grow_with_the_classes_on_accelerators(attack, monkeypatch):
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *args, **forms: forms["default"](*args)
    )
    side, rows, rng = 16, 2, np.random.default_rng(0)
    kernel = jnp.float32(rng.normal(size=(3, 3, 1, 16)))
    run = {
        "class_jacobian": lambda fn, x: class_jacobian(fn, x)[1],
        "deepfool": lambda fn, x: deepfool(fn, x, None, candidates=None, num_steps=2),
        "adv_alpha": lambda fn, x: adv_alpha(fn, x, None, eps=0.1),
    }[attack]

    def temporaries(classes):
        w = jnp.float32(rng.normal(size=(16, classes)))

        def net(x):
            h = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return jnp.tanh(h).mean((1, 2)) @ w

        x = jax.ShapeDtypeStruct((rows, side, side, 1), jnp.float32)
        analysis = jax.jit(lambda x: run(net, x)).lower(x).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    activations = rows * side * side * 16 * 4
    result = rows * 640 * side * side * 4 if attack == "class_jacobian" else 0
    # A copy of the result, and some activations for each of the 64 rows of a block.
    assert temporaries(640) < temporaries(65) + 3 * result + 10 * activations
    assert temporaries(640) < 3 * result + 64 / rows * 8 * activations


@pytest.mark.usefixtures("platform")
def test_the_jacobian_of_many_classes_is_that_of_a_linear_model():
    w = jnp.float32(np.random.default_rng(0).normal(size=(4, 150)))
    x = jnp.float32(np.random.default_rng(1).normal(size=(3, 4)))
    _, jacobian = class_jacobian(lambda x: x @ w, x, "logits")
    np.testing.assert_allclose(jacobian, np.broadcast_to(w.T, (3, 150, 4)), rtol=1e-6)
    # The nearest boundary of the linear model, among all classes, in NumPy.
    z, y = np.asarray(x @ w), np.asarray(jnp.argmax(x @ w, axis=1))
    moved = deepfool(lambda x: x @ w, x, y, candidates=None, num_steps=1, overshoot=1e-3)
    for i in range(3):
        gaps = [
            (z[i, y[i]] - z[i, j]) / np.linalg.norm(w[:, j] - w[:, y[i]])
            for j in range(150)
            if j != y[i]
        ]
        assert np.linalg.norm(moved[i] - x[i]) == pytest.approx(1.001 * min(gaps), rel=1e-3)

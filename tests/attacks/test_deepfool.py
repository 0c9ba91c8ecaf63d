"""deepfool: exact on affine models, Algorithm 2 in NumPy on a small net, its stops and bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.attacks.deepfool import deepfool

B, D, K = 8, 5, 4
RNG = np.random.default_rng(0)
W, BIAS = RNG.normal(size=(D, K)), RNG.normal(size=K)
W_IN, W_OUT = RNG.normal(size=(D, 8)), RNG.normal(size=(8, K))
X = RNG.normal(size=(B, D))


def affine(x):
    return x @ jnp.asarray(W, x.dtype) + jnp.asarray(BIAS, x.dtype)[None]


def net(x):
    w_in, w_out = (jnp.asarray(w, x.dtype) for w in (W_IN, W_OUT))
    return jnp.tanh(x @ w_in) @ w_out


def numpy_net(x):
    """Logits [K] and their Jacobian [K, D]."""
    hidden = np.tanh(x @ W_IN)
    return hidden @ W_OUT, (W_IN * (1 - hidden**2) @ W_OUT).T


def length(r, norm):
    order = {"linf": np.inf, "l1": 1}.get(norm, 2)
    return np.linalg.norm(r, ord=order, axis=-1) / (np.sqrt(r.shape[-1]) if norm == "rms" else 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "dual"),
    [
        ("l2", lambda w: np.linalg.norm(w, axis=0)),
        ("linf", lambda w: np.abs(w).sum(axis=0)),
        ("l1", lambda w: np.abs(w).max(axis=0)),
        ("rms", lambda w: np.sqrt(D) * np.linalg.norm(w, axis=0)),
    ],
)
def test_one_step_of_deepfool_is_exact_on_an_affine_model(norm, dual):
    # The distance to the plane f_j = f_y is |f_j - f_y| / ||w_j - w_y||_*; the nearest wins.
    logits = X @ W + BIAS
    y = logits.argmax(axis=1)
    expected = np.array(
        [
            min(
                (row[k] - row[j]) / dual((W[:, j] - W[:, k])[:, None])[0]
                for j in range(K)
                if j != k
            )
            for row, k in zip(logits, y, strict=True)
        ]
    )
    x = jnp.asarray(X, jnp.float32)
    attack = jax.jit(lambda x, y: deepfool(affine, x, y, norm=norm, num_steps=1, overshoot=0.1))
    x_adv = np.float64(attack(x, jnp.asarray(y)))
    np.testing.assert_allclose(length(x_adv - X, norm), 1.1 * expected, rtol=1e-4)
    assert np.all((x_adv @ W + BIAS).argmax(axis=1) != y)


def test_deepfool_equals_algorithm_2_in_numpy_with_a_stop_for_each_row():
    def by_the_book(x):
        y, r, steps = numpy_net(x)[0].argmax(), np.zeros(D), 0
        while (at := numpy_net(x + 1.02 * r))[0].argmax() == y:
            f, w = at
            others = [k for k in range(K) if k != y]
            w, f = w[others] - w[y], f[others] - f[y]
            nearest = np.argmin(np.abs(f) / np.linalg.norm(w, axis=1))
            r = r + np.abs(f[nearest]) / np.linalg.norm(w[nearest]) ** 2 * w[nearest]
            steps += 1
        return x + 1.02 * r, steps

    expected, steps = zip(*map(by_the_book, X), strict=True)
    assert len(set(steps)) > 1, "rows must need different numbers of steps"
    with jax.enable_x64(True):
        x_adv = jax.jit(lambda x: deepfool(net, x, None))(jnp.asarray(X))
    np.testing.assert_allclose(x_adv, expected, atol=1e-10)


def passes_of(attack):
    """Counts the forward and backward passes of an affine model in an attack."""
    count = {"forward": 0, "backward": 0}

    def tick(name):
        jax.debug.callback(lambda: count.update({name: count[name] + 1}))

    @jax.custom_vjp
    def model(x):
        return affine(x)

    def forward(x):
        tick("forward")
        return affine(x), None

    def backward(_, cotangent):
        tick("backward")
        return (cotangent @ jnp.asarray(W.T, cotangent.dtype),)

    model.defvjp(forward, backward)
    jax.block_until_ready(jax.jit(lambda x, y: attack(model, x, y))(jnp.float32(X), LABELS))
    jax.effects_barrier()
    return count


LABELS = jnp.asarray((X @ W + BIAS).argmax(axis=1))


@pytest.mark.slow
def test_deepfool_makes_no_pass_after_all_rows_are_fooled():
    # One step for all rows: a forward pass before and after, and K - 1 backward passes.
    assert passes_of(deepfool) == {"forward": 2, "backward": K - 1}
    done = lambda model, x, y: deepfool(model, x, (y + 1) % K)
    assert passes_of(done) == {"forward": 1, "backward": 0}


@pytest.mark.slow
def test_deepfool_crosses_a_boundary_although_bounds_cut_each_step():
    # f_0 - f_1 = 2 (x_1 + x_2 - .5), at first .3 too large. Every step goes half along x_1,
    # which is soon at 0, and so closes half of what is left: toward (0, .5), from above.
    logits_fn = lambda x: jnp.stack([x.sum(axis=1) - 0.5, 0.5 - x.sum(axis=1)], axis=1)
    x, y = jnp.array([[0.05, 0.75]]), jnp.array([0])
    x_adv = deepfool(logits_fn, x, y, bounds=(0.0, 1.0))
    np.testing.assert_allclose(x_adv, [[0.0, 0.5]], atol=2e-4)
    assert float(logits_fn(x_adv)[0, 0]) < 0


def test_deepfool_leaves_out_a_class_that_no_step_reaches():
    # f_2 - f_0 is constant, f_1 - f_0 = x_2 - x_1: the plane is at sqrt(2) / 2 along (-1, 1).
    logits_fn = lambda x: jnp.stack([x[:, 0], x[:, 1], x[:, 0] - 0.1], axis=1)
    x_adv = deepfool(logits_fn, jnp.array([[1.0, 0.0]]), jnp.array([0]), overshoot=0.0)
    np.testing.assert_allclose(x_adv, [[0.5, 0.5]], atol=2e-4)


@pytest.mark.slow
def test_deepfool_leaves_rows_that_are_fooled_or_cannot_be():
    x = jnp.asarray(X, jnp.float32)
    np.testing.assert_array_equal(deepfool(affine, x, (LABELS + 1) % K), x)
    constant = lambda x: 0 * affine(x) + jnp.arange(4.0)[None]
    np.testing.assert_array_equal(deepfool(constant, x, jnp.full(B, 3), num_steps=2), x)
    # The bounds keep x_1 > 0, where class 0 wins.
    walled = lambda x: jnp.stack([x[:, 0] + 1, -x[:, 0] - 1], axis=1)
    x = jnp.array([[0.5, -0.0]])
    np.testing.assert_array_equal(deepfool(walled, x, jnp.array([0]), bounds=(0.0, 1.0)), x)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_eps_projects_the_perturbation_of_deepfool(norm):
    x = jnp.asarray(X, jnp.float32)
    attack = jax.jit(lambda x, eps: deepfool(affine, x, None, norm=norm, eps=eps))
    found = np.asarray(attack(x, 1e3) - x)
    eps = float(np.median(length(found, norm)))
    r = np.asarray(attack(x, eps) - x)
    if norm == "l2":
        expected = found * np.minimum(1, eps / length(found, norm))[:, None]
    else:
        expected = np.clip(found, -eps, eps)
    np.testing.assert_allclose(r, expected, atol=1e-6)
    assert (length(r, norm) < length(found, norm)).any()


def test_deepfool_refuses_zero_steps():
    with pytest.raises(ValueError, match="num_steps must be a whole number of at least 1, got 0"):
        deepfool(affine, jnp.zeros((1, D)), None, num_steps=0)

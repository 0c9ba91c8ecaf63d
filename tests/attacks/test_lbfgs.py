"""The bounded L-BFGS and its two attacks against SciPy's L-BFGS-B in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from adv_jax.attacks._box_lbfgs import box_lbfgs
from adv_jax.attacks.lbfgs import feature_adversary, lbfgs

B, N, K = 6, 12, 4
BOUNDS = (0.0, 1.0)


def scipy_minimum(fn, start, lo, hi):
    """f64[B], the least value of each row; fn: (f64[n], row) -> float."""
    options = {"maxiter": 2000, "maxfun": 10**6, "ftol": 1e-14, "gtol": 1e-9}
    return np.array(
        [
            scipy.optimize.minimize(
                fn, start[b], args=(b,), bounds=list(zip(lo[b], hi[b], strict=True)),
                method="L-BFGS-B", options=options,
            ).fun
            for b in range(len(start))
        ]
    )  # fmt: skip


def batched(row_fn):
    """(f32[n], row) -> f32[] as (f32[B, n]) -> (f32[B], f32[B, n])."""

    def value_and_grad(z):
        return jax.vmap(jax.value_and_grad(row_fn))(z, jnp.arange(z.shape[0]))

    return value_and_grad


@pytest.fixture(scope="module")
def quadratics():
    """Convex quadratics of condition 100; about half of the minimum's entries are at a bound."""
    rng = np.random.default_rng(0)
    bases = np.linalg.qr(rng.normal(size=(B, N, N)))[0]
    matrices = np.einsum("bij,j,bkj->bik", bases, np.logspace(0, 2, N), bases)
    return matrices, 20 * rng.normal(size=(B, N))


def test_the_solver_finds_the_minimum_of_quadratics_in_a_box(quadratics):
    matrices, slopes = quadratics
    lo, hi = np.full((B, N), -0.5), np.full((B, N), 0.7)

    def fn(z, b):
        return 0.5 * z @ matrices[b] @ z - slopes[b] @ z

    def value_and_grad(z):
        product = jnp.einsum("bij,bj->bi", jnp.float32(matrices), z)
        return (z * (product / 2 - slopes)).sum(axis=1), product - slopes

    z = jax.jit(lambda z: box_lbfgs(value_and_grad, z, lo, hi, num_steps=60))(
        jnp.zeros((B, N), jnp.float32)
    )
    assert np.all((z >= np.float32(-0.5)) & (z <= np.float32(0.7)))
    at_bound = np.mean((np.asarray(z) == lo) | (np.asarray(z) == np.float32(0.7)))
    assert 0.2 < at_bound < 0.8
    reached = [fn(np.float64(row), b) for b, row in enumerate(z)]
    expected = scipy_minimum(fn, np.zeros((B, N)), lo, hi)
    np.testing.assert_allclose(reached, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("highest", [2.0, 0.5])  # The minimum at (1, 1), or at a bound.
def test_the_solver_follows_a_curved_valley(highest):
    start = np.array([[-1.2, 0.5], [0.3, -1.5], [0.0, 0.0]])
    lo, hi = np.full((3, 2), -2.0), np.full((3, 2), highest)
    value_and_grad = batched(lambda z, _: 100 * (z[1] - z[0] ** 2) ** 2 + (1 - z[0]) ** 2)
    z = jax.jit(lambda z: box_lbfgs(value_and_grad, z, lo, hi, num_steps=150))(jnp.float32(start))
    expected = scipy_minimum(lambda z, _: scipy.optimize.rosen(z), start, lo, hi)
    np.testing.assert_allclose(scipy.optimize.rosen(np.float64(z).T), expected, atol=1e-4)


@pytest.mark.slow
def test_the_solver_backs_out_of_nan_and_needs_no_bounds():
    # z - log z has its minimum at 1. From 3 the second step is beyond 0, where log is NaN.
    everywhere = jnp.full((2, 1), jnp.inf)
    value_and_grad = batched(lambda z, _: (z - jnp.log(z)).sum())
    z = box_lbfgs(value_and_grad, jnp.array([[3.0], [0.2]]), -everywhere, everywhere, num_steps=40)
    np.testing.assert_allclose(z, [[1], [1]], atol=1e-3)


def test_rows_of_the_solver_never_get_worse_and_are_independent(quadratics):
    matrices, slopes = map(jnp.float32, quadratics)
    start, lo, hi = (jnp.full((B, N), z) for z in (0.0, -0.5, 0.7))

    @jax.jit
    def values(steps, rows):
        def value_and_grad(z):
            product = jnp.einsum("bij,bj->bi", matrices[rows], z)
            return (z * (product / 2 - slopes[rows])).sum(axis=1), product - slopes[rows]

        z = box_lbfgs(value_and_grad, start[rows], lo[rows], hi[rows], num_steps=steps)
        return value_and_grad(z)[0]

    rows = np.arange(B)
    path = np.stack([values(steps, rows) for steps in range(8)])
    assert np.all(np.diff(path, axis=0) <= 1e-4)
    assert np.all(path[-1] < path[0] - 1)
    order = np.array([3, 0, 4, 2, 5, 1])
    np.testing.assert_allclose(values(7, order), path[-1][order], rtol=1e-5)


@pytest.fixture(scope="module")
def net():
    """A tanh net in NumPy, of either precision, and its inputs."""
    rng = np.random.default_rng(1)
    w_in, w_out = rng.normal(size=(N, 8)), rng.normal(size=(8, K))
    x = np.float32(rng.uniform(size=(B, N)))

    def features(x):
        return jnp.tanh(x @ jnp.asarray(w_in, x.dtype))

    def logits(x):
        return features(x) @ jnp.asarray(w_out, x.dtype)

    return logits, features, x


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [BOUNDS, None])
def test_lbfgs_reaches_the_minimum_of_the_penalized_objective(net, bounds):
    logits, _, x = net
    target, const = (np.argmin(logits(jnp.asarray(x)), axis=1)), 30.0
    attack = jax.jit(
        lambda x, y: lbfgs(
            logits, x, y, bounds=bounds, targeted=True, search_steps=1, initial_const=const
        )
    )
    r = np.float64(attack(x, target)) - x
    with jax.enable_x64(True):

        @jax.jit
        def objective(r, x, y):
            return jnp.sum(r**2) - const * jax.nn.log_softmax(logits((x + r)[None])[0])[y]

        def of_row(r, b):
            return float(objective(r, np.float64(x[b]), target[b]))

        reached = np.array([of_row(row, b) for b, row in enumerate(r)])
        lo, hi = bounds or (-np.inf, np.inf)
        expected = scipy_minimum(of_row, np.zeros((B, N)), lo - x, hi - x)
    fooled = np.asarray(logits(jnp.asarray(x + r))).argmax(axis=1) == target
    assert fooled.sum() >= 4  # What does not fool comes back unmoved.
    assert np.all(reached[fooled] <= 1.01 * expected[fooled])


@pytest.mark.slow
def test_feature_adversary_comes_as_close_to_the_guide_as_scipy(net):
    _, features, x = net
    guide, eps = x[::-1], np.linspace(0.05, 0.4, B)
    attack = jax.jit(
        lambda x, guide, eps: feature_adversary(features, x, guide, eps=eps, bounds=BOUNDS)
    )
    x_adv = np.asarray(attack(x, guide, eps))
    assert np.all(np.abs(np.float64(x_adv) - x).max(axis=1) <= eps * (1 + 1e-6))
    with jax.enable_x64(True):

        @jax.jit
        def objective(r, x, guide):
            return jnp.sum((features(x + r) - features(guide)) ** 2)

        def of_row(r, b):
            return float(objective(r, np.float64(x[b]), np.float64(guide[b])))

        reached = np.array([of_row(row, b) for b, row in enumerate(np.float64(x_adv) - x)])
        lo = np.maximum(-eps[:, None], BOUNDS[0] - x)
        hi = np.minimum(eps[:, None], BOUNDS[1] - x)
        expected = scipy_minimum(of_row, np.zeros((B, N)), lo, hi)
        begun = np.array([of_row(np.zeros(N), b) for b in range(B)])
    # Where the guide's features are within reach the least distance is 0.
    assert np.all(reached <= 1.01 * expected + 1e-4 * begun)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_feature_adversary_stays_in_the_ball_and_the_bounds(net, dtype):
    _, features, x = net
    x = jnp.asarray(x, dtype)
    attack = jax.jit(
        lambda eps: feature_adversary(features, x, x[::-1], eps=eps, bounds=BOUNDS, num_steps=5)
    )
    assert np.asarray(attack(0.0)).tobytes() == np.asarray(x).tobytes()
    x_adv = attack(0.1)
    assert x_adv.dtype == dtype
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    changes = np.abs(np.float64(x_adv) - np.float64(x)).max(axis=1)
    assert np.all((changes > 0) & (changes <= 0.1 * (1 + 1e-6)))


@pytest.mark.slow
def test_feature_adversary_treats_rows_alone_and_may_be_mapped_over_eps(net):
    _, features, x = net

    @jax.jit
    def attack(x, guide, eps):
        return feature_adversary(features, x, guide, eps=eps, bounds=BOUNDS, num_steps=5)

    x_adv = attack(x, x[::-1], 0.1)
    order = np.array([3, 0, 4, 2, 5, 1])
    np.testing.assert_allclose(attack(x[order], x[::-1][order], 0.1), x_adv[order], atol=1e-5)
    mapped = jax.vmap(attack, (None, None, 0))(x, x[::-1], jnp.array([0.0, 0.1]))
    np.testing.assert_allclose(mapped, [x, x_adv], atol=1e-5)


@pytest.mark.slow
def test_feature_adversary_of_the_input_itself_takes_no_step(net):
    _, features, x = net
    attack = jax.jit(lambda x: feature_adversary(features, x, x, eps=0.3, num_steps=2))
    np.testing.assert_array_equal(attack(x), x)


def test_lbfgs_and_feature_adversary_refuse_bad_arguments(net):
    logits, features, x = net
    with pytest.raises(ValueError, match="num_steps must be a whole number of at least 1, got 0"):
        lbfgs(logits, x, None, num_steps=0)
    with pytest.raises(ValueError, match="num_steps must be a whole number of at least 1, got 0"):
        feature_adversary(features, x, x, eps=0.1, num_steps=0)
    with pytest.raises(ValueError, match=r"guide must have the shape of x, .*got float32\[2, 12\]"):
        feature_adversary(features, x, x[:2], eps=0.1)
    dark, light = jnp.full_like(x, 0.25), jnp.full_like(x, 0.75)
    infinite_if_light = lambda x: features(x) / jnp.where(x.mean() > 0.5, 0, 1)
    for given in ((dark, light), (light, dark)):
        with pytest.raises(ValueError, match="features_fn must return finite features, got NaN"):
            feature_adversary(infinite_if_light, *given, eps=0.1)

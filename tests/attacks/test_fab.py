"""fab against SciPy's solvers: the projections, and the exact distance to linear boundaries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_after
from scipy import optimize

from adv_jax import norms
from adv_jax.attacks.fab import fab, onto_plane

RNG = np.random.default_rng(0)
D, CLASSES = 5, 4
W = RNG.normal(size=(D, CLASSES)).astype(np.float32)
B = np.array([0.5, 0.0, -0.5, 0.2], np.float32)
ORDER = {"linf": np.inf, "l2": 2}
both_norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def linear(x):
    return x @ jnp.asarray(W) + B[None]


def nearest(point, slope, gap, norm, bounds):
    """The least norm of d with <slope, d> = gap, point + d in the bounds; inf if there is none."""
    lo, hi = (-np.inf, np.inf) if bounds is None else bounds
    d = len(point)
    box = [(lo - p, hi - p) for p in point]
    if norm == "linf":  # Minimize t over (d, t) with |d_i| <= t.
        upper = np.block([[np.eye(d), -np.ones((d, 1))], [-np.eye(d), -np.ones((d, 1))]])
        solved = optimize.linprog(
            [0] * d + [1],
            A_ub=upper,
            b_ub=np.zeros(2 * d),
            A_eq=[[*slope, 0]],
            b_eq=[gap],
            bounds=[*box, (0, None)],
        )
        return solved.fun if solved.status == 0 else np.inf
    feasible = optimize.linprog([0] * d, A_eq=[slope], b_eq=[gap], bounds=box).status == 0
    if not feasible:
        return np.inf
    solved = optimize.minimize(
        lambda r: r @ r,
        np.zeros(d),
        jac=lambda r: 2 * r,
        method="SLSQP",
        bounds=box,
        constraints={"type": "eq", "fun": lambda r: slope @ r - gap, "jac": lambda r: slope},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert solved.success
    return np.sqrt(solved.fun)


@both_norms
@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_the_projection_onto_a_plane_in_a_box_is_the_nearest_point(norm, bounds):
    rows = 24
    point, slope = RNG.uniform(size=(rows, D)), RNG.normal(size=(rows, D))
    point[0], point[1, :2], slope[2, :3] = 0, 1, 0
    # Planes through random points of the box, and two beyond its corners.
    gap = (slope * (RNG.uniform(size=(rows, D)) - point)).sum(axis=1)
    gap[3], gap[4], gap[5] = 50, -50, 0
    arrays = (jnp.float32(array) for array in (point, slope, gap))
    d = jax.jit(lambda *arrays: onto_plane(*arrays, norm, bounds))(*arrays)
    length = np.linalg.norm(d, ord=ORDER[norm], axis=1)
    for i in range(rows):
        expected = nearest(point[i], slope[i], gap[i], norm, bounds)
        if np.isinf(expected):
            corner = np.where(np.sign(slope[i]) * np.sign(gap[i]) > 0, 1, 0)
            np.testing.assert_allclose(point[i] + d[i], corner, atol=1e-6)
        else:
            np.testing.assert_allclose(slope[i] @ np.asarray(d[i]), gap[i], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(length[i], expected, rtol=1e-4, atol=1e-5)
    if bounds is not None:
        moved = point + np.asarray(d)
        assert moved.min() >= -1e-6 and moved.max() <= 1 + 1e-6
    assert length[5] == 0


@pytest.mark.slow
def test_the_projection_onto_a_plane_is_right_for_a_zero_and_a_tiny_slope():
    # Squares of 1e-30 are 0 in float32; the answer, 2 for each of the entries that move, is not.
    slope = jnp.array([[0.0, 0.0], [1e-30, 1e-30]])
    d = onto_plane(jnp.zeros((2, 2)), slope, jnp.array([1.0, 4e-30]), "l2", None)
    np.testing.assert_allclose(d, [[0, 0], [2, 2]], rtol=1e-5)


def samples():
    x = np.random.default_rng(1).uniform(size=(12, D)).astype(np.float32)
    return x, np.asarray(jnp.argmax(linear(x), axis=1))


def exact_distance(x, y, norm, bounds):
    """Returns the distance of each row to the nearest point of the box on a class boundary."""
    logits = np.float64(x) @ W + B
    return np.array(
        [
            min(
                nearest(x[i], W[:, k] - W[:, y[i]], logits[i, y[i]] - logits[i, k], norm, bounds)
                for k in range(CLASSES)
                if k != y[i]
            )
            for i in range(len(x))
        ]
    )


@pytest.mark.slow
@both_norms
@pytest.mark.parametrize(
    ("num_targets", "bounds"),
    slow_after(1, [(None, None), (CLASSES - 1, None), (CLASSES - 1, (0.0, 1.0))]),
)
def test_fab_finds_the_exact_distance_on_a_linear_model(norm, num_targets, bounds):
    # In a box only with targets: which plane is nearest is decided without the box.
    x, y = samples()
    options = {"norm": norm, "bounds": bounds, "num_steps": 40, "num_targets": num_targets}
    attack = jax.jit(lambda x: fab(linear, x, y, **options))
    x_adv, expected = np.asarray(attack(x)), exact_distance(x, y, norm, bounds)
    reachable = np.isfinite(expected)
    assert reachable.sum() > 6
    np.testing.assert_array_equal(jnp.argmax(linear(x_adv), axis=1) != y, reachable)
    length = np.linalg.norm(x_adv - x, ord=ORDER[norm], axis=1)
    assert np.all(length[reachable] >= expected[reachable] * (1 - 1e-4))
    np.testing.assert_allclose(length[reachable], expected[reachable], rtol=0.01)
    np.testing.assert_array_equal(x_adv[~reachable], x[~reachable])


@pytest.mark.slow
def test_fab_with_one_target_takes_the_most_probable_other_class():
    # Class 1 is second and 2 / |1| away, class 2 is third and 3 / |6| away.
    def three(x):
        return jnp.stack([jnp.zeros_like(x), x - 2, -6 * x - 3], axis=1)

    x, y = jnp.zeros(1), jnp.array([0])
    attacks = (
        jax.jit(lambda x, n=n: fab(three, x, y, num_steps=20, num_targets=n)) for n in (1, 2)
    )
    x_adv = [attack(x)[0] for attack in attacks]
    np.testing.assert_allclose(x_adv, [2, -0.5], rtol=0.01)


def circle(x):
    """Class 1 outside the circle of radius 1."""
    return jnp.stack([jnp.ones(x.shape[0]), (x**2).sum(axis=1)], axis=1)


@pytest.mark.slow
def test_fab_meets_a_curved_boundary_closely_from_outside():
    x, y = jnp.array([[0.3, 0.0], [0.3, -0.4], [2.0, 0.0]]), jnp.array([0, 0, 0])
    x_adv = np.asarray(jax.jit(lambda x: fab(circle, x, y, norm="l2", num_steps=30))(x))
    radius = np.linalg.norm(x_adv[:2], axis=1)
    assert np.all(radius >= 1) and np.all(radius <= 1.001)
    np.testing.assert_allclose(np.linalg.norm(x_adv[:2] - x[:2], axis=1), [0.7, 0.5], rtol=0.01)
    np.testing.assert_array_equal(x_adv[2], x[2])  # It was outside before.


@pytest.mark.slow
@both_norms
def test_eps_projects_the_shortest_perturbation_of_fab(norm):
    x, y = samples()
    x_min = jax.jit(lambda x: fab(linear, x, y, norm=norm, num_steps=5))(x)
    x_adv = jax.jit(lambda x: fab(linear, x, y, norm=norm, num_steps=5, eps=0.05))(x)
    np.testing.assert_allclose(x_adv - x, norms.project(x_min - x, 0.05, norm), atol=1e-6)


@pytest.mark.slow
def test_restarts_of_fab_leave_a_plateau():
    # Without a slope up to |x| = .1, and class 1 wins from .35; starts lie at |x| = .45.
    def plateau(x):
        return jnp.stack([jnp.ones_like(x), 4 * jnp.maximum(jnp.abs(x) - 0.1, 0)], axis=1)

    def attack(restarts):
        options = {"num_steps": 5, "restarts": restarts, "eps": 0.9, "key": jax.random.key(0)}
        return jax.jit(lambda x: fab(plateau, x, y, **options))(x)

    x, y = jnp.zeros(1), jnp.array([0])
    np.testing.assert_array_equal(attack(1), x)
    np.testing.assert_allclose(jnp.abs(attack(2)), 0.35, rtol=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l1"}, r'norm must be "linf" \("inf", jnp.inf\) or "l2" \(2\), got .l1'),
        ({"num_steps": 0}, "num_steps must be a whole number of at least 1, got 0"),
        ({"num_targets": 0}, "num_targets must be a whole number of at least 1, got 0"),
        ({"restarts": 2}, "restarts must be 1 without a key, got 2"),
    ],
)
def test_fab_refuses_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        fab(circle, jnp.zeros((1, 2)), jnp.array([0]), **options)

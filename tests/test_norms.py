"""norms: against NumPy in float64, optimality certificates, SciPy and known distributions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from marks import exhaustive_after

from adv_jax import norms
from adv_jax.types import UserError

NORMS = ["linf", "l2", "l1", "rms"]
# A float32 norm of up to some hundred entries carries a relative error of a few 1e-7.
ROUNDING = 1e-5


def norm_of(r, kind):
    """The definition, in float64, of f[B, d] -> f64[B]."""
    r = np.asarray(r, np.float64)
    if kind == "linf":
        return np.abs(r).max(axis=1)
    if kind == "l1":
        return np.abs(r).sum(axis=1)
    l2 = np.sqrt((r**2).sum(axis=1))
    return l2 / np.sqrt(r.shape[1]) if kind == "rms" else l2


def dual_norm_of(g, kind):
    """max of <g, r> over the unit ball, by Hoelder: linf <-> l1, l2 <-> l2."""
    if kind == "rms":  # ||r||_rms <= 1 is ||r||_2 <= sqrt(d).
        return np.sqrt(g.shape[1]) * norm_of(g, "l2")
    return norm_of(g, {"linf": "l1", "l1": "linf", "l2": "l2"}[kind])


def points_in_ball(rng, n, d, kind):
    """Points all over the ball: some on flat faces, some sparse, scaled to lengths 0 to 1."""
    r = rng.normal(size=(n, d)) * rng.choice([0, 1], size=(n, d))
    r[::2] = np.sign(r[::2])
    length = norm_of(r, kind)
    depth = rng.uniform(size=(n, 1)) ** rng.choice([0, 1], size=(n, 1))
    return depth * r / np.where(length > 0, length, 1)[:, None]


def batches(magnitude=10.0):
    entries = st.floats(-magnitude, magnitude, width=32, allow_subnormal=False)
    # Few shapes, as each is compiled anew.
    shapes = st.sampled_from([(1, 1), (3, 2), (2, 5)])
    return shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=entries))


few = settings(max_examples=25, deadline=None)


def test_every_alias_has_one_name_and_others_are_refused_with_the_legal_ones():
    aliases = {
        "linf": ["linf", "Linf", "LINF", "inf", np.inf, jnp.inf, np.float32(np.inf)],
        "l2": ["l2", "L2", 2, 2.0, "2", np.int64(2)],
        "l1": ["l1", "L1", 1, 1.0, "1"],
        "rms": ["rms", "RMS"],
    }
    assert {name: {norms.canonical(a) for a in aliases[name]} for name in NORMS} == {
        name: {name} for name in NORMS
    }
    for unknown in ("l3", 3, 0, -np.inf, None, True):
        with pytest.raises(ValueError, match="linf.*l2.*l1.*rms.*got"):
            norms.canonical(unknown)
    with pytest.raises(ValueError, match='^norm must be "linf" .*, got .l2.$'):
        norms.canonical("l2", among=["linf"])


@pytest.mark.parametrize("kind", NORMS)
@few
@given(r=batches())
def test_norm_equals_the_definition_in_numpy(kind, r):
    np.testing.assert_allclose(norms.norm(r, kind), norm_of(r, kind), rtol=ROUNDING, atol=1e-37)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e-19, 1e19, 1e30, 4e37])
def test_tiny_and_huge_rows_neither_underflow_nor_overflow(kind, scale):
    r = np.float32(scale) * np.array([[3, 0, -4], [0, 0, 1]], np.float32)
    ordinary = np.array([[3, 0, -4], [0, 0, 1]], np.float32)
    np.testing.assert_allclose(norms.norm(r, kind), norm_of(r, kind), rtol=ROUNDING)
    np.testing.assert_allclose(norms.dual(r, kind), norms.dual(ordinary, kind), rtol=ROUNDING)
    projected = norms.project(r, 0.5 * scale, kind)
    np.testing.assert_allclose(norm_of(projected, kind), 0.5 * scale, rtol=ROUNDING)


@pytest.mark.slow
def test_rows_next_to_the_largest_float_have_lengths_directions_and_projections():
    r = np.array([[3e38, 3e38]], np.float32)
    np.testing.assert_allclose(norms.norm(r, "rms"), [3e38], rtol=ROUNDING)
    for kind, unit in {"linf": 1, "l2": 0.5**0.5, "l1": 0.5, "rms": 1}.items():
        np.testing.assert_allclose(norms.rescaled(r, kind), [[unit, unit]], rtol=ROUNDING)
    for row, eps, scale, nearest in (
        ([np.inf, 1], 1, None, [1, 0]),
        ([1e38, 1], 1, [0.1, 1], [0.1, 0]),
        ([3e38, 2e38], 3.3e38, None, [2.15e38, 1.15e38]),
    ):
        units = None if scale is None else jnp.array([scale])
        found = norms.project(jnp.array([row]), eps, "l1", units)
        np.testing.assert_allclose(found, [nearest], rtol=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NORMS)
@few
@given(g=batches(), seed=st.integers(0, 2**31))
def test_dual_is_in_the_unit_ball_and_nothing_there_has_a_larger_product(kind, g, seed):
    r = np.asarray(norms.dual(g, kind), np.float64)
    assert np.all(norm_of(r, kind) <= 1 + ROUNDING)
    product = (g * r).sum(axis=1)
    np.testing.assert_allclose(product, dual_norm_of(g, kind), rtol=ROUNDING, atol=1e-35)
    others = points_in_ball(np.random.default_rng(seed), 300, g.shape[1], kind)
    assert np.all((g @ others.T).max(axis=1) <= product * (1 + ROUNDING) + 1e-35)


@pytest.mark.parametrize("kind", NORMS)
def test_dual_of_a_zero_row_is_zero_and_leaves_other_rows(kind):
    r = norms.dual(jnp.array([[0.0, 0.0], [3.0, 4.0]]), kind)
    np.testing.assert_array_equal(r[0], 0)
    assert norm_of(r, kind)[1] == pytest.approx(1)


def test_dual_under_l1_moves_the_first_of_equal_entries_only():
    r = norms.dual(jnp.array([[1.0, -2.0, 2.0], [0.0, 5.0, -7.0]]), "l1")
    np.testing.assert_array_equal(r, [[0, -1, 0], [0, 0, -1]])


@pytest.mark.parametrize("kind", NORMS)
def test_dual_shows_a_nan_and_takes_an_infinite_entry_as_the_limit(kind):
    r = np.asarray(norms.dual(jnp.array([[1.0, jnp.nan], [1.0, -jnp.inf], [1.0, 2.0]]), kind))
    limit = {"linf": [1, -1], "l2": [0, -1], "l1": [0, -1], "rms": [0, -np.sqrt(2)]}[kind]
    assert np.isnan(r[0]).any()
    np.testing.assert_allclose(r[1], limit, rtol=ROUNDING)
    assert np.isfinite(r[2]).all()


@pytest.mark.parametrize("kind", exhaustive_after(2, NORMS))
@few
@given(r=batches(), eps=st.floats(0.0625, 8, width=32))
def test_projection_is_the_nearest_point(kind, r, eps):
    # p is the projection of r onto a convex set iff no point z of it has <r - p, z - p> > 0;
    # over the ball the largest <r - p, z> is eps ||r - p||_*.
    p = np.asarray(norms.project(r, eps, kind), np.float64)
    assert np.all(norm_of(p, kind) <= eps * (1 + ROUNDING))
    gap = eps * dual_norm_of(r - p, kind) - ((r - p) * p).sum(axis=1)
    assert np.all(np.abs(gap) <= 1e-4 * (1 + norm_of(r, "l2") ** 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", NORMS)
def test_projection_agrees_with_a_constrained_minimizer(kind):
    rng = np.random.default_rng(0)
    r, eps = rng.normal(size=(3, 4)).astype(np.float32), 0.7
    # With p = a - b, a, b >= 0, all four balls are smooth constraints.
    length = {
        "linf": lambda p, size: eps - size,
        "l1": lambda p, size: eps - size.sum(),
        "l2": lambda p, size: eps**2 - p @ p,
        "rms": lambda p, size: eps**2 - p @ p / 4,
    }[kind]
    for row, p in zip(r, norms.project(r, eps, kind), strict=True):
        found = scipy.optimize.minimize(
            lambda ab, row=row: ((ab[:4] - ab[4:] - row) ** 2).sum(),
            np.full(8, 0.01),
            method="SLSQP",
            bounds=[(0, None)] * 8,
            constraints={
                "type": "ineq",
                "fun": lambda ab: length(ab[:4] - ab[4:], ab[:4] + ab[4:]),
            },
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(p, found.x[:4] - found.x[4:], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1, 1e4, 1e8])
def test_l1_projection_is_soft_thresholding_at_any_distance(spread):
    # The projection is sign(r) max(|r| - t, 0) with the t that gives the sum eps. Near ties at a
    # great distance are where float32 loses the digits that decide.
    rng = np.random.default_rng(1)
    eps, base = 0.3, rng.uniform(0, 0.5, size=200)
    r = (rng.choice([-1, 1], size=200) * (base + spread)).astype(np.float32)
    size = np.abs(r.astype(np.float64))
    t = scipy.optimize.brentq(
        lambda t: np.maximum(size - t, 0).sum() - eps, size.max() - eps, size.max(), xtol=1e-300
    )
    expected = np.sign(r) * np.maximum(size - t, 0)
    np.testing.assert_allclose(norms.project(r[None], eps, "l1")[0], expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NORMS)
@few
@given(r=batches())
def test_projection_keeps_a_row_of_the_ball_bit_for_bit_and_repeats_itself(kind, r):
    eps = np.float32(norm_of(r, kind).max() * 1.001 + 0.1)
    np.testing.assert_array_equal(norms.project(r, eps, kind), r)
    once = norms.project(r, 0.5, kind)
    np.testing.assert_allclose(norms.project(once, 0.5, kind), once, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", NORMS)
def test_a_radius_of_zero_projects_to_exactly_zero(kind):
    r = jnp.array([[1e-30, -5.0], [0.0, 0.0], [1.0, 1.0], [2e-37, 0.0]])
    np.testing.assert_array_equal(norms.project(r, 0.0, kind), 0)
    wide = jnp.zeros((1, 784)).at[0, 0].set(2e-37)
    np.testing.assert_array_equal(norms.project(wide, 0.0, kind), 0)
    np.testing.assert_array_equal(norms.sample(jax.random.key(0), r, 0.0, kind), 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NORMS)
def test_projection_with_a_radius_per_row_equals_single_rows_at_any_rank(kind):
    r = jax.random.normal(jax.random.key(0), (3, 2, 2, 2))
    eps = jnp.array([0.0, 0.5, 100.0])
    together = jax.jit(lambda eps: norms.project(r, eps, kind))(eps)
    alone = jnp.concatenate([norms.project(r[i : i + 1], eps[i], kind) for i in range(3)])
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-7)
    flat = norms.project(r.reshape(3, 8), eps, kind)
    np.testing.assert_allclose(together.reshape(3, 8), flat, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_samples_are_uniform_in_the_ball(kind, d):
    # Uniform in volume <=> ||r||^d / eps^d is uniform in [0, 1] and the directions are right;
    # these are seen in the distribution of one coordinate, below.
    n, eps = 4000, 0.3
    r = norms.sample(jax.random.key(d), jnp.zeros((n, d)), eps, kind)
    length = norm_of(r, kind) / eps
    assert length.max() <= 1 + ROUNDING
    assert scipy.stats.kstest(length**d, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("kind", NORMS)
def test_one_coordinate_of_a_sample_has_the_marginal_distribution_of_the_ball(kind):
    # In three dimensions the slice at r_1 = t is: a square of constant side (linf), a disc of
    # area ~ 1 - t^2 (l2, rms), a square of area ~ (1 - |t|)^2 (l1). Integrated over |t|:
    cdf = {
        "linf": lambda t: t,
        "l2": lambda t: (3 * t - t**3) / 2,
        "rms": lambda t: (3 * t - t**3) / 2,
        "l1": lambda t: 1 - (1 - t) ** 3,
    }[kind]
    reach = 0.2 * (np.sqrt(3) if kind == "rms" else 1)
    r = np.asarray(norms.sample(jax.random.key(5), jnp.zeros((4000, 3)), 0.2, kind))
    for i in range(3):
        t = np.clip(np.abs(r[:, i]) / reach, 0, 1)
        assert scipy.stats.kstest(t, cdf).pvalue > 1e-3
        assert abs((r[:, i] > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
    # Entries are uncorrelated, in sign at least: the eight orthants are equal.
    orthant = (r > 0) @ np.array([1, 2, 4])
    assert scipy.stats.chisquare(np.bincount(orthant, minlength=8)).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", exhaustive_after(2, NORMS))
def test_a_sample_depends_on_key_and_row_not_on_the_batch(kind):
    like, key = jnp.zeros((4, 2, 3)), jax.random.key(1)
    r = norms.sample(key, like, 1.0, kind)
    np.testing.assert_array_equal(norms.sample(key, like[:2], 1.0, kind), r[:2])
    keys = jax.random.split(key, 4)
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_array_equal(
        norms.sample(keys[order], like, 1.0, kind), norms.sample(keys, like, 1.0, kind)[order]
    )
    assert len(np.unique(np.asarray(norms.norm(r, "l2")))) == 4


def test_samples_of_old_style_keys_equal_those_of_typed_keys():
    like = jnp.zeros((2, 3))
    np.testing.assert_array_equal(
        norms.sample(jax.random.PRNGKey(3), like, 1.0, "l2"),
        norms.sample(jax.random.key(3), like, 1.0, "l2"),
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", exhaustive_after(2, NORMS))
def test_bfloat16_rows_are_computed_in_float32_and_float64_rows_in_float64(kind):
    r = jnp.array([[0.1, -0.7, 0.2]], jnp.bfloat16)
    for result in (
        norms.norm(r, kind),
        norms.dual(r, kind),
        norms.project(r, 0.1, kind),
        norms.sample(jax.random.key(0), r, 0.1, kind),
    ):
        assert result.dtype == jnp.float32
    with jax.enable_x64(True):
        r = np.array([[0.1, -0.7, 0.2]])
        p = norms.project(r, 0.1, kind)
        assert p.dtype == jnp.float64
        assert norm_of(p, kind)[0] == pytest.approx(0.1, rel=1e-14)


def test_bad_scales_and_keys_are_refused_in_words():
    r = jnp.zeros((3, 2))
    for eps, words in [
        (-0.1, "eps must be a finite number of at least 0, got -0.1"),
        (np.nan, "eps must be a finite number of at least 0, got nan"),
        (np.array([0.1, -1, 0.1]), "eps must be a finite number of at least 0, got -1.0$"),
        ("1", "eps must be one real number or f32.B., B = 3, got '1'"),
        ([0.1, 0.2], r"B = 3, got the shape \(2,\)"),
        (jnp.array([0.1, -1, 0.1]), "eps must be a finite number of at least 0"),
        (jnp.zeros((3, 2)), r"B = 3, got the shape \(3, 2\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            norms.project(r, eps, "l2")
    with pytest.raises(ValueError, match="key must be"):
        norms.sample(None, r, 0.1, "l2")
    with pytest.raises(ValueError, match=r"B = 3, got \(2,\)"):
        norms.sample(jax.random.split(jax.random.key(0), 2), r, 0.1, "l2")


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (0.5, r"f32\[1 or B, ...\] that broadcasts to \[3, 2\], got 0.5"),
        (jnp.ones(2), r"f32.* that broadcasts to \[3, 2\], got float32\[2\]"),
        (jnp.ones((2, 2)), r"f32.* that broadcasts to \[3, 2\], got float32\[2, 2\]"),
        ("a", "f32.*, got 'a'"),
        (jnp.array([[1, jnp.nan]]), "numbers from 0 to 1, got nan"),
        ([[1.0, 1.5]], "numbers from 0 to 1, got 1.5"),
    ],
)
def test_a_scale_that_does_not_fit_is_refused(scale, words):
    r, key = jnp.ones((3, 2)), jax.random.key(0)
    for call in (
        partial(norms.norm, r, "l2"),
        partial(norms.dual, r, "linf"),
        partial(norms.rescaled, r, "l2"),
        partial(norms.project, r, 0.1, "linf"),
        partial(norms.sample, key, r, 0.1, "linf"),
    ):
        with pytest.raises(UserError, match=f"^scale must be {words}$"):
            call(scale)


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize(
    "r", [np.zeros((2, 0)), 3.0, None, "abc", [[1], [1, 2]], np.ones((2, 3), np.complex64)]
)
def test_what_is_no_batch_of_rows_is_refused_in_one_line(kind, r):
    for length in (norms.norm, norms.dual, norms.rescaled):
        with pytest.raises(UserError, match=r"^rows must be f\[B, \*D\] with .* 1, got .+$"):
            length(r, kind)
    with pytest.raises(UserError, match=r"^like must be f\[B, \*D\] with .*\.dtype, got .+$"):
        norms.sample(jax.random.key(0), r, 0.1, kind)


def test_a_shape_is_refused_in_place_of_an_array_like_it():
    with pytest.raises(UserError, match=r"^like must be .* \.shape and \.dtype, got \(2, 3\)$"):
        norms.sample(jax.random.key(0), (2, 3), 0.1, "l2")
    like = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    assert norms.sample(jax.random.key(0), like, 0.1, "l2").shape == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", exhaustive_after(2, NORMS))
def test_a_zero_row_has_a_zero_derivative_and_leaves_the_derivatives_of_other_rows(kind):
    r = jnp.array([[0.0, 0.0], [3.0, -1.0], [0.0, 2.0]])
    weights = jnp.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])

    def total(r):
        return (weights * norms.rescaled(r, kind)).sum()

    gradient = jax.grad(total)(r)
    np.testing.assert_array_equal(gradient[0], 0)
    assert np.isfinite(jax.grad(lambda r: norms.norm(r, kind).sum())(r)).all()
    step = 1e-2 * jnp.eye(6).reshape(6, 3, 2)
    differences = jax.vmap(lambda s: (total(r + s) - total(r - s)) / 2e-2)(step).reshape(3, 2)
    np.testing.assert_allclose(gradient[1], differences[1], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *((name, "linf") for name in ("l_inf", "linfty", "L-inf", "infinity", "chebyshev")),
        *((name, "l2") for name in ("l_2", "euclidean", "Euclidean")),
        *((name, "l1") for name in ("l_1", "manhattan")),
        ("frobenius", None),
        (3, None),
    ],
)
def test_an_unknown_norm_is_refused_with_the_name_that_is_meant(name, meant):
    with pytest.raises(UserError) as error:
        norms.canonical(name)
    legal = 'norm must be "linf" ("inf", jnp.inf), "l2" (2), "l1" (1), "rms" or "l0"'
    near = "" if meant is None else f"; did you mean {meant!r}?"
    assert str(error.value) == f"{legal}, got {name!r}{near}"


@pytest.mark.parametrize(("power", "digits"), [(400, "1000"), (5000, "0x31e2")])
def test_an_integer_beyond_float_is_refused_with_its_first_digits(power, digits):
    # Python itself refuses to write more than 4,300 digits.
    with pytest.raises(UserError, match=rf"^eps must be .*, got an int, {digits}\w*\.\.\.$"):
        norms.per_row("eps", 10**power, jnp.ones((1, 2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_order_to_the_kth_largest_entry_is_that_of_a_sort(dtype):
    rng = np.random.default_rng(0)
    rows = np.abs(rng.normal(size=(40, 9)) * 10.0 ** rng.integers(-40, 30, (40, 9))).astype(dtype)
    rows[::4] = rng.integers(0, 3, (10, 9))  # equal ones, and 0
    rows[0, :3], rows[4, ::2] = -0.0, -0.0
    rows[1, 3], rows[2, 5] = np.inf, np.finfo(dtype).smallest_subnormal
    k = rng.integers(1, 10, (40, 1))
    expected = np.take_along_axis(-np.sort(-rows, axis=1), k - 1, axis=1)
    with jax.enable_x64(dtype == np.float64):
        found = norms.order_to_kth(jnp.asarray(rows), jnp.asarray(k, jnp.int32))
    np.testing.assert_array_equal(found, (rows > expected) - np.int8(rows < expected))


def test_the_largest_entries_are_those_of_a_stable_sort():
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 4, (60, 7)).astype(np.float32)
    count = rng.uniform(0, 9, (60, 1)).astype(np.float32)
    rank = np.argsort(np.argsort(-rows, axis=1, kind="stable"), axis=1, kind="stable")
    np.testing.assert_array_equal(norms.largest(rows, jnp.asarray(count)), rank < np.floor(count))


def test_the_l0_projection_in_shard_map_is_that_on_one_device():
    rows = jnp.asarray(np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32))
    mesh = jax.make_mesh((2,), ("rows",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    over = jax.sharding.PartitionSpec("rows")
    project = partial(norms.project, eps=2.0, norm="l0")
    mapped = jax.jit(jax.shard_map(project, mesh=mesh, in_specs=over, out_specs=over))
    np.testing.assert_array_equal(mapped(rows), project(rows))

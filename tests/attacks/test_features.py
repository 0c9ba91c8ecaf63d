"""Bounds, radii and a mask of each feature, in every attack of the table."""

import functools
import itertools

import attack_table
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from attack_table import CORE, SHAPE, TABLE, B, K, marked, norm_of
from marks import slow_after

from adv_jax import attacks

RNG = np.random.default_rng(0)
W_IN, W_OUT = (jnp.float32(RNG.normal(size=shape)) for shape in [(6, 7), (7, K)])
KEYS = jax.random.split(jax.random.key(7), B)
Y = jnp.array([0, 3, 1, 1, 2, 0])
# Powers of two, so that scaling a feature is exact; the largest is 1.
RADII = np.float32([[[1.0, 0.5, 0.125], [0.25, 0.5, 1.0]]])
LO, HI = -RADII[0], np.float32([[2.0, 0.75, 0.25], [0.5, 1.0, 1.0]])
MASK = np.array([[True, False, True], [True, True, False]])
X = jnp.float32(LO + RNG.uniform(size=(B, *SHAPE)) * (HI - LO))


def logits_fn(x):
    return 2 * jnp.tanh(x.reshape(len(x), -1) @ W_IN) @ W_OUT


def each_attack(condition=lambda row: True):
    """Parametrizes over the rows with a property, as each attack multiplies by radii itself."""
    rows = [marked(name, slow={*CORE, "apgd-l1"}) for name, row in TABLE.items() if condition(row)]
    return pytest.mark.parametrize("name", rows)


@pytest.mark.slow
@each_attack()
def test_masked_features_stay_and_the_others_keep_their_radii_and_bounds(name):
    row = TABLE[name]
    per_feature = row.scale != "gamma"

    @jax.jit
    def attacked(x, eps, bounds, mask):
        masked = row._replace(options=row.options | {"mask": mask})
        given = {"logits_fn": logits_fn, "bounds": bounds, "keys": KEYS}
        return attack_table.run(masked, x, Y, eps, **given)

    # All are traced, and the second call has others.
    for size, mask in [(1.0, MASK), (0.25, ~MASK)]:
        eps = size * RADII if per_feature else 1.0
        bounds = (size * LO, size * HI)
        x_adv = np.asarray(attacked(size * X, eps, bounds, mask))
        before = np.asarray(size * X)
        assert x_adv[:, ~mask].tobytes() == before[:, ~mask].tobytes()
        assert (x_adv[:, mask] != before[:, mask]).any()
        assert np.all((x_adv >= bounds[0]) & (x_adv <= bounds[1]))
        if row.norm is not None:
            length = norm_of((np.float64(x_adv) - before) / eps, row.norm)
            assert np.all(length <= 1 + 1e-6)
    assert attacked._cache_size() == 1


def rooted(x):
    """Three classes, with an infinite gradient by the first feature where that is 0."""
    values = jnp.sqrt(x[:, 0]) + 2 * x[:, 1]
    return jnp.stack([values, jnp.full_like(values, 1.75), -values], axis=1)


# The saliency map takes pairs of features.
@pytest.mark.slow
@each_attack(lambda row: row.traits.gradient and row.reads_labels and row.scale != "gamma")
def test_an_infinite_slope_by_a_feature_that_must_not_move_stops_no_attack(name):
    row, x, y = TABLE[name], jnp.full((B, 2), 0.75).at[:, 0].set(0), jnp.ones(B, jnp.int32)
    masked = row._replace(options=row.options | {"mask": jnp.array([False, True])})
    x_adv = attack_table.run(masked, x, y, 0.2, logits_fn=rooted, keys=KEYS)
    np.testing.assert_array_equal(x_adv[:, 0], 0)
    assert bool((x_adv[:, 1] > x[:, 1]).all())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lbfgs", "fab-linf", "deepfool-l2", "apgd-l1"])
def test_an_infinite_slope_by_a_feature_of_radius_zero_stops_no_attack(name):
    x, y = jnp.full((B, 2), 0.75).at[:, 0].set(0), jnp.ones(B, jnp.int32)
    eps = jnp.array([[0, 0.2]])
    x_adv = attack_table.run(TABLE[name], x, y, eps, logits_fn=rooted, keys=KEYS)
    np.testing.assert_array_equal(x_adv[:, 0], 0)
    assert bool((x_adv[:, 1] > x[:, 1]).all())


# tau is a factor of the gradient, and the length of a sign depends on the units.
@pytest.mark.slow
@each_attack(lambda row: row.scale != "tau" and not row.options.get("length"))
def test_radii_of_features_are_a_ball_of_scaled_features(name):
    row, s = TABLE[name], jnp.asarray(RADII)
    run = functools.partial(attack_table.run, keys=KEYS)
    if row.scale == "gamma":
        scaled, other = ({"theta": theta} for theta in (s, 1.0))
        scaled, other = (row._replace(options=row.options | o) for o in (scaled, other))
        eps, one = 0.5, 0.5
    else:
        scaled, other, eps, one = row, row, s, 1.0
    x_adv = run(scaled, X, Y, eps, logits_fn=logits_fn, bounds=(LO, HI))
    # The bounds of u = x / s, where a number is a radius of all features.
    bounds = (LO / RADII[0], HI / RADII[0])
    u_adv = run(other, X / s, Y, one, logits_fn=lambda u: logits_fn(s * u), bounds=bounds)
    np.testing.assert_allclose(x_adv / s, u_adv, atol=2e-5)


# The penalties of these are in units of the radii of features.
PENALIZED = [TABLE["carlini_wagner"], TABLE["lbfgs"], TABLE["ead"]]


@pytest.mark.slow
@each_attack(
    lambda row: row.norm and not row.variant and not any(row is other for other in PENALIZED)
)
def test_equal_radii_of_features_are_one_radius(name):
    row = TABLE[name]
    run = functools.partial(attack_table.run, logits_fn=logits_fn, bounds=(LO, HI), keys=KEYS)
    each = run(row, X, Y, jnp.full((1, *SHAPE), 0.2))
    np.testing.assert_allclose(each, run(row, X, Y, 0.2), atol=1e-5)


@pytest.mark.parametrize("l1_width", slow_after(1, [3.0, None]))
def test_pgd_under_l0_is_pgd_0(l1_width):
    # The reference: steps of the gradient divided by its l1 norm, then the nearest point of the
    # bounds with two changed features, by all subsets.
    bounds, count, steps = (LO, HI), 2, 3
    step = (HI - LO).sum() * 2.5 / steps if l1_width is None else l1_width
    loss = lambda x: optax.softmax_cross_entropy_with_integer_labels(logits_fn(x), Y)
    slope = jax.jit(jax.grad(lambda x: loss(x).sum()))
    low, high = (np.float64(bound - np.asarray(X)).reshape(B, 6) for bound in bounds)
    r, best = np.zeros((B, 6)), (np.zeros((B, 6)), np.full(B, -np.inf))
    allowed = np.where(MASK, 1, 0).reshape(1, 6)
    for _ in range(steps + 1):
        point = X + np.float32(r).reshape(X.shape)
        fools = np.asarray(jnp.argmax(logits_fn(point), axis=1) != Y)
        rank = np.asarray(loss(point)) + 1e3 * fools
        best = np.where((rank > best[1])[:, None], r, best[0]), np.maximum(rank, best[1])
        g = np.float64(slope(point)).reshape(B, 6) * allowed
        ahead = r + step * g / np.abs(g).sum(axis=1, keepdims=True)
        clipped = np.clip(ahead, low, high)
        subsets = [np.isin(np.arange(6), s) for s in itertools.combinations(range(6), count)]
        near = np.stack([np.where(s, clipped, 0) for s in subsets])
        r = near[((near - ahead) ** 2).sum(axis=2).argmin(axis=0), np.arange(B)]
    x_adv = attacks.pgd(
        logits_fn, X, Y, eps=count, norm="l0", step_size=l1_width, num_steps=steps,
        bounds=bounds, mask=MASK,
    )  # fmt: skip
    np.testing.assert_allclose((x_adv - X).reshape(B, 6), best[0], atol=1e-5)
    assert np.all((x_adv != X).reshape(B, 6).sum(axis=1) <= count)
    drawn = attacks.pgd(
        logits_fn, X, Y, eps=count, norm="l0", num_steps=1, bounds=bounds, key=jax.random.key(0)
    )
    drawn = np.asarray(drawn)
    assert np.all((drawn != X).reshape(B, 6).sum(axis=1) <= count)
    assert np.all((drawn >= LO) & (drawn <= HI))


@pytest.mark.slow
def test_bounds_radii_and_masks_of_rows_stay_with_their_rows_in_the_blocks_of_auto_attack():
    rows = np.arange(1, B + 1, dtype=np.float32).reshape(B, 1, 1) / B
    mask = RNG.uniform(size=X.shape) < 0.7
    given = {"bounds": (LO * rows, HI * rows), "mask": mask, "eps": RADII * rows}
    x = X * rows

    def attacked(block_size):
        run = functools.partial(attacks.auto_attack, num_steps=3, num_queries=9, num_targets=2)
        return np.asarray(run(logits_fn, x, Y, key=KEYS, block_size=block_size, **given))

    x_adv = attacked(4)
    np.testing.assert_allclose(x_adv, attacked(B), atol=1e-6)
    assert (x_adv != x).any() and np.all((x_adv == x) | mask)
    assert np.all(np.abs(x_adv - x) <= given["eps"] * (1 + 1e-6))
    assert np.all((x_adv >= given["bounds"][0]) & (x_adv <= given["bounds"][1]))


@pytest.mark.slow
@pytest.mark.parametrize("attack", [attacks.lbfgs, attacks.carlini_wagner])
def test_radii_are_the_units_in_which_a_perturbation_is_short(attack):
    rng = np.random.default_rng(0)
    w = jnp.float32(rng.normal(size=(3, 3)))
    z, std = jnp.float32(rng.uniform(-1, 1, (4, 3))), jnp.float32([[600.0, 0.5, 20.0]])
    y = jnp.argmax(z @ w, axis=1)
    found = attack(lambda x: x / std @ w, z * std, y, eps=3 * std, bounds=(-2 * std, 2 * std))
    expected = attack(lambda u: 3 * u @ w, z / 3, y, eps=1.0, bounds=(-2 / 3, 2 / 3))
    assert bool((jnp.argmax(found / std @ w, axis=1) != y).all())
    np.testing.assert_allclose(found / (3 * std), expected, atol=2e-3)

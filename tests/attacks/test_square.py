"""square: its windows and patterns against the paper's formulas, and its logged queries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.attacks.square import _bump, _place, _regroup, _tiles, _window, square
from adv_jax.types import UserError

RNG = np.random.default_rng(0)
H, WIDTH, C = 8, 8, 2
W = RNG.normal(size=(H * WIDTH * C, 3)).astype(np.float32)
both_norms = pytest.mark.parametrize("norm", ["linf", "l2"])
ORDER = {"linf": np.inf, "l2": 2}


def linear(x):
    return x.reshape(x.shape[0], -1) @ jnp.asarray(W[: x[0].size])


def images(rows=4):
    x = np.random.default_rng(1).uniform(size=(rows, H, WIDTH, C)).astype(np.float32)
    return x, jnp.argmax(linear(jnp.asarray(x)), axis=1)


@pytest.mark.parametrize(
    ("shape", "p", "least", "expected"),
    [
        # round(sqrt(p) * 28), never 0; for l2 odd and at least 3.
        ((28, 28, 1), 0.8, 1, (25, 25)),
        ((28, 28, 1), 0.4, 1, (18, 18)),
        ((28, 28, 3), 0.05, 1, (6, 6)),
        ((28, 28, 1), 0.8 / 512, 1, (1, 1)),
        ((28, 28, 1), 0.4, 3, (19, 19)),
        ((28, 28, 1), 0.8 / 512, 3, (3, 3)),
        # The whole short side, and the same share of the pixels.
        ((1, 100, 1), 0.2, 1, (1, 20)),
        ((100, 4, 1), 0.5, 1, (50, 4)),
        ((2, 2, 1), 0.8, 3, (2, 2)),
        ((1, 1, 1), 0.01, 1, (1, 1)),
    ],
)
def test_the_window_of_square_has_the_scheduled_share_of_the_pixels(shape, p, least, expected):
    assert tuple(int(length) for length in _window(jnp.float32(p), shape, least)) == expected


def test_a_window_lies_anywhere_inside_the_image():
    draws = jnp.array([[u, v] for u in (0, 0.5, 1 - 2**-24) for v in (0, 1 - 2**-24)])
    places = jax.vmap(lambda draw: jnp.stack([at[0] for at in _place(draw, (3, 8), (8, 8))]))
    # -offset of the first row and column; 6 offsets of a window of 3 in 8 rows, 1 of one of 8.
    np.testing.assert_array_equal(places(draws), [[0, 0]] * 2 + [[-3, 0]] * 2 + [[-5, 0]] * 2)


def peak(height, width):
    """[andriushchenko2020], eq. 1: sum of 1 / (n + 1 - k)^2 for k = 0 .. M(r, s)."""
    n, value = max(height // 2, width // 2), np.zeros((height, width))
    for r in range(height):
        for s in range(width):
            m = n - max(abs(r - height // 2), abs(s - width // 2))
            value[r, s] = sum(1 / (n + 1 - k) ** 2 for k in range(m + 1))
    return value / np.sqrt((value**2).sum())


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), [(5, 5), (7, 7), (3, 6)])
def test_the_l2_pattern_equals_the_formula_of_the_paper(a, b):
    above = np.concatenate([peak(a // 2, b), -peak(a - a // 2, b)]) / np.sqrt(2)
    beside = np.concatenate([peak(a, b // 2), -peak(a, b - b // 2)], axis=1) / np.sqrt(2)
    # In a 9 x 9 image, 2 from the top, 1 from the left.
    i, j = jnp.arange(9) - 2, jnp.arange(9) - 1
    for draw, expected in [(0.7, above), (0.3, beside)]:
        image = np.zeros((9, 9))
        image[2 : 2 + a, 1 : 1 + b] = expected
        np.testing.assert_allclose(_bump([i, j], (a, b), jnp.float32(draw)), image, atol=1e-6)


def tiles(shape):
    return jax.jit(lambda key, eps: _tiles(key, eps, shape))(jax.random.key(0), jnp.float32(2.0))


@pytest.mark.slow
def test_the_tiles_fill_the_image_and_have_the_norm_of_the_ball():
    for shape in [(28, 28, 1), (11, 11, 3), (1, 7, 1), (2, 3, 1)]:
        r = np.asarray(tiles(shape))
        assert r.shape == shape
        np.testing.assert_allclose(np.sqrt((r**2).sum()), 2, rtol=1e-5)
    # 5 tiles of 5 x 5 in 28 rows begin at 1; each has all its energy in one half of its signs.
    r = np.asarray(tiles((28, 28, 1)))[:, :, 0]
    assert not r[[0, 26, 27]].any() and not r[:, [0, 26, 27]].any()
    energy = (r[1:26, 1:26].reshape(5, 5, 5, 5) ** 2).sum(axis=(1, 3))
    np.testing.assert_allclose(energy, 4 / 25, rtol=1e-5)


@pytest.mark.slow
def test_regrouping_moves_energy_and_keeps_the_norm_and_the_rest():
    eps, window = jnp.float32(2.0), (3, 3)
    for seed in range(6):
        r = np.random.default_rng(seed).normal(size=(9, 9, 2)).astype(np.float32)
        r *= 1.5 / np.sqrt((r**2).sum())
        changed = np.asarray(_regroup(jax.random.key(seed), jnp.asarray(r), eps, window))
        np.testing.assert_allclose(np.sqrt((changed**2).sum()), 2, rtol=1e-5)
        differs = (np.abs(changed - r) > 1e-5).any(axis=2)
        cleared = (changed == 0).all(axis=2)
        # One full window has changed; the part of the other outside of it is 0.
        gains = differs & ~cleared
        rows, columns = np.flatnonzero(gains.any(axis=1)), np.flatnonzero(gains.any(axis=0))
        assert np.ptp(rows) == np.ptp(columns) == 2 and gains.sum() == 9
        assert cleared.sum() <= 9 and differs.sum() == 9 + cleared.sum()


def logged(seen):
    """Returns the linear model; it appends its inputs to `seen`."""

    def logits_fn(x):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x, ordered=True)
        return linear(x)

    return logits_fn


def margins(x, y):
    logits = np.asarray(linear(jnp.asarray(x)))
    own = np.take_along_axis(logits, np.asarray(y)[:, None], axis=1)[:, 0]
    return (logits - 1e9 * np.eye(3)[np.asarray(y)]).max(axis=1) - own


@both_norms
@pytest.mark.parametrize("bounds", [(0.0, 1.0), pytest.param(None, marks=pytest.mark.slow)])
def test_square_queries_inside_the_ball_and_returns_the_best_answer(norm, bounds):
    (x, y), seen, eps = images(), [], {"linf": 0.001, "l2": 0.05}[norm]
    options = {"eps": eps, "norm": norm, "bounds": bounds, "num_queries": 30}
    x_adv = jax.jit(lambda x: square(logged(seen), x, y, key=jax.random.key(0), **options))(x)
    x_adv = np.asarray(x_adv)
    jax.effects_barrier()
    assert len(seen) == 1 + 1 + 30  # At x, at the start, and each query.
    asked = np.stack(seen)
    length = np.linalg.norm((asked - x).reshape(32, 4, -1), ord=ORDER[norm], axis=2)
    assert length.max() <= eps * (1 + 1e-5) and length[1:].min() > 0
    if bounds is not None:
        assert asked.min() >= 0 and asked.max() <= 1
    answers = np.stack([margins(at, y) for at in seen])
    assert answers.max() < 0  # No row was fooled, so that each kept on.
    np.testing.assert_allclose(margins(x_adv, y), answers.max(axis=0), rtol=1e-6)
    # The queries after a gain start from it, so that gains add up.
    gains = np.maximum.accumulate(answers, axis=0)[1:]
    assert np.all((np.diff(gains, axis=0) > 0).sum(axis=0) >= 3)


def test_square_leaves_fooled_rows_and_ends_the_search():
    (x, y), seen = images(), []
    y = y.at[0].set((y[0] + 1) % 3)  # Misclassified from the start.
    options = {"eps": 0.5, "num_queries": 1000}
    x_adv = jax.jit(lambda x: square(logged(seen), x, y, key=jax.random.key(0), **options))(x)
    jax.effects_barrier()
    np.testing.assert_array_equal(x_adv[0], x[0])
    assert np.all(margins(x_adv, y) > 0) and len(seen) < 200


@pytest.mark.slow
def test_blocks_change_no_result_of_square_and_fooled_rows_leave_them():
    x, y = images(rows=40)
    y = y.at[::2].set((y[::2] + 1) % 3)  # Misclassified from the start.
    seen = []
    options = {"eps": 0.05, "num_queries": 35, "key": jax.random.split(jax.random.key(0), 40)}

    def attacked(size):
        seen.clear()
        run = jax.jit(lambda x: square(logged(seen), x, y, block_size=size, **options))
        return np.asarray(run(x))

    expected, found = attacked(40), attacked(6)
    jax.effects_barrier()
    assert 2 < (margins(found, y)[1::2] > 0).sum() < 18
    np.testing.assert_allclose(found, expected, atol=1e-6)
    asked = np.concatenate(seen[1:])
    kept = (margins(found, y) <= 0).sum()
    assert 36 * kept <= len(asked) < 800  # 864 if fooled rows stayed in their blocks
    np.testing.assert_array_equal(attacked(None), found)


@pytest.mark.slow
def test_a_model_of_all_rows_alone_is_refused_in_blocks():
    x, y = images(rows=40)
    side = jnp.zeros((40, 3))
    options = {"eps": 0.1, "num_queries": 3, "key": jax.random.key(0)}
    message = "^logits_fn must take any rows of x, .* at 32 of 40: give .* aux, or block_size=40$"
    with pytest.raises(UserError, match=message):
        square(lambda x: linear(x) + side, x, y, **options)
    square(lambda x: linear(x) + side, x, y, block_size=40, **options)
    square(lambda x, side: linear(x) + side, x, y, aux=side, **options)


def test_square_finds_the_corner_on_a_linear_model_of_a_vector():
    # The label's lead, 9 + or - <w, x - 1/2>, falls by .1 |w| = .65 at most.
    w = np.array([3.0, 1.0, -2.0, 0.5], np.float32)
    x, y = np.full((2, 4), 0.5, np.float32), jnp.array([0, 1])

    def logits_fn(x):
        form = (x - 0.5) @ jnp.asarray(w)
        return jnp.stack([form + 9.0 * jnp.float32(y == 0), 9.0 * jnp.float32(y == 1)], axis=1)

    options = {"eps": 0.1, "num_queries": 200, "bounds": (0.45, 1), "key": jax.random.key(0)}
    x_adv = jax.jit(lambda x: square(logits_fn, x, y, **options))(x)
    signs = np.array([[-1, -1, 1, -1], [1, 1, -1, 1]])
    np.testing.assert_allclose(x_adv, np.clip(0.5 + 0.1 * signs, 0.45, 1), atol=1e-6)


@pytest.mark.slow
@both_norms
def test_square_treats_a_vector_as_an_image_of_one_row(norm):
    x, y = images()
    flat, options = x.reshape(4, -1), {"eps": 0.1, "norm": norm, "num_queries": 9}
    attack = jax.jit(lambda x: square(linear, x, y, key=jax.random.key(0), **options))
    as_image = attack(flat.reshape(4, 1, 128))
    np.testing.assert_array_equal(as_image.reshape(4, -1), attack(flat))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l1"}, r'norm must be "linf" \("inf", jnp.inf\) or "l2" \(2\), got .l1'),
        ({"num_queries": 0}, "num_queries must be a whole number of at least 1, got 0"),
        ({"key": None}, "key must be"),
    ],
)
def test_square_refuses_bad_arguments(options, message):
    x, y = images()
    with pytest.raises(ValueError, match=message):
        square(linear, x, y, **{"eps": 0.1, "key": jax.random.key(0)} | options)

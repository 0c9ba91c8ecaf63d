"""What every attack promises, from one table: a new attack adds a row and inherits the tests."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adv_jax import attacks

B, SHAPE, K = 6, (2, 3), 4
BOUNDS = (0.0, 1.0)
NORMS = ["linf", "l2", "l1", "rms"]


class Row(NamedTuple):
    """attack: called as attack(logits_fn, x, y, *, <scale>, bounds, key, **options).

    scale: the name of its budget, a real number of which 0 means no perturbation.
    norm: the ball of radius `scale` that it stays in, None if there is none.
    draws: it needs a key.
    reads_model: it looks at the model and, unless `draws`, at the labels.
    """

    attack: Callable
    scale: str = "eps"
    options: dict = {}
    norm: str | None = None
    draws: bool = False
    reads_model: bool = True


TABLE = {
    **{f"fgsm-{n}": Row(attacks.fgsm, options={"norm": n}, norm=n) for n in NORMS},
    "raw_gradient": Row(attacks.raw_gradient, scale="tau"),
    "gaussian_noise": Row(attacks.gaussian_noise, scale="std", draws=True, reads_model=False),
    "sign_noise": Row(attacks.sign_noise, norm="linf", draws=True, reads_model=False),
    **{
        f"uniform_noise-{n}": Row(
            attacks.uniform_noise, options={"norm": n}, norm=n, draws=True, reads_model=False
        )
        for n in NORMS
    },
}


def rows_where(condition):
    return pytest.mark.parametrize(
        "row", [pytest.param(row, id=name) for name, row in TABLE.items() if condition(row)]
    )


every_attack = rows_where(lambda row: True)
every_model_reader = rows_where(lambda row: row.reads_model)
both_dtypes = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])


def weights(shape=SHAPE):
    rng = np.random.default_rng(0)
    d = int(np.prod(shape))
    return {"in": jnp.float32(rng.normal(size=(d, 7))), "out": jnp.float32(rng.normal(size=(7, K)))}


def model(weights, x):
    """A two-layer net that computes in the dtype of x."""
    w_in, w_out = (weights[name].astype(x.dtype) for name in ("in", "out"))
    return jnp.tanh(x.reshape(x.shape[0], -1) @ w_in) @ w_out


def logits_fn(x):
    return model(weights(x.shape[1:]), x)


def inputs(shape=SHAPE, dtype=jnp.float32):
    """Rows in the bounds, with entries on both of them and a negative zero."""
    x = np.random.default_rng(1).uniform(size=(B, *shape)).astype(np.float32)
    x.reshape(B, -1)[0, 0], x.reshape(B, -1)[1, 0], x.reshape(B, -1)[2, 0] = 0.0, 1.0, -0.0
    return jnp.asarray(x, dtype), jnp.array([0, 3, 1, 1, 2, 0])


def run(row, x, y, scale, *, bounds=BOUNDS, keys=None, logits_fn=logits_fn):
    """The attack with one key a row, so that a row keeps its draws wherever it stands."""
    keys = jax.random.split(jax.random.key(7), B) if keys is None else keys
    options = row.options | {row.scale: scale, "bounds": bounds, "key": keys}
    return row.attack(logits_fn, x, y, **options)


def norm_of(r, kind):
    r = np.asarray(r, np.float64).reshape(len(r), -1)
    order = {"linf": np.inf, "l1": 1, "l2": 2, "rms": 2}[kind]
    length = np.linalg.norm(r, ord=order, axis=1)
    return length / np.sqrt(r.shape[1]) if kind == "rms" else length


def assert_same_bits(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@every_attack
@both_dtypes
@pytest.mark.parametrize("scale", [1e-3, 0.1, 2.0])
def test_it_stays_inside_the_ball_and_the_bounds(row, dtype, scale):
    x, y = inputs(dtype=dtype)
    for bounds in (BOUNDS, None):
        x_adv = run(row, x, y, scale, bounds=bounds)
        if bounds is not None:
            assert x_adv.min() >= bounds[0] and x_adv.max() <= bounds[1]
        if row.norm is not None:
            r = np.asarray(x_adv, np.float64) - np.asarray(x, np.float64)
            assert np.all(norm_of(r, row.norm) <= scale * (1 + 1e-6))


@every_attack
@both_dtypes
@pytest.mark.parametrize("bounds", [BOUNDS, None])
def test_a_scale_of_zero_is_the_identity_bit_for_bit(row, dtype, bounds):
    x, y = inputs(dtype=dtype)
    assert_same_bits(run(row, x, y, 0.0, bounds=bounds), x)
    assert_same_bits(jax.jit(lambda scale: run(row, x, y, scale, bounds=bounds))(0.0), x)


@every_attack
@both_dtypes
def test_it_moves_and_keeps_shape_and_dtype(row, dtype):
    x, y = inputs(dtype=dtype)
    x_adv = run(row, x, y, 0.3)
    assert (x_adv.shape, x_adv.dtype) == (x.shape, x.dtype)
    assert np.all(np.any(np.asarray(x_adv != x).reshape(B, -1), axis=1))


@every_attack
@pytest.mark.parametrize("shape", [(), (1, 2, 1, 3)])
def test_inputs_may_have_any_rank(row, shape):
    x, y = inputs(shape)
    d = int(np.prod(shape))
    flat = run(row, x.reshape(B, d), y, 0.1)
    np.testing.assert_allclose(run(row, x, y, 0.1).reshape(B, d), flat, atol=1e-6)


@every_attack
def test_rows_are_independent(row):
    x, y = inputs()
    keys = jax.random.split(jax.random.key(3), B)
    together = run(row, x, y, 0.1, keys=keys)
    order = np.array([3, 0, 4, 2, 5, 1])
    permuted = run(row, x[order], y[order], 0.1, keys=keys[order])
    np.testing.assert_allclose(permuted, together[order], atol=1e-6)
    for part in (slice(0, 3), slice(3, B)):
        alone = run(row, x[part], y[part], 0.1, keys=keys[part])
        np.testing.assert_allclose(alone, together[part], atol=1e-6)


@every_attack
def test_the_scale_may_differ_by_row(row):
    x, y = inputs()
    scales = jnp.array([0.0, 0.1, 0.2, 0.05, 1.0, 0.1])
    together = run(row, x, y, scales)
    for i, scale in enumerate(scales):
        np.testing.assert_allclose(run(row, x, y, scale)[i], together[i], atol=1e-6)


@every_model_reader
@both_dtypes
def test_a_zero_gradient_is_a_zero_step(row, dtype):
    # Row 0 has logits that do not depend on x, the others do.
    x, y = inputs(dtype=dtype)

    def partly_flat(x):
        return jnp.where(jnp.arange(x.shape[0])[:, None] == 0, jnp.ones((), x.dtype), logits_fn(x))

    x_adv = run(row, x, y, 0.3, logits_fn=partly_flat)
    assert_same_bits(x_adv[0], x[0])
    assert bool(jnp.isfinite(x_adv).all()) and bool((x_adv[1:] != x[1:]).any())


@every_attack
def test_jit_with_everything_traced_gives_the_same(row):
    x, y = inputs()
    keys = jax.random.split(jax.random.key(3), B)
    jitted = jax.jit(lambda x, y, scale, keys: run(row, x, y, scale, keys=keys))
    expected = run(row, x, y, 0.1, keys=keys)
    np.testing.assert_allclose(jitted(x, y, 0.1, keys), expected, atol=1e-6)


@every_attack
def test_vmap_and_scan_over_the_scale_are_the_single_calls(row):
    x, y = inputs()
    scales = jnp.array([0.0, 0.1, 0.5])
    singly = np.stack([run(row, x, y, scale) for scale in scales])
    mapped = jax.vmap(lambda scale: run(row, x, y, scale))(scales)
    _, scanned = jax.lax.scan(lambda carry, s: (carry, run(row, x, y, s)), None, scales)
    np.testing.assert_allclose(mapped, singly, atol=1e-6)
    np.testing.assert_allclose(scanned, singly, atol=1e-6)


@every_attack
def test_another_scale_does_not_recompile(row):
    x, y = inputs()
    jitted = jax.jit(lambda x, y, scale: run(row, x, y, scale))
    for scale in (0.0, 0.1, 3.0):
        jitted(x, y, scale)
    assert jitted._cache_size() == 1


@every_attack
def test_no_gradient_flows_through_the_perturbation(row):
    x, y = inputs()

    def attacked(w, x, scale):
        return run(row, x, y, scale, logits_fn=lambda z: model(w, z)).sum()

    for gradient in jax.tree.leaves(jax.grad(attacked, argnums=(0, 1, 2))(weights(), x, 0.1)):
        np.testing.assert_array_equal(gradient, 0)


@every_attack
def test_a_training_step_sees_a_constant(row):
    # The gradient of a loss at the attacked points is the one with these points as data.
    x, y = inputs()

    def loss(w, x_adv):
        return optax.softmax_cross_entropy_with_integer_labels(model(w, x_adv), y).mean()

    w = weights()
    through = jax.grad(lambda w: loss(w, run(row, x, y, 0.1, logits_fn=lambda z: model(w, z))))(w)
    as_data = jax.grad(loss)(w, run(row, x, y, 0.1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), through, as_data)


@every_model_reader
def test_soft_labels_that_are_one_hot_are_integer_labels(row):
    x, y = inputs()
    np.testing.assert_allclose(
        run(row, x, jax.nn.one_hot(y, K), 0.1), run(row, x, y, 0.1), atol=1e-6
    )


@every_model_reader
def test_no_labels_means_the_prediction(row):
    x, _ = inputs()
    predicted = jnp.argmax(logits_fn(x), axis=1)
    np.testing.assert_allclose(run(row, x, None, 0.1), run(row, x, predicted, 0.1), atol=1e-6)


@rows_where(lambda row: not row.reads_model)
def test_what_does_not_read_the_model_runs_without_one(row):
    x, y = inputs()
    assert_same_bits(run(row, x, None, 0.1, logits_fn=None), run(row, x, y, 0.1))


@every_attack
def test_a_key_is_required_exactly_where_random_numbers_are_drawn(row):
    x, y = inputs()

    def attack(key):
        return row.attack(logits_fn, x, y, **row.options, **{row.scale: 0.3}, key=key)

    if row.draws:
        with pytest.raises(ValueError, match="key is required"):
            attack(None)
        assert_same_bits(attack(jax.random.key(0)), attack(jax.random.key(0)))
        assert bool((attack(jax.random.key(0)) != attack(jax.random.key(1))).any())
    else:
        assert_same_bits(attack(None), attack(jax.random.key(0)))


@every_attack
def test_bad_arguments_are_refused_by_name(row):
    x, y = inputs()
    with pytest.raises(ValueError, match=f"{row.scale} must be >= 0, got -0.1"):
        run(row, x, y, -0.1)
    with pytest.raises(ValueError, match=rf"{row.scale} must be .* B = 6, got the shape \(3,\)"):
        run(row, x, y, jnp.ones(3))
    with pytest.raises(ValueError, match=r"x must be .* got uint8\[6, 2, 3\]"):
        run(row, jnp.zeros((B, *SHAPE), jnp.uint8), y, 0.1)


@every_model_reader
def test_bad_labels_and_logits_are_refused_in_words(row):
    x, y = inputs()
    for labels, got in [
        (y[:3], r"int32\[3\]"),
        (jnp.float32(y), r"float32\[6\]"),
        (jnp.zeros((B, K + 1)), r"float32\[6, 5\]"),
    ]:
        with pytest.raises(ValueError, match=f"y must be integers .* B = 6, K = 4, got {got}"):
            run(row, x, labels, 0.1)
    with pytest.raises(ValueError, match=r"logits f32\[B, K\] with B = 6, got float32\[6\]"):
        run(row, x, y, 0.1, logits_fn=lambda x: logits_fn(x)[:, 0])
    with pytest.raises(ValueError, match="one array of logits .* got a tuple"):
        run(row, x, y, 0.1, logits_fn=lambda x: (logits_fn(x), {}))

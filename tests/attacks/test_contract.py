"""The contract of all attacks. Each row of `attack_table.TABLE` runs through all tests."""

import functools

import attack_table
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from attack_table import BOUNDS, CORE, FEW, KINDS, SHAPE, TABLE, B, K, marked, norm_of
from compilations import forget_programs
from marks import exhaustive_after, slow_after


def rows_where(condition, quick=KINDS, slow=KINDS):
    """Parametrizes over the rows with a property; those in `quick` run by default."""
    rows = [marked(name, quick, slow) for name, row in TABLE.items() if condition(row)]
    return pytest.mark.parametrize("name", rows, scope="module")


@pytest.fixture(autouse=True, scope="module")
def _forget(name):
    """Drops the programs of each row."""
    yield
    compiled.cache_clear()
    forget_programs()


every_attack = rows_where(lambda row: True)
# For tests that compile programs of their own.
few_attacks = rows_where(lambda row: True, quick=FEW)
every_model_reader = rows_where(lambda row: row.reads_model)
every_label_reader = rows_where(lambda row: row.reads_labels)
both_dtypes = pytest.mark.parametrize("dtype", slow_after(1, [jnp.float32, jnp.bfloat16]))


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


KEYS = jax.random.split(jax.random.key(7), B)  # One a row, so that a row keeps its draws.


run = functools.partial(attack_table.run, keys=KEYS, logits_fn=logits_fn)


@functools.cache
def compiled(name, bounds=BOUNDS, logits_fn=logits_fn):
    """Returns the compiled attack of a row: (x, y, scale, keys) -> x_adv."""
    fixed = {"bounds": bounds, "logits_fn": logits_fn}
    return jax.jit(lambda x, y, scale, keys: run(TABLE[name], x, y, scale, keys=keys, **fixed))


def attacked(name, x, y, scale, *, keys=KEYS, **options):
    return compiled(name, **options)(x, y, jnp.asarray(scale, jnp.float32), keys)


def assert_same_bits(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def assert_inside(x_adv, x, scale, norm, bounds):
    if bounds is not None:
        assert x_adv.min() >= bounds[0] and x_adv.max() <= bounds[1]
    if norm is not None:
        r = np.asarray(x_adv, np.float64) - np.asarray(x, np.float64)
        assert np.all(norm_of(r, norm) <= scale * (1 + 1e-6))


# For every attack, by default one of each kind of search; those below vary dtypes, shapes,
# transformations and errors.
@rows_where(lambda row: True, slow=CORE)
def test_one_program_of_an_attack_keeps_the_core_promises(name):
    row, (x, y) = TABLE[name], inputs()

    @jax.jit
    def attacked(weights, x, y, aux, scale, keys):
        with_aux = row._replace(options=row.options | {"aux": aux})
        fn = lambda x, aux: model(weights, x) + aux
        return run(with_aux, x, y, scale, logits_fn=fn, keys=keys)

    given, aux = weights(), jnp.float32(np.random.default_rng(2).normal(size=(B, K)))
    scales = {scale: jnp.full(B, scale, jnp.float32) for scale in (0.0, 0.1, 0.9)}
    found = {scale: attacked(given, x, y, aux, each, KEYS) for scale, each in scales.items()}
    for scale, x_adv in found.items():
        assert (x_adv.shape, x_adv.dtype) == (x.shape, x.dtype)
        assert bool(jnp.isfinite(x_adv).all())
        assert_inside(x_adv, x, scale, row.norm, BOUNDS)
    assert_same_bits(found[0.0], x)
    assert bool((x_adv != x).any())
    if row.reads_model:
        flat = jax.tree.map(jnp.zeros_like, given)
        assert_same_bits(attacked(flat, x, y, aux, scales[0.9], KEYS), x)
    # Rows are independent, and their labels, side inputs, scales and keys travel with them.
    order = np.array([3, 0, 4, 2, 5, 1])
    permuted = attacked(given, x[order], y[order], aux[order], scales[0.9], KEYS[order])
    np.testing.assert_allclose(permuted, x_adv[order], atol=1e-5)
    mixed = [0.9, 0.0, 0.1, 0.9, 0.1, 0.0]
    other = attacked(given, x, y, aux, jnp.array(mixed), KEYS)
    for i, scale in enumerate(mixed):
        np.testing.assert_allclose(other[i], found[scale][i], atol=1e-5)
    other = attacked(given, x.at[1:].set(1 - x[1:]), y, aux, scales[0.9], KEYS)
    np.testing.assert_allclose(other[0], x_adv[0], atol=1e-5)
    assert attacked._cache_size() == 1


settings = pytest.mark.parametrize(
    ("dtype", "bounds"),
    slow_after(1, [(jnp.float32, BOUNDS), (jnp.float32, None), (jnp.bfloat16, BOUNDS)]),
)


@every_attack
@settings
def test_an_attack_stays_inside_the_ball_and_the_bounds(name, dtype, bounds):
    x, y = inputs(dtype=dtype)
    for scale in (1e-3, 0.1, 0.9):
        x_adv = attacked(name, x, y, scale, bounds=bounds)
        assert_inside(x_adv, x, scale, TABLE[name].norm, bounds)


@every_attack
@settings
def test_a_scale_of_zero_is_the_identity_bit_for_bit(name, dtype, bounds):
    x, y = inputs(dtype=dtype)
    assert_same_bits(attacked(name, x, y, 0.0, bounds=bounds), x)


@pytest.mark.slow
@every_attack
@both_dtypes
def test_an_attack_moves_rows_and_keeps_shape_and_dtype(name, dtype):
    x, y = inputs(dtype=dtype)
    x_adv = attacked(name, x, y, 0.5)
    assert (x_adv.shape, x_adv.dtype) == (x.shape, x.dtype)
    moved = np.any(np.asarray(x_adv != x).reshape(B, -1), axis=1)
    right = np.asarray(jnp.argmax(logits_fn(x), axis=1) == y)
    assert right.any() and moved.any()
    if not TABLE[name].picky:
        np.testing.assert_array_equal(moved, right if TABLE[name].traits.minimal else True)


@pytest.mark.slow
@few_attacks
def test_an_attack_without_jit_equals_the_compiled_one(name):
    x, y = inputs()
    np.testing.assert_allclose(run(TABLE[name], x, y, 0.1), attacked(name, x, y, 0.1), atol=1e-5)


@every_attack
@pytest.mark.parametrize("dtype", slow_after(1, ["float64", "float32"]))
def test_a_float32_batch_stays_float32_with_float64_enabled(name, dtype):
    x, y = inputs()
    with jax.enable_x64(True):
        attack = functools.partial(run, TABLE[name], logits_fn=lambda z: logits_fn(z.astype(dtype)))
        assert jax.eval_shape(attack, x, y, 0.1).dtype == jnp.float32


@pytest.mark.slow
@few_attacks
@pytest.mark.parametrize(
    ("shape", "other"), exhaustive_after(1, [(SHAPE, (1, 2, 1, 3)), (SHAPE, (6,)), ((), (1,))])
)
def test_inputs_may_have_any_rank(name, shape, other):
    x, y = inputs(shape)
    expected = attacked(name, x, y, 0.1).reshape(B, *other)
    x_adv = attacked(name, x.reshape(B, *other), y, 0.1)
    if TABLE[name].sees_axes:
        assert x_adv.shape == expected.shape and bool(jnp.isfinite(x_adv).all())
    else:
        np.testing.assert_allclose(x_adv, expected, atol=1e-5)


@every_attack
def test_rows_are_independent(name):
    x, y = inputs()
    together = attacked(name, x, y, 0.1)
    order = np.array([3, 0, 4, 2, 5, 1])
    permuted = attacked(name, x[order], y[order], 0.1, keys=KEYS[order])
    np.testing.assert_allclose(permuted, together[order], atol=1e-5)
    for part in (slice(0, 3), slice(3, B)):
        alone = attacked(name, x[part], y[part], 0.1, keys=KEYS[part])
        np.testing.assert_allclose(alone, together[part], atol=1e-5)


def partly_flat(x):
    """Row 0 has logits that do not depend on x, the others do."""
    return jnp.where(jnp.arange(x.shape[0])[:, None] == 0, jnp.ones((), x.dtype), logits_fn(x))


@pytest.mark.slow
@rows_where(lambda row: row.reads_model, quick=FEW)
def test_a_zero_gradient_is_a_zero_step(name):
    x, y = inputs()
    x_adv = attacked(name, x, y, 0.5, logits_fn=partly_flat)
    assert_same_bits(x_adv[0], x[0])
    assert bool(jnp.isfinite(x_adv).all()) and bool((x_adv[1:] != x[1:]).any())


def partly_unknown(x):
    """Finite logits, with a gradient of NaN: by all of row 0, by one feature of row 1."""
    row, feature = (
        jnp.arange(n).reshape(shape) for n, shape in ((len(x), (-1, 1)), (x[0].size, (1, -1)))
    )
    flat = x.reshape(len(x), -1)
    unknown = (row == 0) | (row == 1) & (feature == 0)
    zero = jnp.sqrt(jnp.where(unknown, flat - flat, 1)) - jnp.where(unknown, 0, 1)
    return logits_fn(x) + zero.sum(axis=1, keepdims=True).astype(x.dtype)


@rows_where(lambda row: row.reads_model and row.traits.gradient, quick=FEW)
def test_a_nan_entry_of_a_gradient_counts_as_zero(name):
    x, y = inputs()
    x_adv = attacked(name, x, y, 0.5, logits_fn=partly_unknown)
    assert bool(jnp.isfinite(x_adv).all()) and bool((x_adv[2:] != x[2:]).any())


@pytest.mark.slow
@few_attacks
def test_vmap_and_scan_over_the_scale_equal_single_calls(name):
    x, y = inputs()
    scales = jnp.array([[0.0, 0.1], [0.3, 0.5]])
    singly = [[attacked(name, x, y, scale) for scale in pair] for pair in scales]
    mapped = jax.vmap(lambda scale: run(TABLE[name], x, y, scale))
    scan = lambda pairs: jax.lax.scan(lambda c, pair: (c, mapped(pair)), None, pairs)
    _, scanned = jax.jit(scan)(scales)
    np.testing.assert_allclose(scanned, singly, atol=1e-5)


@every_attack
def test_another_scale_does_not_recompile(name):
    x, y = inputs()
    attacked(name, x, y, 0.1)
    programs = compiled(name)._cache_size()
    for scale in (0.0, 0.2, 0.9):
        attacked(name, x, y, scale)
    assert compiled(name)._cache_size() == programs


@pytest.mark.slow
@rows_where(lambda row: row.constant, quick=FEW)
def test_no_gradient_flows_through_the_perturbation(name):
    # The gradient of a loss at the attacked points is the one with these points as data.
    x, y = inputs()

    def loss(w, x_adv):
        return optax.softmax_cross_entropy_with_integer_labels(model(w, x_adv), y).mean()

    def through(w, x, scale):
        return loss(w, run(TABLE[name], x, y, scale, logits_fn=lambda z: model(w, z)))

    by_w, by_x, by_scale = jax.jit(jax.grad(through, argnums=(0, 1, 2)))(weights(), x, 0.1)
    np.testing.assert_array_equal(by_x, 0)
    np.testing.assert_array_equal(by_scale, 0)
    as_data = jax.grad(loss)(weights(), attacked(name, x, y, 0.1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), by_w, as_data)


@pytest.mark.slow
@rows_where(lambda row: row.reads_labels, quick=FEW)
def test_one_hot_labels_equal_integer_labels(name):
    x, y = inputs()
    soft = attacked(name, x, jax.nn.one_hot(y, K), 0.1)
    np.testing.assert_allclose(soft, attacked(name, x, y, 0.1), atol=1e-5)


@pytest.mark.slow
@rows_where(lambda row: row.reads_labels, quick=FEW)
def test_without_labels_an_attack_uses_the_predictions(name):
    x, _ = inputs()
    predicted = jnp.argmax(logits_fn(x), axis=1)
    expected = attacked(name, x, predicted, 0.1)
    np.testing.assert_allclose(attacked(name, x, None, 0.1), expected, atol=1e-5)


@pytest.mark.slow
@rows_where(lambda row: not row.reads_model)
def test_noise_attacks_run_without_a_model(name):
    x, y = inputs()
    assert_same_bits(run(TABLE[name], x, None, 0.1, logits_fn=None), run(TABLE[name], x, y, 0.1))


@pytest.mark.slow
@every_attack
def test_a_key_is_required_exactly_where_random_numbers_are_drawn(name):
    x, y = inputs()
    row = TABLE[name]
    if row.needs_key:
        with pytest.raises(ValueError, match="key"):
            run(row, x, y, 0.3, keys=None)
    keys = [jax.random.key(0), jax.random.key(1)]
    one, other = (attacked(name, x, y, 0.3, keys=key) for key in keys)
    assert bool((one != other).any()) == row.draws
    if not row.draws:
        assert_same_bits(attacked(name, x, y, 0.3, keys=None), one)


@pytest.mark.slow
@every_attack
def test_bad_arguments_are_refused_by_name(name):
    x, y = inputs()
    row = TABLE[name]
    outside, missing = x.at[2, 0, 0].set(1.5), x.at[2, 0, 0].set(jnp.nan)
    share = row.scale == "gamma"  # of the features, in jsma
    allowed = "a number from 0 to 1" if share else "a finite number of at least 0"
    with pytest.raises(ValueError, match=f"{row.scale} must be {allowed}, got -0.1"):
        run(row, x, y, -0.1)
    with pytest.raises(ValueError, match=rf"{row.scale} must be .* B = 6, got the shape \(3,\)"):
        run(row, x, y, jnp.ones(3))
    with pytest.raises(ValueError, match=r"x must be .* got uint8\[6, 2, 3\]: divide it by 255, "):
        run(row, jnp.zeros((B, *SHAPE), jnp.uint8), y, 0.1)
    with pytest.raises(ValueError, match=r"x must be .* at least 1, got float32\[0, 2, 3\]"):
        run(row, x[:0], y[:0], 0.1, keys=KEYS[:0])
    with pytest.raises(ValueError, match="x must be finite numbers, got nan"):
        run(row, missing, y, 0.1)
    with pytest.raises(ValueError, match=r"x must be within the bounds \(0.0, 1.0\), got 1.5"):
        run(row, outside, y, 0.1)
    with pytest.raises(ValueError, match=r"bounds must be \(lo, hi\) with lo < hi, got \(1, 0\)"):
        run(row, x, y, 0.1, bounds=(1, 0))
    if row.norm is not None:
        with pytest.raises(ValueError, match=rf"{row.scale} must be at most .* got 255"):
            run(row, x, y, 255.0)
    if "norm" in row.options:
        with pytest.raises(ValueError, match="norm must be .* got 'l3'"):
            run(row._replace(options=row.options | {"norm": "l3"}), x, y, 0.1)


@every_label_reader
def test_bad_labels_are_refused_in_words(name):
    x, y = inputs()
    for labels, got in [
        (jnp.int32(y[:3]), r"int32\[3\]"),
        (jnp.float32(y), r"float32\[6\]"),
        (jnp.zeros((B, K + 1), jnp.float32), r"float32\[6, 5\]"),
    ]:
        with pytest.raises(ValueError, match=f"y must be integers .* B = 6, K = 4, got {got}"):
            run(TABLE[name], x, labels, 0.1)
    with pytest.raises(ValueError, match="y must be classes from 0 to 3, got 4"):
        run(TABLE[name], x, y.at[1].set(K), 0.1)


@every_model_reader
def test_bad_logits_are_refused_in_words(name):
    x, y = inputs()
    for model, message in [
        (lambda x: logits_fn(x)[:, 0], r"logits f32\[B, K\] with B = 6, got float32\[6\]"),
        (lambda x: (logits_fn(x), {}), r"logits f32\[B, K\] .* got a tuple"),
        (lambda x: jax.nn.softmax(logits_fn(x)), "look like probabilities"),
        (lambda x: jnp.log(logits_fn(x) - 1e9), "must return finite logits, got NaN"),
    ]:
        if "probabilities" in message and TABLE[name].traits.decisions:
            continue
        with pytest.raises(ValueError, match=message):
            run(TABLE[name], x, y, 0.1, logits_fn=model)

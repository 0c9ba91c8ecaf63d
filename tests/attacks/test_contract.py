"""What every attack promises, from one table: a new attack adds a row and inherits the tests."""

import functools
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
    draws: it draws random numbers when it gets a key.
    needs_key: it cannot do without one.
    reads_model: it looks at the model.
    reads_labels: it looks at the labels.
    sees_axes: it looks at where an entry of a row stands, so that reshaping matters.
    minimal: it leaves a row alone that is fooled at x.
    picky: it may leave any row alone, as one that knows no better point than x.
    constant: its result carries no gradient.
    """

    attack: Callable
    scale: str = "eps"
    options: dict = {}
    norm: str | None = None
    draws: bool = False
    needs_key: bool = False
    reads_model: bool = True
    reads_labels: bool = True
    sees_axes: bool = False
    minimal: bool = False
    picky: bool = False
    constant: bool = True


def noise(attack: Callable, **fields) -> Row:
    return Row(attack, draws=True, needs_key=True, reads_model=False, reads_labels=False, **fields)


def needing_bounds(attack: Callable) -> Callable:
    """The attack with bounds also where a test asks for none."""
    return lambda *args, bounds, **options: attack(*args, bounds=bounds or BOUNDS, **options)


def of_the_prediction(attack: Callable) -> Callable:
    """The attack without labels: where y is the third class or lower, dlr is 1 and knows no way."""
    return lambda logits_fn, x, y, **options: attack(logits_fn, x, None, **options)


def on_itself(logits_fn, x, y, **options) -> jax.Array:
    """FGSM transferred from the model to itself."""
    return attacks.transferred(logits_fn, x, y, source_fn=logits_fn, attack=attacks.fgsm, **options)


def by_norm(name: str, norms: list[str], make: Callable = Row, **fields) -> dict[str, Row]:
    """A row for each norm; `options` besides the norm may be given."""
    attack, options = getattr(attacks, name), fields.pop("options", {})
    return {
        f"{name}-{norm}": make(attack, options=options | {"norm": norm}, norm=norm, **fields)
        for norm in norms
    }


SHORT_SEARCH = {"search_steps": 3, "initial_const": 1.0}
DRAWS = {"draws": True, "needs_key": True}
TABLE = {
    **by_norm("fgsm", NORMS),
    "fgsm-sign-of-length-l2": Row(
        attacks.fgsm, options={"length": "l2", "loss": "binary_cross_entropy"}, norm="l2"
    ),
    "transferred": Row(on_itself, norm="linf"),
    "raw_gradient": Row(attacks.raw_gradient, scale="tau"),
    "fgsm-l2-through": Row(
        attacks.fgsm, options={"norm": "l2", "constant": False}, norm="l2", constant=False
    ),
    "raw_gradient-through": Row(
        attacks.raw_gradient, scale="tau", options={"constant": False}, constant=False
    ),
    "gaussian_noise": noise(attacks.gaussian_noise, scale="std"),
    "sign_noise": noise(attacks.sign_noise, norm="linf"),
    **by_norm("uniform_noise", NORMS, make=noise),
    **by_norm("pgd", NORMS, options={"num_steps": 3}, draws=True, picky=True),
    "pgd-restarts": Row(attacks.pgd, options={"num_steps": 2, "restarts": 3}, norm="linf", **DRAWS),
    **by_norm("adv_alpha", ["linf", "l2", "l1"]),
    **by_norm(
        "virtual_adversarial", ["linf", "l2"], options={"xi": 0.1}, reads_labels=False, **DRAWS
    ),
    **by_norm("apgd", ["linf", "l2"], options={"num_steps": 4}, draws=True, picky=True),
    "apgd-dlr": Row(
        of_the_prediction(attacks.apgd),
        options={"loss": "dlr", "num_steps": 2, "restarts": 2},
        norm="linf",
        picky=True,
        reads_labels=False,
        **DRAWS,
    ),
    **by_norm(
        "square",
        ["linf", "l2"],
        options={"num_queries": 20},
        sees_axes=True,
        picky=True,
        **DRAWS,
    ),
    "auto_attack": Row(
        attacks.auto_attack,
        options={"num_steps": 3, "num_queries": 9, "num_targets": 2, "block_size": 4},
        norm="linf",
        sees_axes=True,
        minimal=True,
        **DRAWS,
    ),
    **by_norm("deepfool", ["linf", "l2"], minimal=True),
    **by_norm("fab", ["linf", "l2"], options={"num_steps": 4}, minimal=True),
    "fab-targets": Row(
        attacks.fab,
        options={"num_targets": 2, "num_steps": 3, "restarts": 2},
        norm="linf",
        minimal=True,
        **DRAWS,
    ),
    "carlini_wagner": Row(
        needing_bounds(attacks.carlini_wagner),
        options=SHORT_SEARCH | {"num_steps": 20, "learning_rate": 0.1},
        norm="l2",
        minimal=True,
    ),
    # Rounding grows with each turn of L-BFGS.
    "lbfgs": Row(
        needing_bounds(attacks.lbfgs),
        options=SHORT_SEARCH | {"num_steps": 5},
        norm="l2",
        minimal=True,
    ),
    "jsma": Row(attacks.jsma, scale="gamma", options={"targeted": False}, picky=True),
}


def rows_where(condition):
    """A test for each such row; the tests of a row follow one another."""
    names = [name for name in TABLE if condition(TABLE[name])]
    return pytest.mark.parametrize("name", names, scope="module")


@pytest.fixture(autouse=True, scope="module")
def _forget(name):
    """The programs of a row go with it: XLA's take up more memory mappings than a process has."""
    yield
    compiled.cache_clear()
    jax.clear_caches()


every_attack = rows_where(lambda row: True)
every_model_reader = rows_where(lambda row: row.reads_model)
every_label_reader = rows_where(lambda row: row.reads_labels)
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


KEYS = jax.random.split(jax.random.key(7), B)  # One a row, so that a row keeps its draws.


def run(row, x, y, scale, *, bounds=BOUNDS, keys=KEYS, logits_fn=logits_fn):
    """The attack as it is called."""
    options = row.options | {row.scale: scale, "bounds": bounds, "key": keys}
    return row.attack(logits_fn, x, y, **options)


def jit(function):
    """Compiled in half the time: these programs run a few times."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def compiled(name, bounds=BOUNDS, logits_fn=logits_fn):
    """(x, y, scale, keys) -> x_adv, one program for all tests that call a row's attack alike."""
    fixed = {"bounds": bounds, "logits_fn": logits_fn}
    return jit(lambda x, y, scale, keys: run(TABLE[name], x, y, scale, keys=keys, **fixed))


def attacked(name, x, y, scale, *, keys=KEYS, **options):
    return compiled(name, **options)(x, y, jnp.asarray(scale, jnp.float32), keys)


def norm_of(r, kind):
    r = np.asarray(r, np.float64).reshape(len(r), -1)
    order = {"linf": np.inf, "l1": 1, "l2": 2, "rms": 2}[kind]
    length = np.linalg.norm(r, ord=order, axis=1)
    return length / np.sqrt(r.shape[1]) if kind == "rms" else length


def assert_same_bits(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


settings = pytest.mark.parametrize(
    ("dtype", "bounds"), [(jnp.float32, BOUNDS), (jnp.float32, None), (jnp.bfloat16, BOUNDS)]
)


@every_attack
@settings
def test_it_stays_inside_the_ball_and_the_bounds(name, dtype, bounds):
    x, y = inputs(dtype=dtype)
    for scale in (1e-3, 0.1, 0.9):
        x_adv = attacked(name, x, y, scale, bounds=bounds)
        if bounds is not None:
            assert x_adv.min() >= bounds[0] and x_adv.max() <= bounds[1]
        if TABLE[name].norm is not None:
            r = np.asarray(x_adv, np.float64) - np.asarray(x, np.float64)
            assert np.all(norm_of(r, TABLE[name].norm) <= scale * (1 + 1e-6))


@every_attack
@settings
def test_a_scale_of_zero_is_the_identity_bit_for_bit(name, dtype, bounds):
    x, y = inputs(dtype=dtype)
    assert_same_bits(attacked(name, x, y, 0.0, bounds=bounds), x)


@every_attack
@both_dtypes
def test_it_moves_and_keeps_shape_and_dtype(name, dtype):
    x, y = inputs(dtype=dtype)
    x_adv = attacked(name, x, y, 0.5)
    assert (x_adv.shape, x_adv.dtype) == (x.shape, x.dtype)
    moved = np.any(np.asarray(x_adv != x).reshape(B, -1), axis=1)
    right = np.asarray(jnp.argmax(logits_fn(x), axis=1) == y)
    assert right.any() and moved.any()
    if not TABLE[name].picky:
        np.testing.assert_array_equal(moved, right if TABLE[name].minimal else True)


@every_attack
def test_called_without_jit_it_does_the_same(name):
    x, y = inputs()
    np.testing.assert_allclose(run(TABLE[name], x, y, 0.1), attacked(name, x, y, 0.1), atol=1e-5)


@every_attack
@pytest.mark.parametrize(("shape", "other"), [((), (1,)), (SHAPE, (6,)), (SHAPE, (1, 2, 1, 3))])
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


@every_attack
def test_the_scale_may_differ_by_row(name):
    x, y = inputs()
    scales = jnp.array([0.0, 0.1, 0.2, 0.05, 0.9, 0.1])
    together = attacked(name, x, y, scales)
    for i, scale in enumerate(scales):
        np.testing.assert_allclose(attacked(name, x, y, scale)[i], together[i], atol=1e-5)


def partly_flat(x):
    """Row 0 has logits that do not depend on x, the others do."""
    return jnp.where(jnp.arange(x.shape[0])[:, None] == 0, jnp.ones((), x.dtype), logits_fn(x))


@every_model_reader
def test_a_zero_gradient_is_a_zero_step(name):
    x, y = inputs()
    x_adv = attacked(name, x, y, 0.5, logits_fn=partly_flat)
    assert_same_bits(x_adv[0], x[0])
    assert bool(jnp.isfinite(x_adv).all()) and bool((x_adv[1:] != x[1:]).any())


@every_attack
def test_vmap_and_scan_over_the_scale_are_the_single_calls(name):
    x, y = inputs()
    scales = jnp.array([[0.0, 0.1], [0.3, 0.5]])
    singly = [[attacked(name, x, y, scale) for scale in pair] for pair in scales]
    mapped = jax.vmap(lambda scale: run(TABLE[name], x, y, scale))
    _, scanned = jit(lambda pairs: jax.lax.scan(lambda c, pair: (c, mapped(pair)), None, pairs))(
        scales
    )
    np.testing.assert_allclose(scanned, singly, atol=1e-5)


@every_attack
def test_another_scale_does_not_recompile(name):
    x, y = inputs()
    attacked(name, x, y, 0.1)
    programs = compiled(name)._cache_size()
    for scale in (0.0, 0.2, 0.9):
        attacked(name, x, y, scale)
    assert compiled(name)._cache_size() == programs


@rows_where(lambda row: row.constant)
def test_no_gradient_flows_through_the_perturbation(name):
    # The gradient of a loss at the attacked points is the one with these points as data.
    x, y = inputs()

    def loss(w, x_adv):
        return optax.softmax_cross_entropy_with_integer_labels(model(w, x_adv), y).mean()

    def through(w, x, scale):
        return loss(w, run(TABLE[name], x, y, scale, logits_fn=lambda z: model(w, z)))

    by_w, by_x, by_scale = jit(jax.grad(through, argnums=(0, 1, 2)))(weights(), x, 0.1)
    np.testing.assert_array_equal(by_x, 0)
    np.testing.assert_array_equal(by_scale, 0)
    as_data = jax.grad(loss)(weights(), attacked(name, x, y, 0.1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), by_w, as_data)


@every_label_reader
def test_soft_labels_that_are_one_hot_are_integer_labels(name):
    x, y = inputs()
    soft = attacked(name, x, jax.nn.one_hot(y, K), 0.1)
    np.testing.assert_allclose(soft, attacked(name, x, y, 0.1), atol=1e-5)


@every_label_reader
def test_no_labels_means_the_prediction(name):
    x, _ = inputs()
    predicted = jnp.argmax(logits_fn(x), axis=1)
    expected = attacked(name, x, predicted, 0.1)
    np.testing.assert_allclose(attacked(name, x, None, 0.1), expected, atol=1e-5)


@rows_where(lambda row: not row.reads_model)
def test_what_does_not_read_the_model_runs_without_one(name):
    x, y = inputs()
    assert_same_bits(run(TABLE[name], x, None, 0.1, logits_fn=None), run(TABLE[name], x, y, 0.1))


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


@every_attack
def test_bad_arguments_are_refused_by_name(name):
    x, y = inputs()
    row = TABLE[name]
    outside, missing = x.at[2, 0, 0].set(1.5), x.at[2, 0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match=f"{row.scale} must be >= 0, got -0.1"):
        run(row, x, y, -0.1)
    with pytest.raises(ValueError, match=rf"{row.scale} must be .* B = 6, got the shape \(3,\)"):
        run(row, x, y, jnp.ones(3))
    with pytest.raises(ValueError, match=r"x must be .* got uint8\[6, 2, 3\]"):
        run(row, jnp.zeros((B, *SHAPE), jnp.uint8), y, 0.1)
    with pytest.raises(ValueError, match=r"x must have at least one row, got float32\[0, 2, 3\]"):
        run(row, x[:0], y[:0], 0.1, keys=KEYS[:0])
    with pytest.raises(ValueError, match="x has nan; allowed are finite numbers"):
        run(row, missing, y, 0.1)
    with pytest.raises(ValueError, match=r"x has 1.5, outside the bounds \(0.0, 1.0\)"):
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
        (y[:3], r"int32\[3\]"),
        (jnp.float32(y), r"float32\[6\]"),
        (jnp.zeros((B, K + 1)), r"float32\[6, 5\]"),
    ]:
        with pytest.raises(ValueError, match=f"y must be integers .* B = 6, K = 4, got {got}"):
            run(TABLE[name], x, labels, 0.1)
    with pytest.raises(ValueError, match="y has 4; allowed are classes from 0 to 3"):
        run(TABLE[name], x, y.at[1].set(K), 0.1)


@every_model_reader
def test_bad_logits_are_refused_in_words(name):
    x, y = inputs()
    for model, message in [
        (lambda x: logits_fn(x)[:, 0], r"logits f32\[B, K\] with B = 6, got float32\[6\]"),
        (lambda x: (logits_fn(x), {}), "one array of logits .* got a tuple"),
        (lambda x: jax.nn.softmax(logits_fn(x)), "look like probabilities"),
        (lambda x: jnp.log(logits_fn(x) - 1e9), "returns nan at x; allowed are finite logits"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(TABLE[name], x, y, 0.1, logits_fn=model)

"""auto_attack: exact robust accuracies, models that only one member breaks, and its cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax.attacks._blocks import on_survivors
from adv_jax.attacks.auto_attack import Fooling, auto_attack
from adv_jax.attacks.fab import fab

D, ROWS = 6, 20
W = np.random.default_rng(0).normal(size=(D, 5)).astype(np.float32)
X = np.random.default_rng(1).uniform(size=(ROWS, D)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), ROWS)
FEW = {"num_steps": 10, "num_queries": 20}


def linear(count):
    return lambda x: x @ jnp.asarray(W[:, :count])


def fooled(logits_fn, x, y):
    return np.asarray(jnp.argmax(logits_fn(x), axis=1) != y)


def test_blocks_hold_exactly_the_survivors():
    fools = jnp.array([True, False, True, False, False, False, True, False])
    seen = []

    def attack(rows, before):
        jax.debug.callback(lambda *block: seen.append(block), rows, before.fools, ordered=True)
        # Even rows are fooled by their own number.
        r = jnp.where(
            before.fools[:, None], before.r, jnp.float32(jnp.where(rows % 2 == 0, rows, 0))[:, None]
        )
        return Fooling(r, before.fools | (rows % 2 == 0))

    rows, r = jnp.arange(8), jnp.where(fools[:, None], 50.0, 0.0)
    for size, blocks in [(2, 3), (3, 2), (8, 1)]:
        seen.clear()
        state = jax.jit(lambda: on_survivors(attack, rows, Fooling(r, fools), size))()  # noqa: B023
        jax.effects_barrier()
        assert len(seen) == blocks
        tried = np.concatenate([block[~np.asarray(done)] for block, done in seen])
        np.testing.assert_array_equal(np.unique(tried), [1, 3, 4, 5, 7])
        np.testing.assert_array_equal(state.fools, [1, 0, 1, 0, 1, 0, 1, 0])
        np.testing.assert_array_equal(state.r[:, 0], [50, 0, 50, 0, 4, 0, 50, 0])


def lead_at_worst(x, y, count, eps, norm):
    """Returns the minimum over the ball of y's lead over any other class (linf: in [0, 1])."""
    x, w = np.float64(x), np.float64(W[:, :count])
    leads = []
    for i, label in enumerate(y):
        slopes = np.delete(w[:, [label]] - w, label, axis=1).T
        if norm == "l2":
            worst = slopes @ x[i] - eps * np.linalg.norm(slopes, axis=1)
        else:
            corners = np.clip(x[i] - eps * np.sign(slopes), 0, 1)
            worst = (slopes * corners).sum(axis=1)
        leads.append(worst.min())
    return np.array(leads)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "eps", "bounds", "count", "members"),
    [
        ("linf", 0.15, (0.0, 1.0), 5, None),
        ("l2", 0.3, None, 5, ("apgd-ce", "fab-t")),  # All compile for long.
        ("linf", 0.15, (0.0, 1.0), 2, None),
    ],
)
def test_auto_attack_finds_the_exact_robust_accuracy_of_a_linear_model(
    norm, eps, bounds, count, members
):
    y = np.argmax(X @ W[:, :count], axis=1)
    y[0] = (y[0] + 1) % count  # Misclassified from the start.
    options = {"eps": eps, "norm": norm, "bounds": bounds, "block_size": 8, "members": members}
    attack = jax.jit(lambda x: auto_attack(linear(count), x, y, key=KEYS, **options, **FEW))
    x_adv, leads = attack(X), lead_at_worst(X, y, count, eps, norm)
    broken = fooled(linear(count), x_adv, y)
    np.testing.assert_array_equal(broken, leads < 0)
    assert 3 < broken.sum() < ROWS - 3 and np.abs(leads).min() > 1e-3
    np.testing.assert_array_equal(x_adv[~broken], X[~broken])
    np.testing.assert_array_equal(x_adv[0], X[0])


def curved(x):
    return jnp.tanh(3 * (x - 0.5) @ jnp.asarray(W)) @ jnp.asarray(W[:5])


@pytest.mark.slow
def test_the_result_of_auto_attack_does_not_depend_on_blocks_and_order():
    y, order = jnp.argmax(curved(X), axis=1), np.random.default_rng(2).permutation(ROWS)
    # One member draws random numbers, the other has targets.
    options = {"eps": 0.1, "bounds": (0, 1), "members": ("apgd-t", "square"), **FEW}

    def attack(x, y, keys, size):
        def run(x, y, keys):
            return auto_attack(curved, x, y, key=keys, block_size=size, **options)

        return jax.jit(run)(x, y, keys)

    expected = attack(X, y, KEYS, ROWS)
    assert 3 < fooled(curved, expected, y).sum() < ROWS - 3
    permuted = attack(X[order], y[order], KEYS[order], 7)
    np.testing.assert_allclose(permuted, expected[order], atol=1e-6)


@pytest.mark.slow
def test_auto_attack_breaks_all_rows_that_fab_breaks():
    # fab is the member without random numbers, so that the same run is part of the ensemble.
    y = jnp.argmax(curved(X), axis=1)
    options = {"eps": 0.12, "norm": "l2", "bounds": (0, 1), "num_steps": 10}
    by_fab = jax.jit(lambda x: fab(curved, x, y, num_targets=4, **options))(X)
    by_all = jax.jit(lambda x: auto_attack(curved, x, y, key=KEYS, num_queries=1, **options))(X)
    broken = fooled(curved, by_fab, y)
    assert 0 < broken.sum() < ROWS
    assert np.all(fooled(curved, by_all, y) >= broken)


def steps(x):
    """A linear model of rounded inputs, whose gradient is 0."""
    return linear(3)(jnp.round(x * 8) / 8)


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 5])
def test_targeted_members_break_rows_that_the_cross_entropy_cannot(count):
    # The logits are so far apart that the cross-entropy, and with it its gradient, is 0.
    logits_fn = lambda x: linear(count)(x) * 1e4
    y = np.argmax(X @ W[:, :count], axis=1)
    options = {"eps": 0.15, "bounds": (0, 1), "num_steps": 10, "num_queries": 1}
    x_adv = jax.jit(lambda x: auto_attack(logits_fn, x, y, key=KEYS, **options))(X)
    expected = lead_at_worst(X, y, count, 0.15, "linf") < 0
    np.testing.assert_array_equal(fooled(logits_fn, x_adv, y), expected)


@pytest.mark.slow
def test_square_breaks_a_model_whose_gradient_is_zero():
    y = np.asarray(jnp.argmax(steps(X), axis=1))
    options = {"eps": 0.15, "bounds": (0, 1), "num_steps": 3}
    runs = [
        jax.jit(lambda x, n=n: auto_attack(steps, x, y, key=KEYS, num_queries=n, **options))(X)
        for n in (1, 300)
    ]
    few, many = (fooled(steps, x_adv, y).sum() for x_adv in runs)
    assert many > few


def cost(x, y, **options):
    """Returns how many rows the model sees after the look at all rows."""
    seen = []

    def logits_fn(x):
        jax.debug.callback(lambda x: seen.append(len(x)), x, ordered=True)
        return linear(5)(x)

    options |= {"eps": 0.05, "block_size": 4, "num_steps": 5, "num_queries": 7}
    jax.jit(lambda x: auto_attack(logits_fn, x, y, key=jax.random.key(0), **options))(x)
    jax.effects_barrier()
    return sum(seen[1:])


@pytest.mark.slow
def test_auto_attack_spends_no_pass_on_fooled_rows():
    right = np.argmax(X @ W, axis=1)
    safe = np.flatnonzero(lead_at_worst(X, right, 5, 0.05, "linf") > 0)[:4]
    wrong = (right + 1) % 5
    assert cost(X, wrong) == 0
    only = wrong.copy()
    only[safe] = right[safe]
    # A block of 4: apgd asks 6 times for the cross-entropy and for each of 4 targets, fab 2 x 5
    # times for each target, and square 1 + 7 times.
    assert cost(X, only) == 4 * (6 + 4 * 6 + 4 * 10 + 8)


@pytest.mark.slow
def test_the_versions_run_the_members_of_the_public_program():
    # Of rows that cannot be fooled, a run of apgd asks 6 times, one of fab 2 x 5 times, and square
    # 1 + 7 times. There are 4 targets.
    y = np.argmax(X @ W, axis=1)
    safe = np.flatnonzero(lead_at_worst(X, y, 5, 0.05, "linf") > 0)[:4]
    expected = {
        "standard": 6 + 4 * 6 + 4 * 10 + 8,
        "plus": 5 * 6 + 5 * 6 + 5 * 10 + 8 + 4 * 6 + 4 * 10,
        "rand": 6 + 6,
    }
    for version, count in expected.items():
        assert cost(X[safe], y[safe], version=version) == 4 * count
    only = {"version": "plus", "members": ("fab", "square")}
    assert cost(X[safe], y[safe], **only) == 4 * (5 * 10 + 8)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["plus", "rand"])
@pytest.mark.parametrize("count", [5, 2])
def test_the_other_versions_find_the_exact_robust_accuracy_of_a_linear_model(version, count):
    y = np.argmax(X @ W[:, :count], axis=1)
    options = {"eps": 0.15, "bounds": (0.0, 1.0), "version": version, **FEW}
    x_adv = jax.jit(lambda x: auto_attack(linear(count), x, y, key=KEYS, **options))(X)
    leads = lead_at_worst(X, y, count, 0.15, "linf")
    np.testing.assert_array_equal(fooled(linear(count), x_adv, y), leads < 0)


@pytest.mark.slow
def test_later_starts_of_fab_leave_a_plateau():
    # Without a slope up to |x| = .1, and class 1 wins from .35; starts lie at |x| = .45.
    def plateau(x):
        z = 4 * jnp.maximum(jnp.abs(x[:, 0]) - 0.1, 0)
        return jnp.stack([jnp.ones_like(z), z], axis=1)

    options = {"eps": 0.9, "num_steps": 5, "key": jax.random.key(0), "version": "plus"}
    run = lambda x: auto_attack(plateau, x, jnp.array([0]), members=("fab",), **options)
    assert fooled(plateau, jax.jit(run)(jnp.zeros((1, 1))), jnp.array([0])).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "fast"}, "version must be one of standard, plus, rand, got 'fast'"),
        ({"version": "rand", "members": ("square",)}, "members must be among apgd-ce, apgd-dlr, g"),
        ({"norm": "rms"}, r'norm must be "linf" \("inf", jnp.inf\) or "l2" \(2\), got .rms'),
        ({"num_targets": 0}, "num_targets must be a whole number of at least 1, got 0"),
        ({"block_size": 0}, "block_size must be a whole number of at least 1, got 0"),
        ({"key": None}, "key must be"),
    ],
)
def test_auto_attack_refuses_bad_arguments(options, message):
    y = np.argmax(X @ W, axis=1)
    with pytest.raises(ValueError, match=message):
        auto_attack(linear(5), X, y, **{"eps": 0.1, "key": jax.random.key(0)} | options)

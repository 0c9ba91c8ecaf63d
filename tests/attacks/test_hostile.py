"""Hostile input: every attack keeps its contract or raises an error of one line.

docs/reliability.md shows the counts of this file with `-m ''`.
"""

import functools
import itertools

import attack_table
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_table import BOUNDS, FIRST, TABLE, Row, norm_of
from marks import exhaustive_after

from adv_jax import attacks

B, D, K = 4, 5, 4
ROWS = TABLE | {"rubbish": Row(attacks.rubbish, needs_key=True, reads_model=False)}
ONE_EACH = [*FIRST.values(), "rubbish"]

rng = np.random.default_rng(0)
X = jnp.float32(rng.uniform(size=(B, D)))
Y = jnp.arange(B)
KEYS = jax.random.split(jax.random.key(1), B)
WEIGHTS = {
    "in": jnp.float32(rng.normal(size=(D, 7))),
    "slope": jnp.float32(1),
    "out": jnp.float32(rng.normal(size=(7, K))),
    "bias": jnp.zeros(K, jnp.float32),
}


def model(weights, x):
    # In a sum of steep terms, inf - inf or not would depend on the processor.
    return jnp.tanh(weights["slope"] * (x @ weights["in"])) @ weights["out"] + weights["bias"][None]


def test_the_table_has_every_exported_attack():
    found, exported = {name.partition("-")[0] for name in ROWS}, {*attacks.__all__}
    missing, unknown = sorted(exported - found), sorted(found - exported)
    assert not missing, f"add a row for each of {missing} to TABLE of tests/support/attack_table.py"
    assert not unknown, f"add {unknown} to __all__ of adv_jax/attacks/__init__.py"


# Changes of arguments that raise outside jit, and the messages.
NAN, INF = float("nan"), float("inf")
WRONG = {
    "x is NaN": ({"x": X.at[1, 2].set(NAN)}, "x must be finite numbers, got nan"),
    "x is infinite": ({"x": X.at[1, 2].set(-INF)}, "x must be finite numbers, got -inf"),
    "no rows": (
        {"x": X[:0], "y": Y[:0], "keys": KEYS[:0]},
        "with B and all of D at least 1, got float32[0, 5]",
    ),
    "empty rows": ({"x": X[:, :0]}, "with B and all of D at least 1, got float32[4, 0]"),
    "no batch": ({"x": X[0, 0]}, "x must be a batch f32[B, *D] of floats, got float32[]"),
    "the scale is NaN": ({"scale": NAN}, " must be a finite number of at least 0, got nan"),
    "the scale is negative": ({"scale": -1e-30}, " must be a finite number of at least 0, got -1e"),
    "the scale is infinite": ({"scale": INF}, " must be a finite float32, got inf"),
    "the scale overflows": ({"scale": 1e39}, " must be a finite float32, got 1e+39"),
    "a bound is NaN": ({"bounds": (0, NAN)}, "bounds must be (lo, hi) with lo < hi, got (0, nan)"),
    "the bounds are one": ({"bounds": (0.5, 0.5)}, "bounds must be (lo, hi) with lo < hi, got"),
    "logits are NaN": ({"out": NAN}, "logits_fn must return finite logits, got NaN or "),
    "logits are infinite": ({"bias": INF}, "logits_fn must return finite logits, got NaN or "),
    "one class": ({"classes": 1}, "logits_fn must return logits of 2 classes or more ("),
    "no class": ({"classes": 0}, "logits_fn must return logits of 2 classes or more ("),
}


def call(name, *, x=X, y=Y, scale=0.1, bounds=None, keys=KEYS, classes=K, **weights):
    """Calls the attack outside jit, where values are checked."""
    changed = {k: jnp.full_like(WEIGHTS[k], v) for k, v in weights.items()}
    used = functools.partial(model, WEIGHTS | changed)
    given = {"bounds": bounds, "keys": keys, "logits_fn": lambda x: used(x)[:, :classes]}
    y = None if y is Y and classes != K else y
    return attack_table.run(ROWS[name], x, y, scale, **given)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_EACH)
def test_an_attack_refuses_unusable_values_in_one_line(name):
    for what, (change, message) in WRONG.items():
        of_model = change.keys() & {"out", "bias", "classes"}
        if of_model and not ROWS[name].reads_model:
            continue
        if name == "rubbish" and what in ("x is NaN", "x is infinite"):  # It takes x's place.
            continue
        if name == "jsma" and "scale" in change:  # a share of the features
            message = f"gamma must be a number from 0 to 1, got {change['scale']}"
        with pytest.raises(ValueError) as error:
            call(name, **change)
        said = str(error.value).replace("source_fn", "logits_fn")  # `transferred` gets both alike.
        assert message in said and "\n" not in said, what


@pytest.mark.parametrize(
    ("attack", "setting"),
    [
        (attacks.jsma, {"theta": NAN}),
        (attacks.deepfool, {"overshoot": INF}),
        (attacks.fab, {"beta": NAN}),
        (attacks.square, {"eps": 0.1, "p_init": NAN}),
        (attacks.pgd, {"eps": 0.1, "step_size": INF}),
        (attacks.virtual_adversarial, {"eps": 0.1, "xi": NAN}),
        (attacks.carlini_wagner, {"bounds": (0, INF)}),
        (attacks.carlini_wagner, {"bounds": BOUNDS, "learning_rate": NAN}),
        (attacks.lbfgs, {"bounds": BOUNDS, "initial_const": INF}),
    ],
)
def test_settings_that_are_not_finite_are_refused_by_name(attack, setting):
    name = next(k for k, v in setting.items() if not np.all(np.isfinite(v)))
    with pytest.raises(ValueError, match=f"^{name} must be "):
        attack(functools.partial(model, WEIGHTS), X, Y, key=jax.random.key(0), **setting)


def test_an_infinite_weight_of_a_class_is_refused():
    y = jnp.full((B, K), INF)
    with pytest.raises(ValueError, match="y must be finite weights of at least 0, got inf"):
        attacks.fgsm(functools.partial(model, WEIGHTS), X, y, eps=0.1)


MODELS = {
    "usual": WEIGHTS,
    "constant": jax.tree.map(jnp.zeros_like, WEIGHTS),
    "huge logits": WEIGHTS | {"out": WEIGHTS["out"] * 1e30},
    "nearly infinite logits": WEIGHTS | {"out": WEIGHTS["out"] * 1e37},
    "one huge logit": WEIGHTS | {"bias": jnp.array([1e30, 0, 0, 0])},
    "equal huge logits": WEIGHTS | {"bias": jnp.full(K, 1e30)},
    "tiny logits": WEIGHTS | {"out": WEIGHTS["out"] * 1e-30},
    "steep": WEIGHTS | {"slope": jnp.float32(1e30)},
}
INPUTS = {
    "usual": X,
    "equal rows": jnp.broadcast_to(X[:1], X.shape),
    "zero": jnp.zeros_like(X),
    "ones": jnp.ones_like(X),
    "a row with NaN": X.at[0, 0].set(NAN),
    "a row with infinity": X.at[0, 0].set(INF),
}
LARGE_INPUTS = {"1e30": X * 1e30, "3e38": jnp.full_like(X, 3e38)}
SCALES, LARGE_SCALES = (0.0, 1e-30, 0.1, 0.9), (1e10, 1e30, 1e38)


def assert_it_keeps_its_promises(name, *, bounds, rows=B):
    """Runs one compiled attack on all models, inputs and scales."""
    row, keys = ROWS[name], KEYS[:rows]

    @jax.jit
    def attacked(weights, x, y, scale):
        logits_fn = functools.partial(model, weights)
        return attack_table.run(row, x, y, scale, logits_fn=logits_fn, bounds=bounds, keys=keys)

    free = bounds is None
    inputs = INPUTS | LARGE_INPUTS if free else INPUTS
    scales = SCALES + LARGE_SCALES if free else SCALES
    for (kind, weights), (_, x), scale in itertools.product(MODELS.items(), inputs.items(), scales):
        x = x[:rows]
        x_adv = attacked(weights, x, Y[:rows], jnp.float32(scale))
        assert (x_adv.shape, x_adv.dtype) == (x.shape, x.dtype)
        usable = np.isfinite(x).all(1) & np.isfinite(model(weights, x)).all(1)
        before, after = np.float64(x)[usable], np.float64(x_adv)[usable]
        assert np.isfinite(after).all(), (kind, x, scale)
        if not free:
            assert ((after >= bounds[0]) & (after <= bounds[1])).all(), (kind, x, scale)
        if row.norm and usable.any():
            length = norm_of(after - before, row.norm)
            assert (length <= np.float32(scale) * (1 + 1e-6)).all(), (kind, x, scale)
        if name != "rubbish" and (scale == 0 or (kind == "constant" and row.reads_model)):
            np.testing.assert_array_equal(after, before)


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(6, ONE_EACH))
def test_an_attack_keeps_its_promises_at_extreme_values(name):
    assert_it_keeps_its_promises(name, bounds=None)


# A minute: every norm and loss, in bounds, and a single row.


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ROWS)
def test_an_attack_keeps_its_promises_at_extreme_values_in_bounds(name):
    assert_it_keeps_its_promises(name, bounds=BOUNDS)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in ROWS if name not in ONE_EACH])
def test_every_variant_of_an_attack_keeps_its_promises_at_extreme_values(name):
    assert_it_keeps_its_promises(name, bounds=None)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ONE_EACH)
def test_an_attack_keeps_its_promises_for_a_single_row(name):
    assert_it_keeps_its_promises(name, bounds=None, rows=1)

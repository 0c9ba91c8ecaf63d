"""Attacks refuse bad arguments in one line with the argument's name and the allowed values."""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from adv_jax import attacks, evaluate
from adv_jax.ranges import Range
from adv_jax.types import UserError

X, Y = jnp.float32([[0.2, 0.4], [0.6, 0.1]]), jnp.array([0, 1])


def model(x):
    return x @ jnp.array([[1.0, -1.0], [2.0, 0.0]])


def refused(call, *args, error=ValueError, **options):
    """Returns the message of the error, which must be one line."""
    with pytest.raises(error) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
    return str(caught.value)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, bool])
def test_logits_without_a_gradient_are_refused(dtype):
    def rounded(x):
        return jnp.round(model(x)).astype(dtype)

    name = jnp.dtype(dtype).name
    compiled = jax.jit(lambda fn, x, y, eps: attacks.fgsm(fn, x, y, eps=eps), static_argnums=0)
    for attack in (attacks.fgsm, compiled):
        said = refused(attack, rounded, X, Y, eps=0.1)
        assert "logits_fn must return logits of floating point" in said
        assert said.endswith(f"got {name}[2, 2]")
    said = refused(
        evaluate.evaluate, rounded, X, Y, {"fgsm": attacks.fgsm}, eps=[0.1], error=UserError
    )
    assert said.startswith("logits_fn must return logits of floating point")
    assert said.endswith(f"got {name}[2, 2]")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (0, "0"),
        ("seed", "'seed'"),
        (np.zeros(2, np.int64), "int64[2]"),
        (jnp.zeros(2, jnp.float32), "float32[2]"),
        (np.zeros(3, np.uint32), "uint32[3]"),
    ],
)
def test_a_key_of_another_type_is_refused(key, said):
    allowed = "key must be jax.random.key(seed) or one key per row"
    for attack in (attacks.pgd, attacks.uniform_noise):
        assert refused(attack, model, X, Y, eps=0.1, key=key) == f"{allowed}, got {said}"


@pytest.mark.slow
def test_old_style_keys_draw_the_numbers_of_typed_keys():
    new = attacks.uniform_noise(model, X, Y, eps=0.1, key=jax.random.key(3))
    for old in (jax.random.PRNGKey(3), np.asarray(jax.random.PRNGKey(3))):
        np.testing.assert_array_equal(attacks.uniform_noise(model, X, Y, eps=0.1, key=old), new)


@pytest.mark.parametrize("wrong", [None, 3, nn.Dense(2)])
def test_a_model_that_is_not_a_function_of_x_is_refused(wrong):
    said = refused(attacks.fgsm, wrong, X, Y, eps=0.1)
    kind = type(wrong).__name__
    assert said.startswith(f"logits_fn must be a function of x alone, got a {kind}: ")
    assert said.endswith("pass lambda x: model.apply(variables, x)")


@pytest.mark.slow
def test_a_bound_flax_module_is_a_model():
    net = nn.Dense(2)
    variables = net.init(jax.random.key(0), X)
    np.testing.assert_array_equal(
        attacks.fgsm(net.bind(variables), X, Y, eps=0.1),
        attacks.fgsm(lambda x: net.apply(variables, x), X, Y, eps=0.1),
    )


@pytest.mark.parametrize("count", [2.5, 2.0, "10", None])
@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (attacks.pgd, "num_steps"),
        (attacks.pgd, "restarts"),
        (attacks.apgd, "num_steps"),
        (attacks.square, "num_queries"),
    ],
)
def test_a_count_that_is_not_whole_is_refused(attack, name, count):
    said = refused(attack, model, X, Y, eps=0.1, key=jax.random.key(0), **{name: count})
    assert said == f"{name} must be a whole number of at least 1, got {count!r}"


def test_a_count_may_be_of_any_integer_type():
    expected = attacks.pgd(model, X, Y, eps=0.1, num_steps=2)
    for count in (np.int64(2), np.asarray(2)):
        np.testing.assert_array_equal(attacks.pgd(model, X, Y, eps=0.1, num_steps=count), expected)


NO_NUMBERS = {
    "a text": (".1", "'.1'"),
    "None": (None, "None"),
    "complex": (1j, "1j"),
    "a truth value": (True, "True"),
    "truth values": (np.array([True, False]), "bool[2]"),
    "objects": (np.array([0.1, None]), "object[2]"),
    "ragged": ([[0.1], [0.1, 0.2]], "[[0.1], [0.1, 0.2]]"),
}


@pytest.mark.parametrize(("size", "said"), NO_NUMBERS.values(), ids=NO_NUMBERS)
@pytest.mark.parametrize(
    ("attack", "name"),
    [(attacks.fgsm, "eps"), (attacks.raw_gradient, "tau"), (attacks.uniform_noise, "eps")],
)
def test_a_size_that_is_not_a_number_is_refused(attack, name, size, said):
    found = refused(attack, model, X, Y, key=jax.random.key(0), **{name: size})
    assert found == f"{name} must be one real number or f32[B], B = 2, got {said}"


@pytest.mark.parametrize("size", [True, 1j])
def test_a_traced_size_that_is_not_a_real_number_is_refused(size):
    said = refused(jax.jit(lambda eps: attacks.fgsm(model, X, Y, eps=eps)), size)
    assert said.startswith("eps must be one real number or f32[B], B = 2, got ")


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ((0, None), "(0, None)"),
        ((None, None), "(None, None)"),
        (("0", "1"), "('0', '1')"),
        ("01", "'01'"),
        ((0, 1, 2), "(0, 1, 2)"),
        ((0, 1j), "(0, 1j)"),
        ((float("nan"), 1), "(nan, 1)"),
        (np.array([0, None]), "object[2]"),
        ((False, 2), "(False, 2)"),
        (1.0, "1.0"),
    ],
)
def test_bounds_that_are_not_an_interval_are_refused(bounds, said):
    for attack in (attacks.fgsm, attacks.carlini_wagner, attacks.sign_noise, attacks.rubbish):
        scale = {"std": 0.1} if attack is attacks.rubbish else {"eps": 0.1}
        found = refused(attack, model, X, Y, **scale, bounds=bounds, key=jax.random.key(0))
        assert found == f"bounds must be (lo, hi) with lo < hi, got {said}"


def test_bounds_of_features_are_refused_in_words():
    for bounds, said in [
        ((0, [1, 2, 3]), "that broadcast to x, [2, 2], got (0, [1, 2, 3])"),
        ((np.zeros((3, 2)), 1), "that broadcast to x, [2, 2], got (float64[3, 2], 1)"),
        (([0, 2], [1, 1.5]), "with lo <= hi for each feature, got 2 and 1.5"),
        (([0, 0], [1, float("nan")]), "with lo <= hi for each feature, got 0 and nan"),
    ]:
        for attack in (attacks.fgsm, attacks.carlini_wagner, attacks.sign_noise):
            found = refused(attack, model, X, Y, eps=0.1, bounds=bounds, key=jax.random.key(0))
            assert found == f"bounds must be (lo, hi) {said}"
    found = refused(attacks.fgsm, model, X, Y, eps=0.1, bounds=([0, 0.5], [1, 1]))
    assert found == "x must be within the bounds [0.5, 1] at [1], got 0.4"


def test_radii_of_features_and_masks_are_refused_in_words():
    key = jax.random.key(0)
    for eps, said in [
        (np.ones((1, 3)), "eps must broadcast to x, float32[2, 2], got the shape (1, 3)"),
        (np.array([[0.1, -1]]), "eps must be a finite number of at least 0, got -1.0"),
        (np.array([[0.1, np.inf]]), "eps must be a finite float32, got inf"),
    ]:
        for attack in (attacks.fgsm, attacks.deepfool, attacks.sign_noise):
            assert refused(attack, model, X, Y, eps=eps, key=key) == said
    for mask, got in [
        (np.ones(3, bool), "bool[3]"),
        ("yes", "'yes'"),
        (np.ones((2, 2), complex), "complex128[2, 2]"),
    ]:
        said = refused(attacks.fgsm, model, X, Y, eps=0.1, mask=mask)
        allowed = "mask must be bool or 0 and 1, broadcast to x, float32[2, 2]"
        assert said == f"{allowed}, got {got}"
    said = refused(attacks.jsma, model, X, Y, mask=[0, 2])
    assert said == "mask must be 0 or 1, got 2"


@pytest.mark.parametrize("norm", ["l0", "L3", "l1", None])
@pytest.mark.parametrize("name", ["auto_attack", "fab", "hop_skip_jump", "square"])
def test_attacks_of_two_norms_name_them_for_any_other(name, norm):
    said = refused(
        getattr(attacks, name),
        *(model, X, Y),
        eps=0.1,
        norm=norm,
        bounds=(0, 1),
        key=jax.random.key(0),
    )
    assert said == f'norm must be "linf" ("inf", jnp.inf) or "l2" (2), got {norm!r}'


def test_l0_is_refused_where_it_is_not_known():
    for attack in (attacks.fgsm, attacks.apgd, attacks.deepfool, attacks.uniform_noise):
        said = refused(attack, model, X, Y, eps=1, norm="l0", key=jax.random.key(0))
        legal = '"linf" ("inf", jnp.inf), "l2" (2), "l1" (1) or "rms"'
        assert said == f"norm must be {legal}, got 'l0'"
    pgd = functools.partial(attacks.pgd, model, X, Y, norm="l0")
    said = refused(pgd, eps=3, bounds=(0, 1))
    assert said == "eps must be at most 2, the l0 width of the bounds (0, 1), got 3"
    assert refused(pgd, eps=1) == "step_size must be given for l0 without bounds, got None"
    said = refused(pgd, eps=1, step_size=1, key=jax.random.key(0))
    assert said == "bounds must be (lo, hi) for a random start under l0, got None"
    said = refused(pgd, eps=np.ones((1, 2)), bounds=(0, 1))
    assert said == "eps must be a number or f32[B] under l0, got float64[1, 2]"


def evolved(logits_fn, x, y, **options):
    probs_fn = lambda x: jax.nn.softmax(logits_fn(x))
    return attacks.fooling_images(probs_fn, x.shape[1:], y, num_generations=2, **options)


@pytest.mark.parametrize(
    "attack",
    [
        functools.partial(attacks.fgsm, eps=0.2),
        functools.partial(attacks.carlini_wagner, num_steps=2, search_steps=1),
        functools.partial(attacks.lbfgs, num_steps=2, search_steps=1),
        functools.partial(attacks.boundary, num_steps=2),
        functools.partial(attacks.hop_skip_jump, num_steps=1, initial_evals=2),
        evolved,
    ],
)
def test_bounds_may_be_of_any_real_type(attack):
    attack = functools.partial(attack, model, X, Y, key=jax.random.key(0))
    expected = attack(bounds=(0.0, 1.0))
    for bounds in ([0, 1], np.array([0.0, 1.0]), (jnp.float32(0), np.float64(1))):
        jax.tree.map(np.testing.assert_array_equal, attack(bounds=bounds), expected)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("ab", "'ab'"),
        (None, "None"),
        (np.array([[0.1, None]]), "object[1, 2]"),
        ([1, [2]], "[1, [2]]"),
    ],
)
def test_inputs_and_labels_that_are_not_numbers_are_refused(wrong, said):
    found = refused(attacks.fgsm, model, wrong, Y, eps=0.1)
    assert found == f"x must be a batch f32[B, *D] of floats, got {said}"
    if wrong is not None:  # That is the model's own prediction.
        found = refused(attacks.fgsm, model, X, wrong, eps=0.1)
        assert found.startswith("y must be integers i32[B] or class weights f32[B, K] with B = 2")
        assert found.endswith(f"got {said}")


BOUNDS = {"bounds": (0.0, 1.0)}
DRAWN = {"eps": 0.1, "key": jax.random.key(0)}
RANGES = [
    (attacks.virtual_adversarial, DRAWN, "xi", "(0, inf)", (0.0, -1.0, float("inf"))),
    (attacks.apgd, {"eps": 0.1}, "rho", "[0, 1]", (-0.1, 1.1, float("nan"))),
    (attacks.square, DRAWN, "p_init", "(0, 1]", (0.0, -0.5, 1.5)),
    (attacks.carlini_wagner, BOUNDS, "learning_rate", "(0, inf)", (0.0, -1.0)),
    (attacks.carlini_wagner, BOUNDS, "initial_const", "(0, inf)", (0.0, -1.0)),
    (attacks.lbfgs, BOUNDS, "initial_const", "(0, inf)", (0.0, -1.0)),
    (attacks.ead, {}, "beta", "[0, inf)", (-1.0, float("inf"))),
    (attacks.ead, {}, "learning_rate", "(0, inf)", (0.0, -1.0)),
    (attacks.ead, {}, "initial_const", "(0, inf)", (0.0, -1.0)),
    (attacks.ddn, {}, "gamma", "(0, 1)", (0.0, 1.0)),
    (attacks.ddn, {}, "step_size", "(0, inf)", (0.0, -1.0)),
    (attacks.ddn, {}, "initial_eps", "(0, inf)", (0.0, -1.0)),
    (attacks.fmn, {}, "gamma", "[0.001, 1)", (0.0, 1.0)),
    (attacks.fmn, {}, "step_size", "(0, inf)", (0.0, -1.0)),
    (attacks.jsma, {}, "gamma", "[0, 1]", (1.5,)),
    (attacks.jsma, {}, "theta", "(-inf, inf)", (float("nan"),)),
    (attacks.deepfool, {}, "overshoot", "[0, inf)", (-0.5, float("inf"))),
    (attacks.fab, {}, "alpha_max", "[0, 1]", (-0.1, 1.1)),
    (attacks.fab, {}, "eta", "[1, inf)", (0.5, float("inf"))),
    (attacks.fab, {}, "beta", "(0, 1)", (0.0, 1.0, -1.0)),
]


@pytest.mark.parametrize(("attack", "given", "name", "interval", "values"), RANGES)
def test_a_setting_outside_its_range_is_refused(attack, given, name, interval, values):
    for value in values:
        said = refused(attack, model, X, Y, **given, **{name: value})
        assert said == f"{name} must be {Range.of(interval)}, got {value}"
    free = inspect.signature(attack).parameters[name].default is None
    for value in ["a"] if free else ["a", None]:
        said = refused(attack, model, X, Y, **given, **{name: value})
        assert re.fullmatch(f"{name} must be (a|one) real number.*, got {value!r}", said)


@pytest.mark.parametrize(
    ("attack", "given", "name"),
    [row[:3] for row in RANGES if row[2] in ("rho", "p_init", "theta", "overshoot", "beta")],
)
def test_a_setting_that_all_rows_share_is_one_number(attack, given, name):
    rows = np.full(2, 0.5, np.float32)
    said = refused(attack, model, X, Y, **given, **{name: rows})
    assert said == f"{name} must be a real number, got float32[2]"


@pytest.mark.slow
def test_the_ends_of_a_closed_range_are_accepted():
    for rho in (0, 1):
        attacks.apgd(model, X, Y, eps=0.1, num_steps=1, rho=rho)
    attacks.square(model, X, Y, num_queries=1, p_init=1, **DRAWN)
    attacks.deepfool(model, X, Y, overshoot=0)


def with_numpy(x):
    return jnp.asarray(np.tanh(np.asarray(x)))


def with_float(x):
    return model(x) * float(x[0, 0])


def with_branch(x):
    return model(x) if x[0, 0] > 0 else -model(x)


@pytest.mark.parametrize("asking", [with_numpy, with_float, with_branch])
def test_a_model_that_asks_for_values_is_refused(asking):
    for attack in (attacks.fgsm, attacks.pgd):
        said = refused(attack, asking, X, Y, eps=0.1)
        assert said.startswith("logits_fn must be made of jax.numpy operations")
        assert "got some that ask for values" in said
    said = refused(attacks.feature_adversary, asking, X, X, eps=0.1)
    assert said.startswith("features_fn must be made of jax.numpy operations")


@pytest.mark.parametrize(
    ("features_fn", "got"),
    [
        (lambda x: (x, x), "a tuple"),
        (lambda x: x.sum(), "float32[]"),
        (lambda x: x[:1], "float32[1, 2]"),
        (lambda x: x.astype(jnp.int32), "int32[2, 2]"),
    ],
)
def test_features_that_are_not_one_vector_per_row_are_refused(features_fn, got):
    said = refused(attacks.feature_adversary, features_fn, X, X, eps=0.1)
    assert said == f"features_fn must return features f32[B, *F] with B = 2, got {got}"


def test_a_guide_of_integers_and_missing_features_are_refused_by_name():
    said = refused(attacks.feature_adversary, lambda x: x, X, jnp.ones((2, 2), jnp.int32), eps=0.1)
    assert said == "guide must be a batch f32[B, *D] of floats, got int32[2, 2]"
    said = refused(attacks.feature_adversary, None, X, X, eps=0.1)
    assert said.startswith("features_fn must be a function of x alone, got a NoneType: ")


@pytest.mark.parametrize(
    ("attack", "name", "flag", "got"),
    [
        (attacks.pgd, "targeted", "False", "'False'"),
        (attacks.pgd, "early_stop", 1, "1"),
        (attacks.pgd, "random_start", "no", "'no'"),
        (attacks.fgsm, "constant", None, "None"),
        (attacks.deepfool, "targeted", np.ones(2, bool), "bool[2]"),
    ],
)
def test_a_flag_that_is_not_a_bool_is_refused(attack, name, flag, got):
    sizes = {} if attack is attacks.deepfool else {"eps": 0.1}
    said = refused(attack, model, X, Y, **sizes, **{name: flag}, error=UserError)
    assert said == f"{name} must be True or False, got {got}"


def test_a_traced_flag_is_refused_by_name():
    attack = jax.jit(lambda flag: attacks.fgsm(model, X, Y, eps=0.1, targeted=flag))
    assert refused(attack, True) == "targeted must be True or False, got bool[]"


def test_a_flag_of_numpy_is_that_flag():
    targeted = functools.partial(attacks.fgsm, model, X, Y, eps=0.1)
    np.testing.assert_array_equal(targeted(targeted=np.True_), targeted(targeted=True))


def test_a_norm_in_an_array_without_axes_is_that_norm():
    for attack, options in ((attacks.fgsm, {"eps": 0.1}), (attacks.fmn, {})):
        named = attack(model, X, Y, norm="l2", **options)
        for norm in (jnp.float32(2), jnp.int32(2), np.array(2)):
            np.testing.assert_array_equal(attack(model, X, Y, norm=norm, **options), named)
        assert refused(attack, model, X, Y, norm=jnp.ones(2), **options).endswith("got float32[2]")


def test_settings_in_tuples_and_lists_are_arrays():
    gradient_sign = np.float32([[-1, -1], [1, 1]])  # d(loss)/dx = w (p - one_hot(y)), by hand.
    x_adv = attacks.fgsm(model, X, Y, eps=(0.1, 0.2), mask=[True, False])
    moved = np.float32([[0.1], [0.2]]) * gradient_sign * [1, 0]
    np.testing.assert_allclose(x_adv, X + moved, rtol=1e-6)


@pytest.mark.parametrize(
    ("convert", "got"),
    [
        (lambda array: array.astype(array.dtype.newbyteorder(">")), r">[fi]\d"),
        (np.ma.array, "masked "),
    ],
)
@pytest.mark.parametrize("name", ["x", "y", "bounds", "mask", "aux", "start", "eps"])
def test_numpy_arrays_that_jax_does_not_take_are_refused_by_name(name, convert, got):
    given = {"x": np.asarray(X), "y": np.asarray(Y), "eps": np.float32([0.1, 0.1])}
    given |= {"mask": np.ones((2, 2), np.int32), "start": np.zeros((2, 2), np.float32)}
    given |= {"bounds": (np.float32([0, 0]), np.float32([1, 1])), "aux": np.zeros((2, 1))}
    given[name] = jax.tree.map(convert, given[name])
    with_side_input = lambda x, aux: model(x) + aux
    said = refused(attacks.pgd, with_side_input, **given)
    assert said.startswith(f"{name} must be ") and re.search(f"got .*{got}", said)

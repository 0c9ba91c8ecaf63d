"""Models that JAX cannot differentiate are evaluated by attacks of forward passes alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adv_jax
from adv_jax import attacks, evaluate
from adv_jax.types import UserError

W = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
X = np.random.default_rng(1).uniform(size=(40, 6)).astype(np.float32)
Y = np.argmax(X @ W, axis=1).astype(np.int32)
KEY = jax.random.key(0)
SUITE = {
    "square": lambda *args, **settings: attacks.square(*args, num_queries=50, **settings),
    "noise": attacks.uniform_noise,
}


def callback(x):
    """The linear model W in NumPy."""
    like = jax.ShapeDtypeStruct((x.shape[0], 4), jnp.float32)
    return jax.pure_callback(lambda x: np.asarray(x) @ W, like, x)


@pytest.mark.slow
def test_a_numpy_model_is_evaluated_as_the_same_model_in_jax():
    with pytest.warns(evaluate.AuditWarning, match="logits_fn has no derivative, so gradient mask"):
        found = evaluate.evaluate(callback, X, Y, SUITE, eps=[0.0, 0.1], key=KEY, batch_size=7)
    expected = evaluate.evaluate(lambda x: x @ W, X, Y, SUITE, eps=[0.0, 0.1], key=KEY)
    for name in SUITE:
        np.testing.assert_array_equal(found.correct[name], expected.correct[name])
    assert found.worst_case[1] < 0.7
    audit = found.audit
    assert np.isnan([audit.zero_gradients, audit.saturated, audit.misleading]).all()
    assert (audit.random, audit.batch, audit.one_step, len(audit.warnings)) == (0, 0, {}, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*(no derivative|depend on the other rows)")
def test_a_model_without_a_derivative_is_still_probed_by_its_values():
    # On each device the first row gets the last one, or the first of the copies before it.
    mixing = lambda x: callback(x + jnp.roll(x, 1, axis=0))
    found = evaluate.evaluate(mixing, X, Y, {"noise": attacks.uniform_noise}, eps=[0.1], key=KEY)
    assert found.audit.batch == jax.local_device_count() / len(X)


def test_an_attack_that_needs_the_derivative_is_refused_in_one_line():
    with pytest.raises(UserError) as error:
        evaluate.evaluate(callback, X, Y, {"steps": attacks.pgd}, eps=[0.1], key=KEY)
    assert str(error.value) == (
        "pgd must have a logits_fn with a derivative, got one without, as jax.pure_callback and "
        "loops of unknown length are: give it one by jax.custom_vjp, or use "
        + ", ".join([*FORWARD_ONLY, "transferred", "evaluate.substitute"])
    )


TRAITS = {name: getattr(attacks, name).traits for name in attacks.__all__}
NEEDS_GRADIENT = [name for name, traits in TRAITS.items() if traits.gradient]
FORWARD_ONLY = [name for name, traits in TRAITS.items() if traits.aimed and not traits.gradient]


def call(name, model):
    """Calls an attack of that name on a model, with few steps."""
    attack = getattr(attacks, name)
    few = {"num_steps", "num_queries"} & attack.__wrapped__.__kwdefaults__.keys()
    given = {attack.traits.size: 0.1, "bounds": (0, 1), "key": KEY, **dict.fromkeys(few, 2)}
    given |= {"source_fn": lambda x: x @ W, "attack": attacks.fgsm} if name == "transferred" else {}
    return attack(model, X[:3], Y[:3], **given)


@pytest.mark.parametrize("name", NEEDS_GRADIENT)
def test_every_attack_names_itself_those_that_need_no_derivative_and_the_way_to_one(name):
    with pytest.raises(UserError) as error:
        call(name, callback)
    for word in (*FORWARD_ONLY, "jax.custom_vjp", "jax.pure_callback"):
        assert word in str(error.value)
    assert str(error.value).startswith(f"{name} must have a logits_fn")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted({*attacks.__all__} - {*NEEDS_GRADIENT, "hop_skip_jump"}))
def test_every_other_attack_works_on_a_callback(name):
    assert call(name, callback).shape == (3, 6)


@pytest.mark.slow
def test_a_callback_that_vmap_cannot_map_is_named_with_its_setting():
    with pytest.raises(UserError, match='pass vmap_method="sequential" to jax.pure_callback'):
        call("hop_skip_jump", callback)
    like = lambda x: jax.ShapeDtypeStruct((x.shape[0], 4), jnp.float32)
    mapped = lambda x: jax.pure_callback(
        lambda x: np.asarray(x) @ W, like(x), x, vmap_method="sequential"
    )
    assert call("hop_skip_jump", mapped).shape == (3, 6)


@pytest.mark.slow
def test_a_custom_vjp_bridges_a_numpy_model_for_gradient_attacks():
    bridged = jax.custom_vjp(callback)
    back = lambda _, g: (
        jax.pure_callback(
            lambda g: np.asarray(g) @ W.T,
            jax.ShapeDtypeStruct((g.shape[0], 6), jnp.float32),
            g,
            vmap_method="sequential",
        ),
    )
    bridged.defvjp(lambda x: (callback(x), None), back)
    for name in ("fgsm", "pgd"):
        np.testing.assert_array_equal(call(name, bridged), call(name, lambda x: x @ W))


def test_a_plain_attack_that_needs_the_derivative_is_named_too():
    def mine(fn, x, y, *, eps):
        return x + eps * jnp.sign(jax.grad(lambda x: fn(x).sum())(x))

    with pytest.raises(UserError, match="mine must have a logits_fn with a derivative"):
        evaluate.evaluate(callback, X, Y, {"a": mine}, eps=[0.1], key=KEY)


@pytest.mark.slow
def test_sizes_of_each_attack_are_its_own():
    suite = {"far": attacks.fgsm, "near": attacks.fgsm}
    sizes = {"far": [0.1, 0.3], "near": [0.02, 0.1]}
    fn = lambda x: x @ W
    found = evaluate.evaluate(fn, X, Y, suite, eps=sizes)
    alone = evaluate.evaluate(fn, X, Y, {"fgsm": attacks.fgsm}, eps=[0.02, 0.1, 0.3]).correct[
        "fgsm"
    ]
    np.testing.assert_array_equal(found.correct["far"], alone[1:])
    np.testing.assert_array_equal(found.correct["near"], alone[:2])
    np.testing.assert_array_equal(found.eps["near"], [0.02, 0.1])
    np.testing.assert_allclose(found.worst_case, (alone[1:] & alone[:2]).mean(1))


@pytest.mark.parametrize(
    ("eps", "message"),
    [
        ({"a": [0.1]}, "eps must have the names of the attacks, a, b, got a"),
        ({"a": [0.1], "b": [0.1, 0.2]}, "eps must be as many sizes for each attack, got 1, 2"),
        ({"a": [0.1], "b": 0.1}, "eps must be a sequence of numbers such as [0, 0.1], got 0.1"),
    ],
)
def test_sizes_that_do_not_fit_the_attacks_are_refused(eps, message):
    suite = {"a": attacks.fgsm, "b": attacks.fgsm}
    with pytest.raises(UserError) as error:
        evaluate.evaluate(lambda x: x @ W, X, Y, suite, eps=eps)
    assert str(error.value) == message


def test_an_error_of_an_attack_on_a_callback_passes_as_it_is():
    def broken(logits_fn, x, y, *, eps):
        raise KeyError("bug")

    for attack in (broken, adv_jax.attack()(broken)):
        with pytest.raises(KeyError, match="bug"):
            evaluate.evaluate(callback, X, Y, {"a": attack}, eps=[0.1])
    with pytest.raises(KeyError, match="bug"):
        adv_jax.attack()(broken)(callback, X, Y, eps=0.1)


def test_an_attack_that_maps_a_callback_without_vmap_method_is_told_to_set_it():
    def mapped(logits_fn, x, y, *, eps):
        return jax.vmap(lambda row: row + 0 * logits_fn(row[None])[0, 0])(x)

    with pytest.raises(UserError, match=r"^mapped must .*vmap_method=\"sequential\""):
        evaluate.evaluate(callback, X, Y, {"a": mapped}, eps=[0.1])


@pytest.mark.parametrize("name", ["class_jacobian", "feature_adversary"])
def test_what_is_no_attack_refuses_a_model_without_a_derivative_in_the_same_line(name):
    x = np.zeros((2, 2), np.float32)
    given = {"eps": 0.1} if name == "feature_adversary" else {}
    call = partial(getattr(attacks, name), callback, x, **given)
    with pytest.raises(UserError) as error:
        call(x) if given else call()
    assert str(error.value).startswith(f"{name} must have a logits_fn with a derivative, got one ")
    assert "\n" not in str(error.value)

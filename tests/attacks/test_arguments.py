"""Arguments that are none: refused in one line that names the argument and what is allowed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from adv_jax import attacks, evaluate
from adv_jax.types import UserError

X, Y = jnp.array([[0.2, 0.4], [0.6, 0.1]]), jnp.array([0, 1])


def model(x):
    return x @ jnp.array([[1.0, -1.0], [2.0, 0.0]])


def refused(call, *args, error=ValueError, **options):
    """The one line in which it is refused."""
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
    assert said == f"logits_fn gives {name}[2, 2]; allowed are logits of floating point"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (0, "0"),
        ("seed", "'seed'"),
        (np.zeros(2, np.int64), "int64[2]"),
        (jnp.zeros(2), "float32[2]"),
        (np.zeros(3, np.uint32), "uint32[3]"),
    ],
)
def test_what_is_no_key_is_refused(key, said):
    allowed = "allowed is jax.random.key(seed) or a key for each row"
    for attack in (attacks.pgd, attacks.uniform_noise):
        assert refused(attack, model, X, Y, eps=0.1, key=key) == f"key is {said}; {allowed}"


def test_old_keys_are_the_new_ones():
    new = attacks.uniform_noise(model, X, Y, eps=0.1, key=jax.random.key(3))
    for old in (jax.random.PRNGKey(3), np.asarray(jax.random.PRNGKey(3))):
        np.testing.assert_array_equal(attacks.uniform_noise(model, X, Y, eps=0.1, key=old), new)


@pytest.mark.parametrize("wrong", [None, 3, nn.Dense(2)])
def test_a_model_that_is_no_function_of_x_is_refused(wrong):
    said = refused(attacks.fgsm, wrong, X, Y, eps=0.1)
    kind = type(wrong).__name__
    assert said.startswith(f"logits_fn must be a function of x alone, got a {kind}: ")
    assert said.endswith("pass lambda x: model.apply(variables, x)")


def test_a_flax_module_with_its_variables_is_a_model():
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

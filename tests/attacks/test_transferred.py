"""transferred: the examples of the source model."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks
from adv_jax.types import UserError

W = np.array([[1.0, -1.0], [2.0, 0.0], [0.0, 1.0]])


def linear(x):
    return x @ jnp.asarray(W, x.dtype)


def test_transferred_examples_depend_on_the_source_model_alone():
    rng = np.random.default_rng(1)
    x, y = jnp.float32(rng.normal(size=(5, 3))), jnp.array([0, 1, 1, 0, 1])
    other = lambda x: x @ jnp.float32(rng.normal(size=(3, 2)))
    attack = partial(attacks.fgsm, norm="l2")
    expected = attack(linear, x, y, eps=0.7)
    for shown in (linear, other):
        found = attacks.transferred(shown, x, y, source_fn=linear, attack=attack, eps=0.7)
        np.testing.assert_array_equal(found, expected)


def test_an_attack_that_is_no_function_is_refused_in_one_line():
    with pytest.raises(UserError, match="^attack must be a function such as fgsm, got 'fgsm'$"):
        attacks.transferred(linear, jnp.ones((1, 3)), None, source_fn=linear, attack="fgsm", eps=1)


@pytest.mark.parametrize(
    ("source_fn", "message"),
    [
        (None, "source_fn must be a function of x alone, got a NoneType"),
        (lambda x: x[:, :1], "source_fn must return logits of 2 classes or more"),
        (lambda x: x / 0, "source_fn must return finite"),
    ],
)
def test_a_fault_of_the_source_is_not_that_of_the_model(source_fn, message):
    with pytest.raises(UserError, match=f"^{message}"):
        attacks.transferred(
            linear, jnp.ones((1, 3)), None, source_fn=source_fn, attack=attacks.fgsm, eps=1
        )

"""Builds the parts that a config names."""

import jax.numpy as jnp
import numpy as np

from adv_jax import attacks
from adv_jax.runner.config.building import attack_of

X, Y = jnp.full((2, 3), 0.5), jnp.array([0, 1])


def linear(*rows):
    return lambda x: x @ jnp.array(rows, jnp.float32).T


def test_an_attack_may_have_an_attack_that_has_one():
    """Transferred from net a by an attack that transfers from net b is FGSM on b."""
    a, b, other = linear([1, 2, 3], [0, 0, 0]), linear([-1, 2, -3], [0, 0, 0]), linear([1, 1, 1])
    inner = {"name": "transferred", "source_fn": "b", "attack": {"name": "fgsm"}}
    spec = {"name": "transferred", "source_fn": "a", "attack": inner}
    built = attack_of(spec, "evaluation.attacks.t", {"a": a, "b": b}, free=attacks.SIZES)
    found = built(other, X, Y, eps=0.1)
    np.testing.assert_array_equal(found, attacks.fgsm(b, X, Y, eps=0.1))
    assert not np.array_equal(found, attacks.fgsm(a, X, Y, eps=0.1))

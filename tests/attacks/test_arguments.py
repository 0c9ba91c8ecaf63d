"""Arguments that are none: refused in one line that names the argument and what is allowed."""

import jax
import jax.numpy as jnp
import pytest

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

"""curves and clean inside a compiled program, against `evaluate`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks, evaluate

EPS = (0.0, 0.1, 0.4)
FGSM = {"sign": partial(attacks.fgsm, norm="linf"), "direction": partial(attacks.fgsm, norm="l2")}


@pytest.mark.slow
def test_curves_inside_a_compiled_program_equal_evaluate(problem):
    w, b, x, y = problem(37)
    chosen = {"random": attacks.uniform_noise, **FGSM}
    key, logits_fn = jax.random.key(2), lambda x: x @ w + b[None]

    @jax.jit
    def compiled(x, y):
        return evaluate.curves(logits_fn, x, y, chosen, eps=EPS, batch_size=10, key=key)

    found, expected = (
        compiled(x, y),
        evaluate.evaluate(logits_fn, x, y, chosen, eps=EPS, batch_size=16, key=key),
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), found.attacks, expected.attacks)
    np.testing.assert_allclose(found.worst_case, expected.worst_case, rtol=1e-6)
    np.testing.assert_allclose(found.clean, expected.clean, rtol=1e-5)
    clean = evaluate.clean(logits_fn, jnp.asarray(x), jnp.asarray(y), batch_size=8)
    np.testing.assert_allclose(clean, expected.clean, rtol=1e-5)


@pytest.mark.parametrize("eps", [(0.0,), (0.5, 0.0), (0.0, 0.5, 0.2)])
def test_curves_at_eps_0_measure_x_without_running_the_attack(problem, eps):
    def seen(logits_fn, x, y, *, eps, key):
        return x + 1.0 + eps

    w, b, x, y = problem(7)
    chosen, logits_fn = {"seen": seen, "rubbish": attacks.rubbish}, lambda x: x @ w + b[None]
    given = {"eps": eps, "batch_size": 3, "key": jax.random.key(0)}
    found = evaluate.curves(logits_fn, x, y, chosen, **given)
    largest = [size and 1 + size for size in eps]
    np.testing.assert_allclose(found.attacks["seen"].linf, largest, rtol=1e-5)
    of_size_0 = eps.index(0)
    assert found.attacks["seen"].accuracy[of_size_0] == found.clean.accuracy
    # rubbish has no ball: its result at size 0 is noise, not x.
    assert found.attacks["rubbish"].linf[of_size_0] == pytest.approx(np.abs(x).max(1).mean())


@pytest.mark.slow
def test_the_memory_of_curves_does_not_grow_with_the_sizes():
    w_in = jnp.ones((20, 512))
    w_out = jnp.ones((512, 3))

    def temporaries(eps):
        def curves(x, y):
            net = lambda x: jnp.tanh(x @ w_in) @ w_out
            attack = {"pgd": partial(attacks.pgd, num_steps=2)}
            return evaluate.curves(net, x, y, attack, eps=eps, batch_size=64, key=None)

        x, y = jax.ShapeDtypeStruct((64, 20), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.int32)
        return jax.jit(curves).lower(x, y).compile().memory_analysis().temp_size_in_bytes

    one, ten = temporaries([0.1]), temporaries(list(np.linspace(0.1, 1, 10)))
    assert ten < 1.5 * one

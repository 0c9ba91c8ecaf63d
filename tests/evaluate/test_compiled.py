"""A second evaluation with an equal model compiles nothing, and no program holds a model."""

import gc
import weakref
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import counted

from adv_jax import attacks, evaluate, programs
from adv_jax.evaluate.compiled import Batched

SUITE = {"fgsm": attacks.fgsm, "pgd": partial(attacks.pgd, num_steps=3)}
KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
Y = np.arange(20) % 4


def weights(seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(6, 4)), jnp.float32)


def run(w, eps=(0.0, 0.2), factor=1.0):
    return evaluate.evaluate(
        lambda x: jnp.tanh(x) @ w * factor, X, Y, SUITE, eps=list(eps), key=KEY
    )


@pytest.mark.slow
def test_a_second_call_compiles_nothing_and_uses_its_own_weights():
    first = run(weights(0))
    with counted() as compiled:
        found = run(weights(1))
    assert compiled == []
    expected = (jnp.tanh(X) @ weights(1)).argmax(1) == Y
    np.testing.assert_array_equal(found.correct["fgsm"][0], expected)
    assert (first.correct["fgsm"][0] != expected).any()


@pytest.mark.slow
def test_minimal_eps_and_transfer_compile_nothing_in_a_second_call():
    def both(w):
        models = {"a": lambda x: x @ w, "b": lambda x: jnp.tanh(x) @ w}
        evaluate.minimal_eps(models["a"], X, Y, attacks.fgsm, high=1.0, num_steps=2)
        evaluate.transfer(models, X, Y, attacks.fgsm, eps=0.1)

    both(weights(0))
    with counted() as compiled:
        both(weights(1))
    assert compiled == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "measured",
    [
        lambda fn: evaluate.clean(fn, X, Y),
        lambda fn: evaluate.curves(fn, X, Y, SUITE, eps=[0.0, 0.2], batch_size=8, key=KEY),
    ],
    ids=["clean", "curves"],
)
def test_clean_and_curves_compile_nothing_in_a_second_call(measured):
    found = []
    for w in (weights(0), weights(1)):
        with counted() as compiled:
            found.append(measured(lambda x, w=w: jnp.tanh(x) @ w))
    assert compiled == []
    assert jax.tree.leaves(found[0]) != jax.tree.leaves(found[1])


@pytest.mark.parametrize(
    "measured",
    [
        lambda fn, eps: evaluate.transfer({"a": fn}, X, Y, attacks.fgsm, eps=eps),
        lambda fn, eps: evaluate.certify(fn, X, Y, [eps], method="ibp"),
    ],
    ids=["transfer", "certify"],
)
def test_another_size_compiles_nothing(measured):
    fn = lambda x: jnp.tanh(x) @ weights(0)
    measured(fn, 0.1)
    with counted() as compiled:
        measured(fn, 0.2)
    assert compiled == []


@pytest.mark.slow
def test_other_operations_take_another_program():
    for factor in (1.0, -1.0):
        found = run(weights(0), factor=factor)
        expected = (jnp.tanh(X) @ weights(0) * factor).argmax(1) == Y
        np.testing.assert_array_equal(found.correct["fgsm"][0], expected)


@pytest.mark.slow
def test_no_program_holds_a_model_and_few_are_kept(monkeypatch):
    monkeypatch.setattr(programs, "MAX_PROGRAMS", 2)
    w = weights(2)
    alive = weakref.ref(w)
    run(w)
    assert len(programs._programs) == 2
    del w
    gc.collect()
    assert alive() is None


@pytest.mark.slow
def test_arrays_inside_a_loop_are_not_taken_for_those_of_another_model():
    for seed in (0, 1):
        w = weights(seed)
        looped = lambda x, w=w: jax.lax.map(jax.jit(lambda row: row @ w), x)
        found = evaluate.evaluate(looped, X, Y, {"fgsm": attacks.fgsm}, eps=[0.0])
        np.testing.assert_array_equal(found.correct["fgsm"][0], (X @ w).argmax(1) == Y)


def test_fingerprint_is_of_operations_and_arrays():
    def of(fn):
        return Batched(lambda fn, x: fn(x), fn).fingerprint(jnp.ones((1, 2, 6)))

    assert of(lambda x: x @ weights(0)) == of(lambda x: x @ weights(0))
    others = [lambda x: x @ weights(1), lambda x: 2 * x @ weights(0)]
    assert len({of(fn) for fn in [lambda x: x @ weights(0), *others]}) == 3


@pytest.mark.parametrize("in_axes", [0, (0, 0)])
def test_a_program_maps_trees_of_arguments_over_devices(in_axes):
    devices = jax.local_device_count()
    x = jnp.arange(2.0 * devices).reshape(devices, 2)
    body = lambda fn, x, tree: {"sum": fn(x) + tree[0]["a"]}
    program = Batched(body, lambda x: x, in_axes=in_axes)
    np.testing.assert_array_equal(program(x, ({"a": x}, None))["sum"], 2 * x)

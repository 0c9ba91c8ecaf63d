"""Calls outside jit: equal calls share one program, also with other sizes and weights."""

import gc
import os
import weakref
from collections import OrderedDict
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import attack_table
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_table import FIRST, TABLE
from compilations import counted
from marks import exhaustive_after

from adv_jax import attacks, programs
from adv_jax.attacks import _calls

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.uniform(0.2, 0.8, (6, 5)), jnp.float32)
Y = jnp.asarray(RNG.integers(0, 4, 6))
KEY = jax.random.key(0)


def of_row(row):
    """Returns (logits_fn, x, y, *, eps) -> x_adv of a row of the table of attacks."""
    given = {"keys": KEY if row.needs_key else None, "bounds": None}
    return lambda fn, x, y, *, eps: attack_table.run(row, x, y, eps, logits_fn=fn, **given)


COMPILED = {name: of_row(TABLE[row]) for name, row in FIRST.items() if TABLE[row].reads_model}


def weights(seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(5, 4)), jnp.float32)


def through_jit(attack, w, **options):
    return jax.jit(lambda x: attack(lambda x: jnp.tanh(x) @ w, x, Y, **options))(X)


@pytest.mark.slow
@pytest.mark.parametrize("name", exhaustive_after(2, COMPILED))
def test_a_second_call_compiles_nothing_with_other_sizes_weights_and_lambdas(name):
    COMPILED[name](lambda x: jnp.tanh(x) @ weights(0), X, Y, eps=0.1)
    w = weights(1)
    with counted() as compiled:
        found = COMPILED[name](lambda x: jnp.tanh(x) @ w, X, Y, eps=0.2)
    assert compiled == []
    # And is the answer for these weights, as a program of its own gives it.
    np.testing.assert_allclose(found, through_jit(COMPILED[name], w, eps=0.2), atol=2e-6)


def test_a_second_call_reads_no_annotation_of_the_attack(monkeypatch):
    call = partial(attacks.fgsm, lambda x: jnp.tanh(x) @ weights(0), X, Y, eps=0.1)
    call()
    read = Mock(side_effect=_calls.members_of)
    monkeypatch.setattr(_calls, "members_of", read)
    call()
    assert read.call_count == 0  # Read in each call, they take longer than a small program.


def test_other_bounds_and_radii_of_features_compile_nothing():
    def pgd(hi, eps):
        given = {"num_steps": 2, "bounds": (np.zeros(5), hi)}
        return attacks.pgd(lambda x: jnp.tanh(x) @ weights(0), X, Y, eps=eps, **given)

    pgd(np.full(5, 0.9), np.full((1, 5), 0.1))
    eps = np.array([[0.1, 0.2, 0.3, 0.0, 0.1]])
    with counted() as compiled:
        x_adv = pgd(np.full(5, 0.8), eps)
    assert compiled == []
    assert float(x_adv.max()) == np.float32(0.8)


REALS = [1, np.float32(0.1), np.float64(0.2), np.int64(1), np.asarray(0.3), jnp.float32(0.4)]


def test_a_real_number_of_any_type_is_one_kind_of_setting():
    def pgd(eps, step_size):
        given = {"num_steps": 2, "step_size": step_size}
        return attacks.pgd(lambda x: jnp.tanh(x) @ weights(0), X, Y, eps=eps, **given)

    pgd(0.1, 0.05)
    with counted() as compiled:
        found = [pgd(eps, eps) for eps in REALS]
    assert compiled == []
    for x_adv, eps in zip(found, REALS, strict=True):
        np.testing.assert_array_equal(x_adv, pgd(float(eps), float(eps)))


def test_the_size_of_an_attack_without_annotations_is_a_real_number():
    @attacks.attack()
    def shifted(logits_fn, x, y, *, eps, key=None):
        return x + eps * jnp.sign(logits_fn(x)[:, :1])

    shifted(lambda x: x @ weights(0), X, Y, eps=0.1)
    with counted() as compiled:
        found = [shifted(lambda x: x @ weights(0), X, Y, eps=eps) for eps in REALS]
    assert compiled == []
    for x_adv, eps in zip(found, REALS, strict=True):
        np.testing.assert_allclose(np.abs(x_adv - X), np.float32(eps), rtol=1e-5)


def test_a_radius_of_float64_keeps_its_digits():
    with jax.enable_x64(True):
        x, eps = jnp.full((2, 5), 0.5, jnp.float64), np.float64(1e-3 + 1e-12)
        w = np.asarray(weights(0), np.float64)
        for size in (eps, np.asarray(eps), jnp.asarray(eps)):
            x_adv = attacks.fgsm(lambda x: x @ w, x, np.array([0, 1]), eps=size)
            np.testing.assert_allclose(np.abs(x_adv - x), eps, rtol=0, atol=2e-16)


LABELS = {
    "a byte": lambda y: y.astype(np.uint8),
    "a long": lambda y: y.astype(np.int64),
    "a list": lambda y: y.tolist(),
    "a column": lambda y: y[:, None],
    "lists of one": lambda y: y[:, None].tolist(),
    "an array of JAX": jnp.uint8,
}


@pytest.mark.parametrize("form", LABELS)
def test_classes_of_any_form_share_a_program(form):
    y = np.array([1, 3, 0, 2, 2, 1], np.int32)
    given = jax.block_until_ready(LABELS[form](y))

    def fgsm(y):
        return attacks.fgsm(lambda x: jnp.tanh(x) @ weights(0), X, y, eps=0.1)

    expected = fgsm(y)
    with counted() as compiled:
        found = fgsm(given)
    assert compiled == []
    np.testing.assert_array_equal(found, expected)


def test_one_hot_rows_of_any_form_share_a_program():
    rows = np.eye(4, dtype=np.float32)[[1, 3, 0, 2, 2, 1]]

    def fgsm(y):
        return attacks.fgsm(lambda x: jnp.tanh(x) @ weights(0), X, y, eps=0.1)

    expected = fgsm(rows)
    given = rows.tolist(), rows.astype(int), rows.astype(int).tolist(), rows.astype(float)
    with counted() as compiled:
        found = [fgsm(y) for y in given]
    assert compiled == []
    for x_adv in found:
        np.testing.assert_array_equal(x_adv, expected)


def test_an_attack_sees_weights_that_change_under_the_same_function():
    holder = {"w": weights(0)}

    def logits_fn(x):
        return x @ holder["w"]

    for seed in (0, 1):
        holder["w"] = weights(seed)
        found = attacks.pgd(logits_fn, X, Y, eps=0.1, num_steps=3)
        expected = attacks.pgd(lambda x, s=seed: x @ weights(s), X, Y, eps=0.1, num_steps=3)
        np.testing.assert_array_equal(found, expected)


def test_functions_that_differ_only_in_the_derivative_have_separate_programs():
    w = weights(0)

    def defended(sign):
        @jax.custom_vjp
        def fn(x):
            return x @ w

        fn.defvjp(lambda x: (x @ w, None), lambda _, g: (sign * g @ w.T,))
        return fn

    up, down = (attacks.pgd(defended(s), X, Y, eps=0.1, num_steps=1) - X for s in (1.0, -1.0))
    assert float(jnp.abs(up - down).max()) > 0.1


def test_a_relu_with_the_derivative_of_the_identity_has_a_program_of_its_own():
    @jax.custom_jvp
    @jax.jit
    def relu(x):  # The operations of `jax.nn.relu`, by their names too.
        return jnp.maximum(x, 0)

    relu.defjvp(lambda x, slope: (relu(*x), *slope))
    for activation, moves in ((jax.nn.relu, False), (relu, True)):
        # All units are off: only the identity has a gradient.
        net = lambda x, activation=activation: activation(x @ weights(0) - 9)
        assert bool((attacks.fgsm(net, X, Y, eps=0.1) != X).any()) is moves


def test_jitted_nets_share_a_program_and_keep_their_weights():
    for seed in (0, 1):
        w = weights(seed)
        with counted() as compiled:
            found = attacks.pgd(jax.jit(lambda x, w=w: jnp.tanh(x) @ w), X, Y, eps=0.1, num_steps=3)
        expected = attacks.pgd(lambda x, w=w: jnp.tanh(x) @ w, X, Y, eps=0.1, num_steps=3)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert compiled == []


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [jax.jit, lambda fn: fn])
def test_a_model_may_close_over_what_vmap_maps_or_grad_differentiates(wrap):
    """Outside jit; a jitted model has the tracers that it reads among its arguments."""
    ws = jnp.stack([weights(0), weights(1)])
    crafted = lambda w: attacks.pgd(wrap(lambda x: x @ w), X, Y, eps=0.1, num_steps=3)
    expected = jnp.stack([crafted(w) for w in ws])
    np.testing.assert_allclose(jax.vmap(crafted)(ws), expected, rtol=1e-6)
    assert not jax.grad(lambda w: crafted(w).sum())(ws[0]).any()  # x_adv is constant.


def test_a_jitted_part_of_a_net_keeps_its_weights():
    for seed in (0, 1):
        w = weights(seed)
        part = jax.jit(lambda x, w=w: jnp.tanh(x) @ w)
        found = attacks.fgsm(lambda x, part=part: 2 * part(x), X, Y, eps=0.1)
        expected = jax.jit(
            lambda x, s=seed: attacks.fgsm(lambda x: 2 * jnp.tanh(x) @ weights(s), x, Y, eps=0.1)
        )(X)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_derivative_of_ones_own_keeps_the_arrays_over_which_it_closes():
    def defended(w):
        @jax.custom_vjp
        def fn(x):
            return x @ weights(0)

        fn.defvjp(lambda x: (fn(x), None), lambda _, g: (g @ w.T,))
        return fn

    for seed in (0, 1):
        fn = defended(weights(seed))
        found = attacks.fgsm(fn, X, Y, eps=0.1)
        expected = jax.jit(lambda x, fn=fn: attacks.fgsm(fn, x, Y, eps=0.1))(X)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_a_number_in_the_model_is_a_constant_of_the_program():
    w = weights(0)
    for factor in (1.0, -1.0):
        found = attacks.pgd(lambda x, f=factor: f * (x @ w), X, Y, eps=0.1, num_steps=3)
        expected = attacks.pgd(lambda x, f=factor: x @ (f * w), X, Y, eps=0.1, num_steps=3)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def climbed(loss, w, **options):
    run = partial(attacks.pgd, lambda x: jnp.tanh(x) @ w, X, None, eps=0.1, num_steps=3)
    return run(loss=loss, **options)


def test_losses_of_ones_own_share_a_program_if_only_their_arrays_differ():
    def of(goal):
        return lambda z, _: ((z - goal) ** 2).sum(axis=1), lambda z, _: z[:, 0] > goal[0, 0]

    w = weights(0)
    loss, fooled = of(weights(1)[:1])
    first = climbed(loss, w, fooled=fooled)
    loss, fooled = of(weights(2)[:1])
    with counted() as compiled:
        second = climbed(loss, w, fooled=fooled)
    assert compiled == []
    expected = jax.jit(lambda: climbed(loss, w, fooled=fooled))()
    np.testing.assert_allclose(second, expected, atol=2e-6)
    assert (first != second).any()


@pytest.mark.slow
def test_losses_that_differ_in_a_number_or_an_operation_have_separate_programs():
    w = weights(0)
    for loss in (
        lambda z, _: 0.1 * z[:, 0] + z[:, 1] ** 2,
        lambda z, _: -0.1 * z[:, 0] + z[:, 1] ** 2,
        lambda z, _: 0.1 * z[:, 0] - z[:, 1] ** 2,
        lambda z, _: 0.1 * z[:, 0] + z[:, 2] ** 2,
    ):
        expected = jax.jit(lambda loss=loss: climbed(loss, w))()
        np.testing.assert_allclose(climbed(loss, w), expected, atol=2e-6)


def test_a_change_in_the_last_bit_of_a_number_is_another_program():
    one, next_to_one = 1.0, float(np.nextafter(np.float32(1), np.float32(2)))
    found = [
        attacks.pgd(
            lambda x: x,
            jnp.ones(1),
            None,
            eps=0.5,
            num_steps=1,
            # Flat but for the jump at a number, which only one of the two losses has at x = 1.
            loss=lambda z, _, at=at: jnp.where(z < at, 2 - 2 * z, z),
        )
        for at in (one, next_to_one)
    ]
    np.testing.assert_allclose(found, [[1.5], [0.5]])


def test_losses_that_differ_only_in_the_derivative_have_separate_programs():
    def signed(sign):
        @jax.custom_vjp
        def loss(z):
            return z.sum(axis=1)

        loss.defvjp(lambda z: (loss(z), z), lambda z, g: (sign * g[:, None] + 0 * z,))
        return lambda z, _: loss(z)

    step = partial(attacks.fgsm, lambda x: x, X, None, eps=0.1)
    for sign in (1.0, -1.0):
        np.testing.assert_allclose(step(loss=signed(sign)), X + 0.1 * sign, atol=1e-6)


def test_an_attack_sees_arrays_that_change_under_the_same_loss():
    goal, found = {}, []

    def loss(z, _):
        return ((z - goal["at"]) ** 2).sum(axis=1)

    for at in (0, 5):
        goal["at"] = jnp.full((1, 4), at, jnp.float32)
        found.append(attacks.fgsm(lambda x: x, X[:, :4], None, eps=0.1, loss=loss) - X[:, :4])
    np.testing.assert_allclose(found[0], 0.1, atol=1e-6)
    np.testing.assert_allclose(found[1], -0.1, atol=1e-6)


@pytest.mark.slow
def test_no_program_holds_a_loss():
    def attacked():
        goal = weights(3)[:1] + 1
        loss = lambda z, _: ((z - goal) ** 2).sum(axis=1)
        climbed(loss, weights(0))
        return weakref.ref(goal), weakref.ref(loss)

    held = attacked()
    gc.collect()
    assert [ref() for ref in held] == [None, None]


def test_an_attack_sees_a_numpy_matrix_that_is_changed_in_place():
    w = np.array(weights(0))
    before = attacks.pgd(lambda x: x @ w, X, Y, eps=0.1, num_steps=3)
    before.block_until_ready()  # JAX may read w until then.
    w *= -1
    after = attacks.pgd(lambda x: x @ w, X, Y, eps=0.1, num_steps=3)
    expected = attacks.pgd(lambda x: x @ jnp.asarray(w), X, Y, eps=0.1, num_steps=3)
    assert (before != after).any()
    np.testing.assert_allclose(after, expected, atol=1e-6)


@pytest.mark.slow
def test_an_array_that_depends_on_the_batch_is_not_reused_in_another_call():
    # At blocks of 4 rows the model reads arrays that it does not read at 6.
    def of(w):
        return lambda x: x @ w + jnp.asarray(np.full((x.shape[0], 4), w[0, 0]))

    auto = partial(attacks.auto_attack, num_steps=3, num_queries=5, block_size=4, eps=0.2, key=KEY)
    for seed in (0, 1):
        w = np.array(weights(seed))
        expected = jax.jit(lambda x, w=w: auto(of(w), x, Y))(X)
        np.testing.assert_allclose(auto(of(w), X, Y), expected, atol=2e-6)


@pytest.mark.slow
def test_no_program_holds_a_model():
    def attacked():
        w = weights(0) + 1
        model = lambda x: x @ w
        attacks.pgd(model, X, Y, eps=0.1, num_steps=3)
        attacks.auto_attack(model, X, Y, eps=0.1, num_steps=2, num_queries=2, block_size=4, key=KEY)
        return weakref.ref(w), weakref.ref(model)

    held = attacked()
    gc.collect()
    assert [ref() for ref in held] == [None, None]


@pytest.mark.slow
def test_a_model_without_a_derivative_is_searched_by_queries():
    w = np.array(weights(0))

    def queried(x):
        shape = jax.ShapeDtypeStruct((x.shape[0], 4), jnp.float32)
        return jax.pure_callback(lambda x: np.asarray(x) @ w, shape, x)

    found = attacks.square(queried, X, Y, eps=0.3, num_queries=10, key=KEY)
    expected = attacks.square(lambda x: x @ w, X, Y, eps=0.3, num_queries=10, key=KEY)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_first_call_compiles_one_program_for_the_model():
    names = []

    def listen(event, _, fun_name=None, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    def logits_fn(x):  # Operations that no other test compiles.
        return jnp.cos(jnp.arctan(x) @ weights(0))

    jax.monitoring.register_event_duration_secs_listener(listen)
    attacks.pgd(logits_fn, X, Y, eps=0.1, num_steps=3)
    jax.monitoring.unregister_event_duration_listener(listen)
    assert names.count("jit(run)") == 1
    assert not any(word in str(names) for word in ("cos", "atan", "matmul", "dot_general"))


def test_a_bad_call_is_refused_as_before_and_the_next_one_runs():
    w = weights(0)
    with pytest.raises(ValueError, match="loss must be one of ce, dlr"):
        attacks.apgd(lambda x: x @ w, X, Y, eps=0.1, loss="hinge", num_steps=3)
    assert attacks.apgd(lambda x: x @ w, X, Y, eps=0.1, num_steps=3).shape == X.shape


def memory_maps():
    gc.collect()
    return sum(1 for _ in Path("/proc/self/maps").open())


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs Linux")


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("calls", [100, pytest.param(5000, marks=pytest.mark.exhaustive)])
def test_thousands_of_calls_with_changing_eps_are_one_program(calls):
    w = weights(0)
    attacks.pgd(lambda x: x @ w, X, Y, eps=0.1, num_steps=2)
    before = memory_maps()
    with counted() as compiled:
        for i in range(calls):
            attacks.pgd(lambda x: x @ w, X, Y, eps=0.1 + 0.5 * i / calls, num_steps=2)
    assert compiled == []
    assert memory_maps() - before < 100


@needs_proc
@pytest.mark.parametrize(
    "shapes",
    [pytest.param(16, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.exhaustive)],
)
def test_many_shapes_keep_no_more_programs_than_the_limit(monkeypatch, shapes):
    monkeypatch.setattr(programs, "MAX_PROGRAMS", 8)
    monkeypatch.setattr(programs, "_programs", OrderedDict())
    w, maps = weights(0), []
    for count in range(1, shapes + 1):
        x = jnp.full((count, 5), 0.5)
        attacks.pgd(lambda x: x @ w, x, jnp.zeros(count, int), eps=0.1, num_steps=2)
        assert len(programs._programs) <= 8
        maps.append(memory_maps())
    # Programs that are dropped give their memory maps back; eager operations keep theirs.
    kept = (maps[-1] - maps[10]) / (shapes - 11)
    assert kept < 50

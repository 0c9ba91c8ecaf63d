"""curves and clean inside a compiled program, against `evaluate`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_after

from adv_jax import attacks, evaluate
from adv_jax.types import UserError

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


@pytest.mark.parametrize("eps", slow_after(1, [[0.0, 0.5, 0.2], [0.0], [0.5, 0.0]]))
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


@pytest.mark.parametrize("form", [list, np.uint8, lambda y: y[:, None], np.eye(4).__getitem__])
def test_labels_in_any_form_that_evaluate_takes_give_the_accuracy_of_numpy(problem, form):
    w, b, x, y = problem(23)
    logits_fn, labels = lambda x: x @ w + b[None], form(y)
    expected = (np.argmax(x @ w + b, axis=1) == y).mean()
    given = {"eps": [0.0], "batch_size": 10, "key": None}
    found = evaluate.clean(logits_fn, x, labels, batch_size=10)
    of_curves = evaluate.curves(logits_fn, x, labels, FGSM, **given)
    assert found.accuracy == pytest.approx(expected, abs=1e-6) and 0 < expected < 1
    assert of_curves.clean.accuracy == of_curves.worst_case[0] == found.accuracy


def test_clean_takes_indices_of_rows(problem):
    w, b, x, y = problem(23)
    found = evaluate.clean(lambda rows: jnp.asarray(x)[rows] @ w + b[None], np.arange(23), y)
    assert found.accuracy == pytest.approx((np.argmax(x @ w + b, axis=1) == y).mean(), abs=1e-6)


REFUSED = [
    ({"y": np.zeros(1, int)}, "y must be classes i32[N] with N = 5, got int64[1]"),
    ({"y": np.zeros((5, 2), int)}, "y must be classes i32[N] with N = 5, got int64[5, 2]"),
    ({"y": np.zeros(5)}, "y must be classes i32[N] with N = 5, got float64[5]"),
    ({"y": np.arange(5)}, "y must be classes from 0 to 3, got 4"),
    ({"y": np.arange(5) - 2}, "y must be classes from 0 to 3, got -2"),
    ({"x": np.full((5, 4), np.inf)}, "x must be finite numbers, got inf"),
    ({"x": np.zeros((0, 4), int)}, "x must be a batch f32[B, *D] of floats, got int"),
    ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
    ({"logits_fn": lambda x: x[:, 0]}, "logits_fn must return logits f32[B, K] with B = 2, got"),
    (
        {"logits_fn": lambda x: jnp.where(x > 0.9, jnp.nan, x)},
        "logits_fn must return finite logits, got NaN or infinity for 1 of 5 rows of x",
    ),
    ({"logits_fn": jax.nn.softmax}, "logits_fn must return logits, the values before the"),
]
SIZES = [
    ({"x": np.zeros((5, 4), int)}, "x must be a batch f32[B, *D] of floats, got int"),
    ({"eps": [0.1, -0.2]}, "eps must be a finite number of at least 0, got -0.2"),
    ({"eps": 0.1}, "eps must be a sequence of numbers such as [0, 0.1], got 0.1"),
    ({"eps": []}, "eps must be one or more numbers of at least 0, got ()"),
    (
        {"attacks": {"mine": partial(attacks.pgd, num_steps=0)}},
        "mine: num_steps must be a whole number of at least 1, got 0",
    ),
    ({"attacks": [attacks.fgsm]}, "attacks must be a dict that gives each a name, got a list"),
]


@pytest.mark.parametrize(
    ("measure", "change", "message"),
    [(evaluate.clean, *case) for case in REFUSED]
    + [(partial(evaluate.curves, eps=[0, 0.1]), *case) for case in REFUSED + SIZES],
)
def test_clean_and_curves_refuse_what_evaluate_refuses(measure, change, message):
    x = np.linspace(0, 1, 20, dtype=np.float32).reshape(5, 4)
    given = {"logits_fn": lambda x: x, "x": x, "y": np.zeros(5, int), "batch_size": 2, **change}
    rest = {} if measure is evaluate.clean else {"attacks": FGSM, "key": None}
    with pytest.raises(UserError) as caught:
        measure(**{**rest, **given})
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("y", "eps", "message"),
    [
        (np.zeros((5, 4), np.int32), 0.1, "y must be classes i32[N] with N = 5, got int32[5, 4]"),
        (np.zeros(1, np.int32), 0.1, "y must be classes i32[N] with N = 5, got int32[1]"),
        (np.zeros(5, np.float32), 0.1, "y must be classes i32[N] with N = 5, got float32[5]"),
        (np.zeros(5, np.int32), -0.1, "eps must be a finite number of at least 0, got -0.1"),
    ],
)
def test_wrong_labels_and_sizes_are_refused_inside_jit(y, eps, message):
    def compiled(x, y):
        return evaluate.curves(lambda x: x, x, y, FGSM, eps=[eps])

    with pytest.raises(UserError) as caught:
        jax.jit(compiled)(np.ones((5, 4), np.float32), y)
    assert str(caught.value) == message


def test_values_are_not_checked_inside_jit():
    x, y = np.array([[0.0, 1.0], [2.0, 1.0]], np.float32), np.array([1, 7])
    logits_fn = lambda x: jnp.where(x > 1, jnp.nan, x)
    found = jax.jit(lambda x, y: evaluate.clean(logits_fn, x, y))(x, y)
    assert found.accuracy == 0.5 and np.isnan(found.confidence)

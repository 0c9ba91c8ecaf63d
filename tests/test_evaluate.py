"""evaluate: against a loop over the rows in NumPy, on linear models."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from adv_jax import attacks, evaluate
from adv_jax.types import UserError

FEATURES, CLASSES = 6, 4
EPS = (0.0, 0.1, 0.4)
FGSM = {"sign": partial(attacks.fgsm, norm="linf"), "direction": partial(attacks.fgsm, norm="l2")}
# A few examples only, and none to shrink: each compiles anew.
few = settings(max_examples=5, phases=(Phase.explicit, Phase.generate))


def problem(rows, seed=0):
    """A linear model and labels of which about a quarter contradict it."""
    rng = np.random.default_rng(seed)
    w, b = rng.normal(size=(FEATURES, CLASSES)), rng.normal(size=CLASSES)
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    y = np.argmax(x @ w + b, axis=1)
    y = np.where(rng.uniform(size=rows) < 0.25, rng.integers(CLASSES, size=rows), y)
    return w.astype(np.float32), b.astype(np.float32), x, y.astype(np.int32)


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def reference(w, b, x, y, eps):
    """What `evaluate` documents for FGSM, row by row in float64."""
    w, b, n = w.astype(float), b.astype(float), len(x)
    curves = {
        name: {key: np.zeros(len(eps)) for key in ("accuracy", "confidence", "l2", "linf")}
        | {"success": np.zeros(len(eps))}
        for name in FGSM
    }
    worst = np.zeros(len(eps))
    clean = sum(np.argmax(row @ w + b) == label for row, label in zip(x, y, strict=True))
    for e, size in enumerate(eps):
        for row, label in zip(x.astype(float), y, strict=True):
            right_at_first = np.argmax(row @ w + b) == label
            gradient = w @ (softmax(row @ w + b) - np.eye(CLASSES)[label])
            steps = {"sign": np.sign(gradient), "direction": gradient / np.linalg.norm(gradient)}
            right_always = True
            for name, step in steps.items():
                logits = (row + size * step) @ w + b
                right = np.argmax(logits) == label
                right_always &= right
                curves[name]["accuracy"][e] += right / n
                curves[name]["confidence"][e] += softmax(logits).max() / n
                curves[name]["success"][e] += (right_at_first and not right) / clean
                curves[name]["l2"][e] += np.linalg.norm(size * step) / n
                curves[name]["linf"][e] += np.abs(size * step).max() / n
            worst[e] += right_always / n
    return curves | {"worst_case": {"accuracy": worst}}


def test_curves_are_those_of_a_loop_over_the_rows():
    w, b, x, y = problem(53)
    found = evaluate.evaluate(lambda x: x @ w + b, x, y, FGSM, eps=EPS, batch_size=20)
    expected = reference(w, b, x, y, EPS)
    assert set(found) == {"sign", "direction", "worst_case"}
    for name, curve in expected.items():
        assert set(found[name]) == {"eps", *curve}
        np.testing.assert_allclose(found[name]["eps"], EPS, rtol=1e-6)
        for measure, values in curve.items():
            np.testing.assert_allclose(
                found[name][measure], values, rtol=1e-5, atol=1e-6, err_msg=f"{name} {measure}"
            )
    # The reference itself is not degenerate: attacks do harm, and not the same to every row.
    worst = expected["worst_case"]["accuracy"]
    assert 0 < worst[1] < worst[0] < 1
    assert worst[2] < min(expected["sign"]["accuracy"][1], expected["direction"]["accuracy"][2])


@few
@given(st.integers(1, 23), st.integers(1, 30))
def test_exactly_the_given_rows_count_whatever_the_batch_size(rows, batch_size):
    w, b, x, y = problem(rows, seed=rows)
    # The first row, which fills the last batch up, stands out in every measure.
    x[0] *= 50
    x, y = jnp.asarray(x), jnp.asarray(y)
    attack = {"sign": FGSM["sign"]}
    found = evaluate.evaluate(lambda x: x @ w + b, x, y, attack, eps=[0.2], batch_size=batch_size)
    x, y = np.asarray(x, float), np.asarray(y)
    logits = x @ w + b
    gradient = np.stack([softmax(row) for row in logits]) - np.eye(CLASSES)[y]
    adversarial = (x + 0.2 * np.sign(gradient @ w.T.astype(float))) @ w + b
    right = np.argmax(adversarial, axis=1) == y
    assert round(float(found["sign"]["accuracy"][0]) * rows, 3) == right.sum()
    confidence = np.mean([softmax(row).max() for row in adversarial])
    np.testing.assert_allclose(found["sign"]["confidence"][0], confidence, rtol=1e-4)
    worst = found["worst_case"]["accuracy"]
    np.testing.assert_array_equal(worst, found["sign"]["accuracy"])


def test_an_attack_of_size_zero_gives_the_clean_measures():
    w, b, x, y = problem(31)
    random = {"random": attacks.uniform_noise, **FGSM}
    found = evaluate.evaluate(
        lambda x: x @ w + b, x, y, random, eps=[0.3, 0], batch_size=8, key=jax.random.key(0)
    )
    logits = x @ w + b
    right = np.mean(np.argmax(logits, axis=1) == y)
    confidence = np.mean([softmax(row).max() for row in logits])
    clean = evaluate.clean(lambda x: x @ w + b, jnp.asarray(x), jnp.asarray(y), batch_size=8)
    for measured in (
        clean,
        *({m: values[1] for m, values in found[name].items()} for name in random),
    ):
        np.testing.assert_allclose(measured["accuracy"], right, rtol=1e-6)
        np.testing.assert_allclose(measured["confidence"], confidence, rtol=1e-5)
    for name in random:
        assert {float(found[name][zero][1]) for zero in ("l2", "linf", "success")} == {0.0}
        assert found[name]["l2"][0] > 0
    np.testing.assert_allclose(found["worst_case"]["accuracy"][1], right, rtol=1e-6)


def test_a_whole_curve_is_one_compilation_of_each_attack():
    w, b, x, y = problem(40)
    calls = []

    def logits_fn(x):
        calls.append(isinstance(x, jax.core.Tracer))
        return x @ w + b

    def count(names, eps, batch_size):
        calls.clear()
        chosen = {name: FGSM[name] for name in names}
        evaluate.evaluate(logits_fn, x, y, chosen, eps=eps, batch_size=batch_size)
        assert all(calls)  # Nothing runs outside the compiled program.
        return len(calls)

    one = count(["sign"], [0.1], 40)
    assert count(["sign"], np.linspace(0, 1, 9), 40) == one
    assert count(["sign"], [0.1, 0.2], 7) == one
    # A second attack adds its own gradient and its own look at the result.
    assert count(["sign", "direction"], np.linspace(0, 1, 5), 7) == one + 2


def test_random_attacks_get_keys_that_replay():
    w, b, x, y = problem(30)
    run = partial(
        evaluate.evaluate,
        lambda x: x @ w + b,
        x,
        y,
        {"noise": attacks.uniform_noise},
        eps=[0.5],
        batch_size=10,
    )
    first, again, other = (run(key=jax.random.key(seed))["noise"]["l2"][0] for seed in (0, 0, 1))
    assert 0 < first <= 0.5 * np.sqrt(FEATURES)
    assert first == again
    assert first != other
    with pytest.raises(ValueError, match="key is required"):
        run()


def test_each_batch_has_a_key_of_its_own():
    def shift(logits_fn, x, y, *, eps, key):
        del logits_fn, y
        return x + eps * jax.random.uniform(key)

    w, b, x, y = problem(6)
    key = jax.random.key(5)
    found = evaluate.evaluate(
        lambda x: x @ w + b, x, y, {"shift": shift}, eps=[1.0], batch_size=4, key=key
    )
    # Four rows in the first batch and two in the second, all entries of a batch moved alike.
    moves = [float(jax.random.uniform(jax.random.fold_in(key, i))) for i in (0, 1)]
    assert abs(moves[0] - moves[1]) > 0.01
    np.testing.assert_allclose(
        found["shift"]["linf"][0], (4 * moves[0] + 2 * moves[1]) / 6, rtol=1e-4
    )


@jax.jit
def curves_of(w, b, x, y, key):
    chosen = {"random": attacks.uniform_noise, **FGSM}
    return evaluate.curves(lambda x: x @ w + b, x, y, chosen, eps=EPS, batch_size=10, key=key)


@given(st.integers(0, 10**6))
def test_the_worst_case_is_no_better_than_any_attack_and_rates_are_fractions(seed):
    w, b, x, y = problem(37, seed)
    found = curves_of(w, b, x, y, jax.random.key(seed))
    chosen = found.keys() - {"worst_case"}
    assert len(chosen) == 3
    accuracies = np.stack([found[name]["accuracy"] for name in chosen])
    worst = np.asarray(found["worst_case"]["accuracy"])
    assert (worst <= accuracies.min(0) + 1e-6).all()
    # A row that is wrong in the worst case is wrong under some attack.
    assert (1 - worst <= (1 - accuracies).sum(0) + 1e-6).all()
    for name in chosen:
        for measure in ("accuracy", "confidence", "success"):
            assert ((found[name][measure] >= 0) & (found[name][measure] <= 1 + 1e-6)).all()
        assert (found[name]["confidence"] > 1 / CLASSES).all()


def test_success_of_a_model_that_is_never_right_is_zero_not_nan():
    _, _, x, _ = problem(9)
    always_first = lambda x: jnp.stack([1 + 0 * x[:, 0], 0 * x[:, 0]], axis=1)
    found = evaluate.evaluate(always_first, x, np.ones(9, np.int32), FGSM, eps=[0.1])
    assert found["sign"]["accuracy"][0] == 0
    assert found["sign"]["success"][0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attacks": {}}, "evaluate needs at least one attack and one eps"),
        ({"eps": []}, "evaluate needs at least one attack and one eps"),
        ({"eps": [0.1, -0.2]}, "eps has -0.2; allowed are numbers of at least 0"),
        ({"y": np.zeros(4, np.int32)}, "x has 5 rows and y 4; allowed are equal numbers"),
        ({"eps": [0.1, float("nan")]}, "eps has nan; allowed are numbers of at least 0"),
        ({"batch_size": 0}, "batch_size is 0; allowed are whole numbers of at least 1"),
    ],
)
def test_mistakes_are_refused_in_words(change, message):
    calls = []

    def logits_fn(x):
        calls.append(1)
        return x[:, :CLASSES]

    arguments = {"x": np.zeros((5, FEATURES), np.float32), "y": np.zeros(5, np.int32)}
    arguments |= {"attacks": FGSM, "eps": [0.1], **change}
    with pytest.raises(UserError) as error:
        evaluate.evaluate(logits_fn, **arguments)
    assert str(error.value) == message
    assert not calls

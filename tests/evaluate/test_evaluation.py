"""evaluate and curves: against a loop over the rows in NumPy, on linear models."""

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
MEASURES = ("accuracy", "confidence", "success", "l2", "linf")
FGSM = {"sign": partial(attacks.fgsm, norm="linf"), "direction": partial(attacks.fgsm, norm="l2")}
# A few examples only, and none to shrink: each compiles anew.
few = settings(max_examples=4, phases=(Phase.explicit, Phase.generate))


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def reference(w, b, x, y, eps):
    """What `evaluate` documents for FGSM, row by row in float64: (measures, right, worst case)."""
    w, b, n = w.astype(float), b.astype(float), len(x)
    curves = {name: {measure: np.zeros(len(eps)) for measure in MEASURES} for name in FGSM}
    right = {name: np.zeros((len(eps), n), bool) for name in FGSM}
    clean = sum(np.argmax(row @ w + b) == label for row, label in zip(x, y, strict=True))
    for e, size in enumerate(eps):
        for i, (row, label) in enumerate(zip(x.astype(float), y, strict=True)):
            right_at_first = np.argmax(row @ w + b) == label
            gradient = w @ (softmax(row @ w + b) - np.eye(CLASSES)[label])
            steps = {"sign": np.sign(gradient), "direction": gradient / np.linalg.norm(gradient)}
            for name, step in steps.items():
                logits = (row + size * step) @ w + b
                right[name][e, i] = np.argmax(logits) == label
                curves[name]["accuracy"][e] += right[name][e, i] / n
                curves[name]["confidence"][e] += softmax(logits).max() / n
                curves[name]["success"][e] += (right_at_first and not right[name][e, i]) / clean
                curves[name]["l2"][e] += np.linalg.norm(size * step) / n
                curves[name]["linf"][e] += np.abs(size * step).max() / n
    return curves, right, (right["sign"] & right["direction"]).mean(1)


def test_curves_are_those_of_a_loop_over_the_rows(problem):
    w, b, x, y = problem(53)
    found = evaluate.evaluate(lambda x: x @ w + b[None], x, y, FGSM, eps=EPS, batch_size=20)
    curves, right, worst = reference(w, b, x, y, EPS)
    assert found.attacks.keys() == found.correct.keys() == FGSM.keys()
    np.testing.assert_array_equal(found.eps, EPS)
    for name, expected in curves.items():
        np.testing.assert_array_equal(found.correct[name], right[name])
        for measure, values in expected.items():
            np.testing.assert_allclose(
                getattr(found.attacks[name], measure), values, rtol=1e-5, atol=1e-6, err_msg=measure
            )
    np.testing.assert_allclose(found.worst_case, worst, rtol=1e-6)
    assert found.clean.accuracy == pytest.approx(curves["sign"]["accuracy"][0])
    assert found.clean.confidence == pytest.approx(curves["sign"]["confidence"][0], rel=1e-5)
    # The reference itself is not degenerate: attacks do harm, and not the same to every row.
    assert 0 < worst[1] < worst[0] < 1
    assert worst[2] < min(curves["sign"]["accuracy"][1], curves["direction"]["accuracy"][2])


@pytest.mark.slow
def test_curves_inside_a_compiled_program_are_the_same(problem):
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
def test_in_a_compiled_program_no_attack_runs_at_an_eps_of_0_where_there_is_only_x(problem, eps):
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
    # What has no ball is not x at size 0: its noise stands in place of x.
    assert found.attacks["rubbish"].linf[of_size_0] == pytest.approx(np.abs(x).max(1).mean())


@pytest.mark.filterwarnings("ignore:.*gradients are exactly 0")
@few
@given(st.integers(1, 23), st.integers(1, 30))
def test_exactly_the_given_rows_count_whatever_the_batch_size(problem, rows, batch_size):
    w, b, x, y = problem(rows, seed=rows)
    x[0] *= 50  # The row that fills the last batch up stands out in every measure.
    attack = {"sign": FGSM["sign"]}
    found = evaluate.evaluate(
        lambda x: x @ w + b[None], x, y, attack, eps=[0.2], batch_size=batch_size
    )
    logits = np.asarray(x, float) @ w + b
    gradient = np.stack([softmax(row) for row in logits]) - np.eye(CLASSES)[y]
    adversarial = (x + 0.2 * np.sign(gradient @ w.T.astype(float))) @ w + b
    right = np.argmax(adversarial, axis=1) == y
    assert round(float(found.attacks["sign"].accuracy[0]) * rows, 3) == right.sum()
    confidence = np.mean([softmax(row).max() for row in adversarial])
    np.testing.assert_allclose(found.attacks["sign"].confidence[0], confidence, rtol=1e-4)
    np.testing.assert_allclose(found.worst_case, found.attacks["sign"].accuracy)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_each_row_draws_from_its_own_key_whatever_the_batch_size(problem, batch_size):
    def shift(logits_fn, x, y, *, eps, key):
        return x + eps * jax.vmap(jax.random.uniform)(key)[:, None]

    w, b, x, y = problem(6)
    key = jax.random.key(5)
    found = evaluate.evaluate(
        lambda x: x @ w + b[None], x, y, {"shift": shift}, eps=[1.0], batch_size=batch_size, key=key
    )
    moves = [float(jax.random.uniform(jax.random.fold_in(key, i))) for i in range(6)]
    np.testing.assert_allclose(found.attacks["shift"].linf, [np.mean(moves)], rtol=1e-5)


def test_a_curve_varies_the_one_scale_that_the_attack_has(problem):
    w, b, x, y = problem(11)
    logits = np.asarray(x, float) @ w + b
    gradient = (np.stack([softmax(row) for row in logits]) - np.eye(CLASSES)[y]) @ w.T
    noise = jax.vmap(lambda key: jax.random.normal(key, (FEATURES,), jnp.float32))(
        jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(1), jnp.arange(11))
    )
    chosen = {"raw": attacks.raw_gradient, "noise": attacks.gaussian_noise}
    chosen["any"] = lambda *args, **settings: attacks.fgsm(*args, norm="rms", **settings)
    found = evaluate.evaluate(
        lambda x: x @ w + b[None], x, y, chosen, eps=[0.5, 2.0], key=jax.random.key(1), batch_size=4
    )
    for name, length in (
        ("raw", np.linalg.norm(gradient, axis=1).mean()),
        ("noise", np.linalg.norm(noise, axis=1).mean()),
        ("any", np.sqrt(FEATURES)),
    ):
        np.testing.assert_allclose(found.attacks[name].l2, [0.5 * length, 2 * length], rtol=1e-4)


@pytest.mark.slow
def test_a_whole_curve_is_one_compilation_of_each_attack(problem):
    w, b, x, y = problem(40)

    def count(names, eps, batch_size):
        calls = []

        def logits_fn(x):
            calls.append(isinstance(x, jax.core.Tracer))
            return x @ w + b[None]

        chosen = {name: FGSM[name] for name in names}
        evaluate.evaluate(logits_fn, x, y, chosen, eps=eps, batch_size=batch_size)
        assert all(calls)  # Nothing runs outside the compiled program.
        return len(calls)

    one = count(["sign"], [0.1], 40)
    assert count(["sign"], np.linspace(0, 1, 9), 40) == one
    assert count(["sign"], [0.1, 0.2], 7) == one
    # A second attack adds its own gradient and its own look at the result.
    assert count(["sign", "direction"], np.linspace(0, 1, 5), 7) == one + 2


def test_random_attacks_replay_their_key_and_need_one(problem):
    w, b, x, y = problem(30)
    noise = {"noise": attacks.uniform_noise}
    run = partial(evaluate.evaluate, lambda x: x @ w + b[None], x, y, noise, eps=[0.5])
    first, again, other = (run(key=jax.random.key(s)).attacks["noise"].l2[0] for s in (0, 0, 1))
    assert 0 < first <= 0.5 * np.sqrt(FEATURES)
    assert first == again != other
    with pytest.raises(ValueError, match="key must be"):
        run()


def test_success_of_a_model_that_is_never_right_is_zero_not_nan(problem):
    _, _, x, _ = problem(9)
    always_first = lambda x: jnp.stack([2 + 0 * x[:, 0], 0 * x[:, 0]], axis=1)
    with pytest.warns(evaluate.AuditWarning, match="100 % of the gradients are exactly 0"):
        found = evaluate.evaluate(always_first, x, np.ones(9, np.int32), FGSM, eps=[0.1])
    assert found.attacks["sign"].accuracy[0] == found.attacks["sign"].success[0] == 0


def test_progress_is_told_of_every_pass(problem):
    w, _, x, y = problem(10 * jax.local_device_count())
    told = []

    def progress(batches, description):
        told.append(f"{description} {len(batches)}")
        yield from batches

    evaluate.evaluate(lambda x: x @ w, x, y, FGSM, eps=[0.1], batch_size=5, progress=progress)
    assert told == ["clean 2", "gradients 2", "sign 2", "direction 2"]


def giving(answer):
    """An attack that answers x with this."""

    def attack(logits_fn, x, y, *, eps, key=None):
        return answer(x)

    return attack


X = np.linspace(0, 1, 5 * FEATURES, dtype=np.float32).reshape(5, FEATURES)
holed = np.where(np.arange(5 * FEATURES).reshape(5, -1) == 7, np.nan, X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attacks": {}}, "attacks must have one or more entries, got none"),
        ({"eps": []}, "eps must be one or more numbers of at least 0, got ()"),
        ({"eps": [0.1, -0.2]}, "eps must be in [0, inf), got -0.2"),
        ({"eps": [0.1, float("nan")]}, "eps must be in [0, inf), got nan"),
        ({"eps": [float("inf")]}, "eps must be in [0, inf), got inf"),
        (
            {"eps": [0.1, 1.5], "bounds": (0, 1)},
            "eps of sign must be at most 1, the linf width of the bounds (0, 1), got 1.5",
        ),
        (
            {"eps": [2.5], "bounds": (0, 1), "attacks": {"far": partial(attacks.fgsm, norm=2)}},
            "eps of far must be at most 2.44949, the l2 width of the bounds (0, 1), got 2.5",
        ),
        ({"y": np.zeros(4, np.int32)}, "y must be classes i32[N] with N = 5, got int32[4]"),
        (
            {"y": np.zeros((5, CLASSES), np.float32)},
            "y must be classes i32[N] with N = 5, got float32[5, 4]",
        ),
        ({"y": np.zeros(5, np.float32)}, "y must be classes i32[N] with N = 5, got float32[5]"),
        (
            {"y": [0, 1, 2, 3, 4]},
            "y must be classes from 0 to 3, got 4",
        ),
        ({"y": [0, 1, -1, 2, 3]}, "y must be classes from 0 to 3, got -1"),
        (
            {"x": X[:0], "y": []},
            "x must be a batch f32[B, *D] of floats with B and all of D at least 1, got floa",
        ),
        (
            {"x": np.zeros((5, 6), np.int32)},
            "x must be a batch f32[B, *D] of floats, got int32[5, 6]",
        ),
        ({"x": holed}, "x must be finite numbers, got nan"),
        (
            {"bounds": (0, 0.5)},
            "x must be within the bounds (0, 0.5), got ",
        ),
        (
            {"bounds": (1, 0)},
            "bounds must be (lo, hi) with lo < hi, got (1, 0)",
        ),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number of at least 1, got 2.5"),
        ({"batch_size": "3"}, "batch_size must be a whole number of at least 1, got '3'"),
        ({"eps": 0.1}, "eps must be a sequence of numbers such as [0, 0.1], got 0.1"),
        ({"eps": ".1"}, "eps must be a sequence of numbers such as [0, 0.1], got '.1'"),
        ({"eps": [".1"]}, "eps must be a sequence of numbers such as [0, 0.1], got ('.1')"),
        ({"eps": [True]}, "eps must be a sequence of numbers such as [0, 0.1], got (True)"),
        ({"eps": [[0.1]]}, "eps must be a sequence of numbers such as [0, 0.1], got ((0.1))"),
        ({"eps": [1e39]}, "eps must be a finite float32, got 1e+39"),
        (
            {"attacks": [attacks.fgsm]},
            "attacks must be a dict that gives each a name, got a list",
        ),
        (
            {"attacks": {"f": "fgsm"}},
            "attack must be a function such as attacks.fgsm, got 'fgsm'",
        ),
        (
            {"attacks": {"f": partial(attacks.transferred, attack="fgsm")}},
            "attack must be a function such as attacks.fgsm, got 'fgsm'",
        ),
        (
            {"attacks": {"f": giving(lambda x: None)}},
            "attack must return an array of the shape of x, float32[",
        ),
        (
            {"attacks": {"f": giving(lambda x: x[:, :1])}},
            "attack must return an array of the shape of x, ",
        ),
        (
            {"attacks": {"f": giving(lambda x: np.asarray(x))}},
            "attack and logits_fn must be made of jax.numpy operations",
        ),
        ({"logits_fn": "net"}, "logits_fn must be a function of x alone, got a str: pass lambda x"),
        (
            {"logits_fn": lambda x: jnp.asarray(np.tanh(np.asarray(x)))},
            "logits_fn must be made of jax.numpy operations, which can be traced",
        ),
        ({"bounds": (0, None)}, "bounds must be (lo, hi) with lo < hi, got (0, None)"),
        ({"bounds": ("0", "1")}, "bounds must be (lo, hi) with lo < hi, got ('0', '1')"),
        ({"x": "abc"}, "x must be a batch f32[B, *D] of floats, got 'abc'"),
        (
            {"x": [[1.0], [1.0, 2.0]]},
            "x must be a batch f32[B, *D] of floats, got ((1.0), (1.0, 2.0))",
        ),
        ({"y": ["a", "b"]}, "y must be classes i32[N] with N = 5, got ('a', 'b')"),
        (
            {"attacks": {"a": partial(attacks.fgsm, eps=0.1)}},
            "fgsm must leave eps to the evaluation, got it bound already",
        ),
        (
            {"attacks": {"a": lambda logits_fn, x, y, *, key=None: x}},
            "<lambda> must have a keyword for its size (eps, std, tau, gamma), got ",
        ),
        (
            {"attacks": {"a": partial(attacks.fgsm, targeted=True)}},
            "a must be an attack with targeted=False, as y are its labels, got targeted=True",
        ),
        (
            {
                "attacks": {
                    "a": partial(
                        attacks.transferred,
                        source_fn=lambda x: x[:, :CLASSES],
                        attack=partial(attacks.fgsm, targeted=True),
                    )
                }
            },
            "a must be an attack with targeted=False",
        ),
        (
            {"attacks": {"a": partial(attacks.fgsm, norm="l7")}},
            'norm must be "linf" (or jnp.inf), "l2" (or 2), "l1" (or 1) or "rms", got \'l7\'',
        ),
        (
            {"logits_fn": lambda x: jax.nn.softmax(x)},
            "logits_fn must return logits, the values before the softmax or the jnp.log of it, got "
            "rows >= 0 that sum to 1, which look like probabilities",
        ),
        (
            {"logits_fn": lambda x: x[:, 0]},
            "logits_fn must return logits f32[B, K] with B = 5, got float32[5]",
        ),
        (
            {"logits_fn": lambda x: (x, {})},
            "logits_fn must return logits f32[B, K] with B = 5, got a tuple",
        ),
        (
            {"logits_fn": lambda x: jnp.where(x > 0.9, jnp.nan, x)},
            "logits_fn must return finite logits, got NaN or infinity for 1 of 5 rows of x",
        ),
        (
            # Only where the attack leads: no clean entry is below 0.
            {"logits_fn": lambda x: jnp.where(x < 0, jnp.nan, 30 * x)},
            "logits_fn must return finite logits, got NaN or infinity for 1 of 5 rows of x under "
            "sign",
        ),
    ],
)
def test_mistakes_are_refused_in_words(change, message):
    arguments = {"logits_fn": lambda x: x[:, :CLASSES], "x": X, "y": np.zeros(5, np.int32)}
    arguments |= {"attacks": FGSM, "eps": [0.1], **change}
    with pytest.raises(ValueError) as error:
        evaluate.evaluate(**arguments)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change", [{"eps": [-1]}, {"x": X[:3]}, {"batch_size": 0}, {"attacks": {}}, {"bounds": (0, 0)}]
)
def test_nothing_runs_before_the_arguments_are_in_order(change):
    def logits_fn(x):
        raise AssertionError

    arguments = {"x": X, "y": np.zeros(5, np.int32), "attacks": FGSM, "eps": [0.1], **change}
    with pytest.raises(UserError):
        evaluate.evaluate(logits_fn, **arguments)

"""evaluate against a loop over the rows in NumPy, on linear models."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from adv_jax import attacks, evaluate

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
    """Evaluates FGSM row by row in float64: (measures, right, worst case)."""
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


@pytest.mark.slow
def test_curves_equal_a_loop_over_the_rows(problem):
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
@pytest.mark.filterwarnings("ignore:.*gradients are exactly 0")
@few
@given(st.integers(1, 23), st.integers(1, 30))
def test_exactly_the_given_rows_count_for_any_batch_size(problem, rows, batch_size):
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


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_each_row_has_a_random_key_that_does_not_depend_on_the_batch_size(problem, batch_size):
    def shift(logits_fn, x, y, *, eps, key):
        return x + eps * jax.vmap(jax.random.uniform)(key)[:, None]

    w, b, x, y = problem(6)
    key = jax.random.key(5)
    found = evaluate.evaluate(
        lambda x: x @ w + b[None], x, y, {"shift": shift}, eps=[1.0], batch_size=batch_size, key=key
    )
    moves = [float(jax.random.uniform(jax.random.fold_in(key, i))) for i in range(6)]
    np.testing.assert_allclose(found.attacks["shift"].linf, [np.mean(moves)], rtol=1e-5)


@pytest.mark.slow
def test_a_curve_varies_the_scale_argument_of_the_attack(problem):
    w, b, x, y = problem(11)
    logits = np.asarray(x, float) @ w + b
    gradient = (np.stack([softmax(row) for row in logits]) - np.eye(CLASSES)[y]) @ w.T
    noise = jax.vmap(lambda key: jax.random.normal(key, (FEATURES,), jnp.float32))(
        jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(1), jnp.arange(11))
    )
    chosen = {"raw": attacks.raw_gradient, "noise": attacks.gaussian_noise}
    chosen["any"] = lambda *args, **settings: attacks.fgsm(*args, norm="rms", **settings)
    options = {"eps": [0.5, 2.0], "key": jax.random.key(1), "batch_size": 4}
    with pytest.warns(evaluate.AuditWarning, match="^any leaves the linf ball"):  # of rms
        found = evaluate.evaluate(lambda x: x @ w + b[None], x, y, chosen, **options)
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


def test_random_attacks_need_a_key_and_repeat_with_the_same_key(problem):
    w, b, x, y = problem(30)
    noise = {"noise": attacks.uniform_noise}
    run = partial(evaluate.evaluate, lambda x: x @ w + b[None], x, y, noise, eps=[0.5])
    first, again, other = (run(key=jax.random.key(s)).attacks["noise"].l2[0] for s in (0, 0, 1))
    assert 0 < first <= 0.5 * np.sqrt(FEATURES)
    assert first == again != other
    with pytest.raises(ValueError, match="key must be"):
        run()


@pytest.mark.slow
def test_success_of_a_model_that_is_never_right_is_zero_not_nan(problem):
    _, _, x, _ = problem(9)
    always_first = lambda x: jnp.stack([2 + 0 * x[:, 0], 0 * x[:, 0]], axis=1)
    with pytest.warns(evaluate.AuditWarning, match="100 % of the gradients are exactly 0"):
        found = evaluate.evaluate(always_first, x, np.ones(9, np.int32), FGSM, eps=[0.1])
    assert found.attacks["sign"].accuracy[0] == found.attacks["sign"].success[0] == 0


@pytest.mark.slow
def test_progress_counts_the_batches_of_every_pass(problem):
    w, _, x, y = problem(10 * jax.local_device_count())
    reported = []

    def progress(batches, description):
        reported.append(f"{description} {len(batches)}")
        yield from batches

    evaluate.evaluate(lambda x: x @ w, x, y, FGSM, eps=[0.1], batch_size=5, progress=progress)
    assert reported == ["clean 2", "gradients 2", "sign 2", "direction 2"]


@pytest.mark.slow
@pytest.mark.parametrize("promotion", ["standard", "strict"])
def test_sizes_have_the_precision_of_float64_inputs(promotion):
    """The distance of x to the boundary, .1 + 1e-10, lies between .1 and the .1 of float32."""
    chosen, y = {"fgsm": attacks.fgsm, "noise": attacks.sign_noise}, [0]

    def logits_fn(x):
        return jnp.concatenate([x, -x], axis=1)

    with jax.enable_x64(True), jax.numpy_dtype_promotion(promotion):
        x = np.array([[0.1 + 1e-10]])
        call = {"eps": [0.1, 0.1001], "key": jax.random.key(0)}
        found = evaluate.evaluate(logits_fn, x, y, chosen, **call)
        assert found.attacks["fgsm"].accuracy.tolist() == [1, 0] and found.audit.warnings == ()
        found = evaluate.evaluate_batches(logits_fn, [(x, y)], chosen, **call)
        assert found.attacks["fgsm"].accuracy.tolist() == [1, 0]
        least = evaluate.minimal_eps(logits_fn, x, y, attacks.fgsm, high=1.0, num_steps=45)
    assert least == pytest.approx(0.1 + 1e-10, abs=1e-13)

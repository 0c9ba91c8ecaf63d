"""Functions of NumPy as black boxes: the same numbers as in JAX, and mistakes in one line."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recipes import recipe

from adv_jax import attacks, bridges, evaluate
from adv_jax.types import UserError

W = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
X = np.random.default_rng(1).uniform(-1, 1, size=(12, 6)).astype(np.float32)
Y = np.argmax(X @ W, axis=1).astype(np.int32)
KEY = jax.random.key(0)
scores = bridges.black_box(lambda x: x @ W)
labels = bridges.black_box(lambda x: np.argmax(x @ W, axis=-1), num_classes=4)


def in_jax(x):
    return x @ W


def test_labels_and_scores_become_logits():
    np.testing.assert_array_equal(scores(X), X @ W)
    np.testing.assert_array_equal(labels(X), 2 * np.eye(4)[Y] - 1)


def test_scores_that_float32_cannot_tell_apart_are_told_apart_in_float64(x64):
    logits_fn = bridges.black_box(lambda x: 1e8 + np.stack([0 * x[:, 0], x[:, 0]], axis=1))
    x = jnp.array([[1.0], [-1.0]])
    for run in (logits_fn, jax.jit(logits_fn)):
        np.testing.assert_array_equal(run(x), [[1e8, 1e8 + 1], [1e8, 1e8 - 1]])


def test_a_predict_that_writes_into_its_input_sees_a_copy():
    def standardized(x):
        x -= x.mean(axis=1, keepdims=True)
        return x @ W

    x = jnp.asarray(X)
    found = bridges.black_box(standardized)(x)
    np.testing.assert_allclose(found, (X - X.mean(axis=1, keepdims=True)) @ W, rtol=1e-5)
    np.testing.assert_array_equal(x, X)


def test_vmap_calls_the_function_once_on_all_rows():
    sizes = []

    def predict(x):
        sizes.append(len(x))
        return x @ W

    fn = bridges.black_box(predict)
    x = np.stack([X, 2 * X])
    np.testing.assert_allclose(jax.vmap(jax.vmap(fn))(x[None]), [x @ W], rtol=1e-6)
    assert sizes == [12, 24]  # The first are zeros, for the number of classes.


@pytest.mark.slow
def test_an_attack_on_scores_finds_what_it_finds_in_jax():
    attack = partial(attacks.square, eps=0.1, num_queries=20, bounds=(-1, 1), key=KEY)
    np.testing.assert_array_equal(attack(scores, X, Y), attack(in_jax, X, Y))


@pytest.mark.slow
def test_a_decision_based_attack_on_labels_finds_what_it_finds_in_jax():
    attack = partial(attacks.hop_skip_jump, num_steps=3, bounds=(-1, 1), key=KEY)
    np.testing.assert_array_equal(attack(labels, X, Y), attack(in_jax, X, Y))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:logits_fn has no derivative")
def test_labels_are_evaluated():
    suite = {"hop_skip_jump": partial(attacks.hop_skip_jump, norm="linf", num_steps=3)}
    given = {"eps": [0.0, 0.1], "bounds": (-1, 1), "key": KEY}
    found = evaluate.evaluate(labels, X, Y, suite, **given)
    expected = evaluate.evaluate(in_jax, X, Y, suite, **given)
    np.testing.assert_array_equal(found.correct["hop_skip_jump"], expected.correct["hop_skip_jump"])


def test_an_attack_that_needs_a_derivative_names_those_that_do_not():
    with pytest.raises(UserError, match=r"^pgd must have a logits_fn with.*use .*hop_skip_jump"):
        attacks.pgd(labels, X, Y, eps=0.1)


@pytest.mark.parametrize(
    ("predict", "num_classes", "message"),
    [
        (lambda x: x[:-1] @ W, None, "predict must return labels i[B] or scores f[B, K] with B = "),
        (lambda x: np.float32(1), None, "with B = 12, got np.float32(1.0)"),
        (lambda x: x @ W, 3, "predict must return scores of num_classes = 3 classes, got float32"),
        (lambda x: x @ W * 1j, None, "scores f[B, K] with B = 12, got complex"),
        (lambda x: np.ma.masked_less(x @ W, 0), None, "with B = 12, got masked float"),
        (lambda x: (x @ W).astype(str), None, "with B = 12, got str"),
        (lambda x: np.zeros(len(x), int), None, "num_classes must be the number of classes for la"),
        (lambda x: np.full(len(x), 4), 4, "predict must return integers from 0 to 3 as labels, go"),
        (lambda x: np.full(len(x), "cat"), 4, "integers from 0 to 3 as labels, got 'cat'"),
        (lambda x: x[:, 0], 4, "predict must return integers from 0 to 3 as labels, got 0."),
    ],
)
def test_a_wrong_prediction_is_refused_in_one_line(predict, num_classes, message):
    with pytest.raises(UserError) as error:
        attacks.square(bridges.black_box(predict, num_classes), X, Y, eps=0.1, key=KEY)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "predict",
    [
        lambda x: np.zeros(len(x), int) if not x.any() else np.full(len(x), 7),
        lambda x: np.zeros(len(x) - x.any(), int),
    ],
)
def test_a_prediction_that_is_wrong_later_is_refused_in_one_line_too(predict):
    with pytest.raises(UserError, match=r"^predict must return .*, got (7|int64\[\d+\])$"):
        bridges.black_box(predict, 4)(X)
    with pytest.raises(UserError, match=r"^predict must return .*, got (7|int64\[\d+\])$"):
        attacks.square(bridges.black_box(predict, 4), X, Y, eps=0.1, key=KEY)
    suite = {"square": attacks.square}
    with pytest.raises(UserError, match=r"^predict must return .*, got (7|int64\[\d+\])$"):
        evaluate.evaluate(bridges.black_box(predict, 4), X, Y, suite, eps=[0.1], key=KEY)


def test_arguments_are_checked():
    with pytest.raises(UserError, match="predict must be a function of NumPy arrays, got float32"):
        bridges.black_box(W)
    with pytest.raises(UserError, match="num_classes must be a whole number of at least 2, got 1"):
        bridges.black_box(lambda x: x @ W, num_classes=1)


@pytest.mark.slow
def test_a_pipeline_of_scikit_learn_keeps_its_predictions():
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression().fit(X, Y)
    found = bridges.black_box(classifier.predict, num_classes=4)(X)
    np.testing.assert_array_equal(jnp.argmax(found, axis=1), classifier.predict(X))
    probabilities = bridges.black_box(classifier.predict_proba)
    np.testing.assert_allclose(probabilities(X), classifier.predict_proba(X), rtol=1e-6)


def test_the_recipe_of_an_onnx_file_runs(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    skl2onnx = pytest.importorskip("skl2onnx", reason="needs skl2onnx")
    from sklearn.linear_model import LogisticRegression

    y = np.arange(12, dtype=np.int32) % 4
    classifier = LogisticRegression().fit(X, y)
    options = {id(classifier): {"zipmap": False}}
    model = skl2onnx.to_onnx(classifier, X[:1], options=options)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path)
    names = {"x": X.clip(0, 1), "y": y}
    exec(recipe("An ONNX file"), names)
    expected = classifier.predict_proba(X)
    np.testing.assert_allclose(names["scores"](X), expected, atol=1e-5)
    assert 0 < np.abs(names["x_adv"] - names["x"]).max() <= 0.1 + 1e-6


@pytest.mark.slow
def test_a_black_box_is_called_once_for_what_is_known_at_x():
    calls = []

    def predict(x):
        calls.append(x.copy())
        return x @ W

    given = {"eps": 0.05, "num_queries": 10, "key": jax.random.key(0)}
    y = np.argmin(X @ W, axis=1)  # Rows that are never fooled take all queries if targeted.
    logits_fn = bridges.black_box(predict)
    found = attacks.square(logits_fn, X, y, **given, targeted=True)
    # Zeros for the number of classes, x, and the start with its queries.
    assert len(calls) == 1 + 1 + 1 + 10
    assert [bool((x == X).all()) for x in calls] == [False, True, *[False] * 11]
    run = jax.jit(lambda x: attacks.square(lambda x: x @ W, x, y, **given, targeted=True))
    np.testing.assert_array_equal(found, run(X))

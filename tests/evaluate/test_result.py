"""An evaluation as a table, as JSON and as a chart shows the numbers of its arrays."""

import hashlib
import json
from functools import partial

import jax
import numpy as np
import pytest

from adv_jax import attacks, evaluate
from adv_jax.evaluate.setup import RowDigest
from adv_jax.types import UserError

BOUNDS = (-2.0, 2.0)
W = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
X = np.random.default_rng(1).uniform(-1, 1, size=(40, 5)).astype(np.float32)
Y = (X @ W).argmax(-1)
EPS = [0.0, 0.1, 0.5]
SUITE = {
    "fgsm": attacks.fgsm,
    "pgd": partial(attacks.pgd, num_steps=5, norm="l2"),
    "noise": attacks.gaussian_noise,
}


def logits_fn(x):
    return x @ W


@pytest.fixture(scope="module")
def found():
    key = jax.random.key(0)
    return evaluate.evaluate(logits_fn, X, Y, SUITE, eps=EPS, bounds=BOUNDS, key=key)


@pytest.mark.slow
def test_the_classes_of_every_row_are_those_of_the_attack_itself(found):
    for e, eps in enumerate(EPS):
        x_adv = attacks.fgsm(logits_fn, X, Y, eps=eps, bounds=BOUNDS)
        expected = (np.asarray(x_adv, float) @ W).argmax(-1)
        np.testing.assert_array_equal(found.predicted["fgsm"][e], expected)
    np.testing.assert_array_equal(found.labels, Y)
    assert found.norms == {"fgsm": "linf", "pgd": "l2", "noise": None}


@pytest.mark.slow
def test_the_interval_of_an_accuracy_is_wilson_s(found):
    def wilson(p, n, z=1.959964):
        middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
        return np.stack([middle - half, middle + half], axis=-1) / (1 + z**2 / n)

    np.testing.assert_allclose(
        found.interval("pgd"), wilson(found.attacks["pgd"].accuracy, 40), atol=1e-6
    )
    np.testing.assert_allclose(found.interval(), wilson(found.worst_case, 40), atol=1e-6)
    says = "^name must be one of fgsm, pgd, noise, or None for the worst case, got 'cw'$"
    with pytest.raises(UserError, match=says):
        found.interval("cw")


@pytest.mark.slow
def test_the_text_has_a_row_for_each_attack_a_column_for_each_size_and_the_warnings(found):
    title, head, *rows = str(found).splitlines()
    assert title == "accuracy on 40 rows; without an attack 100.0%"
    assert head.split() == ["attack", "norm", "0", "0.1", "0.5"]
    shown = [f"{np.mean(found.predicted['fgsm'][e] == Y):.1%}" for e in range(3)]
    assert rows[0].split() == ["fgsm", "linf", *shown]
    assert rows[1].split()[:2] == ["pgd", "l2"] and rows[2].split()[0] == "noise"
    assert rows[3].startswith("worst case")
    warned = found._replace(audit=found.audit._replace(warnings=("Mind the gap.",)))
    assert str(warned).endswith("\nMind the gap.")


@pytest.mark.slow
def test_sizes_of_each_attack_stand_in_the_cells():
    eps = {"fgsm": [0.1], "pgd": [0.3]}
    suite = {name: SUITE[name] for name in eps}
    lines = str(evaluate.evaluate(logits_fn, X, Y, suite, eps=eps)).splitlines()
    assert lines[2].endswith("% at 0.1") and lines[3].endswith("% at 0.3")


def test_json_has_the_numbers_and_comes_back(found):
    document = json.loads(found.to_json())
    assert document["attacks"]["pgd"]["accuracy"] == found.attacks["pgd"].accuracy.tolist()
    assert np.shape(document["predicted"]["noise"]) == (3, 40)
    back = evaluate.Evaluation.from_json(found.to_json())
    words = {"norms": None, "audit": found.audit._replace(warnings=())}
    jax.tree.map(
        np.testing.assert_array_equal,
        back._replace(**words | {"audit": back.audit._replace(warnings=())}),
        found._replace(**words),
    )
    assert back.norms == found.norms and back.audit.warnings == found.audit.warnings


def test_evaluations_are_equal_if_their_fields_are(found):
    again = evaluate.Evaluation.from_json(found.to_json())
    assert again == found
    assert found._replace(labels=found.labels + 1) != found and found != 1


def test_robust_rows_are_correct_under_every_attack(found):
    survives = np.ones(found.robust.shape, bool)
    for predicted in found.predicted.values():
        survives &= predicted == found.labels
    np.testing.assert_array_equal(found.robust, survives)
    np.testing.assert_array_equal(found.robust.mean(axis=1), found.worst_case)


@pytest.mark.slow
def test_json_of_a_model_without_a_derivative_has_null_for_what_is_unknown():
    host = lambda x: np.asarray(x) @ W
    like = lambda x: jax.ShapeDtypeStruct((len(x), 3), np.float32)
    black_box = lambda x: jax.pure_callback(host, like(x), x, vmap_method="sequential")
    suite = {"square": partial(attacks.square, num_queries=5)}
    found = evaluate.evaluate(black_box, X, Y, suite, eps=[0.1], key=jax.random.key(0))
    assert json.loads(found.to_json())["audit"]["misleading"] is None
    assert np.isnan(evaluate.Evaluation.from_json(found.to_json()).audit.misleading)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "text must be that of Evaluation.to_json"),
        ("[]", "text must be that of Evaluation.to_json"),
        ("{}", "text must be that of Evaluation.to_json"),
        ('{"form": 2}', "text must be that of Evaluation.to_json"),
        ('{"form": 7}', "form must be 2, got 7"),
    ],
)
def test_other_text_is_refused(text, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        evaluate.Evaluation.from_json(text)


def test_a_path_is_no_text(tmp_path):
    with pytest.raises(UserError, match="^text must be that of Evaluation.to_json, got a .*Path$"):
        evaluate.Evaluation.from_json(tmp_path / "found.json")


def test_a_chart_has_each_attack_and_the_worst_case_behind_them(found):
    axes = found.plot()
    worst, *lines = axes.get_lines()
    np.testing.assert_array_equal(worst.get_ydata(), found.worst_case)
    assert [line.get_label() for line in lines] == list(SUITE)
    for line in lines:
        np.testing.assert_array_equal(line.get_xdata(), EPS)
        np.testing.assert_array_equal(line.get_ydata(), found.attacks[line.get_label()].accuracy)
    assert axes.get_ylim() == (0, 1) and axes.get_xlabel() == "eps (linf or l2)"
    assert found.plot(axes) is axes


def test_a_chart_draws_the_worst_case_of_attacks_of_equal_sizes_alone(found):
    same = found._replace(eps=dict.fromkeys(SUITE, np.array(EPS))).plot()
    np.testing.assert_array_equal(same.get_lines()[0].get_ydata(), found.worst_case)
    sizes = {name: (i + 1) * np.array(EPS) for i, name in enumerate(SUITE)}
    other = found._replace(eps=sizes).plot()
    assert [line.get_label() for line in other.get_lines()] == list(SUITE)
    assert other.get_legend().get_title().get_text() == "no worst case: sizes differ"


def test_the_setup_names_data_and_settings(found):
    digest = hashlib.sha256(X.tobytes()).hexdigest()
    expected = ("float32[40, 5]", digest, "(-2.0, 2.0)", None, "jax.random.key(0)")
    assert found.setup == expected
    in_blocks = RowDigest().add(X[:9]).add(X[9:].tolist())  # Lists are float64.
    assert in_blocks.setup(bounds=None, bits=8, key=None).sha256 != digest
    in_blocks = RowDigest().add(X[:9]).add(np.asfortranarray(X[9:]))
    assert in_blocks.setup(bounds=BOUNDS, bits=None, key=jax.random.key(0)) == expected


def test_a_chart_of_sizes_in_any_order_is_drawn_from_left_to_right():
    eps = [0.5, 0.0, 0.1]
    found = evaluate.evaluate(logits_fn, X, Y, {"fgsm": attacks.fgsm}, eps=eps)
    accuracy = dict(zip(eps, found.attacks["fgsm"].accuracy, strict=True))
    for line in found.plot().get_lines():
        assert list(line.get_xdata()) == sorted(eps)
        assert list(line.get_ydata()) == [accuracy[size] for size in sorted(eps)]

"""Figures and tables of [wardefarley2016]: on linear models, against NumPy in float64."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adv_jax import data
from adv_jax.runner.run.trained import Trained
from adv_jax.types import Output, UserError
from papers.wardefarley2016 import church_window, defenses, max_norm, rubbish, transfer

RNG = np.random.default_rng(1)
SHAPE, CLASSES = (3, 4, 1), 3
X = RNG.uniform(size=(25, *SHAPE)).astype("f")
W = RNG.normal(size=(12, CLASSES)).astype("f")
Y = np.asarray((X.reshape(25, -1) @ W).argmax(axis=1), np.int32)
MODELS = {
    "maxout": {"name": "maxout", "features": (2,)},
    "ReLU net": {"name": "mlp", "features": (2,), "activation": "relu"},
    "tanh net": {"name": "mlp", "features": [2], "activation": "tanh"},
    "softmax regression": {"name": "mlp", "features": (), "activation": "relu"},
}


def linear(w):
    return lambda x: x.reshape(len(x), -1) @ w


def run_of(w=W, *, y=Y, model="maxout", objective=None, sha256=""):
    """A linear model in the place of one that a run has trained; 15 rows to test it on."""
    parts = data.Arrays(X[15:], y[15:]), data.Arrays(X[:15], y[:15])
    dataset = data.Dataset("made_up", "embedded", {}, *parts, CLASSES, (0.0, 1.0))
    about = {
        "experiment": "made_up",
        "seed": 0,
        "epochs": 3,
        "model": MODELS[model],
        "objective": objective or {"name": "cross_entropy"},
        "data": {
            "name": "mnist",
            "source": "embedded",
            "sha256": {"x": sha256},
            "sizes": {"train": 3500},
        },
        "preprocess": [],
        "overrides": {},
    }
    apply = lambda variables, x: Output(linear(variables)(x), {}, {})
    return Trained(linear(jnp.asarray(w)), apply, jnp.asarray(w), "labels", dataset, about)


def gradients(x, y, w=W):
    """Of the cross-entropy of a linear model by x: f64[B, *D]."""
    p = oracles.softmax(np.float64(x).reshape(len(x), -1) @ w)
    return ((p - np.eye(CLASSES)[y]) @ np.float64(w).T).reshape(x.shape)


PLANES = ["fgsm_and_random", "random_and_random", "fgsm_and_gradient"]


@pytest.fixture(scope="module", params=PLANES)
def plane(request):
    """Its name, and both directions as vectors f64[B, D]."""
    make = getattr(church_window, request.param)
    directions = make(linear(W), jnp.asarray(X), jnp.asarray(Y), jax.random.key(1))
    return request.param, [np.float64(u).reshape(len(X), -1) for u in directions]


@pytest.mark.slow
def test_directions_are_unit_vectors_and_orthogonal(plane):
    _, (u1, u2) = plane
    for u in (u1, u2):
        np.testing.assert_allclose(np.linalg.norm(u, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose((u1 * u2).sum(axis=1), 0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("make", [church_window.fgsm_and_random, church_window.fgsm_and_gradient])
def test_the_fgsm_direction_moves_each_pixel_as_fgsm_or_not_at_all(make):
    sparse = np.where(np.arange(12)[:, None] < 3, W, 0)
    u1, u2 = make(linear(sparse), jnp.asarray(X), jnp.asarray(Y), jax.random.key(1))
    moved = math.sqrt(12) * np.asarray(u1).reshape(len(X), -1)
    expected = np.sign(gradients(X, Y, sparse)).reshape(len(X), -1)
    np.testing.assert_allclose(moved, expected, rtol=1e-6)
    assert (np.abs(expected).sum(axis=1) == 3).all()
    np.testing.assert_allclose(np.linalg.norm(u2.reshape(len(X), -1), axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose((u1 * u2).reshape(len(X), -1).sum(axis=1), 0, atol=1e-6)


@pytest.mark.slow
def test_directions_are_those_of_the_figures(plane):
    name, (u1, u2) = plane
    g = gradients(X, Y).reshape(len(X), -1)
    if name == "random_and_random":
        # Of 25 pairs in 12 dimensions none is near the gradient's plane.
        assert np.abs((u1 * g).sum(axis=1) / np.linalg.norm(g, axis=1)).mean() < 0.5
        return
    np.testing.assert_allclose(u1, np.sign(g) / math.sqrt(12), rtol=1e-5)
    if name == "fgsm_and_gradient":
        # The gradient lies in the plane, on the positive side of both.
        along = [(u * g).sum(axis=1, keepdims=True) for u in (u1, u2)]
        np.testing.assert_allclose(along[0] * u1 + along[1] * u2, g, atol=1e-5)
        assert min(along[0].min(), along[1].min()) > 0


@pytest.mark.slow
def test_a_window_is_the_classes_of_its_points_from_left_to_right_and_from_the_top():
    u1, u2 = church_window.fgsm_and_random(
        linear(W), jnp.asarray(X), jnp.asarray(Y), jax.random.key(1)
    )
    found = np.asarray(church_window.windows(linear(W), jnp.asarray(X), u1, u2, eps=0.25))
    assert found.shape == (25, 41, 41)
    np.testing.assert_array_equal(found[:, 20, 20], Y)
    agree = 0
    for i in range(25):
        a, b = (np.float64(u[i]).ravel() for u in (u1, u2))
        for row in range(0, 41, 5):
            for column in range(0, 41, 5):
                h, v = 0.25 * (column - 20) / 20, 0.25 * (row - 20) / 20
                point = X[i].ravel() + math.sqrt(12) * (h * a + v * b)
                agree += (point @ np.float64(W)).argmax() == found[i, row, column]
    assert agree >= 25 * 81 - 2  # Float32 may decide a point on a boundary otherwise.
    # The middle of the right edge is FGSM of max-norm .25, of the left edge that of -.25.
    for column, sign in ((40, 1), (0, -1)):
        x_adv = X + sign * 0.25 * np.sign(gradients(X, Y))
        np.testing.assert_array_equal(
            found[:, 20, column], (x_adv.reshape(25, -1) @ np.float64(W)).argmax(axis=1)
        )


@pytest.mark.slow
def test_a_misclassified_example_is_drawn_and_said():
    y = Y.copy()
    y[2] = (Y[2] + 1) % CLASSES
    figure, document, _ = church_window.adversarial_and_random(run_of(y=y))
    assert document["misclassified"] == [2]
    assert "1 of 15 examples are misclassified, which the title" in document["caption"]
    assert (
        "maxout 2 (cross_entropy), seed 0, 3 epochs, the 5,000-digit sample of MNIST"
        in document["caption"]
    )
    texts = [axes.get_title() for axes in figure.axes]
    assert texts[2] == f"{y[2]}, read as {Y[2]}" and texts[3] == str(Y[3])
    assert document["windows"][2]["read_as"] == Y[2]
    middle = 4 * church_window.HALF + 2
    for i, axes in enumerate(figure.axes[:15]):
        pixel = axes.images[0].get_array()[middle, middle]
        assert (pixel == 1).all() == (i != 2)  # white is the correct class


@pytest.mark.slow
def test_images_without_a_gradient_are_listed_in_the_document():
    # Logits 1000 apart: float32 holds the prediction for certain.
    _, document, _ = church_window.two_adversarial(run_of(1000 * W))
    assert document["without_gradient"]
    assert church_window.two_random(run_of(1000 * W)).document["without_gradient"] == []


@pytest.fixture
def workdirs_of(monkeypatch):
    """Names in the place of the directories of runs, of one trained model for each seed."""

    def named(*runs):
        for run in runs:
            run[:] = [m._replace(about={**m.about, "seed": seed}) for seed, m in enumerate(run)]
        known = {str(i): SimpleNamespace(models=lambda r=r: r) for i, r in enumerate(runs)}
        monkeypatch.setattr(transfer, "finished", known.__getitem__)
        return [str(i) for i in range(len(runs))]

    return named


@pytest.mark.slow
def test_the_table_of_transfer_equals_numpy(workdirs_of):
    weights = {kind: RNG.normal(size=W.shape).astype("f") for kind in MODELS}
    runs = [[run_of(weights[kind], model=kind)] for kind in reversed(MODELS)]
    document = transfer.table(workdirs_of(*runs)).document
    x, y = X[:15], Y[:15]
    x_adv = np.float64(x) + 0.25 * np.sign(gradients(x, y, weights["maxout"]))
    rows = x_adv.reshape(15, -1)

    def error(labels):
        return pytest.approx((labels != y).mean(), abs=1e-6)

    by_pair = {(p["crafted_on"], p["tested_on"]): p["error"] for p in document["pairs"]}
    for kind in ("ReLU net", "tanh net", "softmax regression"):
        assert by_pair["maxout", kind] == error((rows @ weights[kind]).argmax(axis=1))
    train = np.float64(X[15:]).reshape(10, -1)

    def nearest(rows):
        return Y[15:][((rows[:, None] - train) ** 2).sum(axis=2).argmin(axis=1)]

    assert by_pair["maxout", "nearest neighbour"] == error(nearest(rows))
    smoothed = ((X[:15].reshape(15, 1, -1) - train) ** 2).sum(axis=2)
    # d/dx of -log of sum over the class of w_n is 2 sum_n (w_n of the class - w_n) (x - x_n).
    w = np.exp(-smoothed)
    of_class = w * (Y[15:] == y[:, None])
    shares = of_class / of_class.sum(axis=1, keepdims=True) - w / w.sum(axis=1, keepdims=True)
    gradient = 2 * (shares.sum(axis=1, keepdims=True) * x.reshape(15, -1) - shares @ train)
    rows = x.reshape(15, -1) + 0.25 * np.sign(gradient)
    pair = "smoothed nearest neighbour", "nearest neighbour"
    assert by_pair[pair] == error(nearest(rows))
    assert document["caption"].count("printed") == 5


@pytest.mark.slow
def test_the_table_of_transfer_is_the_mean_over_seeds(workdirs_of):
    weights = {kind: RNG.normal(size=(2, *W.shape)).astype("f") for kind in MODELS}
    both = [[run_of(w, model=kind) for w in weights[kind]] for kind in MODELS]
    document = transfer.table(workdirs_of(*both)).document
    for seed in (0, 1):
        alone = transfer.table(workdirs_of(*([run[seed]] for run in both))).document
        for cell, errors in alone["by_seed"].items():
            assert document["by_seed"][cell][seed] == errors[0]
    assert "smoothed_nn_to_nn" not in document["by_seed"]  # No net: one error, without seeds.
    of_relu = document["by_seed"]["maxout_to_relu"]
    assert of_relu[0] != of_relu[1]
    (pair,) = [p for p in document["pairs"] if p["tested_on"] == "ReLU net"]
    assert pair["error"] == pytest.approx(np.mean(list(of_relu.values())), abs=1e-6)


def test_a_table_without_one_of_its_nets_is_refused(workdirs_of):
    with pytest.raises(UserError, match="must be one run each of .*, got maxout, maxout"):
        transfer.table(workdirs_of([run_of()], [run_of()]))


def test_a_table_of_runs_with_other_seeds_is_refused(workdirs_of):
    runs = [[run_of(model=kind)] for kind in MODELS]
    runs[1] *= 2
    with pytest.raises(UserError, match="must be runs with the same seeds, got"):
        transfer.table(workdirs_of(*runs))


@pytest.mark.slow
def test_errors_of_a_linear_model_equal_numpy():
    found, warnings = defenses.errors(run_of(), ["clean", "FGSM .25", "iterative .25"])
    x_adv = X[:15] + 0.25 * np.sign(gradients(X[:15], Y[:15]))
    fgsm = ((x_adv.reshape(15, -1) @ W).argmax(axis=1) != Y[:15]).mean()
    assert found["clean"] == 0 and found["FGSM .25"] == pytest.approx(fgsm, abs=1e-6)
    assert found["iterative .25"] >= fgsm > 0
    assert warnings == []


@pytest.mark.slow
def test_warnings_of_the_audit_stand_in_the_document():
    _, warnings = defenses.errors(run_of(1000 * W), ["FGSM .25"])
    assert any("gradient" in warning for warning in warnings)


@pytest.mark.slow
def test_bars_stand_beside_the_chapter_s_numbers():
    smoothing = {"name": "label_smoothing", "smoothing": 0.1, "form": "printed"}
    figure, document, _ = defenses.label_smoothing([run_of(), run_of(objective=smoothing)])
    assert [row["method"] for row in document["rows"]] == [
        "cross_entropy",
        "label_smoothing, printed",
    ]
    assert document["rows"][1]["chapter"] == {"clean": 0.0117, "FGSM .25": 0.33}
    caption = document["caption"]
    assert "maxout 2 (cross_entropy), seed 0, 3 epochs: clean 0.00 % (1.28 %)" in caption
    assert len(figure.axes[0].patches) == 4


@pytest.mark.slow
def test_no_number_of_the_chapter_stands_beside_another_net_or_size():
    weak = {"name": "adversarial_mix", "attack": {"name": "fgsm", "norm": "linf", "eps": 0.01}}
    runs = [run_of(objective=weak), run_of(model="ReLU net")]
    found = defenses.adversarial_training(runs).document["rows"]
    assert [row["chapter"] for row in found] == [{}, {}]


def test_errors_on_different_data_are_not_drawn_together():
    with pytest.raises(UserError, match="different data"):
        defenses.label_smoothing([run_of(), run_of(sha256="another")])


def test_methods_have_names():
    attack = {"name": "fgsm", "eps": 0.25}
    assert defenses.method_of({"name": "adversarial_mix", "attack": attack}) in defenses.TRAINING
    dropped = {"name": "adversarial_mix", "attack": attack, "same_dropout": True}
    assert defenses.method_of(dropped) == "adversarial_mix, fgsm, same_dropout"
    assert defenses.method_of(dropped) in defenses.TRAINING
    assert defenses.method_of({"name": "cross_entropy"}) == "cross_entropy"


def test_six_perturbations_have_one_length_and_three_a_max_norm():
    document = max_norm.perturbations().document
    lengths = [entry["l2"] for side in ("left", "right") for entry in document[side]]
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-5)
    # 28 x 28 signs of size m have the length 28 m.
    for entry in document["right"]:
        assert entry["max_norm"] == pytest.approx(lengths[0] / 28, rel=1e-4)
    assert 3.5 < lengths[0] < 4.5  # "roughly 4"


def test_signed_noise_keeps_the_nonzero_signs_of_the_perturbation():
    r = np.array([0.0, 3.0, -4.0, 0.0])
    found = max_norm.signed(r, np.random.default_rng(0))
    np.testing.assert_allclose(np.abs(found), 2.5)  # 5 / sqrt(4)
    assert found[1] > 0 > found[2]


def test_erased_is_taken_from_the_last_rows():
    # Squares of the rows from below: 4, 9, 1. Of 4 + 9 / 4 the second row gives half its values.
    image = np.array([[1.0, 0.0], [0.0, 3.0], [2.0, 0.0]])[..., None]
    found = max_norm.erased(image, math.sqrt(6.25))
    np.testing.assert_allclose(found[..., 0], [[0, 0], [0, -1.5], [-2, 0]])


@pytest.mark.slow
def test_the_share_of_sure_predictions_of_noise_is_the_normal_distribution_s():
    # Logits (2 n, 0, 0) with a standard normal n: the first class has a probability above .5 where
    # 2 n > ln 2, the others never. 1 - Phi(ln 2 / 2) = .36446; the sd of 10,000 draws is .005.
    w = np.zeros_like(W)
    w[0, 0] = 2
    document = rubbish.confidences([run_of(w)]).document
    assert document["rows"][0]["above"] == pytest.approx(0.36446, abs=0.02)
    words = "the 5,000-digit sample of MNIST: cross_entropy (seed 0, 3 epochs): 3"
    assert words in document["caption"]

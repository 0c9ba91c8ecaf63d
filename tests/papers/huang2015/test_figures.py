"""The figures of [huang2015]: a closed form against a search, curves against results."""

import json
import runpy

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from adv_jax.runner.config.document import with_values
from adv_jax.types import UserError
from papers.huang2015 import curves, logistic
from papers.running import figures

SMALL = st.floats(-3, 3)
POINT = st.tuples(SMALL, SMALL).map(np.array)


@given(w=POINT, x=POINT, z=st.sampled_from([-1, 1]), c=st.floats(0, 2))
def test_the_closed_form_is_the_worst_of_the_ball(w, x, z, c):
    angles = np.linspace(0, 2 * np.pi, 721)
    r = c * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    worst = np.logaddexp(0, -z * ((x + r) @ w)).max()
    found = logistic.loss(w, x[None], np.array([z]), c)
    # A step of half a degree misses the best direction by at most 1e-5 of c |w|.
    assert worst - 1e-9 <= found <= worst + 1e-5 * c * np.linalg.norm(w) + 1e-9


@given(a=POINT, b=POINT, c=st.floats(0, 2))
def test_proposition_b_the_loss_is_convex(a, b, c):
    at = lambda w: logistic.loss(w, logistic.POINTS, logistic.CLASSES, c)
    assert at((a + b) / 2) <= (at(a) + at(b)) / 2 + 1e-9


def test_proposition_c_the_regularizer_is_not_convex_and_never_negative():
    at = logistic.regularizer
    # The settings of the paper's appendix: the largest value is .1882, at 1.765.
    assert at(np.float64(1.765)) == pytest.approx(0.1882, abs=5e-5)
    assert at(np.float64(6.0)) > (at(np.float64(2.0)) + at(np.float64(10.0))) / 2 or (
        at(np.float64(1.765)) > (at(np.float64(0.0)) + at(np.float64(3.53))) / 2
    )
    w = np.linspace(-5, 20, 1001)
    assert at(w).min() >= 0 > logistic.printed_regularizer(w).min()
    np.testing.assert_allclose(at(w[w >= 0]), logistic.printed_regularizer(w[w >= 0]))
    # 1.5 w for w < 0, up to what the logistic loss adds: R' -> -(1 + c) + 1.
    direct = [
        scipy.optimize.minimize_scalar(
            lambda r, w=w: -np.logaddexp(0, -w * (1 + r)), bounds=(-0.5, 0.5), method="bounded"
        ).fun
        for w in (-2.0, 0.7, 3.0)
    ]
    expected = -np.array(direct) - np.logaddexp(0, -np.array([-2.0, 0.7, 3.0]))
    np.testing.assert_allclose(at(np.array([-2.0, 0.7, 3.0])), expected, atol=1e-4)


@pytest.fixture(scope="module")
def appendix(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    figures.run(["huang2015.appendixA"], out=str(out))
    return json.loads((out / "huang2015/results/figures/appendixA.json").read_text())


@pytest.mark.slow
def test_proposition_d_minima_are_bounded_and_one_beyond_the_margin_only(appendix):
    for size, (one, other) in zip(appendix["sizes"], appendix["lengths"], strict=True):
        if size < 1:
            assert min(one, other) > 100
        else:
            assert max(one, other) < 10 and one == pytest.approx(other, abs=1e-3)


def run_of(path, method, errors, **changes):
    """A workdir as a finished run of two replicas leaves it.

    changes: fields of the config {path: value}, with "__" for a dot.
    """
    path.mkdir()
    config = runpy.run_path("configs/huang_lenet_mnist.py")["get_config"](f"method={method}")
    changes = {field.replace("__", "."): value for field, value in changes.items()}
    curve = {"eps": [0.0, 1.5], "error": errors}
    result = {
        "data": {"name": "mnist", "source": "embedded", "sizes": {"test": 1000}},
        "replicas": [{"seed": i, "epochs": 50, "test_error": e[0]} for i, e in enumerate(errors)],
        "evaluation": dict.fromkeys(("adv_alpha", "adv_loss", "adv_loss_sign"), curve),
    }
    (path / "config.json").write_text(json.dumps(with_values(config.to_dict(), changes)))
    (path / "result.json").write_text(json.dumps(result))
    return str(path)


def test_the_curves_are_the_accuracies_of_the_runs(tmp_path):
    normal = run_of(tmp_path / "normal", "normal", [[0.02, 0.9], [0.04, 0.8]])
    lwa = run_of(tmp_path / "lwa", "lwa", [[0.01, 0.1], [0.03, 0.3]])
    out = tmp_path / "out"
    figures.run(["huang2015.fig2"], workdirs=[normal, lwa], out=str(out))
    document = json.loads((out / "huang2015/results/figures/fig2.json").read_text())
    np.testing.assert_allclose(
        [run["accuracy"]["adv_loss"] for run in document["runs"]],
        [[[0.98, 0.1], [0.96, 0.2]], [[0.99, 0.9], [0.97, 0.7]]],
    )
    assert "Normal: 97.0 % clean, 15.0 % under Adv_Alpha" in document["caption"]
    assert "LWA: 98.0 % clean, 80.0 % under Adv_Alpha" in document["caption"]
    with pytest.raises(UserError, match="runs of cross_entropy for Fig. 1, got cross_entropy, lwa"):
        figures.run(["huang2015.fig1"], workdirs=[normal, lwa], out=str(out))
    with pytest.raises(UserError, match="cross_entropy and lwa for Fig. 2, got lwa, cross_entropy"):
        figures.run(["huang2015.fig2"], workdirs=[lwa, normal], out=str(out))
    (tmp_path / "lwa" / "result.json").unlink()
    with pytest.raises(UserError, match="must be a finished run, got .*lwa"):
        figures.run(["huang2015.fig2"], workdirs=[normal, lwa], out=str(out))


FGSM = {"name": "fgsm", "norm": "l2"}


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("normal", {"model__name": "mlp"}, "model.name must be 'lenet', got 'mlp'"),
        ("normal", {"data__preprocess": ()}, r"data.preprocess must be .*256.0.*, got \(\)"),
        (
            "normal",
            {"evaluation__attacks__adv_loss_sign": {"name": "fgsm", "norm": "linf"}},
            "evaluation.attacks.adv_loss_sign must be .*'length': 'l2'.*, got",
        ),
        (
            "normal",
            {"evaluation__attacks__adv_alpha": FGSM},
            "evaluation.attacks.adv_alpha must be {'name': 'adv_alpha', .*, got",
        ),
        (
            "lwa",
            {"objective__attack": {"name": "fgsm", "norm": "linf", "eps": 0.1}},
            "objective.attack must be .*'l2'.*, got {'name': 'fgsm', 'norm': 'linf'}",
        ),
        (
            "lwa",
            {"replicas__grid": {"objective.attack.eps": (1.0, 2.0)}},
            "must be a run without a grid, got .* with {'objective.attack.eps'",
        ),
    ],
)
def test_a_run_of_another_net_or_attack_gets_no_label_of_the_papers(
    tmp_path, method, changes, message
):
    workdirs = [
        run_of(tmp_path / name, name, [[0.02, 0.9]], **(changes if name == method else {}))
        for name in ("normal", "lwa")
    ]
    with pytest.raises(UserError, match=message) as error:
        figures.run(["huang2015.fig2"], workdirs=workdirs, out=str(tmp_path / "out"))
    assert "\n" not in str(error.value) and str(tmp_path / method) in str(error.value)


def test_the_length_of_training_is_in_the_panel(tmp_path):
    workdirs = [run_of(tmp_path / name, name, [[0.02, 0.9]]) for name in ("normal", "lwa")]
    drawn = curves.normal_and_lwa(workdirs)
    assert [a.get_title() for a in drawn.figure.axes] == ["Normal", "LWA, length 1.2"]

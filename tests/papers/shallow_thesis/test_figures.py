"""The figures of the shallow-net thesis: what they draw of runs, beside NumPy."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from short_run import serve

from adv_jax import attacks, data, models, train
from adv_jax.data import Arrays
from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import trained
from adv_jax.types import UserError
from papers.running import drawing, figures
from papers.shallow_thesis import robustness, runs, samples, sweeps, valid_rows, weights

ROOT = Path(__file__).parents[3]
SIZES = np.arange(17) / 40  # 0, .025, ..., .4
H, W, K = 4, 6, 7  # of the made-up images, no axis like another, and classes

DATA = {"name": "mnist", "source": "files", "sha256": {}, "sizes": {"train": 60_000, "test": 50}}


def config_of(mode, name="shallow_mnist"):
    return runpy.run_path(str(ROOT / f"configs/{name}.py"))["get_config"](mode).to_dict()


@pytest.fixture
def finished(tmp_path):
    """A writer of finished runs.

    Its arguments: a mode of shallow_mnist or a whole config, (test error, confidence) of each
    replica and their overrides, and entries of the data in result.json.
    """

    def write(mode, *replicas, overrides=None, config=None, **about):
        config = config or config_of(mode)
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        overrides = overrides or [{} for _ in replicas]
        result = {
            "data": DATA | about,
            "replicas": [
                {
                    "seed": i,
                    "epochs": 300,
                    "overrides": o,
                    "test_error": error,
                    "confidence": confidence,
                }
                for i, ((error, confidence), o) in enumerate(zip(replicas, overrides, strict=True))
            ],
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "result.json").write_text(json.dumps(result))
        return str(folder)

    return write


def lines_of(axes):
    """Label -> (x, y) of the lines with a label."""
    handles, labels = axes.get_legend_handles_labels()
    return {
        label: tuple(map(np.asarray, line.get_data()))
        for line, label in zip(handles, labels, strict=True)
    }


def test_widths(finished):
    workdirs = [
        finished("model=B,width=800", (0.02, 0.7)),
        finished("model=A,width=5", (0.1, 0.9), (0.2, 0.8)),
        finished("model=A,width=800", (0.03, 0.99)),
        finished("model=B,width=5", (0.3, 0.5), (0.34, 0.4)),
    ]
    figure, document, _ = sweeps.widths(workdirs)
    assert document["gap"] == {"5": 0.17, "800": -0.01}
    assert "by 17.0 points with 5 units, -1.0 points with 800 units; " in document["caption"]
    assert document["confidence"]["adversarial"] == {"5": [0.5, 0.4], "800": [0.7]}
    expected = {
        "accuracy": {"A: clean": [0.85, 0.97], "B: half adversarial": [0.68, 0.98]},
        "confidence": {"A: clean": [0.85, 0.99], "B: half adversarial": [0.45, 0.7]},
    }
    for axes, (measure, means) in zip(figure.axes, expected.items(), strict=True):
        assert measure in axes.get_ylabel() and axes.get_xlabel() == "hidden units"
        for label, (x, y) in lines_of(axes).items():
            np.testing.assert_allclose(y, means[label])
            assert x.tolist() == [5, 800]
    assert figure.get_suptitle().endswith("full MNIST; seeds 0, 1; 300 epochs")


def test_training_eps(finished):
    path = "objective.attack.eps"
    workdirs = [
        finished(
            "model=B,sweep=eps",
            *((0.05, 0.9), (0.01, 0.8), (0.03, 0.7), (0.04, 0.6)),
            overrides=[{path: 0.0}, {path: 0.1}, {path: 0.1}, {path: 0.3}],
        ),
        finished("model=A", (0.07, 1.0)),
        finished("model=B", (0.06, 0.5)),  # eps .25
    ]
    figure, document, _ = sweeps.training_eps(workdirs)
    assert document["best"] == 0.1
    assert document["accuracy"]["adversarial"] == {
        "0": [0.95, 0.93],
        "0.1": [0.99, 0.97],
        "0.25": [0.94],
        "0.3": [0.96],
    }
    (x, y) = lines_of(figure.axes[1])["B: half adversarial"]
    np.testing.assert_allclose(x, [0, 0.1, 0.25, 0.3])
    np.testing.assert_allclose(y, [0.95, 0.75, 0.5, 0.6])
    assert "an eps of 0.1 is the most accurate" in document["caption"]
    assert "98.00 %, where 0 has 94.00 %" in document["caption"]


def test_crossover_of_straight_lines():
    b = np.full(17, 0.9)
    assert robustness.crossover(0.9 + 0.22 - SIZES, b) is None  # From above to below.
    assert robustness.crossover(0.9 - 0.22 + SIZES, b) == pytest.approx(0.22)
    assert robustness.crossover(b - 0.1, b) is None and robustness.crossover(b + 0.1, b) is None
    # The last of several counts.
    a = b + 0.1 * np.sign(SIZES - 0.31) * np.where(np.abs(SIZES - 0.1) < 0.02, -1, 1)
    assert robustness.crossover(a, b) == pytest.approx((0.3 + 0.325) / 2)


def linear(seed):
    """Weights f64[24, 7] of a linear model of 4 x 6 images."""
    return np.random.default_rng(seed).normal(size=(H * W, K)).astype(np.float32)


@pytest.fixture
def linear_models(finished, monkeypatch):
    """Runs whose models are linear: kind -> (workdir, weights), and their test set."""
    x = np.random.default_rng(9).uniform(size=(50, H, W, 1)).astype(np.float32)
    y = (x.reshape(50, -1) @ linear(0)).argmax(1).astype(np.int32)
    y[:4] = (y[:4] + 1) % K
    kinds = {"clean": (finished("model=A", (0.1, 0.9)), linear(0))}
    kinds["adversarial"] = finished("model=B", (0.1, 0.9)), linear(1)
    kinds["noisy"] = finished("model=C", (0.1, 0.9)), linear(2)
    weights_of = {Path(workdir): w for workdir, w in kinds.values()}

    def load(workdir, *, replica=0):
        w = weights_of[Path(workdir)]
        return SimpleNamespace(
            logits_fn=lambda x: x.reshape(len(x), -1) @ w,
            dataset=SimpleNamespace(test=Arrays(x, y), train=Arrays(x, y)),
            about={"objective": {"name": "cross_entropy"}, "data": DATA},
        )

    monkeypatch.setattr(trained, "load", load)
    monkeypatch.setattr(trained, "load_all", lambda workdir: [load(workdir)])
    return kinds, x, y


def fgsm_sign(w, x, y):
    """The sign of the cross-entropy's gradient: f64[N, D]."""
    logits = x.reshape(len(x), -1).astype(float) @ w
    p = np.exp(logits - logits.max(1, keepdims=True))
    return np.sign((p / p.sum(1, keepdims=True) - np.eye(K)[y]) @ w.T)


@pytest.mark.slow
def test_accuracies_of_linear_models(linear_models):
    made, x, y = linear_models
    kinds = ("clean", "adversarial", "noisy")
    figure, document, _ = robustness.with_noisy([made[kind][0] for kind in reversed(kinds)])
    np.testing.assert_allclose(document["sizes"], SIZES)
    noise = attacks.gaussian_noise(None, jnp.array(x), None, std=1.0, key=jax.random.key(0)) - x
    left, right = figure.axes
    assert "FGSM" in left.get_xlabel() and "Gaussian noise" in right.get_xlabel()
    assert list(document["accuracy"]) == list(kinds)
    for kind in kinds:
        w, label = made[kind][1], runs.LABELS[kind]
        directions = fgsm_sign(w, x, y), np.asarray(noise).reshape(50, -1)
        for axes, attack, direction in zip(
            (left, right), ("fgsm", "gaussian_noise"), directions, strict=True
        ):
            rows = x.reshape(50, -1) + SIZES[:, None, None] * direction
            accuracy = ((rows @ w).argmax(-1) == y).mean(-1)
            found = document["accuracy"][kind][attack]
            # One of the 50 may lie on an edge.
            np.testing.assert_allclose(found, [accuracy], atol=0.021)
            assert np.isclose(found, accuracy).sum() > 14
            np.testing.assert_allclose(lines_of(axes)[label][1], found[0])
    clean = 100 * document["accuracy"]["clean"]["fgsm"][0][0]
    assert f"A: {clean:.1f} % clean, " in document["caption"] and clean == 92
    assert document["caption"].endswith("(the shallow-net thesis: 0.22).")


def test_kinds_of_perturbation_differ_without_colors():
    for field in ("color", "linestyle", "marker"):
        assert len({style[field] for style in runs.STYLES.values()}) == 3
    assert runs.STYLES["clean"]["linestyle"] == "--"  # as in the shallow-net thesis
    assert runs.STYLES["adversarial"]["linestyle"] == "-"


@pytest.fixture
def covtype_runs(finished, monkeypatch):
    """Runs of A on raw and of B on standardized inputs, whose models only say so."""
    workdirs = []
    for mode in ("model=A,inputs=raw", "model=B,inputs=standardized"):
        config = config_of(mode, "shallow_covtype")
        workdirs.append(finished(None, (0.4, 0.9), config=config, name="covtype"))

    def load_all(workdir):
        about = {"data": {"sha256": {}}, "preprocess": [Path(workdir).name]}
        examples = data.Arrays(
            np.full((4, 54), workdirs.index(str(workdir)), np.float32), np.arange(4)
        )
        dataset = data.Dataset("covtype", "files", {}, examples, examples, 7, None)
        return 2 * [SimpleNamespace(about=about, dataset=dataset)]

    monkeypatch.setattr(trained, "load_all", load_all)
    return workdirs


def test_covtype_draws_fgsm_beside_valid_rows(covtype_runs, monkeypatch):
    a = covtype_runs[0]
    with pytest.raises(UserError, match="must be runs on the same data"):
        valid_rows.covtype(covtype_runs)
    with pytest.raises(UserError, match="must be one run each of A: clean, B: half adversarial"):
        valid_rows.covtype([a])
    monkeypatch.setattr(valid_rows, "require_same_inputs", lambda models: None)
    curves = {"fgsm": np.linspace(0.8, 0, 9), "valid": np.linspace(0.8, 0.4, 9)}
    curves["share"] = np.array([1, 0.5, 0.25, *[0.0] * 6])
    monkeypatch.setattr(valid_rows, "_of_model", lambda model: curves)
    figure, document, _ = valid_rows.covtype(covtype_runs)
    for axes, name in zip(figure.axes, ("fgsm", "valid"), strict=True):
        assert list(lines_of(axes)) == ["A: clean", "B: half adversarial"]
        for x, y in lines_of(axes).values():
            np.testing.assert_allclose((x, y), (valid_rows.SIZES, curves[name]))
    said = "80.0 % clean, 60.0 % under FGSM 0.25, 70.0 % among valid rows as near; 25.0 %"
    assert document["caption"].startswith(f"A: {said} of FGSM's examples are valid rows. B: ")
    assert document["accuracy"]["clean"]["valid"][0] == pytest.approx(curves["valid"])


@pytest.mark.slow
def test_the_strip_of_samples_has_the_noise_of_its_labels(linear_models):
    made, x, y = linear_models
    workdir, w = made["clean"]
    figure, document, _ = samples.strip(trained.load(workdir))
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    sizes = [0, 0.1, 0.2, 0.3]
    sign = fgsm_sign(w, x[:1], y[:1]).reshape(H, W)
    noise = attacks.gaussian_noise(None, jnp.array(x[:1]), None, std=1.0, key=jax.random.key(0))
    noise = (noise - x[:1])[0, ..., 0]
    read = []
    for image, size, direction in zip(shown, 2 * sizes, 4 * [sign] + 4 * [noise], strict=True):
        expected = x[0, ..., 0] + size * direction
        np.testing.assert_allclose(image, expected, atol=1e-5)
        read.append(int((expected.ravel() @ w).argmax()))
    assert np.ravel(list(document["image"]["read_as"].values())).tolist() == read
    assert "read by net A" in document["caption"] and "net A, full MNIST" in figure.get_suptitle()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"{s:g}: read as {r}" for s, r in zip(2 * sizes, read, strict=True)]


@pytest.fixture(scope="module")
def net():
    """An mlp of one hidden layer on 4 x 6 images, and its random parameters."""
    model = models.mlp(features=(14,), num_classes=K, activation="relu")
    return model, model.init(jax.random.key(0), jnp.zeros((1, H, W, 1)))["params"]


@pytest.mark.slow
def test_weight_images_have_the_place_of_their_pixel(net):
    model, params = net
    units = drawing.first_layer(params, (H, W))
    patterns = weights.class_patterns(params, (H, W))
    assert units.shape == (14, H, W) and patterns.shape == (5, H, W)
    # A unit's answer to one bright pixel is its weight there, if positive; biases are 0.
    pixels = jnp.eye(H * W).reshape(H, W, H, W, 1)
    answer = lambda x: model.apply({"params": params}, x)[1]["hidden1"]
    answers = np.array([answer(row) for row in pixels])  # row, column, unit
    np.testing.assert_allclose(np.maximum(units, 0), np.moveaxis(answers, -1, 0), atol=1e-6)
    # Without the ReLU, the class patterns are the answers of the logits.
    w1, w2 = (np.asarray(params[layer]["kernel"]) for layer in ("hidden1", "logits"))
    logits = np.asarray(pixels).reshape(H, W, -1) @ w1 @ w2
    np.testing.assert_allclose(patterns, np.moveaxis(logits[..., :5], -1, 0), atol=1e-6)


def test_grain():
    rng = np.random.default_rng(0)
    assert weights.grain(rng.normal(size=(50, 28, 28))) == pytest.approx(1, abs=0.02)
    row, column = np.ogrid[:28, :28]
    assert weights.grain([(-1.0) ** (row + column)]) == pytest.approx(2)  # 4 / (2 * 1)
    # A ramp 0 ... 27 to the right: half of the differences are 1; its variance is (28^2 - 1) / 12.
    assert weights.grain([column + 0.0 * row]) == pytest.approx(0.5 / (2 * 783 / 12))


def test_mosaic():
    sheet = weights.mosaic(np.arange(12.0).reshape(3, 2, 2), columns=2)
    expected = [
        [0, 1, np.nan, 4, 5],
        [2, 3, np.nan, 6, 7],
        [np.nan] * 5,
        [8, 9, np.nan, np.nan, np.nan],
        [10, 11, np.nan, np.nan, np.nan],
    ]
    np.testing.assert_array_equal(sheet, expected)


def test_colors_end_where_98_percent_of_the_weights_do():
    assert weights.cut_off(np.linspace(-1, 1, 101)) == pytest.approx(0.98)
    assert weights.cut_off(np.zeros((2, 3, 3))) == 1


@pytest.fixture
def nets(finished, monkeypatch):
    """Runs of A and B of 7 and of 14 units: {(kind, width): (workdir, params)}."""
    made = {}
    for i, (kind, letter) in enumerate((("clean", "A"), ("adversarial", "B"))):
        for width in (14, 7):
            model = models.mlp(features=(width,), num_classes=K)
            params = model.init(jax.random.key(10 * i + width), jnp.zeros((1, H, W, 1)))["params"]
            workdir = finished(f"model={letter},width={width}", (0.1, 0.9))
            made[kind, width] = workdir, params
    params_of = {Path(workdir): params for workdir, params in made.values()}
    images = SimpleNamespace(train=Arrays(np.zeros((1, H, W, 1)), np.zeros(1)))
    load = lambda workdir: SimpleNamespace(
        variables={"params": params_of[Path(workdir)]}, dataset=images
    )
    monkeypatch.setattr(trained, "load_all", lambda workdir: [load(workdir)])
    return made


@pytest.mark.parametrize("draw", [weights.class_images, weights.unit_images])
def test_clean_nets_are_above_and_wide_ones_right(nets, draw):
    figure, document, _ = draw([workdir for workdir, _ in nets.values()])
    panels = [axes for axes in figure.axes if axes.images]
    order = [("clean", 7), ("clean", 14), ("adversarial", 7), ("adversarial", 14)]
    for axes, (kind, width) in zip(panels, order, strict=True):
        assert axes.get_title() == f"{runs.LABELS[kind]}, {width} units"
        params = jax.tree.map(np.asarray, nets[kind, width][1])
        w1, w2 = params["hidden1"]["kernel"], params["logits"]["kernel"]
        columns = (w1 @ w2)[:, :5] if draw is weights.class_images else w1[:, :12]
        sheet = np.asarray(axes.images[0].get_array())
        across = 5 if draw is weights.class_images else 4
        for i, column in enumerate(columns.T):
            top, left = i // across * (H + 1), i % across * (W + 1)
            shown = sheet[top : top + H, left : left + W]
            np.testing.assert_allclose(shown, column.reshape(H, W), atol=1e-6)
        # Zero is in the middle of the colors.
        assert axes.images[0].norm.vmin == -axes.images[0].norm.vmax
        ends = np.quantile(np.abs(columns), 0.98)
        assert document["cut_off"][axes.get_title()] == pytest.approx(ends, rel=1e-5)


def test_runs_that_a_figure_does_not_draw_are_refused_in_one_line(finished, tmp_path):
    a, b, c = (finished(f"model={letter}", (0.1, 0.9)) for letter in "ABC")
    wide = finished("model=B,width=2000", (0.1, 0.9))
    grid = finished("model=B,sweep=eps", (0.1, 0.9))
    rate = "optimizer.learning_rate"
    rates = {**config_of("model=B"), "replicas": {"seeds": 1, "grid": {rate: (0.1, 0.2)}}}
    rates = finished(None, (0.1, 0.9), (0.2, 0.9), config=rates)
    other = finished("model=B", (0.1, 0.9), sha256={"x": "y"})
    cifar = finished("model=B", (0.1, 0.9), name="cifar10")
    deep = finished(None, (0.1, 0.9), config=config_of("quick", "quickstart"))
    ladder = finished(None, (0.1, 0.9), config=config_of("quick", "ladder_mnist"))
    with_pgd = with_values(config_of("model=B"), {"objective.attack": {"name": "pgd", "eps": 0.1}})
    pgd = finished(None, (0.1, 0.9), config=with_pgd)
    (tmp_path / "going").mkdir()
    (tmp_path / "going" / "config.json").write_text(json.dumps(config_of("quick")))
    refused = [
        (sweeps.widths, [a, c], f"must be A: clean, B: half .* for fig3.2, got {c}, C: half noisy"),
        (sweeps.widths, [b, other], f"must be runs on the same data, got {b} and {other}"),
        (sweeps.widths, [b, b], "one run of B: half adversarial with 800 units, got"),
        (sweeps.training_eps, [b, wide], r"must be runs of one width, got \[800, 2000\] units"),
        (sweeps.widths, [str(tmp_path / "going")], "must be a finished run, got .*going"),
        (sweeps.widths, [str(tmp_path)], "workdir must be the directory of a run"),
        (sweeps.widths, [deep], "model must be an mlp with one hidden layer, got"),
        (sweeps.widths, [ladder], "model must be an mlp .*, got .*'ladder'"),
        (sweeps.widths, [pgd], "objective must be cross_entropy, or adversarial"),
        (robustness.clean_and_adversarial, [a], "for fig3.4, got 800 units by A: clean"),
        (robustness.clean_and_adversarial, [a, wide], "got .*2000 units by B: half adversarial"),
        (
            robustness.clean_and_adversarial,
            [a, a],
            "one run each of A: clean, B: half adversarial of one net",
        ),
        (robustness.clean_and_adversarial, [a, grid], "must be a run without a grid"),
        (sweeps.widths, [a, grid], f"without a grid, got {grid} with {{'objective.attack.eps'"),
        (sweeps.training_eps, [rates], "a run with a grid of objective.attack.eps only"),
        (weights.class_images, [a, grid], "must be a run without a grid"),
        (weights.unit_images, [a, rates], "got .* with {'optimizer.learning_rate': "),
        (
            robustness.with_noisy,
            [a, b],
            "one run each of A: clean, B: half adversarial, C: half noi",
        ),
        (valid_rows.covtype, [a, b], f"must be a run on covtype for covtype, got {a} on mnist"),
        (robustness.cifar10, [a, b], f"must be a run on cifar10 for fig3.10, got {a} on mnist"),
        (
            robustness.clean_and_adversarial,
            [cifar],
            "must be a run on mnist for fig3.4, got .* on cifar10",
        ),
        (weights.class_images, [a, wide], "must be one run of A and one of B per width"),
        (weights.unit_images, [a, b, a], "must be one run of A and one of B per width"),
    ]
    for draw, workdirs, message in refused:
        with pytest.raises(UserError, match=message) as error:
            draw(workdirs)
        assert "\n" not in str(error.value)


def test_inputs_that_are_no_images_are_refused(linear_models, nets, monkeypatch):
    rows = Arrays(np.zeros((5, 54), np.float32), np.zeros(5, np.int32))
    flat = SimpleNamespace(variables={"params": {}}, dataset=SimpleNamespace(test=rows, train=rows))
    with pytest.raises(UserError, match=r"must be a run on gray images, got inputs \(54,\)"):
        samples.strip(flat)
    monkeypatch.setattr(trained, "load_all", lambda workdir: [flat])
    with pytest.raises(UserError, match=r"a run on gray images, got .* inputs \(54,\)"):
        weights.class_images([workdir for workdir, _ in nets.values()])


@pytest.mark.slow
def test_runs_that_were_trained_are_drawn_by_the_command(tmp_path, monkeypatch, capsys):
    whole = data.load("mnist", source="embedded")
    few = whole._replace(
        train=Arrays(*(part[:300] for part in whole.train)),
        test=Arrays(*(part[:100] for part in whole.test)),
    )
    serve(monkeypatch, few)
    small = {"data.num_valid": 100, "epochs": 2, "patience": 0, "batch_size": 50}
    errors, workdirs = {}, [str(tmp_path / letter) for letter in "AB"]
    for workdir in workdirs:
        config = with_values(config_of(f"quick,model={workdir[-1]},width=8"), small)
        errors[workdir[-1]] = train.run(config, workdir)["replicas"][0]["test_error"]
    names = ["shallow_thesis.fig3.4", "shallow_thesis.fig3.7"]
    figures.run(names, workdirs=workdirs, out=str(tmp_path / "out"))
    folder = tmp_path / "out/shallow_thesis/results/figures"
    expected = {f"fig3.{n}.{suffix}" for n in (4, 7) for suffix in ("json", "png")}
    assert {path.name for path in folder.iterdir()} == expected
    found = json.loads((folder / "fig3.4.json").read_text())
    for kind, letter in (("clean", "A"), ("adversarial", "B")):
        for attack in ("fgsm", "gaussian_noise"):
            curve = found["accuracy"][kind][attack][0]
            assert curve[0] == pytest.approx(1 - errors[letter]) and len(curve) == 17
    assert found["settings"]["examples"] == 100
    assert (found["paper"], found["figure"]) == ("shallow_thesis", "fig3.4")
    with Image.open(folder / "fig3.7.png") as image:
        assert image.format == "PNG" and min(image.size) > 300
    assert "Under noise A" in capsys.readouterr().out

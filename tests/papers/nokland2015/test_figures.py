"""papers.nokland2015: its numbers recomputed from the files of small runs and their weights."""

import json
import runpy
import shutil

import numpy as np
import pytest
from oracles import sigmoid
from short_run import few_digits, serve

from adv_jax import train
from adv_jax.runner.config.document import with_values
from adv_jax.runner.run import trained
from adv_jax.types import UserError
from papers.nokland2015 import curves, hidden, readings, tables, transfer
from papers.running import figures, stored

EPOCHS, TRAIN, TEST = 12, 150, 60
SEEDS = {"plain": 2, "adversarial": 2, "dropout": 1}


def config_of(name, mode):
    return runpy.run_path(f"configs/{name}.py")["get_config"](mode).to_dict()


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """method -> the directory of a finished run of 2x400 ReLU on a few digits."""
    digits = few_digits(TRAIN, TEST)
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        serve(patch, digits)
        for method, seeds in SEEDS.items():
            changes = {"epochs": EPOCHS, "replicas.seeds": seeds, "checkpoint_every": EPOCHS}
            changes |= {"optimizer.learning_rate": 0.3, "evaluation.eps": (0.0,)}
            config = config_of("backprop_mnist", f"quick,width=400,method={method}")
            train.run(with_values(config, changes), folder / method)
        yield {method: str(folder / method) for method in SEEDS}


def lines_of(workdir):
    with open(f"{workdir}/metrics.jsonl") as file:
        return [json.loads(line) for line in file]


def metric(workdir, name, replica):
    return np.array([line[name] for line in lines_of(workdir) if line["replica"] == replica])


def of_layers(workdir, replica=0):
    """Weights and biases of the three layers, in float64."""
    params = trained.load(workdir, replica=replica).variables["params"]
    return [
        (np.float64(params[name]["kernel"]), np.float64(params[name]["bias"]))
        for name in ("hidden1", "hidden2", "logits")
    ]


def forward(layers, x):
    """Both hidden layers, and the logits."""
    (w1, b1), (w2, b2), (w3, b3) = layers
    h1 = np.maximum(x @ w1 + b1, 0)
    h2 = np.maximum(h1 @ w2 + b2, 0)
    return h1, h2, h2 @ w3 + b3


@pytest.mark.slow
def test_table_2_is_the_mean_of_the_last_ten_epochs(workdirs):
    found = tables.mnist([workdirs["plain"], workdirs["adversarial"]])
    plain, adversarial = found.document["rows"]
    errors = [metric(workdirs["plain"], "test_error", i)[2:].mean() for i in (0, 1)]
    np.testing.assert_allclose(plain["errors"], errors, rtol=1e-5)
    assert metric(workdirs["plain"], "test_error", 0)[:2].mean() > errors[0] + 0.01
    assert plain["error"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert plain["spread"] == pytest.approx(abs(errors[0] - errors[1]) / np.sqrt(2), rel=1e-4)
    assert (plain["method"], plain["paper"]) == ("plain", None)
    assert adversarial["epochs"] == [EPOCHS] * 2
    assert adversarial["paper"] == {"error": 0.0083, "spread": 0.0004}
    cells = found.table.rows[1]
    assert cells[0] == "2x400 ReLU" and cells[-1] == "0.83 +- 0.04"


@pytest.mark.slow
def test_fig_1_has_both_errors_of_each_epoch(workdirs):
    found = curves.errors([workdirs["plain"]])
    (curve,) = found.document["curves"]
    for name in ("train_error", "test_error"):
        mean = np.mean([metric(workdirs["plain"], name, i) for i in (0, 1)], axis=0)
        np.testing.assert_allclose(curve[name], mean, rtol=1e-5)
    (axes,) = found.figure.axes
    dashed, plain = axes.lines
    assert (dashed.get_linestyle(), plain.get_linestyle()) == ("--", "-")
    np.testing.assert_allclose(dashed.get_ydata() / 100, curve["train_error"], rtol=1e-5)
    np.testing.assert_allclose(plain.get_ydata() / 100, curve["test_error"], rtol=1e-5)


@pytest.mark.slow
def test_fig_2_draws_the_first_units_of_each_net(workdirs):
    found = hidden.features(list(workdirs.values()))
    for axes, method in zip(found.figure.axes, ("plain", "adversarial", "dropout"), strict=True):
        (w1, _), *_ = of_layers(workdirs[method])
        sheet = axes.images[0].get_array()
        assert sheet.shape == (8 * 29 - 1, 8 * 29 - 1)
        # The tenth unit stands in the second row, at the second place.
        np.testing.assert_allclose(sheet[29:57, 29:57], w1[:, 9].reshape(28, 28), rtol=1e-6)
    assert found.document["extent"].keys() == set(SEEDS)


def test_extent_by_hand():
    one, half = np.zeros((4, 4)), np.zeros((4, 4))
    one[2, 1] = -3
    half[:2] = [[1, -1, 1, 1], [1, 1, -1, -1]]
    assert hidden.extent([one]) == pytest.approx(1 / 16)
    assert hidden.extent([half]) == pytest.approx(0.5)
    assert hidden.extent([np.full((4, 4), -2.0)]) == pytest.approx(1)
    # Squares 4 and 1: (4 + 1)^2 / (2 (16 + 1)).
    assert hidden.extent([[[2.0, 1.0]]]) == pytest.approx(25 / 34)
    # The median over those that are not all 0.
    assert hidden.extent([one, half, np.zeros((4, 4)), np.ones((4, 4))]) == pytest.approx(0.5)


def test_mosaic_by_hand():
    images = np.arange(3)[:, None, None] + np.zeros((3, 1, 2))
    gap = np.nan
    expected = [[0, 0, gap, 1, 1], [gap] * 5, [2, 2, gap, gap, gap]]
    np.testing.assert_array_equal(hidden.mosaic(images, 2), expected)


@pytest.mark.slow
def test_fig_3_counts_exact_zeros(workdirs):
    found = hidden.activations([workdirs["adversarial"], workdirs["plain"]])
    for method in ("plain", "adversarial"):
        model = trained.load(workdirs[method])
        x = np.float64(model.dataset.test.x).reshape(TEST, -1)
        h1, h2, _ = forward(of_layers(workdirs[method]), x)
        zeros = found.document["zeros"][method]
        # A sum next to 0 may have another sign in float32.
        assert zeros["hidden1"] == pytest.approx(np.mean(h1 == 0), abs=2e-4)
        assert zeros["hidden2"] == pytest.approx(np.mean(h2 == 0), abs=2e-4)
        assert zeros["all"] == pytest.approx((zeros["hidden1"] + zeros["hidden2"]) / 2, abs=1e-5)
        assert 0.1 < zeros["all"] < 0.95
        h1, h2, _ = forward(of_layers(workdirs[method], 1), x)
        seeds = found.document["by_seed"][method]
        assert list(seeds) == [1, 2] and seeds[1] == zeros["all"]
        assert seeds[2] == pytest.approx((np.mean(h1 == 0) + np.mean(h2 == 0)) / 2, abs=2e-4)
    assert [axes.get_title().split(":")[0] for axes in found.figure.axes] == [
        "back-propagation",
        "adversarial back-propagation",
    ]


@pytest.mark.slow
def test_fig_3_has_the_activations_below_0_too(workdirs, monkeypatch):
    values = np.tanh(np.random.default_rng(0).normal(size=(50, 8)))
    monkeypatch.setattr(hidden, "hidden_layers", lambda model, x: {"hidden1": values})
    found = hidden.activations([workdirs["plain"], workdirs["adversarial"]])
    for axes in found.figure.axes:
        (outline,) = axes.patches
        x, share = outline.get_xy().T
        assert (x.min(), x.max()) == pytest.approx((values.min(), values.max()))
        # Each of the 60 bins has a left and a right end.
        assert share.sum() / 2 == pytest.approx(1)


@pytest.mark.slow
def test_transfer_shows_the_first_plain_nets_examples_to_the_others(workdirs):
    found = transfer.transfer([workdirs["adversarial"], workdirs["plain"]]).document
    test = trained.load(workdirs["plain"]).dataset.test
    x, y = np.float64(test.x).reshape(TEST, -1), test.y
    source = of_layers(workdirs["plain"])
    (w1, _), (w2, _), (w3, _) = source
    h1, h2, logits = forward(source, x)
    delta = sigmoid(logits) - np.eye(10)[y]
    gradient = ((delta @ w3.T * (h2 > 0)) @ w2.T * (h1 > 0)) @ w1.T
    targets = {
        "plain": [of_layers(workdirs["plain"], 1)],
        "adversarial": [of_layers(workdirs["adversarial"], i) for i in (0, 1)],
    }
    errors = []
    for eps in (0.25, 0.5):
        x_adv = x + eps * np.sign(gradient)
        for method, nets in targets.items():
            wrong = [np.mean(forward(layers, x_adv)[2].argmax(1) != y) for layers in nets]
            errors.append({"eps": eps, "method": method, "errors": pytest.approx(wrong, abs=0.02)})
    printed = [0.22, 0.04, 0.47, 0.18]
    expected = [row | {"paper": paper} for row, paper in zip(errors, printed, strict=True)]
    assert found["rows"] == expected
    by_seed = {
        f"eps{100 * row['eps']:.0f}.{cell}": dict(zip(seeds, row["errors"], strict=True))
        for row, (cell, seeds) in zip(
            found["rows"], 2 * [("backprop", [2]), ("adversarial", [1, 2])], strict=True
        )
    }
    assert found["by_seed"] == by_seed
    assert found["settings"]["loss"] == "binary_cross_entropy"


@pytest.mark.slow
def test_the_reading_as_printed_is_the_transfer(workdirs):
    runs = [workdirs["adversarial"], workdirs["plain"], workdirs["dropout"]]
    drawn = readings.transfer(runs)
    first = drawn.document["rows"][0]
    assert first["by_seed"] == transfer.transfer(runs).document["by_seed"]
    means = [np.mean([*by_seed.values()]) for by_seed in first["by_seed"].values()]
    assert sorted(first["mean"].values()) == pytest.approx(sorted(means), rel=1e-5)
    assert not first["fits"]
    assert drawn.table.rows[-2] == ["the paper", "22.00", "47.00", "4.00", "18.00", ""]


@pytest.mark.slow
def test_readings_of_zeros_count_by_images_layers_and_units(workdirs):
    rows = readings.zeros([workdirs["plain"], workdirs["adversarial"]]).document["rows"]
    found = {row["reading"]: row["by_seed"] for row in rows}
    data = trained.load(workdirs["plain"]).dataset
    for method, cell in (("plain", "backprop"), ("adversarial", "adversarial")):
        for images, x in (("test", data.test.x), ("training", data.train.x)):
            h1, h2, _ = forward(of_layers(workdirs[method], 1), np.float64(x).reshape(len(x), -1))
            both = np.concatenate([(h1 == 0).mean(0), (h2 == 0).mean(0)])
            expected = {
                f"both layers, {images} set": both.mean(),
                f"both layers, {images} set, units that are active there": both[both < 1].mean(),
                f"hidden1, {images} set": both[:400].mean(),
                f"hidden2, {images} set": both[400:].mean(),
            }
            assert {name: found[name][cell][2] for name in expected} == pytest.approx(
                expected, abs=2e-3
            )
    complement = found["the plain net alone: its nonzero units, its zeros"]
    assert complement["adversarial"] == found["both layers, test set"]["backprop"]
    assert sum(by_seed[1] for by_seed in complement.values()) == pytest.approx(1)


@pytest.mark.slow
def test_overhead_is_of_an_epoch_of_one_replica(workdirs):
    found = tables.overhead([workdirs["plain"], workdirs["adversarial"]]).document
    seconds = {}
    for method in ("plain", "adversarial"):
        with open(f"{workdirs[method]}/result.json") as file:
            seconds[method] = json.load(file)["seconds"] / (EPOCHS * SEEDS[method])
    assert found["overhead"] == pytest.approx(
        seconds["adversarial"] / seconds["plain"] - 1, rel=1e-4
    )
    assert found["overhead_in_paper"] == 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        hidden.activations,
        tables.overhead,
        tables.mnist,
        transfer.transfer,
        readings.transfer,
        readings.zeros,
    ],
)
def test_written_documents_name_the_paper_and_are_read_as_results(workdirs, tmp_path, draw):
    runs = [workdirs["plain"], workdirs["adversarial"]]
    figures.write("nokland2015.some", draw(runs), tmp_path)
    file = tmp_path / "nokland2015/results/figures/some.json"
    assert json.loads(file.read_text())["paper"] == "nokland2015"
    assert list(stored.read(tmp_path).figures) == [file]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "field", "value", "message"),
    [
        ("result.json", "device", "a faster one", "the device must .* got 'cpu', 'a faster one'"),
        ("config.json", "batch_size", 1000, "batch_size must .* got 10, 1000"),
    ],
)
def test_overhead_is_not_that_of_another_machine_or_batch(
    workdirs, tmp_path, file, field, value, message
):
    other = shutil.copytree(workdirs["adversarial"], tmp_path / "other")
    document = json.loads((other / file).read_text()) | {field: value}
    (other / file).write_text(json.dumps(document))
    with pytest.raises(UserError, match=message):
        tables.overhead([workdirs["plain"], str(other)])


@pytest.mark.slow
def test_table_2_needs_ten_epochs(workdirs, tmp_path):
    other = shutil.copytree(workdirs["dropout"], tmp_path / "other")
    lines = (other / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other / "metrics.jsonl").write_text("".join(lines[:9]))
    with pytest.raises(UserError, match="epochs must be 10 or more for table2, got 9"):
        tables.mnist([str(other)])


@pytest.fixture
def cifar10(tmp_path):
    """A function that makes a finished run of backprop_cifar10 of nothing but its documents."""

    def made(mode, errors, source="drawn"):
        workdir = tmp_path / mode
        workdir.mkdir()
        config = config_of("backprop_cifar10", mode)
        (workdir / "config.json").write_text(json.dumps(config))
        replicas = [{"test_error": error, "epochs": 3} for error in errors]
        about = {"name": "cifar10", "source": source, "sha256": {}, "sizes": {"train": 50_000}}
        result = {"data": about, "replicas": replicas, "seconds": 1}
        (workdir / "result.json").write_text(json.dumps(result))
        return str(workdir)

    return made


@pytest.mark.parametrize(
    ("mode", "cell", "paper"),
    [
        ("net=conv,method=adversarial_dropout", ("conv, zca", "adversarial_dropout"), 0.1255),
        ("net=fc,preprocess=simple,method=plain", ("fc, simple", "plain"), 0.4057),
        ("net=fc,preprocess=zca,method=dropout", ("fc, zca", "dropout"), None),
    ],
)
def test_table_3_finds_the_cell_of_a_run(cifar10, mode, cell, paper):
    (row,) = tables.cifar10([cifar10(mode, [0.2, 0.1])]).document["rows"]
    assert (row["net"], row["method"]) == cell
    assert row["error"] == pytest.approx(0.15)
    assert row["spread"] == pytest.approx(0.1 / np.sqrt(2), rel=1e-5)
    assert (row["paper"] and row["paper"]["error"]) == paper


@pytest.mark.slow
def test_the_command_writes_them_and_prints_the_table(workdirs, tmp_path, capsys):
    names = ["nokland2015.table2", "nokland2015.fig1"]
    figures.run(names, workdirs=[workdirs["plain"]], out=str(tmp_path))
    folder = tmp_path / "nokland2015/results/figures"
    assert sorted(p.name for p in folder.iterdir()) == ["fig1.json", "fig1.png", "table2.json"]
    assert json.loads((folder / "table2.json").read_text())["caption"].endswith(".")
    assert "2x400 ReLU" in capsys.readouterr().out


@pytest.mark.slow
def test_other_runs_are_refused_in_one_line(workdirs, cifar10, tmp_path):
    plain, adversarial, dropout = (workdirs[m] for m in ("plain", "adversarial", "dropout"))
    drawn = cifar10("net=fc", [0.1])
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_text(json.dumps(config_of("backprop_mnist", "quick")))
    other = cifar10("net=conv", [0.1], source="others")
    cases = [
        (
            tables.mnist,
            [drawn],
            "must be a run of backprop_mnist, got .* of backprop_cifar10",
        ),
        (tables.mnist, [str(unfinished)], "must be a finished run, got"),
        (tables.cifar10, [drawn, other], "must be runs on the same data, got"),
        (
            tables.overhead,
            [plain, dropout],
            "one run each of back-propagation, adv.* for overhead",
        ),
        (hidden.features, [plain, adversarial], "must be one run each of .* for fig2"),
        (
            transfer.transfer,
            [adversarial, dropout],
            "two plain and one adversarial .* for transfer",
        ),
    ]
    for draw, given, words in cases:
        with pytest.raises(UserError, match=words) as error:
            draw(given)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_replicas_that_stop_early_count_as_long_as_they_train(workdirs, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.json", "result.json"):
        shutil.copy(f"{workdirs['plain']}/{name}", folder)
    lines = [
        line
        for line in lines_of(workdirs["plain"])
        if line["replica"] == 0 or line["epoch"] <= EPOCHS - 2
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = curves.errors([str(folder)])
    (curve,) = found.document["curves"]
    first, second = (metric(folder, "test_error", i) for i in (0, 1))
    assert (len(first), len(second)) == (EPOCHS, EPOCHS - 2)
    both = (first[: EPOCHS - 2] + second) / 2
    np.testing.assert_allclose(curve["test_error"], [*both, *first[-2:]], rtol=1e-5)
    assert curve["seeds"] == [2] * (EPOCHS - 2) + [1] * 2
    (row,) = tables.mnist([str(folder)]).document["rows"]
    np.testing.assert_allclose(row["errors"], [first[-10:].mean(), second.mean()], rtol=1e-5)


@pytest.mark.slow
def test_an_epoch_without_its_error_is_named(workdirs, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.json", "result.json"):
        shutil.copy(f"{workdirs['plain']}/{name}", folder)
    lines = lines_of(workdirs["plain"])
    del lines[3]["test_error"]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="must be a run with test_error of each epoch .* without$"):
        tables.mnist([str(folder)])

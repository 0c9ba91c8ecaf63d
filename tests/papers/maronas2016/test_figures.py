"""The figures of [maronas2016]: their numbers against NumPy, SciPy and formulas by hand."""

import io
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate
import scipy.stats
from PIL import Image
from scipy.special import expit

from adv_jax import attacks, models
from adv_jax.data import Arrays
from papers.maronas2016 import denoising, perturbations, robustness, samples


def heavy_ball(gradient, start, *, learning_rate, momentum, iterations):
    p, velocity, points = np.array(start, float), 0.0, [start]
    for _ in range(iterations):
        velocity = momentum * velocity - learning_rate * gradient(p)
        p = p + velocity
        points.append(p)
    return np.array(points)


def gradient_of_bowl(p):
    return np.array([1, 18]) * p


def gradient_of_double_well(p):
    return 4 * p**3 - 4 * p + 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("figure", "rates", "gradient", "start", "momentum"),
    [
        ("fig3", (0.1, 15), gradient_of_bowl, [4, 1], 0.5),
        ("fig4", (0.03, 23), gradient_of_double_well, [2], 0.75),
    ],
)
def test_paths_are_those_of_classical_momentum(document, figure, rates, gradient, start, momentum):
    learning_rate, iterations = rates  # as printed
    found = document(figure)
    for name, m in {"plain": 0, "momentum": momentum}.items():
        path = heavy_ball(
            gradient, start, learning_rate=learning_rate, momentum=m, iterations=iterations
        )
        np.testing.assert_allclose(found["paths"][name], path, atol=2e-5)
    assert found["settings"]["momentum"] == momentum


@pytest.mark.slow
def test_plain_descent_in_the_bowl_is_a_power_of_the_step_count(document):
    paths = document("fig3")["paths"]
    powers = np.arange(16)[:, None]
    np.testing.assert_allclose(paths["plain"], [4, 1] * np.array([0.9, -0.8]) ** powers, atol=1e-5)


@pytest.mark.slow
def test_momentum_leaves_the_local_minimum_and_plain_descent_stays(document):
    paths = document("fig4")["paths"]
    lowest, barrier, local = sorted(np.roots([4, 0, -4, 0.3]).real)
    assert (round(local, 3), round(lowest, 3)) == (0.96, -1.036)  # as the docstring has them
    assert paths["plain"][-1][0] == pytest.approx(local, abs=2e-3)
    assert paths["momentum"][-1][0] == pytest.approx(lowest, abs=0.05) and lowest < barrier


PRIOR = denoising.Bimodal()


def normal(z, mean, std):
    return scipy.stats.norm.pdf(z, mean, std)


def bimodal(z):
    return (normal(z, -1, 0.25) + normal(z, 1, 0.25)) / 2


def integrated_mean(density, z_noisy):
    """E[z | z_noisy] of a prior, by integration."""
    joint = lambda z: density(z) * normal(z_noisy, z, 0.5)
    total, _ = scipy.integrate.quad(joint, -6, 6, points=(-1, 1, z_noisy))
    moment, _ = scipy.integrate.quad(lambda z: z * joint(z), -6, 6, points=(-1, 1, z_noisy))
    return moment / total


@pytest.mark.parametrize(
    ("denoise", "density"),
    [
        (denoising.posterior_mean, bimodal),
        # The Gaussian of the same mean, 0, and variance, 1 + .25^2.
        (denoising.gauss, lambda z: normal(z, 0, np.sqrt(1.0625))),
    ],
)
def test_denoising_is_the_mean_of_the_posterior(denoise, density):
    z_noisy = np.linspace(-2.5, 2.5, 11)
    expected = [integrated_mean(density, z) for z in z_noisy]
    np.testing.assert_allclose(denoise(jnp.array(z_noisy), PRIOR), expected, rtol=1e-5, atol=1e-6)


def test_gauss_is_the_ladders_own_function_with_constant_parameters():
    gauss = models.ladder_layers.Gauss()
    params = {f"a{i}": jnp.zeros(1) for i in range(1, 11)}
    params["a10"] = jnp.array([1.0625 / (1.0625 + 0.25)])  # v; mu is 0
    z = jnp.linspace(-2, 2, 9)[None, :, None]
    ours = denoising.gauss(z, PRIOR)
    np.testing.assert_allclose(gauss.apply({"params": params}, z, 7 * z), ours, rtol=1e-6)


@pytest.mark.slow
def test_squared_errors_of_denoising(document):
    # Over z and the noise, the best function by Bayes' rule for the modes.
    z, noise = np.linspace(-3, 3, 301)[:, None], np.linspace(-4, 4, 301)
    weight = bimodal(z) * normal(noise, 0, 0.5)
    weight /= weight.sum()
    likelihood = [normal(z + noise, mode, np.hypot(0.25, 0.5)) for mode in (-1, 1)]
    odds = likelihood[1] / sum(likelihood)
    shrunk = [(0.0625 * (z + noise) + 0.25 * mode) / 0.3125 for mode in (-1, 1)]
    best = odds * shrunk[1] + (1 - odds) * shrunk[0]
    found = document("fig18")["squared_error"]
    assert found["posterior_mean"] == pytest.approx((weight * (z - best) ** 2).sum(), rel=1e-4)
    # Of a linear function of the right slope: var noise / (var + noise).
    assert found["gauss"] == pytest.approx(1.0625 * 0.25 / 1.3125, rel=1e-4)


@pytest.fixture(scope="module")
def noises(document):
    """Of Fig. 27: the document, x f64[N, 2], y, and t = -20 x0 - 40 x1 - 40."""
    found = document("fig27")
    x, y = np.array(found["x"]), np.array(found["y"])
    return SimpleNamespace(document=found, x=x, y=y, t=x @ [-20.0, -40.0] - 40)


@pytest.mark.slow
def test_the_line_separates_the_classes(noises):
    assert ((noises.t > 0.5) == (noises.y == 1)).all()
    assert np.unique(noises.y, return_counts=True)[1].tolist() == [60, 60]
    # The middle of the means lies on it, and the line between them is perpendicular to it.
    middle, across = np.mean(perturbations.MEANS, axis=0), np.diff(perturbations.MEANS, axis=0)[0]
    assert middle @ [-20, -40] - 40 == pytest.approx(0.5)
    assert across[1] == pytest.approx(2 * across[0])


def test_cross_entropy_of_the_three_classes_is_the_squared_error():
    x = jnp.array([[0.0, 0.0], [-0.81, -1.62], [-1.0, -0.51], [-1.0, -0.5125], [0.4, -1.23]])
    t = np.array(x, float) @ [-20, -40] - 40
    for target in (0, 1):
        labels = jnp.full(len(x), target)
        loss = optax.softmax_cross_entropy_with_integer_labels
        found = loss(perturbations.squared_error_logits(x), labels)
        np.testing.assert_allclose(found, 1 + (t - target) ** 2 / 2, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("cost", ["squared error", "cross-entropy"])
def test_corrupted_samples_by_hand(noises, cost):
    x, y, t = noises.x, noises.y, noises.t
    residual = t - y if cost == "squared error" else expit(t - 0.5) - y
    if cost == "cross-entropy":  # 1 - expit(t) is 0 in floating point; its sign is not.
        residual = np.where(y == 1, -expit(0.5 - t), residual)
    gradient = residual[:, None] * [-20.0, -40.0]
    direction = np.sign(residual)[:, None] * np.array([-20.0, -40.0]) / np.hypot(20, 40)
    found = noises.document["corrupted"][cost]
    np.testing.assert_allclose(found["UDG"], x + 0.00025 * gradient, atol=2e-5)
    np.testing.assert_allclose(found["SGN"], x + 0.25 * np.sign(gradient), atol=2e-5)
    np.testing.assert_allclose(found["1N"], x + 0.25 * direction, atol=2e-5)


@pytest.mark.slow
def test_measured_steps_of_the_noises_are_those_of_arithmetic(noises):
    measured = noises.document["measured"]
    assert {n: m["towards"] for n, m in measured["squared error"].items()} == {
        "UDG": 0,
        "SGN": 0,
        "1N": 0,
    }
    for name, length in {"SGN": np.sqrt(2) * 0.25, "1N": 0.25}.items():
        towards = measured["cross-entropy"][name]
        assert towards["towards"] == 1
        assert towards["mean_step"] == pytest.approx(length, rel=1e-4)
        # The step across the line: (20 + 40) / |w| of .25 for the signs.
        step = 0.25 * 60 if name == "SGN" else 0.25 * np.hypot(20, 40)
        turned = np.abs(noises.t - 0.5) < step
        assert towards["error"] == pytest.approx(turned.mean(), rel=1e-5) and turned.any()
    # tau |w|^2 = .5 of the distance from the target.
    distance = np.abs(noises.t - noises.y) / np.hypot(20, 40)
    longest = measured["squared error"]["UDG"]["longest_step"]
    assert longest == pytest.approx(0.5 * distance.max(), rel=1e-4)
    assert measured["cross-entropy"]["UDG"]["longest_step"] < 1e-6


@pytest.mark.slow
def test_each_panel_of_fig_27_shows_the_noise_of_its_title(noises):
    axes = perturbations.noises().figure.axes
    assert [panel.get_title()[:3] for panel in axes] == [f"({letter})" for letter in "abcdefgh"]
    for panel in [*axes[:3], *axes[4:7]]:
        name, tau, cost = panel.get_title()[4:].split(", ")
        assert tau == {"UDG": "τ 0.00025"}.get(name, "τ 0.25")
        # Classes 0 and 1 without the noise, then with it.
        shown = np.concatenate([dots.get_offsets() for dots in panel.collections])
        after = np.array(noises.document["corrupted"][cost][name])
        np.testing.assert_allclose(shown, np.concatenate([noises.x, after]), rtol=1e-5)
    for panel, cost in [(axes[3], "squared error"), (axes[7], "cross-entropy")]:
        assert cost in panel.get_title()
        *_, udg, sgn, one = panel.collections
        for arrows, name in [(udg, "UDG"), (sgn, "SGN"), (one, "1N")]:
            first = np.array(noises.document["corrupted"][cost][name])[0] - noises.x[0]
            assert arrows.get_label() == name
            np.testing.assert_allclose([arrows.U[0], arrows.V[0]], first, atol=2e-5)


def test_effect_counts_those_on_the_wrong_side():
    data = perturbations.Points(jnp.array([[0.0, 0.0], [0.0, -2.0]]), jnp.array([0, 1]))
    across = jnp.array([[0.0, -1.1], [0.0, -2.5]])  # The first crosses x1 = -1.0125.
    assert perturbations.effect(data, across) == {
        "mean_step": pytest.approx(0.8),
        "longest_step": pytest.approx(1.1),
        "towards": 0.5,
        "error_before": 0,
        "error": 0.5,
    }


def by_hand(name, a, target):
    """The costs of N arguments a in NumPy."""
    p = expit(a)
    return {
        "squared, sigmoid": ((target - p) ** 2).sum() / 2,
        "squared, linear": ((target - a) ** 2).sum() / 2,
        "normalized": ((target - p) ** 2).sum() / 200,
        "rms, sigmoid": np.sqrt(np.mean((target - p) ** 2)),
        "rms, linear": np.sqrt(np.mean((target - a) ** 2)),
        # Eq. 60 with brackets; expit(-a) is 1 - p without cancellation.
        "cross-entropy": -np.mean(target * np.log(p) + (1 - target) * np.log(expit(-a))),
    }[name]


@pytest.fixture(scope="module")
def surfaces(document):
    """name -> (x, targets, entry of the document)."""
    drawn = {
        "fig29": ("squared, sigmoid", "squared, linear"),
        "fig30": ("squared, sigmoid", "normalized"),
        "fig31": ("rms, sigmoid", "rms, linear"),
        "fig32": ("cross-entropy",),
    }
    return {
        name: (np.array(found["x"]), np.array(found["target"]), entry)
        for figure, names in drawn.items()
        for found in [document(figure)]
        for name, entry in zip(names, found["surfaces"].values(), strict=True)
    }


NAMES = ["squared, sigmoid", "squared, linear", "normalized", "rms, sigmoid", "rms, linear"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "cross-entropy"])
def test_surfaces(surfaces, name):
    x, target, entry = surfaces[name]
    grid = np.linspace(-8, 8, 41)
    expected = np.array([[by_hand(name, w * x + b, target) for w in grid] for b in grid])
    np.testing.assert_allclose(entry["cost"], expected, rtol=2e-5)
    row, column = np.unravel_index(expected.argmin(), expected.shape)
    lowest = entry["lowest"]
    assert (lowest["w"], lowest["b"]) == (pytest.approx(grid[column]), pytest.approx(grid[row]))
    t = grid[column] * x + grid[row]
    errors = np.mean(((t if "linear" in name else expit(t)) >= 0.5) != target)
    assert entry["error_at_lowest"] == errors > 0  # The classes overlap.


def hessian(cost, p, step=1e-3):
    """Of a function of (w, b), by central differences."""
    basis = step * np.eye(2)
    second = lambda u, v: cost(p + u + v) - cost(p + u - v) - cost(p - u + v) + cost(p - u - v)
    return np.array([[second(u, v) for v in basis] for u in basis]) / (4 * step**2)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "cross-entropy"])
def test_curvature_is_that_of_finite_differences(surfaces, name):
    x, target, entry = surfaces[name]
    where = entry["smallest_curvature"]
    cost = lambda p: by_hand(name, p[0] * x + p[1], target)
    smallest = np.linalg.eigvalsh(hessian(cost, np.array([where["w"], where["b"]])))[0]
    assert where["value"] == pytest.approx(smallest, rel=1e-3, abs=1e-6)


@pytest.mark.slow
def test_cross_entropy_is_convex_contrary_to_maronas_2016(surfaces):
    x, _, entry = surfaces["cross-entropy"]
    assert entry["convex"] and entry["negative_curvature_share"] == 0
    # Mean of p (1 - p) (x, 1)(x, 1)': no direction has a negative curvature.
    design, curvature = np.stack([x, np.ones_like(x)], axis=1), []
    for w in np.linspace(-8, 8, 41):
        for b in np.linspace(-8, 8, 41):
            a = w * x + b
            weights = expit(a) * expit(-a)
            curvature.append(np.linalg.eigvalsh((design * weights[:, None]).T @ design / len(x)))
    smallest = np.min(curvature)
    assert smallest > 0
    assert entry["smallest_curvature"]["value"] == pytest.approx(smallest, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "convex"), [(name, "linear" in name) for name in NAMES] + [("cross-entropy", True)]
)
def test_convexity_by_chords(surfaces, name, convex):
    """No chord of a convex function lies below it; of the others, many do."""
    x, target, entry = surfaces[name]
    ends = np.random.default_rng(0).uniform(-8, 8, (2000, 2, 2))
    cost = lambda p: by_hand(name, p[0] * x + p[1], target)
    below = [cost(a) / 2 + cost(b) / 2 < cost((a + b) / 2) * (1 - 1e-12) for a, b in ends]
    assert entry["convex"] is convex
    assert any(below) is not convex


@pytest.mark.slow
def test_only_the_cross_entropy_moves_the_optimum(surfaces):
    lowest = {name: entry["lowest"] for name, (_, _, entry) in surfaces.items()}
    place = {name: (found["w"], found["b"]) for name, found in lowest.items()}
    assert place["squared, sigmoid"] == place["normalized"] == place["rms, sigmoid"]
    assert place["squared, linear"] == place["rms, linear"]
    x, target, _ = surfaces["squared, linear"]
    best, *_ = np.linalg.lstsq(np.stack([x, np.ones_like(x)], axis=1), target)
    np.testing.assert_allclose(place["squared, linear"], best, atol=0.2)  # half a cell
    ratio = lowest["squared, sigmoid"]["cost"] / lowest["normalized"]["cost"]
    assert ratio == pytest.approx(100, rel=1e-5)


def colors(channels):
    rng = np.random.default_rng(channels)
    return rng.integers(0, 256, (6, 5, 4, channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_has_a_row_for_each_class(channels):
    images, labels = colors(channels) / np.float32(255), np.array([1, 0, 1, 1, 0, 1])
    figure, document, _ = samples.grid(images, labels, title="t", columns=3)
    assert document["examples"] == {"0": [1, 4], "1": [0, 2, 3]}
    (shown,) = figure.axes[0].images
    sheet = np.asarray(shown.get_array()).reshape(11, 14, channels)
    np.testing.assert_allclose(sheet[:5, 5:9], images[4], rtol=1e-6)
    np.testing.assert_allclose(sheet[6:, 10:], images[3], rtol=1e-6)
    assert (sheet[:5, 10:] == 1).all()  # class 0 has two examples


@pytest.mark.parametrize("channels", [1, 3])
def test_close_up_has_the_image_pixel_by_pixel(channels):
    image = colors(channels)[0]
    figure, document, _ = samples.close_up(image / np.float32(255), title="t")
    png = io.BytesIO()
    figure.savefig(png)
    page = np.asarray(Image.open(png).convert("RGB")).astype(int)
    # It stands alone on white, right of the middle and above the text.
    height, width, _ = page.shape
    right = page[: int(0.85 * height), int(0.55 * width) :]
    rows, columns = np.nonzero((right != 255).any(axis=-1) & (np.arange(len(right)) > 150)[:, None])
    found = right[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    expected = np.repeat(image, 3 // channels, axis=-1).astype(int)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1)
    np.testing.assert_array_equal(document["bytes"], image)


@pytest.mark.slow
def test_fig_10_and_11_are_real_digits(document):
    examples = document("fig10")["examples"]
    assert list(examples) == [str(digit) for digit in range(10)]
    assert all(len(indices) == 10 for indices in examples.values())
    assert "3.2 mm" in document("fig11")["caption"]  # 28 / 220.5 inches of 25.4 mm


def linear_run():
    """A linear model of 3 x 3 images and data of which it misreads some."""
    rng = np.random.default_rng(3)
    w = rng.normal(size=(9, 4)).astype(np.float32)
    x = rng.uniform(size=(50, 3, 3, 1)).astype(np.float32)
    y = (x.reshape(50, 9) @ w).argmax(1).astype(np.int32)
    y[:5] = (y[:5] + 1) % 4
    source = {"name": "dots", "source": "drawn", "sha256": {}, "sizes": {"train": 50}}
    attack = {"name": "fgsm", "norm": "linf", "eps": 0.00045}
    about = {"experiment": "linear", "seed": 0, "epochs": 1, "data": source}
    about["objective"] = {"name": "ladder", "attack": attack}
    return w, SimpleNamespace(
        logits_fn=lambda x: x.reshape(len(x), -1) @ w,
        variables={},
        dataset=SimpleNamespace(test=Arrays(x, y)),
        about=about,
    )


@pytest.mark.slow
def test_error_rates_and_drawn_digits_of_a_linear_model():
    w, run = linear_run()
    x, y = run.dataset.test
    flat = x.reshape(50, 9).astype(float)
    exp = np.exp(flat @ w)
    gradient = (exp / exp.sum(1, keepdims=True) - np.eye(4)[y]) @ w.T
    noisy = attacks.sign_noise(None, jnp.array(x), None, eps=0.25, key=jax.random.key(0))
    error = lambda rows: np.mean((np.asarray(rows).reshape(50, 9) @ w).argmax(1) != y)
    figure, document, _ = robustness.noisy_digit(run)
    assert document["test_error"] == {
        "fgsm": pytest.approx(error(flat + 0.25 * np.sign(gradient))),
        "sign_noise": pytest.approx(error(noisy)),
        "clean": pytest.approx(0.1),
    }
    assert document["test_error"]["fgsm"] > document["test_error"]["sign_noise"] > 0.1
    shown = [axes.images[0] for axes in figure.axes]
    assert {image.get_clim() for image in shown} == {(-0.25, 1.25)}  # black and white
    first, sign = x[0, ..., 0], np.sign(gradient[0]).reshape(3, 3)
    expected = [first, 0.25 * sign, first + 0.25 * sign, first, noisy[0, ..., 0] - first]
    for image, values in zip(shown, [*expected, noisy[0, ..., 0]], strict=True):
        np.testing.assert_allclose(image.get_array(), values, atol=1e-6)
    assert "10.00 % clean; Maronas 2016 has 6.87 % under FGSM" in document["caption"]
    assert "of linear, seed 0, trained with fgsm of linf 0.00045: " in document["caption"]


@pytest.mark.slow
def test_fgsm_through_batch_statistics_is_judged_without_them():
    w, run = linear_run()
    run.variables = {"batch_stats": {}}

    def apply(variables, x, *, train):
        assert train
        return SimpleNamespace(logits=run.logits_fn(x - x.mean(0, keepdims=True)))

    run.apply = apply
    x, y = run.dataset.test
    flat = x.reshape(50, 9).astype(float)
    exp = np.exp((flat - flat.mean(0)) @ w)
    gradient = (exp / exp.sum(1, keepdims=True) - np.eye(4)[y]) @ w.T
    gradient -= gradient.mean(0)  # A row moves the mean of all.
    expected = np.mean(((flat + 0.25 * np.sign(gradient)) @ w).argmax(1) != y)
    errors, _ = robustness.error_rates(run)
    assert errors["fgsm_of_batches"] == pytest.approx(expected) != errors["fgsm"]

"""Each step against its formula in float64, scikit-learn and Pillow; fitted to training data."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import zoom
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from adv_jax.data import DataError, preprocessing
from adv_jax.types import UserError

REGULARIZER = 0.1


@pytest.fixture(scope="module")
def images():
    """u8: 2,500 images [4, 5, 3] to train on, 300 to test, of which the values are correlated."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(2800, 20)) @ rng.normal(size=(20, 60)) * 15 + 120
    mixed = np.clip(mixed + rng.normal(size=mixed.shape), 0, 255).astype(np.uint8)
    return np.split(mixed.reshape(-1, 4, 5, 3), [2500])


@pytest.fixture(scope="module")
def parts(images):
    """`images` as f32 in [0, 1] and with a spread near 1, as after contrast normalization."""
    return [part.astype(np.float32) / 50 - 2 for part in images]


def rows(x):
    return x.reshape(len(x), -1).astype(np.float64)


def exact_zca(train):
    """(mean f64[D], matrix f64[D, D]) by scikit-learn's PCA, which divides by N - 1."""
    n = len(train)
    pca = PCA(svd_solver="full").fit(rows(train))
    scale = 1 / np.sqrt(pca.explained_variance_ * (n - 1) / n + REGULARIZER)
    return pca.mean_, (pca.components_.T * scale) @ pca.components_


@pytest.mark.slow
def test_zca_equals_pca_whitening_turned_back_for_training_and_test(parts):
    transform = preprocessing.zca(regularizer=REGULARIZER)(parts[0])
    mean, matrix = exact_zca(parts[0])
    for part in parts:
        found = transform.apply(part)
        assert (found.dtype, found.shape) == (np.float32, part.shape)
        np.testing.assert_allclose(rows(found), (rows(part) - mean) @ matrix, atol=1e-5)


def test_the_covariance_after_zca_follows_from_the_regularizer(parts):
    train = parts[0]
    white = rows(preprocessing.zca(regularizer=REGULARIZER)(train).apply(train))
    before = np.cov(rows(train), rowvar=False, bias=True)
    expected = before @ np.linalg.inv(before + REGULARIZER * np.eye(60))
    np.testing.assert_allclose(np.cov(white, rowvar=False, bias=True), expected, atol=1e-5)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-6)
    # With a small regularizer the covariance is nearly the identity.
    nearly_white = rows(preprocessing.zca(regularizer=1e-6)(train).apply(train))
    np.testing.assert_allclose(np.cov(nearly_white, rowvar=False, bias=True), np.eye(60), atol=2e-3)


def test_zca_in_float32_is_as_accurate_as_documented(parts):
    train, test = parts
    mean, matrix = exact_zca(train)
    centered = rows(test) - mean
    u = 2.0**-24
    bound = u * ((60 + 2) * np.abs(centered) + np.abs(mean)) @ np.abs(matrix)
    found = preprocessing.zca(regularizer=REGULARIZER)(train).apply(test)
    error = np.abs(rows(found) - centered @ matrix)
    assert (error <= bound).all()
    assert 0 < error.max() < 1e-5


def test_zca_fits_in_float64_data_that_float32_cannot_resolve(parts):
    """Data far from 0: float32 products lose all digits of the covariance."""
    train = parts[0] + np.float32(1000)
    transform = preprocessing.zca(regularizer=REGULARIZER)(train)
    np.testing.assert_allclose(transform.matrix, exact_zca(train)[1], atol=1e-5)


@pytest.mark.parametrize("regularizer", [0.0, 1e-13])
def test_a_covariance_that_is_singular_to_rounding_is_refused(parts, regularizer):
    twice = np.concatenate([parts[0], parts[0]], axis=1)
    with pytest.raises(
        DataError, match=f"regularizer of zca must be .* singular, got {regularizer}"
    ):
        preprocessing.zca(regularizer=regularizer)(twice)


@pytest.mark.parametrize("norm", [1.0, 55.0])
def test_contrast_norm_equals_the_formula_in_any_unit(images, norm):
    test = images[1]
    fit = preprocessing.contrast_norm(norm=norm)
    bytes_, pixels = test.astype(np.float32), test / np.float32(255)
    found = fit(pixels).apply(pixels)
    assert (found.dtype, found.shape) == (np.float32, test.shape)
    for image, one in zip(test.astype(float), found, strict=True):
        centered = image - image.mean()
        expected = centered / (np.sqrt((centered**2).sum()) / norm)
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-6 * norm)
    np.testing.assert_allclose(np.linalg.norm(rows(found), axis=1), norm, rtol=1e-6)
    np.testing.assert_allclose(rows(found).mean(1), 0, atol=1e-7 * norm)
    np.testing.assert_allclose(fit(bytes_).apply(bytes_), found, atol=1e-6 * norm)


@pytest.mark.parametrize("color", range(0, 256, 15))
def test_contrast_norm_maps_an_image_of_one_color_to_zero(color):
    x = np.full((2, 32, 32, 3), color, np.uint8) / np.float32(255)
    assert not preprocessing.contrast_norm()(x).apply(x).any()


def test_contrast_norm_divides_by_1_without_contrast():
    x = np.array([[-4e-8, 4e-8], [-4e-7, 4e-7]])  # of norm 5.7e-8 and 5.7e-7; 1e-8 * 55 is 5.5e-7
    expected = [[-4e-8, 4e-8], [-55 / 2**0.5, 55 / 2**0.5]]
    np.testing.assert_allclose(preprocessing.contrast_norm()(x).apply(x), expected, rtol=1e-6)


def test_standardize_equals_scikit_learn_fitted_on_the_training_set(parts):
    train, test = (part.copy() for part in parts)
    train[:, 0, 0, 0] = 0.7  # A border that is always black, say.
    reference = StandardScaler().fit(rows(train))
    transform = preprocessing.standardize()(train)
    for part in (train, test):
        np.testing.assert_allclose(
            rows(transform.apply(part)), reference.transform(rows(part)), rtol=1e-5, atol=1e-6
        )
    assert not transform.apply(train)[:, 0, 0, 0].any()


def test_gray_equals_the_luma_of_pillow(images):
    x = images[1] / np.float32(255)
    transform = preprocessing.gray()(x)
    found = transform.apply(x)
    assert (found.dtype, found.shape) == (np.float32, (300, 4, 5, 1))
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images[1]])
    np.testing.assert_allclose(found[..., 0] * 255, expected, atol=0.502)  # Pillow rounds to bytes.
    white = np.ones((1, 1, 1, 3), np.float32)
    assert transform.apply(white) == 1 and transform.bounds((0.0, 1.0)) == (0.0, 1.0)


@pytest.mark.parametrize("name", ["contrast_norm", "standardize", "zca"])
def test_a_step_that_mixes_or_scales_values_apart_removes_the_bounds(parts, name):
    transform = getattr(preprocessing, name)()(parts[0])
    assert transform.bounds((0.0, 1.0)) is None and transform.bounds(None) is None


@pytest.mark.parametrize("name", preprocessing.__all__)
def test_a_transform_treats_rows_alone_and_leaves_the_input(parts, name):
    train = parts[0]
    before = train.copy()
    transform = getattr(preprocessing, name)()(train)
    all_at_once = transform.apply(train)
    some = transform.apply(train[990:1010])
    np.testing.assert_allclose(some, all_at_once[990:1010], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(train, before)


@pytest.mark.parametrize("name", preprocessing.__all__)
def test_a_transform_is_restored_from_its_arrays(parts, name):
    transform = getattr(preprocessing, name)()(parts[0])
    arrays = transform._asdict()
    again = preprocessing.restored(name, arrays)
    np.testing.assert_array_equal(again.apply(parts[1]), transform.apply(parts[1]))
    with pytest.raises(DataError, match=f"arrays of {name} must be .*'other'"):
        preprocessing.restored(name, arrays | {"other": np.zeros(1)})


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("blend", {"cells": 1}, "cells must be a whole number of at least 2, got 1"),
        ("blend", {"cells": 2.5}, "cells must be .* got 2.5"),
        ("blend", {"strength": 1.5}, "strength must be a number from 0 to 1, got 1.5"),
        ("contrast_norm", {"norm": 0}, "norm must be a finite number above 0"),
        ("contrast_norm", {"norm": float("inf")}, "norm must be .* got inf"),
        ("contrast_norm", {"norm": "l2"}, "norm must be .* got 'l2'"),
        ("zca", {"regularizer": -0.1}, "regularizer must be a finite number of at least 0"),
        ("contrast_norm", {"norm": 10**400}, "norm must be a finite number above"),
        ("zca", {"regularizer": True}, "regularizer must be .* got True"),
        ("zca", {"regularizer": np.True_}, "regularizer must be .* got True"),
        ("pixel_scale", {"mean": float("nan")}, "mean must be a finite number, got"),
        ("pixel_scale", {"divisor": 0}, "divisor must be a finite number above 0"),
    ],
)
def test_bad_settings_are_refused_before_any_data_are_seen(name, settings, says):
    with pytest.raises(UserError, match=says):
        getattr(preprocessing, name)(**settings)


@pytest.mark.parametrize(("mean", "divisor"), [(0.0, 256.0), (117.0, 256.0), (128.0, 128.0)])
def test_pixels_in_other_units_have_the_printed_range(mean, divisor):
    # Huang et al.: MNIST / 256 ends at 255/256 = .99609, (CIFAR - 117) / 256 at [-.457, .539].
    levels = (np.arange(256, dtype=np.float32) / 255).reshape(-1, 1, 1, 1)
    transform = preprocessing.pixel_scale(mean=mean, divisor=divisor)(levels)
    x = transform.apply(levels).ravel()
    np.testing.assert_allclose(x, (np.arange(256) - mean) / divisor, atol=1e-7)
    assert transform.bounds((0.0, 1.0)) == pytest.approx((x[0], x[-1]), abs=1e-7)
    assert transform.bounds(None) is None


@pytest.mark.parametrize("of", [np.float32, np.int64, np.uint8])
def test_settings_may_be_scalars_of_numpy(parts, of):
    for name, setting in [
        ("blend", {"cells": of(4) if of is not np.float32 else 4, "strength": of(1)}),
        ("contrast_norm", {"norm": of(3)}),
        ("zca", {"regularizer": of(1)}),
        ("pixel_scale", {"mean": of(2), "divisor": of(4)}),
    ]:
        plain = {key: int(value) for key, value in setting.items()}
        found, expected = (
            getattr(preprocessing, name)(**settings)(parts[0]).apply(parts[1])
            for settings in (setting, plain)
        )
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", preprocessing.__all__)
def test_inputs_that_are_no_floats_or_no_rows_are_refused(images, parts, name):
    fit, says = getattr(preprocessing, name)(), rf"inputs of {name} must be floats \[N, \*D\], got "
    for x in (images[1], parts[1][:, 0, 0, 0]):
        with pytest.raises(DataError, match=says):
            fit(x)
        with pytest.raises(DataError, match=says):
            fit(parts[1]).apply(x)
    with pytest.raises(DataError, match=f"inputs of {name} must be an array .* got masked float32"):
        fit(np.ma.array(parts[1]))


@pytest.mark.parametrize("name", preprocessing.__all__)
@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, ">f4", np.float64])
def test_equal_values_of_any_floats_have_equal_results(parts, name, dtype):
    # Multiples of 1/32 below 8, which all of these represent.
    x = np.random.default_rng(0).integers(-127, 128, parts[1].shape).astype(np.float32) / 32
    fit = getattr(preprocessing, name)()
    found, expected = (fit(given).apply(given) for given in (x.astype(dtype), x))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", preprocessing.__all__)
def test_a_fit_needs_a_row_and_a_transform_does_not(parts, name):
    fit, none = getattr(preprocessing, name)(), parts[1][:0]
    with pytest.raises(DataError, match=f"inputs of {name} must have at least one row of at least"):
        fit(none)
    assert len(fit(parts[0]).apply(none)) == 0


@pytest.mark.parametrize("name", ["standardize", "zca"])
def test_a_transform_of_other_values_than_those_of_its_fit_is_refused(parts, name):
    transform = getattr(preprocessing, name)()(parts[0])
    says = rf"inputs of {name} must have rows of 60 values, .*, got the shape \(1, 5, 3\)"
    with pytest.raises(DataError, match=says):
        transform.apply(parts[1][:, :1])
    assert transform.apply(rows(parts[1])).shape == (300, 60)


@pytest.mark.parametrize("name", ["standardize", "zca"])
@pytest.mark.parametrize(("value", "found"), [(np.nan, "nan"), (-np.inf, "-inf")])
def test_a_fit_refuses_values_that_are_not_finite(parts, name, value, found):
    train = parts[1].copy()
    train[3, 1, 1, 1] = value
    with pytest.raises(DataError, match=f"inputs of {name} must have a finite mean, got {found}"):
        getattr(preprocessing, name)()(train)


@pytest.mark.parametrize(
    ("fit", "value", "found"),
    [
        (preprocessing.pixel_scale(divisor=1e-45), 1.0, "inf"),
        (preprocessing.pixel_scale(), 1e37, "inf"),
        (preprocessing.contrast_norm(), np.nan, "nan"),
    ],
)
def test_results_that_are_not_finite_are_refused(parts, fit, value, found):
    x = np.full_like(parts[1], value)
    with pytest.raises(DataError, match=f"must give numbers that float32 holds, got {found}$"):
        fit(parts[0]).apply(x)


def test_a_constant_value_that_float64_rounds_becomes_zero():
    x = np.column_stack([np.full(777, 0.1), np.arange(777.0)])
    assert x.mean(0)[0] != 0.1  # Rounded.
    found = preprocessing.standardize()(x).apply(x)
    np.testing.assert_array_equal(found[:, 0], 0)
    np.testing.assert_allclose(found, StandardScaler().fit_transform(x), atol=1e-6)


def test_an_unknown_transform_is_not_restored():
    with pytest.raises(UserError, match="name must be one of blend, .*, zca, got 'zzz'"):
        preprocessing.restored("zzz", {})


def test_images_of_other_channels_than_those_of_the_fit_are_refused(parts):
    transform = preprocessing.gray()(parts[0])
    with pytest.raises(DataError, match=r"inputs of gray must .* got the shape \(4, 5, 6\)"):
        transform.apply(np.concatenate([parts[1]] * 2, axis=-1))


def test_gray_refuses_images_of_one_channel():
    with pytest.raises(DataError, match=r"inputs of gray must be .*got the shape \(28, 28, 1\)"):
        preprocessing.gray()(np.zeros((2, 28, 28, 1), np.float32))


def background(image, **settings):
    """The background of `blend`, f32[H, W], for an image f32[H, W, 1] of black pixels."""
    return preprocessing.blend(**settings)(image[None]).apply(image[None])[0, :, :, 0]


def test_a_background_is_a_linear_interpolation_of_a_grid():
    # Where a row of the grid lies, every third pixel, SciPy's linear zoom gives the others.
    found = background(np.zeros((10, 7, 1), np.float32), cells=4)
    grid = found[::3, ::2]
    np.testing.assert_allclose(found, zoom(np.float64(grid), (2.5, 1.75), order=1), atol=1e-6)
    assert grid.min() >= 0 and grid.max() < 1 and len(np.unique(grid)) == 16


def test_an_image_is_blended_by_the_absolute_difference():
    dark = np.zeros((8, 8, 1), np.float32)
    bright = np.ones((8, 8, 1), np.float32)
    np.testing.assert_allclose(background(dark, strength=0.5), background(dark) / 2, atol=1e-6)
    pair = np.stack([dark, bright])
    found = preprocessing.blend()(pair).apply(pair)
    own = preprocessing.blend()(bright[None]).apply(bright[None])[0]
    np.testing.assert_array_equal(found[1], own)
    assert not np.allclose(1 - found[1], found[0])  # Each image has a background of its own.
    assert preprocessing.blend(strength=0.5)(pair).bounds((-1.0, 1.0)) == (0.0, 1.5)


def test_backgrounds_are_uniform_over_many_images():
    x = np.random.default_rng(0).uniform(size=(2000, 4, 4, 1)).astype(np.float32)
    transform = preprocessing.blend(cells=4)(x)
    corner = np.concatenate([transform._grid(row).ravel() for row in rows(x).astype(np.float32)])
    np.testing.assert_allclose(np.quantile(corner, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.01)


def test_blend_refuses_inputs_that_are_not_images():
    with pytest.raises(DataError, match=r"inputs of blend must be images, got the shape \(54,\)"):
        preprocessing.blend()(np.zeros((2, 54), np.float32))

"""data.augmentation: crops, mirror images, affine maps and morphology, against SciPy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from marks import exhaustive_after

from adv_jax.data import DataError, augmentation
from adv_jax.types import UserError

N = 4000


def numbered(height, width):
    """N equal images f32[N, height, width, 2] whose values encode row and column."""
    image = np.arange(height * width * 2, dtype=np.float32).reshape(height, width, 2)
    return jnp.asarray(np.repeat(image[None], N, axis=0))


def test_a_random_crop_takes_every_part_of_the_image_equally_often():
    x = numbered(5, 4)
    found = np.asarray(
        jax.jit(augmentation.random_crop, static_argnums=2)(jax.random.key(0), x, (3, 3, 2))
    )
    image = np.asarray(x[0])
    parts = [image[i : i + 3, j : j + 3] for i in range(3) for j in range(2)]
    counts = np.array([(found == part).all(axis=(1, 2, 3)).sum() for part in parts])
    assert counts.sum() == N
    # Binomial(N, 1/6): sd 24.
    assert np.all(np.abs(counts - N / 6) < 5 * 24)


def test_a_center_crop_drops_the_odd_pixel_at_the_end():
    x = numbered(6, 5)
    np.testing.assert_array_equal(augmentation.center_crop(x, (3, 3, 2)), x[:, 1:4, 1:4])
    np.testing.assert_array_equal(augmentation.center_crop(x, (6, 5, 2)), x)


def test_images_are_mirrored_half_of_the_time():
    x = numbered(2, 3)
    found = np.asarray(augmentation.random_mirror(jax.random.key(1), x))
    same, turned = (
        (found == np.asarray(image)).all(axis=(1, 2, 3)).sum() for image in (x[0], x[0, :, ::-1])
    )
    assert same + turned == N and abs(same - N / 2) < 5 * 32  # sd sqrt(N) / 2


def random_images(size=2, shape=(7, 6, 2), seed=0):
    return np.random.default_rng(seed).uniform(size=(size, *shape)).astype(np.float32)


affine, dilated, eroded = (
    jax.jit(fn, static_argnums=static)
    for fn, static in (
        (augmentation.affine, None),
        (augmentation.dilated, 1),
        (augmentation.eroded, 1),
    )
)


def test_an_affine_map_is_that_of_scipy():
    x, rng = random_images(), np.random.default_rng(1)
    matrices = np.eye(2) + rng.normal(0, 0.4, size=(2, 2, 2))
    found = affine(x, jnp.float32(matrices))
    center = (np.array([7, 6]) - 1) / 2
    for image, matrix, mapped in zip(x, matrices, found, strict=True):
        for channel in range(2):
            expected = scipy.ndimage.affine_transform(
                np.float64(image[..., channel]),
                matrix,
                center - matrix @ center,
                order=1,
                mode="grid-constant",
            )
            np.testing.assert_allclose(mapped[..., channel], expected, atol=1e-5)


def test_affine_maps_of_the_grid_are_exact_and_compose():
    x = random_images(shape=(6, 6, 2))
    quarter = jnp.float32([[[0, -1], [1, 0]]] * 2)
    once = affine(x, quarter)
    np.testing.assert_allclose(once, np.rot90(x, 1, (2, 1)), atol=1e-6)
    np.testing.assert_allclose(affine(once, quarter), x[:, ::-1, ::-1], atol=1e-6)
    np.testing.assert_allclose(affine(x, jnp.float32([np.eye(2)] * 2)), x, atol=1e-6)


@pytest.mark.slow
def test_random_affine_maps_stay_inside_their_limits_and_reach_them():
    # A single pixel right of the center turns with the image and moves with its size.
    x = np.zeros((2000, 41, 41, 1), np.float32)
    x[:, 20, 30] = 1

    def moments(settings):
        off = {"rotation": 0.0, "zoom": 0.0, "shear": 0.0}
        found = augmentation.random_affine(jax.random.key(0), jnp.asarray(x), **off | settings)
        weights = np.asarray(found)[..., 0]
        grid = np.mgrid[:41, :41] - 20.0
        return np.einsum("bij,kij->kb", weights, grid) / weights.sum((1, 2))

    down, right = moments({"rotation": 30.0})
    angles = np.rad2deg(np.arctan2(down, right))
    assert np.abs(angles).max() == pytest.approx(30, abs=1)
    assert abs(angles.mean()) < 5 * 30 / np.sqrt(3 * 2000)
    _, right = moments({"zoom": 0.2})
    assert right.min() == pytest.approx(8, abs=0.3) and right.max() == pytest.approx(12, abs=0.3)
    x = np.swapaxes(x, 1, 2)  # below the center: a row moves sideways by slope times its distance
    _, right = moments({"shear": 0.3})
    assert np.abs(right).max() == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("size", exhaustive_after(2, [2, 3, 1, 4]))
def test_dilation_and_erosion_are_those_of_scipy(size):
    x = random_images()
    for ours, scipys in (
        (dilated, scipy.ndimage.grey_dilation),
        (eroded, scipy.ndimage.grey_erosion),
    ):
        np.testing.assert_array_equal(ours(x, size), scipys(x, (1, size, size, 1)))


@given(st.integers(0, 1000), st.sampled_from([2, 3]))
def test_opening_and_closing_bracket_the_image_and_are_idempotent(seed, size):
    x = np.round(random_images(seed=seed), 1)
    opened = lambda x: np.asarray(dilated(eroded(x, size), size))
    closed = lambda x: np.asarray(eroded(dilated(x, size), size))
    assert (opened(x) <= x).all() and (x <= closed(x)).all()
    np.testing.assert_array_equal(opened(opened(x)), opened(x))
    np.testing.assert_array_equal(closed(closed(x)), closed(x))
    # Erosion of an image is dilation of its negative, turned by 180 degrees.
    turned = (1 - x)[:, ::-1, ::-1]
    np.testing.assert_allclose(
        1 - np.asarray(dilated(turned, size))[:, ::-1, ::-1], eroded(x, size), atol=1e-6
    )


@pytest.mark.slow
@given(st.integers(0, 1000))
def test_morphology_commutes_with_shifts_away_from_the_border(seed):
    x = np.pad(random_images(seed=seed, shape=(4, 4, 1)), ((0, 0), (3, 3), (3, 3), (0, 0)))
    moved = np.roll(x, (1, -1), (1, 2))
    for form in (dilated, eroded):
        expected = np.roll(form(x, 3), (1, -1), (1, 2))
        np.testing.assert_array_equal(form(moved, 3), expected)


@pytest.mark.slow
def test_random_morphology_takes_each_form_equally_often():
    image = random_images(1, (5, 5, 1))
    x = np.repeat(image, N, axis=0)
    found = np.asarray(augmentation.random_morphology(jax.random.key(0), jnp.asarray(x), 2))
    pair, forms = (1, 2, 2, 1), scipy.ndimage
    wide, thin = forms.grey_dilation(image, pair), forms.grey_erosion(image, pair)
    opened, closed = forms.grey_opening(image, pair), forms.grey_closing(image, pair)
    counts = [(found == form).all((1, 2, 3)).sum() for form in (image, wide, thin, opened, closed)]
    assert sum(counts) == N
    assert np.abs(np.array(counts) - N / 5).max() < 5 * 25.3  # Binomial(N, 1/5): sd 25.3


def test_settings_that_are_off_change_nothing():
    x = random_images()
    found = augmentation.augmented(jax.random.key(0), x, x.shape[1:], **augmentation.OFF)
    np.testing.assert_array_equal(found, x)
    table = x.reshape(2, -1)
    found = augmentation.augmented(jax.random.key(0), table, table.shape[1:], **augmentation.OFF)
    np.testing.assert_array_equal(found, table)


CROPS = {
    "center_crop": augmentation.center_crop,
    "random_crop": lambda x, shape: augmentation.random_crop(jax.random.key(0), x, shape),
    "augmented": lambda x, shape: augmentation.augmented(jax.random.key(0), x, shape),
}


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize(
    "shape", [(12, 12, 2), (9, 10, 2), (-1, 9, 2), (0, 9, 2), (9, 9, 1), (9, 9), (2.5, 9, 2)]
)
def test_a_crop_that_does_not_fit_into_the_images_is_refused(crop, shape):
    says = r"shape must be \(height, width, 2\) from \(1, 1, 2\) to \(9, 9, 2\), got \("
    with pytest.raises(DataError, match=says):
        CROPS[crop](jnp.zeros((5, 9, 9, 2)), shape)


def test_a_crop_may_be_as_large_as_the_padded_images():
    x = jnp.ones((2, 3, 3, 1))
    found = augmentation.augmented(jax.random.key(0), x, [np.int64(5), 5, 1], pad=1)
    np.testing.assert_array_equal(found, np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))
    with pytest.raises(DataError, match=r"to \(5, 5, 1\), got \(6, 5, 1\)"):
        augmentation.augmented(jax.random.key(0), x, (6, 5, 1), pad=1)


KEY = jax.random.key(0)
ON_IMAGES = {
    **CROPS,
    "random_mirror": lambda x, shape: augmentation.random_mirror(KEY, x),
    "random_affine": lambda x, shape: augmentation.random_affine(
        KEY, x, rotation=9.0, zoom=0.0, shear=0.0
    ),
    "affine": lambda x, shape: augmentation.affine(x, jnp.zeros((2, 2, 2))),
    "random_morphology": lambda x, shape: augmentation.random_morphology(KEY, x, 2),
    "dilated": lambda x, shape: augmentation.dilated(x, 2),
    "eroded": lambda x, shape: augmentation.eroded(x, 2),
    "pad": lambda x, shape: augmentation.augmented(KEY, x, shape, pad=1),
}


@pytest.mark.parametrize("fn", ON_IMAGES)
@pytest.mark.parametrize(
    ("x", "found"),
    [
        (np.zeros((2, 9, 9), np.float32), "float32[2, 9, 9]"),
        (np.zeros(9), "float64[9]"),
    ],
)
def test_all_but_batches_of_images_are_refused(fn, x, found):
    says = r"^x must be images (of floats f)?\[B, H, W, C\], got " + re.escape(found)
    with pytest.raises(DataError, match=says):
        ON_IMAGES[fn](x, (3, 3, 1))


@pytest.mark.parametrize(
    "fn", ["random_affine", "affine", "random_morphology", "dilated", "eroded"]
)
def test_bytes_are_refused_where_they_would_wrap(fn):
    says = r"^x must be images of floats f\[B, H, W, C\], got uint8\[2, 9, 9, 1\]$"
    with pytest.raises(DataError, match=says):
        ON_IMAGES[fn](np.zeros((2, 9, 9, 1), np.uint8), (3, 3, 1))


def test_bytes_are_cropped_and_mirrored():
    x = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)
    np.testing.assert_array_equal(augmentation.center_crop(x, (2, 2, 1)), x[:, 1:3, 1:3])
    mirrored = np.asarray(augmentation.random_mirror(KEY, x))
    for image, found in zip(x, mirrored, strict=True):
        assert (found == image).all() or (found == image[:, ::-1]).all()


ON_KEYS = {
    "augmented": lambda key, x: augmentation.augmented(key, x, x.shape[1:]),
    "random_crop": lambda key, x: augmentation.random_crop(key, x, (2, 2, 2)),
    "random_mirror": augmentation.random_mirror,
    "random_affine": lambda key, x: augmentation.random_affine(
        key, x, rotation=9.0, zoom=0.0, shear=0.0
    ),
    "random_morphology": lambda key, x: augmentation.random_morphology(key, x, 2),
}


@pytest.mark.parametrize("fn", ON_KEYS)
@pytest.mark.parametrize("key", [None, 0, jax.random.split(KEY, 3)])
def test_a_key_that_is_not_one_key_is_refused(fn, key):
    with pytest.raises(UserError, match=r"^key must be one key of jax.random, got .*$"):
        ON_KEYS[fn](key, random_images())


@pytest.mark.parametrize("shape", [(3, 2, 2), (2, 2), (2, 3, 3)])
def test_matrices_of_another_batch_are_refused(shape):
    says = r"^matrix must be f32\[2, 2, 2\], got float32" + re.escape(str([*shape])) + "$"
    with pytest.raises(DataError, match=says):
        augmentation.affine(random_images(), jnp.zeros(shape))


@pytest.mark.parametrize("setting", ["rotation", "zoom", "shear"])
def test_limits_of_affine_maps_may_be_traced(setting):
    x = random_images()
    draw = lambda most: augmentation.augmented(KEY, x, x.shape[1:], **{setting: most})
    for most in (0.0, 0.4):
        np.testing.assert_allclose(jax.jit(draw)(most), draw(most), atol=1e-5)


@pytest.mark.parametrize("form", [augmentation.dilated, augmentation.eroded])
@pytest.mark.parametrize("size", [1.5, 0, True])
def test_a_window_that_is_no_count_of_pixels_is_refused(form, size):
    says = f"size must be a whole number of at least 1, got {size}"
    with pytest.raises(UserError, match=says):
        form(random_images(), size)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"pad": 4}, "^pad must be below 4, the shorter side of a crop, got 4$"),
        ({"pad": 2**31}, "^pad must be a whole number of at least 0, of 32 bits, got 2147483648$"),
        ({"mirror": np.array([1.0, 2.0])}, "^mirror must be "),
    ],
)
def test_a_pad_or_a_flag_that_no_image_can_have_is_refused(settings, says):
    with pytest.raises(UserError, match=says):
        augmentation.augmented(KEY, jnp.ones((3, 5, 5, 1)), (4, 6, 1), **settings)


def test_each_crop_has_a_pixel_of_its_image_whatever_the_pad():
    for pad, side in ((3, 4), (5, 11)):
        found = augmentation.augmented(KEY, jnp.ones((200, 5, 5, 1)), (side, side, 1), pad=pad)
        assert found.reshape(200, -1).any(axis=1).all()


def test_an_angle_beyond_a_half_turn_is_refused():
    with pytest.raises(UserError, match="rotation must be a number from 0 to 180, got 181"):
        augmentation.random_affine(KEY, random_images(), rotation=181.0, zoom=0.0, shear=0.0)

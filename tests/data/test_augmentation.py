"""data.augmentation: crops and mirror images, and their frequencies."""

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.data import augmentation

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

"""input_diversity and translation_invariance beside NumPy, PyTorch's rules and each other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from marks import exhaustive_after

from adv_jax import attacks
from adv_jax.attacks.transforms import _shrunk
from adv_jax.types import UserError

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.uniform(0.2, 0.8, (5, 8, 6, 2)), jnp.float32)
W = jnp.asarray(RNG.normal(size=(96, 4)), jnp.float32)
Y = jnp.array([0, 3, 1, 2, 2])


def linear(x):
    return x.reshape(len(x), -1) @ W


def slope_of(logits_fn, x):
    return jax.grad(lambda x: (logits_fn(x) * jnp.arange(4.0)[None]).sum())(x)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel_size", "sigma"), [(3, None), (15, None), (5, 1.5), (1, None)])
def test_the_gradient_is_convolved_with_the_published_kernel(kernel_size, sigma):
    smooth = attacks.translation_invariance(linear, kernel_size=kernel_size, sigma=sigma)
    np.testing.assert_array_equal(smooth(X), linear(X))
    # The authors' program: a Gaussian density at kernel_size points from -3 to 3 sigma.
    reach = kernel_size // 2
    end = 3 if sigma is None else reach / sigma
    line = np.exp(-(np.linspace(-end, end, kernel_size) ** 2) / 2) if reach else np.ones(1)
    kernel = np.outer(line, line) / np.outer(line, line).sum()
    plain = np.float64(slope_of(linear, X))
    expected = scipy.ndimage.convolve(plain, kernel[None, :, :, None], mode="constant")
    np.testing.assert_allclose(slope_of(smooth, X), expected, atol=1e-5)


@pytest.mark.slow
def test_ti_fgsm_is_mi_fgsm_along_the_smoothed_gradient():
    smooth = attacks.translation_invariance(linear, kernel_size=5)
    x_adv = attacks.fgsm(smooth, X, Y, eps=0.1)
    # One step of the momentum has the sign of the smoothed gradient.
    np.testing.assert_array_equal(x_adv, attacks.mi_fgsm(smooth, X, Y, eps=0.1, num_steps=1))
    assert bool((x_adv != attacks.fgsm(linear, X, Y, eps=0.1)).any())


def bilinear(image, height, width):
    """Resizes f[h, w, c] by the rule of PyTorch with align_corners=False."""

    def weights(size, new):
        at = np.clip((np.arange(new) + 0.5) * size / new - 0.5, 0, size - 1)
        low = np.minimum(np.floor(at).astype(int), size - 1)
        high = np.minimum(low + 1, size - 1)
        matrix = np.zeros((new, size))
        np.add.at(matrix, (np.arange(new), low), 1 - (at - low))
        np.add.at(matrix, (np.arange(new), high), at - low)
        return matrix

    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.einsum("ih,jw,hwc->ijc", rows, columns, image)


def test_a_shrunk_image_is_the_resized_one_with_zeros_around():
    image = np.asarray(X[0]) + 1  # No pixel is 0.
    shrunk = jax.jit(jax.vmap(_shrunk, (0, None, None)), static_argnums=2)
    sizes = set()
    for found in np.asarray(shrunk(jax.random.split(jax.random.key(0), 40), image, 0.5)):
        rows, columns = np.flatnonzero(found.any((1, 2))), np.flatnonzero(found.any((0, 2)))
        # Sides of 8 and 6 times the same share of .5 to 1, rounded.
        sizes.add((len(rows), len(columns)))
        assert len(rows) == np.ptp(rows) + 1 and len(columns) == np.ptp(columns) + 1
        assert abs(len(rows) / 8 - len(columns) / 6) <= 0.5 / 8 + 0.5 / 6
        part = found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_allclose(part, bilinear(image, *part.shape[:2]), rtol=1e-5)
    assert {rows for rows, _ in sizes} == {4, 5, 6, 7, 8}


@pytest.mark.slow
def test_the_transformation_has_its_probability():
    x = jnp.asarray(RNG.uniform(0.5, 1, (400, 8, 6)), jnp.float32)
    border = lambda x: jnp.stack([x.sum((1, 2)), x.min((1, 2))], axis=1)

    def changed(prob):
        fn = attacks.input_diversity(border, prob=prob, smallest=0.5)
        return (jnp.abs(jax.jit(fn)(x) - border(x)) > 1e-3).any(axis=1).mean()

    assert changed(0.0) == 0
    # Shares above 1 - 1/16 leave the size of 8; three deviations of 400 draws are .07.
    assert abs(changed(0.4) - 0.4 * (1 - 1 / 8)) < 0.08


@pytest.mark.slow
def test_the_draws_of_a_row_do_not_depend_on_other_rows():
    fn = jax.jit(attacks.input_diversity(linear, prob=0.7, smallest=0.5))
    rows = jnp.array([3, 0, 4])
    np.testing.assert_allclose(fn(X[rows]), fn(X)[rows], rtol=1e-4, atol=1e-5)


ORDERS = {
    "DI": attacks.input_diversity,
    "TI of DI": lambda fn: attacks.translation_invariance(attacks.input_diversity(fn)),
    "DI of TI": lambda fn: attacks.input_diversity(attacks.translation_invariance(fn)),
}


@pytest.mark.slow
@pytest.mark.parametrize("order", exhaustive_after(2, ORDERS))
def test_the_wrappers_compose_with_attacks_and_side_inputs(order):
    shift = jnp.asarray(RNG.normal(size=(5, 4)), jnp.float32)
    wrapped = ORDERS[order](lambda x, shift: linear(x) + shift)
    run = partial(attacks.mi_fgsm, wrapped, eps=0.1, num_steps=2, bounds=(0, 1))
    x_adv = run(X, Y, aux=shift)
    assert bool((jnp.abs(x_adv - X) <= 0.1).all()) and bool((x_adv != X).any((1, 2, 3)).all())
    back = jnp.arange(4, -1, -1)
    np.testing.assert_allclose(run(X[back], Y[back], aux=shift[back]), x_adv[back], atol=1e-5)


@pytest.mark.parametrize("prob", [0, 1, np.int64(1)])
def test_a_whole_probability_is_that_fraction(prob):
    logits = (attacks.input_diversity(linear, prob=p)(X) for p in (prob, float(prob)))
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize("wrapper", [attacks.input_diversity, attacks.translation_invariance])
def test_lists_are_images_too(wrapper):
    np.testing.assert_array_equal(wrapper(linear)(X.tolist()), wrapper(linear)(X))


@pytest.mark.parametrize("wrapper", [attacks.input_diversity, attacks.translation_invariance])
def test_vectors_are_refused(wrapper):
    with pytest.raises(UserError, match=r"^x must be images f\[B, h, w\] or .* float32\[5, 96\]"):
        attacks.fgsm(wrapper(linear), X.reshape(5, 96), Y, eps=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(attacks.input_diversity, prob=1.1), r"prob must be a number from 0 to 1, got 1.1"),
        (
            partial(attacks.input_diversity, seed=0.5),
            "seed must be a whole number from -2147483648 to 2147483647, got 0",
        ),
        (
            partial(attacks.input_diversity, seed=2**70),
            "seed must be a whole number from -2147483648 to 2147483647, ",
        ),
        (
            partial(attacks.input_diversity, smallest=0),
            r"smallest must be a number above 0 and at most 1, got 0",
        ),
        (partial(attacks.translation_invariance, kernel_size=4), "kernel_size must be an odd"),
        (partial(attacks.translation_invariance, sigma=0.0), "sigma must be a finite number"),
    ],
)
def test_settings_out_of_range_are_refused(call, message):
    with pytest.raises(UserError, match=f"^{message}"):
        call(linear)

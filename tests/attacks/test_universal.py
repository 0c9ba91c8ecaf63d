"""universal_perturbation, adversarial_patch and place_patch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import counted

from adv_jax import attacks
from adv_jax.types import UserError

RNG = np.random.default_rng(0)
X, Y = RNG.uniform(0.2, 0.8, (12, 5)), RNG.integers(0, 3, 12)
W = 2 * RNG.normal(size=(5, 3))
KEY = jax.random.key(0)
universal = partial(attacks.universal_perturbation, eps=0.3, num_steps=8)


def logits_fn(x):
    return x @ jnp.asarray(W, jnp.float32)


def ascended(cap, norm):
    """The stochastic gradient method of [shafahi2020] with all rows, in float64."""
    r = np.zeros(5)
    for _ in range(8):
        z = np.clip(X + r, 0, 1) @ W
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        slopes = (p - np.eye(3)[Y]) @ W.T
        loss = -np.log(p[np.arange(12), Y])
        g = (slopes * (loss < cap)[:, None]).mean(axis=0)
        r = r + 10 * 0.3 / 8 * (np.sign(g) if norm == "linf" else g / np.linalg.norm(g))
        length = np.linalg.norm(r)
        r = np.clip(r, -0.3, 0.3) if norm == "linf" else r * min(1, 0.3 / length)
    return r[None]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("cap", [9.0, 1.5])
def test_the_universal_perturbation_equals_the_published_method(norm, cap):
    r = universal(logits_fn, jnp.float32(X), Y, norm=norm, cap=cap, bounds=(0, 1))
    assert (r.shape, r.dtype) == ((1, 5), jnp.float32)
    np.testing.assert_allclose(r, ascended(cap, norm), atol=1e-5)


@pytest.mark.slow
def test_one_perturbation_of_batches_fools_rows_that_were_not_seen():
    x = RNG.uniform(0.2, 0.8, (200, 5))
    y = np.argmax(x @ W, axis=1)
    seen, unseen = slice(0, 100), slice(100, 200)
    options = {"batch_size": 20, "num_steps": 60, "key": KEY, "bounds": (0, 1)}
    r = attacks.universal_perturbation(logits_fn, jnp.float32(x[seen]), y[seen], eps=0.4, **options)
    assert float(jnp.abs(r).max()) <= np.float32(0.4)
    again = attacks.universal_perturbation(
        logits_fn, jnp.float32(x[seen]), y[seen], eps=0.4, **options
    )
    np.testing.assert_array_equal(r, again)
    x_adv = np.clip(x[unseen] + np.asarray(r), 0, 1)
    noise = np.clip(x[unseen] + RNG.choice([-0.4, 0.4], (100, 5)), 0, 1)
    robust, control = (np.mean(np.argmax(z @ W, axis=1) == y[unseen]) for z in (x_adv, noise))
    assert robust < control - 0.2


@pytest.mark.slow
def test_side_inputs_and_masks_of_the_universal_perturbation():
    x, shift = jnp.float32(X), jnp.float32(RNG.normal(size=(12, 3)))
    mask = np.array([True, False, True, True, False])
    with_shift = lambda x, shift: logits_fn(x) + shift
    options = {"batch_size": 5, "key": KEY, "mask": mask}
    r = universal(with_shift, x, Y, aux=shift, **options)
    assert bool((r[0, ~mask] == 0).all()) and bool((r[0, mask] != 0).any())
    # Equal side inputs of all rows are a part of the model.
    one = jnp.broadcast_to(shift[:1], shift.shape)
    closed = universal(lambda x: logits_fn(x) + shift[:1], x, Y, **options)
    np.testing.assert_allclose(universal(with_shift, x, Y, aux=one, **options), closed, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 13, "key": KEY}, "batch_size must be at most the 12 rows, got 13"),
        ({"batch_size": 3}, "key must be one key of jax.random, got None"),
        ({"cap": 0.0}, r"cap must be a finite number above 0, got 0.0"),
        ({"eps": np.ones(12)}, r"eps must be .* B = 1, got the shape \(12,\)"),
    ],
)
def test_the_universal_perturbation_refuses_bad_arguments(options, message):
    with pytest.raises(UserError, match=f"^{message}"):
        universal(logits_fn, jnp.float32(X), Y, **options)


IMAGES = jnp.float32(RNG.uniform(0.2, 0.8, (6, 9, 12, 2)))
PATCH = jnp.float32(RNG.uniform(1, 2, (1, 9, 12, 2)))


@pytest.mark.slow
def test_a_patch_of_full_size_without_rotation_is_its_ellipse():
    placed = attacks.place_patch(IMAGES, PATCH, sizes=(1.0, 1.0), max_angle=0.0, key=KEY)
    i, j = np.mgrid[:9, :12]
    disc = ((i - 4) / 4.5) ** 2 + ((j - 5.5) / 6) ** 2 <= 1
    np.testing.assert_allclose(placed[:, disc], np.broadcast_to(PATCH, IMAGES.shape)[:, disc], 1e-5)
    np.testing.assert_array_equal(placed[:, ~disc], IMAGES[:, ~disc])


@pytest.mark.slow
def test_patches_lie_inside_the_image_at_places_and_sizes_of_each_row():
    images = jnp.zeros((60, 20, 20))
    placed = attacks.place_patch(images, jnp.ones((1, 20, 20)), sizes=(0.3, 0.5), key=KEY)
    area = np.asarray(placed).sum((1, 2))
    # The area of a disc of diameter 6 to 10, and a pixel around its edge.
    assert area.min() > np.pi * 2.5**2 and area.max() < np.pi * 5.5**2 and np.std(area) > 3
    rows = np.asarray(placed).any(2)
    firsts = {int(np.flatnonzero(row)[0]) for row in rows}
    assert 0 in firsts and len(firsts) > 5
    alone = attacks.place_patch(
        images[:1], jnp.ones((1, 20, 20)), sizes=(0.3, 0.5), key=jax.random.fold_in(KEY, 0)[None]
    )
    np.testing.assert_array_equal(alone[0], placed[0])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 12, 20), (5, 9, 9, 3)])
def test_a_placed_patch_stays_in_the_range_of_patch_and_images(shape):
    images, patch = jnp.float32(RNG.uniform(size=shape)), jnp.ones((1, *shape[1:]))
    for seed in range(3):
        placed = attacks.place_patch(images, patch, key=jax.random.key(seed))
        assert float(placed.min()) >= 0 and float(placed.max()) <= 1
    # The clipping keeps the derivative: weights of the patch's pixels, 1 in all for each it shows.
    given = {"key": jax.random.key(0)}
    slope = jax.grad(lambda p: attacks.place_patch(0 * images, p, **given).sum())(patch)
    shown = attacks.place_patch(0 * images, patch, **given)
    np.testing.assert_allclose(slope.sum(), (shown > 0).sum(), rtol=1e-5)


@pytest.mark.slow
def test_the_patch_of_a_model_of_brightness_is_bright_or_dark():
    # Each class has the mean of a channel as logit: the patch of class 0 is bright there only.
    model = lambda x: 40 * x.mean((1, 2))
    y = jnp.zeros(6, jnp.int32)
    learn = partial(attacks.adversarial_patch, model, IMAGES, y, bounds=(0.0, 1.0), num_steps=60)
    for targeted in (True, False):
        patch = learn(targeted=targeted, key=KEY)
        disc = np.asarray(patch)[0, 3:6, 4:8]
        np.testing.assert_allclose(disc[..., 0], float(targeted), atol=1e-6)
        np.testing.assert_allclose(disc[..., 1], float(not targeted), atol=1e-6)
        assert bool((patch >= 0).all()) and bool((patch <= 1).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": None}, r"bounds must be \(lo, hi\) for adversarial_patch, got None"),
        ({"sizes": (0.5, 0.2)}, r"sizes must be \(smallest, largest\), got \(0.5, 0.2\)"),
        ({"sizes": 0.3}, r"sizes must be \(smallest, largest\), got 0.3"),
        ({"sizes": (0.0, 0.5)}, r"sizes must be a number above 0 and at most 1, got 0.0"),
        ({"max_angle": -1.0}, r"max_angle must be a finite number of at least 0, got -1.0"),
        ({"x": IMAGES.reshape(6, -1)}, r"x must be images f\[B, h, w\]"),
    ],
)
def test_the_patch_refuses_bad_arguments(options, message):
    given = {"x": IMAGES, "y": jnp.zeros(6, jnp.int32), "bounds": (0.0, 1.0), "key": KEY} | options
    with pytest.raises(UserError, match=f"^{message}"):
        attacks.adversarial_patch(lambda x: x.reshape(6, -1)[:, :2], **given)


@pytest.mark.parametrize(
    ("patch", "found"),
    [(PATCH[:, :5], r"float32\[1, 5, 12, 2\]"), (None, "None"), ([[1], []], ".*")],
)
def test_a_patch_of_another_shape_is_refused(patch, found):
    wanted = r"patch must have the shape of one image, \[1, 9, 12, 2\]"
    with pytest.raises(UserError, match=f"^{wanted}, got {found}$"):
        attacks.place_patch(IMAGES, patch, key=KEY)


def test_a_patch_of_nan_is_refused():
    with pytest.raises(UserError, match="^patch must be finite numbers, got nan$"):
        attacks.place_patch(IMAGES, PATCH.at[0, 0, 0].set(jnp.nan), key=KEY)


def test_a_patch_is_placed_by_one_program_for_all_sizes_and_may_be_a_list():
    place, patch = partial(attacks.place_patch, np.asarray(IMAGES)[:2], key=KEY), np.asarray(PATCH)
    with counted() as compiled:
        placed = place(patch)
        place(patch, sizes=(0.1, 0.9), max_angle=1.0)
    assert len(compiled) <= 2  # Or 55, if each operation is compiled alone.
    np.testing.assert_array_equal(place(patch.tolist()), placed)

"""The operations of products: counted by hand, and with the lengths of loops."""

import jax
import jax.numpy as jnp
import pytest

from adv_jax import attacks
from launch.compiling.flops import product_flops

X = jax.ShapeDtypeStruct((8, 6), "float32")
W = jax.ShapeDtypeStruct((6, 6), "float32")
PRODUCT = 2 * 8 * 6 * 6


def test_a_gradient_by_both_arguments_is_three_products():
    loss = lambda x, w: jnp.square(x @ w).sum()
    assert product_flops(loss, X, W).count == PRODUCT
    assert product_flops(jax.grad(loss, (0, 1)), X, W).count == 3 * PRODUCT


def test_a_scan_counts_each_of_its_steps():
    steps = lambda x, w: jax.lax.scan(lambda x, _: (x @ w, None), x, length=7)[0]
    assert product_flops(steps, X, W) == (7 * PRODUCT, False)


def test_a_loop_of_unknown_length_counts_once_and_says_so():
    def until_large(x, w):
        return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ w, x)

    assert product_flops(until_large, X, W) == (PRODUCT, True)


def test_the_products_of_a_linear_solve_are_those_of_its_steps_alone():
    """It is a factorization and two triangular solves; its matrix is multiplied in derivatives."""
    solve = lambda x, w: jnp.linalg.solve(w, x.T)
    assert product_flops(solve, X, W).count == 0


def test_a_condition_counts_its_dearer_branch():
    dearer = lambda x, w: jax.lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x @ w)
    assert product_flops(dearer, X, W).count == 2 * PRODUCT


def test_of_the_forms_for_several_platforms_the_accelerators_counts():
    def either(x, w):
        forms = {"cpu": lambda x: x @ w @ w @ w, "default": lambda x: x @ w}
        return jax.lax.platform_dependent(x, **forms)

    assert product_flops(either, X, W).count == PRODUCT


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_counts_each_pixel_map_and_weight(groups):
    x = jax.ShapeDtypeStruct((3, 10, 10, 4), "float32")
    kernel = jax.ShapeDtypeStruct((5, 5, 4 // groups, 8), "float32")
    axes = ("NHWC", "HWIO", "NHWC")

    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=axes, feature_group_count=groups
        )

    # 6 x 6 pixels of 8 maps, each a product of 5 x 5 x 4 / groups weights.
    assert product_flops(conv, x, kernel).count == 2 * 3 * 36 * 8 * 25 * 4 // groups


@pytest.mark.slow
def test_each_step_of_pgd_is_a_product_and_its_gradient():
    w, y = jnp.eye(6), jnp.zeros(8, jnp.int32)

    def attacked(steps):
        attack = lambda x: attacks.pgd(lambda x: x @ w, x, y, eps=0.1, num_steps=steps)
        return product_flops(attack, X).count

    assert attacked(40) - attacked(10) == 30 * 2 * PRODUCT

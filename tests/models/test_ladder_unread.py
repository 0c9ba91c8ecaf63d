"""models.ladder does not compute values that no cost reads."""

import re

import jax
import pytest
from ladders import (
    BATCH,
    FC,
    KEY,
    compiled,
    in_float32,
    make_apply,
    nets,
    random_batch,
    random_variables,
    run_of,
)

from adv_jax import objectives


def products(fn, *args):
    """Output shapes of the matrix products in the compiled fn, sorted."""
    text = compiled(fn).lower(*args).compile().as_text()  # What is dead is dropped at any level.
    assert "custom-call" not in text  # A product might hide behind one.
    return sorted(
        tuple(map(int, shape.split(",")))
        for shape in re.findall(r"= f32\[([\d,]+)\]\S* dot\(", text)
    )


def gradient_products(weights, net=FC):
    variables, batch = in_float32(random_variables(net), random_batch(net))
    apply = make_apply(net)

    def loss(params, batch, key):
        variables_at = {**variables, "params": params}
        return objectives.ladder(apply, variables_at, batch, key=key, weights=weights)[0]

    return products(jax.grad(loss), variables["params"], batch, KEY)


def expected_products(*, lowest):
    """Shapes of the products that the formula needs when `lowest` is the lowest cost's layer.

    Forward: W h in the corrupted passes of both halves and the clean pass of one at once, V z_hat
    down to `lowest`. Backward: for each of them the gradient by the matrix and, except at the
    input, by the vector. The clean pass of the labeled half is not needed. With `lowest` above the
    top no layer is reconstructed, and the unlabeled half is not needed either.
    """
    needed = []
    batch = (3, BATCH) if lowest <= FC.top else (BATCH,)
    for layer in range(1, FC.top + 1):
        (below,), (units,) = FC.shapes[layer - 1 : layer + 1]
        needed += [(*batch, units), {below, units}]
        needed += [(*batch, below)] if layer > 1 else []
        if layer > lowest and lowest <= FC.top:
            needed += [(BATCH, below), {below, units}, (BATCH, units)]
    return needed


def assert_same_products(found, needed):
    # XLA may compute the transposed gradient of a matrix, or flatten the passes.
    plain = lambda shape: tuple(sorted(shape)) if isinstance(shape, set) else shape
    canonical = lambda shape: (shape[0] * shape[1], shape[2]) if len(shape) == 3 else shape
    unordered = lambda shapes: sorted(tuple(sorted(canonical(plain(s)))) for s in shapes)
    assert unordered(found) == unordered(needed)


@pytest.mark.slow
@nets("fc", slow=["fc-gamma"])
def test_a_cost_on_top_alone_compiles_to_no_product_of_the_decoder(net):
    weights = (0.0,) * net.top + (2.0,)
    assert_same_products(gradient_products(weights, net), expected_products(lowest=net.top))


@pytest.mark.slow
def test_the_decoder_stops_at_the_lowest_layer_with_a_cost():
    assert_same_products(gradient_products((0, 0, 1.0, 1.0)), expected_products(lowest=2))


@pytest.mark.slow
def test_the_full_cost_compiles_to_no_product_of_the_labeled_clean_pass():
    found = gradient_products(FC.weights)
    assert_same_products(found, expected_products(lowest=0))
    assert len(found) == 6 * FC.top - 1


@pytest.mark.slow
def test_a_ladder_without_a_decoder_compiles_to_no_product_of_the_unlabeled_half():
    net = FC._replace(denoising="0")
    found = gradient_products((0.0,) * 4, net)
    assert_same_products(found, expected_products(lowest=net.top + 1))
    assert len(found) == 3 * net.top - 1


def test_the_cost_of_a_ladder_without_a_decoder_is_the_supervised_cost():
    run = run_of(FC._replace(denoising="0"))
    assert run.output.extras["z_hat"] == {} and run.metrics["denoising"] == 0
    assert run.loss == pytest.approx(run_of(FC).expected.supervised, rel=1e-8)

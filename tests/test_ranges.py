"""Ranges: what each form of text allows, and its words."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adv_jax import generative, models, objectives, optimizers
from adv_jax.checks import check_range
from adv_jax.ranges import Range, ranged
from adv_jax.types import UserError


@pytest.mark.parametrize(
    ("text", "inside", "outside", "words"),
    [
        ("[0, 1]", [0, 0.5, 1], [-0.1, 1.1], "a number from 0 to 1"),
        ("[0, 1)", [0, 0.5], [-0.1, 1], "a number from 0 to below 1"),
        ("(0, 1)", [0.5], [0, 1], "a number above 0 and below 1"),
        ("(0, 1]", [0.5, 1], [0, 1.1], "a number above 0 and at most 1"),
        ("(0, inf)", [1e-9, 1e30], [0, -1], "a number above 0"),
        ("[0.5, inf)", [0.5, 7], [0.4], "a number of at least 0.5"),
        ("(-inf, inf)", [-3, 0, 3.5], [], "a number"),
        ("{1, 2, ...}", [1, 2, 10**9], [0, 1.0, 1.5], "a whole number of at least 1"),
        (
            "{0, ..., 1073741824}",
            [0, 2**30],
            [-1, 2**30 + 1],
            "a whole number from 0 to 1073741824",
        ),
        ("{0, 1, 2}", [0, 1, 2], [3], "a whole number from 0 to 2"),
    ],
)
def test_a_text_allows_the_numbers_that_it_names(text, inside, outside, words):
    allowed = Range.of(text)
    assert all(map(allowed.allows, inside)) and not any(map(allowed.allows, outside))
    assert not any(map(allowed.allows, [True, "1", None, (1,), math.nan, math.inf, 10**400]))
    assert str(allowed) == words


@pytest.mark.parametrize(("value", "is_inside"), [([0.5, 1.0], True), ([0.0, 0.5], False)])
def test_an_attack_refuses_an_array_with_a_number_outside(value, is_inside):
    if is_inside:
        check_range("rho", np.array(value), "(0, 1]", per_row=True)
    else:
        with pytest.raises(UserError, match=r"rho must be in \(0, 1\], got"):
            check_range("rho", np.array(value), "(0, 1]", per_row=True)


def test_a_class_adds_its_ranges_to_those_that_it_inherits():
    @ranged(width="[0, 1]", depth="[0, 1]")
    class Base: ...

    @ranged(depth="{1, 2, ...}")
    class Net(Base): ...

    assert Net.ranges == {"width": "[0, 1]", "depth": "{1, 2, ...}"}
    assert Base.ranges == {"width": "[0, 1]", "depth": "[0, 1]"}


def test_a_function_and_a_module_refuse_numbers_outside_their_ranges():
    for call, message in [
        (lambda: optimizers.sgd(-0.1), "learning_rate must be a number of at least 0, got -0.1"),
        (lambda: optimizers.swa(0, 1), "first must be a whole number of at least 1, got 0"),
        (lambda: optimizers.ema("a"), "decay must be a number above 0 and below 1, got 'a'"),
        (lambda: models.mlp(features=(8, 0)), "features must be a whole number of at least 1, got"),
        (lambda: models.lenet(dropout=(2.0,)), "dropout must be a number from 0 to below 1, got 2"),
        (lambda: models.initializers.gaussian(-1.0), "std must be a number of at least 0, got -1"),
    ]:
        with pytest.raises(UserError, match=f"^{message}"):
            call()
    optimizers.sgd(optax.constant_schedule(0.1), max_norm=None)
    jax.jit(lambda rate: optimizers.sgd(rate).init(jnp.ones(2)))(0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: models.mlp(features=8),
            "features must be a tuple with each entry a number, got 8",
        ),
        (
            lambda: models.lenet(dropout=0.5),
            "dropout must be a tuple with each entry a number, got",
        ),
        (lambda: models.convnet(padding="same"), "padding must be one of SAME, VALID, got 'same'"),
        (
            lambda: models.ladder(scale_softmax="no"),
            "scale_softmax must be True or False, got 'no'",
        ),
        (lambda: optimizers.sgd([0.1]), "learning_rate must be a number or a function, got"),
        (lambda: generative.models.vae(latent=2.5), "latent must be a whole number of at least 1"),
        (
            lambda: objectives.passive_aggressive(len, {}, {}, key=None, aggressiveness=(1.0, 2.0)),
            "aggressiveness must be a number, got",
        ),
    ],
)
def test_a_call_refuses_plain_values_that_the_annotation_of_a_setting_excludes(call, message):
    with pytest.raises(UserError, match=f"^{message}"):
        call()


def test_arrays_functions_and_the_fields_of_a_subclass_are_checked_by_their_annotations():
    @ranged()
    class Base(nn.Module):
        rate: float = 0.1

    class Net(Base):
        units: int = 3
        act: Callable = nn.relu

    Net(
        rate=jnp.float32(0.2),
        units=np.int64(4),
        act="no plain value is accepted, so none is judged",
    )
    with pytest.raises(UserError, match="^units must be a number, got '4'$"):
        Net(units="4")

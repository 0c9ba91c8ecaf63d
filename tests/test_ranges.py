"""Ranges: what each form of text allows, its words, and which parts state them."""

import math
from collections.abc import Callable, Sequence
from typing import get_args, get_origin

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adv_jax import attacks, evaluate, generative, models, objectives, optimizers
from adv_jax.annotations import members_of, parameters_of
from adv_jax.checks import checked_number
from adv_jax.ranges import ANY, Range, ranged
from adv_jax.runner.config.binding import ATTACKS, INITIALIZERS, MODELS, OBJECTIVES, registry
from adv_jax.types import UserError


@pytest.mark.parametrize(
    ("text", "inside", "outside", "words"),
    [
        ("[0, 1]", [0, 0.5, 1], [-0.1, 1.1], "a number from 0 to 1"),
        ("[0, 1)", [0, 0.5], [-0.1, 1], "a number from 0 to below 1"),
        ("(0, 1)", [0.5], [0, 1], "a number above 0 and below 1"),
        ("(0, 1]", [0.5, 1], [0, 1.1], "a number above 0 and at most 1"),
        ("(0, inf)", [1e-9, 1e30], [0, -1], "a finite number above 0"),
        ("[0.5, inf)", [0.5, 7], [0.4], "a finite number of at least 0.5"),
        ("(-inf, inf)", [-3, 0, 3.5], [], "a finite number"),
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
        checked_number("rho", np.array(value), "(0, 1]", per_row=True)
    else:
        with pytest.raises(UserError, match=r"rho must be a number above 0 and at most 1, got"):
            checked_number("rho", np.array(value), "(0, 1]", per_row=True)


@pytest.mark.parametrize("annotation", [float, float | None, float | jax.Array])
def test_a_setting_of_one_number_refuses_an_array(annotation):
    def part(beta):
        return beta

    part.__annotations__["beta"] = annotation
    part = ranged(beta="[0, 1]")(part)
    assert part(np.float32(0.5)) == jax.jit(part)(0.5) == 0.5
    two, pairs = np.full(2, 0.5), np.full((3, 2), 0.5)
    for called, value in [(part, two), (jax.jit(part), two), (jax.vmap(part), pairs)]:
        with pytest.raises(
            UserError, match=r"^beta must be a number from 0 to 1, got float\d+\[2\]"
        ):
            called(value)


LINEAR = lambda x: x.reshape(len(x), -1)[:, :2]
ROWS = jnp.linspace(0.1, 0.9, 600).reshape(300, 2)
IMAGES = jnp.linspace(0.1, 0.9, 50).reshape(2, 5, 5)


@pytest.mark.parametrize(
    "call",
    [
        lambda n, _: (
            evaluate.evaluate(
                LINEAR, ROWS, [1] * 300, {"a": attacks.fgsm}, eps=[0.1], batch_size=n(100)
            ).worst_case
        ),
        lambda n, r: evaluate.certify_smoothed(
            LINEAR,
            ROWS[:4],
            key=jax.random.key(0),
            std=r(0.1),
            num_selection=n(9),
            num_estimation=n(99),
            batch_size=n(50),
        ),
        lambda n, r: attacks.fooling_images(
            lambda x: jax.nn.softmax(x),
            (3,),
            np.arange(3),
            key=jax.random.key(0),
            num_generations=n(127),
            rate=r(0.5),
        ),
        lambda n, r: attacks.fgsm(
            attacks.translation_invariance(LINEAR, kernel_size=n(3), sigma=r(1)),
            IMAGES,
            np.zeros(2, int),
            eps=0.1,
        ),
        lambda n, _: attacks.fgsm(
            attacks.input_diversity(LINEAR, seed=n(3)), IMAGES, np.zeros(2, int), eps=0.1
        ),
    ],
    ids=["evaluate", "certify_smoothed", "fooling_images", "translation_invariance", "seed"],
)
@pytest.mark.parametrize("kinds", [(np.int8, np.float32), (jnp.int32, jnp.float32)])
def test_numbers_of_numpy_and_jax_are_those_of_python(call, kinds):
    jax.tree.map(np.testing.assert_array_equal, call(*kinds), call(int, float))


def test_a_class_adds_its_ranges_to_those_that_it_inherits():
    @ranged(width="[0, 1]", depth="[0, 1]")
    class Base:
        width: float
        depth: float

    @ranged(depth="{1, 2, ...}")
    class Net(Base): ...

    assert Net.ranges == {"width": "[0, 1]", "depth": "{1, 2, ...}"}
    assert Base.ranges == {"width": "[0, 1]", "depth": "[0, 1]"}


@pytest.mark.parametrize(
    "state",
    [
        lambda ranges: attacks.attack(ranges=ranges)(lambda fn, x, y, *, eps, strength: x),
        lambda ranges: attacks.attack(row_ranges=ranges)(lambda fn, x, y, *, eps, strength: x),
        lambda ranges: objectives.objective(ranges=ranges)(lambda a, v, b, *, key, strength: b),
        lambda ranges: ranged(**ranges)(lambda strength: strength),
        lambda ranges: ranged(**ranges)(type("Net", (), {"__annotations__": {"strength": float}})),
    ],
    ids=["attack", "attack of rows", "objective", "function", "class"],
)
def test_a_range_of_no_setting_or_that_is_none_is_refused_by_the_decorator(state):
    with pytest.raises(UserError, match=r"got 'strenght'; did you mean 'strength'\?$") as error:
        state({"strenght": "[0, inf)"})
    assert "\n" not in str(error.value)
    wrong = ("0..1", "[0, 1", "{a}", "[0,1]", "", 3, [0, 1], "[1, 0]", "[0, nan]")
    for text in (*wrong, "{0, 2, 4}", "{1, ..., ...}", "{..., 3}", "{3, ..., 1}"):
        with pytest.raises(UserError) as error:
            state({"strength": text})
        allowed = "must be a text such as '[0, 1)', '{1, 2, ...}' or '{0, ..., 9}'"
        assert str(error.value).endswith(f"{allowed}, got {text!r} for strength")
    for text in ("[0, inf)", "[0, .5]", "(-1e3, 1E+3)", "{0, 1, 2}"):
        state({"strength": text})


def test_a_range_may_be_of_a_keyword_that_a_function_takes_with_others():
    @attacks.attack(ranges={"lr": "[0, .5]"})
    def attack(logits_fn, x, y, *, eps, **others):
        return x

    x, y = jnp.zeros((1, 2)), jnp.zeros(1, int)
    with pytest.raises(UserError, match=r"^lr must be a number from 0 to 0.5, got 2"):
        attack(lambda x: x, x, y, eps=0.1, lr=2)


# Kind of part -> (what a config may name, the decorator that it needs).
PARTS = {
    "attack": (ATTACKS, "@attack"),
    "objective": (OBJECTIVES, "@objective"),
    "model": (MODELS, "@ranged"),
    "initializer": (INITIALIZERS, "@ranged"),
    "optimizer": (optimizers.OPTIMIZERS, "_rule"),
    "plateau": (optimizers.PLATEAUS, "_rule"),
    "schedule": (optimizers.SCHEDULES, "_rule"),
}


def real_settings(part):
    """The settings of a part that are real numbers, or tuples of them."""

    def entries(annotation):
        for member in members_of(annotation):
            if get_origin(member) in (tuple, Sequence):
                for entry in get_args(member):
                    yield from entries(entry)
            else:
                yield member

    # Attacks check the bounds; a name or a number is a norm.
    found = {n: {*entries(p.annotation)} for n, p in parameters_of(part).items() if n != "bounds"}
    return [name for name, kinds in found.items() if float in kinds and str not in kinds]


def unstated(part, decorator):
    """Returns what a part lacks, in words, or ""."""
    if parameters_of(part) and not isinstance(getattr(part, "ranges", None), dict):
        return f"needs the decorator {decorator}, which checks its settings in each call"
    missing = [name for name in real_settings(part) if name not in getattr(part, "ranges", {})]
    return missing and (
        f"must state the ranges of {', '.join(missing)} in {decorator}, such as "
        f"'[0, inf)', or ranges.ANY = {ANY!r} if any number is legal"
    )


@pytest.mark.parametrize("kind", PARTS)
def test_every_part_that_a_config_may_name_states_the_ranges_of_its_real_settings(kind):
    parts, decorator = PARTS[kind]
    for name, part in parts.items():
        missing = unstated(part, decorator)
        assert not missing, f"the {kind} {name} {missing}"


def test_a_part_without_its_decorator_or_a_range_is_found():
    def own(rate: float, scales: tuple[float, ...] | None, count: int, norm: str | float): ...

    assert real_settings(own) == ["rate", "scales"]
    assert unstated(own, "@ranged").startswith("needs the decorator @ranged")
    assert " of scales in @ranged" in unstated(ranged(rate="[0, 1]")(own), "@ranged")
    assert not unstated(ranged(rate="[0, 1]", scales=ANY)(own), "@ranged")
    assert unstated(optax.adamw, "_rule")


def test_shared_settings_of_optimizers_have_their_ranges_everywhere():
    for rule, wrong in [
        (optimizers.OPTIMIZERS["adagrad"], {"learning_rate": -1.0}),
        (optimizers.OPTIMIZERS["rmsprop"], {"learning_rate": 0.1, "initial_scale": -1.0}),
        (optimizers.SCHEDULES["linear_schedule"], {"init_value": -0.1}),
        (optimizers.PLATEAUS["reduce_on_plateau"], {"min_scale": -0.1}),
    ]:
        name = [*wrong][-1]
        with pytest.raises(UserError, match=f"^{name} must be a finite number of at least 0, got"):
            rule(**wrong)


def test_a_function_and_a_module_refuse_numbers_outside_their_ranges():
    for call, message in [
        (lambda: optimizers.sgd(-0.1), "learning_rate must be a finite number of at least 0"),
        (
            lambda: optimizers.OPTIMIZERS["adam"](0.1, b1=1.0),
            "b1 must be a number from 0 to below 1",
        ),
        (lambda: optimizers.swa(0, 1), "first must be a whole number of at least 1, got 0"),
        (lambda: optimizers.ema("a"), "decay must be a number above 0 and below 1, got 'a'"),
        (lambda: models.mlp(features=(8, 0)), "features must be a whole number of at least 1, got"),
        (lambda: models.lenet(dropout=(2.0,)), "dropout must be a number from 0 to below 1, got 2"),
        (lambda: models.initializers.gaussian(-1.0), "std must be a finite number of at least 0"),
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


class Net(models.mlp):
    """A subclass with fields of its own."""

    rate: float | None = 0.1
    units: int = 3
    names: tuple[int, str] = (1, "a")
    act: Callable = nn.relu
    other: complex | float = 1.0


def test_a_subclass_of_a_part_has_its_own_fields_checked():
    for settings, message in [
        ({"units": "4"}, "units must be a number, got '4'"),
        ({"names": ("a", "a")}, "names must be a tuple of a number, a text, got"),
        ({"act": "relu"}, "act must be a function, got 'relu'"),
        ({"features": 3}, "features must be a tuple with each entry a number, got 3"),
    ]:
        with pytest.raises(UserError, match=f"^{message}"):
            Net(**settings)


def test_what_is_no_plain_value_and_what_other_classes_may_accept_is_not_refused():
    Net(rate=jnp.float32(0.2), units=np.int64(4), act=jnp.tanh, features=[8, 8])
    Net(rate=None, other="of another class")
    models.convnet(pool=np.int64(2))
    optimizers.sgd(optax.constant_schedule(0.1), max_norm=None)


def test_a_subclass_may_take_other_arguments_than_its_fields():
    class Width(models.mlp):
        def __init__(self, width, **fields):
            super().__init__(features=(width,), **fields)

    assert Width(8).features == (8,)
    with pytest.raises(UserError, match="^features must be a whole number of at least 1, got 0$"):
        Width(0)


def test_of_several_wrong_settings_the_first_is_named():
    with pytest.raises(UserError, match="^num_classes must be"):
        models.mlp(num_classes=0, features=8, activation=4, dropout=3)


def test_two_registries_of_a_config_share_no_name():
    with pytest.raises(ValueError, match="must differ, got adversarial_backprop, "):
        registry(objectives, objectives)
    assert not {*models.__all__} & {*generative.models.__all__}

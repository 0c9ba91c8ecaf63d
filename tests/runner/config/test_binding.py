"""Binding of the functions that a config names, and error messages of one line."""

import math
from collections.abc import Sequence

import pytest
from refusals import refusal

from adv_jax import attacks
from adv_jax.runner.config.binding import ATTACK, OBJECTIVE, bind, settings


def step(logits_fn, x, y, *, eps, norm="linf", bounds=None, key=None):
    return ("step", logits_fn, x, y, eps, norm, bounds, key)


def noise(logits_fn, x, y, *, std=1.0, key):
    return ("noise", std, key)


def mixed(apply, variables, batch, *, key, attack, alpha=0.5):
    return ("mixed", attack("f", batch, None), alpha)


registry = {"mixed": mixed, "noise": noise, "step": step}


def test_bind_returns_the_named_function_with_the_keywords():
    spec = {"name": "step", "eps": 0.1, "norm": "l2"}
    attack = bind(spec, registry, field="objective.attack")
    assert attack("f", "x", "y") == ("step", "f", "x", "y", 0.1, "l2", None, None)
    assert attack.func is step
    assert spec == {"name": "step", "eps": 0.1, "norm": "l2"}


def test_bind_leaves_free_keywords_to_the_caller():
    attack = bind({"name": "step"}, registry, field="attack", free=("eps",))
    assert attack("f", "x", "y", eps=0.7)[4] == 0.7
    # A default may be overridden later, too.
    assert attack("f", "x", "y", eps=0.7, norm="l1")[5] == "l1"


def test_bind_replaces_nested_specs_by_given_parts():
    spec = {"name": "mixed", "attack": {"name": "step", "eps": 0.2}, "alpha": 0.25}
    attack = bind(spec["attack"], registry, field="objective.attack")
    objective = bind(spec, registry, field="objective", attack=attack)
    value = objective("apply", {}, "x", key=0)
    assert value == ("mixed", ("step", "f", "x", None, 0.2, "linf", None, None), 0.25)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"eps": 1}, "a.b.name must be one of mixed, noise, step, got None"),
        (
            {"name": "stpe"},
            "a.b.name must be one of mixed, noise, step, got 'stpe'; did you mean 'step'?",
        ),
        ({"name": "qqq"}, "a.b.name must be one of mixed, noise, step, got 'qqq'"),
        ({"name": ["step"]}, "a.b.name must be one of mixed, noise, step, got ['step']"),
        (
            {"name": "step", "epz": 0.1},
            "a setting of a.b.step must be one of eps, norm, bounds, got 'epz'; "
            "did you mean 'eps'?",
        ),
        # A config must not set arguments that the program passes.
        (
            {"name": "noise", "key": 3},
            "a setting of a.b.noise must be one of std, got 'key'",
        ),
        ({"name": "noise", "x": 3}, "a setting of a.b.noise must be one of std, got 'x'"),
        ({"name": "step"}, "a.b.eps must be given, as step needs it, got none"),
        ({"name": "mixed"}, "a.b.attack must be given, as mixed needs it, got none"),
    ],
)
def test_bind_refuses_in_one_line_with_the_field_and_what_is_allowed(spec, message):
    assert refusal(bind, spec, registry, field="a.b") == message


def test_arrays_that_go_with_x_are_no_setting_unless_a_users_function_has_one_of_that_name():
    assert "aux" not in settings(attacks.fgsm)[0]

    def weighted(apply, variables, batch, *, key, aux=0.5): ...

    assert list(settings(weighted, OBJECTIVE)[0]) == ["aux"]


def tuned(apply, variables, batch, *, rate: float, steps: int = 1, sizes: Sequence[int] = ()):
    return rate, steps, sizes


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("rate", "fast", "a number"),
        ("rate", None, "a number"),
        ("steps", math.inf, "a number"),
        ("steps", True, "a number"),
        ("sizes", 3, "a tuple with each entry a number"),
        ("sizes", (3, "x"), "a tuple with each entry a number"),
    ],
)
def test_bind_refuses_a_value_that_is_not_of_the_kind_annotated(field, value, allowed):
    spec = {"name": "tuned", "rate": 0.1} | {field: value}
    typed = {"tuned": tuned}
    message = refusal(bind, spec, typed, field="a")
    assert message == f"a.{field} must be {allowed}, got {value!r}"


def loose(x: "Absent", rate: "float" = 1, *rest, sizes: list[int] = (), pair: tuple = (), **more):  # noqa: F821
    return rate


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("rate", "fast", "a number"),
        ("sizes", (1, "x"), "a tuple with each entry a number"),
        ("pair", 3, "a tuple"),
    ],
)
def test_annotations_of_users_functions_may_be_texts_and_lists(field, value, allowed):
    names = {"loose": loose}
    message = refusal(bind, {"name": "loose", field: value}, names, field="a")
    assert message == f"a.{field} must be {allowed}, got {value!r}"
    legal = {"name": "loose", "rate": 2, "sizes": (1, 2), "pair": ("x", 1), "more": 3}
    assert bind(legal, names, field="a").keywords["more"] == 3


def test_settings_are_the_parameters_that_the_program_does_not_pass():
    assert [*settings(step)[0]] == ["eps", "norm", "bounds"] and not settings(step)[1]
    assert [*settings(loose)[0]] == ["rate", "sizes", "pair"] and settings(loose)[1]


def test_a_name_with_a_dot_gets_the_form_of_an_import_path():
    message = refusal(bind, {"name": "mine.loss"}, registry, field="a", call=ATTACK)
    assert message.endswith("got 'mine.loss'; an import path has a colon: 'mine:loss'")
    message = refusal(bind, {"name": "mine"}, registry, field="a", call=ATTACK)
    assert message.endswith("got 'mine'; did you mean 'mixed'? (your own: 'module:attribute')")

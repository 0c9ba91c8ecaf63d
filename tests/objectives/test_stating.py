"""What all objectives refuse in one line, before they call anything."""

import inspect

import pytest

from adv_jax import objectives
from adv_jax.types import UserError


def takers(keyword):
    functions = {name: getattr(objectives, name) for name in objectives.__all__}
    return [f for f in functions.values() if keyword in inspect.signature(f).parameters]


def call(function, **given):
    function(None, {}, {}, key=None, **given)


@pytest.mark.parametrize("function", takers("attack"), ids=lambda f: f.__name__)
def test_an_attack_that_is_no_function_is_refused(function):
    with pytest.raises(UserError, match="^attack must be a function such as pgd, got 'fgsm'$"):
        call(function, attack="fgsm")
    if function is not objectives.ladder:  # Without an attack it trains on clean inputs.
        with pytest.raises(UserError, match="^attack must be a function such as pgd, got None$"):
            call(function, attack=None)


def test_other_functions_are_checked_too():
    with pytest.raises(UserError, match="^unlabeled_attack must be a function such as pgd, got 3$"):
        call(objectives.ladder, attack=None, unlabeled_attack=3, weights=(1.0,))
    with pytest.raises(UserError, match="^objective must be a function such as lwa, got 'lwa'$"):
        call(objectives.awp, attack=print, objective="lwa")
    with pytest.raises(UserError, match="^teacher_fn must be a function of x alone, got a str: "):
        call(objectives.distillation, teacher_fn="teacher", temperature=2.0)


def test_an_unknown_keyword_is_refused_with_the_nearest_one():
    with pytest.raises(UserError, match=r"got 'regularization'; did you mean 'beta'\?$"):
        call(objectives.trades, attack=print, regularization=6.0)


def test_an_objective_of_ones_own_may_take_any_keyword():
    @objectives.objective()
    def own(apply, variables, batch, *, key, **settings):
        return settings

    assert own(None, {}, {}, key=None, attack=print, weight=2) == {"attack": print, "weight": 2}
    with pytest.raises(UserError, match="^attack must be a function"):
        own(None, {}, {}, key=None, attack="fgsm")

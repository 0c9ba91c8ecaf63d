"""The decorator `adv_jax.attack` takes any function, and refuses misuse in one line."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import counted

import adv_jax
from adv_jax.types import UserError

if TYPE_CHECKING:  # So the annotations that name these stay text.
    from jax.typing import ArrayLike

    from adv_jax.types import LogitsFn

X = np.zeros((2, 3), np.float32)


def logits_fn(x):
    return x[:, :2]


def scaled(logits_fn, x, y, *, eps, alpha=0.5):
    return x + eps * alpha


class Shift:
    def __call__(self, logits_fn, x, y, *, eps):
        return x + eps


def test_a_branch_on_a_traced_setting_is_refused_with_the_setting_and_the_ways_out():
    def branching(logits_fn, x, y, *, eps, alpha=0.5):
        return x if alpha > 1 else x + eps

    with pytest.raises(UserError) as error:
        adv_jax.attack()(branching)(logits_fn, X, None, eps=0.1)
    for word in ("branching", "jnp.where", "annotate alpha as bool"):
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_python_branches_on_a_setting_annotated_as_bool():
    def branching(logits_fn, x, y, *, eps, up: bool = True):
        return x + eps if up else x - eps

    decorated = adv_jax.attack()(branching)
    for up, expected in {True: 0.25, False: -0.25}.items():
        np.testing.assert_array_equal(decorated(logits_fn, X, None, eps=0.25, up=up), X + expected)


def test_other_values_of_a_number_compile_nothing_where_annotations_stay_text():
    def moving(logits_fn: "LogitsFn", x, y, *, eps: "ArrayLike", alpha: "float | None" = None):
        return x + eps * alpha

    attack = adv_jax.attack()(moving)
    attack(logits_fn, X, None, eps=0.25, alpha=0.5)
    with counted() as compiled:
        found = attack(logits_fn, X, None, eps=0.5, alpha=0.25)
    assert compiled == []
    np.testing.assert_array_equal(found, X + 0.125)


def test_an_integer_of_a_setting_that_may_be_an_array_stays_one():
    def picked(logits_fn, x, y, *, eps, target: jax.typing.ArrayLike = 0, rho: float = 1):
        return x + eps * rho * logits_fn(x)[:, target][:, None]

    x = X - np.arange(3, dtype=np.float32)
    attack = adv_jax.attack()(picked)
    np.testing.assert_array_equal(attack(logits_fn, x, None, eps=1), x)
    np.testing.assert_array_equal(attack(logits_fn, x, None, eps=1, target=1, rho=2), x - 2)


def test_an_array_without_axes_stays_an_array_unless_the_setting_is_a_plain_value():
    def shifted(
        logits_fn, x, y, *, eps, noise: Any, shift: np.ndarray, scale: Any, norm: "str | int"
    ):
        assert shift.shape == () and norm == 2
        return x + shift * scale + 0 * jax.random.uniform(noise)

    attack = adv_jax.attack()(shifted)
    given = {"eps": 0.1, "noise": jax.random.key(0), "norm": np.array(2)}
    run = lambda shift, scale: attack(logits_fn, X, None, shift=shift, scale=scale, **given)
    run(np.array(0.5), jnp.float32(1))
    with counted() as compiled:
        found = run(np.array(0.25), jnp.float32(2))
    assert compiled == []
    np.testing.assert_array_equal(found, X + 0.5)


def test_a_count_annotated_as_text_is_one_of_python():
    def repeated(logits_fn: "LogitsFn", x, y, *, eps: "ArrayLike", count: "int" = 1):
        return x + sum([eps] * count)

    attack = adv_jax.attack()(repeated)
    np.testing.assert_array_equal(attack(logits_fn, X, None, eps=0.25, count=2), X + 0.5)
    with pytest.raises(UserError, match=r"^count must be a whole number of at least 1, got 0$"):
        attack(logits_fn, X, None, eps=0.25, count=0)


def test_other_keywords_are_passed_on_by_name():
    def others(logits_fn, x, y, *, eps, **settings):
        lo, hi = settings["bounds"]
        return jnp.clip(x + eps * settings["alpha"] * settings["count"], lo, hi)

    found = adv_jax.attack()(others)(logits_fn, X, None, eps=0.5, alpha=0.5, count=2, bounds=(0, 1))
    np.testing.assert_array_equal(found, X + 0.5)


@pytest.mark.parametrize(("fn", "move"), [(partial(scaled, alpha=2.0), 0.5), (Shift(), 0.25)])
def test_partials_and_callable_objects_become_attacks_with_a_name(fn, move):
    decorated = adv_jax.attack()(fn)
    assert decorated.__name__ in ("scaled", "Shift")
    np.testing.assert_array_equal(decorated(logits_fn, X, None, eps=0.25), X + move)


def test_labels_and_settings_may_be_lists_of_numbers():
    def away(model: Callable[[jax.Array], jax.Array], x, y, *, eps):
        return x - eps * jax.nn.one_hot(y, x.shape[1])

    attack = adv_jax.attack()(away)
    np.testing.assert_array_equal(attack(logits_fn, X, [1, 0], eps=0.5)[:, 1], [-0.5, 0])
    found = attack(logits_fn, X, [1, 0], eps=[[0.5], [0.25]])
    np.testing.assert_array_equal(found, [[0, -0.5, 0], [-0.25, 0, 0]])
    with pytest.raises(UserError, match="^model must be a function of x alone, got a NoneType"):
        attack(None, X, [1, 0], eps=0.5)


@pytest.mark.parametrize(
    ("decorate", "says"),
    [
        (lambda: adv_jax.attack(scaled), "must be called before it decorates, @attack()"),
        (lambda: adv_jax.attack()(3), "must be a function (logits_fn, x, y, *, ...), got 3"),
        (
            lambda: adv_jax.attack()(lambda x, eps: x),
            "an attack must take (logits_fn, x, y, *, eps), got <lambda>, which takes (x, eps)",
        ),
        (lambda: adv_jax.attack()(lambda fn, x, eps: x), "which takes (fn, x, eps)"),
        (lambda: adv_jax.attack(size=None)(lambda x: x), "(logits_fn, x, y, *, ...), got <lambda>"),
        (lambda: adv_jax.attack()(lambda fn, *args, eps: fn), "which takes (fn, *args, eps)"),
        (lambda: adv_jax.attack(rank=True), "rank must be NOISE, ONE_STEP, ITERATED or ENSEMBLE"),
        (lambda: adv_jax.attack(ranks=1), "got 'ranks'; did you mean 'rank'?"),
    ],
)
def test_misuse_of_the_decorator_is_refused_in_one_line(decorate, says):
    with pytest.raises(UserError) as error:
        decorate()
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("compiles", [True, False])
def test_an_attack_that_needs_a_key_is_refused_without(compiles):
    def drawn(logits_fn, x, y, *, eps, key=None):
        return adv_jax.norms.sample(key, x, eps, "linf")

    decorated = adv_jax.attack(needs_key=True, compiles=compiles)(drawn)
    with pytest.raises(UserError, match=r"^key must be jax.random.key\(seed\) or one key per row"):
        decorated(logits_fn, X, None, eps=0.1)
    assert decorated(logits_fn, X, None, eps=0.1, key=jax.random.key(0)).shape == X.shape


def test_every_attack_of_ours_is_exported_under_its_name():
    """Configs name those of `__all__`; the others fit no config, as they take other arguments."""
    others = {"class_jacobian", "feature_adversary", "adversarial_patch", "universal_perturbation"}
    package = adv_jax.attacks
    found = {
        name
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        for name, fn in vars(importlib.import_module(module.name)).items()
        if inspect.isfunction(fn) and hasattr(fn, "traits") and not name.startswith("_")
    }
    assert found - others <= set(package.__all__) and found <= vars(package).keys()

"""Gives attacks the settings of an evaluation: bounds, norm, and labels to leave."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.annotations import function_name
from adv_jax.attacks import Traits, traits_of
from adv_jax.evaluate.crafting import at_size, naming
from adv_jax.evaluate.traits import checked_parameters, inner_attack, scale_of, takes_keyword
from adv_jax.types import Array, Attack, Bounds, Key, LogitsFn, Norm, UserError, described


def with_settings(
    attacks: Mapping[str, Attack],
    *,
    bounds: Bounds | None = None,
    norm: Norm | None = None,
    threat_model: Norm | None = None,
) -> dict[str, Attack]:
    """Returns the attacks with the settings of an evaluation, each where it is not set already.

    `bounds` go to attacks that take them and have None; `norm` to those that take it and have none
    bound by functools.partial. A function that takes any keyword takes both.

    Raises:
      UserError: attacks are no dict of functions; an attack has another norm, and no keyword for
        it; as `named_norm`.

    >>> from adv_jax import attacks
    >>> with_settings({"a": attacks.fgsm}, bounds=(0, 1), threat_model="L2")["a"].keywords
    {'bounds': (0, 1), 'norm': 'l2'}
    """
    check_named("attacks", attacks)
    kind = named_norm(norm, threat_model)
    found = {}
    for name, attack in attacks.items():
        with naming(name, attack):
            found[name] = _with_settings(attack, bounds, kind)
    return found


def check_named(name: str, parts: Any) -> None:
    """Raises UserError for parts without names, as a list of them."""
    allowed = f"{name} must be a dict that gives each a name"
    if not isinstance(parts, Mapping):
        raise UserError(f"{allowed}, got a {type(parts).__name__}")
    for found in parts:
        if not isinstance(found, str) or not found:
            raise UserError(f"{allowed}, a text, got the name {described(found)}")


def named_norm(norm: Norm | None, threat_model: Norm | None) -> str | None:
    """Returns the canonical norm that one of the two names, None if neither does.

    Raises:
      UserError: threat_model is no norm, or another one than `norm`; unknown norm.

    >>> named_norm(None, "Linf"), named_norm(2, None)
    ('linf', 'l2')
    """
    kind = None if norm is None else norms.canonical(norm)
    if threat_model is None:
        return kind
    try:
        named = norms.canonical(threat_model)
    except ValueError:
        found = described(threat_model)
        raise UserError(f'threat_model must be "Linf" or "L2", got {found}') from None
    if kind not in (None, named):
        raise UserError(f"norm must be that of threat_model, {named}, got {kind}")
    return named


def _with_settings(attack: Attack, bounds: Bounds | None, norm: str | None) -> Attack:
    parameters, bound = checked_parameters(attack), getattr(attack, "keywords", {})

    def free(name: str) -> bool:
        return name not in bound and takes_keyword(attack, name)

    settings: dict[str, Any] = {}
    own_bounds = parameters["bounds"].default if "bounds" in parameters else None
    is_unset = own_bounds in (None, inspect.Parameter.empty)
    if bounds is not None and free("bounds") and is_unset:
        settings["bounds"] = bounds
    if norm is not None and free("norm"):
        settings["norm"] = norm
    own = getattr(traits_of(attack), "norm", None)
    if norm is not None and own not in (None, norm):
        raise UserError(f"norm must be {own} for {function_name(attack)}, got {norm}")
    if (inner := inner_attack(attack)) is not attack:  # It gets the bounds from the outer one.
        settings["attack"] = _with_settings(inner, None, norm)
    return partial(attack, **settings) if settings else attack


def noticed(
    attack: Attack, x: Any, y: Any, keys: Key | None, aux: Any, *, num_classes: int
) -> Attack:
    """Returns the attack, with the trait that it is not aimed if it is a plain function of noise.

    Noise draws random numbers and never calls the model.

    Args:
      x, y, keys, aux: shapes of a batch.
    """
    if traits_of(attack) is not None or keys is None or not takes_keyword(attack, "key"):
        return attack
    called: list[LogitsFn] = []

    def model(x: Array, *_: Any) -> Array:
        called.append(model)
        return jnp.zeros((len(x), num_classes), jnp.float32)

    def run(keys: Key, x: Array, y: Array, aux: Any) -> Array:
        return at_size(attack, model, x, y, jnp.float32(0), keys, aux)

    try:
        jaxpr = jax.make_jaxpr(run)(keys, x, y, aux).jaxpr
    except Exception:  # Any: it asks more of a model.
        return attack
    drawn = any(used is jaxpr.invars[0] for eqn in jaxpr.eqns for used in eqn.invars)
    if called or not drawn:
        return attack
    noise: Any = partial(attack)
    noise.traits = Traits(size=scale_of(attack), aimed=False, gradient=False)
    return noise

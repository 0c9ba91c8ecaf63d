"""Adversarial weight perturbation: any objective, at weights that are perturbed to increase it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.objectives.stating import objective
from adv_jax.types import Apply, Array, Attack, Aux, Batch, Key, Variables


@objective(ranges={"gamma": "[0, inf)"})
def awp(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    attack: Attack,
    objective: Callable[..., tuple[Array, Aux]],
    gamma: float | Array = 0.005,
) -> tuple[Array, Aux]:
    """Returns L(w + v), with v = gamma |w| dL/dw / |dL/dw| for the weights w of each layer.

    L is the objective, v a constant of the update: the gradient of L at w + v is applied to w. The
    examples are crafted once, at w, and serve both v and the update. Biases and other parameters
    with less than two axes are not perturbed.

    Args:
      apply, variables, batch, key: as in the objective.
      attack: the attack of the objective, (logits_fn, x, y, *, key) -> x_adv.
      objective: (apply, variables, batch, *, key, attack) -> (loss, aux), as `lwa` or `trades`.
      gamma: |v| / |w| of each layer, >= 0; .005 or .01 in the paper.

    Returns:
      The objective's loss f32[] and aux, at w + v.

    Raises:
      UserError: the attack or the objective is no function; a known gamma is below 0; what the
        objective raises.

    Source: [wu2020], Algorithm 1 with one perturbation of the weights, and its public program.
    """
    params = variables["params"]
    frozen = jax.lax.stop_gradient(params)

    def recording(params: Variables) -> tuple[Array, list[Array]]:
        crafted: list[Array] = []

        def recorded(*args: Any, **options: Any) -> Array:
            crafted.append(attack(*args, **options))
            return crafted[-1]

        at = {**variables, "params": params}
        return objective(apply, at, batch, key=key, attack=recorded)[0], crafted

    gradient, crafted = jax.grad(recording, has_aux=True)(frozen)
    v = jax.tree.map(partial(_perturbation, gamma=gamma), frozen, gradient)
    there = {**variables, "params": jax.tree.map(jnp.add, params, v)}
    stored = iter(crafted)
    return objective(apply, there, batch, key=key, attack=lambda *_, **__: next(stored))


def _perturbation(w: Array, gradient: Array, *, gamma: float | Array) -> Array:
    """Returns gamma |w| g / |g|; 0 for a zero gradient g, and for less than two axes."""
    if w.ndim < 2 or not w.size:
        return jnp.zeros_like(w)
    v = gamma * norms.norm(w[None], "l2")[0] * norms.dual(gradient[None], "l2")[0]
    return v.astype(w.dtype)

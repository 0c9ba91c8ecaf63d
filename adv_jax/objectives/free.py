"""Free adversarial training: one gradient moves the weights and the perturbation."""

from typing import Any

import jax
import jax.numpy as jnp

from adv_jax import norms
from adv_jax.checks import check_bounds
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, mean_cross_entropy
from adv_jax.types import (
    Apply,
    Array,
    Aux,
    Batch,
    Bounds,
    Key,
    Norm,
    UserError,
    Variables,
    described,
    working_dtype,
)


def still(apply: Apply, variables: Variables, x: Array) -> Variables:
    """Returns the perturbation of the first step, 0, for batches like x f32[B, *D]."""
    del apply, variables
    return {"perturbation": {"r": jnp.zeros(x.shape, working_dtype(x.dtype))}}


@objective(state=still, ranges={"eps": "[0, inf)"})
def free(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    eps: float | Array,
    norm: Norm = "linf",
    bounds: Bounds | None = None,
) -> tuple[Array, Aux]:
    """Returns J(x + r, y) for the r that the last step left, and moves r by the same pass.

        r <- P(r + eps argmax_{||u|| <= 1} <grad_r J(x + r, y), u>),   P onto ||r|| <= eps

    r is carried from step to step, also to the next batch. The authors take several steps on each
    batch (`replays` of a config) in fewer epochs. The step costs what plain training costs.

    Args:
      apply: the model.
      variables: those of the model, and "perturbation", at first `free.state(apply, variables, x)`.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: for the model's noise and dropout.
      eps: radius of the ball and length of the step, in units of x.
      norm: as in `attacks.fgsm`.
      bounds: (lo, hi) of x + r, or None.

    Returns:
      loss f32[] in nats, and (model_state, {"adversarial_accuracy": f32[]}) of this batch. The
      model state includes the new perturbation.

    Raises:
      UserError: the batch has other rows than the perturbation; bounds are not (lo, hi); an
        unknown norm, or l0.

    Source: [shafahi2019], Algorithm 1.
    """
    x, y = batch["x"], batch["y"]
    norm = norms.canonical(norm, among=norms.CONVEX)
    params, r = variables["params"], variables["perturbation"]["r"]
    if x.shape != r.shape:
        raise UserError(f"x must be {described(r)}, as the perturbation is, got {described(x)}")
    rest = {k: v for k, v in variables.items() if k not in ("params", "perturbation")}
    check_bounds(bounds, x.shape)
    near = x.astype(r.dtype)
    x_adv = near + r if bounds is None else jnp.clip(near + r, *bounds)

    def loss(params: Any, x_adv: Array) -> tuple[Array, tuple[Array, Any]]:
        if jnp.issubdtype(x.dtype, jnp.floating):  # Integers would have no derivative.
            x_adv = x_adv.astype(x.dtype)
        logits, _, model_state = apply({"params": params, **rest}, x_adv, train=True, key=key)
        return mean_cross_entropy(logits, y), (logits, model_state)

    both = jax.value_and_grad(loss, (0, 1), has_aux=True)
    (value, (logits, model_state)), (by_params, by_x) = both(jax.lax.stop_gradient(params), x_adv)
    r = norms.project(r + eps * norms.dual(by_x, norm), eps, norm)
    metrics = {"adversarial_accuracy": accuracy(logits, y)}
    value = _with_gradient(value, params, by_params)
    return value, ({**model_state, "perturbation": {"r": r}}, metrics)


def _with_gradient(value: Array, params: Any, gradient: Any) -> Array:
    """Returns the value, with a derivative by params that is known already."""

    @jax.custom_vjp
    def known(params: Any, value: Array, gradient: Any) -> Array:
        return value

    def pull_back(gradient: Any, g: Array) -> tuple[Any, None, None]:
        return jax.tree.map(lambda leaf: g.astype(leaf.dtype) * leaf, gradient), None, None

    known.defvjp(lambda params, value, gradient: (value, gradient), pull_back)
    return known(params, value, gradient)

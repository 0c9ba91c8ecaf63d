"""Rules for linear units as objectives: a step of SGD with rate 1 on one row is the rule.

On a batch the step is the mean of the rule's steps for its rows.

Each class k has a unit z_k = w_k . x + b_k with the target t_k, 1 for its class and -1 for others
(one against all). The loss of a row is the sum over its units.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from adv_jax.losses import as_labels, as_logits, classes
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy
from adv_jax.types import Apply, Array, Aux, Batch, Key, Variables, widened


@objective()
def perceptron(apply: Apply, variables: Variables, batch: Batch, *, key: Key) -> tuple[Array, Aux]:
    """Returns the mean of sum_k max(0, -t_k z_k), the loss of step units.

    A unit that answers wrongly, or 0, moves by its rule, w_k <- w_k + t_k x and b_k <- b_k + t_k.

    Args:
      apply: the model; `mlp` without hidden layers has linear units.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: for the model's noise and dropout.

    Returns:
      loss f32[], and (model_state, {"accuracy": f32[]}) of this batch.

    Raises:
      UserError: the batch lacks x or y; y are no classes of the model.

    Source: [rosenblatt1958]; the shallow-net thesis, sec. 2.1.
    """

    def loss(agreement: Array) -> Array:
        # At 0 the slope is -1, unlike that of a maximum: a net of zeros learns.
        return jnp.where(agreement > 0, 0, -agreement)

    return _units(loss, apply, variables, batch, key)


@objective()
def least_mean_squares(
    apply: Apply, variables: Variables, batch: Batch, *, key: Key
) -> tuple[Array, Aux]:
    """Returns the mean of sum_k (t_k - z_k)^2 / 2, the loss of linear units.

    Its rule, Widrow and Hoff's, is w_k <- w_k + rate (t_k - z_k) x.

    Args:
      apply, batch, key: as in `perceptron`.

    Returns:
      as `perceptron`.

    Raises:
      UserError: as `perceptron`.

    Source: [widrow1960].
    """
    return _units(lambda agreement: jnp.square(1 - agreement) / 2, apply, variables, batch, key)


@objective(ranges={"aggressiveness": "(0, inf)"})
def passive_aggressive(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    aggressiveness: float | Array = 1.0,
    form: Literal["pa", "pa1", "pa2"] = "pa1",
) -> tuple[Array, Aux]:
    """Returns a mean loss of the hinges h_k = max(0, 1 - t_k z_k) whose rule is passive-aggressive.

    The rule is w_k <- w_k + tau t_k x, b_k <- b_k + tau t_k, with n = |x|^2 and, by form:

        form   tau                    loss of a unit
        pa     h / n                  h^2 / (2 n)
        pa1    min(C, h / n)          h^2 / (2 n) up to h = C n, then C h - C^2 n / 2
        pa2    h / (n + 1 / (2 C))    h^2 / (2 n + 1 / C)

    n leaves out the input of b_k, as in scikit-learn. In the source there is no b_k.

    Args:
      apply, batch, key: as in `perceptron`.
      aggressiveness: C, above 0; not used by pa.
      form: "pa", "pa1" or "pa2".

    Returns:
      as `perceptron`.

    Raises:
      UserError: unknown form; aggressiveness not above 0.

    Source: [crammer2006], Fig. 1.
    """
    rows = batch["x"].reshape(len(batch["x"]), -1)
    # The squares of bytes would overflow.
    size = jnp.square(widened(rows)).sum(1, keepdims=True)
    size += 1 / (2 * aggressiveness) if form == "pa2" else 0.0

    def loss(agreement: Array) -> Array:
        hinge = jnp.maximum(1 - agreement, 0)
        tau = jnp.where(size > 0, hinge / jnp.where(size > 0, size, 1), 0)  # 0 for x = 0
        if form == "pa1":
            tau = jnp.minimum(tau, aggressiveness)
        return tau * hinge - jnp.square(tau) * size / 2  # the integral of tau over the hinge

    return _units(loss, apply, variables, batch, key)


def _units(
    loss: Callable[[Array], Array], apply: Apply, variables: Variables, batch: Batch, key: Key
) -> tuple[Array, Aux]:
    """Returns the mean over rows of sum_k loss(t_k z_k), with metrics."""
    z, _, model_state = apply(variables, batch["x"], train=True, key=key)
    z = as_logits(z)
    labels = classes(as_labels(batch["y"], z))
    targets = jnp.where(jax.nn.one_hot(labels, z.shape[1], dtype=bool), 1, -1)
    value = loss(targets.astype(z.dtype) * z).sum(axis=1).mean()
    return value, (model_state, {"accuracy": accuracy(z, batch["y"])})

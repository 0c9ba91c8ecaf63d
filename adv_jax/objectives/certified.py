"""Training on a bound of the loss in the whole ball."""

import jax
import jax.numpy as jnp

from adv_jax.linear_bounds import margin_bounds
from adv_jax.losses import classes
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, mean_cross_entropy
from adv_jax.types import Apply, Array, Aux, Batch, Key, Norm, Variables


@objective(ranges={"eps": "[0, inf)", "kappa": "[0, 1]"})
def certified(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    eps: float | Array,
    kappa: float | Array = 0.5,
    method: str = "crown_ibp",
    norm: Norm = "linf",
    bounds: tuple[float, float] | None = None,
) -> tuple[Array, Aux]:
    """Returns kappa J(x, y) + (1 - kappa) J(-m, y), m the lower bounds of the margins in the ball.

    J(-m, y) is at least the loss at any point of the ball. m is the larger one of the bounds by
    intervals and by CROWN, where [zhang2020] averages them with a weight that falls from 1 to 0.
    Raise eps from 0 in the first epochs, as they do; large eps do not train from the start.

    Args:
      apply: a model that has bounds, see `evaluate.certify`; bounded without dropout and with
        running batch statistics.
      batch: {"x": f32[B, *D], "y": i32[B]}.
      key: for the model's noise and dropout in the clean term.
      eps: the radius, in units of x.
      kappa: weight of the clean term, in [0, 1].
      method: "ibp", "crown_ibp" or "crown".
      norm: "linf", "l2", "l1" or "rms".
      bounds: (lo, hi) of valid inputs, or None.

    Returns:
      loss f32[] in nats, and (model_state, {"accuracy", "certified_accuracy": f32[]}) of this
      batch.

    Raises:
      UserError: as `linear_bounds.margin_bounds`.

    Sources: [gowal2018], sec. 3; [zhang2020], eq. 10.
    """
    x, y = batch["x"], batch["y"]
    clean, _, model_state = apply(variables, x, train=True, key=key)
    logits_fn = lambda x: apply(variables, x).logits
    margins = margin_bounds(logits_fn, x, y, eps, method=method, norm=norm, bounds=bounds)
    worst = jnp.where(jax.nn.one_hot(classes(y), margins.shape[1], dtype=bool), 0, -margins)
    loss = kappa * mean_cross_entropy(clean, y) + (1 - kappa) * mean_cross_entropy(worst, y)
    metrics = {
        "accuracy": accuracy(clean, y),
        "certified_accuracy": (margins > 0).all(axis=1).mean(),
    }
    return loss, (model_state, metrics)

"""The evidence lower bound of a variational autoencoder."""

from adv_jax.objectives.stating import objective
from adv_jax.types import Apply, Array, Aux, Batch, Key, Variables


@objective(predicts=("loss",))
def vae(apply: Apply, variables: Variables, batch: Batch, *, key: Key) -> tuple[Array, Aux]:
    """Returns the negative evidence lower bound, the mean over rows, at one z of each row.

        E_q -log p(x | z) + KL(q(z | x) || p(z)) >= -log p(x),    z = mean(x) + std(x) * noise

    Args:
      apply: a `models.vae`.
      batch: {"x": f32[B, *D], "y": i32[B]}; labels are not used.
      key: for the noise.

    Returns:
      loss f32[] in nats, and (model_state, metrics): "reconstruction" and "divergence", the two
      terms. If "divergence" stays at 0, the codes say nothing about the images.

    Source: [kingma2014], eq. 10.
    """
    bound = apply(variables, batch["x"], train=True, key=key, method="row_loss")
    metrics = {name: values.mean() for name, values in bound.extras.items()}
    return bound.logits.mean(), (bound.model_state, metrics)

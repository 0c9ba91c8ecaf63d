"""Output distribution matching: predictions that a critic cannot tell from labels."""

import jax

from adv_jax.generative.objectives.gan import (
    GENERATED,
    REAL,
    check_players,
    constant,
    origin_loss,
    probability,
)
from adv_jax.losses import classes
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, mean_cross_entropy, unlabeled
from adv_jax.types import Apply, Array, Aux, Batch, Key, Variables

PLAYERS = ("classifier", "adversary")


@objective(ranges={"weight": "[0, inf)"})
def output_matching(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    weight: float | Array = 1.0,
) -> tuple[Array, Aux]:
    """Returns the sum of the losses of two players, each with the other's parameters constant.

        classifier   J(x_l, y_l) - weight * E log D(F(x))
        adversary    -E log D(y) - E log(1 - D(F(x)))

    F(x) are the predicted probabilities for unlabeled images, and y labels as one-hot vectors,
    which need not belong to them. One of K classes for each image is a small space of outputs: its
    distribution cannot name the classes, so that a few images need labels.

    Args:
      apply: a `models.judged` with layer=0, or a model like it.
      batch: {"x": f32[B, *D], "y": i32[B]}, labeled images, and "unlabeled".
      key: for dropout.
      weight: of the matching, >= 0; with 0 only the labeled images train the classifier.

    Returns:
      loss f32[] in nats, and (model_state, metrics): "classifier_loss" and
      "adversary_loss", "labels" and "predictions", the mean D of both, and "accuracy" on the
      labeled images.

    Raises:
      UserError: the model has other parts than the two players; the batch has no unlabeled inputs.

    Sources: [sutskever2015]; [wardefarley2016], sec. 1.4.5.
    """
    check_players(variables, PLAYERS)
    key_labeled, key_unlabeled = jax.random.split(key)
    labeled, _, model_state = apply(variables, batch["x"], train=True, key=key_labeled)
    variables = {**variables, **model_state}
    logits, _, model_state = apply(variables, unlabeled(batch), train=True, key=key_unlabeled)
    predictions = jax.nn.softmax(logits)
    labels = jax.nn.one_hot(classes(batch["y"]), logits.shape[1], dtype=logits.dtype)

    def verdict(outputs: Array, *, of: Variables = variables) -> Array:
        return apply(of, outputs, method="judge_classes").logits

    real, generated = verdict(labels), verdict(jax.lax.stop_gradient(predictions))
    fooled = verdict(predictions, of=constant(variables, ["adversary"]))
    supervised = mean_cross_entropy(labeled, batch["y"])
    classifier = supervised + weight * origin_loss(fooled, REAL)
    adversary = origin_loss(real, REAL) + origin_loss(generated, GENERATED)
    metrics = {
        "classifier_loss": classifier,
        "adversary_loss": adversary,
        "labels": probability(real),
        "predictions": probability(generated),
        "accuracy": accuracy(labeled, batch["y"]),
    }
    return classifier + adversary, (model_state, metrics)

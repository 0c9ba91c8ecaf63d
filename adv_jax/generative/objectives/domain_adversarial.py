"""Features that hide something from an adversary: the domain, or a private attribute."""

import jax.numpy as jnp

from adv_jax.generative.objectives.gan import check_players
from adv_jax.generative.objectives.gradient_reversal import reverse_gradient
from adv_jax.losses import as_classes
from adv_jax.objectives.stating import objective
from adv_jax.objectives.terms import accuracy, mean_cross_entropy, unlabeled
from adv_jax.types import Apply, Array, Aux, Batch, Key, Output, Variables

SOURCE, TARGET = 0, 1  # classes of the adversary
PLAYERS = ("classifier", "adversary")


@objective(ranges={"weight": "[0, inf)"})
def domain_adversarial(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    weight: float | Array = 1.0,
) -> tuple[Array, Aux]:
    """Returns the loss on a labeled domain, plus that of an adversary that guesses the domain.

        J(C(h_s), y) + J(A(R(h)), domain)

    R reverses the gradient: the adversary A minimizes its loss, and the features h of both domains
    maximize weight times that loss, so that what C learns on the source holds on the target. It is
    a game of two players, "classifier", which has the features, and "adversary".

    Args:
      apply: a `models.judged`, or a model like it.
      batch: {"x": f32[B, *D], "y": i32[B]}, the source, and "unlabeled", the target: see
        `data.target` of a config.
      key: for dropout.
      weight: lambda of the source, >= 0; with 0 the features ignore the adversary.

    Returns:
      loss f32[] in nats, and (model_state, metrics): "classifier_loss" and "adversary_loss",
      "accuracy" on the source, and "guessed", the share of domains that the adversary finds; .5
      if the features hide the domain and both have equally many rows.

    Raises:
      UserError: the model has other parts than the two players; the batch has no unlabeled inputs,
        or they have another shape than x.

    Sources: [ganin2016]; [wardefarley2016], sec. 1.4.6.
    """
    x, y = batch["x"], batch["y"]
    both = jnp.concatenate([x, unlabeled(batch)])
    domains = jnp.where(jnp.arange(len(both)) < len(x), SOURCE, TARGET)
    features = apply(variables, both, train=True, key=key, method="represent")
    logits = _classified(apply, variables, features.logits[: len(x)], key=key)
    return _game(apply, variables, features, logits, y, domains, key=key, weight=weight)


@objective(ranges={"weight": "[0, inf)"})
def censored(
    apply: Apply,
    variables: Variables,
    batch: Batch,
    *,
    key: Key,
    weight: float | Array = 1.0,
) -> tuple[Array, Aux]:
    """Returns the loss of a public attribute, plus that of an adversary of a private one.

        J(C(h), y // 2) + J(A(R(h)), y % 2)

    R reverses the gradient, as in `domain_adversarial`: the features h serve C and hide the parity
    of the label.

    Args:
      apply: a `models.censored`, or a model like it.
      batch: {"x": f32[B, *D], "y": i32[B]}, y below twice the number of public classes.
      key: for dropout.
      weight: of the adversary's loss for the features, >= 0; with 0 nothing is hidden.

    Returns:
      loss f32[] in nats, and (model_state, metrics): "classifier_loss" and "adversary_loss",
      "accuracy" of the public attribute, and "guessed", the share of private attributes that the
      adversary finds. A low share does not show that nothing leaks: train a fresh adversary.

    Raises:
      UserError: the model has other parts than the two players; y is not i32[B], or a known label
        is not below twice the number of public classes.

    Sources: [edwards2016], without the reconstruction of the input; [wardefarley2016], sec. 1.4.6.
    """
    features = apply(variables, batch["x"], train=True, key=key, method="represent")
    logits = _classified(apply, variables, features.logits, key=key)
    y = as_classes(batch["y"], 2 * logits.shape[-1], name="y")
    return _game(apply, variables, features, logits, y // 2, y % 2, key=key, weight=weight)


def _classified(apply: Apply, variables: Variables, h: Array, *, key: Key) -> Array:
    """Returns the classifier's logits of features, f[B, *H] -> f[B, K]."""
    check_players(variables, PLAYERS)
    return apply(variables, h, train=True, key=key, method="classify").logits


def _game(
    apply: Apply,
    variables: Variables,
    features: Output,
    logits: Array,
    labels: Array,
    hidden: Array,
    *,
    key: Key,
    weight: float | Array,
) -> tuple[Array, Aux]:
    """Returns loss and (model_state, metrics) of the classifier and the adversary of features.

    logits, labels: of the classifier, f[n, K] and i32[n].
    hidden: i32[B], what the adversary is to find.
    """
    guesses = apply(variables, reverse_gradient(features.logits, weight), method="judge").logits
    classifier, adversary = mean_cross_entropy(logits, labels), mean_cross_entropy(guesses, hidden)
    metrics = {
        "classifier_loss": classifier,
        "adversary_loss": adversary,
        "accuracy": accuracy(logits, labels),
        "guessed": accuracy(guesses, hidden),
    }
    return classifier + adversary, (features.model_state, metrics)

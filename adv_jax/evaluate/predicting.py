"""Predictions of a classifier, and what the logits of each row show."""

from typing import Any

import jax
import jax.numpy as jnp

from adv_jax.checks import checked_logits, logit_flags, with_aux
from adv_jax.types import Array, LogitsFn


def predictions(logits: Array) -> dict[str, Array]:
    """Returns {"label": i32[B], "confidence": f32[B]} of logits f32[B, K]."""
    probs = jax.nn.softmax(checked_logits(logits, batch=len(logits)))
    return {
        "label": jnp.argmax(logits, axis=1).astype(jnp.int32),
        "confidence": probs.max(axis=1),
    }


def predicted(logits_fn: LogitsFn, x: Array, aux: Any = None) -> dict[str, Array]:
    """Returns `predictions` and `logit_flags` of a batch: f[B] each."""
    logits = with_aux(logits_fn, aux)(x)
    return predictions(logits) | logit_flags(logits)

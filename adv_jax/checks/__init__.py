"""Checks of arguments, one for each value, shared by the attacks, `evaluate` and the commands.

They raise UserError, `{name} must be {what is allowed}, got {value}`. Inside jit, vmap or grad the
values are unknown, and only shapes and dtypes are checked, at no cost.
"""

from adv_jax.checks._ball import ball, checked_mask, is_per_feature
from adv_jax.checks._keywords import check_keywords, own_keywords
from adv_jax.checks._model import (
    bad_rows,
    callback_errors,
    check_finite,
    check_flags,
    check_function,
    check_logits,
    checked_apply,
    checked_labels,
    checked_logits,
    explained,
    has_derivative,
    logit_flags,
    traceable,
    traced,
    with_aux,
)
from adv_jax.checks._values import (
    as_batch,
    broadcasts,
    check_booleans,
    check_bounds,
    check_rows,
    check_width,
    checked_count,
    checked_number,
    convex,
    is_known,
    is_whole,
    linf_or_l2,
    radius,
    width,
)

__all__ = [
    "as_batch",
    "bad_rows",
    "ball",
    "broadcasts",
    "callback_errors",
    "check_booleans",
    "check_bounds",
    "check_finite",
    "check_flags",
    "check_function",
    "check_keywords",
    "check_logits",
    "check_rows",
    "check_width",
    "checked_apply",
    "checked_count",
    "checked_labels",
    "checked_logits",
    "checked_mask",
    "checked_number",
    "convex",
    "explained",
    "has_derivative",
    "is_known",
    "is_per_feature",
    "is_whole",
    "linf_or_l2",
    "logit_flags",
    "own_keywords",
    "radius",
    "traceable",
    "traced",
    "width",
    "with_aux",
]

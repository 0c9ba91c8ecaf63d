"""Checks of arguments, one for each value, shared by the attacks, `evaluate` and the commands.

They raise UserError, `{name} must be {what is allowed}, got {value}`. Inside jit, vmap or grad the
values are unknown, and only shapes and dtypes are checked, at no cost: not labels out of range, a
negative eps or NaN.
"""

from adv_jax.checks._ball import ball, checked_mask, is_per_feature
from adv_jax.checks._calls import (
    WRAP,
    arity,
    callback_errors,
    check_takes,
    explained,
    has_derivative,
    traceable,
)
from adv_jax.checks._keywords import check_complete, check_keywords, is_targeted, own_keywords
from adv_jax.checks._logits import (
    array_of_lists,
    bad_rows,
    check_finite,
    check_flags,
    check_logits,
    checked_labels,
    checked_logits,
    finite_rows,
    logit_flags,
)
from adv_jax.checks._model import (
    check_batched,
    check_function,
    check_like_x,
    checked_apply,
    like_x,
    traced_model,
    with_aux,
)
from adv_jax.checks._values import (
    as_batch,
    broadcasts,
    check_booleans,
    check_bounds,
    check_box,
    check_rows,
    check_width,
    checked_count,
    checked_number,
    is_whole,
    radius,
    width,
)

__all__ = [
    "WRAP",
    "arity",
    "array_of_lists",
    "as_batch",
    "bad_rows",
    "ball",
    "broadcasts",
    "callback_errors",
    "check_batched",
    "check_booleans",
    "check_bounds",
    "check_box",
    "check_complete",
    "check_finite",
    "check_flags",
    "check_function",
    "check_keywords",
    "check_like_x",
    "check_logits",
    "check_rows",
    "check_takes",
    "check_width",
    "checked_apply",
    "checked_count",
    "checked_labels",
    "checked_logits",
    "checked_mask",
    "checked_number",
    "explained",
    "finite_rows",
    "has_derivative",
    "is_per_feature",
    "is_targeted",
    "is_whole",
    "like_x",
    "logit_flags",
    "own_keywords",
    "radius",
    "traceable",
    "traced_model",
    "width",
    "with_aux",
]

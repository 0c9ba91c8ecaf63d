"""Any function of NumPy arrays as logits_fn, without a derivative."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.checks import check_function, checked_number
from adv_jax.types import (
    Array,
    LogitsFn,
    UserError,
    described,
    host_array,
    is_known,
    working_dtype,
)


def black_box(predict: Callable[[np.ndarray], Any], num_classes: int | None = None) -> LogitsFn:
    """Returns a function of NumPy arrays as x f[B, *D] -> logits f32[B, K], without a derivative.

    Under x64 the logits of x f64 are f64.

    Attacks by forward passes alone take it: `hop_skip_jump`, `boundary`, `square`, noise. Beside
    the queries of the attack, predict is called once on zeros and once on x, whose logits are
    checked (`square` starts from these; `hop_skip_jump` and `boundary` ask once more for x).
    Labels become 1 for the predicted class and -1 for the others, which is what decision-based
    attacks read. Scores are taken as logits; for probabilities, write
    `lambda x: jnp.log(logits_fn(x).clip(1e-6))`.

    Args:
      predict: x f[B, *D] -> labels i[B] from 0 to K - 1, or scores f[B, K], for any B: `predict` of
        scikit-learn, a session of ONNX Runtime, a request to a server.
      num_classes: K, which labels need; the width of the scores if None.

    Raises:
      UserError: predict is no function, or num_classes is below 2; when called, as predict returns
        another shape, other labels, or labels without num_classes. In a program of your own under
        `jit` JAX raises its own error, which contains this one.

    >>> w = np.array([[1., -1.], [-1., 1.]])
    >>> logits_fn = black_box(lambda x: np.argmax(x @ w, axis=1), num_classes=2)
    >>> logits_fn(jnp.array([[.2, .1], [.3, .4]]))
    Array([[ 1., -1.],
           [-1.,  1.]], dtype=float32)
    """
    check_function(
        predict,
        name="predict",
        allowed="a function of NumPy arrays",
        instead="pass the method model.predict",
    )
    num_classes = checked_number("num_classes", num_classes, "{2, 3, ...}", optional=True)

    @functools.cache  # The same callback for the same shape: compiled programs are reused.
    def bridged(shape: tuple[int, ...], dtype: Any) -> tuple[Callable[..., np.ndarray], int]:
        classes = _scores(predict, np.zeros(shape, dtype), num_classes).shape[1]

        def answers(x: Array) -> np.ndarray:
            rows = np.array(x).reshape(-1, *shape[1:])  # A copy, which predict may write into.
            scores = _scores(predict, rows, classes).astype(working_dtype(dtype))
            return scores.reshape(*x.shape[: x.ndim + 1 - len(shape)], classes)

        return answers, classes

    def logits_fn(x: Array) -> Array:
        x = jnp.asarray(x)
        answers, classes = bridged(x.shape, x.dtype)
        if is_known(x):
            return jnp.asarray(answers(x))
        like = jax.ShapeDtypeStruct((x.shape[0], classes), working_dtype(x.dtype))
        return jax.pure_callback(answers, like, x, vmap_method="expand_dims")

    return logits_fn


def _scores(
    predict: Callable[[np.ndarray], Any], x: np.ndarray, num_classes: int | None
) -> np.ndarray:
    """Returns the predictions for x f[B, *D] as numbers [B, K]."""
    returned = predict(x)
    if getattr(returned, "requires_grad", False):
        instead = "call .detach(), or use from_torch, which gives attacks the gradient"
        raise UserError(f"predict must return numbers, got a tensor with a gradient: {instead}")
    found = host_array(returned)
    if (
        found is None
        or found.shape[:1] != x.shape[:1]
        or found.ndim not in (1, 2)
        or (found.ndim == 2 and found.dtype.kind not in "iufV")
    ):
        raise UserError(
            f"predict must return labels i[B] or scores f[B, K] with B = {len(x)}, got "
            f"{described(returned)}"
        )
    if found.ndim == 1:
        return _one_hot(found, num_classes)
    if found.shape[1] != (num_classes or found.shape[1]):
        raise UserError(
            f"predict must return scores of num_classes = {num_classes} classes, got "
            f"{described(found)}"
        )
    return found


def _one_hot(labels: np.ndarray, num_classes: int | None) -> np.ndarray:
    """Returns 1 for the label and -1 for the other classes: unlike 0 and 1, no probabilities."""
    if num_classes is None:
        raise UserError("num_classes must be the number of classes for labels, got None")
    legal = np.arange(num_classes)
    wrong = labels if labels.dtype.kind not in "iu" else labels[~np.isin(labels, legal)]
    if len(wrong):
        raise UserError(
            f"predict must return integers from 0 to {num_classes - 1} as labels, got "
            f"{wrong.tolist()[0]!r}"
        )
    return np.where(labels[:, None] == legal, np.float32(1), np.float32(-1))

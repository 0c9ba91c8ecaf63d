"""Perturbations found on another model."""

from jax.typing import ArrayLike

from adv_jax.attacks._attack import attack
from adv_jax.attacks._bare import given_or_predicted
from adv_jax.checks import as_batch, check_function, check_rows
from adv_jax.types import (
    Array,
    Attack,
    Bounds,
    Key,
    LogitsFn,
    Mask,
    RowTree,
    UserError,
    check_callable,
)


@attack(aimed=False, gradient=False, compiles=False)
def transferred(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    source_fn: LogitsFn,
    attack: Attack,
    eps: ArrayLike,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    key: Key | None = None,
) -> Array:
    """Runs `attack` on another model, `source_fn`.

    Args:
      source_fn: f32[B, *D] -> f32[B, K], the model that is attacked.
      attack: (logits_fn, x, y, *, eps, bounds, key) -> x_adv; it gets mask and aux too, if given.
      eps: size of the attack, f32[] or f32[B], or of each feature.
      logits_fn: the model to evaluate; used only for virtual labels if y is None.
      aux: side inputs of the rows for both models, as in `fgsm`.
      x, y, bounds, mask, key: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x.

    Raises:
      UserError: as `attack` does, of source_fn; one of the three is no function.

    Sources: [szegedy2014], sec. 4.2; the fixed adversarial set of [huang2015], sec. 7.

    >>> import jax.numpy as jnp
    >>> from adv_jax.attacks import fgsm
    >>> source, model = jnp.array([[1., -1.], [2., 0.]]), jnp.array([[2., 0.], [0., 1.]])
    >>> transferred(lambda x: x @ model, jnp.array([[.5, .5]]), jnp.array([0]),
    ...             source_fn=lambda x: x @ source, attack=fgsm, eps=.1)
    Array([[0.4, 0.4]], dtype=float32)
    """
    check_function(logits_fn)
    check_function(source_fn, name="source_fn")
    check_callable(attack, "attack", such_as="fgsm")
    x = as_batch(x, bounds)
    check_rows("aux", aux, batch=x.shape[0])
    y = given_or_predicted(logits_fn, x, y, aux, targeted=False)
    given = {name: value for name, value in (("mask", mask), ("aux", aux)) if value is not None}
    try:
        return attack(source_fn, x, y, eps=eps, bounds=bounds, key=key, **given)
    except UserError as error:  # The attack calls its model logits_fn.
        raise UserError(str(error).replace("logits_fn", "source_fn")) from error

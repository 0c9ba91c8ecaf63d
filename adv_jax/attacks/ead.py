"""Elastic-net attack (EAD): sparse perturbations, by FISTA on the l1 and l2 norm and a penalty."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adv_jax import norms
from adv_jax.attacks._attack import attack
from adv_jax.attacks._best import Shortest
from adv_jax.attacks._lengths import search_length
from adv_jax.attacks._penalty import first_const, search, squared
from adv_jax.attacks._region import Region
from adv_jax.attacks._traits import ITERATED
from adv_jax.checks import checked_logits
from adv_jax.loss_gradients import labels_at, margin, rate_fn, with_gradient
from adv_jax.perturbations import in_units, moved, of_units, perturbed, spread
from adv_jax.types import Array, Bounds, Key, LogitsFn, Mask, RowTree, check_choice, working_dtype

RULES = ("en", "l1")
BETA, INITIAL_CONST = 1e-2, 1e-3  # in units of the typical length, and in squares of it


@attack(
    norm="l1",
    rank=ITERATED,
    minimal=True,
    ranges={"beta": "[0, inf)"},
    row_ranges={
        "initial_const": "(0, inf)",
        "learning_rate": "(0, inf)",
        "confidence": "[0, inf)",
    },
)
def ead(
    logits_fn: LogitsFn,
    x: Array,
    y: Array | None,
    *,
    beta: ArrayLike | None = None,
    rule: str = "en",
    confidence: ArrayLike = 0.0,
    search_steps: int = 9,
    num_steps: int = 1000,
    learning_rate: ArrayLike = 1e-2,
    initial_const: ArrayLike | None = None,
    eps: ArrayLike | None = None,
    bounds: Bounds | None = None,
    mask: Mask | None = None,
    aux: RowTree | None = None,
    targeted: bool = False,
    key: Key | None = None,
) -> Array:
    """EAD: the smallest perturbation in the elastic net of l1 and l2 that reaches a logit margin.

        minimize beta |r|_1 + |r|_2^2 + c max(confidence - margin(x + r, y), 0)
        r_{t+1} = clip(S_beta(q_t - a_t grad g(q_t))),   r_0 = q_0 = 0,
        q_{t+1} = r_{t+1} + t / (t + 3) (r_{t+1} - r_t),   a_t = a_0 sqrt(1 - t / num_steps)

    g is the objective without beta |r|_1; S_beta(z)_i = sign(z_i) max(|z_i| - beta, 0) sets small
    entries to 0 (FISTA). margin = largest other logit - logit_y, negated if targeted. c is searched
    row by row, as in `carlini_wagner`. Per row, the result is the shortest r_t with a margin above
    `confidence`, over all c. A row that has this margin at x, or never, is returned unchanged.

    Args:
      beta: weight of |r|_1 and threshold of a step, f32[], >= 0, in units of x (of eps, if that is
        of each feature); None: .01 times the width of the bounds, or without finite bounds the
        distance of the linearized boundary.
      rule: "en": the shortest in beta |r|_1 + |r|_2^2; "l1": in |r|_1.
      confidence: the margin to exceed, f32[] or f32[B], >= 0, in units of the logits.
      search_steps: values of c, >= 1; c grows tenfold until a row is fooled.
      num_steps: gradients for each c, >= 1; each step also takes a forward pass at x + r_t.
      learning_rate: a_0, f32[] or f32[B], > 0.
      initial_const: the first c, f32[] or f32[B], > 0, in squared units of x; None: .001 times the
        square of that length.
      eps: None: the perturbation found; f32[] or f32[B], >= 0: projected onto that l1 ball; or the
        radius of each feature, as in `fgsm`, in units of which the perturbation is short.
      logits_fn, x, y, bounds, mask, aux, targeted, key: as in `fgsm`.

    Returns:
      f[B, *D] in the dtype of x, constant: it carries no gradient.

    Raises:
      UserError: unknown rule; beta, num_steps, search_steps, confidence, learning_rate or
        initial_const out of range; and as `fgsm`.

    Source: [chen2018], eq. 7 and Algorithm 1; the settings are those of sec. 4.

    >>> import jax.numpy as jnp
    >>> w = jnp.array([[1., -1.], [2., 0.]])  # Equal logits where 2 x_0 + 2 x_1 = 0.
    >>> x = jnp.array([[.5, .3]])
    >>> x_adv = ead(lambda x: x @ w, x, jnp.array([0]), num_steps=100)
    >>> bool(jnp.argmax(x_adv @ w) == 1), round(float(jnp.abs(x_adv - x).sum()), 1)
    (True, 0.8)
    """
    check_choice("rule", rule, RULES)
    region = Region.of(x, eps, "l1", bounds, mask)
    unit = region.units(eps)
    confidence = norms.per_row("confidence", confidence, x).ravel()
    learning_rate = norms.per_row("learning_rate", learning_rate, x)
    y = labels_at(logits_fn, x, y, targeted=targeted)
    sign = -1 if targeted else 1
    length = search_length(logits_fn, x, y, bounds, unit, targeted=targeted)
    unit = length if unit is None else unit * length
    weight = (
        jnp.full_like(length, BETA) if beta is None else jnp.asarray(beta, length.dtype) / length
    )
    zero = jnp.zeros_like(x, working_dtype(x.dtype))

    def reached(logits: Array, y: Array) -> Array:
        return sign * margin(logits, y) - confidence.astype(logits.dtype)

    rate = rate_fn(lambda z, y: jnp.minimum(reached(z, y), 0), logits_fn, x, y)

    def tried(r: Array, point: Array) -> Shortest:
        logits, u = checked_logits(logits_fn(point), batch=x.shape[0]), in_units(r, unit)
        length = jnp.abs(u).reshape(len(u), -1).sum(axis=1)
        if rule == "en":
            length = weight.ravel() * length + squared(u)
        return Shortest.of(r, length, reached(logits, y) > 0)

    def attempt(const: Array) -> Shortest:
        const = spread(const, x)

        def step(carry: tuple, count: Array) -> tuple[tuple, None]:
            r, ahead, point, best = carry
            gradient = with_gradient(rate, point)[1]
            left = 1 - count.astype(r.dtype) / num_steps
            u = in_units(ahead, unit)
            u = u - learning_rate * jnp.sqrt(left) * (2 * u - const * of_units(gradient, unit))
            u = jnp.sign(u) * jnp.maximum(jnp.abs(u) - weight, 0)
            now = region.clipped(of_units(u, unit))
            best = best.or_shorter(tried(now, perturbed(x, now, bounds)))
            ahead = now + (count / (count + 3)).astype(r.dtype) * (now - r)
            return (now, ahead, moved(x, ahead), best), None

        begun = zero, zero, x, Shortest.none(zero)
        (*_, best), _ = jax.lax.scan(step, begun, jnp.arange(num_steps))
        return best

    first = first_const(initial_const, INITIAL_CONST, length)
    r = search(attempt, tried(zero, x), initial_const=first, search_steps=search_steps)
    return region.perturbed(r)

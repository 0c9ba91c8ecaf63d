"""Sound bounds of a network's outputs over a ball of inputs, from the jaxpr of any function.

Interval bound propagation and the linear bounds of CROWN, for `evaluate.certify` and
`objectives.certified`.
"""

from adv_jax.linear_bounds._margins import METHODS as METHODS
from adv_jax.linear_bounds._margins import margin_bounds as margin_bounds

__all__ = ["METHODS", "margin_bounds"]

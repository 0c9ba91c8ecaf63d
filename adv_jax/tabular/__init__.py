"""Tables: what makes a row valid, and attacks whose examples are valid rows.

A row of a table is more than a point of a ball: counts are whole numbers, of the columns of a
category exactly one is 1, an age does not fall, a part is at most its total. `Constraints` states
such rules; `climb` and `search` look for adversarial examples among the valid rows alone, and
`valid_only` puts x back where another attack's example is no valid row.
"""

from adv_jax.tabular._attacks import climb, search, valid_only
from adv_jax.tabular._constraints import Constraints

__all__ = ["Constraints", "climb", "search", "valid_only"]

"""The rules of a table's rows."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from adv_jax.checks import as_batch, check_keywords, checked_count, is_whole
from adv_jax.row_flags import note_flags
from adv_jax.types import (
    Array,
    UserError,
    described,
    dtype_of,
    is_known,
    is_real,
    widened,
    working_dtype,
)

ROUNDING = 2e-6  # of a relation's sum, relative to the sum of its terms' sizes
Columns = Sequence[int]


@dataclasses.dataclass(frozen=True)
class Constraints:
    """The rules of a valid row of a table, and of a valid change of it.

    A feature is real unless it is listed otherwise. All columns count from 0, and a column is at
    most one of integer, one-hot and fixed.

    Args:
      num_features: D, the number of columns, >= 1.
      integer: columns of whole numbers.
      one_hot: groups of two or more columns, of which exactly one is 1 and the others are 0.
      fixed: columns that do not change.
      only_up, only_down: columns that may only grow, or only fall.
      bounds: (lo, hi) of the features, each a number or f[D]; infinite: no bound.
      relations: (A f[m, D], b f[m]), A x <= b up to the rounding of float32: an excess of
        2e-6 (|A| |x| + |b|) is accepted. An equation is two relations.
      costs: price of a change by 1, a number or f[D], > 0. Attacks measure a change as the norm of
        costs * (x_adv - x), whose limit is eps: a dear column moves less. None: 1. They are no
        rule: any valid row stays valid.

    Raises:
      UserError: a kind that is unknown; a column that does not exist or has two kinds; a group of
        one column; bounds that are reversed, or have no whole number between them, or no row of a
        group; relations of another shape, or that no row satisfies; costs of another shape, or not
        positive.

    >>> table = Constraints(4, integer=[0], one_hot=[(1, 2)], only_up=[0], bounds=(0, 9))
    >>> x = jnp.array([[3., 1., 0., .5]])
    >>> table.project(x, jnp.array([[4.4, .3, .6, 12.]]))
    Array([[4., 0., 1., 9.]], dtype=float32)
    """

    num_features: int
    _: dataclasses.KW_ONLY
    integer: Columns = ()
    one_hot: Sequence[Columns] = ()
    fixed: Columns = ()
    only_up: Columns = ()
    only_down: Columns = ()
    bounds: tuple[Any, Any] = (-np.inf, np.inf)
    relations: tuple[Any, Any] | None = None
    costs: Any = None

    def __new__(cls, *_: Any, **given: Any) -> "Constraints":
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        check_keywords(cls.__name__, given, inspect.Signature(parameters))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        num_features = checked_count("num_features", self.num_features)
        object.__setattr__(self, "num_features", num_features)
        # Tuples, as attacks compile a program for each hash.
        for name in ("integer", "fixed", "only_up", "only_down"):
            object.__setattr__(self, name, self._columns(name, getattr(self, name)))
        if not isinstance(self.one_hot, tuple | list):
            raise UserError(f"one_hot must be groups of columns, got {described(self.one_hot)}")
        groups = tuple(self._columns("one_hot", group) for group in self.one_hot)
        object.__setattr__(self, "one_hot", groups)
        for group in groups:
            if len(group) < 2:
                raise UserError(f"one_hot must be groups of two columns or more, got {group}")
        self._check_kinds()
        object.__setattr__(self, "bounds", self._bounds())
        if self.relations is not None:
            object.__setattr__(self, "relations", self._relations())
        if self.relations is not None:
            self._check_satisfiable()
        if self.costs is not None:
            object.__setattr__(self, "costs", self._costs())

    def violations(self, x: Array, x_adv: Array) -> dict[str, Array]:
        """Returns which rules the rows x_adv f[B, D] break, as valid changes of x f[B, D].

        A NaN breaks every rule of its column.

        Returns:
          bool[B, n] for each name: "bounds" [B, D]; "integer", "fixed", "only_up", "only_down" in
          the order of their columns; "one_hot", by group; "relations", by relation.

        Raises:
          UserError: rows of another width, or not equally many.
        """
        self._check_rows("x", x)
        self._check_rows("x_adv", x_adv, count=len(x))
        x, x_adv = (widened(a) for a in map(jnp.asarray, (x, x_adv)))
        lo, hi = (jnp.asarray([bound], x_adv.dtype) for bound in self.bounds)

        def of(name: str) -> tuple[Array, Array]:
            columns = np.array(getattr(self, name), int)
            return x[:, columns], x_adv[:, columns]

        broken = {
            "bounds": ~((x_adv >= lo) & (x_adv <= hi)),
            "integer": ~(of("integer")[1] == jnp.round(of("integer")[1])),
            "fixed": ~(of("fixed")[1] == of("fixed")[0]),
            "only_up": ~(of("only_up")[1] >= of("only_up")[0]),
            "only_down": ~(of("only_down")[1] <= of("only_down")[0]),
        }
        groups = [x_adv[:, np.array(group)] for group in self.one_hot]
        is_one_hot = [
            ((g == 0) | (g == 1)).all(axis=1) & ((g == 1).sum(axis=1) == 1) for g in groups
        ]
        nothing = jnp.zeros((len(x_adv), 0), bool)
        broken["one_hot"] = ~jnp.stack(is_one_hot, axis=1) if groups else nothing
        broken["relations"] = nothing if self.relations is None else self._unrelated(x_adv)
        return broken

    def valid(self, x: Array, x_adv: Array) -> Array:
        """Returns whether each row of x_adv is a valid change of x: f[B, D], f[B, D] -> bool[B]."""
        broken = self.violations(x, x_adv).values()
        return ~jnp.concatenate(list(broken), axis=1).any(axis=1)

    def check(self, x: Array) -> None:
        """Raises UserError for rows f[B, D] of another width, or that break a rule themselves.

        An evaluation checks the rows that it traces.
        """
        self._check_rows("x", x)
        if not is_known(x):
            note_flags(lambda: {"constraints": self.valid(x, x)})
            return
        for rule, broken in self.violations(x, x).items():
            if (found := np.argwhere(broken)).size:
                row, which = map(int, found[0])
                where, value = self._place(rule, which, np.asarray(x)[row])
                raise UserError(f"x must obey its constraints, got {value} in row {row}, {where}")

    def project(self, x: Array, x_adv: Array) -> Array:
        """Returns valid rows near x_adv: f[B, D], f[B, D] -> f[B, D] in the dtype of x.

        Columns are clipped to their bounds and directions, integers rounded, and a group becomes
        its largest column. Then the real columns are projected onto each relation in turn. A row
        that still breaks a relation, as integers and groups are not searched for a solution,
        keeps them as in x, and its real columns move toward x until the row is valid; at worst it
        is x. Every row is valid, exactly as `violations` says, if that of x is.

        Raises:
          UserError: as `check`; x_adv of another shape, or not finite.
        """
        from adv_jax.tabular._repair import projected  # it needs the constraints

        x, x_adv = as_batch(x), as_batch(x_adv, name="x_adv")
        self.check(x)
        if x_adv.shape != x.shape:
            wanted, found = described(x), described(x_adv)
            raise UserError(f"x_adv must have the shape of x, {wanted}, got {found}")
        return projected(self, x, x_adv)

    def box(self, x: Array) -> tuple[Array, Array]:
        """Returns the limits of each entry by bounds, kinds and directions: two f[B, D]."""
        lo, hi = (jnp.broadcast_to(jnp.asarray(b, x.dtype), x.shape) for b in self.bounds)
        stay, up, down = map(self.marked, (self.fixed, self.only_up, self.only_down))
        lo = jnp.where(stay | up, jnp.maximum(lo, x), lo)
        hi = jnp.where(stay | down, jnp.minimum(hi, x), hi)
        grouped = self.marked(self.in_groups)
        lo = jnp.where(grouped, jnp.maximum(lo, 0), lo)
        hi = jnp.where(grouped, jnp.minimum(hi, 1), hi)
        whole = self.marked(self.integer)
        return jnp.where(whole, jnp.ceil(lo), lo), jnp.where(whole, jnp.floor(hi), hi)

    def marked(self, columns: Columns) -> np.ndarray:
        """Returns bool[1, D], True for the columns."""
        return np.isin(np.arange(self.num_features), np.array(columns, int))[None]

    @property
    def in_groups(self) -> tuple[int, ...]:
        """The columns of all one-hot groups."""
        return tuple(column for group in self.one_hot for column in group)

    @property
    def real(self) -> np.ndarray:
        """bool[1, D], True for columns that are neither integer, one-hot nor fixed."""
        return ~self.marked((*self.integer, *self.in_groups, *self.fixed))

    def _unrelated(self, x: Array) -> Array:
        dtype = working_dtype(x.dtype)
        a, b = (jnp.asarray(part, dtype) for part in self.relations or ())
        x = x.astype(dtype)
        room = ROUNDING * (jnp.abs(x) @ jnp.abs(a).T + jnp.abs(b)[None])
        return ~(x @ a.T - b[None] <= room)

    def _check_rows(self, name: str, rows: Any, count: int | None = None) -> None:
        """Raises UserError unless rows are an array f[B, D], of B = count rows if it is given."""
        shape = np.shape(rows) if dtype_of(rows).kind != "O" else ()
        if len(shape) != 2 or shape[1] != self.num_features or count not in (None, shape[0]):
            wanted = f"rows f[{'B' if count is None else count}, {self.num_features}]"
            raise UserError(f"{name} must be {wanted}, got {described(rows)}")

    def _columns(self, name: str, columns: Any) -> tuple[int, ...]:
        several = dtype_of(columns).kind != "O" and np.ndim(columns) == 1
        found = tuple(columns) if several else (columns,)
        for column in found:
            if not is_whole(column) or not 0 <= column < self.num_features:
                last = self.num_features - 1
                raise UserError(f"{name} must be columns from 0 to {last}, got {described(column)}")
        return tuple(map(int, found))

    def _check_kinds(self) -> None:
        kinds = [("integer", c) for c in self.integer] + [("fixed", c) for c in self.fixed]
        kinds += [(f"one_hot group {i}", c) for i, g in enumerate(self.one_hot) for c in g]
        seen: dict[int, str] = {}
        for kind, column in kinds:
            if column in seen:
                raise UserError(
                    f"a column must have one kind, got column {column} in {seen[column]} and {kind}"
                )
            seen[column] = kind

    def _bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if not isinstance(self.bounds, tuple | list) or len(self.bounds) != 2:
            raise UserError(f"bounds must be (lo, hi), got {described(self.bounds)}")
        shape = (self.num_features,)
        for bound in self.bounds:
            if not is_real(bound) or np.shape(bound) not in ((), shape):
                found = described(bound)
                raise UserError(f"bounds must be numbers or f[{shape[0]}], got {found}")
        lo, hi = (np.broadcast_to(np.asarray(bound, float), shape) for bound in self.bounds)
        for column in np.flatnonzero(~(lo <= hi)):
            found = f"{lo[column]} and {hi[column]} for column {column}"
            raise UserError(f"bounds must be lo <= hi, got {found}")
        for column in np.flatnonzero((lo == np.inf) | (hi == -np.inf)):
            found = f"{lo[column]} and {hi[column]} for column {column}"
            raise UserError(f"bounds must have a finite number between them, got {found}")
        for column in self.integer:
            if np.ceil(lo[column]) > np.floor(hi[column]):
                found = f"{lo[column]} and {hi[column]} for column {column}"
                raise UserError(f"bounds of an integer must have one between them, got {found}")
        for group in self.one_hot:
            zero, one = ({c for c in group if lo[c] <= v <= hi[c]} for v in (0, 1))
            # The column that is 1 is the only one that need not be 0.
            if not any(zero | {column} == set(group) for column in one):
                found = f"{lo[list(group)].tolist()} and {hi[list(group)].tolist()} for {group}"
                raise UserError(f"bounds of a one_hot group must allow a 1 beside 0, got {found}")
        return tuple(lo.tolist()), tuple(hi.tolist())

    def _relations(self) -> tuple[tuple[tuple[float, ...], ...], tuple[float, ...]] | None:
        """Returns the relations as tuples, None if there are none."""
        wanted = f"relations must be finite in float32, (A f[m, {self.num_features}], b f[m])"
        try:
            a, b = (np.asarray(part, float) for part in self.relations or ())
        except (TypeError, ValueError):
            raise UserError(f"{wanted}, got {described(self.relations)}") from None
        if b.shape == (0,) and a.shape in ((0,), (0, self.num_features)):
            return None
        if a.ndim != 2 or a.shape != (b.size, self.num_features) or b.ndim != 1:
            raise UserError(f"{wanted}, got shapes {list(a.shape)} and {list(b.shape)}")
        for part in (a, b):
            if (wrong := part[~np.isfinite(_narrow(part))]).size:
                raise UserError(f"{wanted}, got {wrong[0]:g}")
        return tuple(map(tuple, a.tolist())), tuple(b.tolist())

    def _costs(self) -> tuple[float, ...]:
        shape = (self.num_features,)
        try:
            costs = np.broadcast_to(np.asarray(self.costs, float), shape)
        except (TypeError, ValueError):
            found = described(self.costs)
            raise UserError(f"costs must be a number or f[{shape[0]}], got {found}") from None
        narrow = _narrow(costs)
        for column in np.flatnonzero(~((narrow > 0) & (narrow < np.inf))):
            found = f"{costs[column]:g} for column {column}"
            raise UserError(f"costs must be positive and finite in float32, got {found}")
        return tuple(costs.tolist())

    def _check_satisfiable(self) -> None:
        """Raises UserError if no row satisfies all rules, by a mixed-integer linear program."""
        from scipy import optimize

        (grouped,) = self.marked(self.in_groups)
        lo, hi = (np.array(bound) for bound in self.bounds)
        bounds = optimize.Bounds(
            np.where(grouped, np.maximum(lo, 0), lo), np.where(grouped, np.minimum(hi, 1), hi)
        )
        a, b = map(np.array, self.relations or ((), ()))
        # The solver refuses coefficients above 1e15, and what it scales loses precision.
        size = np.abs(a).max(axis=1)
        size = np.where(size > 1e15, size, 1)
        rules = [optimize.LinearConstraint(a / size[:, None], ub=b / size)]
        if self.one_hot:
            members = np.concatenate([self.marked(group) for group in self.one_hot]).astype(float)
            rules.append(optimize.LinearConstraint(members, lb=1, ub=1))
        found = optimize.milp(
            np.zeros(self.num_features),
            integrality=grouped | self.marked(self.integer)[0],
            bounds=bounds,
            constraints=rules,
        )
        if found.status == 2:  # infeasible; a time limit is no proof
            raise UserError("relations must hold for some row within the bounds, got none")

    def _place(self, rule: str, which: int, row: np.ndarray) -> tuple[str, Any]:
        """Returns where a row breaks a rule, and the value there."""
        if rule == "relations":
            a, b = self.relations or ((), ())
            return f"relation {which} (A x <= {b[which]:g})", f"{np.dot(a[which], row):g}"
        if rule == "one_hot":
            group = self.one_hot[which]
            return f"one_hot group {which}", described(row[list(group)].tolist())
        column = which if rule == "bounds" else getattr(self, rule)[which]
        return f"column {column} ({rule})", f"{row[column]:g}"


def _narrow(values: np.ndarray) -> np.ndarray:
    """Returns values in float32, the usual dtype of rows, and infinity for larger ones."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)

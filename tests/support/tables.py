"""Drawn tables, and their rules in NumPy."""

import itertools

import numpy as np

from adv_jax.tabular import Constraints


def drawn_table(seed: int, rows: int) -> tuple[Constraints, np.ndarray]:
    """Draws constraints of 6 columns and valid rows f32[rows, 6]."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(6)
    group, others = tuple(order[:3].tolist()), order[3:]
    kinds = rng.choice(["real", "integer", "fixed"], 3)
    listed = {kind: others[kinds == kind].tolist() for kind in ("integer", "fixed")}
    x = np.zeros((rows, 6), np.float32)
    x[np.arange(rows), rng.choice(group, rows)] = 1
    x[:, others] = rng.integers(0, 4, (rows, 3))
    real = others[kinds == "real"]
    x[:, real] += rng.random((rows, len(real))).astype(np.float32) / 2
    a = rng.integers(-1, 3, (rng.integers(0, 3), 6)).astype(float)
    relations = (a, (x @ a.T).max(axis=0) + rng.choice([0.0, 0.5])) if len(a) else None
    up, down = rng.random((2, 6)) < 0.2
    constraints = Constraints(
        6,
        one_hot=[group],
        only_up=np.flatnonzero(up),
        only_down=np.flatnonzero(down),
        bounds=(0, rng.choice([4.0, np.inf])),
        relations=relations,
        **listed,
    )
    return constraints, x


def obeys(constraints: Constraints, x: np.ndarray, x_adv: np.ndarray) -> bool:
    """Returns whether a row is a valid change of another, by plain loops in float64."""
    c, x, x_adv = constraints, x.astype(float), x_adv.astype(float)
    lo, hi = c.bounds
    a, b = c.relations or ((), ())
    return (
        all(lo[i] <= value <= hi[i] for i, value in enumerate(x_adv))
        and all(x_adv[i] == int(x_adv[i]) for i in c.integer)
        and all(sorted(x_adv[list(g)]) == [0] * (len(g) - 1) + [1] for g in c.one_hot)
        and all(x_adv[i] == x[i] for i in c.fixed)
        and all(x_adv[i] >= x[i] for i in c.only_up)
        and all(x_adv[i] <= x[i] for i in c.only_down)
        and all(
            np.dot(row, x_adv) - most <= 3e-6 * (np.abs(row) @ np.abs(x_adv) + abs(most))
            for row, most in zip(a, b, strict=True)
        )
    )


def all_rows(constraints: Constraints, x: np.ndarray, values: dict[int, list[float]]) -> np.ndarray:
    """Returns all valid changes of a row whose columns take the given values, else those of x."""
    of_columns = [values.get(i, [value]) for i, value in enumerate(x.tolist())]
    rows = np.array(list(itertools.product(*of_columns)), np.float32)
    return rows[[obeys(constraints, x, row) for row in rows]]

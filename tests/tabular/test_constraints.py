"""adv_jax.tabular.Constraints: rules beside NumPy's, projections that are valid, and refusals."""

import copy
import dataclasses
import pickle
import warnings
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adv_jax.tabular import Constraints
from adv_jax.types import UserError
from tests.support.tables import drawn_table, obeys

NO_GROUP = "bounds of a one_hot group must allow a 1 beside 0, got"


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_projected_row_is_valid_by_numpy_as_well(seed):
    constraints, x = drawn_table(seed, rows=50)
    x_adv = x + np.random.default_rng(seed).normal(size=x.shape).astype(np.float32) * 3
    found = constraints.project(jnp.asarray(x), jnp.asarray(x_adv))
    assert np.asarray(constraints.valid(x, found)).all()
    assert all(obeys(constraints, a, b) for a, b in zip(x, np.asarray(found), strict=True))


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_valid_agrees_with_numpy_on_rows_that_break_some_rule(seed):
    constraints, x = drawn_table(seed, rows=8)
    rng = np.random.default_rng(seed)
    x_adv = np.where(rng.random(x.shape) < 0.2, rng.integers(-1, 4, x.shape) / 2, x)
    x_adv = x_adv.astype(np.float32)
    wanted = [obeys(constraints, a, b) for a, b in zip(x, x_adv, strict=True)]
    assert np.asarray(constraints.valid(x, x_adv)).tolist() == wanted


@pytest.mark.slow
def test_a_projection_leaves_valid_rows_as_they_are():
    constraints, x = drawn_table(3, rows=6)
    np.testing.assert_array_equal(constraints.project(x, x), x)


@pytest.mark.slow
def test_reals_are_projected_onto_a_relation_that_an_integer_breaks():
    """Count 0 to 9 and real below it: the integer moves, and the real column makes room."""
    table = Constraints(2, integer=[0], bounds=(0, 9), relations=([[-1.0, 1.0]], [0.0]))
    found = table.project(jnp.array([[5.0, 4.0]]), jnp.array([[2.2, 4.0]]))
    np.testing.assert_allclose(found, [[2.0, 2.0]], rtol=1e-5)


def test_an_equation_of_two_relations_keeps_its_total():
    total = np.array([[1.0, 1.0, -1.0]])
    table = Constraints(3, bounds=(0, 10), relations=(np.vstack([total, -total]), [0, 0]))
    found = table.project(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[3.0, 2.0, 3.0]]))
    assert abs(float(found[0, :2].sum() - found[0, 2])) < 1e-5
    assert np.linalg.norm(found - np.array([[3.0, 2.0, 3.0]])) < 1.3


@pytest.mark.slow
def test_where_no_real_column_can_help_the_row_stays():
    table = Constraints(2, integer=[0, 1], relations=([[1.0, 1.0]], [4.0]))
    x = jnp.array([[2.0, 2.0], [0.0, 0.0]])
    found = table.project(x, jnp.array([[3.0, 3.0], [1.0, 2.0]]))
    np.testing.assert_array_equal(found, [[2.0, 2.0], [1.0, 2.0]])


def test_a_table_of_float64_is_read_without_a_warning():
    table = Constraints(2, integer=[0])
    with warnings.catch_warnings(action="error"):
        table.check(np.array([[3.0, 0.5]]))
        assert table.valid(np.array([[3.0, 0.5]]), np.array([[2.5, 0.5]])).tolist() == [False]


def test_nan_is_never_valid():
    table = Constraints(3, one_hot=[(0, 1)])
    x_adv = jnp.array([[1.0, 0.0, jnp.nan], [jnp.nan, 1.0, 0.0]])
    assert not np.asarray(table.valid(jnp.array([[1.0, 0, 0], [0, 1, 0]]), x_adv)).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"integer": [4]}, r"integer must be columns from 0 to 3, got 4"),
        ({"fixed": [-1]}, r"fixed must be columns from 0 to 3, got -1"),
        ({"one_hot": [(0,)]}, r"one_hot must be groups of two columns or more, got \(0,\)"),
        (
            {"one_hot": [(0, 1), (1, 2)]},
            "a column must have one kind, got column 1 in one_hot group 0 and one_hot group 1",
        ),
        (
            {"integer": [2], "one_hot": [(1, 2)]},
            "a column must have one kind, got column 2 in integer and one_hot group 0",
        ),
        ({"bounds": (1, [2, 2, 0, 2])}, r"bounds must be lo <= hi, got 1.0 and 0.0 for column 2"),
        (
            {"bounds": (np.inf, np.inf)},
            "bounds must have a finite number between them, got inf and inf for column 0",
        ),
        ({"one_hot": [(0, 1)], "bounds": (2, 3)}, f"{NO_GROUP} .2.0, 2.0. and .3.0, 3.0. for .*"),
        ({"one_hot": [(0, 1)], "bounds": (0, 0.5)}, f"{NO_GROUP} .*"),
        ({"one_hot": [(0, 1)], "bounds": (1, 1)}, f"{NO_GROUP} .*"),
        (
            {"integer": [1], "bounds": (0.2, 0.8)},
            r"bounds of an integer must have one between them, got 0.2 and 0.8 for column 1",
        ),
        ({"integer": [True, False]}, "integer must be columns from 0 to 3, got True"),
        ({"one_hot": None}, "one_hot must be groups of columns, got None"),
        ({"costs": [1, 2]}, r"costs must be a number or f\[4\], got \[1, 2\]"),
        ({"costs": "dear"}, r"costs must be a number or f\[4\], got 'dear'"),
        ({"costs": [1, 1, 0, 1]}, "costs must be positive and finite .*, got 0 for column 2"),
        ({"costs": 1e-50}, "costs must be positive and finite in float32, got 1e-50 for column 0"),
        ({"relations": ([[1e39, 1, 1, 1]], [3])}, "relations must be finite in .*, got 1e.39"),
        ({"bounds": ([0, 1], 2)}, r"bounds must be numbers or f\[4\], got \[0, 1\]"),
        ({"bounds": ("a", 1)}, r"bounds must be numbers or f\[4\], got 'a'"),
        ({"bounds": (None, 1)}, r"bounds must be numbers or f\[4\], got None"),
        ({"one_hot": [[0, [1]]]}, r"one_hot must be columns from 0 to 3, got \[0, \[1\]\]"),
        (
            {"relations": ([[1, 2]], [3])},
            r"relations must be .* got shapes \[1, 2\] and \[1\]",
        ),
        (
            {"bounds": (0, 1), "relations": ([[1, 1, 0, 0]], [-1])},
            "relations must hold for some row within the bounds, got none",
        ),
        (  # 1e6 a >= 0 within the bounds.
            {"bounds": (0, 1), "relations": ([[1e6, 1, 0, 0]], [-0.05])},
            "relations must hold for some row within the bounds, got none",
        ),
        (  # 2 a = 1 has no whole solution.
            {"integer": [0], "relations": ([[2, 0, 0, 0], [-2, 0, 0, 0]], [1, -1])},
            "relations must hold for some row within the bounds, got none",
        ),
        (  # Both columns of a group.
            {"one_hot": [(0, 1)], "relations": ([[-1, -1, 0, 0]], [-2])},
            "relations must hold for some row within the bounds, got none",
        ),
    ],
)
def test_contradictory_constraints_are_refused_in_one_line(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Constraints(4, **settings)


def test_relations_may_be_an_empty_list_and_large_numbers():
    none = Constraints(3, relations=(np.zeros((0, 3)), np.zeros(0)))
    assert none == Constraints(3, relations=([], [])) == Constraints(3)
    large = Constraints(2, relations=([[1e20, 1]], [1]))  # x = 0 satisfies it.
    found = large.violations(*(jnp.zeros((1, 2)), jnp.array([[0.0, 2.0]])))
    assert found["relations"].tolist() == [[True]]


def test_an_unknown_kind_is_refused():
    legal = "num_features, integer, one_hot, fixed, only_up, only_down, bounds, relations, costs"
    message = rf"^Constraints must get keywords of its own \({legal}\), got 'categorical'$"
    with pytest.raises(ValueError, match=message):
        Constraints(4, categorical=[1])


def test_constraints_are_copied_and_hashed_with_their_costs():
    table = Constraints(2, integer=[0], costs=[1, 0.5])
    assert copy.deepcopy(table) == table == pickle.loads(pickle.dumps(table))
    dear = dataclasses.replace(table, costs=2)
    assert dear.costs == (2, 2) and hash(dear) != hash(table)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, 1, 0, 0], r"got 0.5 in row 1, column 0 \(integer\)"),
        ([1, 1, 1, 0], r"got \[1.0, 1.0\] in row 1, one_hot group 0"),
        ([1, 1, 0, 7], r"got 7 in row 1, column 3 \(bounds\)"),
        ([5, 1, 0, 3], r"got 8 in row 1, relation 0 \(A x <= 6\)"),
    ],
)
def test_rows_that_break_a_rule_are_named_with_the_rule(row, message):
    table = Constraints(
        4, integer=[0], one_hot=[(1, 2)], bounds=(0, 5), relations=([[1, 0, 0, 1]], [6])
    )
    x = jnp.array([[1, 1, 0, 0], row], jnp.float32)
    with pytest.raises(ValueError, match=f"^x must obey its constraints, {message}$"):
        table.project(x, x)


def test_integer_tables_have_the_bounds_of_real_ones():
    ints, table = np.zeros((1, 2), int), Constraints(2, bounds=(0.5, 3))
    assert not table.valid(ints, ints)[0]
    small = np.full((1, 4), 200, np.uint8)
    assert Constraints(4, bounds=(-5, 300)).valid(small, small)[0]
    Constraints(2).check(np.array([[3, 1]]))


def test_violations_of_rows_of_another_width_or_number_are_refused():
    x = jnp.ones((3, 4))
    for wrong in (jnp.ones((3, 1)), jnp.ones((2, 4))):
        with pytest.raises(UserError, match=r"^x_adv must be rows f\[3, 4\], got float32\["):
            Constraints(4).violations(x, wrong)


def test_what_is_no_table_of_rows_is_refused():
    for wrong, found in (("a", "'a'"), (3.0, "3.0"), (None, "None"), ([[1], [1, 2]], r"\[\[1\].*")):
        for refuses in (Constraints(4).check, partial(Constraints(4).violations, x_adv=wrong)):
            with pytest.raises(UserError, match=rf"^x must be rows f\[B, 4\], got {found}$"):
                refuses(wrong)


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"^x must be rows f\[B, 4\].* got float32\[2, 3\]$"):
        Constraints(4).check(jnp.ones((2, 3)))

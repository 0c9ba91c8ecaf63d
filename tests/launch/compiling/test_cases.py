"""The documents of cases: compiled once, and stored beside those of other processes."""

from typing import NamedTuple

import pytest

from adv_jax.runner.store.formats import read_json, write_json
from adv_jax.types import UserError
from launch.compiling.cases import document_of


class Case(NamedTuple):
    config: str
    name: str


CASE = Case("mlp_mnist", "mlp_mnist, 4 chips")


def test_a_case_is_compiled_once_until_its_file_is_deleted(tmp_path):
    file, numbers = tmp_path / "stored.json", iter((1, 2))
    compile_case = lambda case: {"config": case.config, "number": next(numbers)}
    for number in (1, 1, 2):
        if number == 2:
            file.unlink()
        found = {"config": "mlp_mnist", "number": number}
        assert document_of(CASE, compile_case, file) == found
        assert read_json(file) == {CASE.name: found}


def test_what_another_process_stores_meanwhile_is_kept(tmp_path):
    file = tmp_path / "stored.json"

    def compile_case(_):
        write_json(file, {"other": {"number": 1}})
        return {"number": 2}

    document_of(CASE, compile_case, file)
    assert read_json(file) == {"other": {"number": 1}, CASE.name: {"number": 2}}


def test_a_case_that_is_refused_is_not_stored(tmp_path):
    def compile_case(_):
        raise UserError("too large")

    with pytest.raises(UserError, match="too large"):
        document_of(CASE, compile_case, tmp_path / "stored.json")
    assert not [*tmp_path.iterdir()]


def test_a_file_that_holds_something_else_is_refused_before_anything_is_compiled(tmp_path):
    file = tmp_path / "stored.json"
    file.write_text("[1]")
    with pytest.raises(UserError, match=r"stored.json must be a JSON object, got \[1\]"):
        document_of(CASE, lambda case: pytest.fail("compiled"), file)

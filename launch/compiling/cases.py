"""The cases of `launch.gpu` and `launch.tpu`: those that arguments choose, and their documents."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax

from adv_jax.runner.store.formats import read_object, write_json
from adv_jax.types import check_choice
from launch.compiling import gpu_cases, tpu_cases

C = TypeVar("C", gpu_cases.Case, tpu_cases.Case)


def cases_of(cases: Iterable[C], configs: Sequence[str]) -> list[C]:
    """Returns the cases of these configs; all cases if no config is given.

    Raises:
      UserError: a config has no case.
    """
    cases = list(cases)
    known = sorted({case.config for case in cases})
    for config in configs:
        check_choice("an argument", config, known)
    return [case for case in cases if not configs or case.config in configs]


def document_of(case: C, compile_case: Callable[[C], dict[str, Any]], file: Path) -> dict[str, Any]:
    """Returns the stored document of a case, or compiles the case and stores its document.

    Args:
      case: the case.
      compile_case: case -> document.
      file: {name of a case: document}, as JSON; made if it is missing.

    Raises:
      UserError: as `compile_case`.
      WorkdirError: the file is damaged, or cannot be written.
    """
    stored = _stored(file)
    if case.name in stored:
        return stored[case.name]
    print(case.name, flush=True)
    found = compile_case(case)
    # Another process may have stored a case meanwhile.
    write_json(file, _stored(file) | {case.name: found})
    jax.clear_caches()
    return found


def _stored(file: Path) -> dict[str, Any]:
    return read_object(file) if file.exists() else {}

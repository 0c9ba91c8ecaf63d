"""The cases that the arguments of `launch.gpu` and `launch.tpu` choose."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from adv_jax.runner.config.document import unknown
from adv_jax.types import UserError


class _Case(Protocol):
    @property
    def config(self) -> str: ...


C = TypeVar("C", bound=_Case)


def cases_of(cases: Iterable[C], configs: Sequence[str]) -> list[C]:
    """Returns the cases of these configs; all cases if no config is given.

    Raises:
      UserError: a config has no case.
    """
    cases = list(cases)
    known = {case.config for case in cases}
    for config in configs:
        if config not in known:
            raise UserError(unknown("an argument", config, known))
    return [case for case in cases if not configs or case.config in configs]

"""Finds the works and their targets and figures by name, PAPER.ITEM, such as "huang2015.table1".

A work is a folder beside this room that has a file targets.py.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

from adv_jax.suggestions import suggestion
from adv_jax.types import UserError
from papers.running.drawing import Drawing
from papers.running.target import Target

_PACKAGE = __name__.rpartition(".running.")[0]  # "adv_jax.papers" in a wheel
_WORKS = {
    path.parent.name: import_module(f"{_PACKAGE}.{path.parent.name}")
    for path in sorted(Path(__file__).parents[1].glob("*/targets.py"))
}
TARGETS: dict[str, Target] = {
    target.name: target for work in _WORKS.values() for target in work.TARGETS
}
FIGURES: dict[str, Callable[..., Drawing]] = {
    f"{name}.{item}": draw for name, work in _WORKS.items() for item, draw in work.FIGURES.items()
}


def full_name(name: str, legal: Iterable[str], *, field: str, allowed: str = "") -> str:
    """Completes a name whose paper may be abbreviated to the beginning of its name.

    allowed: words that complete "must be", instead of the names.

    Raises:
      UserError: no legal name matches, or several do; the message suggests the nearest.

    >>> full_name("huang.table1", TARGETS, field="target")
    'huang2015.table1'
    """
    legal = list(legal)
    if name in legal:
        return name
    paper, dot, item = name.partition(".")
    meant = [n for n in legal if n.startswith(paper) and n.partition(".")[1:] == (dot, item)]
    if len(meant) != 1 or not paper:
        allowed = allowed or ", ".join(legal)
        raise UserError(f"{field} must be {allowed}, got {name!r}{suggestion(name, legal)}")
    return meant[0]

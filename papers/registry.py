"""All targets and figures by name, PAPER.ITEM, such as "huang2015.table1"."""

from collections.abc import Callable, Iterable

from adv_jax.checks import suggestion
from adv_jax.types import UserError
from papers import (
    goodfellow2014,
    huang2015,
    madry2018,
    maronas2016,
    nokland2015,
    shallow_thesis,
    wardefarley2016,
    wong2020,
    zhang2019,
)
from papers.drawing import Drawing
from papers.target import Target

_PAPERS = {
    "goodfellow2014": goodfellow2014,
    "huang2015": huang2015,
    "madry2018": madry2018,
    "maronas2016": maronas2016,
    "nokland2015": nokland2015,
    "shallow_thesis": shallow_thesis,
    "wardefarley2016": wardefarley2016,
    "wong2020": wong2020,
    "zhang2019": zhang2019,
}
TARGETS: dict[str, Target] = {
    target.name: target for paper in _PAPERS.values() for target in paper.TARGETS
}
FIGURES: dict[str, Callable[..., Drawing]] = {
    f"{name}.{item}": draw
    for name, paper in _PAPERS.items()
    for item, draw in paper.FIGURES.items()
}


def full_name(name: str, legal: Iterable[str], *, field: str) -> str:
    """Completes a name whose paper may be abbreviated to the beginning of its name.

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
        allowed = ", ".join(legal)
        raise UserError(f"{field} must be {allowed}, got {name!r}{suggestion(name, legal)}")
    return meant[0]

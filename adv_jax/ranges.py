"""The ranges of settings: a part states them with itself, and configs are checked by them.

A range is a text. "[0, 1)" are the real numbers from 0, included, to 1, excluded; "{1, 2, ...}" and
"{0, ..., 9}" are whole numbers.
"""

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

COUNT = "{1, 2, ...}"

Part = TypeVar("Part", bound=Callable)


class Range(NamedTuple):
    """The allowed values of a number, from low to high; `above` excludes low, `below` high."""

    low: float
    high: float
    whole: bool = False
    above: bool = False
    below: bool = False

    @classmethod
    def of(cls, text: str) -> "Range":
        """Reads the text of a range.

        >>> Range.of("(0, 1]")
        Range(low=0.0, high=1.0, whole=False, above=True, below=False)
        >>> Range.of("{1, 2, ...}").allows(3), Range.of("{1, 2, ...}").allows(3.5)
        (True, False)
        """
        first, *_, last = text[1:-1].split(", ")
        if text[0] == "{":
            return cls(int(first), math.inf if last == "..." else int(last), whole=True)
        return cls(float(first), float(last), above=text[0] == "(", below=text[-1] == ")")

    def holds(self, number: Any) -> Any:
        """Returns whether a real number, or each of an array, lies in the range."""
        above = number > self.low if self.above else number >= self.low
        return above & (number < self.high if self.below else number <= self.high)

    def allows(self, value: object) -> bool:
        """Returns whether any value is a finite number of the range; booleans are no numbers."""
        expected = int if self.whole else int | float
        number = isinstance(value, expected) and not isinstance(value, bool)
        # math.isfinite(10**400) raises.
        return number and abs(value) <= sys.float_info.max and self.holds(value)

    def __str__(self) -> str:
        """Returns the range in words that complete "must be".

        >>> print(Range.of("[0, 1)"), Range.of("{0, 1, ...}"), sep="; ")
        a number from 0 to below 1; a whole number of at least 0
        """
        number = "a whole number" if self.whole else "a number"
        if self.high == math.inf:
            bounded = f" above {self.low:g}" if self.above else f" of at least {self.low:g}"
            return number + bounded * (self.low > -math.inf)
        if self.above:
            end = "below" if self.below else "at most"
            return f"{number} above {self.low:g} and {end} {self.high:g}"
        return f"{number} from {self.low:.10g} to {'below ' * self.below}{self.high:.10g}"


def ranged(**ranges: str) -> Callable[[Part], Part]:
    """Returns a decorator that states the ranges of a part's settings: its attribute `ranges`.

    A part is what a config names: a model, an objective, an attack, an optimizer, a schedule or an
    initializer. A tuple of numbers has the range of each number. A class also has the ranges of the
    classes that it inherits from.

    >>> @ranged(std="[0, inf)")
    ... def gaussian(std): ...
    >>> gaussian.ranges
    {'std': '[0, inf)'}
    """

    def stating(part: Part) -> Part:
        with_ranges: Any = part
        with_ranges.ranges = {**getattr(part, "ranges", {}), **ranges}
        return part

    return stating


def stated(part: Any) -> dict[str, Range]:
    """Returns {setting: range} of a part; {} if it states none."""
    return {name: Range.of(text) for name, text in getattr(part, "ranges", {}).items()}

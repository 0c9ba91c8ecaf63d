"""The ranges of settings: a part states them with itself; calls and configs are checked by them.

A range is a text. "[0, 1)" are the real numbers from 0, included, to 1, excluded; "{1, 2, ...}" and
"{0, ..., 9}" are whole numbers.
"""

import functools
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from adv_jax.types import UserError

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
    """Returns a decorator that states the ranges of a part's settings, and checks them in a call.

    A part is what a config names: a model, an objective, an attack, an optimizer, a schedule or an
    initializer. Its attribute `ranges` has them. A tuple of numbers has the range of each number. A
    class also has the ranges of the classes that it inherits from. A function such as a
    schedule and a traced number have no known value, nor has None where it is the default.

    Raises:
      UserError: by the part, for a known value outside its range.

    >>> @ranged(std="[0, inf)")
    ... def gaussian(std): ...
    >>> gaussian.ranges
    {'std': '[0, inf)'}
    >>> gaussian(-1.)
    Traceback (most recent call last):
    adv_jax.types.UserError: std must be a number of at least 0, got -1.0
    """
    allowed = {name: Range.of(text) for name, text in ranges.items()}

    def stating(part: Any) -> Any:
        is_class = isinstance(part, type)
        checking = _checking_fields(part, allowed) if is_class else _checking_call(part, allowed)
        checking.ranges = {**getattr(part, "ranges", {}), **ranges}
        return checking

    return stating


def _checking_call(function: Callable, allowed: Mapping[str, Range]) -> Any:
    parameters = inspect.signature(function).parameters
    optional = {name for name, parameter in parameters.items() if parameter.default is None}

    @functools.wraps(function)
    def called(*args: Any, **given: Any) -> Any:
        named = {**dict(zip(parameters, args, strict=False)), **given}
        for name in allowed.keys() & named.keys():
            if named[name] is not None or name not in optional:
                _check(name, named[name], allowed[name])
        return function(*args, **given)

    return called


def _checking_fields(dataclass: Any, allowed: Mapping[str, Range]) -> Any:
    post_init = getattr(dataclass, "__post_init__", lambda self: None)

    def checked(self: Any) -> None:
        for name, its_range in allowed.items():
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), its_range)
        post_init(self)

    dataclass.__post_init__ = checked
    return dataclass


def _check(name: str, value: Any, allowed: Range) -> None:
    if isinstance(value, tuple | list):
        for number in value:
            _check(name, number, allowed)
    elif not callable(value) and not isinstance(value, jax.core.Tracer):
        for number in np.ravel(value).tolist() if hasattr(value, "dtype") else [value]:
            if not allowed.allows(number):
                raise UserError(f"{name} must be {allowed}, got {number!r}")


def stated(part: Any) -> dict[str, Range]:
    """Returns {setting: range} of a part; {} if it states none."""
    return {name: Range.of(text) for name, text in getattr(part, "ranges", {}).items()}

"""The ranges of settings: a part states them with itself; calls and configs are checked by them.

A range is a text. "[0, 1)" are the real numbers from 0, included, to 1, excluded; "{1, 2, ...}" and
"{0, ..., 9}" are whole numbers. Each real setting of a part of ours has one, if only `ANY`, that of
all finite numbers.
"""

import dataclasses
import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import numpy as np

from adv_jax.annotations import (
    allowed_values,
    catch_all,
    function_name,
    is_one_number,
    is_optional,
    parameters_of,
    refuses,
)
from adv_jax.types import UserError, check_choice, described, is_known

COUNT = "{1, 2, ...}"
ANY = "(-inf, inf)"

_SUCH_AS = "a text such as '[0, 1)', '{1, 2, ...}' or '{0, ..., 9}'"
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

Part = TypeVar("Part", bound=Callable)


class Range(NamedTuple):
    """The allowed values of a number, from low to high; `above` excludes low, `below` high."""

    low: float
    high: float
    whole: bool = False
    above: bool = False
    below: bool = False

    @classmethod
    @functools.cache
    def of(cls, text: str) -> "Range":
        """Reads the text of a range.

        Raises:
          UserError: the text is no range.

        >>> Range.of("(0, 1]")
        Range(low=0.0, high=1.0, whole=False, above=True, below=False)
        >>> Range.of("{1, 2, ...}").allows(3), Range.of("{1, 2, ...}").allows(3.5)
        (True, False)
        """
        with suppress(ValueError):
            parts, ends = text[1:-1].split(", "), text[:1] + text[-1:]
            if ends == "{}" and parts.count("...") < 2:
                numbers = [int(part) for part in parts if part != "..."]
                low, high = int(parts[0]), math.inf if parts[-1] == "..." else numbers[-1]
                if numbers != sorted(numbers):
                    raise ValueError
                if "..." in parts or numbers == [*range(low, numbers[-1] + 1)]:
                    return cls(low, high, whole=True)
            if ends in ("[]", "[)", "(]", "()") and len(parts) == 2:
                low, high = map(float, parts)
                if low <= high:
                    return cls(low, high, above=ends[0] == "(", below=ends[1] == ")")
        raise UserError(f"a range must be {_SUCH_AS}, got {text!r}")

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
            number = number if self.whole else "a finite number"
            bounded = f" above {self.low:.10g}" if self.above else f" of at least {self.low:.10g}"
            return number + bounded if self.low > -math.inf else number
        if self.above:
            end = "below" if self.below else "at most"
            return f"{number} above {self.low:.10g} and {end} {self.high:.10g}"
        return f"{number} from {self.low:.10g} to {'below ' * self.below}{self.high:.10g}"


def ranged(**ranges: str) -> Callable[[Part], Part]:
    """Returns a decorator that states the ranges of a part's settings, and checks them in a call.

    A part is a function or a dataclass with settings, such as a model, an objective, an optimizer
    or an initializer. Its attribute `ranges` has them. A tuple of numbers has the range of each
    number. A class also has the ranges of the classes that it inherits from. The value of a
    function such as a schedule, of a traced number and of an optional setting that is None is not
    known.

    A call also checks plain values by the annotations of the settings, as `adv_jax.annotations`
    reads them: numbers, texts, booleans, the names of a Literal, and tuples.

    Raises:
      UserError: as `check_ranges`; by the part, for a known value outside its range or its
        annotation.

    >>> @ranged(std="[0, inf)")
    ... def gaussian(std): ...
    >>> gaussian.ranges
    {'std': '[0, inf)'}
    >>> gaussian(-1.)
    Traceback (most recent call last):
    adv_jax.types.UserError: std must be a finite number of at least 0, got -1.0
    """

    def stating(part: Any) -> Any:
        check_ranges(part, ranges)
        checking = _checking_fields(part) if isinstance(part, type) else _checking_call(part)
        checking.ranges = {**getattr(part, "ranges", {}), **ranges}
        return checking

    return stating


def check_ranges(part: Any, ranges: Mapping[str, str]) -> None:
    """Checks the ranges that are stated of a function or a class.

    Raises:
      UserError: a range is no text of one, or its name is no setting of the part.

    >>> check_ranges(lambda std: std, {"sd": "[0, inf)"})
    Traceback (most recent call last):
    adv_jax.types.UserError: ranges of <lambda> must be one of std, got 'sd'; did you mean 'std'?
    """
    is_class, of = isinstance(part, type), f"ranges of {function_name(part)}"
    parameters: Mapping[str, inspect.Parameter] = {} if is_class else parameters_of(part)
    for name, text in ranges.items():
        if catch_all(parameters) is None:
            check_choice(of, name, _annotated(part) if is_class else [*parameters])
        try:
            Range.of(text)
        except (TypeError, UserError):
            raise UserError(f"{of} must be {_SUCH_AS}, got {text!r} for {name}") from None


def positional_of(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Returns the names of the parameters that a call may give by position."""
    return [name for name, parameter in parameters.items() if parameter.kind in _POSITIONAL]


def _annotated(cls: type) -> list[str]:
    """Returns the fields of a dataclass, also before its decorator has read them."""
    return [name for base in reversed(cls.__mro__) for name in inspect.get_annotations(base)]


def _checking_call(function: Callable) -> Any:
    parameters = parameters_of(function)

    @functools.wraps(function)
    def called(*args: Any, **given: Any) -> Any:
        _check_settings(called, parameters, dict(zip(parameters, args, strict=False)) | given)
        return function(*args, **given)

    return called


def _checking_fields(dataclass: Any) -> Any:
    """Returns the class, whose fields are checked when an object is made, also of a subclass."""
    post_init = getattr(dataclass, "__post_init__", lambda self: None)
    if hasattr(post_init, "checks_fields"):  # That of a base class, which reads all fields.
        return dataclass

    def checking(self: Any) -> None:
        fields = _fields(type(self))
        _check_settings(type(self), fields, {name: getattr(self, name) for name in fields})
        post_init(self)

    checked: Any = checking
    checked.checks_fields = True
    dataclass.__post_init__ = checked
    return dataclass


@functools.cache
def _fields(dataclass: Any) -> dict[str, inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    return {
        field.name: inspect.Parameter(
            field.name, kind, default=field.default, annotation=field.type
        )
        for field in dataclasses.fields(dataclass)
    }


def _check_settings(
    part: Any, parameters: Mapping[str, inspect.Parameter], values: Mapping[str, Any]
) -> None:
    """Raises UserError for a value that the range or the annotation of its setting excludes."""
    ranges = stated(part)
    for name, parameter in parameters.items():
        value, annotation = values.get(name), parameter.annotation
        if name not in values or (value is None and is_optional(parameter)):
            continue
        if name in ranges:
            if is_one_number(annotation) and getattr(value, "shape", ()):
                raise UserError(f"{name} must be {ranges[name]}, got {described(value)}")
            _check_range(name, value, ranges[name])
        if refuses(annotation, value):
            if get_origin(annotation) is Literal:
                check_choice(name, value, get_args(annotation))
            allowed = allowed_values(annotation)
            raise UserError(f"{name} must be {allowed}, got {described(value)}")


def _check_range(name: str, value: Any, allowed: Range) -> None:
    for each in entries_of(value):
        if callable(each) or not is_known(each):
            continue
        for number in np.ravel(each).tolist() if hasattr(each, "dtype") else [each]:
            check_allowed(name, number, allowed)


def check_allowed(name: str, number: Any, allowed: Range) -> None:
    """Raises UserError unless a range allows a known number.

    Whole numbers without an upper end are counts. Those of more than 32 bits raise too: a device
    would wrap them, or JAX fail.
    """
    if not allowed.allows(number):
        raise UserError(f"{name} must be {allowed}, got {described(number)}")
    if allowed.whole and allowed.high == math.inf and number >= 2**31:
        raise UserError(f"{name} must be {allowed}, of 32 bits, got {described(number)}")


def entries_of(value: Any) -> Iterator[Any]:
    """Yields the entries of a tuple or a list, and of those in it; else the value.

    >>> list(entries_of(((1, 2), 3))), list(entries_of(4))
    ([1, 2, 3], [4])
    """
    if isinstance(value, tuple | list):
        for entry in value:
            yield from entries_of(entry)
    else:
        yield value


def stated(part: Any) -> dict[str, Range]:
    """Returns {setting: range} of a part; {} if it states none."""
    return {name: Range.of(text) for name, text in getattr(part, "ranges", {}).items()}

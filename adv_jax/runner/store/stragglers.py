"""Hides the errors that TensorStore's background threads raise when nobody waits for them."""

from collections.abc import Callable
from typing import Any


def without_stragglers(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Wraps a `sys.unraisablehook` to ignore TensorStore's late errors for abandoned arrays."""

    def filtered(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return filtered

"""Counts the collectives of a compiled program."""

import math
import re
from collections import Counter

_KINDS = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def collectives(text: str) -> tuple[dict[str, int], int]:
    """Counts the collectives of a compiled program, with the body of each loop once.

    Args:
      text: its HLO.

    Returns:
      {kind: operations}, and the bytes of their results.
    """
    found = re.findall(rf" = (.*) ({'|'.join(_KINDS)})(?:-start)?\(", text)
    return dict(Counter(kind for _, kind in found)), sum(_bytes(shapes) for shapes, _ in found)


def _bytes(shapes: str) -> int:
    """Returns the bytes of shapes in HLO, such as "(f32[784,500]{1,0}, f32[])"."""
    found = re.findall(r"[a-z](\d+)\[([\d,]*)\]", shapes)
    return sum(
        int(bits) // 8 * math.prod(map(int, filter(None, axes.split(",")))) for bits, axes in found
    )

"""Formulas of docstrings, written for a terminal, as HTML for the site."""

import html
import re

_GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "eta": "η",
    "theta": "θ",
    "mu": "μ",
    "xi": "ξ",
    "phi": "φ",
    "sigma": "σ",
    "tau": "τ",
    "Phi": "Φ",
}
_WORDS = _GREEK | {"grad": "∇", "sum": "∑", "prod": "∏", "inf": "∞", "sqrt": "√"}
_SIGNS = {
    "||": "‖",
    "<=": "≤",
    ">=": "≥",
    "!=": "≠",
    ":=": "≔",
    "<-": "←",
    "+-": "±",
    "->": "→",
    "...": "…",
    "*": "·",
    "-": "−",
    "'": "′",
    "~": "∼",
}
_SCRIPT = r"\{[^{}]*\}|\([^()]*\)|-?\d+|\w+\b(?!\()|\*"
_TOKEN = re.compile(
    rf"(?P<pair><(?P<in>[^<>=]*,[^<>=]*)>)|(?P<number>\d[\d.]*e-?\d+)|(?P<word>[A-Za-z]\w*(?<!_))|_(?P<low>{_SCRIPT})"
    rf"|\^(?P<high>{_SCRIPT})|(?P<sign>{'|'.join(map(re.escape, _SIGNS))})|(?P<other>.)",
    re.DOTALL,
)
_ROW = re.compile(r"^ *[\w-]+ {2,}\S", re.MULTILINE)  # of a table: a name, then its column
_CODE = re.compile(r"[#\"]|lambda|python -m")
_MATH = re.compile(r" (=|<-|:=|~|<=|>=) |[_^]\{|\b\w_\w\b")


def is_formula(block: str) -> bool:
    """Returns whether an indented block is a formula and neither a table nor code.

    >>> [is_formula(text) for text in ("x_t = x + r", "fab   to the nearest", "f = g(x)  # a net")]
    [True, False, False]
    """
    return bool(_MATH.search(block) and not _ROW.search(block) and not _CODE.search(block))


def markup(formula: str) -> str:
    """Returns a formula in HTML: variables in italics, indices below, powers above, signs.

    >>> markup("x_{t+1} = <g, 0>")
    '<i>x</i><sub><i>t</i>+1</sub> = ⟨<i>g</i>, 0⟩'
    >>> markup("||r||_2^2 <= step_size")
    '‖<i>r</i>‖<sub>2</sub><sup>2</sup> ≤ step_size'
    """
    return _TOKEN.sub(_shown, formula)


def _shown(token: re.Match[str]) -> str:
    if token["pair"]:
        return f"⟨{markup(token['in'])}⟩"
    if token["number"]:
        return token["number"]
    if token["word"]:
        return _word(token["word"])
    if token["low"]:
        return f"<sub>{_script(token['low'])}</sub>"
    if token["high"]:
        return f"<sup>{_script(token['high'])}</sup>"
    return _SIGNS[token["sign"]] if token["sign"] else html.escape(token["other"])


def _word(word: str) -> str:
    """A letter is a variable. An index is one letter, or that of a letter; `step_size` has none."""
    base, _, index = word.partition("_")
    if index and (len(base) == 1 or len(index) == 1 or base in _GREEK):
        return f"{_word(base)}<sub>{markup(index)}</sub>"
    return f"<i>{word}</i>" if len(word) == 1 else _WORDS.get(word, word)


def _script(text: str) -> str:
    if text == "*":
        return "∗"
    return markup(text[1:-1] if text.startswith("{") else text)

"""Docstrings as reStructuredText, in which they look as they do in the source."""

import functools
import html
import operator
import re
import sys
import textwrap
import unicodedata
from pathlib import Path
from typing import Any

from docs.formulas import is_formula, markup

_REFERENCES = Path(__file__).parent / "REFERENCES.md"
_FIELD = re.compile(r"^([a-z_]\w*(?:, \w+)*): ", re.MULTILINE)
_ALIGNED = re.compile(r"\S+ {2,}\S")
_CITED = re.compile(r"(?<![\w)])\[([a-z]+(?:19|20)\d\d[a-z]*)(?=[\],])")
_WORK = re.compile(r'<a id="(\w+)"></a>`\w+` \| ([^,(]+?)(?:,[^(]*)? \((\d{4})\)')
_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
# `x, y: as in `f`; the rest`, indented as in a section of settings
_SETTING = re.compile(r"^( +)(\w+(?:, \w+)*): (.*(?:\n\1 +\S.*)*)", re.MULTILINE)
_ALIKE = re.compile(r"as in\s+`([\w.]+)`([.;,]?.*)", re.DOTALL)


def completed(docstring: str, module: str) -> str:
    """Returns a docstring whose settings "as in `f`" have the sentences of f.

    What is said after `f` is kept, at the last name.

    Args:
      docstring: of a function or class.
      module: the name of the module in which `f` means something; its packages count, too.
    """

    def written(setting: re.Match[str]) -> str:
        indent, names, text = setting.groups()
        alike = _ALIKE.fullmatch(text)
        told = _settings(alike[1], module) if alike else {}
        *others, last = names.split(", ")
        if not told.keys() >= {*others, last}:
            return setting[0]
        rest = alike[2].removeprefix(".")
        lines = {name: told[name] for name in (*others, last)}
        lines[last] = f"{told[last].removesuffix('.') if rest[:1] == ';' else told[last]}{rest}"
        return "\n".join(f"{indent}{name}: {line}" for name, line in lines.items())

    return _SETTING.sub(written, docstring)


def _settings(name: str, module: str) -> dict[str, str]:
    """Returns the settings of the function or class `name` of ours with their sentences."""
    while module:
        try:
            found: Any = operator.attrgetter(name)(sys.modules[module])
        except (AttributeError, KeyError):
            module = module.rpartition(".")[0]
            continue
        if not found.__module__.startswith("adv_jax."):
            break
        docstring = completed(textwrap.dedent(f"    {found.__doc__}"), found.__module__)
        return {
            one: text for _, names, text in _SETTING.findall(docstring) for one in names.split(", ")
        }
    return {}


def restructured(docstring: str) -> str:
    r"""A docstring as reStructuredText, in which it looks as it does in the source.

    Stars, bars and trailing underscores mean themselves, `x` is code and a link if it names
    something public, a key of REFERENCES.md in brackets is a link to its entry, and a line for each
    field of a class stays one. An indented formula is set as one. What else is indented, or in
    columns, is shown as it is.

    >>> docstring = "The `x`: f32[B, *D].\n\nlow: bound_ of |x|.\nhigh: the other.\n\n  a   table"
    >>> print(restructured(docstring + "\n\nReturns:\n  first: x\n  ** 2."))
    The :py:obj:`x`: f32[B, \*D].
    <BLANKLINE>
    * **low**: bound\_ of \|x\|.
    * **high**: the other.
    <BLANKLINE>
    ::
    <BLANKLINE>
          a   table
    <BLANKLINE>
    :returns: first: x
        \*\* 2.
    """
    summary, *blocks = docstring.strip("\n").split("\n\n")
    return "\n\n".join([_inline(summary), *map(_block, blocks)]) + "\n"


def _block(block: str) -> str:
    """A paragraph, a list of fields, a section, a formula or what is shown as it is.

    Napoleon, which reads the other sections, would take a return value's first words for its type.
    """
    lines = block.split("\n")
    outer = [line for line in lines if not line.startswith(" ")]
    if block.startswith(">>>"):
        return block
    if outer == ["Returns:"]:
        value = textwrap.dedent("\n".join(lines[1:]))
        return ":returns: " + textwrap.indent(_inline(value), "    ").lstrip()
    if not outer and is_formula(block):
        return _formula(textwrap.dedent(block))
    if not outer or all(map(_ALIGNED.match, outer)):
        return "::\n\n" + "\n".join(f"    {line}" for line in lines)
    if all(map(_FIELD.match, outer)):
        return _FIELD.sub(r"* **\1**: ", _inline(block))
    return _inline(block)


def _formula(text: str) -> str:
    label = html.escape(" ".join(text.split()))
    shown = f'<div class="formula" role="math" aria-label="{label}">{markup(text)}</div>'
    return ".. raw:: html\n\n" + textwrap.indent(shown, "    ")


def _inline(text: str) -> str:
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        _code(part) if part.startswith("`") else _linked(_escaped(part)) for part in parts
    )


def _code(part: str) -> str:
    """Sphinx links a name that it knows, and shows another as code."""
    return f":py:obj:{part}" if _NAME.fullmatch(part[1:-1]) else f"`{part}`"


def _escaped(text: str) -> str:
    """A star that stands alone, as in a list or a product, needs no escape."""
    return re.sub(r"\\|\||\*(?!\s)|(?<=\S)\*|(?<=\w)_(?!\w)", r"\\\g<0>", text)


def cited(text: str) -> list[str]:
    """Returns the keys of works that a text cites.

    >>> cited("[madry2018], 2.1; [maronas2016]; f32[b2018].")
    ['madry2018', 'maronas2016']
    """
    return _CITED.findall(text)


def _linked(text: str) -> str:
    """The keys of works as links, which Sphinx reports if REFERENCES.md has no such entry.

    >>> _linked("[madry2018], 2.1; [maronas2016]; f32[b2018].")
    '[:ref:`Madry 2018 <madry2018>`], 2.1; [:ref:`Maronas 2016 <maronas2016>`]; f32[b2018].'
    """
    names = names_of_works()
    return _CITED.sub(lambda key: f"[:ref:`{names.get(key[1], key[1])} <{key[1]}>`", text)


@functools.cache
def names_of_works() -> dict[str, str]:
    """Returns the name of the first author and the year of each key of REFERENCES.md.

    >>> names_of_works()["nokland2015"]
    'Nokland 2015'
    """
    found = _WORK.findall(_REFERENCES.read_text("utf-8"))
    return {key: f"{_surname(key, author)} {year}" for key, author, year in found}


def _surname(key: str, author: str) -> str:
    """Returns the word of a name with which a key begins, without accents, else the last word."""
    author = author.replace("ø", "o")  # no accent in Unicode
    words = unicodedata.normalize("NFKD", author).encode("ascii", "ignore").decode().split()
    of_key = (word for word in words if key.startswith(word.lower().replace("-", "")))
    return next(of_key, words[-1])

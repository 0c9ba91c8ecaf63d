"""Tables and folded text in Markdown."""

from collections.abc import Iterable, Sequence


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns the table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(escaped, line))} |\n" for line in lines)


def folded(heading: str, lines: Sequence[str]) -> str:
    """Returns lines that a reader opens by a click on the heading, as one line of Markdown."""
    return f"<details><summary>{heading}</summary>{'<br>'.join(lines)}</details>\n"


def escaped(text: str) -> str:
    """Escapes a text for a Markdown table."""
    return text.replace("|", r"\|").replace("*", r"\*") if "**" not in text else text

"""Recipes of docs/recipes.md whose packages are not in the extra `test`."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


def recipe(title):
    """Returns the code of the section of that title."""
    section = PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    return section.split("```python\n")[1].split("```")[0]

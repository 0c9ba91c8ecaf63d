"""The notebook of the tutorial: `python -m docs.pages` writes tutorial.ipynb from tutorial.md.

The page is the only source. Jupytext splits it into cells. A block of ```text or an image after a
code cell is the output of that cell, so the notebook shows the same results as the page.
"""

import base64
import re
from pathlib import Path

import jupytext
from nbformat import NotebookNode, v4

PAGE = Path(__file__).with_name("tutorial.md")
NOTEBOOK = PAGE.with_suffix(".ipynb")
_SHOWN = re.compile(
    r"```text\n(?P<text>.*?)```\n*|!\[.*?\]\((?P<image>[\w-]+\.png)\)\n*", re.DOTALL
)
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebook(page: str) -> NotebookNode:
    r"""Returns the notebook of a page, with the outputs that the page shows.

    >>> page = "# Sum\n\n```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n\nDone.\n"
    >>> cells = notebook(page).cells
    >>> [cell.source for cell in cells]
    ['# Sum', 'print(1 + 1)', 'Done.']
    >>> cells[1].outputs[0].text
    '2\n'
    """
    cells = []
    for cell in jupytext.reads(page, fmt="md").cells:
        after_code = cells and cells[-1].cell_type == "code" and cell.cell_type == "markdown"
        if after_code and (shown := _SHOWN.match(cell.source)):
            cells[-1].outputs = [_output(**shown.groupdict())]
            cell.source = cell.source[shown.end() :]
        if cell.source:
            cell.update(id=f"cell-{len(cells)}", metadata={})
            cells.append(cell)
    metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    return v4.new_notebook(cells=cells, metadata=metadata)


def _output(text: str | None, image: str | None) -> NotebookNode:
    if image is None:
        return v4.new_output("stream", name="stdout", text=text)
    data = base64.b64encode(PAGE.with_name(image).read_bytes()).decode()
    return v4.new_output("display_data", data={"image/png": data, "text/plain": "<Figure>"})


def pages() -> dict[Path, str]:
    """Returns the text of the notebook file by its path."""
    return {NOTEBOOK: jupytext.writes(notebook(PAGE.read_text("utf-8")), fmt="ipynb") + "\n"}

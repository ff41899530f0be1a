"""From a percent script to a page of the site: ``read`` is what Sphinx (conf.py) calls for each of them."""

import ast
import re
from pathlib import Path

import jupytext
from nbformat.v4 import new_markdown_cell

FOLDER = Path(__file__).resolve().parent
SOURCE = re.compile(r"(?<!\[)`((?:minisnn|tutorials)/[\w/.]+\.py)`")


def linked(text):
    """Markdown in which the name of a file of the package is a link to the page with its source."""
    return SOURCE.sub(lambda match: f"[`{match[1]}`](source:{match[1].removesuffix('.py')})", text)


def solution(path, name):
    """The source of the function ``name`` in the page's solutions."""
    source = (FOLDER / "solutions" / path).read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return re.sub(r"  # noqa: \w+", "", ast.get_source_segment(source, node))
    raise LookupError(f"solutions/{path} has no function {name}")


def read(text):
    """Notebook of a page: files linked, an answer, folded away, after each exercise."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    page = next(path.name for path in FOLDER.glob("[0-9][0-9]_*.py") if path.read_text(encoding="utf-8") == text)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        found = re.search(r"^exercise\(\d+, check_\w+, (\w+)\)", cell.source, re.MULTILINE)
        if cell.cell_type == "code" and found:
            code = solution(page, found[1])
            cells.append(new_markdown_cell(
                f"<details><summary>An answer</summary>\n\n```python\n{code}\n```\n\n</details>"))
    notebook.cells = cells
    return notebook

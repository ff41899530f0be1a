"""From a percent script to a page of the site, and to an executed notebook: both are made of the same cells.

    python pages.py                    # run every page and write notebooks/NAME.ipynb
    python pages.py 08 12              # these pages only
    python pages.py --text             # where only the text has changed: take it over without running the code

``read`` is what Sphinx (conf.py) calls for each script. Everything but ``read`` and ``write`` needs the standard library
only, so that a test can hold notebooks to their scripts wherever the tests run.
"""

import ast
import base64
import io
import json
import os
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
GLOSSARY = FOLDER / "glossary.md"
REPOSITORY = "minisnn/minisnn"
SOURCE = re.compile(r"(?<!\[)`((?:minisnn|tutorials)/[\w/.]+\.py)`")
ELSEWHERE = {  # words of the glossary that mean something else on other pages -> the pages on which they mean this
    "gain": ("10", "11", "17"), "position": ("09",), "threshold": ("02", "03", "04", "06", "07", "09", "10", "17"),
    "event": ("06", "13"), "tape": ("01", "04", "08"), "smooth twin": ("03", "04"),
}
PLAIN = re.compile(  # where no link goes: formulas, code, links and pictures, headings, rows of tables, lists of references
    r"(?s:\$\$.*?\$\$)|\$[^$\n]+\$|(?s:```.*?```)|`[^`]*`|!?\[[^\]]*\]\([^)]*\)|^(?s:## Further reading.*)|^#.*$|^\|.*$",
    re.MULTILINE)
SLIDERS, HERE = "On the web site sliders move this neuron.", "Sliders move this neuron:"  # elsewhere, and on the web site
COLORS = 64  # of a figure in a notebook: a third of the bytes, and nobody sees it
SETUP = f"""# This notebook needs minisnn, and helpers.py from the folder above.
import sys

if "google.colab" in sys.modules:
    !git clone --quiet https://github.com/{REPOSITORY}
    !pip install --quiet ./minisnn
sys.path[:0] = ["..", "minisnn/tutorials"]"""


def scripts():
    """The pages, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def percent(text):
    """(kind, source) of each cell of a percent script: "markdown" without its comment signs, or "code"."""
    for block in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        head, _, body = block.partition("\n")
        if "[markdown]" in head:
            yield "markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines())
        elif body.strip():
            yield "code", body.strip("\n")


def drawn_apart(source):
    """A code cell that ends in a figure -> (what is computed, what only draws it); else (source, "")."""
    body = ast.parse(source).body
    draws = next((node for node in body if re.search(r"\b(plt|diagrams)\.", ast.get_source_segment(source, node))
                  and not isinstance(node, (ast.FunctionDef, ast.Import))), None)
    if draws is None or "save_figure" not in ast.get_source_segment(source, body[-1]):
        return source, ""
    lines = source.splitlines()
    return "\n".join(lines[: draws.lineno - 1]).strip("\n"), "\n".join(lines[draws.lineno - 1 :])


def words(source):
    """The alternative text that the cell gives its figure."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "save_figure" and len(node.args) > 1:
            return ast.literal_eval(node.args[1])
    return ""


def imported(source):
    """Each name that a script imports at its top level -> the line that does it."""
    return {each.asname or each.name: ast.get_source_segment(source, node) for node in ast.parse(source).body
            if isinstance(node, (ast.Import, ast.ImportFrom)) for each in node.names}


def solution(path, name):
    """The source of the function ``name`` in the page's solutions, after the imports that it needs and the page has not."""
    page, source = ((folder / path).read_text(encoding="utf-8") for folder in (FOLDER, FOLDER / "solutions"))
    known, imports = imported(page), imported(source)
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            needed = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} & imports.keys() - known.keys()
            answer = re.sub(r"  # noqa: \w+", "", ast.get_source_segment(source, node))
            return "\n\n".join([*sorted({imports[each] for each in needed}), answer])
    raise LookupError(f"solutions/{path} has no function {name}")


def folded(text):
    """Markdown in which a paragraph that begins with "Hint:" is folded away."""
    return re.sub(r"^Hint: (.*(?:\n.+)*)", r"<details><summary>A hint</summary>\n\n\1\n\n</details>", text, flags=re.MULTILINE)


def cells(path, link):
    """(kind, source, metadata) of each cell of a page: files linked, plots apart, an answer after each exercise."""
    for kind, source in percent(path.read_text(encoding="utf-8")):
        if kind == "markdown":
            yield kind, folded(SOURCE.sub(lambda match: f"[`{match[1]}`]({link(match[1])})", source)), {}
            continue
        computed, drawing = drawn_apart(source)
        if computed:
            yield kind, computed, {}
        if drawing:
            yield kind, drawing, {"tags": ["hide-input"], "mystnb": {"image": {"alt": words(drawing)}}}
        found = re.search(r"^exercise\(\d+, check_\w+, (\w+)\)", source, re.MULTILINE)
        if found:
            answer = solution(path.name, found[1])
            yield "markdown", f"<details><summary>An answer</summary>\n\n```python\n{answer}\n```\n\n</details>", {}


def glossary():
    """Each term of the glossary, longest first -> (the first term of its entry, what it means)."""
    inside = re.search(r"```{glossary}\n(.*?)\n```", GLOSSARY.read_text(encoding="utf-8"), re.DOTALL)[1]
    found = {}
    for entry in inside.split("\n\n"):
        lines = entry.splitlines()
        names = [line for line in lines if not line.startswith(" ")]
        meaning = " ".join(line.strip() for line in lines[len(names) :])
        found |= dict.fromkeys(names, (names[0], meaning))
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def in_words(meaning):
    """A meaning as the title of a link: no marks, no place where to read on."""
    return re.sub(r"[*`\"]|\s*\((Tab\S* \S+|page \d+)[^)]*\)", "", meaning)


def explained(page, number, link):
    """The cells of a page; the first use of each term of the glossary, outside of code and formulas, leads to the glossary."""
    terms = {name: entry for name, entry in glossary().items() if number in ELSEWHERE.get(name, (number,))}
    forms = [rf"{re.escape(name)}(?!\w|-ResNet)" if name[-1].isupper() else rf"{re.escape(name)}s?(?![\w-])" for name in terms]
    one = re.compile(rf"(?<![\w-])({'|'.join(forms)})")
    met = set()

    def mark(match):
        word = match[1]
        name = word if word in terms else word.removesuffix("s")
        first, meaning = terms[name]
        if first in met:
            return word
        met.add(first)
        return f'[{word}]({link(first)} "{in_words(meaning)}")'

    for kind, source, metadata in page:
        if kind == "markdown" and not source.startswith("<details>"):
            pieces, end = [], 0
            for plain in PLAIN.finditer(source):
                pieces += [one.sub(mark, source[end : plain.start()]), plain[0]]
                end = plain.end()
            source = "".join([*pieces, one.sub(mark, source[end:])])
        yield kind, source, metadata


def badge(path):
    """A link that opens the page's notebook in Colab."""
    notebook = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/tutorials/notebooks/{path.stem}.ipynb"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({notebook})"


def notebook_cells(path):
    """The cells of a page's notebook: a badge under the title, a cell that finds minisnn, then the page."""
    page = explained(cells(path, lambda name: f"../../{name}"), path.stem[:2], lambda term: "../glossary.md")
    (kind, first, metadata), *rest = page
    title, _, below = first.partition("\n")
    yield kind, f"{title}\n\n{badge(path)}\n{below}", metadata
    yield "code", SETUP, {"tags": ["hide-input"]}
    for kind, source, metadata in rest:
        yield kind, source.replace("](images/", "](../images/") if kind == "markdown" else source, metadata


def notebook(page):
    """The cells as a notebook that Jupyter knows."""
    from nbformat import v4

    made = [(v4.new_markdown_cell if kind == "markdown" else v4.new_code_cell)(source, metadata=metadata)
            for kind, source, metadata in page]
    for number, cell in enumerate(made):
        cell["id"] = f"cell-{number}"  # the same file for the same page
    return v4.new_notebook(cells=made, metadata={
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    })


def with_sliders(page):
    """The cells, with the picture that moves where a paragraph speaks of it."""
    import sliders

    for kind, source, metadata in page:
        yield kind, source.replace(SLIDERS, f"{HERE}\n\n{sliders.neuron()}") if kind == "markdown" else source, metadata


def read(text):
    """Sphinx: notebook of a script's text, with links to the pages of sources."""
    path = next(path for path in scripts() if path.read_text(encoding="utf-8") == text)
    page = cells(path, lambda name: f"source:{name.removesuffix('.py')}")
    return notebook(with_sliders(explained(page, path.stem[:2], lambda term: "term:" + re.sub(r"\W+", "-", term))))


def smaller(png):
    """The picture with a palette."""
    from PIL import Image

    picture, out = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    picture.quantize(COLORS, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def write(path):
    """Run a page and write its notebook; return its size in bytes."""
    from nbclient import NotebookClient

    made = notebook(notebook_cells(path))
    folder = FOLDER / "notebooks"
    folder.mkdir(exist_ok=True)
    NotebookClient(made, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in made.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":  # warnings name folders of the machine that ran it
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"] = {"image/png": smaller(output["data"]["image/png"]), "text/plain": words(cell.source)}
    save(folder / f"{path.stem}.ipynb", made)
    return (folder / f"{path.stem}.ipynb").stat().st_size


def save(target, made):
    temporary = target.with_suffix(".new")
    temporary.write_text(json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(target)


def reword(path):
    """Take over a page's text into its notebook without running it; False where its code has changed, or never ran."""
    target, now = FOLDER / "notebooks" / f"{path.stem}.ipynb", list(notebook_cells(path))
    old = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {"cells": []}
    code = [cell for cell in old["cells"] if cell["cell_type"] == "code"]
    if [cell["source"] for cell in code] != [source for kind, source, _ in now if kind == "code"]:
        return False
    ran, made = iter(code), []
    for number, (kind, source, metadata) in enumerate(now):
        cell = next(ran) if kind == "code" else {"cell_type": kind, "metadata": metadata}
        made.append({**cell, "id": f"cell-{number}", "source": source})
    old["cells"] = made
    save(target, old)
    return True


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    asked = [word for word in sys.argv[1:] if word != "--text"]
    for page in scripts():
        if page.stem[:2] in asked or not asked:
            if "--text" in sys.argv:
                print(f"{page.stem}: {'the text of today' if reword(page) else 'its code has changed: run it'}")
            else:
                print(f"{page.stem}: {write(page):,} bytes", flush=True)

"""Sphinx: the course and the API reference as a web site.

pip install -e ".[course]"
sphinx-build -W tutorials site
"""

import os
import re
import sys
from pathlib import Path

import latex2mathml.converter
from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
sys.path[:0] = [str(ROOT), str(FOLDER)]
# The kernels of the pages find helpers.py and this checkout.
os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER), str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

project, author, html_title = "minisnn", "The minisnn authors", "minisnn"
language, root_doc, html_theme = "en", "index", "furo"
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "README.md", "[a-z]*.py", "solutions", "results", "figures", "images", "notebooks",
                    "**/.jupyter_cache"]
html_static_path, html_css_files = ["_static"], ["course.css"]
html_show_sourcelink = html_copy_source = False

nb_custom_formats = {".py": "pages.read"}
nb_execution_mode = os.environ.get("MINISNN_COURSE", "cache")  # auto, off: see MyST-NB
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True
nb_output_stderr = "remove"
suppress_warnings = ["mystnb.unknown_mime_type"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 2
myst_url_schemes = {"http": None, "https": None, "mailto": None, "source": {"url": "source/{{path}}.html"},
                    "term": {"url": "glossary.html#term-{{path}}"}}

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "imported-members": False}


def formula(latex, display):
    """MathML, which browsers draw without a script and screen readers read."""
    return latex2mathml.converter.convert(latex.replace("{aligned}", "{align*}"), display=display)


def inline(visitor, node):
    visitor.body.append(formula(node.astext(), "inline"))
    raise nodes.SkipNode


def block(visitor, node):
    visitor.body.append(f'<div class="math-block">{formula(node.astext(), "block")}</div>')
    raise nodes.SkipNode


SECTION = re.compile(r"(Args|Returns|Raises|Yields|Attributes):$")
CODE = re.compile(r"``.+?``|`[^`]+`", re.DOTALL)


def escaped(text):
    """A sentence of a docstring in which only code in backticks is marked up."""
    pieces, end = [], 0
    for match in CODE.finditer(text):
        pieces += [re.sub(r"([\\*|_`])", r"\\\1", text[end : match.start()]), f"``{match[0].strip('`')}``\\ "]
        end = match.end()
    return "".join([*pieces, re.sub(r"([\\*|_`])", r"\\\1", text[end:])])


def paragraphs(lines):
    """Blocks of lines that a blank line, or a change of indentation to or from a block, parts."""
    block = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def entries(lines):
    """``name: text`` entries of a section, each with the lines that continue it."""
    least, found = min(len(line) - len(line.lstrip()) for line in lines), []
    for line in lines:
        if len(line) - len(line.lstrip()) == least or not found:
            found.append(line.strip())
        else:
            found[-1] += " " + line.strip()
    return found


def readable(app, what, name, obj, options, lines):
    """Docstrings are plain text in Google's style: paragraphs flow, what is indented stays as it is, sections become lists."""
    out = []
    for block in paragraphs(lines):
        head, indented = SECTION.match(block[0].strip()), [line.startswith(" ") for line in block]
        if head and len(block) > 1 and all(indented[1:]):
            out += [f"**{head[1]}**", ""]
            for entry in entries(block[1:]):
                key, colon, text = entry.partition(": ")
                named = colon and re.fullmatch(r"\*{0,2}\w+(, \*{0,2}\w+)*", key)
                out += [f"* ``{key}``: {escaped(text)}" if named else f"* {escaped(entry)}"]
            out += [""]
        elif any(indented) or re.match(r"\s*(\* |\d\. |\|)", block[0]):
            out += ["::", "", *("    " + line for line in block), ""]
        else:
            out += [escaped(" ".join(line.strip() for line in block)), ""]
    lines[:] = out


def sources(app):
    """A page for each file of the package, and of what the course is made of beside its pages, with an anchor at each line."""
    formatter = HtmlFormatter(linenos="inline", lineanchors="line", anchorlinenos=True, cssclass="highlight")
    beside = [path for path in FOLDER.rglob("*.py") if path.parent != FOLDER or not path.name[0].isdigit()]
    for path in sorted([*(ROOT / "minisnn").rglob("*.py"), *beside]):
        name = path.relative_to(ROOT).as_posix()
        code = highlight(path.read_text(encoding="utf-8"), PythonLexer(), formatter)
        yield f"source/{name.removesuffix('.py')}", {"title": name, "body": f"<h1>{name}</h1>{code}"}, "page.html"


def to_sources(app, page, text):
    """In a page of Markdown a link to a file of code leads to the page of its source (on a git host, to the file)."""
    if "](" in text[0] and Path(app.env.doc2path(page)).suffix == ".md":
        text[0] = re.sub(r"\]\(\.\./(minisnn/[\w/.]+)\.py\)", r"](source:\1)", text[0])


def setup(app):
    app.connect("source-read", to_sources)
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    app.connect("autodoc-process-docstring", readable)
    app.connect("html-collect-pages", sources)


html_math_renderer = "mathml"

"""Sphinx: the course and the API reference as a web site.

pip install -e ".[course]"
sphinx-build -W tutorials site
"""

import os
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
exclude_patterns = ["_build", "README.md", "conf.py", "exercises.py", "helpers.py", "pages.py", "solutions", "figures",
                    "images", "**/.jupyter_cache"]
html_static_path, html_css_files = ["_static"], ["course.css"]
html_show_sourcelink = html_copy_source = False

nb_custom_formats = {".py": "pages.read"}
nb_execution_mode = os.environ.get("MINISNN_COURSE", "cache")  # auto, off: see MyST-NB
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 2
myst_url_schemes = {"http": None, "https": None, "mailto": None, "source": {"url": "source/{{path}}.html"}}

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "imported-members": False}


def formula(latex, display):
    """MathML, which browsers draw without a script and screen readers read."""
    return latex2mathml.converter.convert(latex, display=display)


def inline(visitor, node):
    visitor.body.append(formula(node.astext(), "inline"))
    raise nodes.SkipNode


def block(visitor, node):
    visitor.body.append(f'<div class="math-block">{formula(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def plain(app, what, name, obj, options, lines):
    """Docstrings are plain text, laid out by hand: they are shown as they are written."""
    lines[:] = ["::", "", *("    " + line for line in lines), ""] if any(lines) else lines


def sources(app):
    """A page for each file of the package, with an anchor at each line."""
    formatter = HtmlFormatter(linenos="inline", lineanchors="line", anchorlinenos=True, cssclass="highlight")
    for path in sorted((ROOT / "minisnn").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        code = highlight(path.read_text(encoding="utf-8"), PythonLexer(), formatter)
        yield f"source/{name.removesuffix('.py')}", {"title": name, "body": f"<h1>{name}</h1>{code}"}, "page.html"


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    app.connect("autodoc-process-docstring", plain)
    app.connect("html-collect-pages", sources)


html_math_renderer = "mathml"

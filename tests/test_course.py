"""The course as a web site and as notebooks: made of the scripts, no warning, every link good, every figure described."""

import builtins
import dis
import importlib
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import minisnn as snn
from minisnn import ops

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tutorials"
TUTORIALS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
each = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def pages():
    """tutorials/pages.py, which has no package."""
    specification = importlib.util.spec_from_file_location("course_pages", FOLDER / "pages.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def notebook(path):
    return json.loads((FOLDER / "notebooks" / f"{path.stem}.ipynb").read_text(encoding="utf-8"))


@each
def test_script_and_notebook_say_the_same(path, pages):
    """Whoever changes a script runs `python tutorials/pages.py NN`."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook(path)["cells"]]
    assert cells == [(kind, source) for kind, source, _ in pages.notebook_cells(path)]


@each
def test_a_notebook_has_run(path):
    found, size = notebook(path), (FOLDER / "notebooks" / f"{path.stem}.ipynb").stat().st_size
    outputs = [output for cell in found["cells"] for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    pictures = [output["data"] for output in outputs if "image/png" in output.get("data", {})]
    assert pictures and all(len("".join(data["text/plain"])) > 80 for data in pictures), "a picture without words for it"
    printed = "".join("".join(output["text"]) for output in outputs if output.get("name") == "stdout")
    cells = [cell for cell in found["cells"] if "\nexercise(" in "".join(cell["source"])]
    assert all(output["output_type"] == "stream" for cell in cells for output in cell["outputs"]), "a value under an exercise"
    assert printed.count("not done yet") == path.read_text(encoding="utf-8").count("\nexercise(")
    assert size < 200_000, "keep the notebooks small"
    assert "/tmp" not in printed and "/home" not in printed


def read_globally(code):
    """The global names that a code object, and what is defined within it, reads."""
    yield from (each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL")
    for inner in filter(inspect.iscode, code.co_consts):
        yield from read_globally(inner)


@each
def test_a_printed_answer_needs_nothing_that_the_page_has_not(path, pages, monkeypatch):
    """Whoever pastes an answer into the page finds every name that it reads."""
    monkeypatch.syspath_prepend(str(FOLDER))
    exercises = importlib.import_module("exercises")
    text = path.read_text(encoding="utf-8")
    bound = set(dir(builtins)).union(*(part.binds for part in exercises.statements(text)))
    answers = exercises.exercises(text).values()
    assert answers
    for _, _, name in answers:
        source = pages.solution(path.name, name)
        own = set().union(*(part.binds for part in exercises.statements(source)))
        assert set(read_globally(compile(source, name, "exec"))) <= bound | own, name
    sys.modules.pop("helpers", None)


@each
def test_every_figure_is_described_and_every_formula_set(path, pages):
    """Words for whoever does not see the figure; formulas in LaTeX, which no list sign may interrupt on a git host."""
    figures = 0
    for kind, source, metadata in pages.cells(path, lambda name: name):
        figures += "mystnb" in metadata
        if "save_figure" in source and kind == "code" and "def save" not in source and "import" not in source:
            assert len(metadata["mystnb"]["image"]["alt"]) > 80
        if kind == "markdown":
            assert not re.search(r"^    \S", source, re.MULTILINE) or "```" in source, "a formula as a block of code"
            for formula in re.findall(r"\$\$(.*?)\$\$", source, re.DOTALL):
                assert not re.search(r"^\s*[-+*] ", formula, re.MULTILINE)
                assert formula.count("{") == formula.count("}") and formula.count("\\left") == formula.count("\\right")
    assert figures


def test_plots_are_taken_apart(pages):
    computed, drawing = pages.drawn_apart("a = 1\n\nfig = plt.figure()\nb = 2\nsave_figure('x', 'a picture')")
    assert computed == "a = 1" and drawing.startswith("fig") and pages.words(drawing) == "a picture"
    assert pages.drawn_apart("a = 1") == ("a = 1", "")
    assert list(pages.percent("# %% [markdown]\n# # T\n#\n# text\n\n# %%\nx = 1\n")) == [
        ("markdown", "# T\n\ntext"),
        ("code", "x = 1"),
    ]


@each
def test_terms_lead_to_the_glossary_at_their_first_use(path, pages):
    """In the site and the notebooks, not in the scripts; once for each term, and neither in code nor in a formula."""
    plain = list(pages.cells(path, lambda name: name))
    linked = list(pages.explained(plain, path.stem[:2], lambda term: f"GLOSSARY-{term}"))
    link = re.compile(r"\[([^\]]+)\]\(GLOSSARY-([^\"]*) \"([^\"]+)\"\)")
    assert [(kind, link.sub(r"\1", source)) for kind, source, _ in linked] == [(kind, source) for kind, source, _ in plain]
    firsts = [match[2] for _, source, _ in linked for match in link.finditer(source)]
    assert firsts and len(firsts) == len(set(firsts)) and set(firsts) <= {first for first, _ in pages.glossary().values()}


def test_a_term_is_found_where_it_is_prose(pages):
    page = [
        ("markdown", "# AC\n\n`AC` and $AC$ and [AC](x), then an AC, two batch norms, SynA-T, SynA-ResNet21 and AC again", {}),
        ("code", "AC", {}),
        ("markdown", "<details>AC</details>", {}),
        ("markdown", "the gain\n\n## Further reading\n\n* A paper on IA", {}),
    ]
    (_, first, _), *rest = pages.explained(page, "15", str)
    assert first.startswith('# AC\n\n`AC` and $AC$ and [AC](x), then an [AC](AC "An accumulation: one addition.')
    assert "two [batch norms](batch norm " in first and "[SynA](SynA " in first and first.endswith("SynA-ResNet21 and AC again")
    assert rest == page[1:]
    assert "the [gain](gain " in [*pages.explained(page, "10", str)][-1][1]


def test_text_alone_needs_no_run(pages, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    page = tmp_path / "99_page.py"
    page.write_text("# %% [markdown]\n# # A page\n#\n# old words\n\n# %%\nx = 1\n", encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    target = tmp_path / "notebooks" / "99_page.ipynb"
    ran = [{"cell_type": "code", "source": source, "outputs": [source], "metadata": {}} for source in (pages.SETUP, "x = 1")]
    pages.save(target, {"cells": ran})
    page.write_text(page.read_text(encoding="utf-8").replace("old", "new"), encoding="utf-8")
    assert pages.reword(page)
    made = json.loads(target.read_text(encoding="utf-8"))["cells"]
    assert [cell["cell_type"] for cell in made] == ["markdown", "code", "code"] and "new words" in made[0]["source"]
    assert made[2]["outputs"] == ["x = 1"]
    page.write_text(page.read_text(encoding="utf-8").replace("x = 1", "x = 2"), encoding="utf-8")
    assert not pages.reword(page)


class Links(HTMLParser):
    """Where a page leads, what it can be led to, and what it shows."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.pictures, self.formulas = [], set(), [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found.get("id"), found.get("name")}
        self.formulas += tag == "math"
        for name in ("href", "src"):
            if name in found and not re.match(r"https?:|mailto:|data:|#$", found[name] or ""):
                self.links.append(found[name])
        if tag == "img":
            self.pictures.append((found.get("src", ""), found.get("alt") or ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built without a warning; not executed, which the notebooks and tests/test_tutorials.py see to."""
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_nb")
    pytest.importorskip("latex2mathml")
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "MINISNN_COURSE": "off"}
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        str(folder / "doctrees"),
        str(FOLDER),
        str(folder / "html"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


@pytest.mark.slow
def test_every_link_of_the_site_is_good(site):
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > len(TUTORIALS) + 60  # a page for each file of the package too
    for path, page in pages.items():
        for link in page.links:
            name, _, anchor = link.split("?")[0].partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target.exists(), f"{path.name} leads to {link}"
            if anchor and target in pages:
                assert anchor in pages[target].anchors, f"{path.name} leads to {link}"
    for path in TUTORIALS:
        assert "\\begin" not in (site / f"{path.stem}.html").read_text(encoding="utf-8")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("values", [{}, {"tau": 8, "threshold": 0.5, "current": 2.5}, {"tau": 3, "reset": -0.5, "current": 3}])
def test_the_sliders_draw_what_the_loop_computes(values, tmp_path, monkeypatch):
    """In a browser, as the script draws it, and as it is drawn without a script; and both are tutorial 2's loop."""
    monkeypatch.syspath_prepend(str(FOLDER))
    sliders = importlib.import_module("sliders")
    page, query = tmp_path / "page.html", "&".join(f"{name}={value}" for name, value in values.items())
    page.write_text(f"<!doctype html><title>x</title>{sliders.neuron()}", encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    drawn = subprocess.run([*command, f"{page.as_uri()}?{query}"], capture_output=True, text=True, timeout=120).stdout
    settings = sliders.START | values
    points = re.compile(r'points="([^"]*)"')
    numbers = [
        [float(v) for v in points.search(text)[1].replace(",", " ").split()] for text in (drawn, sliders.drawing(**settings))
    ]
    assert np.allclose(*numbers, atol=0.11)
    current = np.zeros(sliders.STEPS)
    current[sliders.PULSES] = settings["current"]
    fired = ops.lif(snn.Tensor(current), tau=settings["tau"], v_threshold=settings["threshold"], v_reset=settings["reset"]).data
    assert np.flatnonzero(fired).tolist() == sliders.simulate(**settings)[1]
    bars = re.search(r"<g .*?</g>", drawn, re.DOTALL)[0]
    assert bars.count("<rect") == fired.sum() and f">{int(fired.sum())} spikes<" in drawn and 'class="controls">' in drawn


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_opens_every_page_without_an_error(site, tmp_path):
    for page in [*site.glob("*.html")]:
        command = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path}",
        ]
        done = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
        assert "</html>" in done.stdout
        assert "CONSOLE" not in done.stderr, f"{page.name}: {done.stderr}"


def test_the_headline_is_drawn_from_the_table(tmp_path, monkeypatch):
    """Ratios of the table are those of its times, the README says the largest of them, and the figure is of this table."""
    monkeypatch.syspath_prepend(str(FOLDER))
    headline = importlib.import_module("headline")
    rows = list(headline.speeds((FOLDER / "measured.md").read_text(encoding="utf-8")))
    assert len(rows) == 5
    for _, ours, theirs, ratio, inference in rows:
        assert abs(theirs / ours - ratio) < 0.2 and inference > 1  # medians of pairs, not the ratio of medians
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    least, most = (end(row[3] for row in rows) for end in (min, max))
    assert f"{least} to {most} and" in readme and f"{rows[-1][1]:.0f} ms against {rows[-1][2]:,.0f} ms" in readme
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context():
        headline.draw(tmp_path / "headline.png")
    assert (tmp_path / "headline.png").stat().st_size > 5000
    sys.modules.pop("helpers", None)

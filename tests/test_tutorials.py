"""Every tutorial runs, draws, and tells right answers from wrong ones; code blocks of the READMEs run as they stand."""

import importlib.util
import inspect
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tutorials"
TUTORIALS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
READMES = [path for path in (ROOT / "README.md", FOLDER / "README.md") if path.exists()]
LINES = 220  # "about 200"

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

each = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
_namespaces = {}


def namespace(path, tmp_path_factory):
    """What the tutorial defines, after it has run: once for all tests, from an empty folder, with figures in that folder."""
    if path not in _namespaces:
        folder = tmp_path_factory.mktemp(path.stem)
        with pytest.MonkeyPatch.context() as patch, matplotlib.rc_context():
            patch.chdir(folder)
            patch.setenv("MINISNN_FIGURES", str(folder / "figures"))
            patch.syspath_prepend(str(FOLDER))
            try:
                _namespaces[path] = runpy.run_path(str(path)), sorted((folder / "figures").glob("*.png"))
            finally:
                sys.modules["matplotlib.pyplot"].close("all")
    return _namespaces[path]


@each
def test_runs_and_draws(path, tmp_path_factory):
    _, figures = namespace(path, tmp_path_factory)
    assert figures and all(figure.name.startswith(path.stem) and figure.stat().st_size > 5000 for figure in figures)


@each
def test_is_a_percent_script_of_about_200_lines(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n# # ") and "\n# %%\n" in text
    assert len(text.splitlines()) <= LINES
    assert max(map(len, text.splitlines())) <= 128
    for word in ("After this page you can", "You need:", "Explains:"):
        assert word in text
    for name in re.findall(r"`((?:minisnn|tutorials)/[\w/.]+)`", text):
        assert (ROOT / name).exists(), f"{path.name} speaks of {name}, which does not exist"


@each
def test_exercises_accept_the_solution_and_reject_the_mistake(path, tmp_path_factory):
    names, _ = namespace(path, tmp_path_factory)
    checks = {name.removeprefix("check_"): f for name, f in names.items() if name.startswith("check_") and callable(f)}
    solved = dict(names)
    exec(compile((FOLDER / "solutions" / path.name).read_text(encoding="utf-8"), path.name, "exec"), solved)
    assert len(checks) in (2, 3)
    for name, check in checks.items():
        with pytest.raises(NotImplementedError):  # what the tutorial leaves to the reader is really empty
            check(names[name])
        assert list(inspect.signature(solved[name]).parameters) == list(inspect.signature(names[name]).parameters)
        check(solved[name])
        wrong = [f for other, f in solved.items() if re.fullmatch(rf"wrong_{name}(_\d)?", other)]
        assert wrong, f"the solutions show no mistake for {name}"
        for f in wrong:
            with pytest.raises(AssertionError) as rejection:
                check(f)
            assert str(rejection.value), f"the check of {name} rejects without a word"


def test_the_map_lists_every_tutorial():
    linked = re.findall(r"\((\d\d_\w+\.py)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert linked == [path.name for path in TUTORIALS]


def code_blocks(path):
    """(line number, code) of the Python blocks of a Markdown file, in order."""
    text = path.read_text(encoding="utf-8")
    return [
        (text[: match.start(1)].count("\n") + 1, match.group(1))
        for match in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_blocks_of_the_readme_run(path, tmp_path, monkeypatch):
    """One after the other in one namespace, as a reader would paste them, in an empty folder."""
    names = {"__name__": "readme"}
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context():
        for line, code in code_blocks(path):
            exec(compile("\n" * (line - 1) + code, str(path), "exec"), names)


def test_helpers_say_what_is_not_done_and_pass_on_what_is_wrong(capsys):
    specification = importlib.util.spec_from_file_location("tutorial_helpers", FOLDER / "helpers.py")
    helpers = importlib.util.module_from_spec(specification)
    with matplotlib.rc_context():
        specification.loader.exec_module(helpers)

    def check(answer):
        assert answer() == 42, "not 42"

    def empty():
        raise NotImplementedError

    helpers.exercise(1, check, empty)
    helpers.exercise(2, check, lambda: 42)
    assert capsys.readouterr().out == "exercise 1: not done yet\nexercise 2: right\n"
    with pytest.raises(AssertionError, match="not 42"):
        helpers.exercise(3, check, lambda: 41)

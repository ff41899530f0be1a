"""Every tutorial runs, draws, and tells right answers from wrong ones; code blocks of the READMEs run as they stand."""

import ast
import importlib
import importlib.util
import inspect
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minisnn as snn
from minisnn import ablation, cli
from minisnn.cli.declared import given
from minisnn.options import Options

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tutorials"
TUTORIALS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
READMES = [path for path in (ROOT / "README.md", FOLDER / "README.md") if path.exists()]
LINES = 320  # what one sitting takes, figures not counted

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


def read(text):
    """The cells of a page without what only draws a figure, which the site folds away."""
    pages = importlib.import_module("pages")
    return [source if kind == "markdown" else pages.drawn_apart(source)[0] for kind, source in pages.percent(text)]


@each
def test_is_a_percent_script_of_one_sitting(path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n# # ") and "\n# %%\n" in text
    assert sum(len(part.splitlines()) + 1 for part in read(text)) <= LINES
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


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """tutorials/exercises.py, with its folder in the path and a place of its own for what it keeps."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("MINISNN_FIGURES", str(tmp_path / "figures"))
    with matplotlib.rc_context():
        yield importlib.import_module("exercises")
    sys.modules.pop("helpers", None)


ALONE = [(path, number) for path in TUTORIALS for number in range(1, path.read_text(encoding="utf-8").count("\nexercise(") + 1)]


@pytest.mark.parametrize(
    ("path", "number"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (row[0].stem[:2] == "10" and row[1] == 2)) for row in ALONE],
    ids=lambda value: getattr(value, "stem", value),
)
def test_an_exercise_runs_alone(path, number, alone, tmp_path):
    """With the solution in the place of the stub, what the check needs of its page is found, and no figure drawn."""
    text, solutions = (f.read_text(encoding="utf-8") for f in (path, FOLDER / "solutions" / path.name))
    _, _, name = alone.exercises(text)[number]
    source = {node.name: ast.get_source_segment(solutions, node) for node in ast.parse(solutions).body if hasattr(node, "name")}
    stub = next(ast.get_source_segment(text, node) for node in ast.parse(text).body if getattr(node, "name", "") == name)
    assert not alone.is_written(text, name)
    imports = [line for line in solutions.splitlines() if line.startswith(("import ", "from "))]
    solved = tmp_path / path.name
    solved.write_text(text.replace(stub, "\n".join([*imports, source[name]])), encoding="utf-8")
    check, answer = alone.run(solved, number)
    check(answer)
    exec(source[f"wrong_{name}"], check.__globals__)
    with pytest.raises(AssertionError):
        check(check.__globals__[f"wrong_{name}"])
    assert "fig" not in check.__globals__


def test_what_took_long_is_kept(tmp_path, alone, monkeypatch, capsys):
    page = tmp_path / "99_page.py"
    page.write_text(
        "# %% [markdown]\n# # 99. A page\n\n# %%\nfrom helpers import exercise\nruns = []\n\ndef train(n):\n"
        "    print('training')\n    return [{'loss': 1 / n}]\n\nlong = train(3)\nprint('not needed')\n\n"
        "def lowest():\n    raise NotImplementedError\n\n"
        "def check_lowest(lowest):\n    assert lowest() == long[0]['loss'], 'no'\n\n"
        "exercise(1, check_lowest, lowest)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(alone, "SLOW", 0)
    for turn in range(2):
        check, _ = alone.run(page, 1)
        check(lambda: 1 / 3)
        assert capsys.readouterr().out == ("training\n" if turn == 0 else "")
    page.write_text(page.read_text(encoding="utf-8").replace("1 / n", "2 / n"), encoding="utf-8")
    alone.run(page, 1)
    assert capsys.readouterr().out == "training\n"  # what it came from has changed
    monkeypatch.setattr(alone, "pages", lambda: [page])
    alone.progress()
    assert capsys.readouterr().out.splitlines() == ["99. A page".ljust(46) + " 1 to do", "0 of 1 exercises are right"]
    written = page.read_text(encoding="utf-8").replace("raise NotImplementedError", "return 2 / 3")
    page.write_text(written, encoding="utf-8")
    alone.progress()
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 1 exercises are right"
    with pytest.raises(LookupError, match="has the exercises 1, not 2"):
        alone.run(page, 2)


def test_one_exercise_from_the_command_line(tmp_path):
    """The page itself is not run: exit status 0 for right, 1 for wrong or not written, 2 for no such exercise."""
    page = next(path for path in TUTORIALS if path.stem.startswith("12"))
    environment = {**os.environ, "MINISNN_FIGURES": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    for number, status, words in (
        ("1", 1, "exercise 1: not done yet"),
        ("7", 2, "has the exercises 1, 2, not 7"),
        ("", 2, "NUMBER"),
    ):
        done = subprocess.run(
            [sys.executable, str(page), "--exercise", number], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == status and words in done.stdout + done.stderr
    assert not list(tmp_path.glob("*.png"))


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


def test_helpers_say_what_is_not_done_and_what_is_wrong(capsys):
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
    helpers.exercise(3, check, lambda: 41)
    helpers.exercise(4, check, lambda x: 42)  # the reader's own mistakes do not hide the next exercise either
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:3] == ["exercise 1: not done yet", "exercise 2: right", "exercise 3: wrong: not 42"]
    assert "exercise 4: wrong: it stops with TypeError" in printed.out and "TypeError" in printed.err


def test_the_commands_of_the_study_are_understood():
    """Each line of the script reads as a command whose grid and options exist; none is run."""
    lines = [line for line in (FOLDER / "results" / "study.sh").read_text(encoding="utf-8").splitlines() if line[:1] == "m"]
    assert len(lines) >= 5
    for line in lines:
        program, command, *words = shlex.split(line)
        assert (program, command) == ("minisnn", "ablate")
        options = cli.parser_of(command)[0].parse_args(words)
        Options(**given(options))
        assert ablation.grid(options.models, options.positions, options.seeds)
        assert options.folds is None or max(options.seeds) < options.folds


@pytest.fixture
def engines(monkeypatch):
    """(growing.py, the reader's empty mine.py, its solution)."""
    monkeypatch.syspath_prepend(str(FOLDER))
    growing = importlib.import_module("growing")
    modules = []
    for path in (FOLDER / "mine.py", FOLDER / "solutions" / "mine.py"):
        specification = importlib.util.spec_from_file_location("an_engine", path)
        modules.append(importlib.util.module_from_spec(specification))
        specification.loader.exec_module(modules[-1])
    return growing, *modules


def test_an_engine_of_ones_own_grows(engines, capsys):
    growing, empty, solved = engines
    checks = sum(map(len, growing.ADDED.values()))
    assert growing.grown(empty) == (True, 0) and capsys.readouterr().out.count("to do") == checks
    assert growing.grown(solved) == (True, checks)
    assert "100.0%" not in capsys.readouterr().out  # the digits that count were not trained on
    for name, function in vars(empty).items():
        if inspect.isfunction(function):
            assert inspect.signature(function) == inspect.signature(getattr(solved, name))


@pytest.mark.parametrize(
    ("name", "page", "wrong"),
    [
        ("linear_backward", 1, lambda d, x, w: (d @ w.T, d.T @ x)),
        ("neuron", 2, lambda x, tau=2.0: (x / tau, (x / tau > 1) * 1.0)),
        ("surrogate", 3, lambda u, alpha=2.0: alpha / 2 / (1 + (np.pi / 2 * alpha * u) ** 2)),
        ("neuron_backward", 4, lambda ds, u, s, tau=2.0: ds / tau),
        ("conv", 5, lambda x, w, stride=1, padding=0: x),
        ("event_conv", 6, lambda x, w, stride=1, padding=0: (x, 0)),
        ("batch_norm", 7, lambda x, weight, bias, eps=1e-5: x),
        ("join", 8, lambda x, y: x + y),
        ("join_backward", 8, lambda d, x, y: (d, d)),
        ("attention", 9, lambda x, squeeze, excite, spiking: x),
        ("block", 10, lambda x, main, shortcut: x),
    ],
)
def test_a_wrong_part_of_it_is_found(name, page, wrong, engines, monkeypatch, capsys):
    growing, _, solved = engines
    monkeypatch.setattr(solved, name, wrong)
    monkeypatch.setitem(growing.ADDED, 4, growing.ADDED[4][:1])  # training takes longer
    assert not growing.grown(solved, (page,))[0]
    assert name in capsys.readouterr().out


def strict(x, tau=2.0):
    """A neuron that is silent at exactly the threshold."""
    u, s, h = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x)):
        u[t] = h + (x[t] - h) / tau
        s[t] = u[t] > 1
        h = u[t] * (1 - s[t])
    return u, s


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda x, tau=2.0: strict(x, tau)[1], "neuron: return two arrays, u and s, in this order"),
        (lambda x, tau=2.0: snn.ops.lif(snn.Tensor(x), tau=tau).data, "neuron: return two arrays, u and s, in this order"),
        (lambda x, tau=2.0: (snn.ops.lif(snn.Tensor(x), tau=tau).data, x), "neuron: return two arrays, u and s, in this order"),
        (strict, "neuron: wrong spikes where u is exactly 1"),
        (lambda x, tau=2.0: x[10**6], "neuron: it stops with IndexError"),
    ],
)
def test_growing_says_what_is_wrong_with_a_neuron_and_goes_on(wrong, words, engines, monkeypatch, capsys):
    growing, _, solved = engines
    monkeypatch.setattr(solved, "neuron", wrong)
    assert growing.grown(solved, (2, 3)) == (False, 1)
    first, second = capsys.readouterr().out.splitlines()
    assert words in first and second == "page  3: surrogate: as the package"

"""Other systems, as far as they can be told from here: what is asked for where it may be missing, and encodings."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

import minisnn
from minisnn import files, memory

PACKAGE = pathlib.Path(minisnn.__file__).parent
ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCES = sorted({*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "tutorials").rglob("*.py")})
SOME_SYSTEMS = {
    "resource",
    "fcntl",
    "pwd",
    "grp",
    "termios",
    "tty",
    "pty",
    "msvcrt",
    "winreg",
}  # modules of the standard library
SOME_SIGNALS = {"SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGBREAK"}


def text_without_encoding(tree):
    """Lines that read or write text in the encoding of the system, which is not UTF-8 everywhere."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(keyword.arg in ("encoding", None) for keyword in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        if name in ("read_text", "write_text") and getattr(getattr(node.func, "value", None), "id", None) != "files":
            yield node.lineno
        if isinstance(node.func, ast.Name) and name == "open":
            mode = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
            if not (mode and "b" in getattr(mode[0], "value", "b")):
                yield node.lineno


def asked_for_on_import(tree):
    """Lines that need, as soon as the file is imported, what some systems do not have."""

    def walk(node):
        later = node.body if isinstance(node, ast.FunctionDef) else [node.body] if isinstance(node, ast.Lambda) else []
        for child in ast.iter_child_nodes(node):
            if child not in later:
                yield child
                yield from walk(child)

    for node in walk(tree):
        if isinstance(node, ast.Import) and SOME_SYSTEMS & {name.name for name in node.names}:
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and (node.module in SOME_SYSTEMS):
            yield node.lineno
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "signal" and node.attr in SOME_SIGNALS:
            yield node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_files_suit_every_system(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(text_without_encoding(tree)) == [], "read and write text with encoding='utf-8'"
    assert list(asked_for_on_import(tree)) == [], "ask for it where it is used, and do without where it is missing"


def test_what_does_not_suit_is_found():
    wrong = "p.read_text()\np.write_text('a')\nopen(p)\nopen(p, 'w')\nopen(p, mode='a')"
    assert sorted(text_without_encoding(ast.parse(wrong))) == [1, 2, 3, 4, 5]
    right = "open(p, 'rb')\nopen(p, encoding='utf-8')\nRun.open(p)\nfiles.write_text(p, 'a')"
    assert not list(text_without_encoding(ast.parse(right)))
    early = "import resource\n@mark(signal.SIGKILL)\ndef f(x=signal.SIGHUP):\n    import fcntl"
    assert sorted(asked_for_on_import(ast.parse(early))) == [1, 2, 3]


# Windows has none of these modules, signals and functions; msvcrt, which it has, holds a lock of one process at a time.
ELSEWHERE = """
import os, signal, subprocess, sys, types  # subprocess would take msvcrt for Windows
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE"):
    delattr(signal, name)
for name in ("geteuid", "getuid", "fork", "killpg", "getpgid", "setsid"):
    delattr(os, name)
held = []
def locking(handle, mode, count):
    place = os.fstat(handle).st_ino
    if place in held:
        raise PermissionError(13, "Permission denied")
    held.append(place)
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)

from minisnn import cli
TINY = "--width 8 -T 2 --epochs 1 -b 16 --limit 16 --threads 1".split()
print([cli.main(words) for words in (["train", *TINY, "--out", "a"], ["evaluate", "a", "--limit", "16"], ["plot", "a"],
                                     ["bench", "step", "--width", "8", "-T", "2", "-b", "2", "--repeat", "1"])], len(held))
"""


def test_a_system_without_posix_trains_evaluates_and_measures(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])}
        | {"NUMBA_NUM_THREADS": "1"},  # no process compiles beside it, with which it would share more locks
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[0, 0, 0, 0] 1", done.stderr
    assert "Traceback" not in done.stderr


def test_the_peak_of_the_memory(monkeypatch):
    resource = pytest.importorskip("resource", reason="Windows does not say")
    here = memory.peak_megabytes()
    assert 20 < here < 1e5
    monkeypatch.setattr(resource, "getrusage", lambda who: type("Usage", (), {"ru_maxrss": 3 << 20}))
    for system, megabytes in (("linux", 3 << 10), ("darwin", 3)):
        monkeypatch.setattr(sys, "platform", system)
        assert memory.peak_megabytes() == megabytes
    monkeypatch.setitem(sys.modules, "resource", None)
    assert memory.peak_megabytes() is None


@pytest.mark.parametrize("refusals", [0, 1, files.TRIES - 1, files.TRIES])
def test_a_file_in_use_is_tried_again_and_stays_whole(refusals, tmp_path, monkeypatch):
    """As on Windows, where a file that another program has open cannot be replaced."""
    path, replace, asked = str(tmp_path / "table.csv"), os.replace, []

    def refuse(source, target):
        asked.append(target)
        if len(asked) <= refusals:
            raise PermissionError(13, "Access is denied", source)
        replace(source, target)

    files.write_text(path, "old")
    monkeypatch.setattr(files, "PAUSE", 0)
    monkeypatch.setattr(os, "replace", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "name", "nt")
        if refusals == files.TRIES:
            with pytest.raises(PermissionError) as error:
                files.write_text(path, "new")
            assert error.value.filename == path
        else:
            files.write_text(path, "new")
    with open(path, encoding="utf-8") as file:
        assert file.read() == ("old" if refusals == files.TRIES else "new")
    assert len(asked) == min(refusals + 1, files.TRIES) and len(list(tmp_path.iterdir())) == 1

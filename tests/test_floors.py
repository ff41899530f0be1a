"""Imports go down only, floor by floor; and what is heavy is not imported before it is needed."""

import ast
import pathlib
import subprocess
import sys

import pytest

import minisnn

ROOT = pathlib.Path(minisnn.__file__).parent
FLOORS = [
    {
        "errors",
        "kernel_cache",
        "threads",
        "memory",
        "ledger",
        "states",
        "catalogue",
        "kinds",
        "parallel",
        "types",
        "stopping",
        "terminal",
        "peer",
        "paired",
    },
    {"jit", "files", "locks"},
    {"engine", "surrogate", "gradcheck", "checkpoint"},
    {"ops"},
    {"optim"},
    {"nn", "data"},
    {"models"},
    {
        "energy",
        "pruning",
        "anytime",
        "runs",
        "journal",
        "options",
        "interop",
        "zoo",
        "rehearsal",
        "train",
        "bench",
        "growth",
        "scaling",
        "contests",
        "schedule",
    },
    {"figures"},
    {"ablation"},
    {"cli"},
    {"__main__"},
]
HEAVY = ("tonic", "matplotlib", "sklearn", "h5py", "PIL", "joblib", "pandas", "librosa")


def floor_of(part):
    for k, names in enumerate(FLOORS):
        if part in names:
            return k
    raise AssertionError(f"{part} has no floor yet: give it one in {__name__}.FLOORS")


def imported_parts(source, package):
    """Names directly under minisnn that a module imports; ``package`` is the module's package, such as ("minisnn", "ops")."""
    parts = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            parts |= {name.name.split(".")[1] for name in node.names if name.name.startswith("minisnn.")}
            assert not any(name.name == "minisnn" for name in node.names), "a module of the package imports the package itself"
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            target = base + (node.module.split(".") if node.module else [])
            if target[:1] != ["minisnn"]:
                continue
            found = [target[1]] if len(target) > 1 else [name.name for name in node.names]
            parts |= set(found) - {"__version__"}
    return parts


MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    inside = path.relative_to(ROOT)
    package = ("minisnn", *inside.parts[:-1])
    own = inside.parts[0].removesuffix(".py")
    for part in imported_parts(path.read_text(encoding="utf-8"), package):
        assert floor_of(part) <= floor_of(own), f"{inside} imports {part}, which stands above it"


def test_an_import_that_points_up_is_found():
    assert imported_parts("from ..train import train\nfrom . import conv\nfrom .. import cli", ("minisnn", "ops")) == {
        "train",
        "ops",
        "cli",
    }
    assert imported_parts("from . import cli, __version__\nimport minisnn.bench", ("minisnn",)) == {"cli", "bench"}
    assert imported_parts("def f():\n    from .cli import main", ("minisnn",)) == {"cli"}
    assert floor_of("train") > floor_of("ops")


def test_nothing_heavy_is_imported_early():
    code = f"import sys, minisnn, minisnn.cli, minisnn.train; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == "[]"


def test_every_module_can_be_imported_first():
    names = [".".join(("minisnn", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__") for path in MODULES]
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    for loaded in [module for module in sys.modules if module.split('.')[0] == 'minisnn']:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    found = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr

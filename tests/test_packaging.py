"""The package as it is given away: what it asks for, what is in it, and that nothing is missing."""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

import minisnn

ROOT = pathlib.Path(__file__).resolve().parents[1]
OPTIONAL = {
    "mpi4py",
    "nir",
    "tensorboardX",
    "tonic",
    "h5py",
    "aedat",
    "distributed",
    "torch",
    "spikingjelly",
    "snntorch",
}  # asked for in one line where they are needed


def imported():
    """Names of the packages that the package imports, anywhere."""
    found = set()
    for path in (ROOT / "minisnn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"minisnn"}


def declared():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    required = re.search(r"\ndependencies = \[\n(.*?)\n\]", text, re.DOTALL).group(1)
    return {name.lower() for name in re.findall(r'^    "([\w-]+)', required, re.MULTILINE)}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    names = {
        "PIL": "pillow",
        "sklearn": "scikit-learn",
        "llvmlite": "numba",
    }  # llvmlite is numba's, of the very version it needs
    asked = {names.get(name, name) for name in imported() - OPTIONAL}
    assert asked <= declared()
    assert declared() - {"tonic", "tbb"} <= asked  # tbb is a library that numba opens


def words(path):
    return path.read_text(encoding="utf-8")


def test_every_system_and_python_is_tried():
    classifiers = set(re.findall(r'"Programming Language :: Python :: (3\.\d+)"', words(ROOT / "pyproject.toml")))
    flow = words(ROOT / ".github/workflows/tests.yml")
    assert classifiers == set(re.findall(r'"(3\.\d+)"', re.search(r"python: \[.*\]", flow).group()))
    assert all(system in flow for system in ("ubuntu-latest", "ubuntu-24.04-arm", "macos-latest", "windows-latest"))
    assert f"Python {min(classifiers, key=minor)} to {max(classifiers, key=minor)}" in words(ROOT / "README.md")


def test_the_workflow_runs_the_commands_of_the_readme():
    yaml = pytest.importorskip("yaml", reason="comes with the extra dask")
    jobs = yaml.safe_load(words(ROOT / ".github/workflows/tests.yml"))["jobs"]
    steps = [step["run"] for step in jobs["readme"]["steps"] if "run" in step]
    commands = re.search(r"## Begin.*?```sh\n(.*?)```", words(ROOT / "README.md"), re.DOTALL).group(1).splitlines()
    assert [step for step in steps if step in commands] == commands
    assert {"run": ".ci/run"} in jobs["whole"]["steps"]
    yaml.safe_load(words(ROOT / "CITATION.cff"))


def minor(version):
    return int(version.split(".")[1])


def test_the_pages_know_each_other():
    for name in ("CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"):
        assert (ROOT / name).is_file()
    assert "&&" not in re.search(r"## Begin(.*?)\n## ", words(ROOT / "README.md"), re.DOTALL).group(
        1
    )  # PowerShell 5 refuses it
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", words(path)):
            assert (ROOT / link).exists(), f"{path.name} links to {link}"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(unpacked sdist, wheel made from it)."""
    folder = tmp_path_factory.mktemp("built")
    build = "import os, sys, hatchling.build; os.chdir(sys.argv[1]); hatchling.build.build_sdist(sys.argv[2])"
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = re.search(r"requires = \[(.*?)\]", words(ROOT / "pyproject.toml")).group(1)
    install = [python, "-m", "pip", "install", "--quiet", *re.findall(r'"([^"]+)"', wanted)]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip("the packages that build this one cannot be had here")
    subprocess.run([python, "-c", build, ROOT, folder], check=True)
    (archive,) = folder.glob("minisnn-*.tar.gz")
    shutil.unpack_archive(archive, folder, **({"filter": "data"} if sys.version_info >= (3, 12) else {}))
    tree = folder / archive.name.removesuffix(".tar.gz")
    subprocess.run(
        [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, tree],
        check=True,
        cwd=folder,
    )
    (wheel,) = folder.glob("*.whl")
    return tree, wheel


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_absolute_links(built):
    with zipfile.ZipFile(built[1]) as wheel:
        inside = set(wheel.namelist())
        (about,) = (wheel.read(name).decode() for name in inside if name.endswith("METADATA"))
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "minisnn").rglob("*.py")}
    assert modules == {name for name in inside if name.endswith(".py")}
    assert f"Version: {minisnn.__version__}\n" in about and "Author: The minisnn authors" in about
    links = re.findall(r"\]\(([^)\s]+)\)", about.split("\n\n", 1)[1])
    assert len(links) > 20 and all(link.startswith(("https://", "#")) for link in links)


@pytest.mark.slow
def test_the_suite_runs_from_the_sdist(built):
    tree = built[0]
    for path in [*ROOT.glob("tests/**/*.py"), *ROOT.glob("tutorials/**/*.*"), ROOT / ".ci/run", ROOT / "CHANGELOG.md"]:
        if "__pycache__" not in path.parts and "figures" not in path.parts:
            assert (tree / path.relative_to(ROOT)).is_file(), path
    files = [f"tests/test_{name}.py" for name in ("floors", "equations", "portability", "packaging", "pool", "tutorials")]
    for words in (["--collect-only", "-m", ""], [*files, "-k", "not exercises and not runs_and_draws"]):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
            cwd=tree,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(tree)},
        )
        assert done.returncode == 0, done.stdout[-2000:]

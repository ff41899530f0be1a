"""Compiled loops on disk: what is kept when a file changes, and that no state of the cache keeps the program from running."""

import os
import pathlib
import shutil
import stat
import subprocess
import sys

import numba
import numpy as np
import pytest

import minisnn
from minisnn import jit, kernel_cache

PACKAGE = pathlib.Path(minisnn.__file__).parent
FUSED = """
import numpy as np, minisnn as snn
from minisnn import nn
x = snn.Tensor(np.random.default_rng(0).standard_normal((3, 2, 2, 4, 4)).astype(np.float32) * 2)
norm = nn.BatchNorm2d(2).eval()
print(int(nn.LIF().after(norm, None, x).data.sum()), int(nn.LIF()(norm(x)).data.sum()))
"""
LOOPS = {  # two that compile in no time, the one called by the other
    "loop.py": """
from ..jit import kernel
from .loop_called import doubled

@kernel
def sum_doubled(x):
    total = 0.0
    for value in x:
        total += doubled(value)
    return total
""",
    "loop_called.py": """
from ..jit import kernel

@kernel
def doubled(value):
    return 2 * value
""",
}
SUM = "import numpy as np; from minisnn.ops import loop; print('sum', loop.sum_doubled(np.ones(3, np.float32)))"


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, without anything compiled."""
    shutil.copytree(PACKAGE, tmp_path / "minisnn", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in LOOPS.items():
        (tmp_path / "minisnn/ops" / name).write_text(text, encoding="utf-8")
    return tmp_path


def run(folder, code, **environment):
    """(what it prints, what it says on standard error) of code that imports the copy in ``folder``."""
    own = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env=own | {"PYTHONPATH": str(folder), "NUMBA_NUM_THREADS": "1"} | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


def edit(path, before, after):
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def test_a_loop_is_compiled_anew_when_a_file_changes_that_it_is_made_of(copy):
    assert run(copy, SUM)[0] == "sum 6.0"
    kept = sorted(copy.rglob("loop.*.nbc"))
    edit(copy / "minisnn/ops/loop_called.py", "2 * value", "3 * value")
    assert run(copy, SUM)[0] == "sum 9.0"
    assert kept and set(kept) <= set(copy.rglob("loop.*.nbc"))


@pytest.mark.slow
def test_an_edited_neuron_is_the_one_of_the_fused_operation(copy):
    before, _ = run(copy, FUSED)
    kept = sorted(copy.rglob("*.nbc"))
    edit(copy / "minisnn/ops/lif.py", "flushed(h + (n.gain * x", "flushed(h + (3 * n.gain * x")
    fused, by_definition = run(copy, FUSED)[0].split()
    assert fused == by_definition and [fused, by_definition] != before.split()
    assert kept and set(kept) <= set(copy.rglob("*.nbc"))


def test_a_loop_is_kept_when_another_file_changes(copy):
    def times():
        return {path.name: path.stat().st_mtime_ns for path in copy.rglob("loop.*.nbc")}

    run(copy, SUM)
    before = times()
    edit(copy / "minisnn/train.py", '"""', '"""Edited. ')
    run(copy, SUM)
    assert before and times() == before
    edit(copy / "minisnn/jit.py", '"""', '"""Edited. ')
    run(copy, SUM)
    assert set(times().values()).isdisjoint(before.values())


DAMAGE = {
    "cut short": lambda content: content[:1000],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"more",
    "one bit": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 4]) + content[len(content) // 2 + 1 :]
    ),
    "something else": lambda content: b"\x80\x04cos\nsystem\n" * 30,
}


@pytest.mark.parametrize(
    "kind, how",
    [
        ("nbc", "one bit"),
        ("nbi", "something else"),
        *(
            pytest.param(kind, how, marks=pytest.mark.slow)
            for kind, how in (
                ("nbc", "cut short"),
                ("nbc", "empty"),
                ("nbc", "longer"),
                ("nbc", "something else"),
                ("nbi", "cut short"),
            )
        ),
    ],
)
def test_a_damaged_file_is_compiled_anew_and_replaced(copy, kind, how):
    right, _ = run(copy, SUM)
    files = sorted(copy.rglob(f"loop.sum_doubled*.{kind}"))
    assert files
    for file in files:
        file.write_bytes(DAMAGE[how](file.read_bytes()))
    assert run(copy, SUM) == (right, "")
    assert all(
        kernel_cache.hashlib.blake2b(file.read_bytes()[kernel_cache.DIGEST :]).digest()
        == file.read_bytes()[: kernel_cache.DIGEST]
        for file in copy.rglob("loop.sum_doubled*.nbc")
    )


def test_without_a_folder_that_can_be_written_it_runs_and_says_one_line(copy):
    blocked = copy / "file"
    blocked.write_text("no folder can be made in here", encoding="utf-8")
    right, _ = run(copy, SUM)
    out, said = run(copy, SUM, NUMBA_CACHE_DIR=str(blocked / "cache"))
    assert out == right and len(said.splitlines()) <= 1
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return  # root may write anywhere
    for folder in [copy, *(p for p in copy.rglob("*") if p.is_dir())]:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        for home in ("/nonexistent", ""):
            out, said = run(copy, SUM, HOME=home, XDG_CACHE_HOME=home)
            assert out == right and len(said.splitlines()) <= 1
    finally:
        for folder in [copy, *(p for p in copy.rglob("*") if p.is_dir())]:
            folder.chmod(stat.S_IRWXU)


def test_without_a_home_no_folder_is_named_for_it(monkeypatch):
    def places():
        of_a_loop = kernel_cache.KernelCache._impl_class(kernel_cache.imported_files.__wrapped__)
        return [place.__name__ for place in of_a_loop._locator_classes]

    def homeless(self):
        return "~/.cache/numba"

    assert any("UserWide" in name for name in places())
    monkeypatch.setattr(kernel_cache.caching.AppDirs, "user_cache_dir", property(homeless))
    assert places() and not any("UserWide" in name for name in places())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become another user")
def test_a_user_without_a_home_and_a_folder_to_write_leaves_nothing_behind(copy, tmp_path_factory):
    right, _ = run(copy, SUM)
    shutil.rmtree(copy / "minisnn/ops/__pycache__")
    here = tmp_path_factory.mktemp("here")
    for folder in (copy, here, *here.parents[:2]):
        folder.chmod(folder.stat().st_mode | stat.S_IRWXO if folder == here else 0o755)
    environment = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join([str(copy), *sys.path[1:]]), "NUMBA_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", SUM],
            capture_output=True,
            text=True,
            cwd=here,
            env=environment,
            user=12345,
            group=12345,
            extra_groups=[],
        )
    except PermissionError as error:
        pytest.skip(f"another user may not run this Python: {error}")
    if "Permission denied" in done.stderr and done.returncode:
        pytest.skip("another user may not read this Python's packages")
    assert done.stdout.strip() == right and len(done.stderr.splitlines()) <= 1, done.stderr
    assert list(here.iterdir()) == []


def test_a_loop_without_a_folder_runs_uncached(monkeypatch, capfd):
    def no_folder(loop):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(kernel_cache.KernelCache, "_impl_class", staticmethod(no_folder))
    monkeypatch.setattr(kernel_cache.KernelCache, "said", False)
    assert [jit.kernel(lambda x: 2 * x)(3), jit.kernel(lambda x: 3 * x)(3)] == [6, 9]
    if not numba.config.DISABLE_JIT:
        assert capfd.readouterr().err.count("compiled kernels are not kept (no folder can be written)") == 1


def test_importing_changes_nothing_in_numba(copy):
    code = (
        "import numba; before = vars(numba.config).copy(); import minisnn, numpy as np; from minisnn import models, ops\n"
        "from minisnn.ops import loop; loop.sum_doubled(np.ones(3)); after = vars(numba.config)\n"
        "print([name for name in before if name.isupper() and before[name] is not after[name]])"
    )
    assert run(copy, code)[0] == "[]"


def test_the_files_that_a_loop_is_made_of_are_found():
    def names(module):
        return {str(path.relative_to(PACKAGE)).replace(os.sep, "/") for path in kernel_cache.imported_files(PACKAGE / module)}

    assert {"ops/lif.py", "ops/attention.py", "surrogate.py", "jit.py", "ledger.py", "engine.py"} <= names("ops/fused.py")
    assert "train.py" not in names("ops/fused.py") and {"ops/rows.py", "ops/winograd.py"} <= names("ops/dense_conv.py")
    inside = kernel_cache.source_stamp(str(PACKAGE / "ops" / "linear.py"))
    assert inside != kernel_cache.source_stamp(__file__) and len(inside) == 32
    assert np.unique([kernel_cache.source_stamp(str(path)) for path in sorted((PACKAGE / "ops").glob("*.py"))]).size > 1


@pytest.mark.skipif(not jit.LOOPS, reason="nothing is compiled")
def test_a_parallel_loop_is_compiled_once_and_not_in_every_stage(monkeypatch):
    emitted = []
    emit = jit.JITCodeLibrary._finalize_final_module

    def note(library):
        emitted.append(library.name)
        emit(library)

    monkeypatch.setattr(jit.JITCodeLibrary, "_finalize_final_module", note)

    def loop(out, x):
        for i in jit.prange(x.size):
            out[i] = 2 * x[i] + 1

    x, out, plain = np.arange(1000.0), np.empty(1000), np.empty(1000)
    numba.njit(parallel=True)(loop)(plain, x)
    stages = [name for name in emitted if jit.STAGES.match(name)]
    assert len(stages) == 3, "Numba builds a parallel loop in other stages than it did"
    emitted.clear()
    jit.parallel_kernel(loop)(out, x)
    assert [name for name in emitted if name.endswith("loop")] and not any(map(jit.STAGES.match, emitted))
    assert np.array_equal(out, plain) and np.array_equal(out, 2 * x + 1)
    assert jit.JITCodeLibrary._finalize_final_module is note

"""One exercise alone, in seconds, and the progress over all pages.

    python 10_train_syna_resnet21_on_digits.py --exercise 2     # one check, without the rest of the page
    python exercises.py                                         # every exercise that is written, page by page

A check needs a few definitions of its page, seldom all of it. ``slice_of`` finds them: every statement before the exercise
that binds a name which is needed, or changes what it names, together with the names that this statement needs. What took
longer than a second to compute and is plain numbers, such as the curves of page 10's training runs, is kept as JSON in the
folder of the figures, under a hash of the statements (and of the package) that it came from.
"""

import ast
import contextlib
import hashlib
import importlib.util
import json
import os
import re
import symtable
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SLOW = 1.0  # seconds
COMPREHENSIONS = ("listcomp", "setcomp", "dictcomp", "genexpr")


def pages():
    """The scripts of the course, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


class Statement:
    """A statement of a page: its source, the names that it binds, changes and reads."""

    def __init__(self, node, text):
        self.node, self.source = node, ast.get_source_segment(text, node)
        table = symtable.symtable(ast.unparse(node), "page", "exec")
        symbols = table.get_symbols()
        self.binds = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace()}
        at_once = [child for child in table.get_children() if child.get_name() in COMPREHENSIONS]
        self.reads = {s.get_name() for s in symbols if s.is_referenced()}.union(*map(globals_of, at_once))
        self.later = set().union(*map(globals_of, set(table.get_children()) - set(at_once)))  # when a function is called
        self.changes = set(changed(node))


def globals_of(table):
    """Global names that a function or class, and what is defined within it, reads."""
    own = {s.get_name() for s in table.get_symbols() if s.is_global() or (s.is_free() and s.is_referenced())}
    return own.union(*map(globals_of, table.get_children()))


def changed(node):
    """Names whose object a statement may change in place: x[...] = , x.a += , and x.method(...) as a line."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Assert)):
        return
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        targets = [node.value.func]
    for target in targets:
        while isinstance(target, (ast.Subscript, ast.Attribute, ast.Call)):
            target = target.func if isinstance(target, ast.Call) else target.value
        if isinstance(target, ast.Name):
            yield target.id
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from changed(child)


def statements(text):
    """The statements of a page; what is imported or defined changes nothing of itself by being called."""
    parts = [Statement(node, text) for node in ast.parse(text).body]
    fixed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    names = {name for part in parts if isinstance(part.node, fixed) for name in part.binds}
    bound = set().union(*(part.binds for part in parts))
    for part in parts:
        part.changes &= bound - names
    return parts


def exercises(text):
    """Number -> (index of the statement ``exercise(number, check, answer)``, name of the check, name of the answer)."""
    found = {}
    for index, node in enumerate(ast.parse(text).body):
        call = getattr(node, "value", None)
        if isinstance(node, ast.Expr) and isinstance(call, ast.Call) and getattr(call.func, "id", "") == "exercise":
            found[call.args[0].value] = index, call.args[1].id, call.args[2].id
    return found


def slice_of(parts, names, end, given=()):
    """Indices before ``end`` of the statements that the names need; those in ``given`` need nothing themselves."""
    until = dict.fromkeys(names, end)  # where each name is still needed: what binds it later does not matter
    chosen, before = {}, None
    while chosen != before:  # again where something was found: a function may call another one that is defined later
        before = dict(chosen)
        for index in range(end - 1, -1, -1):
            part = parts[index]
            wanted = [until[name] for name in part.binds | part.changes if until.get(name, -1) > index]
            if not wanted or isinstance(part.node, ast.Assert):
                continue
            chosen[index] = max(wanted)
            for reads, place in ((part.reads, index), (part.later, chosen[index])):
                for name in reads if index not in given else ():
                    until[name] = max(until.get(name, -1), place)
    return sorted(chosen)


def is_written(text, name):
    """Whether the reader has put something in the place of ``raise NotImplementedError``."""
    body = next(node.body for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name)
    return "NotImplementedError" not in ast.unparse(body[-1])


def package():
    """A word that changes with the sources of minisnn."""
    spec = importlib.util.find_spec("minisnn")
    sources = sorted(Path(spec.origin).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


class Kept:
    """Values that took long, as JSON files under a hash of what made them; None where there is none."""

    def __init__(self, folder):
        self.folder, self.word = folder, None

    def path(self, sources):
        self.word = self.word or package()
        return self.folder / f"kept_{hashlib.sha256(chr(10).join([self.word, *sources]).encode()).hexdigest()[:16]}.json"

    def load(self, sources):
        try:
            return json.loads(self.path(sources).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def store(self, sources, value):
        plain = json.dumps(value, default=lambda number: number.item())
        if json.loads(plain) == value:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.path(sources).with_suffix(".new")
            temporary.write_text(plain, encoding="utf-8")
            temporary.replace(self.path(sources))


def run(path, number):
    """Run what exercise ``number`` of a page needs, and nothing else; return (check, answer)."""
    text = path.read_text(encoding="utf-8")
    parts, known = statements(text), exercises(text)
    if number not in known:
        raise LookupError(f"{path.name} has the exercises {', '.join(map(str, known))}, not {number}")
    end, check, answer = known[number]
    kept = Kept(Path(os.environ.get("MINISNN_FIGURES", "figures")))
    slow = {}  # index of an assignment -> the sources that it came from, and its value where that is kept
    for index in slice_of(parts, (check, answer), end):
        part = parts[index]
        if isinstance(part.node, ast.Assign) and isinstance(part.node.value, ast.Call) and len(part.binds) == 1:
            sources = [parts[k].source for k in slice_of(parts, part.binds | part.reads | part.later, index)] + [part.source]
            slow[index] = sources, kept.load(sources)
    kept_here = {index for index, (_, value) in slow.items() if value is not None}
    names = {"__name__": "exercise", "__file__": str(path)}
    for index in slice_of(parts, (check, answer), end, kept_here):
        part, (sources, value) = parts[index], slow.get(index, (None, None))
        if value is not None:
            names[next(iter(part.binds))] = value
            continue
        began = time.perf_counter()
        exec(compile(ast.Module([part.node], []), str(path), "exec"), names)
        if sources and time.perf_counter() - began > SLOW:
            with contextlib.suppress(TypeError, ValueError, AttributeError):  # no plain numbers: computed again next time
                kept.store(sources, names[next(iter(part.binds))])
    return names[check], names[answer]


def alone(path, arguments):
    """``python PAGE --exercise NUMBER``: exit status 0 where the answer is right, 1 where it is not, 2 for no such exercise."""
    from helpers import passed

    text = arguments[arguments.index("--exercise") + 1 :][:1]
    try:
        number = int(text[0])
        check, answer = run(path, number)
    except (IndexError, ValueError):
        print("say which exercise: --exercise NUMBER", file=sys.stderr)
        return 2
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    return 0 if passed(number, check, answer) else 1


def progress():
    """One line a page: what is right, wrong, and still to be written."""
    import helpers

    right = total = 0
    for path in pages():
        text, marks = path.read_text(encoding="utf-8"), []
        for number, (_, _, answer) in exercises(text).items():
            total += 1
            verdict = helpers.verdict(*run(path, number)) if is_written(text, answer) else None
            right += verdict == ""
            marks.append(f"{number} {'to do' if verdict is None else 'right' if verdict == '' else 'wrong: ' + verdict}")
        title = re.match(r"# %% \[markdown\]\n# # (.*)", text)[1]
        print(f"{title:46}", " | ".join(marks), flush=True)
    print(f"{right} of {total} exercises are right")


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))
    progress()

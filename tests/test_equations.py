"""Each of the paper's eleven equations stands once in the engine's docstrings and once in the tutorials.

In a docstring an equation is displayed on a line of its own with its number at the right edge, "... (Eq. N)"; in a tutorial it
is LaTeX between double dollars, with the number as text after it. Mentions in text are free.
"""

import ast
import pathlib
import re

import pytest

HOME = pathlib.Path(__file__).parent.parent
DISPLAY = re.compile(r"^(?:\s*#)? {4,}(\S.*?) {2,}\(Eq\. (\d+)\)$")
# What the line of an equation must hold, blanks left out, and in which file of the engine it belongs.
EQUATIONS = {
    1: ("taudV/dt=-(V-V_reset)+I(t)", "ops/lif.py"),
    2: ("H[t]=U[t](1-S[t])+U_resetS[t]", "ops/lif.py"),
    3: ("dS/dU=delta(U-U_threshold)", "surrogate.py"),
    4: ("out=SN(g(W2SN(W1", "models/resnet.py"),
    5: ("out=g(W2SN(W1SN(", "models/resnet.py"),
    6: ("out=g(SN(W2SN(W1", "models/resnet.py"),
    7: ("W_T=SN(W_t1(ReLU(W_t0(AvgPool(X))))+W_t1(ReLU(W_t0(MaxPool(X)))))", "ops/attention.py"),
    8: ("W_C=SN(W_c1(ReLU(W_c0(AvgPool(X))))+W_c1(ReLU(W_c0(MaxPool(X)))))", "ops/attention.py"),
    9: ("W_S=SN(f_kxk[MaxPool(X);AvgPool(X)])", "ops/attention.py"),
    10: ("X_out=W_kX_in", "ops/attention.py"),
    11: ("E_total=E_MAC", "energy.py"),
}


def docstrings(path):
    """The docstrings of a module, of its classes and of its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            yield ast.get_docstring(node)


def displays(texts):
    """[(number, equation without blanks)] of every displayed equation."""
    found = (DISPLAY.match(line) for text in texts for line in text.splitlines())
    return [(int(m[2]), m[1].replace(" ", "")) for m in found if m]


def test_each_equation_stands_in_one_docstring_of_the_engine():
    places = {}
    for path in sorted((HOME / "minisnn").rglob("*.py")):
        for number, text in displays(docstrings(path)):
            places.setdefault(number, []).append((text, path.relative_to(HOME / "minisnn").as_posix()))
    assert sorted(places) == sorted(EQUATIONS)
    for number, ((expected, file), found) in {n: (EQUATIONS[n], places[n]) for n in EQUATIONS}.items():
        assert len(found) == 1 and expected in found[0][0] and found[0][1] == file, f"Eq. {number}: {found}"


def plain(text):
    """A formula without what LaTeX and parentheses add to it."""
    text = re.sub(r"\\frac\{(.*?)\}\{(.*?)\}", r"\1/\2", text.replace(r"\times", "x"))
    text = re.sub(r"\\(text|quad|qquad|left|right|,)|[\\{}&()\s]", "", text)
    return re.sub(r"_(?=\d)", "", text)


def displays_in_latex(script):
    """[(number, plain equation)] of every numbered equation in a tutorial."""
    found = []
    for block in re.findall(r"\$\$(.*?)\$\$", re.sub(r"^# ?", "", script, flags=re.MULTILINE), re.DOTALL):
        pieces = re.split(r"\(Eq\. (\d+)\)", block)
        found += [(int(number), plain(text)) for text, number in zip(pieces[::2], pieces[1::2])]
    return found


IN_TUTORIALS = {10: "X_out=W_dX_in"}  # where k is a kernel already


@pytest.mark.parametrize("number", EQUATIONS)
def test_each_equation_stands_in_one_tutorial(number):
    found = [
        (text, path.name)
        for path in sorted((HOME / "tutorials").glob("[0-9]*.py"))
        for n, text in displays_in_latex(path.read_text(encoding="utf-8"))
        if n == number
    ]
    assert len(found) == 1, f"Eq. {number}: {found}"
    assert plain(IN_TUTORIALS.get(number, EQUATIONS[number][0])) in found[0][0]


def test_what_counts_as_a_display_in_latex():
    script = r"""
# as in (Eq. 1):
#
# $$\begin{aligned}
# a &= \frac{b}{c} && \text{(Eq. 3)} \\
# W_2 &= d \quad \text{(Eq. 12)}
# \end{aligned}$$
"""
    (three, first), (twelve, second) = displays_in_latex(script)
    assert (three, twelve) == (3, 12) and "a=b/c" in first and second.endswith("W2=d")


def test_what_counts_as_a_display():
    assert displays(["    a = b      (Eq. 3)\n#     c = d  (Eq. 12)"]) == [(3, "a=b"), (12, "c=d")]
    assert displays(["as in Eq. 3, a = b (Eq. 3)", "    repeated over the axes (Eq. 10).", "the charge  (Eq. 2)"]) == []

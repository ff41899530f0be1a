"""What every tutorial uses: a place for its figures, a finite difference, and a way to check an exercise."""

import contextlib
import os
import sys
import traceback
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

# Okabe and Ito's colours, and for each a dash of its own: every figure can be read without colour vision.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
plt.rcParams.update({
    "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, PINK], linestyle=["-", "--", "-.", ":"]),
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "font.size": 10,
    "lines.linewidth": 1.8, "image.cmap": "cividis", "legend.frameon": False, "savefig.dpi": 120,
    "figure.constrained_layout.use": True, "figure.dpi": 80,
})


def save_figure(name, alt=""):
    """Save the figure as figures/<name>.png, or in the folder that MINISNN_FIGURES names; a notebook shows it instead.

    ``alt`` says in words what is to be seen, for readers who do not see it; the web site takes it from here.
    """
    if "inline" in matplotlib.get_backend():
        plt.show()
        return
    path = Path(os.environ.get("MINISNN_FIGURES", "figures")) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(path)
    print("figure:", path)


def numeric_gradient(f, x, eps=1e-6):
    """Entry k: (f(x + eps at k) - f(x - eps at k)) / (2 eps), for a function f that returns one number."""
    x = np.array(x, dtype=np.float64)  # a copy: the caller's array stays as it is
    gradient = np.zeros_like(x)
    for k in np.ndindex(x.shape):
        before = x[k]
        x[k] = before + eps
        above = f(x)
        x[k] = before - eps
        gradient[k] = (above - f(x)) / (2 * eps)
        x[k] = before
    return gradient


def inputs_of(net, x, kind):
    """Run net on x in evaluation mode: {name: (module, the array that it got)} for all its modules of this kind."""
    import minisnn as snn

    found = {}
    with contextlib.ExitStack() as stack, snn.no_grad():
        for name, module in net.named_modules():
            if isinstance(module, kind):
                heard = lambda inputs, _, name=name, module=module: found.update({name: (module, inputs[0].data)})
                stack.enter_context(snn.nn.listen(module, heard))
        net.eval()(x)
    return found


def verdict(check, answer):
    """What is wrong with ``answer``, your function: "" for nothing, None where it is not written yet."""
    try:
        check(answer)
    except NotImplementedError:
        return None
    except AssertionError as wrong:
        return str(wrong) or "not right"
    except Exception as error:
        traceback.print_exc()
        return f"it stops with {type(error).__name__}: {error}"
    return ""


def passed(number, check, answer):
    """Say whether ``answer``, your function, passes ``check``, and return it."""
    wrong = verdict(check, answer)
    print(f"exercise {number}:", "not done yet" if wrong is None else f"wrong: {wrong}" if wrong else "right")
    return wrong == ""


def exercise(number, check, answer):
    """``passed`` as the last line of a cell, which has no value to show. Whatever it says, the page goes on with the next."""
    passed(number, check, answer)


def SN(x, tau=2.0):
    """The paper's SN: currents x [T, ...] -> spikes, from rest (the loop of tutorial 2, threshold 1, reset to 0)."""
    s, h = np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x)):
        u = h + (x[t] - h) / tau
        s[t] = u >= 1
        h = u * (1 - s[t])
    return s


if "--exercise" in sys.argv[1:] and Path(sys.argv[0]).parent.resolve() == Path(__file__).parent.resolve():
    from exercises import alone

    sys.exit(alone(Path(sys.argv[0]).resolve(), sys.argv))  # python 10_....py --exercise 2: this check, without the page

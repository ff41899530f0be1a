# %% [markdown]
# # 1. A scalar that remembers
#
# After this page you can write automatic differentiation yourself, in about 60 lines; you know why gradients
# add up and why the order of the walk matters; and `minisnn/engine.py` holds no secrets, because it is the
# same idea with arrays.
#
# You need: Python, the chain rule. Explains: `minisnn/engine.py`, `minisnn/gradcheck.py`.
#
# Everything in this course is learned by following a slope: change each weight a little in the direction that
# lowers the error. A network has many weights and one error, so we want *all* slopes of *one* number,
# cheaply. The trick: let every number remember how it was made, and walk back through those memories.

# %%
import matplotlib.pyplot as plt
import numpy as np

import diagrams
import minisnn as snn
from helpers import BLUE, ORANGE, exercise, numeric_gradient, save_figure

class Scalar:
    """A number, what it was made from, and how much it changes when each of those changes."""

    def __init__(self, value, parents=(), slopes=()):
        self.value, self.parents, self.slopes = value, parents, slopes
        self.grad = 0.0  # of the final result with respect to this number; filled in by backward()

    def __add__(self, other):  # d(a + b)/da = 1, d(a + b)/db = 1
        return Scalar(self.value + other.value, (self, other), (1.0, 1.0))

    def __mul__(self, other):  # d(a b)/da = b, d(a b)/db = a
        return Scalar(self.value * other.value, (self, other), (other.value, self.value))

    def backward(self):
        self.grad = 1.0  # the result changes one for one with itself
        for node in reversed(in_order(self)):
            for parent, slope in zip(node.parents, node.slopes):
                parent.grad += slope * node.grad  # the chain rule, one edge of the graph at a time

def in_order(result):
    """Every number that ``result`` depends on, each after its own parents (a topological order)."""
    order, seen = [], set()

    def visit(node):
        if node not in seen:
            seen.add(node)
            for parent in node.parents:
                visit(parent)
            order.append(node)

    visit(result)
    return order

# %% [markdown]
# That is all of it. Let us try it on a leaky bucket: at each step it keeps a share `keep` of its level and
# gets a share `gain` of the inflow, h[t] = keep * h[t-1] + gain * x[t] (tutorial 2 turns it into a neuron).
# By hand: x[0] enters with weight gain and then shrinks by `keep` at every later step, so the derivative of
# h[2] with respect to x[0] is gain * keep^2.
#
# **Before you run it:** x[0] = 2 entered two steps ago, x[2] = 1 just now. To which of the three inflows is the level
# h[2] most sensitive?

# %%
keep, gain = Scalar(0.75), Scalar(0.25)
x = [Scalar(v) for v in (2.0, 3.0, 1.0)]
h = Scalar(0.0)
levels = []
for inflow in x:
    h = keep * h + gain * inflow
    levels.append(h)
h.backward()

for t, v in enumerate(x):
    print(f"x[{t}] = {v.value}   level h[{t}] = {levels[t].value:.4f}   slope of h[2] along x[{t}]: {v.grad:.4f}")
assert [v.grad for v in x] == [0.25 * 0.75**2, 0.25 * 0.75, 0.25]

diagrams.scalar_graph(x, levels)
save_figure("01_a_scalar_that_remembers_graph",
            "The bucket as a graph: three inflows x below lead to three levels h above, each level leads to the next. Each box "
            "has its value and its gradient; the gradients of the inflows grow from 0.141 for the first to 0.250 for the last.")

# %% [markdown]
# **Why gradients add.** `keep` was used three times: a nudge to it reaches the result along three paths, and the
# effects of small nudges add; hence `+=` and not `=` in `backward`. By hand, h[2] = keep^2 gain x[0] + keep
# gain x[1] + gain x[2], so the derivative with respect to `keep` is 2 keep gain x[0] + gain x[1].
#
# With `=` each path would overwrite the one before. The walk goes backwards, so the first step writes last; there `keep` met an
# empty bucket, h = 0, and 0 is all that would be left. Here is that bug, and then the sum as it should be:

# %%
def backward_with_a_bug(result):
    for node in reversed(in_order(result)):
        for parent, slope in zip(node.parents, node.slopes):
            parent.grad = slope * node.grad  # = instead of +=

right = keep.grad
backward_with_a_bug(h)
print(f"with = the slope along keep is {keep.grad}, with += it is {right}")
wrong, keep.grad = keep.grad, right
assert wrong != keep.grad == 2 * 0.75 * 0.25 * 2.0 + 0.25 * 3.0

# %% [markdown]
# And since `+=` also adds to what an *earlier* call of `backward()` has left, every training loop clears the gradients first
# (`zero_grad()`). Here is such a loop, the whole of learning in eleven lines: which share should the bucket keep so that its
# level ends at 1? We walk down the slope of (h[2] - 1)^2 along `keep`.

# %%
share, walk = 0.1, []
for k in range(40):
    keep, level = Scalar(share), Scalar(0.0)  # fresh numbers: no old gradients
    for v in (2.0, 3.0, 1.0):
        level = keep * level + gain * Scalar(v)
    miss = level + Scalar(-1.0)
    error = miss * miss
    error.backward()
    walk.append((share, error.value))
    if k in (0, 1, 2, 5, 39):
        print(f"round {k:2}: keep {share:.4f}, level {level.value:.4f}, error {error.value:.6f}, slope {keep.grad:+.4f}")
    share -= 0.2 * keep.grad  # a small step down
assert error.value < 1e-6

shares = np.linspace(0, 0.8, 100)
fig, ax = plt.subplots(figsize=(6, 3))
ax.plot(shares, ((0.5 * shares + 0.75) * shares + 0.25 - 1) ** 2, color="0.5", ls="-", label="(h[2] - 1)²")
ax.plot(*zip(*walk), "o", ms=4, color=ORANGE, label="the walk")
ax.set(xlabel="keep", ylabel="error", title="Forty steps down the slope")
ax.legend()
save_figure("01_a_scalar_that_remembers_descent",
            "The error against keep, a valley with its floor at 0 near keep 0.69, and the points of the walk, which starts "
            "at 0.1 and takes ever smaller steps down into the valley.")

# %% [markdown]
# **Never trust a gradient: measure it.** Nudge the input by eps both ways and divide: (f(x + eps) - f(x -
# eps)) / (2 eps). `numeric_gradient(f, x)` in `helpers.py` does this for each entry of the array x, where f
# returns one number; the whole course leans on it.

# %%
def final_level(x):
    h = 0.0
    for inflow in x:
        h = 0.75 * h + 0.25 * inflow
    return h

measured = numeric_gradient(final_level, [2.0, 3.0, 1.0])
print("measured:", measured.round(8), "  computed:", [v.grad for v in x])
assert np.allclose(measured, [v.grad for v in x], atol=1e-9)

# %% [markdown]
# **Why the order matters.** A number may hand its gradient on only when it has received all of it: after
# everything that was made from it. First the bug again, then why it is worth getting right. Let m = s * s and r = m + m * m; m
# is reached at once and once more by way of m * m. A walk that takes first whatever it meets first lets m hand on too early:

# %%
def backward_first_come(result):
    result.grad, queue = 1.0, [result]
    for node in queue:
        for parent, slope in zip(node.parents, node.slopes):
            parent.grad += slope * node.grad
            queue += [parent] if parent not in queue else []

for walk_back in (backward_first_come, Scalar.backward):
    s = Scalar(2.0)
    m = s * s
    walk_back(m + m * m)
    by_hand = (1 + 2 * m.value) * 2 * s.value
    print(f"{walk_back.__name__:19} says {s.grad:2g} for the slope along s; by hand (1 + 2 m) 2 s = {by_hand:g}")
    assert (s.grad == 36) == (walk_back is Scalar.backward)

# %% [markdown]
# One could be right without an order by walking every path by itself. Let y = y + y, 15 times: 16 numbers, but 2^15 paths from
# the result to the start.
#
# **Before you run it:** y is doubled 15 times. How many steps does a walk along every path take, and how many does
# ours?

# %%
start = y = Scalar(1.0)
for _ in range(15):
    y = y + y

def count_paths(node):
    return 1 if not node.parents else sum(count_paths(parent) for parent in node.parents)

y.backward()
print(f"{count_paths(y):,} paths, {len(in_order(y))} numbers; the gradient of the start is {start.grad:,.0f} either way")
assert start.grad == 2.0**15 == count_paths(y)
assert len(in_order(y)) == 16

# %% [markdown]
# **From scalars to tensors.** One Python object per number is far too slow. The engine's `Tensor` holds an
# array (`.data`), and a `Function` is one operation: `forward` computes the array, `backward` receives the
# gradient of the output and returns one gradient per input. (Inputs are what is passed by position; keyword arguments are
# settings, and are not differentiated. What `backward` needs is kept on `self`.) `Tensor.backward()` is our loop above, and
# leaves the gradients in `.grad`. This is the bucket as one operation; its backward runs from last step to first:

# %%
class Bucket(snn.Function):
    def forward(self, x, keep, gain):  # x: [T]
        self.keep, self.gain = keep, gain
        h = np.zeros_like(x)
        for t in range(len(x)):
            h[t] = keep * (h[t - 1] if t > 0 else 0.0) + gain * x[t]
        return h

    def backward(self, dh):  # dh: [T], gradient of each level
        dx, carried = np.zeros_like(dh), 0.0
        for t in range(len(dh) - 1, -1, -1):
            carried = dh[t] + self.keep * carried  # h[t] counts for itself and through h[t+1]
            dx[t] = self.gain * carried
        return dx

inflow = snn.Tensor(np.array([2.0, 3.0, 1.0]), requires_grad=True)
level = Bucket.apply(inflow, keep=0.75, gain=0.25)
level[2].backward()
assert np.allclose(level.data, [v.value for v in levels])
assert np.allclose(inflow.grad, measured, atol=1e-9)
assert snn.gradcheck(lambda x: Bucket.apply(x, keep=0.75, gain=0.25), inflow)

# %% [markdown]
# `gradcheck` has checked all three levels at once: it gives the levels random weights, moves all inflows along a random
# direction, and compares the slope of that one number with what `backward` says. It does so three times, with new weights and
# a new direction each time: a wrong entry cannot hide from all three.
#
# The engine's elementary operations (+, *, sum, exp, indexing, ...) make the same graph out of small pieces.
# They broadcast like NumPy; an array that was repeated gets the sum over its repetitions: gradients add.

# %%
a = snn.Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)  # [2, 3]
b = snn.Tensor(np.ones(3), requires_grad=True)  # [3], repeated for each of the 2 rows
(a * b).sum().backward()
assert np.array_equal(b.grad, a.data.sum(0))

# %% [markdown]
# **How small should eps be?** Too large, and the curve bends within the step; too small, and rounding eats
# the difference of two nearly equal numbers. float64 leaves a comfortable valley near 1e-6, ten digits
# deep. float32's valley is narrow and its floor lies near 3e-6, a hundred thousand times higher: an error in a gradient could
# hide below it. So gradients are checked in float64, and `gradcheck` refuses anything else.

# %%
steps = 10.0 ** np.arange(-11, 0)
errors = {}
for dtype in (np.float64, np.float32):
    at = dtype(0.5)
    quotient = [(np.exp(at + dtype(e)) - np.exp(at - dtype(e))) / dtype(2 * e) for e in steps]
    errors[dtype] = np.abs(np.array(quotient, np.float64) - np.exp(0.5))
assert errors[np.float64].min() < 1e-9 and errors[np.float32].min() > 1e-7

fig, ax = plt.subplots(figsize=(6, 3.4))
ax.loglog(steps, np.maximum(errors[np.float64], 1e-16), "o-", color=BLUE, label="float64")
ax.loglog(steps, np.maximum(errors[np.float32], 1e-16), "s--", color=ORANGE, label="float32")
ax.set(xlabel="step eps", ylabel="error of the slope of exp at 0.5", title="A step can be too small")
ax.legend()
save_figure("01_a_scalar_that_remembers",
            "The error of a finite difference against its step, for steps from 1e-11 to 0.1: float64 has a deep valley "
            "near 1e-6, float32 a shallow one near 1e-3.")

# %% [markdown]
# ## Summary
#
# * A number that remembers its parents and the local slopes knows all its derivatives: walk back in reverse order,
#   multiply along an edge, add where paths meet.
# * The walk is done once per number, not once per path. The record that it walks is called the *tape*.
# * Two evaluations of a function check any gradient; in float64, with a step near 1e-6.
# * The engine does the same with arrays; an operation is a `Function` with `forward` and `backward`.
#
# ## Your engine
#
# From here on you can write an engine of your own beside the pages. `tutorials/mine.py` has an empty function or two for each
# of pages 1 to 10. This page adds a layer of weights: `linear`, a matrix product, and `linear_backward`, its two gradients.
# Write them (each product's slope is the other factor; mind the shapes), then let `python growing.py 1` hold them against the
# package.
#
# ## Further reading
#
# * A. Karpathy, [micrograd](https://github.com/karpathy/micrograd): the same idea, with a neural network on top.
# * A. G. Baydin et al., *Automatic Differentiation in Machine Learning: a Survey*, JMLR 18 (2018),
#   [arXiv:1502.05767](https://arxiv.org/abs/1502.05767).

# %% [markdown]
# ## Exercises
# On every page: write your answer where it says `raise NotImplementedError`. In a notebook, then run the cell; of the script,
# run `python 01_a_scalar_that_remembers.py --exercise 1` in the folder `tutorials`, which checks this answer alone. Solutions,
# and wrong answers that are easily given, are in `solutions/`.
#
# **1.** Teach `Scalar` the hyperbolic tangent: return a Scalar with the right value, parents and slopes. (The
# derivative of tanh(a) is 1 - tanh(a)^2.)
#
# Hint: Scalar(value, parents, slopes): one parent, one slope. You have 1 - tanh(a)^2 at hand once you have the value.

# %%
def tanh(a):
    raise NotImplementedError

def check_tanh(tanh):
    for v in (-1.3, 0.0, 0.4):
        a = Scalar(v)
        (tanh(a) * a).backward()
        expected = numeric_gradient(lambda z: float(np.tanh(z[0]) * z[0]), [v])[0]
        assert abs(a.grad - expected) < 1e-8, f"at {v} the slope is {a.grad}, not {expected}"

exercise(1, check_tanh, tanh)

# %% [markdown]
# **2.** NumPy repeats an array of `shape` until it fits; its gradient arrives in the large shape. Sum it back
# down. Shapes may lack leading axes, (3,) in (2, 3), or have length 1 along an axis, (2, 1) in (2, 3).
#
# Hint: two kinds of axes: those that `shape` lacks come first, those of length 1 stay. `keepdims=True` is for one
# kind only.

# %%
def sum_to_shape(grad, shape):
    raise NotImplementedError

def check_sum_to_shape(sum_to_shape):
    grad = np.arange(24.0).reshape(2, 3, 4)
    for shape in ((2, 3, 4), (3, 4), (4,), (1, 4), (3, 1), (2, 1, 1), ()):
        small = snn.Tensor(np.ones(shape), requires_grad=True)
        (small * grad).sum().backward()  # its gradient is grad, summed down to the small shape
        assert np.array_equal(sum_to_shape(grad, shape), small.grad), f"wrong for shape {shape}"

exercise(2, check_sum_to_shape, sum_to_shape)

# %% [markdown]
# # 3. A gradient through a step
#
# After this page you can say why a spiking network does not learn by its true gradient, what a surrogate
# gradient is, where it comes from, and how one can nevertheless *prove* with finite differences that the code
# is right.
#
# You need: tutorials 1 and 2. Explains: `minisnn/surrogate.py`. Paper: Section III-B, Table I.
#
# A spike is a step: S = 1 where U >= U_threshold, else 0. What does a finite difference see of a step?
# Nothing, unless the two points lie on both sides of the threshold; then it sees 1 / (2 eps), which explodes
# as eps shrinks.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minisnn as snn
from helpers import BLUE, GREEN, ORANGE, PINK, exercise, numeric_gradient, save_figure
from minisnn import ops
from minisnn.surrogate import ATan, FastSigmoid, Sigmoid, Triangle

def step(u, v_threshold=1.0):
    return (u >= v_threshold).astype(float)

assert numeric_gradient(lambda u: step(u).sum(), [0.2, 0.999, 1.001, 7.0]).tolist() == [0, 0, 0, 0]
assert np.isclose(numeric_gradient(lambda u: step(u).sum(), [1.0], eps=1e-6), 1 / 2e-6)

# %% [markdown]
# In the limit this is Dirac's delta: zero everywhere, infinite at the threshold, with area 1 (Eq. 3):
#
# $$\frac{dS}{dU} = \delta(U - U_\text{threshold}) \qquad \text{(Eq. 3)}$$
#
# Multiply by it in the chain rule, and every weight gets gradient zero: a neuron that is silent stays silent, for nothing
# tells it in which direction to move. The way out
# is to blur the delta. Take any smooth step, its *primitive* P(x) with x = U - U_threshold, and use its slope
# P'(x) where the chain rule asks for dS/dU. The forward pass keeps the hard step. The paper takes the
# arctangent (Table I):
#
# $$P(x) = \frac{1}{2} + \frac{1}{\pi} \arctan \left( \frac{\pi}{2} \alpha x \right) \qquad
# P'(x) = \frac{\alpha / 2}{1 + \left( \frac{\pi}{2} \alpha x \right)^2}$$
#
# The second follows from the first by d arctan(z)/dz = 1 / (1 + z^2) and the inner slope pi/2 alpha.

# %%
def atan_primitive(x, alpha=2.0):
    return 0.5 + np.arctan(np.pi / 2 * alpha * x) / np.pi

def atan_derivative(x, alpha=2.0):
    return (alpha / 2) / (1 + (np.pi / 2 * alpha * x) ** 2)

x = np.linspace(-2, 2, 801)  # distance from the threshold
assert np.allclose(atan_derivative(x), numeric_gradient(lambda x: atan_primitive(x).sum(), x), atol=1e-8)
assert np.allclose(atan_primitive(x), ATan(alpha=2.0).primitive(x))  # the engine's
assert np.allclose(atan_derivative(x), ATan(alpha=2.0).derivative(x))

# %% [markdown]
# alpha sets the blur: at the threshold the slope is alpha/2, and as alpha grows P becomes the step. The engine has three more
# surrogates: a sigmoid, a fast sigmoid, and a triangle, whose slope alpha max(0, 1 - alpha |x|) is exactly zero from a
# distance of 1/alpha on. Not all are steps from 0 to 1: fast sigmoid's primitive climbs only by 2/alpha, which makes its
# gradients small; training copes since the optimizer of tutorial 10, Adam, looks at their direction and relative size only.

# %%
assert np.isclose(atan_derivative(0.0, 2.0), 1.0)
assert np.abs(atan_primitive(x, 1e6) - step(x, 0.0))[np.abs(x) > 1e-3].max() < 1e-3
surrogates = [ATan(2.0), Sigmoid(4.0), FastSigmoid(25.0), Triangle(1.0)]
far = np.array([-1e9, 1e9])
for surrogate in surrogates:
    slope = numeric_gradient(lambda x: surrogate.primitive(x).sum(), x)
    assert np.allclose(surrogate.derivative(x), slope, atol=1e-4)
    climb = np.diff(surrogate.primitive(far))[0]  # the area under the derivative
    assert np.isclose(climb, 2 / 25 if isinstance(surrogate, FastSigmoid) else 1.0)

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
names = ["ATan, alpha 2", "sigmoid, alpha 4", "fast sigmoid, alpha 25", "triangle, alpha 1"]
for surrogate, name, color, dash in zip(surrogates, names, (BLUE, ORANGE, GREEN, PINK), ("-", "--", "-.", ":")):
    left.plot(x, surrogate.primitive(x), color=color, ls=dash, label=name)
    right.plot(x, surrogate.derivative(x), color=color, ls=dash)
left.plot(x, step(x, 0.0), color="black", lw=0.9)
left.set(title="Forward: the step (thin), and smooth ones", ylabel="spike, or its smooth twin", ylim=(-0.05, 1.6))
left.legend(fontsize=8, loc="upper left")
right.set(title="Backward: the slope that is used for dS/dU", ylabel="dS/dU (1 / threshold)")
for ax in (left, right):
    ax.set_xlabel("u - v_threshold (thresholds)")
save_figure("03_a_gradient_through_a_step_surrogates",
            "Left: the hard step and the primitives of four surrogates, which climb smoothly through the threshold. Right: "
            "their derivatives, four peaks at the threshold; the triangle's ends at a distance of 1, fast sigmoid's is the "
            "narrowest.")

# %% [markdown]
# **A neuron learns.** One neuron (tau = 2), one weight w, input 1 at each of 8 steps, and it should fire at
# every second one. At w = 0.4 it is silent. The error is (rate - 1/2)^2; we walk down once with the true
# slope, measured by finite differences, and once with the surrogate's, which is what `backward()` gives. (How
# a gradient goes back through the eight steps is tutorial 4.)
#
# **Before you run it:** which of the two walks ends with an error of zero, and what does the other one do?

# %%
def error(w):
    """w: Tensor [1] -> the neuron's squared distance from firing at half of the steps."""
    s = ops.lif(w * np.ones((8, 1)), surrogate=ATan(2.0))  # [T, 1]
    return (s.mean() - 0.5) ** 2

def learn(slope, w=0.4, lr=0.03, rounds=100):
    errors = []
    for _ in range(rounds):
        errors.append(error(snn.Tensor(np.array([w]))).item())
        w = w - lr * slope(w)
    return errors

def true_slope(w):
    return numeric_gradient(lambda w: error(snn.Tensor(w)).item(), [w])[0]

def surrogate_slope(w):
    w = snn.Tensor(np.array([w]), requires_grad=True)
    error(w).backward()
    return w.grad[0]

stuck, learned = learn(true_slope), learn(surrogate_slope)
print("true slope:     ", [round(e, 4) for e in stuck[::20]])
print("surrogate slope:", [round(e, 4) for e in learned[::20]])
assert set(stuck) == {0.25} and learned[0] == 0.25 and learned[-1] == 0.0

# %% [markdown]
# **Why does a wrong slope lead downhill?** Draw the error over all weights. The true error is a staircase: flat nearly
# everywhere, so that its slope is zero, and infinite at the jumps. Let the neuron emit P(u - v_threshold) in place of the
# spike, and the error is a smooth valley with its floor in about the same place. The surrogate's slope is that of a smooth
# valley, taken at what the hard neuron really did. It points to the floor from either side, from as far away as the blur
# reaches.
#
# It need not. Nothing promises that a slope which is not the derivative of the error lowers the error. The same neuron with a
# steep surrogate (alpha = 25), whose gradient also goes through the reset (tutorial 4), is told at w = 1.1 to fire less,
# though it fires too seldom already:

# %%
def slope_at(w, surrogate=ATan(2.0), detach_reset=True):
    w = snn.Tensor(np.array([w]), requires_grad=True)
    ((ops.lif(w * np.ones((8, 1)), surrogate=surrogate, detach_reset=detach_reset).mean() - 0.5) ** 2).backward()
    return w.grad[0]

grid = np.linspace(0.05, 3, 237)
hard = [error(snn.Tensor(np.array([w]))).item() for w in grid]
soft = [(ops.lif(snn.Tensor(np.full((8, 1), w)), smooth=True).data.mean() - 0.5) ** 2 for w in grid]
for name, slope in (("alpha 2", slope_at(1.1)), ("alpha 25, not detached", slope_at(1.1, ATan(25.0), detach_reset=False))):
    print(f"at w = 1.1 the neuron fires too seldom; {name}: slope {slope:+.4f}")
assert slope_at(1.1) < 0 < slope_at(1.1, ATan(25.0), detach_reset=False)

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
left.plot(grid, hard, color="black", lw=1.2, ls="-", label="the neuron's error")
left.plot(grid, soft, color=BLUE, ls="--", label="its smooth twin's")
for w in (0.3, 0.6, 0.9, 1.2, 2.1, 2.4, 2.7):
    at = error(snn.Tensor(np.array([w]))).item()
    left.annotate("", (w - 0.45 * slope_at(w), at), (w, at), arrowprops=dict(arrowstyle="->", color=ORANGE, lw=2))
left.plot([], [], color=ORANGE, label="down the surrogate's slope")
left.set(title="Where each slope points", xlabel="weight w", ylabel="(firing rate - 1/2)²", ylim=(-0.02, 0.42))
left.legend(fontsize=8, loc="upper center")
right.plot(stuck, color=ORANGE, ls="--")
right.plot(learned, color=BLUE, ls="-")
right.text(99, 0.26, "true slope: always zero", ha="right")
right.text(56, 0.14, "surrogate's slope", ha="right")
right.set(title="One weight learns to fire", xlabel="round", ylabel="(firing rate - 1/2)²", ylim=(-0.01, 0.3))
save_figure("03_a_gradient_through_a_step",
            "Left: error against weight, a staircase that is 0 between 1.33 and 2, and the smooth twin's error, a valley "
            "with its floor there; arrows of the surrogate's slope point into the valley from both sides. Right: error "
            "over 100 rounds; with the true slope it stays at 0.25, with the surrogate's it falls in steps to 0.")

# %% [markdown]
# **Which surrogate, and how steep?** The same weight, from the same start, with the same rate; we count the rounds until the
# neuron fires as it should. A blunt one tells little, a steep one tells much but only close to the threshold, and one that is
# zero where the neuron is tells nothing at all.
#
# **Before you run it:** the triangle with alpha = 2 reaches half a threshold far, and at w = 0.4 the potential never exceeds
# 0.4. How many rounds does it need?

# %%
def rounds_to_learn(surrogate, w=0.4, lr=0.03, most=1000):
    for k in range(most):
        if error(snn.Tensor(np.array([w]))).item() == 0:
            return k
        w = w - lr * slope_at(w, surrogate)
    return None

rounds = {str(s): rounds_to_learn(s) for s in (ATan(0.5), ATan(2.0), ATan(10.0), ATan(50.0), Sigmoid(4.0), FastSigmoid(25.0),
                                               Triangle(1.0), Triangle(2.0))}
print(*(f"{name:24} {'not in 1000' if k is None else k} rounds" for name, k in rounds.items()), sep="\n")
assert rounds["ATan(alpha=2.0)"] < rounds["ATan(alpha=0.5)"] < rounds["ATan(alpha=50.0)"]
assert rounds["Triangle(alpha=2.0)"] is None

# %% [markdown]
# **How can such a gradient be checked?** It is not the derivative of what the forward pass computes, so no
# finite difference will agree with it: the check below fails, and should. But let the forward pass emit P(u -
# v_threshold), a number between 0 and 1, instead of the spike. The backward code stays the same, line by
# line, and now *is* the derivative. That is the neuron's smooth twin: `smooth=True`.
#
# (`detach_reset=False`: let the gradient also pass through the reset, as a true derivative must. Tutorial 4.)

# %%
current = snn.Tensor(np.random.default_rng(0).normal(1, 1, (6, 5)), requires_grad=True)  # [T, neurons]
assert snn.gradcheck(lambda x: ops.lif(x, smooth=True, detach_reset=False), current)
try:
    snn.gradcheck(lambda x: ops.lif(x, detach_reset=False), current)
    raise AssertionError("the hard step has passed a gradient check")
except snn.GradientMismatch as mismatch:
    print("as expected:", mismatch)

# %% [markdown]
# A twin proves nothing about lines that only the hard neuron runs, so tutorial 4 checks those in a second
# way.

# %% [markdown]
# ## Summary
#
# * The derivative of a spike is zero almost everywhere, so the true gradient teaches nothing.
# * A surrogate gradient replaces it, in the backward pass only, by the slope of a smooth step. It is not the
#   derivative of what the network computes; it is a direction that mostly works, best where its blur reaches the potentials.
# * A smooth twin of the neuron has the same backward lines and a true derivative: that is how they are proven.
#
# ## Your engine
#
# Add `surrogate`, the ATan's slope, to `tutorials/mine.py`: one line. `python growing.py 3` compares it with the package's.
#
# ## Further reading
#
# * E. O. Neftci, H. Mostafa, F. Zenke, *Surrogate Gradient Learning in Spiking Neural Networks*, IEEE Signal
#   Processing Magazine 36 (2019), [arXiv:1901.09948](https://arxiv.org/abs/1901.09948).
# * F. Zenke, T. P. Vogels, *The Remarkable Robustness of Surrogate Gradient Learning*, Neural Computation 33 (2021):
#   which surrogate, and how much it matters.

# %% [markdown]
# ## Exercises
# **1.** At which distance x > 0 from the threshold is the ATan surrogate's slope half of its largest value?
#
# Hint: the numerator does not depend on x. When is the denominator twice as large as at x = 0?

# %%
def half_width(alpha):
    raise NotImplementedError

def check_half_width(half_width):
    for alpha in (0.5, 2.0, 10.0):
        ratio = atan_derivative(half_width(alpha), alpha) / atan_derivative(0.0, alpha)
        assert abs(ratio - 0.5) < 1e-9, f"alpha {alpha}: there the slope is {ratio:.3f} of the largest"

exercise(1, check_half_width, half_width)

# %% [markdown]
# **2.** A surrogate of your own: P(x) = clip(1/2 + alpha x, 0, 1), a straight ramp. Return its derivative at
# the array x.
#
# Hint: where does the ramp begin and end? Between, its slope is alpha.

# %%
def ramp_derivative(x, alpha):
    raise NotImplementedError

def check_ramp_derivative(ramp_derivative):
    x = np.linspace(-1.5, 1.5, 301) + 1e-4  # away from the two corners
    for alpha in (0.5, 3.0):
        slope = numeric_gradient(lambda x: np.clip(0.5 + alpha * x, 0, 1).sum(), x)
        assert np.allclose(ramp_derivative(x, alpha), slope, atol=1e-6), f"wrong for alpha {alpha}"

exercise(2, check_ramp_derivative, ramp_derivative)

# %% [markdown]
# **3.** With Triangle(alpha) the slope is *exactly* zero at a distance of 1 / alpha from the threshold and beyond. A neuron
# (tau = 2, threshold 1, one single step from rest) gets the current w. Say whether it can never learn from
# there.
#
# Hint: what is the potential after one step from rest, and how far from the threshold is it? At a distance of exactly
# 1 / alpha the slope is zero.

# %%
def is_stuck(w, alpha):
    raise NotImplementedError

def check_is_stuck(is_stuck):
    for alpha in (1.0, 2.0):
        for w in (-1.0, 0.0, 0.4, 1.0, 1.2, 1.9, 2.7, 3.0, 3.5, 4.0, 4.2):  # 1 and 3: exactly 1 / 2 away
            current = snn.Tensor(np.array([w]), requires_grad=True)  # [T = 1]
            ops.lif(current, surrogate=Triangle(alpha)).backward(np.ones(1))
            assert is_stuck(w, alpha) == (current.grad[0] == 0), f"wrong for w = {w}, alpha = {alpha}"

exercise(3, check_is_stuck, is_stuck)

# %% [markdown]
# # 4. Backpropagation through time
#
# After this page you can derive the gradient of a spiking neuron through all its time steps by hand, write it
# as one loop that runs backwards, prove the loop in two ways, and say what `detach_reset` leaves out and why.
#
# You need: tutorials 1 to 3. Explains: the backward half of `minisnn/ops/lif.py`. Paper: Sections III-A (which
# calls the method STBP) and III-B (the neuron, Eq. 2), Table I.
#
# Tutorial 3 gave one spike a slope. But a neuron carries its potential from step to step, so a current matters
# for its own step and for all later ones. Nothing new is needed: unrolled, time is just a long graph (tutorial
# 1). First the forward loop of tutorial 2, with the step as an argument so that its smooth twin can take over.

# %%
import matplotlib.pyplot as plt
import numpy as np

import diagrams
import minisnn as snn
from helpers import BLUE, GREEN, ORANGE, PINK, exercise, numeric_gradient, save_figure
from minisnn import ops
from minisnn.surrogate import ATan

def step(x):
    return (x >= 0).astype(float)

def lif_loop(x, tau=2.0, v_threshold=1.0, v_reset=0.0, fire=step):
    """x: [T, ...] input current -> potentials u before the reset and spikes s, both [T, ...]."""
    u, s = np.zeros_like(x), np.zeros_like(x)
    h = np.full_like(x[0], v_reset)
    for t in range(len(x)):
        u[t] = h + (x[t] - (h - v_reset)) / tau
        s[t] = fire(u[t] - v_threshold)
        h = u[t] * (1 - s[t]) + v_reset * s[t]
    return u, s

# %% [markdown]
# Unrolled over three steps it looks like this. Two arrows leave each u, but three paths: to its spike, to what is left, and
# through the spike to what is left. Gradients run against all of them.

# %%
diagrams.unrolled()
save_figure("04_backpropagation_through_time_unrolled",
            "The neuron unrolled over three steps: the current x leads to the potential u, u to the spike s and to what is "
            "left, h, the spike to h as well, and h to the potential of the next step.")

# %% [markdown]
# **By hand.** Write dq for the derivative of the loss with respect to q, and go through the loop's three lines
# from the last to the first. (Papers call it *backpropagation through time*, BPTT.) Each gives its local slopes:
#
# $$\begin{aligned}
# h[t] &= u[t] (1 - s[t]) + v_\text{reset} s[t] && \text{by } u: 1 - s[t], \quad \text{by } s: v_\text{reset} - u[t] \\
# s[t] &= \text{step}(u[t] - v_\text{threshold}) && \text{by } u: \text{sg}[t] \text{, the surrogate's derivative there} \\
# u[t] &= h[t-1] + \frac{1}{\tau} (x[t] - (h[t-1] - v_\text{reset})) && \text{by } x: 1 / \tau, \quad \text{by } h: 1 - 1 / \tau
# \end{aligned}$$
#
# u[t] reaches the loss along three paths: as the spike s[t], as what the reset leaves, and as the spike that the
# reset depends on. Gradients add (tutorial 1):
#
# $$\begin{aligned}
# du[t] &= ds[t] \, \text{sg}[t] + dh[t] (1 - s[t]) + dh[t] (v_\text{reset} - u[t]) \, \text{sg}[t] \\
# dx[t] &= \frac{1}{\tau} du[t] \qquad dh[t-1] = \left( 1 - \frac{1}{\tau} \right) du[t]
# \end{aligned}$$
#
# With numbers: currents 1.2, 1.6, 0.8 give potentials 0.6, 1.1, 0.4, and one spike, in the middle. How does
# the last spike (that did not come) depend on each current?
#
# **Before you run it:** more current at step 1 makes the spike there likelier, and that spike empties the neuron.
# Does the last spike gain or lose by it?

# %%
def slope(u):
    return ATan(2.0).derivative(u - 1.0)

x = np.array([1.2, 1.6, 0.8])
u, s = lif_loop(x)
assert np.allclose(u, [0.6, 1.1, 0.4]) and s.tolist() == [0, 1, 0]
du2 = slope(0.4)  # ds = 0, 0, 1, and nothing follows the last step
dh1 = du2 / 2
du1 = dh1 * (1 - 1) + dh1 * (0 - 1.1) * slope(1.1)  # 1 - 1: it fired, so only the path through the spike is left
dh0 = du1 / 2
du0 = dh0 * (1 - 0) + dh0 * (0 - 0.6) * slope(0.6)  # 1 - 0: it did not
by_hand = np.array([du0, du1, du2]) / 2
print("the last spike along each current:", by_hand.round(4))

# %% [markdown]
# **As a loop.** The same lines, from the last step to the first; `dh` is what tutorial 1's bucket `carried`.
# `detach_reset` leaves out the third path, through the reset's dependence on the spike.

# %%
def lif_backward_loop(ds, x, tau=2.0, v_threshold=1.0, v_reset=0.0, alpha=2.0, detach_reset=False, fire=step):
    """ds, x: [T, ...], the gradient of each spike and the current -> dx [T, ...]."""
    u, s = lif_loop(x, tau, v_threshold, v_reset, fire)
    sg = ATan(alpha).derivative(u - v_threshold)
    dx, dh = np.zeros_like(x), np.zeros_like(x[0])  # nothing follows the last step
    for t in range(len(x) - 1, -1, -1):
        du = ds[t] * sg[t] + dh * (1 - s[t])
        if not detach_reset:
            du += dh * (v_reset - u[t]) * sg[t]
        dx[t] = du / tau
        dh = (1 - 1 / tau) * du
    return dx

last = np.array([0.0, 0.0, 1.0])
assert np.allclose(lif_backward_loop(last, x), by_hand)
assert np.allclose(lif_backward_loop(last, x, detach_reset=True), [0, 0, du2 / 2])  # the spike cuts the past off

# %% [markdown]
# **First proof: the smooth twin.** Let the forward loop emit the surrogate's primitive in place of the step;
# then the same backward lines, not detached, are the true derivative, and finite differences must agree.

# %%
rng = np.random.default_rng(0)
current, ds = rng.normal(1.0, 1.0, (2, 8, 5))  # each [T, 5 neurons]
twin = dict(tau=3.0, v_reset=-0.5, fire=ATan(2.0).primitive)
measured = numeric_gradient(lambda x: (ds * lif_loop(x, **twin)[1]).sum(), current)
assert np.allclose(lif_backward_loop(ds, current, **twin), measured, atol=1e-8)

# %% [markdown]
# **Second proof: the tape**, as the engine calls the record of who was made from whom (tutorial 1). The twin says nothing
# about the hard step, nor about the detached reset. For those, unroll the neuron out of elementary operations, with the
# step and its surrogate as an operation of its own, and let `Tensor.backward()` find the paths. `detach()` hands on the
# value and stops the gradient.

# %%
class Spike(snn.Function):
    def forward(self, u):
        self.u = u
        return step(u - 1.0)

    def backward(self, grad):
        return grad * ATan(2.0).derivative(self.u - 1.0)

def lif_on_tape(x, tau, detach_reset):
    h, spikes = snn.Tensor(np.zeros(x.shape[1:])), []
    for t in range(len(x)):
        u = h + (x[t] - h) / tau
        s = Spike.apply(u)
        h = u * (1 - (s.detach() if detach_reset else s))
        spikes.append(s)
    return ops.stack(spikes)

# %% [markdown]
# The engine's own loop, `ops.lif`, gives the same gradient: on the tape, by hand, and compiled. It keeps only x
# for the backward pass and recomputes the potentials from it: memory is scarce, arithmetic is cheap.

# %%
for detach_reset in (True, False):
    by_loop = lif_backward_loop(ds, current, detach_reset=detach_reset)
    for neuron in (lif_on_tape, ops.lif):
        leaf = snn.Tensor(current, requires_grad=True)
        neuron(leaf, tau=2.0, detach_reset=detach_reset).backward(ds)
        assert np.allclose(leaf.grad, by_loop)

# %% [markdown]
# **Detached or not?** Look at all slopes of one neuron: how each spike depends on each current before it.
# Detached, every step back multiplies by (1 - 1/tau) (1 - s): the gradient fades, and a spike ends it. Not
# detached, it gets past a spike with its sign turned: more current makes that spike likelier, and the reset
# after it takes away from the next one.
#
# **Before you run it:** two spikes lie between a current and a later spike. Does more of that current now make the later spike
# likelier or less likely, if the reset is not detached?

# %%
T = 24
drive = rng.normal(1.2, 0.5, T)
u, s = lif_loop(drive)
jacobian = {}  # [time of the current, time of the spike]
for detach_reset in (True, False):
    columns = [lif_backward_loop(unit, drive, detach_reset=detach_reset) for unit in np.eye(T)]
    jacobian[detach_reset] = np.stack(columns, axis=1)
for early in range(T):
    for late in range(early, T):
        between = s[early:late].sum()
        assert jacobian[True][early, late] <= 0.5 * 0.5 ** (late - early)
        assert (jacobian[True][early, late] == 0) == (between > 0)
        assert np.sign(jacobian[False][early, late]) == (-1) ** between

fig, axes = plt.subplots(1, 2, figsize=(9, 3.9), gridspec_kw={"width_ratios": [1, 1.2]})
for ax, detach_reset in zip(axes, (True, False)):
    shown = ax.imshow(jacobian[detach_reset], cmap="PuOr_r", vmin=-0.3, vmax=0.3, aspect="auto")
    ax.vlines(np.flatnonzero(s) + 0.5, -0.5, T - 0.5, color="0.5", lw=0.8)
    ax.set(xlabel="step of the spike s", ylabel="step of the current x",
           title=f"{'Detached' if detach_reset else 'Not detached'} (grey lines: spikes)")
fig.colorbar(shown, ax=axes[1], label="ds / dx")
save_figure("04_backpropagation_through_time_jacobian",
            "How each spike depends on each earlier current, as two maps. Detached, each column ends at the last spike "
            "before it; not detached, the columns continue past spikes with the sign turned each time.")

# %% [markdown]
# At a spike just above the threshold the path through the reset multiplies by u sg, about alpha / 2. For the
# paper's alpha = 2 that is 1 and does no harm; with a steep surrogate and a slow leak the gradient explodes,
# where the detached one can only fade (in the figure it drops to zero at some step back: by then every neuron has fired,
# and a spike cuts the past off). With alpha = 2 the third path even takes away, since its sign is the opposite of the second
# one's: the dashed line lies below the blue one until that drops to zero, which the dashed line never does. The published code
# detaches, and that is the engine's default.

# %%
x = snn.Tensor(rng.normal(1.5, 0.6, (40, 2000)), requires_grad=True)  # [T, neurons]
size = {}  # of d s[39] / d x[t], root mean square over the neurons, from the last step back
for alpha in (2.0, 25.0):
    assert np.isclose(1.0 * ATan(alpha).derivative(0.0), alpha / 2)  # u sg where u is at the threshold
    for detach_reset in (True, False):
        x.zero_grad()
        ops.lif(x, tau=8.0, surrogate=ATan(alpha), detach_reset=detach_reset)[39].sum().backward()
        size[alpha, detach_reset] = np.sqrt((x.grad**2).mean(1))[::-1]
assert (np.diff(size[2.0, True]) <= 0).all() and (np.diff(size[25.0, True]) <= 0).all()
assert size[25.0, False].max() > 10 * size[25.0, False][0] and size[2.0, False].argmax() == 0
lasts = np.count_nonzero(size[2.0, True])  # steps back, until every neuron has fired
assert (size[2.0, False] < size[2.0, True])[1:lasts].all() and lasts < 40 and size[2.0, False].min() > 0

fig, ax = plt.subplots(figsize=(6.5, 3.8))
for (alpha, detach_reset), color, dash in zip(size, (BLUE, GREEN, PINK, ORANGE), ("-", "--", "-.", ":")):
    label = f"alpha {alpha:g}, {'' if detach_reset else 'not '}detached"
    ax.semilogy(size[alpha, detach_reset], color=color, ls=dash, label=label)
ax.set(xlabel="steps back from the spike", ylabel="size of ds / dx (root mean square)", ylim=(1e-11, 1e3),
       title="Fading and exploding (tau = 8)")
ax.legend(fontsize=8, loc="lower left")
save_figure("04_backpropagation_through_time",
            "Size of the gradient over 40 steps back, for two surrogates, detached and not. Detached, both fade and drop "
            "to zero; not detached, alpha 2 fades faster than detached at first, but never drops to zero, and alpha 25 grows "
            "more than a hundredfold.")

# %% [markdown]
# **Two layers.** Nothing new is needed here either. In a network the current of the second layer is made of spikes of the
# first, x2[t] = s1[t] w, at the same step. So the loop of the second layer gives dx2, a matrix product carries it to ds1 =
# dx2 w^T and dw = sum over t of s1[t]^T dx2[t], and the loop of the first layer takes over: backwards in time within a layer,
# backwards in depth from layer to layer.

# %%
x1, w = rng.normal(1.5, 1.0, (8, 5, 4)), rng.normal(0.5, 0.5, (4, 3))  # [T, N, 4], and from 4 neurons to 3
s1 = lif_loop(x1)[1]
ds2 = rng.normal(size=(8, 5, 3))  # what the loss says about the spikes of the second layer
dx2 = lif_backward_loop(ds2, s1 @ w, detach_reset=True)
dw = sum(s1[t].T @ dx2[t] for t in range(8))
dx1 = lif_backward_loop(dx2 @ w.T, x1, detach_reset=True)

first, weights = (snn.Tensor(a, requires_grad=True) for a in (x1, w))
ops.lif(ops.lif(first) @ weights).backward(ds2)
assert np.allclose(dx1, first.grad) and np.allclose(dw, weights.grad)
print(f"largest gradient of a weight: {np.abs(dw).max():.3f}, of a current of the first layer: {np.abs(dx1).max():.3f}")

# %% [markdown]
# ## Summary
#
# * Unrolled, time is a long graph. The backward loop runs from the last step to the first and carries dh, what the
#   future says about the potential that was left.
# * A potential matters along three paths: its spike, what the reset leaves, and the spike that the reset depends on.
#   `detach_reset` drops the third.
# * Detached, gradients fade and end at a spike; not detached, they pass it with their sign turned, and may explode
#   with a steep surrogate.
# * Through layers it is the same: a matrix product from each layer's spikes to the next one's currents, step by step. In the
#   literature of spiking networks all this is *spatio-temporal backpropagation* (STBP): back through layers, and through time.
#
# ## Your engine
#
# `neuron_backward` is this page's loop, with the reset detached: five lines in `tutorials/mine.py`. With it your engine
# *learns*: `python growing.py 4` checks the loop, then trains 48 neurons and 10 scores on handwritten digits with your
# functions alone.
#
# ## Further reading
#
# * P. J. Werbos, *Backpropagation Through Time: What It Does and How to Do It*, Proceedings of the IEEE 78 (1990).
# * Y. Wu et al., *Spatio-Temporal Backpropagation for Training High-Performance Spiking Neural Networks*, Frontiers
#   in Neuroscience 12 (2018), [arXiv:1706.02609](https://arxiv.org/abs/1706.02609).

# %% [markdown]
# ## Exercises
# **1.** The reset is detached, and you know a neuron's spikes s [T]. From which step on does a current count
# for the spike at step `late` at all?
#
# Hint: detached, a spike cuts off everything before it. Does the spike at `late` itself cut anything off?

# %%
def first_that_counts(s, late):
    raise NotImplementedError

def check_first_that_counts(first_that_counts):
    for late in range(T):
        first = np.flatnonzero(jacobian[True][:, late])[0]
        answer = first_that_counts(s, late)
        assert answer == first, f"for the spike at {late} you say {answer}, the gradient begins at {first}"

exercise(1, check_first_that_counts, first_that_counts)

# %% [markdown]
# **2.** With the *soft* reset, h[t] = u[t] - v_threshold s[t], and rest is at 0. Write the backward loop (which
# of the reset's two slopes change?); the surrogate is ATan(2.0). ds and x are [T, ...], and so is the answer.
#
# Hint: h by u is now 1 whether it fired or not, and h by s is -v_threshold. First run the forward loop with the soft
# reset to get u.

# %%
def soft_reset_backward(ds, x, tau, v_threshold, detach_reset):
    raise NotImplementedError

def check_soft_reset_backward(soft_reset_backward):
    for detach_reset in (True, False):
        x = snn.Tensor(current, requires_grad=True)
        ops.lif(x, tau=3.0, v_threshold=0.5, v_reset=None, detach_reset=detach_reset).backward(ds)
        answer = soft_reset_backward(ds, current, 3.0, 0.5, detach_reset)
        assert np.allclose(answer, x.grad), f"wrong with detach_reset={detach_reset}"

exercise(2, check_soft_reset_backward, soft_reset_backward)

# %% [markdown]
# # 2. The leaky integrate-and-fire neuron
#
# After this page you can simulate a spiking neuron, say in which units its quantities are, and predict from
# tau and the input current when and how often it fires.
#
# You need: tutorial 1. Explains: the forward half of `minisnn/ops/lif.py`. Paper: Section III-B, Table I.
#
# A neuron's membrane is the leaky bucket of tutorial 1: current flows in, and the potential V leaks back to rest, the
# faster the further away it is (Eq. 1 of the paper). Rest and reset are one number here, V_reset; in biology the reset
# may lie below rest.
#
# $$\tau \frac{dV}{dt} = -(V - V_\text{reset}) + I(t) \qquad \text{(Eq. 1)}$$
#
# **Units.** V and I are measured in multiples of the firing threshold, so the threshold is 1 (Table I) and
# there are no volts. Time is counted in steps, so tau = 2 means two time steps. For a constant current the
# solution from rest is V(t) = V_reset + I (1 - exp(-t / tau)): the potential creeps up to V_reset + I and
# never passes it.

# %%
import matplotlib.pyplot as plt
import numpy as np

import diagrams
import minisnn as snn
from helpers import BLUE, ORANGE, exercise, save_figure
from minisnn import ops

def euler(current, tau, end, dt):
    """Eq. 1 in small straight pieces: V after ``end`` steps of time, from rest at 0."""
    v = 0.0
    for _ in range(round(end / dt)):
        v = v + dt * (current - v) / tau
    return v

exact = 1.5 * (1 - np.exp(-4 / 2.0))  # I = 1.5, tau = 2, t = 4
errors = [abs(euler(1.5, 2.0, 4.0, dt) - exact) for dt in (1.0, 0.1, 0.01)]
for dt, error in zip((1.0, 0.1, 0.01), errors):
    print(f"pieces of {dt:4} steps: V is off by {error:.5f}")
assert errors[0] > 9 * errors[1] > 81 * errors[2]  # ten times smaller pieces, about ten times smaller error

# %% [markdown]
# A network takes the coarsest pieces, dt = 1, and calls *that* its neuron: cheap, and training adapts to it.
# With H for the potential that the previous step left behind, one step is (Eq. 2, with the reset potential
# written out)
#
# $$\begin{aligned}
# U[t] &= H[t-1] + \frac{1}{\tau} \left( I[t] - (H[t-1] - U_\text{reset}) \right) && \text{charge} \\
# S[t] &= 1 \text{ where } U[t] \ge U_\text{threshold}, \text{ else } 0 && \text{fire} \\
# H[t] &= U[t] (1 - S[t]) + U_\text{reset} S[t] && \text{reset (Eq. 2)}
# \end{aligned}$$
#
# The paper prints I[t-1]; its published code uses I[t], and so does everybody else. A neuron spikes where U is
# at *or* above the threshold. The reset forgets by how much the threshold was passed: a potential of 1.0 and one of 5.0 give
# the same spike.
#
# **Names.** V is the potential in continuous time; U and H are V at a step, before and after the reset. In code they are u and
# h; U_threshold is `v_threshold`, or theta in a formula; V_reset and U_reset are both `v_reset`.
#
# The first line is tutorial 1's bucket: with U_reset = 0 it is U[t] = (1 - 1/tau) H[t-1] + (1/tau) I[t], so `keep` is
# 1 - 1/tau and `gain` is 1/tau. There it was tau = 4; here it is tau = 2, the paper's.

# %%
diagrams.bucket()
save_figure("02_the_leaky_integrate_and_fire_neuron_bucket",
            "The neuron as a bucket, three times: a share 1 / tau of the level H leaks out below; then a current flows in from "
            "above and raises the level to U; when U reaches the threshold a spike goes out and the bucket is emptied.")

# %% [markdown]
# **Before you run it:** the currents are 1, 1, 2, 0, 3 and tau is 2. At which steps does the neuron fire?

# %%
def lif_loop(x, tau=2.0, v_threshold=1.0, v_reset=0.0):
    """x: [T, ...] input current -> potentials u before the reset and spikes s, both [T, ...]."""
    u, s = np.zeros_like(x), np.zeros_like(x)
    h = np.full_like(x[0], v_reset)  # at rest before the first step
    for t in range(len(x)):
        u[t] = h + (x[t] - (h - v_reset)) / tau
        s[t] = u[t] >= v_threshold
        h = u[t] * (1 - s[t]) + v_reset * s[t]
    return u, s

u, s = lif_loop(np.array([1.0, 1.0, 2.0, 0.0, 3.0]))
print("potentials", u, "  spikes", s)
assert u.tolist() == [0.5, 0.75, 1.375, 0.0, 1.5] and s.tolist() == [0, 0, 1, 0, 1]
assert lif_loop(np.array([2.0]))[1] == 1  # exactly at the threshold: fires

# %% [markdown]
# The engine's `ops.lif` computes the same, for whole batches: one neuron for each element of a time step. Arrays are
# [T, N, C, H, W] throughout: time steps, samples of the batch, channels, height, width.
# Spikes are kept as one byte each, though `.data` shows them as floats.

# %%
rng = np.random.default_rng(0)
current = rng.normal(1.0, 1.0, (16, 3, 8, 5, 5))  # [T, N, C, H, W]
for tau, v_reset in ((2.0, 0.0), (4.0, 0.0), (3.0, -0.5)):
    fired = ops.lif(snn.Tensor(current), tau=tau, v_reset=v_reset)
    assert np.array_equal(fired.data, lif_loop(current, tau, v_reset=v_reset)[1])
assert fired.shape == current.shape and fired.is_spikes and fired.storage.itemsize == 1

# %% [markdown]
# **What tau does.** Feed one pulse and watch it fade. It enters divided by tau and loses the share 1/tau per step, so after
# k further steps (1/tau) (1 - 1/tau)^k of it are left: with tau = 2 one half, then a quarter, then an eighth; with tau = 8
# only an eighth at first, but it lasts. Summed over all time the pulse counts fully, whatever tau is. So tau = 2 reports
# coincidences (two pulses in a row), tau = 8 reports what lasts.
#
# On the web site sliders move this neuron.
#
# **Before you run it:** the same pulses, one alone, a pair, one alone, then twelve in a row, go into a neuron with
# tau 2 and one with tau 8. Which one notices the pair?

# %%
def echo(tau, steps=200):
    pulse = np.zeros(steps)
    pulse[0] = 1.0
    return lif_loop(pulse, tau, v_threshold=np.inf)[0]

for tau in (2.0, 8.0):
    assert np.allclose(echo(tau), (1 / tau) * (1 - 1 / tau) ** np.arange(200))
    assert np.isclose(echo(tau).sum(), 1.0)

pulses = np.zeros(40)
pulses[[2, 7, 8, 14]] = 1.5  # alone, a pair, alone
pulses[22:34] = 1.5  # twelve in a row
traces = {tau: lif_loop(pulses, tau) for tau in (2.0, 8.0)}
for tau, (_, fired) in traces.items():
    print(f"tau {tau:g} fires at", np.flatnonzero(fired))
assert np.flatnonzero(traces[2.0][1]).tolist() == [8, 23, 25, 27, 29, 31, 33]  # the second of every two
assert np.flatnonzero(traces[8.0][1]).tolist() == [29]  # only what lasts

fig, axes = plt.subplots(3, 1, figsize=(7.5, 5), sharex=True, gridspec_kw={"height_ratios": [1, 2, 2]})
axes[0].bar(np.arange(40), pulses, width=0.7, color="0.45")
axes[0].set(ylabel="input\n(thresholds)", xlim=(-1, 40), title="The same current into two neurons (black bars: spikes)")
for ax, (tau, (u, s)), color in zip(axes[1:], traces.items(), (BLUE, ORANGE)):
    ax.plot(np.arange(40), u, "o-", ms=3.5, color=color)
    ax.axhline(1.0, color="0.3", ls=":", lw=1.2)
    ax.plot(np.flatnonzero(s), np.full(int(s.sum()), 1.45), "|", ms=13, mew=2.5, color="black")
    ax.text(11, 1.45, f"tau = {tau:g} steps", va="center")
    ax.set(ylabel="potential u\n(thresholds)", ylim=(-0.05, 1.65))
ax.set_xlabel("time step")
save_figure("02_the_leaky_integrate_and_fire_neuron",
            "Pulses of current, and the potential of two neurons under them; the one with tau 2 fires at the second of "
            "each pair and at every second pulse of the burst, the one with tau 8 once, in the long burst.")

# %% [markdown]
# **Many of them.** A layer is many such neurons, and what it says is who fires when. A *raster* has a row for each neuron and a
# mark for each spike. Here 40 neurons get noise of their own, and a common pulse at three steps:
#
# **Before you run it:** in which picture can you see the three pulses, with tau = 2 or with tau = 8?

# %%
noise = rng.normal(0.5, 0.6, (60, 40))  # [T, neurons]
noise[[10, 30, 50]] += 2.0
rasters = {tau: lif_loop(noise, tau)[1] for tau in (2.0, 8.0)}
for tau, fired in rasters.items():
    at_pulses, between = fired[[10, 30, 50]].mean(), np.delete(fired, [10, 30, 50], 0).mean()
    print(f"tau {tau:g}: {at_pulses:.0%} fire at the pulses, {between:.1%} at the other steps")

fig, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
for ax, (tau, fired), color in zip(axes, rasters.items(), (BLUE, ORANGE)):
    ax.plot(*np.nonzero(fired), "|", ms=5, color=color)
    ax.set(title=f"tau = {tau:g}: {int(fired.sum())} spikes", xlabel="time step", xlim=(-1, 60), ylim=(-1, 40))
axes[0].set_ylabel("neuron")
save_figure("02_the_leaky_integrate_and_fire_neuron_raster",
            "Two rasters of 40 neurons over 60 steps. With tau 2 nearly all neurons fire at the steps 10, 30 and 50, three "
            "upright lines, and some in between; with tau 8 there are next to no spikes.")

# %% [markdown]
# With tau = 8 the layer is all but silent, though such a neuron reports what lasts. What lasts here is the mean current, 0.5,
# and alone it lifts the potential to 0.5, half of the threshold; a pulse of 2 enters by an eighth and adds 0.25, which is not
# enough either.

# %%
assert lif_loop(np.full(200, 0.5), 8.0)[0].max() < 0.5 and 0.5 + 2.0 / 8.0 < 1.0

# %% [markdown]
# **How often it fires.** Under a constant current I the distance to I shrinks by 1 - 1/tau per step, so the potential after
# n steps is I (1 - (1 - 1/tau)^n) (v_reset 0). Set it equal to the threshold theta and solve for n: theta is first reached at
#
# $$n = \left\lceil \frac{\log(1 - \theta / I)}{\log(1 - 1 / \tau)} \right\rceil$$
#
# then starts again from the reset; so the firing rate is 1 / n spikes per step. For I up to theta it never fires: the potential
# stays below I (at I = theta rounding may lift it there in the end: with tau = 2 after 54 steps).

# %%
def steps_between_spikes(current, tau, threshold=1.0):
    steps = np.log(1 - threshold / current) / np.log(1 - 1 / tau)
    return np.ceil(steps - 1e-9)  # so that rounding does not lift a whole number to the next

currents = np.linspace(1.05, 5.0, 80)
for tau in (2.0, 4.0, 8.0):
    s = lif_loop(np.tile(currents, (2000, 1)), tau)[1]  # [T, 80 currents]
    assert np.array_equal(s.argmax(0) + 1, steps_between_spikes(currents, tau))
    assert np.allclose(s.mean(0), 1 / steps_between_spikes(currents, tau), atol=1e-3)
assert lif_loop(np.full(2000, 0.99))[1].sum() == 0

currents = np.linspace(1.001, 5.0, 4000)
fig, ax = plt.subplots(figsize=(6, 3.6))
for tau, color, dash in ((2.0, BLUE, "-"), (4.0, "0.35", "-."), (8.0, ORANGE, "--")):
    rates = np.concatenate([[0, 0], 1 / steps_between_spikes(currents, tau)])
    ax.plot(np.concatenate([[0, 1.0], currents]), rates, color=color, ls=dash, drawstyle="steps-post",
            label=f"tau = {tau:g} steps")
ax.set(xlabel="constant current (thresholds)", ylabel="firing rate (spikes per step)", title="Staircases")
ax.legend()
save_figure("02_the_leaky_integrate_and_fire_neuron_rates",
            "Firing rate against constant current for tau 2, 4 and 8: three staircases that begin at the threshold; the "
            "smaller tau, the steeper; that of tau 2 reaches one spike per step at a current of 2.")

# %% [markdown]
# The curve is a staircase since n is a whole number. With tau = 2 a current between 1 and 4/3 gives at most a
# spike every third step; from 2 on the neuron fires at every step and can say no more.

# %%
assert steps_between_spikes(1.33, 2.0) == 3 and steps_between_spikes(1.34, 2.0) == 2
assert steps_between_spikes(2.0, 2.0) == 1

# %% [markdown]
# ## Summary
#
# * A neuron is a leaky bucket that fires at a threshold and empties: charge, fire, reset.
# * tau says how long it remembers. Short: it reports coincidences. Long: it reports what lasts.
# * The firing rate against a constant current is a staircase, zero up to the threshold, one at tau thresholds.
# * Why spikes at all: what follows has to compute only where one arrives, and then it only adds (tutorial 6).
#
# ## Your engine
#
# Add `neuron` to `tutorials/mine.py`: the loop of this page, which also returns the potentials (page 4 needs them).
# `python growing.py 2` compares its spikes with the package's, with some potentials exactly at the threshold.
#
# ## Further reading
#
# * W. Gerstner, W. M. Kistler, R. Naud, L. Paninski, *Neuronal Dynamics* (2014), chapter 1, free at
#   [neuronaldynamics.epfl.ch](https://neuronaldynamics.epfl.ch).
# * J. K. Eshraghian et al., *Training Spiking Neural Networks Using Lessons From Deep Learning*, Proceedings of the
#   IEEE 111 (2023), [arXiv:2109.12894](https://arxiv.org/abs/2109.12894).
# * Y. Shan et al., *SynA-ResNet: Spike-driven ResNet Achieved through OR Residual Connection*,
#   [arXiv:2311.06570](https://arxiv.org/abs/2311.06570), Section III-B.

# %% [markdown]
# ## Exercises
# **1.** After how many steps is half of what a neuron remembers gone (a real number of steps)? With tau = 2
# it is one.
#
# Hint: each step keeps the share 1 - 1/tau; how often must you multiply by it?

# %%
def half_life(tau):
    raise NotImplementedError

def check_half_life(half_life):
    for tau in (1.5, 2.0, 8.0, 20.0):
        left = (1 - 1 / tau) ** half_life(tau)
        assert abs(left - 0.5) < 1e-9, f"tau {tau}: after that time {left:.3f} is left, not one half"

exercise(1, check_half_life, half_life)

# %% [markdown]
# **2.** *Soft reset*: what is left after a spike is u - v_threshold, so the overshoot is not lost (rest is at
# 0). Return the spikes. The engine does it with `v_reset=None`; do it without the engine.
#
# Hint: only the last of the three lines changes. What does it subtract where the neuron was silent?

# %%
def soft_reset_lif(x, tau=2.0, v_threshold=1.0):
    raise NotImplementedError

def check_soft_reset_lif(soft_reset_lif):
    noise = np.random.default_rng(1).normal(1.5, 1.5, (30, 200))  # [T, neurons]
    halves = np.round(2 * noise) / 2  # with tau = 2 many potentials are *exactly* at the threshold
    for x, tau, v_threshold in ((noise, 3.0, 1.0), (halves, 2.0, 0.5), (halves, 2.0, 1.0)):
        expected = ops.lif(snn.Tensor(x), tau=tau, v_threshold=v_threshold, v_reset=None).data
        wrong = np.argwhere(soft_reset_lif(x.copy(), tau, v_threshold) != expected)
        assert len(wrong) == 0, f"tau {tau}, threshold {v_threshold}: the first wrong spike is at step {wrong[0][0]}"

exercise(2, check_soft_reset_lif, soft_reset_lif)

# %% [markdown]
# **3.** The smallest constant current (v_reset 0, threshold 1) at which a neuron fires at every n-th step or
# faster.
#
# Hint: the formula above has n on its left; set the potential after n steps equal to the threshold and solve for I
# instead.

# %%
def current_for(n, tau):
    raise NotImplementedError

def check_current_for(current_for):
    for n, tau in ((1, 2.0), (2, 2.0), (5, 8.0)):
        at = current_for(n, tau)
        assert lif_loop(np.full(n, at * 1.0001), tau)[1].sum() >= 1, f"n {n}, tau {tau}: {at} is too small"
        assert lif_loop(np.full(n, at * 0.9999), tau)[1].sum() == 0, f"n {n}, tau {tau}: {at} is too much"

exercise(3, check_current_for, current_for)

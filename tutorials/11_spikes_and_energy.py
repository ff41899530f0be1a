# %% [markdown]
# # 11. Spikes and energy
#
# After this page you can count what a spiking network really computes, estimate it from firing rates as the paper does,
# say where the two differ, and tell at which firing rate spikes stop paying.
#
# You need: tutorials 6, 7 and 8. Explains: `minisnn/energy.py`, `minisnn/ledger.py`. Paper: Section IV.
#
# Multiplying and adding (a MAC) costs 4.6 pJ in a 45 nm process, 3.7 for the product and 0.9 for the sum; adding alone (an
# AC) costs 0.9 pJ (Horowitz 2014, 32-bit floats). A convolution that gets spikes only adds. The paper's energy of one
# inference:
#
# $$E_\text{total} = E_\text{MAC} \, \text{FL}_\text{conv}^1 + E_\text{AC} \left( \sum_{n=2}^{N} \text{FL}_\text{conv}^n \,
# \text{fr}^n + \sum_{m=1}^{M} \text{FL}_\text{fc}^m \, \text{fr}^m \right) \qquad \text{(Eq. 11)}$$
#
# FL is the number of products of a layer that multiplies everything, over all T steps; fr is the firing rate of the
# layer's input, spikes per neuron and step. The first convolution gets the image, which is numbers, and pays for MACs;
# all others pay for what fired. It is an estimate: it takes the mean rate and an average place. Here is the exact count,
# spike by spike, and beside it the estimate.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minisnn as snn
from helpers import BLUE, ORANGE, exercise, inputs_of, save_figure
from minisnn import data, energy, models, nn, ops

E_MAC, E_AC = 4.6, 0.9  # pJ

def additions(spikes, cout, k, stride=1, padding=0):
    """spikes: [B, Cin, H, W] zeros and ones -> how many weights a convolution adds."""
    B, Cin, H, W = spikes.shape
    Ho, Wo = (H + 2 * padding - k) // stride + 1, (W + 2 * padding - k) // stride + 1
    count = 0
    for _, _, iy, ix in np.argwhere(spikes):
        for ky in range(k):
            for kx in range(k):  # does tap (ky, kx) of some output pixel lie on this spike?
                row, column = iy + padding - ky, ix + padding - kx
                at_row = row % stride == 0 and 0 <= row // stride < Ho
                count += cout * (at_row and column % stride == 0 and 0 <= column // stride < Wo)
    return count

def estimate(spikes, cout, k, stride=1, padding=0):
    """FL fr: every output is charged Cin k^2 products, times the input's mean rate."""
    B, Cin, H, W = spikes.shape
    Ho, Wo = (H + 2 * padding - k) // stride + 1, (W + 2 * padding - k) // stride + 1
    return B * Cin * k * k * Ho * Wo * cout * spikes.mean()

def ledger_count(spikes, cout, k, stride=1, padding=0):
    """What the engine's loops write down while they run."""
    with snn.ledger.ledger() as entries:
        ops.conv2d(snn.Tensor(spikes), snn.Tensor(np.ones((cout, spikes.shape[1], k, k), np.float32)), stride, padding)
    return entries[0].ac

rng = np.random.default_rng(0)
spikes = rng.random((2, 3, 9, 9)) < 0.1
for k, stride, padding in ((3, 1, 1), (3, 2, 1), (1, 2, 0), (5, 1, 2)):
    exact = additions(spikes, 4, k, stride, padding)
    assert exact == ledger_count(spikes, 4, k, stride, padding)
    print(f"{k}x{k}, stride {stride}: {exact} additions, Eq. 11 says {estimate(spikes, 4, k, stride, padding):.0f}")

# %% [markdown]
# **Why they differ.** With stride 1 a spike is added k^2 times per output channel, unless it lies at the border, where
# part of its taps fall outside. The estimate knows no border, so it is too high; the smaller the map, the more. On the 4
# x 4 maps of DVS Gesture's last stage a third of it does not exist. With stride 2 it can also be too low: a 1x1
# convolution of stride 2 sees every fourth pixel only, and all depends on where the spikes are.

# %%
for side in (32, 16, 8, 4, 2):
    everything = np.ones((1, 3, side, side), bool)
    share = ledger_count(everything, 4, 3, padding=1) / estimate(everything, 4, 3, padding=1)
    assert np.isclose(share, ((3 * side - 2) / (3 * side)) ** 2)
    print(f"{side} x {side}: {share:.1%} of the estimate exist")
seen, unseen = np.zeros((2, 1, 1, 4, 4), bool)
seen[..., ::2, ::2], unseen[..., 1::2, 1::2] = True, True
assert estimate(seen, 4, 1, 2) == estimate(unseen, 4, 1, 2) == 4
assert ledger_count(seen, 4, 1, 2) == 16 and ledger_count(unseen, 4, 1, 2) == 0

# %% [markdown]
# **A whole network.** `energy.measure` runs a network in evaluation mode and collects what every layer wrote down. Ours
# is untrained, but its batch norms have seen data (one pass in training mode with momentum 1), so it fires. What it costs
# does not depend on whether its answers are right.
#
# **Before you run it:** which part of this small network costs the most energy: the stem, the 19 convolutions that
# only add, or the batch norms?

# %%
def network(residual, gain=1.0):
    net = models.build("digits", residual=residual, width=8, timesteps=4, seed=0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum, module.weight.data[...] = 1.0, gain
    net(images)
    return net

images = data.load("digits", timesteps=4).train.batch(np.arange(64))  # [T, N, 1, 16, 16]
net = network("or")
report = energy.measure(net, images)
print(report)

# %% [markdown]
# The numbers are per image. Most of the energy is not the spikes: with 8 channels the stem and the batch norms, both MAC,
# weigh two thirds. (A batch norm can be folded into the weights before it, tutorial 7; then it is free:
# `fold_norm=True`.) Now the estimate by Eq. 11 for each convolution, from its input's rate:

# %%
assert 0.6 < sum(row.share for row in report.layers if row.name in ("stem", "batch norm")) < 0.7
assert energy.measure(net, images, fold_norm=True).energy_mj < 0.7 * report.energy_mj
estimates, exact = {}, {row.name: row.ac for row in report.layers if row.kind == "conv" and row.ac}

for name, (conv, x) in inputs_of(net, images, nn.Conv2d).items():
    if name != "stem.conv":
        x = x.reshape(-1, *x.shape[2:])  # [T * N, C, H, W]
        cout, _, k, _ = conv.weight.shape
        estimates[name.removesuffix(".conv")] = estimate(x, cout, k, conv.stride, conv.padding) / images.shape[1]
assert estimates.keys() == exact.keys() and len(exact) == 19
for name in exact:
    if "shortcut" not in name and "main.0" not in name:  # stride 1: the estimate is an upper bound
        assert exact[name] <= estimates[name] * (1 + 1e-9)
total_estimate = E_MAC * report.layers[0].mac + E_AC * sum(estimates.values())  # pJ, the linear layer left out
total_exact = E_MAC * report.layers[0].mac + E_AC * sum(exact.values())
print(f"stem and convolutions: {total_exact / 1e3:.1f} nJ measured, {total_estimate / 1e3:.1f} nJ by Eq. 11")
assert total_exact < total_estimate

fig, ax = plt.subplots(figsize=(7, 4.4))
at = np.arange(len(exact))
ax.barh(at - 0.2, [estimates[n] / 1e3 for n in exact], 0.38, color=ORANGE, hatch="//", edgecolor="white", label="Eq. 11")
ax.barh(at + 0.2, [exact[n] / 1e3 for n in exact], 0.38, color=BLUE, label="counted")
ax.set_yticks(at, [energy.label(n) for n in exact], fontsize=8)
ax.set(xlabel="additions per image (thousands)", title="Small maps, large gaps", ylim=(len(at) - 0.4, -0.6))
ax.legend()
save_figure("11_spikes_and_energy_layers",
            "Additions of each of 19 layers as Eq. 11 estimates them and as they were counted; the deeper the layer and "
            "the smaller its map, the larger the gap.")

# %% [markdown]
# **What a 2 costs.** The same weights with ADD joins (tutorial 8): the convolution after a join multiplies for every sample in
# which a 2 occurs, at any step. And `energy.published_of` counts as the published scripts do, for comparison with the paper's
# tables; its rules are in the docstring of `energy.published`, and tutorial 14 has one of its rows.

# %%
add_report = energy.measure(network("add"), images)
by_name = {row.name: row for row in add_report.layers}
for stage in range(3):
    follows = by_name[f"stages.{stage}.after.0"]
    assert follows.mac > 0 and exact[f"stages.{stage}.after.0"] > 0
published = energy.published_of(net, report)
for name, r in (("OR", report), ("ADD", add_report), ("OR, published rules", published)):
    print(f"{name:20} {r.ac / 1e3:6.0f} K AC {r.mac / 1e3:6.0f} K MAC {r.energy_mj * 1e6:7.0f} nJ")
assert add_report.energy_mj > 1.5 * report.energy_mj and published.ac > report.ac

# %% [markdown]
# **Is it worth it?** A network without spikes runs each convolution once, at 4.6 pJ per product. With spikes it runs T
# times, at 0.9 pJ for the share fr. So spikes pay while T fr < 4.6 / 0.9: fewer than 5.1 spikes per neuron and inference.
# The paper reports 0.8 for its best network. Ours has 0.17 in T = 4 steps, but only because its batch norms start at weight
# 1: with the 1.5 of tutorial 10's recipe it is 0.39, half of the paper's, and the same network costs more than twice the
# additions. A firing rate is a choice, not a property of spikes.

# %%
livelier = energy.measure(network("or", gain=1.5), images)
for gain, r in ((1.0, report), (1.5, livelier)):
    print(f"gain {gain}: {r.spikes_per_neuron:.2f} spikes per neuron and image, {r.ac / 1e3:.0f} K AC")
break_even = E_MAC / E_AC
assert round(break_even, 1) == 5.1 and round(report.spikes_per_neuron, 2) == round(report.firing_rate * 4, 2) == 0.17
assert round(livelier.spikes_per_neuron, 2) == 0.39 and livelier.ac > 2 * report.ac

fig, ax = plt.subplots(figsize=(7, 3.8))
n = np.linspace(0, 8, 50)
ax.plot(n, n * E_AC / E_MAC, color=BLUE, ls="-")
ax.axhline(1, color="0.3", ls=":", lw=1.2)
ax.text(0.1, 1.03, "one pass without spikes")
points = ((report.spikes_per_neuron, "ours, gain 1"), (livelier.spikes_per_neuron, "ours, gain 1.5"),
          (0.8, "the paper's SynA-C on DVS Gesture"), (break_even, "5.1, break-even"))
for k, (x, name) in enumerate(points):
    ax.plot([x], [x / break_even], "o", color=ORANGE)
    ax.annotate(name, (x, x / break_even), (max(x, 1.5) + 0.4, (0.03, 0.12, 0.21, 0.95)[k]), va="center",
                fontsize=9, arrowprops=dict(arrowstyle="-", color="0.6", lw=0.8))
ax.set(xlabel="spikes per input neuron, all T steps together", ylabel="energy of a convolution\n(dense pass = 1)",
       title="When spikes pay", xlim=(0, 8), ylim=(0, 1.6))
save_figure("11_spikes_and_energy",
            "Energy of a convolution with spikes against one dense pass: a line that crosses 1 at 5.1 spikes per neuron. "
            "Our network is at 0.17 and 0.39, the paper's at 0.8.")

# %% [markdown]
# **What nobody counts.** Eq. 11 charges convolutions. A neuron computes too: each of its updates, once per neuron and step,
# leaks, adds, compares and resets, at least a product and an addition, whether or not it fires. Here that is one update for
# every entry that a batch norm scales, so as many MACs as the row "batch norm" has: 36% on top of the whole energy of this
# small network, and it cannot be folded away. Reading weights and potentials from memory costs energy as well, on most
# chips far more than adding them. So 5.1 spikes per neuron is where the *arithmetic of convolutions* breaks even, not where
# a chip does. The wider the network, the smaller the neurons' share: additions grow with the square of the width, neurons
# in proportion to it.

# %%
updates = report.neurons * report.timesteps  # per image
norm_row = next(row for row in report.layers if row.name == "batch norm")
share = updates * E_MAC * 1e-9 / report.energy_mj
print(f"{updates / 1e3:.1f} K neuron updates an image are not in the table: as MACs, {share:.0%} of its energy")
assert updates == norm_row.mac and 0.35 < share < 0.37

# %% [markdown]
# ## Summary
#
# * A convolution's energy is counted spike by spike, or estimated by Eq. 11 from firing rates, which forgets borders
#   and strides.
# * In a small network the parts that multiply, the stem and the batch norms, weigh more than the spikes.
# * Spikes pay below 5.1 per neuron and inference, in the arithmetic of convolutions; neurons' updates and memory come
#   on top, and are seldom counted.
#
# ## Further reading
#
# * M. Horowitz, *Computing's Energy Problem (and what we can do about it)*, ISSCC 2014.
# * E. Lemaire et al., *An Analytical Estimation of Spiking Neural Networks Energy Efficiency*,
#   [arXiv:2210.13107](https://arxiv.org/abs/2210.13107): with memory and neurons.

# %% [markdown]
# ## Exercises
# **1.** On an n x n map where everything fires: which share of Eq. 11's additions does a k x k convolution (k odd,
# padding k // 2, stride 1, n at least k) really do?
#
# Hint: along one axis, how many taps of all n windows fall outside? Rows and columns are independent: the share is a
# square.

# %%
def share_inside(n, k):
    raise NotImplementedError

def check_share_inside(share_inside):
    for n, k in ((4, 3), (9, 5), (7, 7), (5, 1)):
        everything = np.ones((1, 2, n, n), bool)
        expected = ledger_count(everything, 4, k, padding=k // 2) / estimate(everything, 4, k, padding=k // 2)
        assert np.isclose(share_inside(n, k), expected), f"n {n}, k {k}: {share_inside(n, k):.4f}, not {expected:.4f}"

exercise(1, check_share_inside, share_inside)

# %% [markdown]
# **2.** The paper's DVS Gesture runs T = 32 steps. Up to which firing rate do its convolutions need less energy than one
# pass of a network without spikes?
#
# Hint: T times the rate times 0.9 pJ may reach 4.6 pJ; and can a rate exceed 1?

# %%
def highest_rate(T):
    raise NotImplementedError

def check_highest_rate(highest_rate):
    for T in (1, 5, 6, 8, 32):
        rate = highest_rate(T)
        assert rate <= 1, "a neuron fires at most once a step"
        assert T * 0.999 * rate * E_AC < E_MAC, f"T {T}: at {rate} spikes cost more"
        assert rate == 1 or T * 1.001 * rate * E_AC > E_MAC, f"T {T}: {rate} could be higher"

exercise(2, check_highest_rate, highest_rate)

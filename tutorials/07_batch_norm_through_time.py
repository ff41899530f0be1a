# %% [markdown]
# # 7. Batch norm through time
#
# After this page you can write batch norm forward and backward, say why a spiking network needs it more than
# others do and why its statistics run over time, and fold it away when training is over.
#
# You need: tutorials 2 and 5. Explains: `minisnn/ops/batch_norm.py`. Paper: Table IX (a BN, batch norm, after
# every convolution); Section II on normalisation in spiking networks (tdBN, threshold-dependent batch norm).
#
# A neuron's threshold is a fixed number, 1. What a convolution sends it is not: its size depends on weights,
# on the number of inputs, on how many of them fired. Too small, and the layer is silent; too large, and it
# fires at every step and can say no more; either way the surrogate's slope is small, and little is learned.
# Batch norm gives every channel's current a mean and a spread that the network chooses itself:
#
# $$\hat{x} = \frac{x - \text{mean}}{\text{sd}} \qquad \text{sd} = \sqrt{\text{var} + \epsilon} \qquad
# \text{out} = \text{weight} \cdot \hat{x} + \text{bias}$$
#
# Mean and variance are the channel's own, over all time steps, samples and pixels of the batch.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import minisnn as snn
from helpers import BLUE, GREEN, ORANGE, exercise, numeric_gradient, save_figure
from minisnn import ops

def normalise(x, eps=1e-5):
    """x: [T, N, C, H, W] -> xhat of the same shape and sd [C]."""
    xhat, sd = np.empty_like(x), np.empty(x.shape[2])
    for c in range(x.shape[2]):
        channel = x[:, :, c]  # [T, N, H, W]
        sd[c] = np.sqrt(channel.var() + eps)
        xhat[:, :, c] = (channel - channel.mean()) / sd[c]
    return xhat, sd

def per_channel(v):
    return v[:, None, None]  # [C] -> [C, 1, 1], which NumPy repeats over T, N, H and W

def batch_norm_loop(x, weight, bias):
    return per_channel(weight) * normalise(x)[0] + per_channel(bias)

# %% [markdown]
# **Backward.** Nudge one x by e. Its own xhat rises by e / sd. The mean rises by e / R (R numbers per channel),
# which lowers all xhat by e / (R sd). And sd rises by e xhat / R, which draws each xhat_k together, by
# e xhat xhat_k / (R sd). Gather the three:
#
# $$\begin{aligned}
# \frac{\partial \hat{x}_k}{\partial x} &= \frac{1}{\text{sd}} \left( \delta_k - \frac{1}{R} -
# \frac{\hat{x} \, \hat{x}_k}{R} \right) \\
# dx &= \frac{\text{weight}}{\text{sd}} \left( d_\text{out} - \text{mean}(d_\text{out}) -
# \hat{x} \, \text{mean}(d_\text{out} \, \hat{x}) \right) \\
# d_\text{weight} &= \text{sum}(d_\text{out} \, \hat{x}) \qquad d_\text{bias} = \text{sum}(d_\text{out})
# \end{aligned}$$
#
# where the delta is 1 for the number that was nudged and 0 for the others.

# %%
def batch_norm_backward_loop(dout, x, weight):
    xhat, sd = normalise(x)
    over = (0, 1, 3, 4)  # T, N, H, W
    dx = dout - dout.mean(over, keepdims=True) - xhat * (dout * xhat).mean(over, keepdims=True)
    return per_channel(weight / sd) * dx, (dout * xhat).sum(over), dout.sum(over)

rng = np.random.default_rng(0)
x, dout = rng.normal(3.0, 2.0, (2, 3, 2, 2, 4, 3))  # each [T, N, C, H, W]
weight, bias = np.array([1.5, 0.5]), np.array([0.2, -1.0])
dx, dweight, dbias = batch_norm_backward_loop(dout, x, weight)
for by_hand, f, at in ((dx, lambda x: batch_norm_loop(x, weight, bias), x),
                       (dweight, lambda w: batch_norm_loop(x, w, bias), weight),
                       (dbias, lambda b: batch_norm_loop(x, weight, b), bias)):
    assert np.allclose(by_hand, numeric_gradient(lambda v: (dout * f(v)).sum(), at), atol=1e-6)

# %% [markdown]
# The engine's `ops.batch_norm` gives the same. Note what the two subtractions do: dx has no part left that
# would shift a channel as a whole or scale it, for the norm would take that back anyway.

# %%
inputs = [snn.Tensor(v, requires_grad=True) for v in (x, weight, bias)]
out = ops.batch_norm(*inputs, running_mean=np.zeros(2), running_var=np.ones(2))
out.backward(dout)
assert np.allclose(out.data, batch_norm_loop(x, weight, bias))
assert all(np.allclose(v.grad, g) for v, g in zip(inputs, (dx, dweight, dbias)))
assert np.allclose(dx.sum((0, 1, 3, 4)), 0) and np.allclose((dx * x).sum((0, 1, 3, 4)), 0, atol=1e-4)

# %% [markdown]
# **Why through time?** The weights are the same at every step, and so should be what scales their result. Take digits as in
# tutorial 6, a little darker (divided by 9, so that no pixel reaches 2 and fires all the time): the neurons fire in waves,
# none at step 0, many at step 1, few at step 2. A norm over all steps is one straight line: a strong step stays as much
# stronger as it was. Norms step by step would blow the weak ones up to the same size: the strong step
# then sends on fewer spikes than it should, the weak one more, and what only the difference tells is lost.

# %%
digits = np.tile(load_digits().images[:64, None] / 9, (8, 1, 1, 1, 1))  # [T, N, C, H, W] = [8, 64, 1, 8, 8]
fired = ops.lif(snn.Tensor(digits))
filters = rng.normal(0, 0.3, (16, 1, 3, 3))
current = ops.conv2d(fired, snn.Tensor(filters), padding=1).data  # [T, N, 16, 8, 8]
joint = normalise(current)[0]
by_step = np.concatenate([normalise(step[None])[0] for step in current])

def spread(x):
    return x.std((1, 3, 4))  # of each step and channel: [T, C]

ratio = spread(current)[1] / spread(current)[2]  # of the strong step to the weak one
for name, x_hat in (("as they come", current), ("over all steps", joint), ("step by step", by_step)):
    print(f"{name:15} the strong step has {(spread(x_hat)[1] / spread(x_hat)[2]).mean():.2f} times the spread of the weak one")
assert (ratio > 2).all() and np.allclose(spread(joint)[1] / spread(joint)[2], ratio)
assert np.allclose(spread(by_step)[1] / spread(by_step)[2], 1.0, atol=1e-3)
came_in = fired.data.mean((1, 2, 3, 4))
for name, x_hat in (("over all steps", joint), ("step by step", by_step)):
    sent = ops.lif(snn.Tensor(x_hat), tau=1.0).data.mean((1, 2, 3, 4))  # tau = 1: each step for itself
    print(f"{name:15} spikes sent on at steps 1 and 2:", sent[1:3].round(3), "  came in:", came_in[1:3].round(3))

fig = plt.figure(figsize=(10, 3.9))
grid = fig.add_gridspec(2, 4, width_ratios=[3, 1.2, 1.2, 1.2])
left = fig.add_subplot(grid[:, 0])
shown = (("as they come", current, ORANGE, "s--"), ("over all steps", joint, BLUE, "o-"),
         ("step by step", by_step, GREEN, "^-."))
for column, (name, values, color, style) in enumerate(shown):
    left.plot(spread(values).mean(1), style, ms=4, color=color, label=name)
    for row in (0, 1):
        ax = fig.add_subplot(grid[row, 1 + column])
        ax.imshow(values[1 + row, 0, 0], cmap="PuOr", vmin=-3, vmax=3)
        ax.set(xticks=[], yticks=[], ylabel=f"step {1 + row}" if column == 0 else "")
        ax.set_title(name if row == 0 else "", fontsize=9)
left.set(title="Spread of the current", xlabel="time step", ylabel="standard deviation, mean of the channels", ylim=(0, 2))
left.legend(fontsize=8)
save_figure("07_batch_norm_through_time_steps",
            "Left: spread of the current over eight steps, in waves as they come and over all steps, flat step by step. "
            "Right: one channel's current at steps 1 and 2 in the three versions; normalised step by step the weak one "
            "looks as strong.")

# %% [markdown]
# **A firing rate that can be predicted.** With weight 1 and bias 0 a channel's current has mean 0 and spread 1,
# whatever the size of the filters. Without the norm the same layer goes from silence to saturation, where every
# positive current fires at nearly every step:
#
# **Before you run it:** multiply all filters by 100. What happens to the firing rate with the norm, and without it?

# %%
sizes = 10.0 ** np.linspace(-1.5, 2, 15)
rates = {"without": [], "with": []}
for size in sizes:
    scaled = size * current
    rates["without"].append(ops.lif(snn.Tensor(scaled)).data.mean())
    rates["with"].append(ops.lif(snn.Tensor(normalise(scaled)[0])).data.mean())
for k in (0, 7, 14):
    print(f"filters of size {sizes[k]:7.3f}: {rates['without'][k]:.3f} fire without norm, {rates['with'][k]:.3f} with it")
assert rates["without"][0] == 0 and rates["without"][-1] > 0.9 * (current > 0).mean()
assert np.ptp(np.array(rates["with"])[sizes > 0.3]) < 1e-3  # of smaller variances eps is no longer a small part

fig, ax = plt.subplots(figsize=(6.5, 3.6))
ax.semilogx(sizes, rates["without"], "s--", ms=4, color=ORANGE, label="as they come")
ax.axhline((current > 0).mean(), color="0.3", lw=1, ls=":")
ax.text(sizes[0], (current > 0).mean() * 0.95, "share of positive currents", fontsize=8, va="top")
ax.semilogx(sizes, rates["with"], "o-", ms=4, color=BLUE, label="normalised")
ax.set(title="How often the layer fires", xlabel="size of the filters", ylabel="firing rate (spikes per neuron and step)")
ax.legend(fontsize=8)
save_figure("07_batch_norm_through_time",
            "Firing rate against the size of the filters: as they come it goes from silence to the share of the positive "
            "currents, where nearly each of them fires at every step; normalised it is flat.")

# %% [markdown]
# **Evaluation.** A trained network is asked about one sample at a time, and the answer must not depend on who
# else is in the batch. So in training every batch moves two running averages, by the share `momentum`, and in
# evaluation they take the place of the batch's own statistics. (The variance is kept unbiased, times R / (R -
# 1), as PyTorch does.)

# %%
running_mean, running_var = np.zeros(2), np.ones(2)
options = dict(running_mean=running_mean, running_var=running_var)
parameters = snn.Tensor(weight), snn.Tensor(bias)
for _ in range(100):
    ops.batch_norm(snn.Tensor(x), *parameters, **options, training=True, momentum=0.1)
assert np.allclose(running_mean, x.mean((0, 1, 3, 4)), atol=1e-3)
assert np.allclose(running_var, x.var((0, 1, 3, 4), ddof=1), rtol=1e-3)
for training in (True, False):
    together = ops.batch_norm(snn.Tensor(x), *parameters, **options, training=training).data[:, :1]
    alone = ops.batch_norm(snn.Tensor(x[:, :1]), *parameters, **options, training=training).data
    assert np.array_equal(alone, together) == (not training)

# %% [markdown]
# **A trap in the numbers.** The variance is the mean square less the squared mean, one pass over memory; but in
# float32, with a mean far from zero, that is a small difference of two large numbers. The engine subtracts
# the first row before it squares, and sums in float64.

# %%
far = (1000 + rng.normal(0, 0.1, (4, 8, 1, 16, 16))).astype(np.float32)
naive = (far * far).mean() - far.mean() ** 2
print(f"variance 0.01: naively {naive:.4f}")
assert abs(naive - 0.01) > 0.005  # near a million, neighbouring float32 numbers are 0.06 apart
one, zero, found = snn.Tensor(np.float32([1])), snn.Tensor(np.float32([0])), np.zeros(1)
ops.batch_norm(snn.Tensor(far), one, zero, running_mean=np.zeros(1), running_var=found, momentum=1.0)
print(f"the engine: {found[0]:.5f}")
assert abs(found[0] - 0.01) < 5e-4

# %% [markdown]
# ## Summary
#
# * A threshold is fixed, so currents must have a known size: batch norm gives every channel a mean and a spread that
#   are learned.
# * Its statistics run over time too, so that a strong step stays stronger than a weak one. (*tdBN* does the same and
#   scales by the threshold.)
# * In training it uses the batch, in evaluation running means; after training it folds into the convolution before
#   it.
#
# ## Your engine
#
# Add `batch_norm` to `tutorials/mine.py`, forward, with the batch's own statistics: three lines. `python growing.py 7` checks
# it.
#
# ## Further reading
#
# * S. Ioffe, C. Szegedy, *Batch Normalization*, [arXiv:1502.03167](https://arxiv.org/abs/1502.03167).
# * H. Zheng et al., *Going Deeper With Directly-Trained Larger Spiking Neural Networks*, AAAI 2021,
#   [arXiv:2011.05280](https://arxiv.org/abs/2011.05280): tdBN.

# %% [markdown]
# ## Exercises
# **1.** In evaluation the norm is a straight line per channel, and a convolution before it can absorb it.
# Return new weights and a bias for `ops.conv2d`, after which there is no norm.
#
# Hint: write out = a x + b for one channel: what are a and b? Then a (w * x) = (a w) * x.

# %%
def fold(w, weight, bias, mean, var, eps=1e-5):
    raise NotImplementedError

def check_fold(fold):
    w, image = rng.normal(size=(2, 3, 3, 3)), snn.Tensor(rng.normal(size=(5, 3, 6, 6)))
    mean, var = np.array([0.3, -2.0]), np.array([0.2, 4.0])
    for eps in (1e-5, 0.1):
        expected = ops.batch_norm(ops.conv2d(image, snn.Tensor(w)), *parameters, mean, var, training=False, eps=eps)
        new_w, new_bias = fold(w.copy(), weight, bias, mean, var, eps)
        answer = ops.conv2d(image, snn.Tensor(new_w), bias=snn.Tensor(new_bias))
        assert np.allclose(answer.data, expected.data), f"eps {eps}: conv2d with your weights and bias gives other numbers"

exercise(1, check_fold, fold)

# %% [markdown]
# **2.** After a norm with this weight and bias a channel's current is about normally distributed. Which share of
# its neurons fires at the first step (threshold 1, from rest at 0)? (The share of a standard normal variable that
# is at least z is erfc(z / sqrt(2)) / 2, with `math.erfc`.)
#
# Hint: from rest the potential is current / tau; which current reaches the threshold, and how many spreads above the
# mean is it?

# %%
def first_step_rate(weight, bias, tau=2.0):
    raise NotImplementedError

def check_first_step_rate(first_step_rate):
    for weight, bias, tau in ((1.0, 0.0, 2.0), (2.0, 0.0, 2.0), (1.0, 1.0, 2.0), (1.5, -0.5, 4.0), (2.0, 1.0, 2.0)):
        xhat = np.random.default_rng(2).normal(size=(1, 200_000))  # [T = 1, neurons]
        measured = ops.lif(snn.Tensor(weight * xhat + bias), tau=tau).data.mean()
        answer = first_step_rate(weight, bias, tau)
        assert abs(answer - measured) < 0.005, f"weight {weight}, bias {bias}, tau {tau}: about {measured:.3f} fire"

exercise(2, check_first_step_rate, first_step_rate)

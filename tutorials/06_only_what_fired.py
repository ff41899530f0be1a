# %% [markdown]
# # 6. Only what fired
#
# After this page you can convolve spikes without a single product, say exactly how many additions that took,
# tell which gradients can be had the same way and which cannot, and know when it is not worth it.
#
# You need: tutorials 2 and 5. Explains: the loops at the head of `minisnn/ops/event_conv.py`, `method` in
# `minisnn/ops/conv.py`, `minisnn/ledger.py`. Paper: Sections I, III-A and IV.
#
# A spike is 0 or 1. A weight times 1 is the weight, a weight times 0 is nothing: where the input is spikes, a
# convolution needs no products, and no work at all for what stayed silent. Tutorial 5's loop asked each output
# pixel what it sees. Turn it around and ask each *spike* who sees it: input row iy meets kernel row ky at output row
# oy where iy = oy * stride + ky - padding, that is oy = (iy + padding - ky) / stride, if that is a whole number.
# So a list of the spikes is all that the layer needs: for each, the kernel is added around its place.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator
from sklearn.datasets import load_digits

import diagrams
import minisnn as snn
from helpers import BLUE, GREEN, ORANGE, exercise, save_figure
from minisnn import ops
from minisnn.ledger import ledger

few = np.zeros((5, 6), bool)
few[[1, 2, 4], [1, 3, 5]] = True
diagrams.events(few)
save_figure("06_only_what_fired_events",
            "A map with three spikes, the list of its three events by row and column, and the output: each event adds the nine "
            "weights of a 3 by 3 kernel around its place, fewer at the border, and where two windows overlap two are added.")

# %%
def seen_at(i, kernel, stride, padding, outputs):
    """(output place, kernel tap) along one axis of the windows that see input place i."""
    for k in range(kernel):
        o, rest = divmod(i + padding - k, stride)
        if rest == 0 and 0 <= o < outputs:
            yield o, k

def event_conv(x, w, stride=1, padding=0):
    """x: [Cin, H, W] spikes, w: [Cout, Cin, kh, kw] -> y [Cout, Ho, Wo] and the number of additions."""
    Ho, Wo = ((n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[1:], w.shape[2:]))
    y, additions = np.zeros((len(w), Ho, Wo)), 0
    for ci, iy, ix in np.argwhere(x):  # the events: channel, row and column of each spike
        for oy, ky in seen_at(iy, w.shape[2], stride, padding, Ho):
            for ox, kx in seen_at(ix, w.shape[3], stride, padding, Wo):
                y[:, oy, ox] += w[:, ci, ky, kx]  # Cout additions, no product
                additions += len(w)
    return y, additions

# %% [markdown]
# The engine's `conv2d` can do both: `method="dense"` multiplies everything, `method="event"` adds. With whole
# numbers for weights no sum is rounded, not even in float32, so all three must agree to the last bit; and the
# additions that the engine writes into its ledger (`ac`, for accumulations) must be those of our loop.

# %%
rng = np.random.default_rng(0)

def random_spikes(rate, *shape):
    return rng.random(shape) < rate  # Booleans: a Tensor keeps them as spikes

w = rng.integers(-9, 10, (5, 3, 3, 3)).astype(np.float32)
for stride, padding in ((1, 0), (1, 1), (2, 1)):
    x = random_spikes(0.1, 3, 9, 9)
    y, additions = event_conv(x, w, stride, padding)
    for method in ("dense", "event"):
        with ledger() as entries:
            engine = ops.conv2d(snn.Tensor(x[None]), snn.Tensor(w), stride, padding, method)
        assert np.array_equal(engine.data[0], y)
    assert entries[0].ac == additions and entries[0].mac == 0
    print(f"stride {stride}, padding {padding}: {int(x.sum())} spikes of {x.size}, {additions} additions")
print("an entry of the ledger:", entries[0])

# %% [markdown]
# **Exact, not estimated.** The usual estimate is "operations of the dense layer times firing rate". That is right on
# average if every window lies inside the image; those that hang over its border see less. On small maps it is
# not a detail: on 8x8 pixels, 3x3 windows with padding 1 meet (3 * 8 - 2)^2 pixels, not 9 * 8^2.
#
# **Before you run it:** on a map of 8 x 8, by how much is the estimate too high?

# %%
x = random_spikes(0.1, 64, 8, 8)
counted = event_conv(x, np.zeros((1, 64, 3, 3)), padding=1)[1]
estimate = x.mean() * 64 * 9 * 8**2
print(f"counted {counted:,}, estimated {estimate:,.0f}")
assert 9 * 8**2 == 576 and (3 * 8 - 2) ** 2 == 484
assert 0.8 * estimate < counted < 0.9 * estimate  # 484 / 576 = 0.84

# %% [markdown]
# **Only spikes.** A layer whose input holds other numbers must multiply: the first one, which sees brightness,
# and any that follows an ADD join, where 1 + 1 = 2 (tutorial 8). The engine refuses to pretend, and the
# ledger says `mac` (multiply-accumulate). The paper's Section IV charges 4.6 pJ for a MAC and 0.9 pJ for an addition, figures
# of Horowitz (2014) for 32-bit floats in a 45 nm process: 3.7 pJ for the product, 0.9 pJ for the sum.

# %%
twos = snn.Tensor(x[None] + x[None, ::-1].astype(np.float32))
zeros = snn.Tensor(np.zeros((1, 64, 3, 3), np.float32))
try:
    ops.conv2d(twos, zeros, padding=1, method="event")
    raise AssertionError("2 has passed for a spike")
except ValueError as refusal:
    print("as expected:", refusal)
with ledger() as entries:
    ops.conv2d(twos, zeros, padding=1)  # method="auto"
assert entries[0].ac == 0 and entries[0].mac == 64 * 484

# %% [markdown]
# **Backward.** The forward line is y += w for each spike, so dw += dy for each spike: additions only, of what
# fired (exercise 2). The input gradient is another matter. It is wanted at every neuron, silent ones above all:
# the surrogate (tutorial 3) must tell them in which direction to move. So the engine computes dx densely.

# %%
x = random_spikes(0.05, 1, 3, 9, 9)
gradients = []
for method in ("dense", "event"):
    spikes, kernel = snn.Tensor(x, requires_grad=True), snn.Tensor(w, requires_grad=True)
    ops.conv2d(spikes, kernel, 1, 1, method).backward(np.ones((1, 5, 9, 9)))
    gradients.append((spikes.grad, kernel.grad))
assert all(np.array_equal(a, b) for a, b in zip(*gradients))
assert (gradients[0][0][~x] != 0).mean() > 0.9  # silent inputs have a gradient too

# %% [markdown]
# **When is it worth it?** Per output pixel and pair of channels, a 3x3 window needs 9 products done plainly,
# 36 / 16 = 2.25 by Winograd's trick (tutorial 5), and on average 9 * rate additions by events. So by counting,
# events beat Winograd while less than a quarter of the inputs fire. The clock has another opinion: products come in
# orderly rows, many at a time, while an event must first be found and its row of weights be fetched, and transforms
# and borders cost something too. So `method="auto"`, the default, adds up what each way is expected to cost for the
# shapes and the number of spikes at hand (`minisnn/ops/cost.py`). The picture shows what your machine says just now.
#
# **Before you run it:** at which firing rate will the clock on your machine prefer the dense way?

# %%
assert 0.25 * 9 == 36 / 16
rates = np.array([0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5])
maps = [snn.Tensor(random_spikes(rate, 8, 4, 64, 14, 14)) for rate in rates]  # each [T, N, C, H, W]
layer = snn.Tensor(rng.normal(size=(64, 64, 3, 3)).astype(np.float32))
clock = {method: np.full(8, np.inf) for method in ("event", "dense", "auto")}
for _ in range(8):  # the best of 8 rounds: the first compiles, and other programs get in the way
    for method, best in clock.items():
        for k in range(8):
            start = time.perf_counter()
            ops.conv2d(maps[k], layer, padding=1, method=method)
            best[k] = min(best[k], 1000 * (time.perf_counter() - start))

fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8))
left.loglog(rates, 9 * rates, "o-", color=BLUE, label="events: additions")
left.axhline(9, color=ORANGE, ls="--", label="plain: products")
left.axhline(2.25, color=GREEN, ls="-.", label="Winograd: products")
left.set(title="Counted, per output pixel and pair of channels", ylabel="operations")
right.loglog(rates, clock["event"], "o-", color=BLUE, label='method="event"')
right.loglog(rates, clock["dense"], "s--", color=ORANGE, label='method="dense"')
right.loglog(rates, clock["auto"], "x", ms=9, color="black", label='method="auto"')
right.set(title="Timed: 64 to 64 channels, 32 maps of 14x14", ylabel="milliseconds")
for ax in (left, right):
    ax.set(xlabel="firing rate of the input (spikes per neuron and step)", xticks=rates, xticklabels=rates)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.legend(fontsize=8)
save_figure("06_only_what_fired",
            "Left: operations counted against firing rate; the additions of events cross Winograd's products at one "
            "quarter and the plain products at one. Right: milliseconds measured for event, dense and auto; auto follows "
            "the lower of the two.")

# %% [markdown]
# **A digit, step by step.** Its brightness goes as a constant current into one neuron per pixel (the paper's direct
# encoding, Section III-A); what they fire is convolved to 16 channels. Divided by 8, the brightness 0 to 16 becomes a
# current of 0 to 2 thresholds. This digit's brightest pixel is 15: a current of 15/8 fires at every second step (a full 16
# would at every step), greys less often (tutorial 2's staircase), and pixels up to half of full brightness, a current of 1,
# never.

# %%
current = np.tile(load_digits().images[0] / 8, (8, 1, 1, 1, 1))  # [T, N, C, H, W] = [8, 1, 1, 8, 8]
fired = ops.lif(snn.Tensor(current, dtype="float32"))
assert fired.data.mean(0).max() == 0.5 and fired.data[:, current[0] <= 1].sum() == 0
per_step = [event_conv(frame, np.zeros((16, 1, 3, 3)), padding=1)[1] for frame in fired.data[:, 0]]
with ledger() as entries:
    ops.conv2d(fired, snn.Tensor(np.zeros((16, 1, 3, 3), np.float32)), padding=1)
assert entries[0].ac == sum(per_step) < 8 * 16 * 484 / 2  # less than half of the dense layer's products

fig, axes = plt.subplots(1, 8, figsize=(11, 2.1))
fig.suptitle("What a digit's neurons fire, and what a layer of 16 channels adds for it", fontsize=11)
for t, ax in enumerate(axes):
    ax.imshow(fired.data[t, 0, 0], cmap="gray", vmin=0, vmax=1)
    ax.set(title=f"t = {t}", xticks=[], yticks=[])
    ax.set_xlabel(f"{per_step[t]:,}\nadditions", fontsize=8)
save_figure("06_only_what_fired_digit",
            "The spikes of a digit's 8 by 8 pixels at eight steps, with the additions that each step costs: none at step "
            "0, many where the bright strokes fire, and in between few.")

# %% [markdown]
# **Two layers.** The first layer's output is currents; neurons make spikes of them again, and the next layer only adds, too.
# Let us add a norm, so that the currents have a size that neurons can use (tutorial 7), and count:

# %%
kernels = [rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((16, 1, 3, 3), (32, 16, 3, 3))]
spikes = fired
for kernel in kernels:
    cout, cin = kernel.shape[:2]
    with ledger() as entries:
        current = ops.conv2d(spikes, snn.Tensor(kernel), padding=1)
    dense = 8 * 484 * cout * cin  # products of a layer that multiplies at all 8 steps
    print(f"{cin:2} to {cout} channels: {spikes.data.mean():.3f} of the inputs fire, {entries[0].ac:9,} additions, no product, "
          f"instead of {dense:,} products")
    assert entries[0].mac == 0 and entries[0].ac < dense / 3
    spikes = ops.lif((current - current.mean()) * (1 / current.data.std()))

# %% [markdown]
# ## Summary
#
# * Where the input is spikes, a convolution adds the weights of what fired: no products, no work for silence.
# * The additions can be counted exactly; the estimate by firing rate forgets the borders.
# * The weight gradient can be had by additions as well; the input gradient cannot, for silent neurons need one too.
# * Fewer operations are not always less time: find the events, fetch their weights, and compare with the clock.
#
# ## Your engine
#
# Add `event_conv` to `tutorials/mine.py`: the same result as `conv`, by additions for what fired, and how many they were.
# `python growing.py 6` compares both with the package: the sums with its convolution, the count with its ledger.
#
# ## Further reading
#
# * M. Horowitz, *Computing's Energy Problem (and what we can do about it)*, ISSCC 2014: the 4.6 and 0.9 pJ.
# * Y. Shan et al., *SynA-ResNet: Spike-driven ResNet Achieved through OR Residual Connection*,
#   [arXiv:2311.06570](https://arxiv.org/abs/2311.06570), Sections I and IV.

# %% [markdown]
# ## Exercises
# **1.** How many additions will the spikes x [Cin, H, W] cause? Count without convolving, borders exact, for any
# stride and padding. (Which windows does a spike meet?)
#
# Hint: along one axis, `len(list(seen_at(...)))` says how many windows see a place; a pixel is seen by rows times
# columns of them. Height and width may differ.

# %%
def additions_of(x, cout, kernel, stride, padding):
    raise NotImplementedError

def check_additions_of(additions_of):
    for kernel, stride, padding in ((3, 1, 0), (3, 1, 1), (3, 2, 1), (1, 2, 0), (7, 2, 3)):
        x = random_spikes(0.2, 2, 9, 7)
        expected = event_conv(x, np.zeros((4, 2, kernel, kernel)), stride, padding)[1]
        answer = additions_of(x, 4, kernel, stride, padding)
        assert answer == expected, f"kernel {kernel}, stride {stride}, padding {padding}: {answer}, not {expected}"

exercise(1, check_additions_of, additions_of)

# %% [markdown]
# **2.** The weight gradient by additions only: dw [Cout, Cin, kh, kw] from dy [Cout, Ho, Wo] and the spikes x. (The dy that
# you get refuses to be multiplied.)
#
# Hint: it is event_conv with another line in the middle: who meets whom stays the same, and the line is dw += dy.

# %%
def event_weight_gradient(dy, x, w_shape, stride, padding):
    raise NotImplementedError

class OnlyAdds(np.ndarray):
    """An array that can be indexed, added and subtracted, and refuses every product."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        assert ufunc in (np.add, np.subtract), f"np.{ufunc.__name__} is no addition"
        inputs, out = ([np.asarray(a) if isinstance(a, OnlyAdds) else a for a in arrays or ()] for arrays in (inputs, out))
        result = getattr(ufunc, method)(*inputs, **options, **({"out": tuple(out)} if out else {}))
        return result.view(OnlyAdds) if isinstance(result, np.ndarray) else result

    def __array_function__(self, function, types, args, options):
        products = ("einsum", "tensordot", "dot", "vdot", "inner", "outer", "kron", "convolve", "correlate")
        assert function.__name__ not in products, f"np.{function.__name__} multiplies"
        return super().__array_function__(function, types, args, options)

def check_event_weight_gradient(event_weight_gradient):
    for stride, padding in ((1, 0), (1, 1), (2, 1)):
        x, kernel = random_spikes(0.2, 3, 9, 7), snn.Tensor(w, requires_grad=True)
        y = ops.conv2d(snn.Tensor(x[None]), kernel, stride, padding)
        dy = rng.integers(-9, 10, y.shape)
        y.backward(dy)
        answer = event_weight_gradient(dy[0].view(OnlyAdds), x, w.shape, stride, padding)
        assert np.array_equal(answer, kernel.grad), f"wrong for stride {stride}, padding {padding}"

exercise(2, check_event_weight_gradient, event_weight_gradient)

# %% [markdown]
# **3.** A conventional network multiplies everything once, at 4.6 pJ. A spiking one runs T steps and adds what
# fired, at 0.9 pJ. At which firing rate do they cost the same?
#
# Hint: T steps times the rate times 0.9 pJ, against 4.6 pJ.

# %%
def break_even_rate(timesteps):
    raise NotImplementedError

def check_break_even_rate(break_even_rate):
    for T, rate in ((8, 0.638889), (16, 0.319444), (32, 0.159722)):
        assert abs(break_even_rate(T) - rate) < 1e-6, f"with {T} steps it is {rate}"

exercise(3, check_break_even_rate, break_even_rate)

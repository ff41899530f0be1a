# %% [markdown]
# # 5. Convolution forward and backward as loops
#
# After this page you can write a convolution and both of its gradients as loops, read the backward loop off the
# forward one, say what stride and padding do, count the products, and turn the loops into one matrix product.
#
# You need: tutorial 1. Explains: `minisnn/ops/conv.py`, and the loops at the head of `minisnn/ops/dense_conv.py`,
# whose names it uses. Paper: Table IX, whose networks are 20 convolutions and a linear layer.
#
# A convolution looks at an image through a small window, the *kernel*. At each place it multiplies what it sees
# by its weights, adds up, and writes one number. `stride` is how many pixels the window moves each time,
# `padding` how many rings of zeros lie around the image. Each output channel has a kernel for every input
# channel: w is [Cout, Cin, kh, kw]. The only difficulty is who meets whom: the output pixel (oy, ox) sees, through the kernel's
# tap (ky, kx), the input pixel (iy, ix). The picture settles which, and the code below says it in one line.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import diagrams
import minisnn as snn
from helpers import BLUE, exercise, numeric_gradient, save_figure
from minisnn import ops
from minisnn.ledger import ledger

diagrams.window()
save_figure("05_convolution_as_loops_window",
            "An image of 5 by 5 pixels in a ring of zeros, a window of 3 by 3 on it, the kernel's nine taps, and the "
            "output pixel that the window makes; with stride 1 the output has 5 by 5 pixels, with stride 2 the window "
            "moves by two and the output has 3 by 3.")

# %%
def output_size(size, kernel, stride, padding):
    return (size + 2 * padding - kernel) // stride + 1  # the places that the window can take along one axis

def meetings(x_shape, w_shape, stride, padding):
    """Who meets whom: output pixel (oy, ox), kernel tap (ky, kx) and input pixel (iy, ix)."""
    (H, W), (kh, kw) = x_shape[-2:], w_shape[-2:]
    for oy in range(output_size(H, kh, stride, padding)):
        for ox in range(output_size(W, kw, stride, padding)):
            for ky, kx in np.ndindex(kh, kw):
                iy, ix = oy * stride + ky - padding, ox * stride + kx - padding
                if 0 <= iy < H and 0 <= ix < W:  # elsewhere lie the zeros, which add nothing
                    yield oy, ox, ky, kx, iy, ix

def conv_forward(x, w, stride=1, padding=0):
    """x: [Cin, H, W], w: [Cout, Cin, kh, kw] -> y: [Cout, Ho, Wo]."""
    y = np.zeros((len(w), *(output_size(n, k, stride, padding) for n, k in zip(x.shape[1:], w.shape[2:]))))
    for oy, ox, ky, kx, iy, ix in meetings(x.shape, w.shape, stride, padding):
        for co, ci in np.ndindex(w.shape[:2]):
            y[co, oy, ox] += w[co, ci, ky, kx] * x[ci, iy, ix]
    return y

# %% [markdown]
# The engine's `ops.conv2d` does this for many images at once, [N, Cin, H, W] or [T, N, Cin, H, W].

# %%
rng = np.random.default_rng(0)
x, w = rng.normal(size=(3, 7, 6)), rng.normal(size=(4, 3, 3, 3))
geometries = [(stride, padding) for stride in (1, 2) for padding in (0, 1)]
for stride, padding in geometries:
    engine = ops.conv2d(snn.Tensor(x[None]), snn.Tensor(w), stride, padding)
    assert np.allclose(engine.data[0], conv_forward(x, w, stride, padding))

# %% [markdown]
# **Backward.** All that happens is the line `y += w * x`. A product's slope with respect to one factor is the
# other one (tutorial 1), and gradients add. So the same meetings, with each factor in turn on the left:

# %%
def conv_backward(dy, x, w, stride=1, padding=0):
    """dy: [Cout, Ho, Wo], the gradient of each output -> dx, dw."""
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for oy, ox, ky, kx, iy, ix in meetings(x.shape, w.shape, stride, padding):
        for co, ci in np.ndindex(w.shape[:2]):  # y[co, oy, ox] += w[co, ci, ky, kx] * x[ci, iy, ix]
            dx[ci, iy, ix] += w[co, ci, ky, kx] * dy[co, oy, ox]
            dw[co, ci, ky, kx] += x[ci, iy, ix] * dy[co, oy, ox]
    return dx, dw

for stride, padding in geometries:
    dy = rng.normal(size=conv_forward(x, w, stride, padding).shape)
    dx, dw = conv_backward(dy, x, w, stride, padding)
    image, kernel = snn.Tensor(x[None], requires_grad=True), snn.Tensor(w, requires_grad=True)
    ops.conv2d(image, kernel, stride, padding).backward(dy[None])
    assert np.allclose(image.grad[0], dx) and np.allclose(kernel.grad, dw)

small, few, d = rng.normal(size=(1, 4, 4)), rng.normal(size=(2, 1, 3, 3)), rng.normal(size=(2, 2, 2))  # and measured
dx, dw = conv_backward(d, small, few, stride=2, padding=1)
assert np.allclose(dx, numeric_gradient(lambda x: (d * conv_forward(x, few, 2, 1)).sum(), small))
assert np.allclose(dw, numeric_gradient(lambda w: (d * conv_forward(small, w, 2, 1)).sum(), few))

# %% [markdown]
# **Who sees a pixel?** With all weights and all dy equal to 1, dx just counts the windows that see each pixel.
# With a 3x3 kernel and padding 1 that is 9 inside, 6 at an edge, 4 in a corner; with stride 2 it is 1, 2 or 4
# in a checkered pattern.
#
# **Before you run it:** which pixel is seen by the most windows, one in a corner, at an edge, or inside?

# %%
def seen_by(stride, size=8):
    image = np.zeros((1, size, size))
    n = output_size(size, 3, stride, 1)
    return conv_backward(np.ones((1, n, n)), image, np.ones((1, 1, 3, 3)), stride, 1)[0][0]

assert seen_by(1)[0, 0] == 4 and seen_by(1)[0, 3] == 6 and (seen_by(1)[1:-1, 1:-1] == 9).all()
assert seen_by(2)[0, 0] == 1 and seen_by(2)[0, 1] == 2 and seen_by(2)[1, 1] == 4

fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.7))
for ax, step in zip(axes, (1, 2)):
    counts = seen_by(step)
    ax.imshow(counts, vmin=0, vmax=9)
    ax.set(title=f"Windows that see a pixel, stride {step}", xticks=[], yticks=[])
    for (row, column), count in np.ndenumerate(counts):
        ax.text(column, row, f"{count:g}", ha="center", va="center", fontsize=9, color="white" if count < 5 else "black")
save_figure("05_convolution_as_loops_seen",
            "The number of windows that see each of 8 by 8 pixels: with stride 1 it is 9 inside, 6 at the edges and 4 in the "
            "corners; with stride 2 a checkered pattern of 1, 2 and 4.")

# %% [markdown]
# **Counting.** Each meeting costs Cin Cout products. The engine counts too, in a *ledger*, if one is open:
#
# **Before you run it:** three channels of 7 x 6 pixels, four of output, a 3 x 3 window with padding 1: more or fewer
# than 3 * 4 * 9 * 42 = 4,536 products?

# %%
with ledger() as entries:
    ops.conv2d(snn.Tensor(x[None]), snn.Tensor(w), stride=1, padding=1)
products = 3 * 4 * len(list(meetings(x.shape, w.shape, 1, 1)))
print(f"{products} products;", entries[0])
assert entries[0].mac == products == 3 * 4 * (3 * 7 - 2) * (3 * 6 - 2)  # the first and last window lose one row

# %% [markdown]
# **As one matrix product.** Loops in Python are slow. Write what each window sees as one row (`im2col`), and the loops become a
# matrix product, at which processors are best. The engine does it in pieces that fit into the cache.
#
# **With fewer products.** For 3x3 kernels in float32 the engine goes one step further, with Winograd's trick. In one dimension:
# two neighbouring outputs of a kernel of three cost six products done plainly, and four if one multiplies sums instead, as
# below. In two dimensions, for 4x4 outputs, it is 36 products in place of 144, paid with a few bits of rounding.

# %%
def conv_by_matrix(x, w):  # stride 1, no padding
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (1, 2))  # [Cin, Ho, Wo, kh, kw]
    rows = windows.transpose(1, 2, 3, 4, 0).reshape(-1, w[0].size)  # [Ho * Wo, kh * kw * Cin]
    y = rows @ w.transpose(2, 3, 1, 0).reshape(-1, len(w))  # [Ho * Wo, Cout]
    return y.T.reshape(len(w), *windows.shape[1:3])

assert np.allclose(conv_by_matrix(x, w), conv_forward(x, w))

d, g = rng.normal(size=4), rng.normal(size=3)  # four inputs, a kernel of three, two outputs
m = [(d[0] - d[2]) * g[0], (d[1] + d[2]) * (g[0] + g[1] + g[2]) / 2,
     (d[2] - d[1]) * (g[0] - g[1] + g[2]) / 2, (d[1] - d[3]) * g[2]]  # four products; sums of g are formed once and kept
assert np.allclose([m[0] + m[1] + m[2], m[1] - m[2] - m[3]], [d[:3] @ g, d[1:] @ g])
x32, w32 = (rng.normal(size=shape).astype(np.float32) for shape in ((1, 16, 12, 12), (16, 16, 3, 3)))
y32 = ops.conv2d(snn.Tensor(x32), snn.Tensor(w32), padding=1).data[0, :, 1:-1, 1:-1]
exact = conv_by_matrix(x32[0].astype(np.float64), w32.astype(np.float64))
assert y32.dtype == np.float32 and 0 < np.abs(y32 - exact).max() < 1e-5 * np.abs(exact).max()

# %% [markdown]
# **It learns.** Somebody shows us twenty digits and the same digits filtered, but not the filter. We start from
# zeros, walk down the slope dw of the squared error, and find it.

# %%
digits = snn.Tensor(load_digits().images[:20, None] / 16)  # [20, 1, 8, 8], brightness 0 to 1
sobel = np.array([[[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]]]) / 4  # from dark to bright, left to right
filtered = ops.conv2d(digits, snn.Tensor(sobel), padding=1).data
learned, errors = np.zeros((1, 1, 3, 3)), []
for _ in range(200):
    kernel = snn.Tensor(learned, requires_grad=True)
    error = ((ops.conv2d(digits, kernel, padding=1) - filtered) ** 2).mean()
    error.backward()
    errors.append(error.item())
    learned = learned - 0.5 * kernel.grad
print("errors", [f"{e:.1e}" for e in errors[::50]])
print(np.round(learned[0, 0], 3))
assert errors[-1] < 1e-6 * errors[0] and np.allclose(learned, sobel, atol=1e-3)

fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), gridspec_kw={"width_ratios": [1, 1, 1.4]})
pictures = ((digits.data[2, 0], "A digit", "gray"), (filtered[2, 0], "Filtered: left and right edges", "PuOr"))
for ax, (picture, title, cmap) in zip(axes, pictures):
    ax.imshow(picture, cmap=cmap, vmin=0 if cmap == "gray" else -1, vmax=1)
    ax.set(title=title, xticks=[], yticks=[])
axes[2].semilogy(errors, color=BLUE)
axes[2].set(title="Finding the filter", xlabel="round", ylabel="mean squared error")
save_figure("05_convolution_as_loops",
            "A digit; the digit filtered, left edges against right edges; the error over 200 rounds, which falls by many "
            "orders of magnitude while the filter is found.")

# %% [markdown]
# ## Summary
#
# * A convolution is one line, y += w x, over all triples of output pixel, kernel tap and input pixel that meet.
# * Its two gradients are the same meetings with each factor in turn on the left.
# * Stride and padding only change who meets whom. At borders fewer meet.
# * Fast convolutions are the same sums in another order: as a matrix product, or with fewer products (Winograd).
#
# ## Your engine
#
# Add `conv` to `tutorials/mine.py`, for a batch of images. The loops are right and slow; three lines of NumPy with
# `sliding_window_view` are right and fast. `python growing.py 5` tries four geometries.
#
# ## Further reading
#
# * V. Dumoulin, F. Visin, *A guide to convolution arithmetic for deep learning*,
#   [arXiv:1603.07285](https://arxiv.org/abs/1603.07285): animations of stride and padding.
# * A. Lavin, S. Gray, *Fast Algorithms for Convolutional Neural Networks*,
#   [arXiv:1509.09308](https://arxiv.org/abs/1509.09308): Winograd's trick.

# %% [markdown]
# ## Exercises
# **1.** The input gradient at stride 1 is itself a convolution: of dy, with the kernels turned by 180 degrees and
# input and output channels exchanged. What padding does it need? Write it with one call of `conv_forward`.
#
# Hint: which windows see an input pixel, and through which tap? At padding 0 the corner pixel is seen by one window
# only, so dy needs k - 1 zeros around it; each ring of padding saves one. k is w.shape[2].

# %%
def input_gradient(dy, w, padding):
    raise NotImplementedError

def check_input_gradient(input_gradient):
    for k, padding in ((3, 0), (3, 1), (3, 2), (5, 1), (5, 4), (1, 0)):
        w = rng.normal(size=(4, 3, k, k))
        dy = rng.normal(size=conv_forward(x, w, 1, padding).shape)
        answer, expected = input_gradient(dy, w, padding), conv_backward(dy, x, w, 1, padding)[0]
        where = f"{k}x{k} kernel, padding {padding}"
        assert answer.shape == x.shape, f"{where}: shape {answer.shape}, not {x.shape}"
        assert np.allclose(answer, expected), f"{where}: the shape is right, the numbers are not"

exercise(1, check_input_gradient, input_gradient)

# %% [markdown]
# **2.** Convolutions one after another: kernels k[0], k[1], ... (square), strides s[0], s[1], ... How many
# pixels of the image, along one axis, can one number after the last of them see?
#
# Hint: after a stride of 2, neighbours on the map are two pixels of the image apart; keep track of that distance from
# layer to layer.

# %%
def field_of_view(kernels, strides):
    raise NotImplementedError

def check_field_of_view(field_of_view):
    for kernels, strides in (((3,), (1,)), ((3, 3), (1, 1)), ((3, 3), (2, 1)), ((7, 3, 3), (2, 2, 1))):
        y = start = snn.Tensor(np.zeros((1, 1, 41, 41)), requires_grad=True)
        for k, s in zip(kernels, strides):
            y = ops.conv2d(y, snn.Tensor(np.ones((1, 1, k, k))), s, k // 2)
        y[0, 0, len(y.data[0, 0]) // 2, len(y.data[0, 0]) // 2].backward()
        seen = (start.grad[0, 0].sum(0) > 0).sum()
        assert field_of_view(kernels, strides) == seen, f"kernels {kernels}, strides {strides}: it is {seen}"

exercise(2, check_field_of_view, field_of_view)

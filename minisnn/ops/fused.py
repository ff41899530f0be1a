"""Batch norm, attention and neurons together: all that follows a convolution, in as few passes over memory as possible.

Axes: T time steps, N batch, P pixels, C channels; y is the convolution's output in memory, [T, N, P, C].
Symbols as in batch_norm.py (z = a * y + b), attention.py (w, rows [N, G, C]) and lif.py (u, h, s, sg); d<name> a gradient.

    s = lif(relu(w * z)) with attention, s = lif(z) without

The definition is the composition of the three operations in their own modules, and the tests compare this module with it. Time
here is spent moving numbers, not computing them, so the forward pass never writes z or w * z: it reads y and writes
spikes. The backward pass recomputes them from y, and carries a block of neurons through all time steps while it is in cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ledger, parallel
from ..engine import Function, Tensor, is_grad_enabled
from ..jit import kernel, parallel_kernel, prange
from ..surrogate import Surrogate, derivative_kernel
from .attention import DIMENSIONS, attention_scores, check_attention, feature_gradient_rows, record_attention
from .batch_norm import batch_norm_backward, check_batch_norm, input_gradient_terms, mean_and_variance, real_array
from .layout import channels_first_view, channels_last
from .lif import Neuron, charge, check_neurons, check_potentials, fires, reset, uncharge, unfire, unleak
from .plif import sigmoid

__all__ = ["norm_fire", "NormFire"]

BLOCK = 512  # neurons carried together through all time steps
PARTS = 4  # shares of a sample's pixels: more units of work than samples; a fixed number, whatever the number of threads


@parallel_kernel
def norm_pool_forward(sums, tops, y_tops, ties, y, a, b, by_time, by_pixel):
    # sums (float64, of y), tops (of z = a * y + b), y_tops (the y they come from), ties: [N, G, C]; y: [T, N, P, C]
    T, N, P, C = y.shape
    for n in prange(N):
        sums[n] = 0
        ties[n] = 0
        tops[n] = -np.inf
        for t in range(T):
            for p in range(P):
                g = t * by_time + p * by_pixel
                yp, sg, tg, yg, kg = y[t, n, p], sums[n, g], tops[n, g], y_tops[n, g], ties[n, g]
                for c in range(C):
                    z, top = a[c] * yp[c] + b[c], tg[c]
                    sg[c] += yp[c]
                    kg[c] = 1 if z > top else kg[c] + (z == top)
                    yg[c] = yp[c] if z > top else yg[c]
                    tg[c] = max(z, top)


# The loops of a block: M neurons, some pixels of all channels or some channels of one pixel. They are contiguous, and what
# belongs to a channel is repeated for each pixel ("tiled"), so every loop is a plain one over M. Only if the compiler sees
# that no two arrays overlap does it process several numbers at a time: so a block has one array, whose rows are a fixed
# distance apart.

ROW = BLOCK + 80  # not a power of two: the same place of all rows would share one set of the cache
A, B, MEAN, W, H, SG, SUM, PRODUCT, SCORE, LEAK, SIZE = (ROW * k for k in range(11))
# a, b, the mean and w, tiled; the potentials h, and in the backward pass their gradient; sg; totals of dz, of
# dz * (y - mean), of w's gradient in one step, and of the leak's gradient


@kernel
def tile(out, row):
    # out: [M], row: [C], repeated
    C = row.size
    for i in range(0, out.size, C):
        to = out[i : i + C]
        for c in range(C):
            to[c] = row[c]


@kernel
def copy(out, x):
    for i in range(out.size):
        out[i] = x[i]


@kernel
def current(rows, i, yi):
    return rows[A + i] * yi + rows[B + i]


@kernel
def gated_current(rows, i, yi, n):
    x = rows[W + i] * current(rows, i, yi)
    return n.zero if x <= n.zero else x  # so written NaN stays NaN


@kernel
def advance(rows, i, x, n):
    u = charge(rows[H + i], x, n)
    fired = fires(u, n)
    rows[H + i] = reset(u, fired, n)
    return u, fired


@kernel
def spikes_of(s, rows, y, gated, n):
    if gated:
        for i in range(y.size):
            _, s[i] = advance(rows, i, gated_current(rows, i, y[i], n), n)
    else:
        for i in range(y.size):
            _, s[i] = advance(rows, i, current(rows, i, y[i]), n)


@kernel
def potentials_of(u, rows, y, gated, n):
    if gated:
        for i in range(y.size):
            u[i], _ = advance(rows, i, gated_current(rows, i, y[i], n), n)
    else:
        for i in range(y.size):
            u[i], _ = advance(rows, i, current(rows, i, y[i]), n)


@kernel
def through_spike(rows, i, dsi, u, n):
    # the gradient of u
    return unfire(dsi, rows[H + i], u, n.one if fires(u, n) else n.zero, rows[SG + i], n)


@kernel
def add_leaks(rows, ds, u, before, y, begins, gated, n):
    # before: the potentials of the step before, unless this is the first
    for i in range(y.size):
        x = gated_current(rows, i, y[i], n) if gated else current(rows, i, y[i])
        h = n.v_rest if begins else reset(before[i], fires(before[i], n), n)
        rows[LEAK + i] += unleak(through_spike(rows, i, ds[i], u[i], n), h, x, n)


@kernel
def add_totals(rows, i, dz, yi):
    rows[SUM + i] += dz
    rows[PRODUCT + i] += dz * (yi - rows[MEAN + i])


@kernel
def retreat(dz, rows, ds, u, y, n):
    # one step back, without attention: x = z
    for i in range(y.size):
        rows[H + i], dx = uncharge(through_spike(rows, i, ds[i], u[i], n), n)
        add_totals(rows, i, dx, y[i])
        dz[i] = dx


@kernel
def retreat_gated(dz, rows, ds, u, y, n):
    # one step back through x = max(w * z, 0); two loops, each with few arrays
    for i in range(u.size):
        rows[H + i], rows[SG + i] = uncharge(through_spike(rows, i, ds[i], u[i], n), n)
    for i in range(y.size):
        z, w, dx = current(rows, i, y[i]), rows[W + i], rows[SG + i]
        d = dx if w * z > n.zero else n.zero
        rows[SCORE + i] = d * z
        add_totals(rows, i, d * w, y[i])
        dz[i] = d * w


@kernel
def add_all(total, x):
    for i in range(total.size):
        total[i] += x[i]


@kernel
def add_pixels(row, x):
    # row: [C] float64; x: [M]
    C = row.size
    for i in range(0, x.size, C):
        xi = x[i : i + C]
        for c in range(C):
            row[c] += xi[c]


@kernel
def scores_of(out, w, t, first, channels, by_time, by_pixel):
    # out: [M], the scores at time t of a block that begins with the pixel first; w: [G, C]; channels: a slice of C
    if by_time:
        out[:] = w[t, 0]
    elif by_pixel:
        C = w[first, channels].size
        for i in range(0, out.size, C):
            copy(out[i : i + C], w[first + i // C, channels])
    else:
        tile(out, w[0, channels])


@kernel
def all_finite(h):
    # A sum of terms that are 0 for every finite number and NaN for the others: unlike a condition, it vectorizes.
    total = h.dtype.type(0)
    for i in range(h.size):
        total += h[i] - h[i]
    return total == 0


@parallel_kernel
def norm_fire_forward(s, finite, state, y, a, b, w, gated, n, by_time, by_pixel):
    # s: bytes, y: [T, N, P * C]; a, b: [C]; w: [N, G, C] where gated; n: Neuron
    # state: [N, P * C], potentials before the first step, become those after the last; [0, 0] from rest, if nobody asks
    # finite: [N * PARTS] Booleans, whether the last potentials of a part are finite
    T, N, C = y.shape[0], y.shape[1], a.size
    P = y.shape[2] // C
    step = max(1, min(BLOCK // C, (P + PARTS - 1) // PARTS))  # pixels of a block; no more than a part has
    for task in prange(N * PARTS):
        k, part = task // PARTS, task % PARTS
        last = P * (part + 1) // PARTS
        rows = np.empty(SIZE, y.dtype)
        finite[task] = True
        for c in range(0, C, BLOCK):
            width = min(BLOCK, C - c)
            channels = slice(c, c + width)
            tile(rows[A : A + step * width], a[channels])
            tile(rows[B : B + step * width], b[channels])
            for first in range(P * part // PARTS, last, step):
                i, M = first * C + c, min(step, last - first) * width
                h, scores = rows[H : H + M], rows[W : W + M]
                h[:] = n.v_rest
                if state.size > 0:
                    copy(h, state[k, i : i + M])
                for t in range(T):
                    if gated and (t == 0 or by_time):
                        scores_of(scores, w[k], t, first, channels, by_time, by_pixel)
                    spikes_of(s[t, k, i : i + M], rows, y[t, k, i : i + M], gated, n)
                finite[task] &= all_finite(h)
                if state.size > 0:
                    copy(state[k, i : i + M], h)


@parallel_kernel
def norm_fire_backward(dz, dw, dleak, sums, ds, y, a, b, mean, w, gated, n, kind, alpha, by_time, by_pixel):
    # dz, ds, y: [T, N, P * C]; dw: float64 [N, PARTS, G, C], zero, w: [N, G, C], both where gated; a, b, mean: [C]
    # dleak: float64 [N * PARTS], zero, becomes the gradient of the leak; [0] if nobody asks
    # sums: float64 [N * PARTS, 2, C], zero, of dz and of dz * (y - mean), which batch norm's gradient needs
    T, N, C = y.shape[0], y.shape[1], a.size
    P = y.shape[2] // C
    step = max(1, min(BLOCK // C, (P + PARTS - 1) // PARTS))  # pixels of a block; no more than a part has
    for task in prange(N * PARTS):
        k, part = task // PARTS, task % PARTS
        last = P * (part + 1) // PARTS
        rows, potentials = np.empty(SIZE, y.dtype), np.empty((T, ROW), y.dtype)
        score_totals = np.empty((T if by_time else 1, ROW), y.dtype)
        for c in range(0, C, BLOCK):
            width = min(BLOCK, C - c)
            channels = slice(c, c + width)
            size = step * width
            tile(rows[A : A + size], a[channels])
            tile(rows[B : B + size], b[channels])
            tile(rows[MEAN : MEAN + size], mean[channels])
            rows[SUM : SUM + size] = 0
            rows[PRODUCT : PRODUCT + size] = 0
            rows[LEAK : LEAK + size] = 0
            score_totals[:, :size] = 0
            for first in range(P * part // PARTS, last, step):
                i, M = first * C + c, min(step, last - first) * width
                h, scores = rows[H : H + M], rows[W : W + M]
                h[:] = n.v_rest
                for t in range(T):  # the potentials, recomputed
                    if gated and (t == 0 or by_time):
                        scores_of(scores, w[k], t, first, channels, by_time, by_pixel)
                    potentials_of(potentials[t, :M], rows, y[t, k, i : i + M], gated, n)
                h[:] = 0
                for t in range(T - 1, -1, -1):
                    u, dst, yt = potentials[t, :M], ds[t, k, i : i + M], y[t, k, i : i + M]
                    derivative_kernel(kind, alpha, u, n.v_threshold, rows[SG : SG + M])
                    if gated and by_time:
                        scores_of(scores, w[k], t, first, channels, by_time, by_pixel)
                    if dleak.size > 0:
                        add_leaks(rows, dst, u, potentials[max(0, t - 1), :M], yt, t == 0, gated, n)
                    if gated:
                        retreat_gated(dz[t, k, i : i + M], rows, dst, u, yt, n)
                        add_all(score_totals[t * by_time, :M], rows[SCORE : SCORE + M])
                    else:
                        retreat(dz[t, k, i : i + M], rows, dst, u, yt, n)
                if gated and by_pixel:
                    for j in range(0, M, width):
                        copy(dw[k, part, first + j // width, channels], score_totals[0, j : j + width])
                    score_totals[0, :M] = 0
            add_pixels(sums[task, 0, channels], rows[SUM : SUM + size])
            add_pixels(sums[task, 1, channels], rows[PRODUCT : PRODUCT + size])
            if dleak.size > 0:
                for j in range(size):
                    dleak[task] += rows[LEAK + j]
            if gated and not by_pixel:
                for g in range(score_totals.shape[0]):
                    add_pixels(dw[k, part, g, channels], score_totals[g, :size])


@parallel_kernel
def norm_attention_backward(dz, y, a, b, slope, lift, tops, at_top, by_time, by_pixel):
    # batch_norm_backward where the pooled features contribute to dz; in place. dz, y: [T, N, P, C]
    # a, b, slope: [C]; lift (added to all entries of a row), tops, at_top (added to its maximum as well): [N, G, C]
    T, N, P, C = y.shape
    none = y.dtype.type(0.0)
    for task in prange(N * PARTS):
        k, part = task // PARTS, task % PARTS
        for t in range(T):
            for p in range(P * part // PARTS, P * (part + 1) // PARTS):
                g = t * by_time + p * by_pixel
                yp, dzp, liftp, topp, at_topp = y[t, k, p], dz[t, k, p], lift[k, g], tops[k, g], at_top[k, g]
                for c in range(C):
                    gain = at_topp[c] if a[c] * yp[c] + b[c] == topp[c] else none
                    dzp[c] = a[c] * dzp[c] - slope[c] * yp[c] + (liftp[c] + gain)


class NormFire(Function):
    """See ``norm_fire``."""

    makes_spikes = True
    op = "lif"

    learned = 0  # inputs after those of attention

    def forward(
        self, y, weight, bias, *attention, running_mean, running_var, training, momentum, eps, n, surrogate, dim, spiking, state
    ):
        if self.learned:
            self.leak = sigmoid(attention[-1])
            attention = attention[:-1]
            leak = y.dtype.type(self.leak)
            n = n._replace(leak=leak, gain=leak if n.decays else n.one)
        last = channels_last(y)
        y = last.reshape(last.shape[0], last.shape[1], -1, last.shape[-1])
        rows, real = y.reshape(-1, y.shape[-1]), y.dtype.type
        mean, var = mean_and_variance(rows, running_mean, running_var, training, momentum)
        a = weight / np.sqrt(var + eps)
        constants = [real_array(v, real) for v in (a, bias - a * mean, mean)]
        self.w, self.strides = np.empty((0, 0, 0), y.dtype), (0, 0)
        self.dimension: Any = None
        if dim is not None:
            self.attend(y, constants, attention, dim, spiking, last.shape[2:4])
        s, finite = np.empty(y.shape, np.uint8), np.empty(y.shape[1] * PARTS, np.bool_)
        flat = (*y.shape[:2], -1)
        gated = self.dimension is not None
        norm_fire_forward(s.reshape(flat), finite, state, y.reshape(flat), *constants[:2], self.w, gated, n, *self.strides)
        check_potentials(finite.all())
        ledger.record("batch_norm", "norm", mac=y.size)
        if self.recording:
            self.y, self.shape, self.constants, self.a, self.var, self.eps = y, last.shape, constants, a, var, eps
            self.training, self.n, self.surrogate = training, n, surrogate
        return channels_first_view(s.view(np.bool_).reshape(last.shape))

    def attend(self, y, constants, attention, dim, spiking, map_shape):
        """Scores of z, on a small tape of their own: ``backward`` goes through it once it knows the scores' gradient."""
        self.dimension = dimension = DIMENSIONS[dim]
        self.strides = dimension.strides
        T, N, P, C = y.shape
        sums = np.empty((N, dimension.rows(T, P), C))
        tops, y_tops, ties = np.empty((3,) + sums.shape, y.dtype)
        norm_pool_forward(sums, tops, y_tops, ties, y, *constants[:2], *self.strides)
        entries = y.size // (N * sums.shape[1] * C)  # that an element of a row represents
        z_sums = constants[0] * sums + constants[1].astype(np.float64) * entries
        top = dimension.to_places(tops, np.max)
        avg = dimension.to_places(z_sums, np.sum) * (top.size / y.size)
        self.tops = dimension.to_rows(top, C)
        ties = np.where(tops == self.tops, ties, 0)
        self.ties, self.rows = dimension.to_places(ties, np.sum), (sums, y_tops, ties, entries)
        self.features = Tensor(np.stack([avg.astype(y.dtype), top]), requires_grad=self.recording)
        self.attention = [Tensor(w, requires_grad=self.recording) for w in attention]
        record_attention(y.size, spiking)
        self.scores = attention_scores(self.features, self.attention, dim, spiking, map_shape)
        self.w = dimension.to_rows(self.scores.data, C)

    def backward(self, grad):
        y, (a, b, mean), dimension = self.y, self.constants, self.dimension
        T, N, P, C = y.shape
        ds, dz = channels_last(grad).reshape(y.shape), np.empty_like(y)
        sums = np.zeros((N * PARTS, 2, C))
        dw = np.zeros((N, PARTS) + self.w.shape[1:])
        dleak = np.zeros(N * PARTS if self.learned else 0)
        flat = (T, N, P * C)
        gated = dimension is not None
        norm_fire_backward(
            dz.reshape(flat),
            dw,
            dleak,
            sums,
            ds.reshape(flat),
            y.reshape(flat),
            a,
            b,
            mean,
            self.w,
            gated,
            self.n,
            self.surrogate.kind,
            self.surrogate.alpha,
            *self.strides,
        )
        attention: tuple[Any, ...] = ()
        if gated:
            dscores = dimension.to_places(dw.sum(1), np.sum).astype(y.dtype)
            for leaf in (self.features, *self.attention):
                leaf.grad = None
            self.scores.backward(dscores, retain_graph=True)  # freed with this node
            davg, dtop = feature_gradient_rows(self.features.grad, self.ties, dimension, y.shape)
            sums = np.concatenate([sums, self.feature_sums(davg, dtop, mean)])
            attention = tuple(w.grad for w in self.attention)
        sums, rows, real = sums.sum(0), y.size // C, y.dtype.type
        by_mean, by_std = np.zeros_like(sums)
        if self.training:
            by_mean, by_std = input_gradient_terms(*parallel.sums(sums, rows), self.a, self.var, self.eps)
        if not gated:
            flat = dz.reshape(rows, C)
            batch_norm_backward(flat, flat, y.reshape(rows, C), a, mean, real_array(by_mean, real), real_array(by_std, real))
        else:
            lift = real_array(a * davg + (by_std * mean - by_mean), real)
            norm_attention_backward(dz, y, a, b, real_array(by_std, real), lift, self.tops, a * dtop, *self.strides)
        dweight = real_array(sums[1] / np.sqrt(self.var + self.eps), real)
        learned = (np.asarray(dleak.sum() * self.leak * (1 - self.leak), y.dtype),) if self.learned else ()
        return (channels_first_view(dz.reshape(self.shape)), dweight, real_array(sums[0], real), *attention, *learned)

    def feature_sums(self, davg, dtop, mean):
        """The features' share of the sums that batch norm needs, of dz and of dz * (y - mean): [1, 2, C].

        From the rows that the forward pass kept: every entry of a row has the same davg, every tie the same y.
        """
        y_sums, y_tops, ties, entries = self.rows
        by_mean = davg * float(entries) + dtop * ties
        by_std = davg * (y_sums - entries * mean.astype(np.float64)) + dtop * ties * (y_tops - mean)
        return np.stack([by_mean.sum((0, 1)), by_std.sum((0, 1))])[None]


class NormFireIF(NormFire):
    """See ``norm_fire``: neurons without a leak."""

    op = "if"


class NormFirePLIF(NormFire):
    """See ``norm_fire``: neurons with a learned leak."""

    op = "plif"
    learned = 1


def norm_fire(
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    n: Neuron,
    surrogate: Surrogate,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    dim: str | None = None,
    attention: Sequence[Tensor] = (),
    spiking: bool = False,
    h0: Tensor | np.ndarray | None = None,
    return_state: bool = False,
    w: Tensor | None = None,
) -> Any:
    """lif(attention(batch_norm(y))), or lif(batch_norm(y)) if ``dim`` is None, in one operation.

    Equal to the composition of ``batch_norm``, ``attention`` and ``lif``, whose arguments these are, in a third of the time
    and half the memory.

    Args:
        y: output of a convolution, [T, N, C, H, W].
        weight, bias, running_mean, running_var, training, momentum, eps: as for ``batch_norm``.
        n, surrogate: constants of the neurons (``lif.neuron``) and their surrogate.
        dim, attention, spiking: dimension, weights and kind of attention, as for ``attention``.
        w: of shape [], makes it ``plif`` with that parameter, whatever the leak of ``n``; a leak of 0 makes it ``if_``.
        h0, return_state: as for ``lif``, but only where no gradient is recorded: the backward loop begins at rest.

    Returns:
        Spikes, [T, N, C, H, W]; with ``return_state`` (spikes, potential [N, C, H, W]).

    Raises:
        ValueError, TypeError, FloatingPointError: as those operations do.
        RuntimeError: h0 or return_state where a gradient is recorded.
    """
    if y.ndim != 5:
        raise ValueError(f"norm_fire: y has shape {y.shape}; give [T, N, C, H, W]")
    check_batch_norm(y.shape, weight, bias, running_mean, running_var, training, momentum, eps)
    check_neurons(y, surrogate)
    if dim is not None:
        check_attention(y.shape, dim, attention)
    if w is not None and w.shape != ():
        raise ValueError(f"norm_fire: w has shape {w.shape}; give one number, or call the three operations")
    inputs = (y, weight, bias, *attention, *(() if w is None else (w,)))
    kind = NormFirePLIF if w is not None else NormFireIF if n.leak == 0 else NormFire
    state = np.empty((0, 0), y.dtype)  # of neurons that begin at rest, and whose last potentials nobody asks for
    if h0 is not None or return_state:
        if is_grad_enabled() and any(t.requires_grad for t in inputs):
            raise RuntimeError("norm_fire: h0 and return_state have no gradient; call it under no_grad()")
        N, C, H, W = y.shape[1:]
        state = np.full((N, H, W, C), n.v_rest, y.dtype)
        if h0 is not None:
            if np.shape(h0) != y.shape[1:]:
                raise ValueError(f"norm_fire: h0 has shape {np.shape(h0)}; for y of shape {y.shape} give {y.shape[1:]}")
            state[...] = channels_last(np.asarray(h0, y.dtype))
    s = kind.apply(
        *inputs,
        running_mean=running_mean,
        running_var=running_var,
        training=training,
        momentum=momentum,
        eps=eps,
        n=n,
        surrogate=surrogate,
        dim=dim,
        spiking=spiking,
        state=state.reshape(len(state), state[:1].size),
    )
    return (s, Tensor(channels_first_view(state))) if return_state else s

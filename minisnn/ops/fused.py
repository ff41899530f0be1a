"""Batch norm, attention and neurons together: what stands behind every convolution, in as few passes over memory as it needs.

Axes: T time steps, N batch, P pixels, C channels; y is the convolution's output in memory, [T, N, P, C].
Symbols as in batch_norm.py (z = a * y + b), attention.py (w, rows [N, G, C]) and lif.py (u, h, s, sg); d<name> a gradient.

    s = lif(relu(w * z)) with attention, s = lif(z) without

The definition is the composition of the three operations on their own pages, and the tests hold this page against it. Time
here goes into moving numbers, not into computing them, so the forward pass never writes z or w * z: it reads y and writes
spikes. The backward pass works them out of y again, and carries a block of neurons through all of time while it lies in cache.
"""

import numpy as np

from .. import ledger
from ..engine import Function, Tensor
from ..jit import parallel_kernel, prange
from ..surrogate import derivative_kernel
from .attention import (attention_scores, check_attention, feature_gradient_rows, groups, record_attention, strides_of,
                        to_places, to_rows)
from .batch_norm import batch_norm_backward, input_gradient_terms, real_array, statistics, update_running
from .layout import channels_first_view, channels_last
from .lif import charge

__all__ = ["norm_fire", "NormFire"]

BLOCK = 1024  # neurons carried together through all of time
PARTS = 4  # shares of a sample's pixels: more work to hand out than samples; a fixed number, whatever the number of threads


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


@parallel_kernel
def norm_fire_forward(s, y, a, b, w, gated, n, by_time, by_pixel):
    # s: bytes [T, N, P, C]; y: [T, N, P, C]; a, b: [C]; w: [N, G, C] where gated; n: Neuron
    T, N, P, C = y.shape
    step = max(1, BLOCK // C)
    for task in prange(N * PARTS):
        k, part = task // PARTS, task % PARTS
        h = np.empty((step, C), y.dtype)
        last = P * (part + 1) // PARTS
        for first in range(P * part // PARTS, last, step):
            h[:] = n.v_rest
            for t in range(T):
                for p in range(first, min(last, first + step)):
                    hp, yp, sp = h[p - first], y[t, k, p], s[t, k, p]
                    if gated:
                        wp = w[k, t * by_time + p * by_pixel]
                        for c in range(C):
                            u = charge(hp[c], max(wp[c] * (a[c] * yp[c] + b[c]), n.zero), n)
                            fired = u >= n.v_threshold
                            sp[c] = fired
                            hp[c] = n.keep * u + n.drop if fired else u
                    else:
                        for c in range(C):
                            u = charge(hp[c], a[c] * yp[c] + b[c], n)
                            fired = u >= n.v_threshold
                            sp[c] = fired
                            hp[c] = n.keep * u + n.drop if fired else u


@parallel_kernel
def norm_fire_backward(dz, dw, sums, ds, y, a, b, mean, w, gated, n, kind, alpha, by_time, by_pixel):
    # dz, ds, y: [T, N, P, C]; dw: float64 [N, PARTS, G, C], zero, w: [N, G, C], both where gated; a, b, mean: [C]
    # sums: float64 [N * PARTS, 2, C], of dz and of dz * (y - mean), which batch norm's gradient needs
    T, N, P, C = y.shape
    step = max(1, BLOCK // C)
    for task in prange(N * PARTS):
        k, part = task // PARTS, task % PARTS
        sums[task] = 0
        u = np.empty((T, step, C), y.dtype)
        sg, dh = np.empty((step, C), y.dtype), np.empty((step, C), y.dtype)
        near = np.empty((2, C), y.dtype)  # sums of one block
        last = P * (part + 1) // PARTS
        for first in range(P * part // PARTS, last, step):
            width = min(last, first + step) - first
            h = dh
            h[:] = n.v_rest
            for t in range(T):  # the potentials, once more
                for q in range(width):
                    hq, yq, uq = h[q], y[t, k, first + q], u[t, q]
                    if gated:
                        wq = w[k, t * by_time + (first + q) * by_pixel]
                        for c in range(C):
                            uq[c] = charge(hq[c], max(wq[c] * (a[c] * yq[c] + b[c]), n.zero), n)
                            hq[c] = n.keep * uq[c] + n.drop if uq[c] >= n.v_threshold else uq[c]
                    else:
                        for c in range(C):
                            uq[c] = charge(hq[c], a[c] * yq[c] + b[c], n)
                            hq[c] = n.keep * uq[c] + n.drop if uq[c] >= n.v_threshold else uq[c]
            dh[:] = 0
            near[:] = 0
            for t in range(T - 1, -1, -1):
                derivative_kernel(kind, alpha, u[t].reshape(-1)[: width * C], n.v_threshold, sg.reshape(-1)[: width * C])
                for q in range(width):
                    uq, sgq, dhq, yq = u[t, q], sg[q], dh[q], y[t, k, first + q]
                    dsq, dzq = ds[t, k, first + q], dz[t, k, first + q]
                    for c in range(C):  # as in lif_backward: through the reset, the step and the charge
                        s = n.one if uq[c] >= n.v_threshold else n.zero
                        dh_du = n.one - (n.one - n.keep) * s
                        dh_ds = n.drop - (n.one - n.keep) * uq[c]
                        du = dsq[c] * sgq[c] + dhq[c] * (dh_du + n.through_reset * dh_ds * sgq[c])
                        dzq[c] = n.gain * du
                        dhq[c] = (n.one - n.leak) * du
                    if gated:
                        g = t * by_time + (first + q) * by_pixel
                        wq, dwq = w[k, g], dw[k, part, g]
                        for c in range(C):  # relu(w * z)
                            z = a[c] * yq[c] + b[c]
                            d = dzq[c] if wq[c] * z > n.zero else n.zero
                            dzq[c] = d * wq[c]
                            dwq[c] += d * z
                    for c in range(C):
                        near[0, c] += dzq[c]
                        near[1, c] += dzq[c] * (yq[c] - mean[c])
            for c in range(C):
                sums[task, 0, c] += near[0, c]
                sums[task, 1, c] += near[1, c]


@parallel_kernel
def norm_attention_backward(dz, y, a, b, slope, lift, tops, at_top, by_time, by_pixel):
    # batch_norm_backward where the pooled features have a part in dz; in place. dz, y: [T, N, P, C]
    # a, b, slope: [C]; lift (what all entries of a row gain), tops, at_top (what its maximum gains besides): [N, G, C]
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

    def forward(self, y, weight, bias, *attention, running_mean, running_var, training, momentum, eps, n, surrogate, dim,
                spiking):
        last = channels_last(y)
        y = last.reshape(last.shape[0], last.shape[1], -1, last.shape[-1])
        rows, real = y.reshape(-1, y.shape[-1]), y.dtype.type
        if training:
            mean, var = statistics(rows)
            update_running(running_mean, running_var, mean, var, len(rows), momentum)
        else:
            mean, var = running_mean.astype(np.float64), running_var.astype(np.float64)
        a = weight / np.sqrt(var + eps)
        constants = [real_array(v, real) for v in (a, bias - a * mean, mean)]
        self.w, self.strides = np.empty((0, 0, 0), y.dtype), strides_of(dim)
        if dim is not None:
            self.attend(y, constants, attention, dim, spiking, last.shape[2:4])
        s = np.empty(y.shape, np.uint8)
        norm_fire_forward(s, y, *constants[:2], self.w, dim is not None, n, *self.strides)
        if ledger.is_open():
            with ledger.scope("norm", inner=True):
                ledger.record("batch_norm", mac=y.size)
            with ledger.scope("lif", inner=True):
                ledger.record("lif", spikes=int(np.count_nonzero(s)), neurons=s.size)
        if self.recording:
            self.y, self.shape, self.constants, self.a, self.var, self.eps = y, last.shape, constants, a, var, eps
            self.training, self.dim, self.n, self.surrogate = training, dim, n, surrogate
        return channels_first_view(s.view(np.bool_).reshape(last.shape))

    def attend(self, y, constants, attention, dim, spiking, map_shape):
        """Scores of z, on a small tape of their own: ``backward`` goes through it once it knows the scores' gradient."""
        T, N, P, C = y.shape
        sums = np.empty((N, groups(dim, T, P), C))
        tops, y_tops, ties = np.empty((3,) + sums.shape, y.dtype)
        norm_pool_forward(sums, tops, y_tops, ties, y, *constants[:2], *self.strides)
        entries = y.size // (N * sums.shape[1] * C)  # that a row's element stands for
        z_sums = constants[0] * sums + constants[1].astype(np.float64) * entries
        top = to_places(tops, dim, np.max)
        avg = to_places(z_sums, dim, np.sum) * (top.size / y.size)
        self.tops = to_rows(top, dim, C)
        ties = np.where(tops == self.tops, ties, 0)
        self.ties, self.rows = to_places(ties, dim, np.sum), (sums, y_tops, ties, entries)
        self.features = Tensor(np.stack([avg.astype(y.dtype), top]), requires_grad=self.recording)
        self.attention = [Tensor(w, requires_grad=self.recording) for w in attention]
        with ledger.scope("attention", inner=True):
            record_attention(y.size, spiking)
            self.scores = attention_scores(self.features, self.attention, dim, spiking, map_shape)
        self.w = to_rows(self.scores.data, dim, C)

    def backward(self, grad):
        y, (a, b, mean), dim = self.y, self.constants, self.dim
        T, N, P, C = y.shape
        ds, dz = channels_last(grad).reshape(y.shape), np.empty_like(y)
        sums = np.empty((N * PARTS, 2, C))
        dw = np.zeros((N, PARTS) + self.w.shape[1:])
        norm_fire_backward(dz, dw, sums, ds, y, a, b, mean, self.w, dim is not None, self.n, self.surrogate.kind,
                           self.surrogate.alpha, *self.strides)
        attention = ()
        if dim is not None:
            dscores = to_places(dw.sum(1), dim, np.sum).astype(y.dtype)
            for leaf in (self.features, *self.attention):
                leaf.grad = None
            self.scores.backward(dscores, retain_graph=True)  # freed with this node
            davg, dtop = feature_gradient_rows(self.features.grad, self.ties, dim, y.shape)
            sums = np.concatenate([sums, self.feature_sums(davg, dtop, mean)])
            attention = tuple(w.grad for w in self.attention)
        sums, rows, real = sums.sum(0), y.size // C, y.dtype.type
        by_mean, by_std = np.zeros_like(sums)
        if self.training:
            by_mean, by_std = input_gradient_terms(sums, self.a, self.var, self.eps, rows)
        if dim is None:
            flat = dz.reshape(rows, C)
            batch_norm_backward(flat, flat, y.reshape(rows, C), a, mean, real_array(by_mean, real), real_array(by_std, real))
        else:
            lift = real_array(a * davg + (by_std * mean - by_mean), real)
            norm_attention_backward(dz, y, a, b, real_array(by_std, real), lift, self.tops, a * dtop, *self.strides)
        dweight = real_array(sums[1] / np.sqrt(self.var + self.eps), real)
        return (channels_first_view(dz.reshape(self.shape)), dweight, real_array(sums[0], real), *attention)

    def feature_sums(self, davg, dtop, mean):
        """The features' part in the sums that batch norm needs, of dz and of dz * (y - mean): [1, 2, C].

        From the rows that the forward pass left: every entry of a row has the same davg, every tie the same y.
        """
        y_sums, y_tops, ties, entries = self.rows
        by_mean = davg * float(entries) + dtop * ties
        by_std = davg * (y_sums - entries * mean.astype(np.float64)) + dtop * ties * (y_tops - mean)
        return np.stack([by_mean.sum((0, 1)), by_std.sum((0, 1))])[None]


def norm_fire(y, weight, bias, running_mean, running_var, n, surrogate, training=True, momentum=0.1, eps=1e-5, dim=None,
              attention=(), spiking=False):
    """lif(attention(batch_norm(y))), or lif(batch_norm(y)) where ``dim`` is None, in one operation.

    Equal to the composition of ``batch_norm``, ``attention`` and ``lif``, whose arguments these are, at a third of the time
    and a half of the memory.

    Args:
        y: output of a convolution, [T, N, C, H, W].
        weight, bias, running_mean, running_var, training, momentum, eps: as for ``batch_norm``.
        n, surrogate: constants of the neurons (``lif.neuron``) and their surrogate.
        dim, attention, spiking: dimension, weights and kind of attention, as for ``attention``.

    Returns:
        Spikes, [T, N, C, H, W].

    Raises:
        ValueError: as those operations do.
    """
    if dim is not None:
        check_attention(y.shape, dim, attention)
    return NormFire.apply(y, weight, bias, *attention, running_mean=running_mean, running_var=running_var, training=training,
                          momentum=momentum, eps=eps, n=n, surrogate=surrogate, dim=dim, spiking=spiking)

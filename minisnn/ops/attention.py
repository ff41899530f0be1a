"""Synergistic attention: MA on the backbone, IA on the shortcuts, over time, channels or space; forward and backward.

Axes: T time steps, N batch, C channels, H height, W width, P = H * W pixels, K attended places (T, C or P of them).
Symbols: avg, top mean and maximum of x over everything but n and k; z the scores' logits; w the scores; d<name> a gradient.

Two shared dense layers (no bias) turn both pooled features into scores, in T and C (SN is a spiking neuron),

    W_T = SN(W_t1(ReLU(W_t0(AvgPool(X)))) + W_t1(ReLU(W_t0(MaxPool(X)))))                 (Eq. 7)
    W_C = SN(W_c1(ReLU(W_c0(AvgPool(X)))) + W_c1(ReLU(W_c0(MaxPool(X)))))                 (Eq. 8)

and in S a k x k convolution of both maps,

    W_S = SN(f_kxk[MaxPool(X); AvgPool(X)])                                               (Eq. 9)

The scores then scale the input,

    X_out = W_k X_in,  k in {T, C, S}                                                     (Eq. 10)

followed by a ReLU, which the published code has and Eq. 10 omits. For SN, IA takes a LIF neuron, so its scores are 0 or 1;
MA takes the sigmoid.

In memory a feature or a score is stored as rows [N, G, C]: G = T rows in dimension T, one row in C, P rows in S; what does not
depend on c is repeated along the row. So one loop over rows of channels serves all three dimensions.
What differs between the dimensions is a row of DIMENSIONS, which the layer, the network, the energy and the figures read
too: another dimension is another row, plus a case of ``scores_of`` in fused.py if its scores vary along something else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ledger
from ..engine import Function, Tensor
from ..jit import kernel, parallel_kernel, prange
from . import elementary
from .conv import conv2d
from .layout import channels_first_view, channels_last
from .lif import lif

__all__ = ["attention", "attention_scores", "pooled", "Dimension", "DIMENSIONS", "dimension_of"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dimension:
    """What has a score of its own. Subclasses define how the scores are computed."""

    words: str  # that name it: "attention over time"
    by_time: bool = False  # whether every time step has its own score; excludes the others
    by_pixel: bool = False
    by_channel: bool = False

    @property
    def strides(self) -> tuple[int, int]:
        """Row number g = t * by_time + p * by_pixel, as the loops compute it."""
        return self.by_time + 0, self.by_pixel + 0

    def rows(self, T: int, P: int) -> int:
        """G, the number of rows of a feature."""
        return (T if self.by_time else 1) * (P if self.by_pixel else 1)

    def places(self, T: int, P: int, C: int) -> int:
        """K, the number of scores of a sample."""
        return self.rows(T, P) * (C if self.by_channel else 1)

    def to_places(self, rows: np.ndarray, reduce: Callable[..., Any]) -> np.ndarray:
        """[N, G, C] -> [N, K]: reduce over the channels if they share a score."""
        return rows.reshape(len(rows), -1) if self.by_channel else reduce(rows, -1)

    def to_rows(self, places: np.ndarray, C: int) -> np.ndarray:
        """[N, K] -> contiguous [N, G, C]."""
        if self.by_channel:
            return np.ascontiguousarray(places.reshape(len(places), -1, C))
        return np.ascontiguousarray(np.repeat(places[:, :, None], C, -1))

    def weights(self, T: int, C: int, kernel: int) -> dict[str, Any]:
        """{name: (shape, fan-in)} of the weights, in the order in which ``attention`` takes them.

        Args:
            T, C: time steps and channels.
            kernel: side of a kernel.
        """
        raise NotImplementedError

    def check(self, shapes: list[tuple[int, ...]], shape: tuple[int, ...]) -> None:
        """Reject weights of these ``shapes`` for an input of ``shape``, [T, N, C, H, W]."""
        raise NotImplementedError

    def logits(self, features: Tensor, weights: Sequence[Tensor], map_shape: tuple[int, int]) -> Tensor:
        """[N, K] from Tensors: pooled features [2, N, K], mean and maximum, and weights; ``map_shape`` is (H, W)."""
        raise NotImplementedError

    def published_products(self, T: int, P: int, C: int, kernel: int) -> int:
        """Products of one module as the authors' scripts count them (see energy.py)."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedLayers(Dimension):
    """Two dense layers with a ReLU between them, shared by both features: Eq. 7 and 8. K must not depend on the map."""

    hidden: Callable[[int], int]  # number of hidden units, from K
    published_hidden: Callable[[int], int]  # the same in the authors' scripts

    def weights(self, T: int, C: int, kernel: int) -> dict[str, Any]:
        K = self.places(T, 1, C)
        hidden = self.hidden(K)
        return {"squeeze": ((hidden, K), K), "excite": ((K, hidden), hidden)}

    def check(self, shapes: list[tuple[int, ...]], shape: tuple[int, ...]) -> None:
        K = self.places(shape[0], 1, shape[2])
        if [len(s) for s in shapes] != [2, 2] or shapes[0] != shapes[1][::-1] or shapes[0][1] != K or 0 in shapes[0]:
            raise ValueError(
                f"attention over {self.words}: weights of shape {shapes} for x {shape}; give [hidden, {K}] and [{K}, hidden]"
            )

    def logits(self, features: Tensor, weights: Sequence[Tensor], map_shape: tuple[int, int]) -> Tensor:
        return SharedLogits.apply(features, *weights)

    def published_products(self, T: int, P: int, C: int, kernel: int) -> int:
        K = self.places(T, P, C)
        h = self.published_hidden(K)
        return (K - 1) * h + (h - 1) * K


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution(Dimension):
    """A convolution of the maps of both features: Eq. 9."""

    def weights(self, T: int, C: int, kernel: int) -> dict[str, Any]:
        return {"weight": ((1, 2, kernel, kernel), kernel * kernel)}

    def check(self, shapes: list[tuple[int, ...]], shape: tuple[int, ...]) -> None:
        if (
            len(shapes) != 1
            or len(shapes[0]) != 4
            or shapes[0][:2] != (1, 2)
            or shapes[0][2] != shapes[0][3]
            or shapes[0][2] % 2 == 0
        ):
            raise ValueError(f"attention over {self.words}: weights of shape {shapes}; give one kernel [1, 2, k, k] with k odd")

    def logits(self, features: Tensor, weights: Sequence[Tensor], map_shape: tuple[int, int]) -> Tensor:
        (kernel,) = weights
        maps = features.reshape(2, -1, *map_shape).transpose(1, 0, 2, 3)
        return conv2d(maps, kernel, padding=kernel.shape[-1] // 2, method="dense").reshape(features.shape[1:])

    def published_products(self, T: int, P: int, C: int, kernel: int) -> int:
        return (2 * kernel * kernel - 1) * P


DIMENSIONS = {
    "t": SharedLayers(words="time", by_time=True, hidden=lambda T: max(1, T // 4), published_hidden=lambda T: max(1, T // 4)),
    "c": SharedLayers(words="channels", by_channel=True, hidden=lambda C: min(8, C), published_hidden=lambda C: C // 8),
    "s": Convolution(words="space", by_pixel=True),
}


def dimension_of(dim: str) -> Dimension:
    """The row of an attention dimension. Raises ValueError if there is none."""
    if dim not in DIMENSIONS:
        raise ValueError(f"attention dimension is {dim!r}; give one of {', '.join(DIMENSIONS)}")
    return DIMENSIONS[dim]


# Serial, because there are few numbers: waking the threads would cost more. Plain sums, so that no sample depends on another.


@kernel
def shared_logits_forward(z, units, features, squeeze, excite):
    # z: [N, K] <- sum over both features of excite @ relu(squeeze @ feature); units: [2, N, J], what the ReLU lets through
    # features: [2, N, K]; squeeze: [J, K]; excite: [K, J]
    J, K = squeeze.shape
    zero = z.dtype.type(0)
    for n in range(z.shape[0]):
        for k in range(K):
            z[n, k] = zero
        for i in range(2):
            for j in range(J):
                total = zero
                for k in range(K):
                    total += features[i, n, k] * squeeze[j, k]
                units[i, n, j] = zero if total <= zero else total  # so written NaN stays NaN
            for k in range(K):
                total = zero
                for j in range(J):
                    total += units[i, n, j] * excite[k, j]
                z[n, k] += total


@kernel
def shared_logits_backward(dfeatures, dsqueeze, dexcite, dz, units, features, squeeze, excite):
    # the gradients start at 0; shapes as in shared_logits_forward
    J, K = squeeze.shape
    zero = dz.dtype.type(0)
    for i in range(2):
        for n in range(dz.shape[0]):
            for j in range(J):
                dunit = zero
                for k in range(K):  # z[n, k] += units[i, n, j] * excite[k, j]
                    dexcite[k, j] += dz[n, k] * units[i, n, j]
                    dunit += dz[n, k] * excite[k, j]
                if units[i, n, j] != zero:  # the ReLU let it through
                    for k in range(K):  # its input adds features[i, n, k] * squeeze[j, k]
                        dsqueeze[j, k] += dunit * features[i, n, k]
                        dfeatures[i, n, k] += dunit * squeeze[j, k]


@parallel_kernel
def pool_forward(sums, tops, ties, x, by_time, by_pixel):
    # sums (float64), tops, ties: [N, G, C]; x: [T, N, P, C]
    # ties: how many entries equal the top; they share its gradient
    T, N, P, C = x.shape
    for n in prange(N):
        sums[n] = 0
        ties[n] = 0
        tops[n] = -np.inf
        for t in range(T):
            for p in range(P):
                g = t * by_time + p * by_pixel
                for c in range(C):
                    v, top = x[t, n, p, c], tops[n, g, c]
                    sums[n, g, c] += v
                    ties[n, g, c] = 1 if v > top else ties[n, g, c] + (v == top)
                    tops[n, g, c] = max(v, top)


@parallel_kernel
def pool_backward(dx, davg, dtop, tops, x, by_time, by_pixel):
    # dx, x: [T, N, P, C]; davg, dtop (already divided by the number of entries, of ties), tops: [N, G, C]
    T, N, P, C = x.shape
    for n in prange(N):
        for t in range(T):
            for p in range(P):
                g = t * by_time + p * by_pixel
                for c in range(C):
                    dx[t, n, p, c] = davg[n, g, c] + (dtop[n, g, c] if x[t, n, p, c] == tops[n, g, c] else 0)


@parallel_kernel
def gate_forward(out, x, w, by_time, by_pixel):
    # out, x: [T, N, P, C]; w: [N, G, C]
    T, N, P, C = x.shape
    for n in prange(N):
        for t in range(T):
            for p in range(P):
                g = t * by_time + p * by_pixel
                for c in range(C):
                    v = w[n, g, c] * x[t, n, p, c]
                    out[t, n, p, c] = 0 if v <= 0 else v  # so written NaN stays NaN


@parallel_kernel
def gate_backward(dx, dw, dout, x, w, by_time, by_pixel):
    # dx, dout, x: [T, N, P, C]; dw (float64), w: [N, G, C]
    T, N, P, C = x.shape
    for n in prange(N):
        dw[n] = 0
        for t in range(T):
            for p in range(P):
                g = t * by_time + p * by_pixel
                for c in range(C):  # out = max(w * x, 0)
                    d = dout[t, n, p, c] if w[n, g, c] * x[t, n, p, c] > 0 else 0
                    dx[t, n, p, c] = d * w[n, g, c]
                    dw[n, g, c] += d * x[t, n, p, c]


def rows_of(x):
    """[T, N, C, H, W] -> contiguous [T, N, P, C]."""
    last = channels_last(x)
    return last.reshape(last.shape[0], last.shape[1], -1, last.shape[-1])


def pool_features(x, dimension):
    """Mean and maximum of [T, N, P, C] for each place, [2, N, K], and how many entries share each maximum, [N, K]."""
    T, N, P, C = x.shape
    sums = np.empty((N, dimension.rows(T, P), C))
    tops, ties = np.empty((2, *sums.shape), x.dtype)
    pool_forward(sums, tops, ties, x, *dimension.strides)
    top = dimension.to_places(tops, np.max)
    ties = dimension.to_places(np.where(tops == dimension.to_rows(top, C), ties, 0), np.sum)
    avg = dimension.to_places(sums, np.sum) * (top.size / x.size)
    return np.stack([avg.astype(x.dtype), top]), ties


def feature_gradient_rows(dfeatures, ties, dimension, shape):
    """What each entry of [T, N, P, C] receives of the features' gradient: rows of davg and of dtop, [N, G, C] each."""
    share = dfeatures.shape[1] * dfeatures.shape[2] / np.prod(shape)
    return (
        dimension.to_rows(dfeatures[0] * dfeatures.dtype.type(share), shape[-1]),
        dimension.to_rows(dfeatures[1] / ties, shape[-1]),
    )


class PoolFeatures(Function):
    """Mean and maximum of x [T, N, C, H, W] over all but the attended dimension: [2, N, K]."""

    def forward(self, x, dimension):
        self.dimension, self.shape, self.x = dimension, channels_last(x).shape, rows_of(x)
        self.features, self.ties = pool_features(self.x, dimension)
        return self.features

    def backward(self, grad):
        davg, dtop = feature_gradient_rows(grad, self.ties, self.dimension, self.x.shape)
        dx, tops = np.empty_like(self.x), self.dimension.to_rows(self.features[1], self.x.shape[-1])
        pool_backward(dx, davg, dtop, tops, self.x, *self.dimension.strides)
        return channels_first_view(dx.reshape(self.shape))


class SharedLogits(Function):
    """Logits [N, K] from features [2, N, K] by the two layers that both features share."""

    def forward(self, features, squeeze, excite):
        self.arrays = [np.ascontiguousarray(a) for a in (features, squeeze, excite)]
        _, N, K = features.shape
        z, self.units = np.empty((N, K), self.dtype), np.empty((2, N, len(squeeze)), self.dtype)
        shared_logits_forward(z, self.units, *self.arrays)
        ledger.record("linear", "linear", mac=2 * features.size * len(squeeze))
        return z

    def backward(self, grad):
        gradients = tuple(np.zeros_like(a) for a in self.arrays)
        shared_logits_backward(*gradients, np.ascontiguousarray(grad), self.units, *self.arrays)
        return gradients


class Gate(Function):
    """relu(w * x), with one score w [N, K] for each place."""

    def forward(self, x, w, dimension):
        self.dimension, self.shape, self.x = dimension, channels_last(x).shape, rows_of(x)
        self.w = dimension.to_rows(w, x.shape[2])
        out = np.empty_like(self.x)
        gate_forward(out, self.x, self.w, *dimension.strides)
        return channels_first_view(out.reshape(self.shape))

    def backward(self, grad):
        dx, dw = np.empty_like(self.x), np.empty(self.w.shape)
        gate_backward(dx, dw, rows_of(grad), self.x, self.w, *self.dimension.strides)
        return channels_first_view(dx.reshape(self.shape)), self.dimension.to_places(dw, np.sum).astype(self.dtype)


def attention_scores(
    features: Tensor, weights: Sequence[Tensor], dim: str, spiking: bool, map_shape: tuple[int, int], **neuron: Any
) -> Tensor:
    """Scores [N, K] from the pooled features [2, N, K]: Eq. 7 (t), Eq. 8 (c) or Eq. 9 (s).

    Args:
        features: Tensor, mean and maximum for each place.
        weights: Tensors: squeeze [hidden, K] and excite [K, hidden] in t and c; one kernel [1, 2, k, k] in s.
        dim: "t", "c" or "s".
        spiking: True for IA, whose scores are spikes; False for MA, whose scores are sigmoids.
        map_shape: (H, W), for s.
        **neuron: constants of the LIF neuron, as for ``lif``.

    Returns:
        Tensor [N, K].
    """
    dimension = DIMENSIONS[dim]
    with ledger.only("attention"):
        z = dimension.logits(features, weights, map_shape)
        if not spiking:
            return elementary.sigmoid(z)
        if dimension.by_time:  # the neuron integrates along T, each sample from rest
            return lif(z.transpose(1, 0), **neuron).transpose(1, 0)
        return lif(z.reshape(1, *z.shape), **neuron).reshape(*z.shape)  # T is pooled away: one step from rest


def attention(x: Tensor, dim: str, *weights: Tensor, spiking: bool = False, **neuron: Any) -> Tensor:
    """Attention over time, channels or space: MA (sigmoid scores) or, with ``spiking``, IA (scores 0 or 1).

    out = relu(W * x) with the scores W of Eq. 7, 8 or 9 (in the module docstring), repeated over the other axes (Eq. 10).

    Args:
        x: [T, N, C, H, W], the output of a batch norm.
        dim: "t", "c" or "s".
        weights: squeeze [hidden, K] and excite [K, hidden] (K = T or C), or for "s" one kernel [1, 2, k, k], k odd.
        spiking: whether the scores come from LIF neurons.
        **neuron: their constants, as for ``lif``.

    Returns:
        Tensor of x's shape, never negative.

    Raises:
        ValueError: an unknown dimension, or weights that do not fit.

    Differs from the authors' code: there IA's neurons integrate over the batch axis, so that a potential leaks from one
    sample of a batch into the next. Here every sample starts from rest.
    """
    check_attention(x.shape, dim, weights)
    record_attention(x.size, spiking)
    w = attention_scores(pooled(x, dim), weights, dim, spiking, x.shape[3:], **neuron)
    return Gate.apply(x, w, dimension=DIMENSIONS[dim])


def pooled(x: Tensor, dim: str) -> Tensor:
    """Mean and maximum of a Tensor [T, N, C, H, W] for each place: a Tensor [2, N, K]."""
    return PoolFeatures.apply(x, dimension=DIMENSIONS[dim])


def record_attention(entries, spiking):
    """The mean adds every entry once; a sigmoid's score multiplies every entry, a spiking one only lets it pass."""
    if ledger.is_open():
        ledger.record("attention", "attention", ac=entries, mac=0 if spiking else entries)


def check_attention(shape, dim, weights):
    """Reject weights that do not fit an input of ``shape``, [T, N, C, H, W]."""
    dimension = dimension_of(dim)
    if len(shape) != 5 or 0 in shape:
        raise ValueError(f"attention: x has shape {shape}; give [T, N, C, H, W], none of them 0")
    dimension.check([w.shape for w in weights], shape)

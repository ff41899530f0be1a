"""Spikes in memory: which arrays hold them, how many there are, where they are, and how many additions they trigger.

Axes: B images (time steps x batch), H height, W width, C channels; spikes x [B, H, W, C], bytes 0 or 1, C-contiguous.
"""

from __future__ import annotations

import functools
from collections import namedtuple

import numpy as np

from ..jit import kernel, parallel_kernel, prange
from .layout import Window, output_size

__all__ = ["as_spikes", "spikes_per_image", "Events", "find_events", "taps_inside", "accumulations"]

Events = namedtuple("Events", "offsets positions channels spikes")

# For a byte whose bits are eight neighboring spikes: the numbers of the set bits, in order, and how many there are.
_BITS = np.zeros((256, 8), np.int32)
_COUNT = np.zeros(256, np.uint64)
for _byte in range(256):
    _set = [_bit for _bit in range(8) if _byte >> _bit & 1]
    _BITS[_byte, : len(_set)] = _set
    _COUNT[_byte] = len(_set)


# ---- which arrays hold spikes, and how many --------------------------------------------------------------------------


@kernel
def spike_bytes(out, x):
    # out: [M] bytes; x: [M] numbers. False as soon as one is neither 0 nor 1.
    for i in range(x.size):
        if x[i] == 0:
            out[i] = 0
        elif x[i] == 1:
            out[i] = 1
        else:
            return False
    return True


def as_spikes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[B, H, W, C] as bytes 0 or 1, and whether each image holds nothing else; if it does, its bytes are meaningless."""
    if x.dtype == np.uint8:
        return x, np.ones(len(x), bool)
    out = np.empty(x.shape, np.uint8)
    return out, np.array([spike_bytes(out[b].reshape(-1), x[b].reshape(-1)) for b in range(len(x))])


@parallel_kernel
def _count_spikes(counts, x):
    for b in prange(x.shape[0]):
        image = x[b].reshape(-1)
        n = 0
        for p in range(image.size):
            n += np.int64(image[p])  # for plain Python too, where a sum of bytes would stay a byte
        counts[b] = n


def spikes_per_image(x: np.ndarray) -> np.ndarray:
    """How many of the bytes 0 or 1 of each image [B, ...] are 1: int64 [B]."""
    counts = np.empty(len(x), np.int64)
    _count_spikes(counts, x)
    return counts


# ---- where they are --------------------------------------------------------------------------------------------------


@kernel
def list_spikes_loops(offsets, positions, x, n):
    # The definition: offsets[H, W + 1], positions[n...] <- the spikes of one image x[H * W * C], of which the first is
    # number n of the list. No branch: every place is written, and only a spike advances to the next.
    H, W = offsets.shape[0], offsets.shape[1] - 1
    C = x.size // (H * W)
    p = 0
    for iy in range(H):
        for ix in range(W):
            offsets[iy, ix] = n
            for c in range(C):
                positions[n] = ix * C + c
                n += np.uint64(x[p])
                p += 1
        offsets[iy, W] = n


@kernel
def list_spikes_by_words(offsets, positions, x, n, bits, count):
    # Like list_spikes_loops, if C is a multiple of 8: x holds words of eight bytes, and a table gives the positions of the
    # spikes of a word. All eight places are written, and the next word overwrites the unused ones.
    H, W = offsets.shape[0], offsets.shape[1] - 1
    words = x.size // (H * W)
    p = np.uint64(0)
    for iy in range(H):
        position = np.int32(0)
        for ix in range(W):
            offsets[iy, ix] = n
            for _ in range(words):
                word = x[p]
                p += np.uint64(1)
                word |= word >> np.uint64(7)  # the low bits of the eight bytes gather in the lowest byte
                word |= word >> np.uint64(14)
                word |= word >> np.uint64(28)
                byte = word & np.uint64(255)
                p0, p1, p2, p3 = bits[byte, 0], bits[byte, 1], bits[byte, 2], bits[byte, 3]
                p4, p5, p6, p7 = bits[byte, 4], bits[byte, 5], bits[byte, 6], bits[byte, 7]
                positions[n] = p0 + position
                positions[n + np.uint64(1)] = p1 + position
                positions[n + np.uint64(2)] = p2 + position
                positions[n + np.uint64(3)] = p3 + position
                positions[n + np.uint64(4)] = p4 + position
                positions[n + np.uint64(5)] = p5 + position
                positions[n + np.uint64(6)] = p6 + position
                positions[n + np.uint64(7)] = p7 + position
                n += count[byte]
                position = np.int32(position + 8)
        offsets[iy, W] = n


@parallel_kernel
def _list_spikes(offsets, positions, x, first, bits, count):
    for b in prange(x.shape[0]):
        if x.shape[3] % 8 == 0:
            list_spikes_by_words(offsets[b], positions, x[b].reshape(-1).view(np.uint64), np.uint64(first[b]), bits, count)
        else:
            list_spikes_loops(offsets[b], positions, x[b].reshape(-1), np.uint64(first[b]))


def find_events(x: np.ndarray) -> Events:
    """List the spikes of every image, pixel by pixel; made once in the forward pass, used again in the backward.

    Args:
        x: spikes, uint8 or bool 0/1, [B, H, W, C], C-contiguous.

    Returns:
        Events(offsets, positions, channels, spikes). offsets, int64 [B, H, W + 1]: the events of row iy of image b in columns
        ix0 <= ix < ix1 are positions[offsets[b, iy, ix0]:offsets[b, iy, ix1]]. positions, int32: ix * C + c, in ascending
        order; between images there are 8 unused places. channels: C. spikes: how many there are.

    Raises:
        ValueError: x is not a C-contiguous array of bytes with 4 axes.
    """
    if x.ndim != 4 or x.itemsize != 1 or not x.flags.c_contiguous:
        raise ValueError(f"spikes must be a C-contiguous uint8 array [B, H, W, C], not {x.dtype} {x.shape}")
    x = x.view(np.uint8)
    B, H, W, C = x.shape
    counts = spikes_per_image(x)
    first = np.cumsum(counts + 8) - (counts + 8)
    spikes = int(counts.sum())
    offsets = np.empty((B, H, W + 1), np.int64)
    positions = np.empty(spikes + 8 * B + 8, np.int32)
    _list_spikes(offsets, positions, x, first, _BITS, _COUNT)
    return Events(offsets, positions, C, spikes)


# ---- how many additions they trigger ---------------------------------------------------------------------------------


def times_seen(size, k, stride, pad):
    """By how many output pixels each pixel along one axis is seen: [size]."""
    at = (np.arange(output_size(size, k, stride, pad))[:, None] * stride + np.arange(k) - pad).ravel()
    return np.bincount(at[(at >= 0) & (at < size)], minlength=size)


def times_seen_by_axis(H, W, window):
    """``times_seen`` of the rows and of the columns of maps of H x W; a pixel is seen by the product of the two."""
    return (times_seen(H, window.kh, window.stride_h, window.pad_h), times_seen(W, window.kw, window.stride_w, window.pad_w))


@functools.lru_cache(maxsize=256)
def taps_inside(H: int, W: int, window: Window) -> int:
    """How many (output pixel, kernel tap) pairs meet a pixel inside a map of H x W."""
    rows, columns = times_seen_by_axis(H, W, window)
    return int(rows.sum() * columns.sum())


def accumulations(x: np.ndarray, Cout: int, window: Window) -> int:
    """Additions of a weight triggered by the spikes x [B, H, W, C], borders exact: counted without convolving."""
    rows, columns = times_seen_by_axis(x.shape[1], x.shape[2], window)
    fired = x.sum((0, 3), dtype=np.int64)  # [H, W]
    return int(rows @ fired @ columns) * Cout

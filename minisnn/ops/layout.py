"""Where the numbers are in memory, and which pixels meet: public arrays are [T, N, C, H, W], memory is channels last.

Axes: T time steps, N batch, B = T * N images, C channels, H height, W width; Ho, Wo height and width of an output.

With the channels of a pixel side by side in memory, one spike adds one contiguous row of weights, batch norm reads whole rows
of channels, and a matrix product needs no transposition. So operations work on contiguous [..., H, W, C] arrays and return
views of them with the axes in the public order; converting back and forth between operations costs nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = [
    "Window",
    "output_size",
    "channels_last",
    "channels_first_view",
    "images",
    "public",
    "to_memory",
    "from_memory",
    "by_time",
]


def output_size(size: int, k: int, stride: int, pad: int) -> int:
    """Output pixels along one axis: how many places a window of k pixels can take."""
    return (size + 2 * pad - k) // stride + 1


class Window(NamedTuple):
    """Kernel size, stride and zero padding of a convolution, in pixels; compiled loops take it as one argument.

    Under tap (ky, kx) of the kernel, output pixel (oy, ox) sees input pixel (iy, ix) with

        iy = oy * stride_h + ky - pad_h,    ix = ox * stride_w + kx - pad_w
    """

    kh: int
    kw: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int

    def output_shape(self, H: int, W: int) -> tuple[int, int]:
        """(Ho, Wo) for maps of H x W."""
        return (output_size(H, self.kh, self.stride_h, self.pad_h), output_size(W, self.kw, self.stride_w, self.pad_w))


def channels_last(x: np.ndarray) -> np.ndarray:
    """[..., C, H, W] -> contiguous [..., H, W, C]; a copy only if the memory is not already in that order."""
    n = x.ndim
    return np.ascontiguousarray(x.transpose(*range(n - 3), n - 2, n - 1, n - 3))


def channels_first_view(x: np.ndarray) -> np.ndarray:
    """[..., H, W, C] -> a view [..., C, H, W]."""
    n = x.ndim
    return x.transpose(*range(n - 3), n - 1, n - 3, n - 2)


def images(x: np.ndarray) -> np.ndarray:
    """[..., C, H, W] -> contiguous [B, H, W, C]; spikes as bytes."""
    last = channels_last(x)
    last = last.view(np.uint8) if last.dtype == np.bool_ else last
    return last.reshape(-1, *last.shape[-3:])


def public(y: np.ndarray, lead: tuple[int, ...]) -> np.ndarray:
    """[B, H, W, C] -> a view [..., C, H, W] with the leading axes of the input."""
    return channels_first_view(y.reshape(lead + y.shape[1:]))


def to_memory(x: np.ndarray) -> np.ndarray:
    """A contiguous array in memory order: maps (4 axes or more) channels last, anything else as it is."""
    return channels_last(x) if x.ndim >= 4 else np.asarray(x, order="C")


def from_memory(x: np.ndarray) -> np.ndarray:
    """The public view of what ``to_memory`` returned."""
    return channels_first_view(x) if x.ndim >= 4 else x


def by_time(x: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """[T, ...] -> [T, M] in memory order, and the shape in memory, which ``from_memory`` needs to go back."""
    last = to_memory(x)
    return last.reshape(last.shape[0], -1), last.shape

"""Where the numbers lie: public arrays are [T, N, C, H, W], memory is channels last.

Axes: T time steps, N batch, C channels, H height, W width.

With the channels of a pixel side by side in memory, one spike adds one contiguous row of weights, batch norm reads whole rows
of channels, and a matrix product needs no transposition. So operations work on contiguous [..., H, W, C] arrays and hand out
views of them with the axes in the public order; going back and forth between operations costs nothing.
"""

import numpy as np

__all__ = ["channels_last", "channels_first_view", "to_memory", "from_memory", "by_time"]


def channels_last(x):
    """[..., C, H, W] -> contiguous [..., H, W, C]; a copy only where the memory is not in that order already."""
    return np.ascontiguousarray(np.moveaxis(x, -3, -1))


def channels_first_view(x):
    """[..., H, W, C] -> a view [..., C, H, W]."""
    return np.moveaxis(x, -1, -3)


def to_memory(x):
    """A contiguous array in the order of the memory: maps (4 axes or more) channels last, anything else as it is."""
    return channels_last(x) if x.ndim >= 4 else np.asarray(x, order="C")


def from_memory(x):
    """The public view of what ``to_memory`` made."""
    return channels_first_view(x) if x.ndim >= 4 else x


def by_time(x):
    """[T, ...] -> [T, M] in the order of the memory, and the shape in memory, with which ``from_memory`` goes back."""
    last = to_memory(x)
    return last.reshape(last.shape[0], -1), last.shape

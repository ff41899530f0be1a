"""What the two methods of computing a convolution of spikes cost, so that ``method="auto"`` can choose before it computes.

A time is a sum of simple counts, each at a price in nanoseconds; the prices are least-squares fits to timings of some 600
random shapes at four densities, on two threads of a server CPU with AVX-512. Only their ratios matter, and those change
little from one CPU to the next. The choice depends only on the shapes and the number of spikes, so the same run makes the
same choices.

Counts: B images; H, W input and Ho, Wo output pixels along each side; Cin, Cout channels; taps: (output pixel, kernel tap)
pairs inside the map.
"""

from __future__ import annotations

import math

from ..types import DType
from .event_conv import lanes_for
from .layout import Window
from .spikes import taps_inside
from .winograd import tile_points, winograd_fits

__all__ = ["events_pay_forward", "events_pay_backward"]


def events_pay_forward(spikes: int, x_shape: tuple[int, ...], Cout: int, window: Window, dtype: DType) -> bool:
    """Whether adding a weight row for each of ``spikes`` is expected to be faster than multiplying everything.

    Args:
        spikes: how many inputs fired.
        x_shape: (B, H, W, Cin).
        Cout: output channels.
        window: Window.
        dtype: of the numbers.
    """
    B, H, W, Cin = x_shape
    taps_of_kernel = window.kh * window.kw
    if taps_of_kernel == 1 or Cin < 8:  # the dense loops gain nothing here, however many fire
        return True
    (Ho, Wo), taps = window.output_shape(H, W), taps_inside(H, W, window)
    weights, lanes = taps_of_kernel * Cin * Cout, lanes_for(Cout)
    chunks = math.ceil(Cout / lanes)
    seen = spikes * taps / (H * W)  # rows added, if spikes are spread evenly
    addition = 0.0175 if taps_of_kernel * Cin < 1024 else 0.0215  # a larger table comes from a slower cache
    event = addition * seen * chunks * lanes + 8.8 * B * Ho * Wo * chunks + 0.074 * B * H * W * Cin + 0.29 * weights + 26e3
    if winograd_fits(W, Cin, Cout, window, dtype):
        points = B * tile_points(H) * tile_points(W)
        dense = points * (0.0122 * Cin * Cout + 0.093 * (Cin + Cout) + 11.7) + 0.117 * B * H * W * Cin + 1.0 * weights + 23e3
    else:
        dense = B * taps * (0.0099 * Cin * Cout + 0.018 * (Cin + Cout) + 14.3) + 0.74 * B * H * W * Cin + 0.91 * weights + 15e3
    return event < dense


def events_pay_backward(spikes: int, x_shape: tuple[int, ...], Cout: int, window: Window) -> bool:
    """The same for the weight gradient; arguments as for ``events_pay_forward``."""
    B, H, W, Cin = x_shape
    (Ho, Wo), taps = window.output_shape(H, W), taps_inside(H, W, window)
    weights, lanes = window.kh * window.kw * Cin * Cout, lanes_for(Cout)
    chunks = math.ceil(Cout / lanes)
    event = (
        0.025 * spikes * taps / (H * W) * chunks * lanes
        + 1.66 * spikes
        + 0.074 * B * Ho * Wo * chunks * lanes
        + 0.47 * weights
        + 38 * B
        + 19e3
    )
    dense = B * Ho * Wo * window.kh * window.kw * Cin * (0.0102 * Cout + 0.254) + 0.56 * B * H * W * Cin + 4.6 * weights + 8e3
    return event < dense

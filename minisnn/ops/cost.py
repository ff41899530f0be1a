"""What the two ways of computing a convolution of spikes cost, so that ``method="auto"`` can choose before it computes.

Times are sums of simple counts, each at a price in nanoseconds; the prices are least-squares fits to timings of some 600 random
shapes at four densities, on two threads of a server CPU with AVX-512. Only their ratios matter, and those change little
from one CPU to the next. The choice depends on shapes and on the number of spikes alone, so the same run makes the same
choices.

Counts: B images; H, W input and Ho, Wo output pixels of a side; taps: (output pixel, kernel tap) pairs inside the map.
"""

import math

from .event_conv import LANES
from .winograd import tile_points, winograd_fits

__all__ = ["events_pay_forward", "events_pay_backward"]


def events_pay_forward(spikes, B, H, W, Ho, Wo, taps, w_shape, window, dtype):
    """Whether adding a weight row for each of ``spikes`` is expected to be faster than multiplying everything.

    Args:
        spikes: how many inputs fired.
        B, H, W, Ho, Wo, taps: as in the head of this file.
        w_shape: (kh, kw, Cin, Cout).
        window: (stride_h, stride_w, pad_h, pad_w).
        dtype: of the numbers.
    """
    kh, kw, cin, cout = w_shape
    if kh * kw == 1 or cin < 8:  # the dense loops gain nothing there, however many fire
        return True
    weights, chunks = kh * kw * cin * cout, math.ceil(cout / LANES)
    seen = spikes * taps / (H * W)  # rows added, if spikes are spread evenly
    addition = 0.0175 if kh * kw * cin < 1024 else 0.0215  # more rows than that come from a slower cache
    event = addition * seen * chunks * LANES + 8.8 * B * Ho * Wo * chunks + 0.074 * B * H * W * cin + 0.29 * weights + 26e3
    if winograd_fits(W, w_shape, window, dtype):
        points = B * tile_points(H) * tile_points(W)
        dense = points * (0.0122 * cin * cout + 0.093 * (cin + cout) + 11.7) + 0.117 * B * H * W * cin + 1.0 * weights + 23e3
    else:
        dense = B * taps * (0.0099 * cin * cout + 0.018 * (cin + cout) + 14.3) + 0.74 * B * H * W * cin + 0.91 * weights + 15e3
    return event < dense


def events_pay_backward(spikes, B, H, W, Ho, Wo, taps, w_shape):
    """The same for the weight gradient; arguments as for ``events_pay_forward``."""
    kh, kw, cin, cout = w_shape
    weights, chunks = kh * kw * cin * cout, math.ceil(cout / LANES)
    event = (0.025 * spikes * taps / (H * W) * chunks * LANES + 1.66 * spikes + 0.074 * B * Ho * Wo * chunks * LANES
             + 0.47 * weights + 38 * B + 19e3)
    dense = B * Ho * Wo * kh * kw * cin * (0.0102 * cout + 0.254) + 0.56 * B * H * W * cin + 4.6 * weights + 8e3
    return event < dense

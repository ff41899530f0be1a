"""Figures of one sample: what an event camera saw, slice by slice, as a cloud and as a rate; or a still image.

Axes: T time steps, C channels, H height, W width; n events.
Readable without color vision: off is dark and on is light on gray, and where there are colors, markers and dashes differ too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .style import COLORS, DASHES, blank, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["polarity", "event_figure", "image_figure", "sound_figure", "gif_frames"]

MOST_SLICES = 32  # drawn individually; of more, an evenly spaced selection
MOST_POINTS = 4000  # of the cloud
BINS = 60  # of the rate
ON, OFF = COLORS[4], COLORS[0]  # a light orange and a dark blue


def polarity(frames: np.ndarray) -> np.ndarray:
    """On events minus off events of each pixel, scaled to -1 ... 1 by the value that 99 % of the active pixels stay within.

    Args:
        frames: [T, 2, H, W], counts: off, on.

    Returns:
        float32 [T, H, W].
    """
    balance = frames[:, 1].astype(np.float32) - frames[:, 0].astype(np.float32)
    active = np.abs(balance[balance != 0])
    return np.clip(balance / max(np.percentile(active, 99) if active.size else 1, 1), -1, 1)


@styled
def event_figure(
    events: np.ndarray, frames: np.ndarray, sensor: tuple[int, int], edges: np.ndarray | None = None, title: str = ""
) -> Figure:
    """Slices, cloud and rate of one sample.

    Args:
        events: structured array [n] with x, y, t (microseconds), p.
        frames: [T, 2, H, W], the input of the network.
        sensor: (height, width), pixels.
        edges: [T + 1], where the slices begin and end, microseconds; drawn in the plot of the rate.
        title: above the figure.
    """
    from matplotlib.ticker import MaxNLocator

    T = len(frames)
    chosen = np.unique(np.linspace(0, T - 1, min(T, MOST_SLICES)).round().astype(int))
    columns = min(8, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = blank(1.25 * columns + 1.0 if columns > 5 else 8, 1.45 * rows + 4.6)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.45 * rows + 0.5, 4.0))  # type: ignore[misc]
    panels = np.atleast_1d(top.subplots(rows, columns)).ravel()
    pictures = polarity(frames)
    for axes in panels:
        axes.set_axis_off()
    for axes, k in zip(panels, chosen):
        picture = axes.imshow(pictures[k], cmap="gray", vmin=-1, vmax=1)
        when = f"\n{edges[k] / 1000:.0f} to {edges[k + 1] / 1000:.0f} ms" if edges is not None else ""
        axes.set_title(f"slice {k + 1}{when}", fontsize=7)
    bar = top.colorbar(picture, ax=list(panels), shrink=0.8, pad=0.01, ticks=(-1, 0, 1))
    bar.ax.set_yticklabels(("off", "none or even", "on"), fontsize=7)
    top.suptitle(title)
    cloud = bottom.add_subplot(1, 2, 1, projection="3d")
    some = events[np.sort(np.random.default_rng(0).permutation(len(events))[:MOST_POINTS])]
    for p, marker, color, name in ((0, "v", OFF, "off"), (1, "^", ON, "on")):
        e = some[some["p"] == p]
        cloud.scatter(
            e["t"] / 1000, e["x"], e["y"], marker=marker, s=4, color=color, linewidths=0, label=name, depthshade=False
        )
    for axis in (cloud.xaxis, cloud.yaxis, cloud.zaxis):
        axis.set_major_locator(MaxNLocator(4))
        axis.set_tick_params(labelsize=7, pad=0)
    cloud.set(xlabel="t (ms)", ylabel="x (pixel)", zlabel="y (pixel)", ylim=(0, sensor[1]), zlim=(sensor[0], 0))
    cloud.set_title("Events" if len(some) == len(events) else f"{len(some):,} of {len(events):,} events")
    cloud.view_init(elev=18, azim=-60)
    cloud.set_box_aspect((1.6, 1, 1), zoom=0.85)
    cloud.legend(loc="upper left", markerscale=2.5)
    rate = bottom.add_subplot(1, 2, 2)
    start, stop = int(events["t"][0]), int(events["t"][-1]) + 1
    bins = np.linspace(start, stop, BINS + 1)
    for p, dash, color, name in ((0, DASHES[0], OFF, "off"), (1, DASHES[1], ON, "on")):
        counts, _ = np.histogram(events["t"][events["p"] == p], bins)
        rate.stairs(counts / (bins[1] - bins[0]) * 1000, bins / 1000, linestyle=dash, color=color, label=name, linewidth=1.5)
    if edges is not None:
        for edge in edges:
            rate.axvline(edge / 1000, color="0.8", linewidth=0.7, zorder=0)
    rate.set(
        xlabel="t (ms), slices between the gray lines" if edges is not None else "t (ms)",
        ylabel="events per millisecond",
        title="Event rate",
        ylim=(0, None),
        xlim=(start / 1000, stop / 1000),
    )
    rate.legend()
    return figure


@styled
def image_figure(image: np.ndarray, title: str = "") -> Figure:
    """A still image [C, H, W]: its first channel, or its three channels as colors."""
    figure = blank(4.2, 3.6)
    axes = figure.subplots()
    shown = axes.imshow(np.moveaxis(image, 0, -1).clip(0, 1) if len(image) == 3 else image[0], cmap="gray")
    axes.set(xlabel="x (pixel)", ylabel="y (pixel)")
    if len(image) != 3:
        figure.colorbar(shown, ax=axes, label="value given to the network")
    figure.suptitle(title)
    return figure


@styled
def sound_figure(frames: np.ndarray, seconds: float, title: str = "") -> Figure:
    """A recording of sound as spikes: which channel of the ear fired when, and how many did in each time step.

    Args:
        frames: [T, C] Booleans.
        seconds: duration of the T time steps together.
        title: above the figure.
    """
    T, C = frames.shape
    figure = blank(8, 5)
    raster, rate = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    at, channel = np.nonzero(frames)
    middles = (np.arange(T) + 0.5) * (1000 * seconds / T)
    raster.plot(middles[at], channel, ".", color=OFF, markersize=2)
    raster.set(ylabel="channel of the ear", ylim=(-0.5, C - 0.5), title="Spikes")
    rate.bar(middles, frames.sum(1), width=1000 * seconds / T, color=OFF)
    rate.set(xlabel="t (ms)", ylabel="channels\nthat fire", xlim=(0, 1000 * seconds))
    figure.suptitle(title)
    return figure


def gif_frames(frames: np.ndarray, side: int = 256) -> np.ndarray:
    """Frames [T, 2, H, W] as gray pictures: uint8 [T, H', W'], off dark, on light, enlarged to about ``side`` pixels."""
    grey = (127.5 + 127.5 * polarity(frames)).round().astype(np.uint8)
    factor = max(1, side // max(grey.shape[1:]))
    return grey.repeat(factor, 1).repeat(factor, 2)

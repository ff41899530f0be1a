"""Figures of timings: rows of bench.py in, matplotlib Figures out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from .. import bench, threads
from .style import COLORS, blank, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["conv_by_density", "cost_growth", "step_by_rate"]


def crossover(rows, event, dense):
    """The density at which the event-driven pass becomes slower than the dense one, by linear interpolation; or None."""
    for before, after in itertools.pairwise(rows):
        low, high = before[event] - before[dense], after[event] - after[dense]
        if low <= 0 < high:
            return before["density"] + (after["density"] - before["density"]) * low / (low - high)
    return None


@styled
def conv_by_density(rows: list[dict[str, Any]]) -> Figure:
    """Time against density for each shape, with the crossover marked."""
    figure = blank(15, 7)
    axes = figure.subplots(2, 4, sharex=True)
    for column, (c, h) in enumerate(bench.SHAPES):
        own = [r for r in rows if r["channels"] == c]
        for axis, title, event, dense, torch in (
            (axes[0, column], f"forward, {c} channels, {h}x{h}", "event_forward", "dense_forward", "forward"),
            (
                axes[1, column],
                f"weight gradient, {c} channels, {h}x{h}",
                "event_weight_gradient",
                "dense_weight_gradient",
                "weight_gradient",
            ),
        ):
            density = [100 * r["density"] for r in own]
            axis.plot(density, [1e3 * r[event] for r in own], "o-", color=COLORS[0], label="event-driven")
            axis.plot(density, [1e3 * r[dense] for r in own], "s--", color=COLORS[1], label="dense")
            if own[0]["torch"]:
                axis.plot(density, [1e3 * r["torch"][torch] for r in own], "^:", color="black", label="PyTorch (oneDNN)")
            at = crossover(own, event, dense)
            if at is not None:
                axis.axvline(100 * at, color="grey", lw=0.8)
                axis.text(
                    100 * at,
                    0.68,
                    f"crossover {100 * at:.0f}%",
                    transform=axis.get_xaxis_transform(),
                    ha="right",
                    va="center",
                    rotation=90,
                )
            axis.set_title(title, fontsize=10)
            axis.set_ylim(bottom=0)
        axes[1, column].set_xlabel("inputs that fire (%)")
    for axis in axes[:, 0]:
        axis.set_ylabel("time (ms)")
    axes[0, 0].legend()
    figure.suptitle(f"3x3 convolution of spikes, {bench.IMAGES} images, {threads.get_num_threads()} threads")
    return figure


@styled
def step_by_rate(rows: list[dict[str, Any]]) -> Figure:
    """The training step against the firing rate."""
    figure = blank(6.5, 4.5)
    axis = figure.subplots()
    rows = sorted(rows, key=lambda r: r["firing_rate"])
    rate = [100 * r["firing_rate"] for r in rows]
    axis.plot(rate, [r["step"] for r in rows], "o-", color=COLORS[0], label="training step")
    axis.plot(rate, [r["events"] for r in rows], "s--", color=COLORS[1], label="of which event-driven loops")
    axis.set(xlabel="firing rate (spikes per 100 neuron-steps)", ylabel="time (s)", title="The cost grows with the spikes")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.legend()
    return figure


@styled
def cost_growth(result: dict[str, Any]) -> Figure:
    """Time, its bound and memory of a training step along each axis, on logarithmic scales."""
    words = {"width": "width", "timesteps": "time steps T", "batch": "batch size", "side": "side of the map (pixels)"}
    figure = blank(3.2 * len(result["slopes"]), 6.4)
    axes = figure.subplots(2, len(result["slopes"]), squeeze=False, sharey="row")
    for column, (name, slopes) in enumerate(result["slopes"].items()):
        rows = [r for r in result["rows"] if r["axis"] == name]
        along = [100 * r["firing_rate"] if name == "bias" else r["value"] for r in rows]
        time, memory = axes[:, column]
        label = f"measured, slope {slopes['seconds']:.2f}"
        time.loglog(along, [1e3 * r["seconds"] for r in rows], "o-", color=COLORS[0], label=label)
        label = f"bound, slope {slopes['bound']:.2f}"
        time.loglog(along, [1e3 * r["bound"] for r in rows], "s--", color=COLORS[1], label=label)
        label = f"slope {slopes['memory_mb']:.2f}"
        memory.loglog(along, [r["memory_mb"] for r in rows], "o-", color=COLORS[2], label=label)
        memory.set_xlabel(words.get(name, "firing rate (%)"))
        for axis in (time, memory):
            axis.set_xticks(along, [f"{v:.3g}" for v in along])
            axis.set_xticks([], minor=True)
            axis.legend(fontsize=8)
    axes[0, 0].set_ylabel("time of a training step (ms)")
    axes[1, 0].set_ylabel("memory of arrays (MB)")
    figure.suptitle(f"How cost grows: SynA-T, {threads.get_num_threads()} threads")
    return figure

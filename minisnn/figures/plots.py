"""Figures of a run: how it trained, which neurons fire where and when, the scores of attention, and what it all costs.

Axes: T time steps, N batch, C channels, H height, W width.
Each function takes arrays and returns a matplotlib Figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import energy
from ..runs import merit
from .activity import potentials
from .style import COLORS, MAP, MARKERS, blank, styled, whole_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "training_curves",
    "thermogram",
    "spike_intensity",
    "attention_maps",
    "membranes",
    "energy_by_layer",
    "accuracy_against_energy",
    "any_time",
    "chosen_neurons",
]


# ---- a run over its epochs ---------------------------------------------------------------------------------------------


@styled
def training_curves(metrics: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """Loss, accuracy and firing rate over the epochs.

    Args:
        metrics: {column of metrics.csv: [epochs]}; train_loss, train_accuracy, test_loss, test_accuracy (0 to 1), firing_rate;
            with validation_loss and validation_accuracy, a circle is around the epoch that they choose.
        title: above the figure.
    """
    figure = blank(10, 3.1)
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = np.asarray(metrics["epoch"], float)
    marker = "o" if len(epochs) < 40 else ""
    for axes, what, factor in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        for which, color, dash in (("train", COLORS[0], "--"), ("validation", COLORS[2], ":"), ("test", COLORS[1], "-")):
            if f"{which}_{what}" not in metrics:
                continue
            axes.plot(
                epochs,
                factor * np.asarray(metrics[f"{which}_{what}"], float),
                dash,
                color=color,
                marker=marker,
                markerfacecolor="white" if which == "train" else color,
                markersize=3,
                label=which,
            )
        axes.legend()
    rate.plot(epochs, np.asarray(metrics["firing_rate"], float), color="black", marker=marker, markersize=3)
    told = f"last: {100 * metrics['test_accuracy'][-1]:.2f} %"
    if "validation_accuracy" in metrics:
        merits = [merit(*found) for found in zip(metrics["validation_accuracy"], metrics["validation_loss"])]
        best = merits.index(max(merits))
        shown = 100 * metrics["test_accuracy"][best]
        circle = dict(linestyle="", marker="o", markersize=9, markerfacecolor="none", markeredgecolor="black")
        accuracy.plot(epochs[best], shown, **circle)
        told = f"circle, by validation: {shown:.2f} % in epoch {epochs[best]:g}"
    loss.set(yscale="log", ylabel="loss", title="Loss")
    accuracy.set(ylabel="accuracy (%)", title=f"Accuracy ({told})")
    rate.set(ylabel="spikes per neuron and time step", title="Firing rate, all LIF layers", ylim=(0, None))
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        whole_numbers(axes.xaxis)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


@styled
def thermogram(rates: Any, names: Sequence[str], epochs: Any = None, title: str = "") -> Figure:
    """Firing rate of every LIF layer over the epochs, next to that of the shortcuts (Fig. 5).

    Args:
        rates: [epochs, layers], spikes per neuron and time step.
        names: [layers], dotted; the shortcuts are the names with "shortcut" in them.
        epochs: numbers of the epochs; by default 1, 2, ...
        title: above the figure.
    """
    rates = np.asarray(rates, float)
    epochs = np.arange(1, len(rates) + 1) if epochs is None else np.asarray(epochs)
    shortcuts = [k for k, name in enumerate(names) if "shortcut" in name]
    figure = blank(11 if shortcuts else 7.5, max(3.5, 0.24 * len(names) + 1.1))
    if shortcuts:
        left, right = figure.subfigures(1, 2, width_ratios=(2.1, 1))  # type: ignore[misc]
        heat, bars = left.subplots(), np.atleast_1d(right.subplots(len(shortcuts), 1, sharex=True))
    else:
        heat, bars = figure.subplots(), np.empty(0, object)
    image = heat.pcolormesh(
        np.append(epochs - 0.5, epochs[-1] + 0.5),
        np.arange(len(names) + 1) - 0.5,
        rates.T,
        cmap=MAP,
        vmin=0,
        vmax=max(rates.max(), 1e-6),
    )
    heat.invert_yaxis()
    heat.set_yticks(range(len(names)), [energy.label(name) for name in names])
    for k in shortcuts:
        heat.get_yticklabels()[k].set_fontweight("bold")
        for end in (epochs[0] - 0.5, epochs[-1] + 0.5):
            heat.plot([end], [k], marker=">" if end < epochs[0] else "<", color="black", clip_on=False, markersize=5)
    heat.set(xlabel="epoch", title="Firing rate of all neuron layers")
    whole_numbers(heat.xaxis)
    (left if shortcuts else figure).colorbar(image, ax=heat, label="spikes per neuron and time step", pad=0.03)
    for axes, k in zip(bars, shortcuts):
        axes.bar(epochs, rates[:, k], width=1.0 if len(epochs) > 30 else 0.8, color=COLORS[0])
        axes.set(ylim=(0, 1.1 * max(rates[:, shortcuts].max(), 1e-3)), ylabel="spikes per neuron\nand time step")
        silent = int(np.argmax(np.append(rates[::-1, k] > 0, True)))  # epochs at the end without a single spike
        if silent:
            axes.axvspan(
                epochs[len(epochs) - silent] - 0.5, epochs[-1] + 0.5, facecolor="0.92", hatch="//", edgecolor="0.75", zorder=0
            )
        axes.set_title(
            f"{energy.label(names[k])}: "
            + (f"silent from epoch {epochs[len(epochs) - silent]}" if silent else f"{rates[-1, k]:.4f} at the end")
        )
        whole_numbers(axes.xaxis)
    if shortcuts:
        bars[-1].set_xlabel("epoch")
    figure.suptitle(title)
    return figure


# ---- inside the network ------------------------------------------------------------------------------------------------


@styled
def spike_intensity(
    x: np.ndarray, joined: Sequence[np.ndarray], steps: Sequence[int], names: Sequence[str] = ("",), title: str = ""
) -> Figure:
    """Spikes of all channels after the first join, over the input, at chosen time steps (Figs. 3 and 4).

    Args:
        x: input of one sample, [T, C, H, W].
        joined: for each network the output of its join for that sample, [T, C', H', W'].
        steps: time steps from 0, one column each.
        names: of the networks, one row each.
        title: above the figure.
    """
    frames = np.abs(np.asarray(x, float)).sum(1)  # [T, H, W]; both polarities of events
    maps = [np.asarray(j, float).sum(1) for j in joined]
    H, W = frames.shape[1:]
    figure = blank(1.2 + 1.9 * len(steps), 0.7 + 1.95 * (1 + len(maps)))
    grid = figure.subplots(1 + len(maps), len(steps), squeeze=False)
    extent, top = (-0.5, W - 0.5, H - 0.5, -0.5), max(m[steps].max() for m in maps) or 1
    for column, t in enumerate(steps):
        grid[0, column].imshow(frames[t], cmap="Greys", vmin=0, vmax=max(frames.max(), 1e-6), extent=extent)
        grid[0, column].set_title(f"t = {t + 1}")
        for axes, m in zip(grid[1:, column], maps):
            image = axes.imshow(m[t], cmap=MAP, vmin=0, vmax=top, extent=extent)
            if np.ptp(frames[t]) > 0:
                axes.contour(frames[t], levels=[frames[t].max() / 2], colors="white", linewidths=1.0)
            axes.set_xlabel(f"{m[t].sum():,.0f} spikes")
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, name in zip(grid[:, 0], ("input", *names)):
        axes.set_ylabel(name)
    figure.colorbar(image, ax=grid[1:, :], label="spikes per pixel, all channels", shrink=0.9)
    figure.suptitle(title)
    return figure


@styled
def attention_maps(scores: Mapping[str, np.ndarray], title: str = "", most: int = 3) -> Figure:
    """Attention scores of every module: over time, channels or space.

    Args:
        scores: {name: [N, T], [N, C] or [N, H, W]}, as ``watch`` gathers them; averaged over the samples.
        title: above the figure.
        most: for "s", maps of at most that many samples.
    """
    if next(iter(scores.values())).ndim == 3:
        return spatial_scores(scores, title, most)
    steps = len({s.shape[1] for s in scores.values()}) == 1 and len(scores) > 1  # channels grow from stage to stage
    names, means = list(scores), [s.mean(0) for s in scores.values()]
    figure = blank(9, 1.3 + 0.34 * len(names))
    heat, bars = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
    low = 0 if any("shortcut" in n for n in names) else min(m.min() for m in means)
    high = max(low + 1e-3, *(m.max() for m in means))
    for k, mean in enumerate(means):  # each row spans the axes: 16 channels as wide as 128
        across = np.arange(len(mean) + 1) + 0.5 if steps else np.linspace(0, 1, len(mean) + 1)
        image = heat.pcolormesh(
            across, [k - 0.46, k + 0.46], (mean if steps else np.sort(mean)[::-1])[None], cmap=MAP, vmin=low, vmax=high
        )
        bars.barh(
            k,
            mean.mean(),
            color="0.75" if "shortcut" in names[k] else COLORS[0],
            height=0.7,
            hatch="//" if "shortcut" in names[k] else "",
            edgecolor="black",
            linewidth=0.5,
        )
        bars.errorbar(
            mean.mean(), k, xerr=[[mean.mean() - mean.min()], [mean.max() - mean.mean()]], color="black", capsize=2, linewidth=1
        )
    labels = [
        energy.label(n) + (" (IA)" if "shortcut" in n else "") + ("" if steps else f", {len(m)} channels")
        for n, m in zip(names, means)
    ]
    heat.set_yticks(range(len(names)), labels)
    heat.set_ylim(len(names) - 0.5, -0.5)
    heat.set(xlabel="time step" if steps else "share of the channels, highest score first", title="Score, mean over samples")
    if steps:
        whole_numbers(heat.xaxis)
    bars.set(xlabel="score (IA hatched)", xlim=(0, 1.02), title="Mean and range")
    figure.colorbar(image, ax=heat, label="score", pad=0.02)
    figure.suptitle(title)
    return figure


def spatial_scores(scores, title, most):
    """Maps of spatial scores: a row for each of the first samples, a column for each module."""
    rows = min(most, len(next(iter(scores.values()))))
    figure = blank(1.35 * len(scores) + 0.8, 1.5 * rows + 0.9)
    grid = figure.subplots(rows, len(scores), squeeze=False)
    for column, (name, maps) in enumerate(scores.items()):
        for k in range(rows):
            axes = grid[k, column]
            image = axes.imshow(maps[k], cmap=MAP, vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        words = energy.label(name).replace("main", "\nmain").replace("after", "\nafter").replace("shortcut", "\nshortcut (IA)")
        grid[0, column].set_title(words, fontsize=8)
    for k in range(rows):
        grid[k, 0].set_ylabel(f"sample {k + 1}")
    figure.colorbar(image, ax=grid, label="score", shrink=0.8)
    figure.suptitle(title)
    return figure


@styled
def membranes(
    current: np.ndarray,
    spikes: np.ndarray,
    options: Mapping[str, Any],
    neurons: Sequence[tuple[int, int, int]],
    name: str = "",
    title: str = "",
    raster: int = 60,
) -> Figure:
    """Membrane potentials of chosen neurons, with the threshold, and a raster of the busiest neurons of the layer.

    Args:
        current, spikes: input and output of a LIF layer for one sample, [T, C, H, W].
        options: the layer's constants (``nn.LIF().options``).
        neurons: [(c, h, w)], one trace each.
        name: of the layer.
        title: above the figure.
        raster: how many neurons the raster shows.
    """
    T = len(current)
    steps, threshold = np.arange(1, T + 1), options["v_threshold"]
    figure = blank(9, 1.0 + 1.15 * len(neurons) + 2.4)
    axes = figure.subplots(len(neurons) + 1, 1, sharex=True, height_ratios=[1] * len(neurons) + [2])
    for row, (c, h, w) in zip(axes, neurons):
        u, s = potentials(current[:, c, h, w].astype(float), **options), spikes[:, c, h, w] > 0
        row.plot(steps, u, "-", color=COLORS[0], marker=".", label="u, before the spike")
        row.axhline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:g}")
        row.plot(
            steps[s],
            u[s],
            linestyle="",
            marker="^",
            markersize=8,
            markerfacecolor=COLORS[1],
            markeredgecolor="black",
            label="spike",
        )
        row.set_ylabel(f"channel {c},\nrow {h}, column {w}\nu", fontsize=8)
        row.grid(alpha=0.3)
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper right", ncols=3)
    flat = spikes.reshape(T, -1) > 0
    busiest = np.argsort(-flat.sum(0), kind="stable")[:raster]
    t, k = np.nonzero(flat[:, np.sort(busiest)])
    axes[-1].scatter(t + 1, k, marker="|", color="black", s=max(4, 700 / len(busiest)), linewidths=1.2)
    axes[-1].set(
        xlabel="time step",
        ylabel=f"{len(busiest)} busiest neurons\nof {flat.shape[1]:,}",
        xlim=(0.5, T + 0.5),
        ylim=(-0.7, len(busiest) - 0.3),
    )
    whole_numbers(axes[-1].xaxis)
    figure.suptitle((f"{title}\n" if title else "") + f"{energy.label(name)}: membrane potential u", x=0.02, ha="left")
    return figure


def chosen_neurons(current: np.ndarray, spikes: np.ndarray, number: int = 4) -> list[tuple[int, ...]]:
    """(c, h, w) of neurons worth a look: from the busiest to the one that never fired but came closest, [T, C, H, W]."""
    counts = spikes.sum(0)
    order = np.argsort(-counts, axis=None, kind="stable")
    fired = int((counts > 0).sum())
    picks = [order[k] for k in np.unique(np.linspace(0, max(fired - 1, 0), max(number - 1, 1)).astype(int))]
    near = np.where(counts > 0, -np.inf, current.max(0))
    if np.isfinite(near).any() and near.argmax() not in picks:
        picks.append(near.argmax())
    return [tuple(int(i) for i in np.unravel_index(p, counts.shape)) for p in picks]


# ---- cost --------------------------------------------------------------------------------------------------------------


@styled
def energy_by_layer(report: energy.Report, title: str = "") -> Figure:
    """Energy of every layer, split into additions and products, next to its firing rate."""
    rows = [row for row in report.layers if row.energy_mj > 0 or row.firing_rate is not None]
    figure = blank(10, 1.2 + 0.25 * len(rows))
    cost, rate = figure.subplots(1, 2, width_ratios=(2, 1), sharey=True)
    scale, unit = (1e6, "nJ") if report.energy_mj < 1e-3 else (1e3, "µJ") if report.energy_mj < 1 else (1, "mJ")
    y, total = np.arange(len(rows)), np.array([row.energy_mj for row in rows]) * scale
    ac = np.array([min(row.ac * report.e_ac * 1e-9, row.energy_mj) for row in rows]) * scale
    cost.barh(y, ac, color=COLORS[5], edgecolor="black", linewidth=0.5, label=f"additions, AC ({report.e_ac:g} pJ)")
    cost.barh(
        y,
        total - ac,
        left=ac,
        color=COLORS[1],
        edgecolor="black",
        linewidth=0.5,
        hatch="///",
        label=f"products, MAC ({report.e_mac:g} pJ)",
    )
    for k, row in enumerate(rows):
        cost.text(total[k] + 0.01 * total.max(), k, f"{row.share:.1%}", va="center", fontsize=7)
        if row.firing_rate is not None:
            rate.barh(
                k,
                row.firing_rate,
                color="0.75" if row.kind == "attention" else COLORS[0],
                edgecolor="black",
                linewidth=0.5,
                hatch="//" if "shortcut" in row.name else "",
            )
    cost.set_yticks(y, [energy.label(row.name) for row in rows], fontsize=8)
    cost.set_ylim(len(rows) - 0.4, -0.6)
    cost.set(
        xlabel=f"energy per sample ({unit})",
        title=f"{report.energy_mj * scale:.4g} {unit}, {report.accounting}",
        xlim=(0, 1.12 * max(total.max(), 1e-12)),
    )
    cost.legend(loc="center right")
    rate.set(xlabel="spikes per neuron and time step", title="Firing rate (hatched: shortcuts)")
    figure.suptitle(title)
    return figure


@styled
def any_time(found: Mapping[str, Any], seconds: Any, title: str = "") -> Figure:
    """Accuracy and energy after each time step, and how long a frame takes.

    Args:
        found: what ``anytime.anytime`` returned.
        seconds: what ``anytime.latencies`` returned.
        title: above the figure.
    """
    figure = blank(10, 3.1)
    accuracy, energy_mj, latency = figure.subplots(1, 3)
    steps = np.arange(1, len(found["accuracy"]) + 1)
    accuracy.plot(steps, 100 * np.asarray(found["accuracy"]), "o-", color=COLORS[0], markersize=4)
    accuracy.set(xlabel="time steps seen", ylabel="accuracy (%)", title="The mean of the scores so far")
    energy_mj.plot(steps, 1e3 * np.asarray(found["energy_mj"]), "s--", color=COLORS[1], markersize=4)
    energy_mj.set(xlabel="time steps seen", ylabel="energy per sample (µJ)", title="What it has cost", ylim=(0, None))
    latency.hist(1e3 * np.asarray(seconds), bins=20, color=COLORS[2], edgecolor="black", linewidth=0.5)
    latency.axvline(1e3 * np.median(seconds), color="black", linestyle="--", linewidth=1)
    latency.set(xlabel="latency of a frame (ms)", ylabel="frames", title=f"Median {1e3 * np.median(seconds):.2f} ms, batch 1")
    for axes in (accuracy, energy_mj):
        whole_numbers(axes.xaxis)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


@styled
def accuracy_against_energy(points: Sequence[tuple[str, float, float, float, float]], title: str = "") -> Figure:
    """Accuracy against energy of several systems, with deviation over their seeds.

    Args:
        points: [(name, mean accuracy 0 to 1, its deviation, mean energy mJ, its deviation)].
        title: above the figure.
    """
    figure = blank(8, 4.6)
    axes = figure.subplots()
    spread = max(p[3] for p in points) / max(min(p[3] for p in points), 1e-12)
    for k, (name, accuracy, deviation, mj, mj_deviation) in enumerate(points):
        axes.errorbar(
            mj * 1e3,
            100 * accuracy,
            xerr=mj_deviation * 1e3,
            yerr=100 * deviation,
            marker=MARKERS[k % len(MARKERS)],
            color=COLORS[k % len(COLORS)],
            markeredgecolor="black",
            markersize=8,
            linestyle="",
            capsize=2,
            label=name,
        )
    axes.set(
        xlabel="energy per sample (µJ)" + (", logarithmic" if spread > 8 else ""),
        ylabel="test accuracy (%)",
        xscale="log" if spread > 8 else "linear",
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.suptitle(title)
    return figure

"""The diagrams of the course: boxes, arrows and cells, all drawn in one style.

Orange is what carries spikes, blue what carries numbers, grey what only passes on. Each function draws one figure with
Matplotlib; the page that needs it calls it and saves what was drawn, with words for readers who do not see it.
"""

import itertools
import re

import matplotlib.pyplot as plt
import numpy as np

from helpers import BLUE, GREEN, ORANGE, PINK
from minisnn import energy

GREY = "0.35"
SPIKES = ("SN", "I in", "I out", "s[")  # names of boxes that spikes leave


def box(ax, x, y, text, color=GREY, size=9, **more):
    """A word in a rounded box."""
    return ax.text(x, y, text, ha="center", va="center", fontsize=size, zorder=3, **more,
                   bbox=dict(boxstyle="round,pad=0.35", fc="white", ec=color, lw=1.4))


def arrow(ax, start, end, color=GREY, bend=0.0):
    """From start to end, each (x, y) or a box, at whose border the arrow begins or ends."""
    (a, at), (b, to) = ((None, end) if isinstance(end, tuple) else (end.get_bbox_patch(), end.get_position())
                        for end in (start, end))
    ax.annotate("", to, at, zorder=3.5, arrowprops=dict(
        arrowstyle="->", color=color, lw=1.3, ls="-", connectionstyle=f"arc3,rad={bend}", patchA=a, patchB=b,
        shrinkA=2 if a else 0, shrinkB=2 if b else 0))


def blank(ax, xlim, ylim, title=""):
    """Axes without axes."""
    ax.set(xlim=xlim, ylim=ylim, title=title)
    ax.axis("off")


def boxes_and_arrows(ax, boxes, arrows):
    """boxes: name -> (x, y) or (x, y, color); arrows: (from, to) or (from, to, bend), by name."""
    drawn = {name: box(ax, x, y, name.strip(), *color) for name, (x, y, *color) in boxes.items()}
    for start, end, *bend in arrows:
        arrow(ax, drawn[start], drawn[end], bend=(bend or [0])[0])
    xs, ys = zip(*(place[:2] for place in boxes.values()))
    blank(ax, (min(xs) - 0.6, max(xs) + 0.6), (min(ys) - 0.6, max(ys) + 0.6))


def cells(ax, values, x=0.0, y=0.0, colors=None, text=None, edge="0.6", size=8):
    """A grid of unit squares, row 0 on top at height y; colors and text: [rows, columns], or None."""
    rows, columns = np.shape(values)
    for r, c in np.ndindex(rows, columns):
        color = "white" if colors is None else colors[r][c]
        ax.add_patch(plt.Rectangle((x + c, y - r - 1), 1, 1, fc=color, ec=edge, lw=0.8, zorder=1))
        if text is not None:
            dark = color in (BLUE, ORANGE, GREY)
            ax.text(x + c + 0.5, y - r - 0.5, text[r][c], ha="center", va="center", fontsize=size, zorder=4,
                    color="white" if dark else "black")


def scalar_graph(inflows, levels):
    """Page 1: three inflows and three levels, Scalars with their values and gradients."""
    fig, ax = plt.subplots(figsize=(8, 3))
    boxes, arrows = {}, []
    for t, (x, h) in enumerate(zip(inflows, levels)):
        for name, y, number, color in ((f"x[{t}]", 0, x, BLUE), (f"h[{t}]", 1.3, h, GREY)):
            boxes[name] = box(ax, 2 * t, y, f"{name} = {number.value:.3f}\ngradient {number.grad:.3f}", color)
        arrows += [(f"x[{t}]", f"h[{t}]", "× gain", 0.3)] + ([(f"h[{t - 1}]", f"h[{t}]", "× keep", 0)] if t else [])
    for start, end, words, aside in arrows:
        arrow(ax, boxes[start], boxes[end])
        (a, b), (c, d) = boxes[start].get_position(), boxes[end].get_position()
        ax.text((a + c) / 2 + aside, (b + d) / 2 + (0 if aside else 0.12), words, ha="center", va="center", fontsize=8)
    blank(ax, (-0.8, 4.8), (-0.4, 1.75), "Values go with the arrows, gradients against them")
    return fig


def bucket():
    """Page 2: a neuron as a leaky bucket, in three moments."""
    fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.5))
    moments = (("leak: a share 1 / tau of H goes", 0.8, 0.4), ("charge: the inflow adds I / tau", 0.4, 0.85),
               ("fire and reset: at the mark it tips", None, 0.0))
    for ax, (title, before, level) in zip(axes, moments):
        fires = before is None
        left, right, bottom, top = 0.0, 1.2, 0.0, 1.3
        if not fires:
            ax.fill_between([left, right], bottom, level, color=BLUE, alpha=0.35, lw=0)
            ax.plot([left, right], [before, before], color=BLUE, ls=":", lw=1)
            word = "H, before" if before > level else "after the leak"
            ax.text(right + 0.06, before, word, fontsize=8, color=BLUE, va="center")
            if before < level:
                ax.text(0.6, level - 0.08, "U", color="black", ha="center", va="top", fontsize=11)
        ax.plot([left, left, right, right], [top, bottom, bottom, top], color="0.2", lw=2.5, ls="-", solid_capstyle="round")
        ax.plot([left - 0.08, right + 0.08], [1, 1], color=ORANGE, ls="--", lw=1.3)
        ax.text(left - 0.12, 1, "threshold", color=ORANGE, ha="right", va="center", fontsize=9)
        if fires:
            ax.fill_between([left, right], bottom, 1.0, color=BLUE, alpha=0.12, lw=0)
            arrow(ax, (0.3, 0.95), (0.3, 0.08), BLUE)
            ax.text(0.4, 0.5, "back to\nU_reset", fontsize=9, va="center")
            arrow(ax, (right + 0.05, 1.12), (right + 0.75, 1.12), ORANGE)
            ax.text(right + 0.8, 1.12, "spike: 1", color=ORANGE, fontsize=10, va="center")
        elif title.startswith("charge"):
            arrow(ax, (0.6, 1.7), (0.6, level + 0.05), BLUE)
            ax.text(0.68, 1.5, "current I", fontsize=9, va="center")
        else:
            arrow(ax, (0.6, 0.0), (0.6, -0.38), BLUE)
            ax.text(0.68, -0.25, "H / tau", fontsize=9, va="center")
        blank(ax, (-0.75, 2.5), (-0.45, 1.8), title)
    return fig


def unrolled(steps=3):
    """Page 4: the neuron's loop as a graph over time."""
    fig, ax = plt.subplots(figsize=(9, 3.2))
    boxes, arrows = {}, []
    for t in range(steps):
        boxes |= {f"x[{t}]": (3 * t, 0, BLUE), f"u[{t}]": (3 * t, 1)}
        boxes |= {f"h[{t}]": (3 * t + 1.6, 1), f"s[{t}]": (3 * t + 0.8, 2, ORANGE)}
        arrows += [(f"x[{t}]", f"u[{t}]"), (f"u[{t}]", f"s[{t}]"), (f"u[{t}]", f"h[{t}]"), (f"s[{t}]", f"h[{t}]")]
        arrows += [(f"h[{t - 1}]", f"u[{t}]")] if t else []
    boxes_and_arrows(ax, boxes, arrows)
    return fig


def window():
    """Page 5: one window of a convolution, its place in the image, its taps, and the output pixel that it makes."""
    size, k, oy, ox, padding = 5, 3, 0, 1, 1
    fig, axes = plt.subplots(1, 2, figsize=(11, 3.4))
    for ax, stride in zip(axes, (1, 2)):
        seen = [(oy * stride + ky, ox * stride + kx) for ky, kx in np.ndindex(k, k)]
        padded = np.pad(np.ones((size, size)), padding)
        shade = [[BLUE if (r, c) in seen and inside else "#a9c9e3" if (r, c) in seen else "white" if inside else "0.92"
                  for c, inside in enumerate(row)] for r, row in enumerate(padded)]
        words = [["" if inside else "0" for inside in row] for row in padded]
        cells(ax, padded, 0, 7, shade, words)
        ax.text(3.5, 7.3, "x: image and ring of zeros", ha="center", fontsize=9)
        names = [[f"{ky} {kx}" for kx in range(k)] for ky in range(k)]
        cells(ax, np.ones((k, k)), 8.6, 6.4, [[ORANGE] * k] * k, names, edge="white", size=8)
        ax.text(10.1, 6.7, "w[ky, kx]", ha="center", fontsize=9)
        n = (size + 2 * padding - k) // stride + 1
        y = [[GREEN if (r, c) == (oy, ox) else "white" for c in range(n)] for r in range(n)]
        cells(ax, np.ones((n, n)), 13.2, 7, y)
        ax.text(13.2 + n / 2, 7.3, "y", ha="center", fontsize=9)
        bottom = oy * stride + 1.5
        arrow(ax, (ox * stride + 3.05, 7 - bottom), (8.5, 5.2), GREY)
        arrow(ax, (11.7, 5.2), (13.2 + ox, 7 - oy - 0.5), GREY)
        ax.text(10.1, 2.5, "multiply, add up", ha="center", fontsize=9)
        places = f"iy = oy * {stride} + ky - {padding}\nix = ox * {stride} + kx - {padding}"
        ax.text(12.6, 0.8, places, ha="center", va="center", fontsize=9, family="monospace")
        blank(ax, (-0.3, 18.5), (-0.3, 7.9), f"stride {stride}: y[{oy}, {ox}] looks here")
        ax.set_aspect("equal")
    return fig


def events(spikes, kernel=3):
    """Page 6: a map of spikes [H, W], the list of its events, and where each event's row of weights is added."""
    H, W = spikes.shape
    found = np.argwhere(spikes)
    fig, ax = plt.subplots(figsize=(10, 3.6))
    colors = (ORANGE, BLUE, PINK, GREEN)
    mark = {tuple(at): colors[n % 4] for n, at in enumerate(found)}
    shade = [[mark.get((r, c), "white") for c in range(W)] for r in range(H)]
    cells(ax, spikes, 0, H, shade, [["1" if s else "" for s in row] for row in spikes])
    ax.text(W / 2, H + 0.3, "spikes: one map", ha="center", fontsize=9)
    listed = []
    for n, (r, c) in enumerate(found):
        listed.append(box(ax, W + 3.2, H - 0.8 - 1.25 * n, f"row {r}, column {c}", colors[n % 4]))
    ax.text(W + 3.2, H + 0.3, "the list of events", ha="center", fontsize=9)
    start, half = W + 7.4, kernel // 2
    sums = np.zeros((H, W), int)
    for r, c in found:
        sums[max(r - half, 0) : r + half + 1, max(c - half, 0) : c + half + 1] += 1
    shade = [["#fbe3d3" if v == 1 else "#f0a878" if v > 1 else "white" for v in row] for row in sums]
    cells(ax, sums, start, H, shade, [[str(v) if v else "" for v in row] for row in sums])
    for n, (r, c) in enumerate(found):
        low_c, high_c = max(c - half, 0), min(c + half + 1, W)
        low_r, high_r = max(r - half, 0), min(r + half + 1, H)
        ax.add_patch(plt.Rectangle((start + low_c, H - high_r), high_c - low_c, high_r - low_r, fill=False, ec=colors[n % 4],
                                   lw=2.2, zorder=5))
        arrow(ax, listed[n], (start + low_c - 0.05, H - (low_r + high_r) / 2), colors[n % 4])
    ax.text(start + W / 2, H + 0.3, "output: additions at each place", ha="center", fontsize=9)
    arrow(ax, (W + 0.2, H / 2), (W + 1.1, H / 2))
    blank(ax, (-0.2, start + W + 0.3), (-0.4, H + 0.9))
    return fig


def residual_blocks():
    """Page 8: the three blocks that the paper compares, and the one that it builds from them."""
    chains = {  # from below: the main branch; the shortcut ends at g
        "vanilla, Eq. 4": ["I in", "W1", "SN", "W2", "g", "SN ", "I out"],
        "MS, Eq. 5": ["X in", "SN", "W1", "SN ", "W2", "g", "X out"],
        "SEW, Eq. 6": ["I in", "W1", "SN", "W2", "SN ", "g", "I out"],
        "SynA: SEW, g = OR": ["I in", "W1", "MA", "SN", "W2", "SN ", "OR", "I out"],
    }
    fig, axes = plt.subplots(1, 4, figsize=(10.5, 4.8))
    for ax, (title, chain) in zip(axes, chains.items()):
        step = 6 / (len(chain) - 1)
        places = {name: (0, k * step, ORANGE if name.startswith(SPIKES) or name == "OR" else GREY)
                  for k, name in enumerate(chain)}
        ways = [(chain[k - 1], chain[k]) for k in range(1, len(chain))]
        if "OR" in chain:
            places |= {"Ws": (1.5, 2 * step), "IA": (1.5, 3.2 * step), " SN": (1.5, 4.4 * step, ORANGE)}
            ways += [("I in", "Ws", 0.15), ("Ws", "IA"), ("IA", " SN"), (" SN", "OR", 0.15)]
        else:
            ways += [(chain[0], "g", 0.55)]
        boxes_and_arrows(ax, places, ways)
        ax.set(title=title, xlim=(-0.9, 2.2))
        x, y = (1.0 if title[0] == "v" else 1.25, 2.5) if "OR" not in chain else (1.85, 2.3)
        ax.text(x, y, "shortcut", ha="center", va="center", fontsize=8, color=GREY, rotation=90)
    return fig


def attention_path():
    """Page 9: from a current to the score of each time step, and back onto the current."""
    fig, ax = plt.subplots(figsize=(11, 3.3))
    boxes_and_arrows(ax, {
        "x\n[T, N, C, H, W]": (0, 0.6, BLUE), "mean": (2.1, 1.3), "maximum": (2.1, -0.1),
        "squeeze": (3.9, 1.3), "squeeze ": (3.9, -0.1), "ReLU": (5.3, 1.3), "ReLU ": (5.3, -0.1),
        "excite": (6.7, 1.3), "excite ": (6.7, -0.1), "+": (8.0, 0.6), "MA: sigmoid\nIA: SN": (9.6, 0.6, ORANGE),
        "x × score": (11.5, 0.6), "ReLU  ": (13.0, 0.6), "neurons": (14.5, 0.6, ORANGE),
    }, [("x\n[T, N, C, H, W]", "mean"), ("x\n[T, N, C, H, W]", "maximum"), ("mean", "squeeze"), ("maximum", "squeeze "),
        ("squeeze", "ReLU"), ("squeeze ", "ReLU "), ("ReLU", "excite"), ("ReLU ", "excite "), ("excite", "+"), ("excite ", "+"),
        ("+", "MA: sigmoid\nIA: SN"), ("MA: sigmoid\nIA: SN", "x × score"), ("x × score", "ReLU  "), ("ReLU  ", "neurons"),
        ("x\n[T, N, C, H, W]", "x × score", 0.47)])
    for x, y, words in ((2.1, 1.85, "pool: [N, T]"), (4.6, 1.85, "T numbers to T / 4"), (6.7, 1.85, "and back to T"),
                        (8.05, 1.15, "logits z"), (9.6, 1.35, "scores [N, T]"), (5.7, -1.5, "the current itself")):
        ax.text(x, y, words, ha="center", fontsize=8, color=GREY)
    ax.set(xlim=(-1.2, 15.3), ylim=(-2, 2.2))
    return fig


def network(net):
    """Page 10: every layer of a network of the package by its name, with the shape of what leaves it."""
    plan = {row.name: row for row in net.plan()}
    fig, ax = plt.subplots(figsize=(11.5, 6.2))

    def place(name, x, y):
        row = plan[name]
        kind = "MA" if "MA-" in row.what else "IA" if "IA-" in row.what else ""
        words = re.search(r"conv \dx\d(?: stride \d)?", row.what)
        lines = [energy.label(name), ", ".join(filter(None, [words and words[0], kind])), " x ".join(map(str, row.output))]
        color = PINK if kind == "IA" else ORANGE if name != "head" else BLUE
        return box(ax, x, y, "\n".join(filter(None, lines)), color, size=8)

    def chain(*boxes):
        for start, end in itertools.pairwise(boxes):
            arrow(ax, start, end)

    top = 0
    before = [box(ax, -2.0, top, "image", BLUE, size=8)]
    before += [place("stem", 0, top)] + [place(f"features.{k}", 2.3 * (k + 1), top) for k in range(len(net.features))]
    chain(*before)
    entry = before[-1].get_position()
    for k in range(len(net.stages)):
        y, name = top - 2.3 * (k + 1), f"stages.{k}"
        main = [place(f"{name}.main.{i}", 2.3 * i, y) for i in range(2)]
        after = [place(f"{name}.after.{i}", 2.3 * (i + 3), y) for i in range(2)]
        ax.plot([entry[0], entry[0], -1.45, -1.45], [entry[1] - 0.38, y + 1.25, y + 1.25, y], color=GREY, lw=1.3, ls="-")
        arrow(ax, (-1.45, y), main[0])
        if f"{name}.join" in plan:
            short, join = place(f"{name}.shortcut", 1.15, y + 0.72), place(f"{name}.join", 4.6, y)
            arrow(ax, (-1.45, y + 0.72), short)
            arrow(ax, short, join, bend=-0.2)
            main.append(join)
        chain(*main, *after)
        entry = after[-1].get_position()
    chain(after[-1], place("head", entry[0] + 2.0, entry[1]))
    blank(ax, (-2.5, entry[0] + 2.5), (entry[1] - 0.7, 0.6))
    return fig

"""Draw images/headline.png, the figure of the README, from the table of speeds in measured.md.

    python headline.py
"""

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def speeds(text):
    """Rows of the table: (size, ms of a training step, of SpikingJelly's, their ratio, the ratio of an inference)."""
    table = re.search(r"^\| SynA-T \|.*?\n\|[- |:]*\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)[1]
    for line in table.splitlines():
        size, ours, theirs, ratio, _, _, _, inference = (cell.strip() for cell in line.strip("|").split("|"))
        yield size, *(float(cell.replace(",", "")) for cell in (ours, theirs, ratio, inference))


def draw(path):
    import matplotlib.pyplot as plt

    from helpers import BLUE, ORANGE

    rows = list(speeds((FOLDER / "measured.md").read_text(encoding="utf-8")))
    fig, ax = plt.subplots(figsize=(8, 3.2))
    for k, (name, column, color, hatch) in enumerate((("training step", 3, BLUE, ""), ("inference", 4, ORANGE, "//"))):
        places = [row + 0.4 * k - 0.2 for row in range(len(rows))]
        bars = ax.barh(places, [row[column] for row in rows], 0.38, color=color, hatch=hatch, edgecolor="white", label=name)
        ax.bar_label(bars, [f" {row[column]:g}x" for row in rows], fontsize=9)
    ax.axvline(1, color="0.3", lw=1, ls=":")
    ax.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=9)
    ax.set(title="How many times as fast as SpikingJelly, two threads each", xlabel="time of SpikingJelly / time of minisnn",
           xlim=(0, 11.5))
    ax.invert_yaxis()
    ax.legend(loc="upper right")
    fig.savefig(path)


if __name__ == "__main__":
    draw(FOLDER / "images" / "headline.png")

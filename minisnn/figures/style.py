"""The look of all figures.

They are readable without color vision: the color map is cividis, whose lightness rises evenly, and lines differ in dash and
marker, bars in hatching.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MAP", "COLORS", "DASHES", "MARKERS", "styled", "blank", "whole_numbers", "write_png"]

MAP = "cividis"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito's, distinct to everyone
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), "-")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 100,
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "figure.constrained_layout.use": True,
}


def matplotlib():
    """The package matplotlib, imported late, since that takes longer than everything else here, and ignoring MPLBACKEND:
    figures are only written to files, and the backend of a notebook, which its shell commands inherit, may not be available.
    """
    backend = os.environ.pop("MPLBACKEND", None) if "matplotlib" not in sys.modules else None
    try:
        return importlib.import_module("matplotlib")
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def styled(draw: Callable) -> Callable:
    """The same function, drawing in the package's style, whatever the user's style is."""

    @functools.wraps(draw)
    def drawn(*args, **options):
        with matplotlib().rc_context(STYLE):
            return draw(*args, **options)

    return drawn


def write_png(figure: Figure, file: BinaryIO) -> None:
    """Write a Figure to a binary file, at a resolution fit for print."""
    figure.savefig(file, format="png", dpi=150)


def blank(width: float, height: float) -> Figure:
    """An empty Figure; size in inches."""
    matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def whole_numbers(axis: Any) -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))

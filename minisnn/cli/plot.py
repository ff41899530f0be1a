"""`minisnn plot RUN`: the figures of a run, as PNG files."""

import argparse
from pathlib import Path

from ..errors import UsageError
from ..kinds import path, whole
from ..terminal import say
from . import of_run

DESCRIPTION = (
    "Draw the figures of a run into RUN/figures: training curves; firing rates of all layers and of the shortcuts "
    "over the epochs (Fig. 5); spikes over the input at some time steps (Figs. 3 and 4), next to other runs' with "
    "--compare; attention scores; membrane potentials and raster; energy by layer."
)


def neuron(text):
    """The type of --neurons: channel, row and column."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or min(numbers) < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a neuron; give CHANNEL,ROW,COLUMN from 0, such as 3,0,7")
    return numbers


def add_arguments(parser):
    of_run.add_arguments(parser)
    parser.add_argument("--limit", type=whole(), metavar="N", help="measure on N test samples (default: all)")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="FIGURE",
        help="some of the figures, by the names of their files; a wrong one is answered by the list (default: all)",
    )
    parser.add_argument(
        "--compare", type=path, nargs="+", default=(), metavar="RUN", help="runs whose spikes to show next to this one's"
    )
    parser.add_argument("--sample", type=whole(0), default=0, metavar="N", help="test sample to show, from 0")
    parser.add_argument(
        "--steps", nargs="+", type=whole(), metavar="T", help="time steps to show, from 1 (default: five over the sample)"
    )
    parser.add_argument("--layer", metavar="NAME", help="neurons whose potentials to show (default: stages.0.main.1)")
    parser.add_argument(
        "--neurons", nargs="+", type=neuron, metavar="C,H,W", help="of that layer (default: from the busiest to a silent one)"
    )
    parser.add_argument("--out", type=path, metavar="DIR", help="folder of the figures (default: RUN/figures)")


def run(options):
    from .. import figures

    for name in options.only or ():
        if name not in figures.NAMES:
            raise UsageError(f"--only: there is no figure '{name}'; give some of {', '.join(figures.NAMES)}")
    subject, *others = (
        figures.Subject(*of_run.opened(path, options.checkpoint), options.data_dir, options.batch_size, options.limit)
        for path in (options.run, *options.compare)
    )
    folder = Path(options.out or subject.run.path / "figures")
    drawings = figures.of_run(
        subject, others, options.sample, options.steps, options.layer, options.neurons, options.only or figures.NAMES
    )
    written = []
    for drawing in drawings:
        written.append(str(figures.save(drawing, folder)))
        say(f"{written[-1]}: {drawing.caption}")
    return {"run": str(subject.run.path), "figures": written, "checkpoint": subject.which}

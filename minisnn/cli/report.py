"""`minisnn report RUN`: a run as one HTML file."""

from pathlib import Path

from ..kinds import path, whole
from ..terminal import say
from . import of_run

DESCRIPTION = (
    "Write a run up as one HTML file that opens from a disk, without a network: the figures, the tables, the "
    "configuration and the command that repeats the run."
)


def add_arguments(parser):
    of_run.add_arguments(parser)
    parser.add_argument("--limit", type=whole(), metavar="N", help="measure on N test samples (default: all)")
    parser.add_argument("--sample", type=whole(0), default=0, metavar="N", help="test sample to show, from 0")
    parser.add_argument("--out", type=path, metavar="FILE", help="file to write (default: RUN/report.html)")


def run(options):
    from .. import figures
    from ..figures import page

    subject = figures.Subject(
        *of_run.opened(options.run, options.checkpoint), options.data_dir, options.batch_size, options.limit
    )
    path = Path(options.out or subject.run.path / "report.html")
    number = page.write(subject, path, sample=options.sample)
    say(f"{path}: {number} figures, {path.stat().st_size / 1e6:.1f} MB, opens in any browser")
    return {"run": str(subject.run.path), "report": str(path), "figures": number, "checkpoint": subject.which}

"""A run written up as one HTML file: figures, tables, configuration, and the command that repeats it.

The file contains everything it shows, figures as data URIs, and needs no network; it opens from a disk or an attachment.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from typing import Any

from .. import energy, files, terminal
from ..figures.run import Drawing, Subject
from ..models import ResNet21
from ..types import Path
from . import run as run_figures

__all__ = ["write", "page"]

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1a1a1a; background: #fff; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; } figcaption { color: #444; font-size: .9rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tr.total td { font-weight: bold; border-top: 2px solid #888; }
pre { background: #f4f4f4; padding: .8rem; font-size: .85rem; white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem; } dt { color: #555; } dd { margin: 0; }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def write(subject: Subject, path: Path, **options: Any) -> int:
    """Write the report of a run.

    Args:
        subject: figures.Subject.
        path: of the HTML file.
        **options: of ``figures.of_run``.

    Returns:
        Number of figures in it.

    Raises:
        UsageError: as ``figures.of_run``.
        OSError: the file cannot be written; the previous file is untouched.
    """
    drawings = list(run_figures.of_run(subject, **options))
    files.write_text(path, page(subject, drawings))
    return len(drawings)


def page(subject: Subject, drawings: Sequence[Drawing]) -> str:
    """The HTML text."""
    run, measured = subject.run, subject.report
    title = f"minisnn: {subject.title}"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        facts(subject),
        "<h2>Figures</h2>",
        *map(figure, drawings),
        "<h2>Spikes, operations and energy</h2>",
        f"<p>Measured on {measured.samples:,} test samples; per sample, over T = {measured.timesteps} time steps; "
        f"{measured.e_mac:g} pJ per MAC and {measured.e_ac:g} pJ per AC (45 nm).</p>",
        table(measured.rows(), total=True),
    ]
    try:
        published = energy.published_of(subject.net, measured, size=subject.dataset.test.size[1])
        parts.append("<h3>As the authors' scripts count</h3>" + table(published.rows(), total=True))
    except ValueError as error:
        parts.append(f"<p>{html.escape(str(error))}.</p>")
    parts += [
        "<h2>Epochs</h2>",
        table(epochs(run.metrics())),
        "<h2>To repeat this run</h2>",
        f"<pre>{html.escape(commands(run))}</pre>",
        "<h2>Configuration</h2>",
        f"<pre>{html.escape(json.dumps(run.config, indent=2))}</pre>",
    ]
    return PAGE.format(title=html.escape(title), style=STYLE, body="\n".join(parts))


def facts(subject):
    """What the run achieved, as a list."""
    run, report, chosen = subject.run, subject.report, subject.run.accuracies(subject.which)
    validated, highest = chosen["validation_accuracy"], chosen["highest_test_accuracy"]
    rows = [
        ("checkpoint", f"{chosen['checkpoint']}.npz" + ("" if chosen["epoch"] is None else f", epoch {chosen['epoch']}")),
        *([] if validated is None else [("validation accuracy", f"{validated:.2%}; it chose the epoch")]),
        ("test accuracy", f"{subject.accuracy:.2%} of {report.samples:,} samples"),
        *([] if highest is None else [("highest test accuracy", f"{highest:.2%}, of any epoch; it chose nothing")]),
        *([] if not run.note(subject.which) else [("note", run.note(subject.which))]),
        ("spikes per sample", f"{report.spikes:,.0f}, {report.spikes_per_neuron:.3f} per neuron"),
        ("operations per sample", f"{energy.count(report.ac) or 0} AC, {energy.count(report.mac) or 0} MAC"),
        ("energy per sample", f"{report.energy_mj * 1e3:.4g} µJ"),
        ("parameters", f"{sum(p.size for p in subject.net.parameters()):,}"),
        *(shortcuts(subject.net, report) if isinstance(subject.net, ResNet21) else ()),
        ("data", subject.dataset.note),
        ("folder", str(run.path.absolute())),
    ]
    return "<dl>" + "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in rows) + "</dl>"


def shortcuts(net, report):
    """The rows about the shortcuts of a network."""
    yield "silent shortcuts", f"{', '.join(map(str, report.silent_shortcuts)) or 'none'} (on the test set)"
    yield "removed shortcuts", ", ".join(map(str, net.config.removed)) or "none"


def figure(drawing):
    """A figure with its caption, the image embedded in the text."""
    file = io.BytesIO()
    drawing.png(file)
    data = base64.b64encode(file.getvalue()).decode()
    words = html.escape(drawing.caption)
    picture = f'<img alt="{words}" src="data:image/png;base64,{data}">'
    return f'<figure id="{drawing.name}">{picture}<figcaption>{words}</figcaption></figure>'


def table(rows, total=False):
    """Rows of text, the first one the header and, with ``total``, the last one the sum."""
    head, *body = [[html.escape(cell) for cell in row] for row in rows]
    lines = ["<tr><th>" + "</th><th>".join(head) + "</th></tr>"]
    for k, row in enumerate(body):
        start = '<tr class="total">' if total and k == len(body) - 1 else "<tr>"
        lines.append(start + "<td>" + "</td><td>".join(row) + "</td></tr>")
    return '<div class="wide"><table>' + "\n".join(lines) + "</table></div>"


def epochs(metrics):
    """metrics.csv as rows of text."""
    names = list(metrics[0]) if metrics else ["epoch"]
    return [names, *([f"{row[name]:.4g}" for name in names] for row in metrics)]


def commands(run):
    """What to type to repeat the run."""
    lines, pruned = [run.config["command"]], run.config.get("pruned")
    if run.config.get("imported"):
        lines.append(run.config["imported"]["command"])
    steps = []
    while pruned:
        steps.append(
            terminal.command(
                "prune",
                pruned["from"],
                "--checkpoint",
                pruned["checkpoint"],
                "--tolerance",
                f"{pruned['tolerance']:g}",
                "--out",
                "DIR",
            )
        )
        pruned = pruned.get("before")
    return "\n".join(map(terminal.shown, lines + steps[::-1]))

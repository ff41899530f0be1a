"""The figures of one run: which ones exist, what they are drawn from, and what they say. How they look is in plots.py."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .. import energy, files
from ..data import batches, limited
from ..data.base import Dataset
from ..errors import UsageError
from ..figures.activity import Activity
from ..models import ResNet21
from ..models.presets import FIRST, JOINED, RESIDUALS
from ..nn import listen
from ..ops.attention import DIMENSIONS
from ..runs import Run
from . import plots
from .activity import watch
from .style import write_png

__all__ = ["Subject", "Drawing", "of_run", "save", "NAMES", "FIGURES", "chosen_steps"]


@dataclasses.dataclass
class Drawing:
    """One figure of a run."""

    name: str  # of its file, without .png
    caption: str  # one or two sentences
    figure: Any  # matplotlib Figure

    def png(self, file: BinaryIO) -> None:
        """Write it to a binary file."""
        write_png(self.figure, file)


def save(drawing: Drawing, folder: Path) -> pathlib.Path:
    """Write a Drawing into a folder, which is created if it does not exist; returns the path."""
    path = Path(folder) / f"{drawing.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replace(path) as file:
        drawing.png(file)
    return path


def chosen_steps(timesteps: int) -> list[int]:
    """Up to five time steps (from 1) over the whole sample; for T = 32 those of Figs. 3 and 4: 1, 8, 16, 24, 32."""
    return sorted({1, *(max(1, timesteps * k // 4) for k in (1, 2, 3, 4))})


def joined(net, activity):
    """Spikes [T, N, C, H, W] after the first join; if the join outputs numbers, those of the neurons after it."""
    after = {JOINED: "stages.0", FIRST: "stages.0.after.0"}.get(RESIDUALS[net.config.residual].neurons)
    return activity.joins[0] if after is None else activity.spikes[after]


class Subject:
    """A run; what several figures need is computed once."""

    def __init__(
        self, run: Run, which: str | None = None, data_dir: str | None = None, batch_size: int = 64, limit: int | None = None
    ) -> None:
        self.run, self.which, self.net = run, which or run.chosen, run.network(which)
        self.data_dir, self.batch_size, self.limit = data_dir, batch_size, limit

    @property
    def title(self) -> str:
        """The run in a few words."""
        o = self.run.config["options"]
        return f"{o['model']} on {o['dataset']}, width {self.net.config.width}, T = {self.net.config.timesteps}"

    @functools.cached_property
    def dataset(self) -> Dataset:
        data = self.run.dataset(data_dir=self.data_dir)
        if data.test is None or not len(data.test):
            raise UsageError(f"the copy of {data.name} holds no test samples, which the figures need; complete it: {data.note}")
        return data

    @functools.cached_property
    def tested(self) -> tuple[energy.Report, float]:
        """(energy.Report, accuracy) on the test set."""
        scores: list[np.ndarray] = []
        test = limited(self.dataset.test, self.limit)
        with listen(self.net, lambda _, out: scores.append(out.data)):
            report = energy.measure(self.net, batches(test, self.batch_size))
        return report, float((np.concatenate(scores).argmax(1) == test.labels).mean())

    report = property(lambda self: self.tested[0])
    accuracy = property(lambda self: self.tested[1])

    def sample(self, number: int) -> tuple[np.ndarray, str]:
        """(x [T, 1, C, H, W], name of its class) of one test sample."""
        test = self.dataset.test
        if not 0 <= number < len(test):
            raise UsageError(f"--sample: there is no test sample {number}; give a number from 0 to {len(test) - 1}")
        return np.asarray(test.batch(np.array([number]))), str(self.dataset.classes[test.labels[number]])

    @functools.cache  # noqa: B019 - a Subject lives as long as its figures
    def activity(self, number: int) -> Activity:
        """What happens in every layer on one test sample."""
        return watch(self.net, self.sample(number)[0])


FIGURES: dict[
    str, Callable[..., Any]
] = {}  # name: function(subject, options), which returns (caption, matplotlib Figure), or None if there is nothing to show


def figure_of_a_run(draw):
    """Make a function a figure of every run, under the function's name."""
    FIGURES[draw.__name__] = draw
    return draw


@figure_of_a_run
def training_curves(subject, _):
    rows = subject.run.metrics()
    if not rows:
        return None
    figure = plots.training_curves({name: [row[name] for row in rows] for name in rows[0]}, subject.title)
    return "Loss, accuracy and firing rate over the epochs.", figure


@figure_of_a_run
def thermogram(subject, _):
    names, rates = subject.run.firing_rates()
    if not len(rates):
        return None
    figure = plots.thermogram(rates, names, title=subject.title)
    return "Firing rate of every neuron layer over the epochs, next to that of the shortcuts (Fig. 5).", figure


@figure_of_a_run
def spike_intensity(subject, options):
    if not isinstance(subject.net, ResNet21):  # there is no join, and no map
        return None
    x, label = subject.sample(options["sample"])
    subjects = [subject, *options["compare"]]
    maps = []
    for other in subjects:
        if not isinstance(other.net, ResNet21):
            raise UsageError(f"--compare: the network of {other.run.path} has no maps to compare; omit it")
        if other is not subject and other.net.config.timesteps != subject.net.config.timesteps:
            raise UsageError(
                f"--compare: {other.run.path} has {other.net.config.timesteps} time steps, {subject.run.path} has "
                f"{subject.net.config.timesteps}; compare runs of one T"
            )
        if other is not subject and other.sample(options["sample"])[0].shape != x.shape:
            raise UsageError(
                f"--compare: {other.run.path} was trained on samples of another shape; compare runs on one data set"
            )
        activity = subject.activity(options["sample"]) if other is subject else watch(other.net, x)
        maps.append(joined(other.net, activity)[:, 0])
    steps = options["steps"] or chosen_steps(len(x))
    if not all(1 <= t <= len(x) for t in steps):
        raise UsageError(f"--steps: {' '.join(map(str, steps))}; give numbers from 1 to {len(x)}")
    figure = plots.spike_intensity(
        x[:, 0],
        maps,
        [t - 1 for t in steps],
        [other.run.config["options"]["model"] for other in subjects],
        f"After the first join, test sample {options['sample']} ({label})",
    )
    return "Spikes of all channels after the first join, over the input (white), at chosen time steps (Figs. 3 and 4).", figure


@figure_of_a_run
def attention(subject, options):
    test, at = subject.dataset.test, options["sample"]
    dim = subject.net.config.attention if isinstance(subject.net, ResNet21) else None
    if dim is None:
        return None
    subject.sample(at)  # checks the number
    x = (
        test.batch(np.arange(at, min(at + 3, len(test))))
        if DIMENSIONS[dim].by_pixel
        else test.batch(np.arange(min(64, len(test))))
    )
    scores = watch(subject.net, x).scores
    if not scores:
        return None
    figure = plots.attention_maps(scores, subject.title)
    where = DIMENSIONS[dim].words + ("" if DIMENSIONS[dim].by_pixel else ", mean over samples")
    return f"Scores of attention over {where}: MA's are between 0 and 1, those of IA on the shortcuts are spikes.", figure


@figure_of_a_run
def membranes(subject, options):
    activity, layer = subject.activity(options["sample"]), options["layer"]
    if layer is None:  # vanilla's neurons come after the join; without maps the first layer will do
        layer = next(name for name in ("stages.0.main.1", "stages.0", *activity.spikes) if name in activity.spikes)
    if layer not in activity.spikes:
        raise UsageError(f"--layer: there is no layer of neurons '{layer}'; give one of {', '.join(activity.spikes)}")
    if not activity.neurons[layer]:
        return None
    current, spikes = activity.currents[layer][:, 0], activity.spikes[layer][:, 0]
    if spikes.ndim == 2:  # features, [T, F]
        current, spikes = current[..., None, None], spikes[..., None, None]
    neurons = options["neurons"] or plots.chosen_neurons(current, spikes)
    for neuron in neurons:
        if len(neuron) != 3 or not all(0 <= k < n for k, n in zip(neuron, spikes.shape[1:])):
            raise UsageError(
                f"--neurons: {','.join(map(str, neuron))} is not in {layer}; give CHANNEL,ROW,COLUMN below "
                f"{','.join(map(str, spikes.shape[1:]))}"
            )
    label = subject.sample(options["sample"])[1]
    title = f"Test sample {options['sample']} ({label})"
    figure = plots.membranes(current, spikes, activity.neurons[layer], neurons, layer, title)
    return "Membrane potential of some neurons, from the busiest to a silent one, and the raster of the busiest.", figure


@figure_of_a_run
def energy_by_layer(subject, _):
    figure = plots.energy_by_layer(subject.report, subject.title)
    return "Energy per sample by layer, as measured on the test set, and the firing rates.", figure


NAMES = tuple(FIGURES)


def of_run(
    subject: Subject,
    compare: Sequence[Subject] = (),
    sample: int = 0,
    steps: Sequence[int] | None = None,
    layer: str | None = None,
    neurons: Sequence[tuple[int, int, int]] | None = None,
    only: Sequence[str] = NAMES,
) -> Iterator[Drawing]:
    """The figures of a run, one after another.

    Args:
        subject: Subject.
        compare: Subjects whose spikes are shown next to its own (Figs. 3 and 4).
        sample: number of the test sample shown, from 0.
        steps: time steps shown, from 1; by default up to five.
        layer: dotted name of the neurons whose potentials are shown.
        neurons: [(c, h, w)] of that layer; by default from the busiest to a silent one.
        only: some of NAMES.

    Yields:
        Drawing; a figure for which this network has no data (attention scores without attention) is omitted.

    Raises:
        UsageError: a run, sample, step, layer or neuron that does not exist.
    """
    options = dict(compare=compare, sample=sample, steps=steps, layer=layer, neurons=neurons)
    for name in only:
        drawn = FIGURES[name](subject, options)
        if drawn is not None:
            yield Drawing(name, *drawn)

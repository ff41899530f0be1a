"""`minisnn show`."""

import os
from typing import Any

from .. import data
from ..catalogue import CATALOGUE, NAMES
from ..data.frames import EventSamples, slice_edges
from ..data.sounds import Sounds
from ..errors import UsageError
from ..files import replace
from ..kinds import path, whole
from ..models.presets import MODELS
from ..options import EVENT_OPTIONS, Options
from ..terminal import say
from .declared import add_declared, given_for_data

MODEL = "model"  # what shows a network instead of a sample
SHORTEST = 40  # milliseconds that each picture of the animation is shown


def add_arguments(parser):
    parser.add_argument("dataset", choices=(*NAMES, MODEL), metavar="WHAT", help=f"one of {', '.join(NAMES)}, or {MODEL}")
    of_model = parser.add_argument_group(f"show {MODEL}: the layers of a network, what they compute and what leaves them")
    of_model.add_argument("--dataset", dest="of", choices=NAMES, metavar="NAME", help="for which data set (default: digits)")
    of_model.add_argument(
        "--model", choices=MODELS, metavar="NAME", help=f"one of {', '.join(MODELS)} (default: as in training)"
    )
    of_model.add_argument(
        "--width", type=whole(8, multiple=8), metavar="W", help="channels of the stem (default: as in training)"
    )
    parser.add_argument("--index", type=whole(0), default=0, metavar="I", help="number of the sample, from 0")
    parser.add_argument(
        "--part", choices=("train", "test"), help="of the data set (default: train, or test if there is no other)"
    )
    parser.add_argument(
        "--data-dir",
        type=path,
        metavar="DIR",
        help="where the data is (default: the variable MINISNN_DATA, else ~/.cache/minisnn)",
    )
    parser.add_argument("-T", "--timesteps", type=whole(), metavar="T", help="time steps (default: as in training)")
    parser.add_argument(
        "--split-seed",
        type=whole(0),
        default=0,
        metavar="N",
        help="of the split of data sets without an official one, and of gestures",
    )
    parser.add_argument("--out", type=path, metavar="FILE", help="the figure; .png, .pdf or .svg (default: DATASET-INDEX.png)")
    parser.add_argument("--gif", type=path, metavar="FILE", help="also write a moving figure, one picture for each slice")
    add_declared(parser, EVENT_OPTIONS)


def run(options):
    for flag in ("--out", "--gif", "--part", "--data-dir") if options.dataset == MODEL else ("--dataset", "--model", "--width"):
        name = "of" if flag == "--dataset" else flag.removeprefix("--").replace("-", "_")
        if getattr(options, name) is not None:
            raise UsageError(f"{flag} does not go with `minisnn show {options.dataset}`; omit it")
    return show_model(options) if options.dataset == MODEL else show_sample(options)


def show_model(options):
    """The plan of a network, as a table."""
    from .. import models
    from ..energy import label

    name = options.of or "digits"
    chosen = Options(dataset=name, model=options.model, width=options.width, timesteps=options.timesteps)
    net: Any = models.from_config({"preset": name, **chosen.network()})
    for line in repr(net).splitlines():
        say(line)
    layers = [{"name": label(r.name), "what": r.what, "output": r.output, "parameters": r.parameters} for r in net.plan()]
    return {
        "dataset": name,
        "model": chosen.model,
        "layers": layers,
        "parameters": sum(r.parameters for r in net.plan()),
    }


def show_sample(options):
    """A sample of a data set, as a figure."""
    name, index = options.dataset, options.index
    out = options.out or f"{name}-{index}.png"
    kind = ending(out, "--out", (".png", ".pdf", ".svg"))
    if options.gif:
        ending(options.gif, "--gif", (".gif",))
    chosen = CATALOGUE[name].recipe.data_options | given_for_data(options)
    dataset = data.load(name, options.data_dir, options.timesteps, options.split_seed, **chosen)
    part = options.part or ("train" if dataset.train is not None else "test")
    samples = getattr(dataset, part)
    if samples is None:
        raise UsageError(
            f"--part {part}: {dataset.name} has no such part here ({dataset.note}); give the other one, or complete the copy"
        )
    if index >= len(samples):
        raise UsageError(f"--index: {index} is out of range; the {part} part of {name} has the samples 0 to {len(samples) - 1}")
    label = dataset.classes[samples.labels[index]]
    facts = {"dataset": name, "part": part, "index": index, "class": label, "samples": len(samples)}
    say(dataset.note)
    if isinstance(samples, EventSamples):
        facts |= draw_events(samples, index, f"{name}, {part} sample {index}: {label}", out, kind, options.gif)
    elif options.gif:
        raise UsageError(f"--gif: {name} holds {'sounds' if isinstance(samples, Sounds) else 'still images'}; omit --gif")
    elif isinstance(samples, Sounds):
        from ..figures import samples as pictures_of

        frames = samples.batch([index])[:, 0, :, 0, 0]
        facts["spikes"] = int(frames.sum())
        seconds = CATALOGUE[name].source.seconds
        save(pictures_of.sound_figure(frames, seconds, f"{name}, {part} sample {index}: {label}"), out, kind)
    else:
        from ..figures import samples as pictures_of

        save(pictures_of.image_figure(samples.batch([index])[0, 0], f"{name}, {part} sample {index}: {label}"), out, kind)
    written = [file for file in (out, options.gif) if file]
    text = f"{part} sample {index} of {len(samples):,}: {label}"
    if "events" in facts:
        count, duration = facts["events"], facts["duration_ms"]
        text += f", {count:,} events in {duration:.0f} ms, {count / duration:.1f} per ms"
    elif "spikes" in facts:
        text += f", {facts['spikes']:,} spikes in {samples.timesteps} time steps"
    say(text)
    say("wrote " + " and ".join(written))
    return facts | {"figure": out, "gif": options.gif}


def draw_events(samples, index, title, out, kind, gif):
    """Write the figure, and the moving one if requested; returns what was drawn, as a dict."""
    from ..figures import samples as pictures_of

    events, frames = samples.events(index), samples.frames(index)
    duration = max(int(events["t"][-1] - events["t"][0]) + 1, 1)
    edges = slice_edges(events, samples.timesteps, samples.options.slicing, samples.span(index))
    save(pictures_of.event_figure(events, frames, samples.options.sensor, edges, title), out, kind)
    if gif:
        from PIL import Image

        pictures = [Image.fromarray(picture) for picture in pictures_of.gif_frames(frames)]
        shown_for = max(SHORTEST, round(duration / 1000 / samples.timesteps))
        with Writable(gif), replace(gif) as file:
            pictures[0].save(file, format="GIF", save_all=True, append_images=pictures[1:], duration=shown_for, loop=0)
    return {
        "events": len(events),
        "on": int(events["p"].sum()),
        "duration_ms": duration / 1000,
        "timesteps": samples.timesteps,
        "frame_size": list(samples.size[1:]),
        "largest_count": int(frames.max()),
    }


def save(figure, path, kind):
    with Writable(path), replace(path) as file:
        figure.savefig(file, format=kind)


class Writable:
    """Turns an error of the file system into one line that names the file."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, OSError):
            raise UsageError(f"{self.path} cannot be written ({error.strerror or error}); give another file") from None


def ending(path, flag, allowed):
    """The file's format, from its name."""
    kind = os.path.splitext(path)[1].lower()
    if kind not in allowed:
        raise UsageError(f"{flag}: '{path}' has no extension that gives its format; end it in {' or '.join(allowed)}")
    return kind[1:]

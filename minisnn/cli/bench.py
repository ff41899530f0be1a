"""`minisnn bench`: time the engine on this machine."""

import contextlib
import pathlib
import sys
from typing import Any

from .. import models
from ..errors import UsageError
from ..files import replace
from ..kinds import above_zero, path, whole
from ..terminal import say

# What each times, in the order in which they run: the step first, so that the peak memory is its own.
SECTIONS = {
    "step": "a training step and an inference, operation by operation, with the peak memory",
    "conv": "3x3 convolution of spikes by events and by products, over densities",
    "lif": "the neurons",
    "rate": "the training step against the firing rate",
    "sizes": "training step and inference at five sizes against SpikingJelly",
    "busy": "the training step at those sizes beside a busy program",
    "race": "the time to 97 % on digits against SpikingJelly",
    "growth": "time and memory of a step against width, T, batch, map and firing rate, beside their bound",
    "scale": "two processes of one thread against one of two, and from it what many machines would do (needs minisnn[mpi])",
    "small": "training of networks without maps on digits against SpikingJelly and snnTorch",
    "stream": "the latency of a frame of the gestures against SpikingJelly",
    "paper": "steps of the paper's own training of each of its data sets, with memory, and the hours that all of it would take",
}
SHORT = ("step", "conv", "lif", "rate")  # the others run only where they are named
DESCRIPTION = (
    "Times, as ratios measured side by side: "
    + "; ".join(f"'{name}', {what}" for name, what in SECTIONS.items())
    + ". Medians. Close other programs first."
)
SIZES = ("digits", "mnist", "nmnist", "mnist-32", "full")
NETWORKS = ("plain", "recurrent", "learned")  # the rows of contests.SMALL


def add_arguments(parser):
    parser.add_argument(
        "sections", nargs="*", metavar="NAME", help=f"what to time: {', '.join(SECTIONS)} (default: {', '.join(SHORT)})"
    )
    parser.add_argument(
        "--width", type=whole(8), default=64, metavar="W", help="width of the network for step and rate, a multiple of 8"
    )
    parser.add_argument("-T", "--timesteps", type=whole(), default=16, metavar="T", help="time steps for step and rate")
    parser.add_argument("-b", "--batch-size", type=whole(), default=8, metavar="N", help="samples for step and rate")
    parser.add_argument("--model", default="syna-t", choices=tuple(models.SYSTEMS), help="network for step")
    parser.add_argument("--repeat", type=whole(), default=7, metavar="N", help="counted runs of each measurement")
    parser.add_argument(
        "--peer",
        metavar="PYTHON",
        help="a Python that can import torch and, for sizes, race, small and stream, spikingjelly, for small also snntorch, to "
        "be timed alongside (default: this one)",
    )
    parser.add_argument(
        "--size",
        action="append",
        choices=SIZES,
        help="for sizes, busy and scale: only this one; may be repeated; step takes the first",
    )
    parser.add_argument("--network", action="append", choices=NETWORKS, help="for small: only this one; may be repeated")
    parser.add_argument("--seeds", type=whole(), default=3, metavar="N", help="for race: how many, one race each")
    parser.add_argument(
        "--epochs",
        type=whole(),
        metavar="E",
        help="for race: give up after E epochs (default: the recipe's 30); for small: train for E (default: 20)",
    )
    many = parser.add_argument_group("scale: the machines that are not here")
    many.add_argument("--cores", type=whole(), default=32, metavar="N", help="of each machine")
    many.add_argument(
        "--link",
        type=above_zero,
        nargs=2,
        action="append",
        metavar=("S", "B"),
        help="the network between them: seconds that a message takes, bytes a second of each machine; may be repeated "
        "(default: 20e-6 1.25e9 and 2e-6 12.5e9, networks of 10 and 100 Gb/s)",
    )
    parser.add_argument(
        "--figures",
        type=path,
        metavar="DIR",
        help="write figures of time against density, against firing rate and of its growth there",
    )


def run(options):
    for name in options.sections:
        if name not in SECTIONS:
            raise UsageError(f"bench: there is no section '{name}'; give some of {', '.join(SECTIONS)}")
    if options.width % 8:
        raise UsageError(f"--width: {options.width} is out of range; give a multiple of 8")
    folder = pathlib.Path(options.figures) if options.figures else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    network = dict(width=options.width, timesteps=options.timesteps, batch_size=options.batch_size)
    from .. import bench, contests, threads
    from ..figures import timings

    result: dict[str, Any] = dict(threads=threads.get_num_threads(), threading_layer=threads.threading_layer())
    say(f"{result['threads']} threads, handed their work by {result['threading_layer']}")
    for name in SECTIONS:
        if name not in (options.sections or SHORT):
            continue
        if name == "step":
            size = bench.SIZES[options.size[0]] if options.size else None
            result["step"] = bench.bench_step(
                **network, model=options.model, repeat=options.repeat, seed=options.seed, size=size
            )
            print_step(result["step"])
        elif name == "conv":
            with other_side(options.peer, "torch") as peer:
                result["conv"] = bench.bench_conv(options.repeat, peer, seed=options.seed)
            print_conv(result["conv"])
            if folder:
                write(timings.conv_by_density(result["conv"]), folder / "conv_time_by_density.png")
        elif name == "lif":
            result["lif"] = bench.bench_lif(options.repeat, seed=options.seed)
            print_lif(result["lif"])
            result["neurons"] = contests.bench_neurons(options.repeat, options.seed)
            print_neurons(result["neurons"])
        elif name == "sizes":
            with other_side(options.peer, "torch", "spikingjelly") as peer:
                sizes = options.size or SIZES
                result["sizes"] = bench.bench_sizes(options.repeat, peer, sizes, seed=options.seed, say=print_size)
            print_leads(result["sizes"])
        elif name == "race":
            with other_side(options.peer, "torch", "spikingjelly") as peer:
                seeds = range(options.seed, options.seed + options.seeds)
                result["race"] = bench.bench_race(peer, seeds, epochs=options.epochs, say=print_race)
            print_race_lead(result["race"])
        elif name == "scale":
            from ..scaling import SIZED, Link, bench_scale

            links = [Link(*pair) for pair in options.link or ()]
            result["scale"] = bench_scale(
                options.repeat, options.size or SIZED, options.seed, links, options.cores, say=print_scale
            )
            print_predictions(result["scale"], options.cores)
        elif name == "small":
            with contextlib.ExitStack() as stack:
                sides = {side: stack.enter_context(other_side(options.peer, "torch", side)) for side in contests.OTHERS}
                result["small"] = contests.bench_small(
                    {side: peer for side, peer in sides.items() if peer},
                    options.network or NETWORKS,
                    options.epochs or contests.EPOCHS,
                    options.seed,
                    say=print_small,
                )
        elif name == "stream":
            with other_side(options.peer, "torch", "spikingjelly") as peer:
                result["stream"] = contests.bench_stream(peer, seed=options.seed)
            print_stream(result["stream"])
        elif name == "busy":
            result["busy"] = bench.bench_busy(options.repeat, options.size or SIZES, options.seed, say=print_busy)
        elif name == "paper":
            from ..schedule import bench_paper

            result["paper"] = bench_paper(seed=options.seed, say=print_paper)
        elif name == "growth":
            from ..growth import bench_growth

            result["growth"] = bench_growth(options.repeat, options.seed, say=print_growth)
            print_slopes(result["growth"])
            if folder:
                write(timings.cost_growth(result["growth"]), folder / "cost_growth.png")
        else:
            result["rate"] = bench.bench_rate(**network, repeat=max(1, options.repeat // 2), seed=options.seed)
            print_rate(result["rate"])
            if folder:
                write(timings.step_by_rate(result["rate"]), folder / "step_time_by_firing_rate.png")
    return result


def other_side(python, *needs):
    """The peer; without ``--peer`` this Python is asked, and need not have what it takes."""
    from ..peer import Peer

    peer = Peer(python or sys.executable, *needs)
    if not peer:
        if python:
            raise UsageError(f"--peer: {python} cannot import {' and '.join(needs)}; give a Python that can, or omit --peer")
        say(f"this Python cannot import {' and '.join(needs)}: nothing is timed alongside; --peer names one that can")
    return peer


def write(figure, path):
    with replace(path) as file:
        figure.savefig(file, format="png", dpi=110)


def print_conv(rows):
    from .. import bench

    print(
        f"3x3 convolution of spikes, {bench.IMAGES} images; milliseconds, and how many times faster than dense and than PyTorch"
    )
    print(
        f"{'shape':>12} {'density':>8} {'event':>8} {'dense':>8} {'ratio':>6} {'PyTorch':>8} {'ratio':>6}   "
        f"{'event dW':>9} {'dense dW':>9} {'dense dx':>9}"
    )
    for r in rows:
        torch = r["torch"]["forward"] if r["torch"] else None
        print(
            f"{r['channels']:>5} {r['size']:>2}x{r['size']:<3} {r['density']:>7.0%} {1e3 * r['event_forward']:>8.2f} "
            f"{1e3 * r['dense_forward']:>8.2f} {r['dense_forward'] / r['event_forward']:>6.1f} "
            + (f"{1e3 * torch:>8.2f} {torch / r['event_forward']:>6.1f}" if torch else f"{'-':>8} {'-':>6}")
            + f"   {1e3 * r['event_weight_gradient']:>9.2f} {1e3 * r['dense_weight_gradient']:>9.2f} "
            f"{1e3 * r['dense_input_gradient']:>9.2f}"
        )
    for density in sorted({r["density"] for r in rows}):
        own = [r for r in rows if r["density"] == density]
        line = f"{density:>6.0%}: {bench.geometric_mean([r['dense_forward'] / r['event_forward'] for r in own]):.1f} x dense"
        if own[0]["torch"]:
            line += f", {bench.geometric_mean([r['torch']['forward'] / r['event_forward'] for r in own]):.1f} x PyTorch"
        print(line + " (geometric mean over the shapes)")
    for name in ("forward", "weight_gradient"):
        lost = [r[f"{r[f'auto_{name}']}_{name}"] / min(r[f"event_{name}"], r[f"dense_{name}"]) - 1 for r in rows]
        print(f"auto's choice for the {name.replace('_', ' ')} is at most {max(lost):.0%} slower than the faster method")


def print_step(row):
    print(
        f"{row['model']} for {row['preset']}, width {row['width']}, T {row['timesteps']}, batch {row['batch_size']}: "
        f"training step {row['step']:.3f} s (forward {row['forward']:.3f}, backward {row['backward']:.3f}, "
        f"Adam {row['optimizer']:.3f}), "
        f"inference {row['inference']:.3f} s ({row['counting'] / row['inference'] - 1:+.1%} with everything counted), "
        f"peak memory {'unknown' if row['peak_mb'] is None else format(row['peak_mb'], '.0f') + ' MB'}, "
        f"firing rate {row['firing_rate']:.2%}"
    )
    for name, seconds in row["operations"].items():
        print(f"  {name:<26} {1e3 * seconds:8.1f} ms  {seconds / row['step']:6.1%}")


def print_lif(row):
    for title, name in (("LIF", ""), ("LIF with batch norm", "fused_")):
        forward, backward = (1e9 * row[name + way] / row["neuron_steps"] for way in ("forward", "backward"))
        print(f"{title:<20} forward {forward:.2f} ns, backward {backward:.2f} ns per neuron-step")


def print_neurons(ratios):
    print(
        "training step of SynA-T on digits (width 16, T 4, batch 32) relative to LIF: "
        + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items() if name != "lif")
    )


def print_small(row):
    line = f"{row['network']:<10} {row['side']:<13} {row['seconds']:>7.1f} s  {row['accuracy']:>7.2%}"
    print(line + ("" if row["ratio"] == 1 else f"  {row['ratio']:.1f} times as long"), flush=True)


def print_stream(row):
    line = (
        f"a frame of the gestures, OR network of width 16, one sample: {1e3 * row['seconds']:.2f} ms (95 % within "
        f"{1e3 * row['seconds_95']:.2f}; firing rate {row['firing_rate']:.1%}; {row['frames']} frames)"
    )
    if row["ratio"] is not None:
        line += f", SpikingJelly {1e3 * row['peer_seconds']:.2f} ms, {row['ratio']:.1f} times as long"
    print(line)


def print_busy(row):
    print(
        f"{row['size']:<9} {1e3 * row['idle']:>8.1f} ms alone, {1e3 * row['busy']:>8.1f} ms beside a busy process, "
        f"{row['ratio']:.2f} times as long",
        flush=True,
    )


def print_paper(row):
    line = (
        f"{row['dataset']:<13} width {row['width']}, T {row['timesteps']}, batch {row['batch_size']}, {row['epochs']} epochs: "
    )
    if row["seconds"] is None:
        line += "killed, probably since memory ran out"
    else:
        peak = "unknown" if row["peak_mb"] is None else f"{row['peak_mb']:,.0f} MB"
        line += f"{row['seconds']:.1f} s a step, peak memory {peak}; {row['steps']:,} steps, {row['hours']:,.0f} h"
    print(line, flush=True)


def print_rate(rows):
    for r in rows:
        print(
            f"firing rate {r['firing_rate']:6.2%}: training step {r['step']:.3f} s, "
            f"of which event-driven loops {r['events']:.3f} s"
        )


def print_size(row):
    line = f"{row['size']:<9} {row['mode']:<9} {row['threads']:>2} threads {1e3 * row['seconds']:>9.1f} ms"
    if row["ratio"] is not None:
        line += f", SpikingJelly {1e3 * row['peer_seconds']:>9.1f} ms, {row['ratio']:>5.2f} times as long"
    print(line, flush=True)


def print_leads(rows):
    from .. import bench

    for mode in bench.MODES:
        lead = bench.slowest_in_ratio(rows, mode)
        if lead is not None:
            print(f"{mode}: at least {lead:.1f} times as fast as SpikingJelly at every size")


def print_growth(row):
    print(
        f"{row['axis']:>9} {row['value']:>5}: {1e3 * row['seconds']:>8.1f} ms, bound {1e3 * row['bound']:>7.1f} ms, "
        f"{row['memory_mb']:>7.1f} MB, firing rate {row['firing_rate']:.2%}",
        flush=True,
    )


def print_slopes(result):
    print("in a second: " + ", ".join(f"{rate / 1e9:.1f} G {name}" for name, rate in result["rates"].items()))
    for axis, s in result["slopes"].items():
        print(
            f"{'firing rate' if axis == 'bias' else axis}: time grows with the power {s['seconds']:.2f}, "
            f"its bound {s['bound']:.2f}, memory {s['memory_mb']:.2f}"
        )


def print_scale(row):
    print(f"{row['size']}, batch {row['batch']}: a step in ms, measured and by the model")
    for samples, count, seconds, by_model in row["steps"]:
        print(f"  {samples:>3} samples, {count} thread{'s' * (count > 1)} {1e3 * seconds:>9.1f} {1e3 * by_model:>9.1f}")
    print(f"  one process of 2 threads {1e3 * row['one']:>7.1f} {1e3 * row['one_predicted']:>9.1f}")
    print(f"  two ranks of 1 thread    {1e3 * row['two']:>7.1f} {1e3 * row['two_predicted']:>9.1f}")
    for name in ("statistics", "gradients"):
        print(f"    of it {name:<14} {1e3 * row['parts'][name]:>9.1f} {1e3 * row['parts_predicted'][name]:>9.1f}")
    gathers, gradients = (row["exchange"][name] for name in ("gathers", "gradients"))
    print(
        f"  {len(gathers)} gathers of {min(gathers):,} to {max(gathers):,} bytes, {sum(gathers):,} in all, and gradients of "
        f"{gradients:,} bytes; two ranks are {row['ratio']:.2f} times as fast as two threads",
        flush=True,
    )


def print_predictions(result, cores):
    link = result["link"]
    print(f"between two ranks here: {1e6 * link['latency']:.0f} us a message, {link['bandwidth'] / 1e9:.1f} GB/s")
    for network in result.get("predictions", ()):
        print(
            f"the paper's schedule for MNIST on machines of {cores} cores, {1e6 * network['latency']:g} us and "
            f"{network['bandwidth'] / 1e9:g} GB/s between them: a step in ms, then hours as it is, with overlap, with "
            "statistics per rank, and with 8 times the batch"
        )
        print(
            f"{'machines':>8} {'ranks x threads':>15} {'compute':>8} {'statistics':>10} {'gradients':>9} {'step':>7}   "
            f"{'hours':>6} {'overlap':>7} {'own':>6} {'batch':>6}"
        )
        for r in network["rows"]:
            compute, gathers, gradients, step = (1e3 * r[name] for name in ("compute", "statistics", "gradients", "step"))
            print(
                f"{r['machines']:>8} {r['ranks']:>10} x {r['threads']:>2} {compute:>8.1f} {gathers:>10.1f} {gradients:>9.1f} "
                f"{step:>7.1f}   {r['hours']:>6.2f} {r['overlap']:>7.2f} {r['per_rank']:>6.2f} {r['larger']:>6.2f}"
            )


def print_race(row):
    print(
        f"seed {row['seed']}: {finish(row, '')}"
        + ("" if row["peer_epochs"] is None else f"; SpikingJelly: {finish(row, 'peer_')}")
    )


def finish(row, side):
    seconds, epochs, accuracy = (row[side + name] for name in ("seconds", "epochs", "accuracy"))
    if seconds is None:
        return f"{accuracy:.2%} after {epochs} epochs, given up"
    return f"{accuracy:.2%} after {seconds:.1f} s ({epochs} epochs)"


def print_race_lead(rows):
    import statistics

    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    if ratios:
        print(f"SpikingJelly needs {statistics.median(ratios):.1f} times as long (median of {len(ratios)} races)")

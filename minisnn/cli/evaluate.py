"""`minisnn evaluate`."""

from ..catalogue import NAMES
from ..errors import UsageError
from ..kinds import path, whole
from ..options import EVENT_OPTIONS
from ..terminal import say
from . import of_run
from .declared import add_declared, given_for_data


def add_arguments(parser):
    parser.add_argument("run", type=path, metavar="RUN", help="folder of the run, or zoo:NAME")
    parser.add_argument("--dataset", choices=NAMES, metavar="NAME", help=f"a data set other than the run's: {', '.join(NAMES)}")
    parser.add_argument("--data-dir", type=path, metavar="DIR", help="where the data is (default: as for the run)")
    of_run.add_checkpoint(parser)
    parser.add_argument("--part", choices=("test", "train"), default="test", help="of the data set")
    parser.add_argument(
        "-b", "--batch-size", type=whole(), default=64, metavar="B", help="samples at once; changes memory, not results"
    )
    parser.add_argument("--limit", type=whole(), metavar="N", help="only N samples, drawn by the seed (default: all)")
    parser.add_argument(
        "--shuffle-time",
        action="store_true",
        help="present each sample's time steps in random order: does the network use the order?",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="show the network one time step after another: accuracy, spikes and energy after each, how long a frame takes, "
        "and a figure, RUN/figures/stream.png",
    )
    add_declared(parser, EVENT_OPTIONS)


def run(options):
    import numpy as np

    from .. import data, nn, train

    trained, which = of_run.opened(options.run, options.checkpoint)
    net = trained.network(which)
    if options.stream:
        try:
            nn.Stream(net)
        except ValueError as error:
            raise UsageError(f"--stream: {error}, such as --model or") from None
    dataset = trained.dataset(name=options.dataset, data_dir=options.data_dir, **given_for_data(options))
    train.check_fits(net, dataset, f"the network of {options.run}")
    samples = getattr(dataset, options.part)
    if samples is None or len(samples) == 0:
        raise UsageError(
            f"{dataset.name} has no samples to {options.part} with here ({dataset.note}); complete the copy, or "
            "give another --part"
        )
    if options.shuffle_time:
        samples = data.ShuffledTime(samples, options.seed)
    loss = trained.config["options"].get("loss") or "mse"
    found = train.evaluate(net, samples, options.batch_size, loss, options.seed, options.limit)
    report, confusion = found["report"], found["confusion"]
    chosen = trained.accuracies(which)
    say(dataset.note)
    say(said_of(chosen))
    print(
        f"test accuracy  {found['accuracy']:.2%} of {report.samples:,} samples ({options.part} "
        f"set{', time steps shuffled' * options.shuffle_time}), "
        f"loss {found['loss']:.4f}"
    )
    print(f"spikes         {report.spikes:,.0f} per sample, {report.firing_rate:.4f} per neuron and step")
    print(f"energy         {report.energy_mj:.4g} mJ per sample (45 nm): {report.ac:,.0f} AC, {report.mac:,.0f} MAC")
    print()
    print(table(confusion, found["class_accuracy"], dataset.classes))
    streamed = step_by_step(trained, net, samples, options) if options.stream else {}
    each = {name: None if np.isnan(a) else float(a) for name, a in zip(dataset.classes, found["class_accuracy"])}
    return {
        "run": str(trained.path),
        "dataset": dataset.name,
        "part": options.part,
        **chosen,
        "shuffle_time": options.shuffle_time,
        "samples": report.samples,
        "test_accuracy": found["accuracy"],
        "test_loss": found["loss"],
        "class_accuracy": each,
        "classes": list(dataset.classes),
        "confusion": confusion.tolist(),
        "spikes": report.spikes,
        "ac": report.ac,
        "mac": report.mac,
        "energy_mj": report.energy_mj,
        "firing_rate": report.firing_rate,
        "firing_rates": report.rates,
        **streamed,
    }


def step_by_step(trained, net, samples, options):
    """Print and draw what the network says after each time step, and how long a frame takes; returns it for --json."""
    import numpy as np

    from .. import anytime, figures, threads
    from ..figures import plots

    found = anytime.anytime(net, samples, options.batch_size, options.seed, options.limit)
    seconds = anytime.latencies(net, samples, seed=options.seed)
    middle, most = (float(q) for q in 1e3 * np.percentile(seconds, (50, 95)))
    print("\nafter step  accuracy  spikes per sample  energy (mJ)")
    rows = zip(found["accuracy"], found["spikes"], found["energy_mj"])
    for step, (accuracy, spikes, energy_mj) in enumerate(rows, 1):
        print(f"{step:10}  {accuracy:8.2%}  {spikes:17,.0f}  {energy_mj:11.4g}")
    print(
        f"latency        {middle:.2f} ms from a frame to its scores (median of {len(seconds)}; 95 % within {most:.2f} ms), one "
        f"sample at a time, {threads.get_num_threads()} threads"
    )
    caption = "Accuracy and energy after each time step, and how long a frame takes, one sample at a time."
    drawing = figures.Drawing("stream", caption, plots.any_time(found, seconds, str(trained.path)))
    written = figures.save(drawing, trained.path / "figures")
    say(f"{written}: {caption}")
    each = {name: values.tolist() for name, values in found.items() if name != "samples"}
    return {"stream": each | {"latency_ms": middle, "latency_ms_95": most, "figure": str(written)}}


def said_of(chosen):
    """Which epoch is evaluated, and what chose it."""
    at = "" if chosen["epoch"] is None else f", epoch {chosen['epoch']}"
    validated, highest = chosen["validation_accuracy"], chosen["highest_test_accuracy"]
    text = f"checkpoint     {chosen['checkpoint']}{at}" + (
        "" if validated is None else f", {validated:.2%} on the validation samples"
    )
    return text + ("" if highest is None else f"; highest test accuracy of any epoch of the training: {highest:.2%}")


def table(confusion, accuracy, classes):
    """The confusion matrix as text: a row for each true class, a column for each prediction, then the accuracy."""
    import numpy as np

    names = [name[:12] for name in classes]
    left, cell = max(len("true"), *map(len, names)), max(len(str(confusion.max())), *(len(name) for name in names)) + 1
    head = "true".ljust(left) + "".join(name.rjust(cell) for name in names) + "  accuracy"
    rows = [
        name.ljust(left)
        + "".join((str(n) if n else ".").rjust(cell) for n in row)
        + ("-".rjust(10) if np.isnan(a) else f"{a:10.1%}")
        for name, row, a in zip(names, confusion, accuracy)
    ]
    return "\n".join(["confusion matrix: a row for each true class, a column for each prediction", head, *rows])

"""`minisnn energy RUN`: spikes, operations and energy of a trained network, layer by layer."""

from ..errors import UsageError
from ..kinds import above_zero, whole
from ..ledger import E_AC, E_MAC
from ..terminal import say
from . import of_run

DESCRIPTION = (
    "Spikes, AC, MAC and energy per sample on the test set. 'measured' counts what the event-driven loops do, "
    "including borders and attention; 'published' counts as the authors' scripts do, from the firing rates (their "
    "quirks are listed in minisnn.energy.published)."
)


def add_arguments(parser):
    of_run.add_arguments(parser)
    parser.add_argument("--limit", type=whole(), metavar="N", help="measure on N test samples (default: all)")
    parser.add_argument("--accounting", choices=("measured", "published"), default="measured", help="how to count")
    parser.add_argument(
        "--e-mac", type=above_zero, default=E_MAC, metavar="PJ", help="energy of a multiply-accumulate, pJ; 45 nm"
    )
    parser.add_argument("--e-ac", type=above_zero, default=E_AC, metavar="PJ", help="energy of an accumulate, pJ; 45 nm")
    parser.add_argument("--fold-norm", action="store_true", help="measured: omit batch norm, as folded into the weights")


def run(options):
    from .. import energy
    from ..data import batches

    if options.fold_norm and options.accounting == "published":
        raise UsageError("--fold-norm belongs to the measured accounting; the published scripts charge batch norm")
    subject, which = of_run.opened(options.run, options.checkpoint)
    net, samples = subject.network(which), of_run.test_samples(subject.dataset(data_dir=options.data_dir))
    report = energy.measure(
        net, batches(samples, options.batch_size, options.limit), options.e_mac, options.e_ac, options.fold_norm
    )
    measured_on = report.samples
    if options.accounting == "published":
        try:
            report = energy.published_of(net, report, size=samples.size[1])
        except ValueError as error:
            raise UsageError(f"--accounting published: {error}") from None
    say(
        f"{subject.path}: {report.accounting}, per sample over T = {report.timesteps} time steps, "
        f"{measured_on} test samples, {report.e_mac:g} pJ per MAC, {report.e_ac:g} pJ per AC"
    )
    say()
    print(report)
    print(
        f"\n{energy.count(report.spikes) or 0} spikes per sample, {report.spikes_per_neuron:.3f} per neuron "
        f"({energy.count(report.neurons) or 0} neurons)"
    )
    if report.accounting == "published":
        print(
            "The published DVS Gesture script gives one convolution of 512 channels a map of 8x8 where it is 4x4; "
            "that slip is omitted."
        )
    return report.as_dict() | {"run": str(subject.path), "measured_on": measured_on, "checkpoint": which}

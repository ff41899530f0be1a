"""`minisnn prune RUN --out DIR`: natural pruning of a trained network, into a new run folder."""

from ..errors import UsageError
from ..kinds import path, share
from ..terminal import command, say
from . import of_run

DESCRIPTION = (
    "Natural pruning: a shortcut whose neurons fire on no sample of the training set is removed from the network "
    "and its checkpoint. Scores on the test set stay the same bit for bit, which is checked. The new folder is a "
    "run like any other."
)


def add_arguments(parser):
    of_run.add_arguments(parser)
    parser.add_argument(
        "--out", type=path, metavar="DIR", required=True, help="folder to write the pruned run to; must not exist"
    )
    parser.add_argument(
        "--tolerance",
        type=share,
        default=0.0,
        metavar="RATE",
        help="also remove shortcuts with a firing rate on the training set up to RATE, spikes per neuron and time step",
    )


def run(options):
    from .. import pruning
    from ..data import batches
    from ..runs import check_new, write_run

    subject, which = of_run.opened(options.run, options.checkpoint)
    check_new(options.out)
    try:
        net = pruning.prunable(subject.network(which))
    except ValueError as error:
        raise UsageError(f"{subject.path}: {error}") from None
    data = subject.dataset(data_dir=options.data_dir)
    test = of_run.test_samples(data)
    if data.train is None or not len(data.train):
        raise UsageError(
            f"the copy of {data.name} holds no training samples ({data.note}); complete it, or give another --data-dir"
        )
    trained_on = subject.trained_on(data)
    found = pruning.prune(
        net, lambda: batches(trained_on, options.batch_size), lambda: batches(test, options.batch_size), options.tolerance
    )
    result = {
        "pruned": list(found.removed),
        "kept": list(found.kept),
        "tolerance": options.tolerance,
        "identical": found.identical,
        "train_firing_rates": {str(k): rate for k, rate in found.train_rates.items()},
        "test_firing_rates": {str(k): rate for k, rate in found.test_rates.items()},
        "accuracy_before": accuracy(found.scores_before, test.labels),
        "accuracy_after": accuracy(found.scores_after, test.labels),
        "changed_predictions": int((found.scores_before.argmax(1) != found.scores_after.argmax(1)).sum()),
        "parameters_before": sum(p.size for p in net.parameters()),
        "parameters_after": sum(p.size for p in found.network.parameters()),
    }
    for key in ("spikes", "ac", "mac", "energy_mj"):
        result |= {f"{key}_before": getattr(found.report_before, key), f"{key}_after": getattr(found.report_after, key)}
    if not options.tolerance and not found.identical:  # impossible: nothing that fired has been removed
        raise RuntimeError("the scores changed although no shortcut that fired was removed")
    write_run(subject, found.network, options.out, which, result)
    tell(result, options.out, len(test))
    return result | {"out": options.out, "checkpoint": which}


def accuracy(scores, labels):
    return float((scores.argmax(1) == labels).mean())


def change(old, new):
    """The relative change of a number, in words if it was 0."""
    return f"{(new - old) / old:+.2%}" if old else "as before" if old == new else "new"


def tell(result, out, samples):
    """Print what happened."""
    for k, rate in result["train_firing_rates"].items():
        verdict = (
            "pruned"
            if int(k) in result["pruned"]
            else "kept: silent on the training set, but not on the test set"
            if int(k) in result["kept"]
            else "kept"
        )
        print(
            f"shortcut {k}: {rate:.6f} spikes per neuron and time step on the training set, "
            f"{result['test_firing_rates'][k]:.6f} on the test set: {verdict}"
        )
    if not result["pruned"]:
        print("nothing to prune; the new folder holds the network as it was")
    rows = {"parameters": "parameters", "ac": "AC per sample", "mac": "MAC per sample", "energy_mj": "energy per sample, mJ"}
    for key, text in rows.items():
        old, new = result[f"{key}_before"], result[f"{key}_after"]
        form = "{:.4e}" if key == "energy_mj" else "{:,.0f}"
        print(f"{text:22} {form.format(old):>14} -> {form.format(new):>14}   ({change(old, new)})")
    if result["identical"]:
        print(f"scores on {samples} test samples: the same to the last bit; accuracy {result['accuracy_after']:.2%}")
    else:
        print(
            f"scores changed; {result['changed_predictions']} of {samples} predictions differ, accuracy "
            f"{result['accuracy_before']:.2%} -> "
            f"{result['accuracy_after']:.2%}"
        )
    say(f"written to {out}; next: {command('energy', out)}")

"""`minisnn export RUN --to FORMAT --out FILE`: the network of a run, for other programs."""

import os

from ..catalogue import CATALOGUE
from ..errors import UsageError
from ..kinds import above_zero, path
from ..terminal import command, say
from . import of_run

DESCRIPTION = (
    "Write the network of a run as a file that other programs read. 'safetensors': all parameters and running statistics by "
    "name, with the configuration and the record of training; `minisnn import` makes a run of it again. 'nir': the graph of "
    "the Neuromorphic Intermediate Representation, batch norm folded into the convolutions; interop.load_nir reads it again. "
    "Needs minisnn[exchange]."
)


def add_arguments(parser):
    parser.add_argument("run", type=path, metavar="RUN", help="folder of the run, or zoo:NAME")
    of_run.add_checkpoint(parser)
    parser.add_argument("--to", required=True, choices=("safetensors", "nir"), help="format of the file")
    parser.add_argument("--out", required=True, type=path, metavar="FILE", help="file to write; an old one is replaced")
    nir = parser.add_argument_group("nir")
    nir.add_argument(
        "--dt",
        type=above_zero,
        default=1e-3,
        metavar="S",
        help="seconds of a time step; snnTorch and SpikingJelly read with 1e-4, Norse with 1e-3",
    )
    nir.add_argument(
        "--thresholds",
        choices=("node", "if"),
        default="node",
        help="joins and max pools of spikes as Threshold nodes, or as IF neurons, which SpikingJelly reads",
    )


def run(options):
    from .. import interop
    from ..interop import folders

    subject, which = of_run.opened(options.run, options.checkpoint)
    net, more = subject.network(which), {}
    if options.to == "nir":
        more["size"] = size_of(subject)
        try:
            interop.save_nir(net, options.out, more["size"], options.dt, options.thresholds)
        except ValueError as error:
            raise UsageError(f"{subject.path}: {error}") from None
    else:
        interop.save_safetensors(net, options.out, folders.described(subject, which))
    size = os.path.getsize(options.out)
    say(f"{options.out}: {size:,} bytes, {sum(p.size for p in net.parameters()):,} parameters, checkpoint {which}")
    if options.to == "safetensors":
        say("back".ljust(6) + command("import", options.out, "--out", "DIR"))
    else:
        say(
            f"input {'x'.join(map(str, more['size']))} at each of T steps of {options.dt:g} s; the scores are the output's mean"
        )
    return {
        "run": str(subject.path),
        "checkpoint": which,
        "to": options.to,
        "out": options.out,
        "bytes": size,
        "parameters": sum(p.size for p in net.parameters()),
        **more,
    }


def size_of(run):
    """(C, H, W) of a run's samples; where the network pools them to equal bins first, of what it makes of them."""
    network = run.config["network"]
    stem = CATALOGUE[network["preset"]].stem
    side = ("sizes" not in network and stem.pool_first) or run.config["options"]["data_options"].get("frame_size") or stem.size
    return [stem.channels, side, side]

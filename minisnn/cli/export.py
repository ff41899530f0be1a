"""`minisnn export RUN --to FORMAT --out FILE`: the network of a run, for other programs."""

import os

from ..kinds import path
from ..terminal import command, say
from . import of_run

DESCRIPTION = (
    "Write the network of a run as a file that other programs read. 'safetensors': all parameters and running statistics by "
    "name, with the configuration and the record of training; `minisnn import` makes a run of it again. "
    "Needs minisnn[exchange]."
)
FORMATS = ("safetensors",)


def add_arguments(parser):
    parser.add_argument("run", type=path, metavar="RUN", help="folder of the run")
    of_run.add_checkpoint(parser)
    parser.add_argument("--to", required=True, choices=FORMATS, help="format of the file")
    parser.add_argument("--out", required=True, type=path, metavar="FILE", help="file to write; an old one is replaced")


def run(options):
    from .. import interop
    from ..interop import folders

    subject, which = of_run.opened(options.run, options.checkpoint)
    net = subject.network(which)
    interop.save_safetensors(net, options.out, folders.described(subject, which))
    size = os.path.getsize(options.out)
    say(f"{options.out}: {size:,} bytes, {sum(p.size for p in net.parameters()):,} parameters, checkpoint {which}")
    if options.to == "safetensors":
        say("back".ljust(6) + command("import", options.out, "--out", "DIR"))
    return {
        "run": str(subject.path),
        "checkpoint": which,
        "to": options.to,
        "out": options.out,
        "bytes": size,
        "parameters": sum(p.size for p in net.parameters()),
    }

"""`minisnn import FILE --dataset D --model M --out RUN`: a run of a network from another program, or from `minisnn export`."""

from ..errors import UsageError
from ..kinds import path
from ..options import EVENT_OPTIONS, OPTIONS, Options
from ..terminal import command, say
from .declared import add_declared, given

DESCRIPTION = (
    "Make the folder of a run from a safetensors file: weights for one of the networks here, by our names, or in "
    "definition order where the file's metadata lists it under 'order'. The folder works with evaluate, energy, prune, plot, "
    "report and export. Needs minisnn[exchange]."
)
# What describes a network and its data; how it was trained is not known here.
OF_NETWORK = ("dataset", "model", "position", "neuron", "width", "timesteps", "removed", "normalize", "split_seed", "data_dir")


def add_arguments(parser):
    parser.add_argument("file", type=path, metavar="FILE", help="the .safetensors file")
    add_declared(parser, {name: OPTIONS[name] for name in OF_NETWORK} | EVENT_OPTIONS)
    parser.add_argument("--out", required=True, type=path, metavar="DIR", help="folder to write the run to; must not exist")


def run(options):
    from ..interop import folders
    from ..interop.arrays import read_safetensors
    from ..runs import check_new

    check_new(options.out)
    arrays, metadata = read_safetensors(options.file)
    found = folders.known(metadata, options.file)
    chosen, wished = found.options, given(options)
    if wished.get("dataset", chosen.get("dataset")) != chosen.get("dataset"):  # what belongs to the data goes with it
        chosen = {name: chosen[name] for name in OF_NETWORK if name in chosen}
    chosen = chosen | wished
    for name in ("dataset", "model"):
        if name not in chosen:
            raise UsageError(f"{options.file} does not say what network it holds; give --{name}")
    if "width" not in chosen:  # the channels of the first convolution, or the neurons of the first layer
        first = [array.shape[0] for name, array in arrays.items() if array.ndim == 4 or name == "layers.0.weight"]
        chosen["width"] = next(iter(first), None)
    try:
        wanted = Options(**chosen)
        line = command("import", *options.arguments)
        net = folders.write(options.out, wanted, found, options.file, arrays, metadata, line)
    except TypeError as error:
        raise UsageError(f"{options.file} has damaged metadata ({str(error)[:100]}); write it again") from None
    parameters = sum(p.size for p in net.parameters())
    say(
        f"{options.out}: {wanted.model} for {wanted.dataset}, width {wanted.width}, T {wanted.timesteps}, "
        f"{parameters:,} parameters from {options.file}"
    )
    say("next".ljust(6) + command("evaluate", options.out))
    return {
        "run": options.out,
        "from": options.file,
        "dataset": wanted.dataset,
        "model": wanted.model,
        "width": wanted.width,
        "timesteps": wanted.timesteps,
        "parameters": parameters,
        "epoch": found.record.get("epoch"),
    }

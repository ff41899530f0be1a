"""`minisnn train`."""

import argparse
import dataclasses

from .. import data, models, train
from ..errors import UsageError
from ..recipes import RECIPES
from . import above_zero, path, real, whole
from .event_options import EVENT_OPTIONS, add_event_arguments

HELP = "train a network; writes the folder of the run"
DESCRIPTION = ("Train a network, with a progress bar, and evaluate it after each epoch. Writes the folder of the run: "
               "config.json, metrics.csv, firing_rates.csv, last.npz, best.npz. Ctrl-C keeps all finished epochs; --resume "
               "goes on.")

# Options that say how a data set is loaded: they end up in Options.data_options, and so in data.load.
DATA_OPTIONS = EVENT_OPTIONS


def shortcuts(text):
    """The type of --remove: numbers from 1 to 3, with commas."""
    try:
        numbers = tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        numbers = ()
    if not numbers or not set(numbers) <= set(models.SHORTCUTS):
        raise argparse.ArgumentTypeError(f"'{text}' is out of range; give numbers of shortcuts from 1 to 3, such as 1,3")
    return numbers


def epochs_of_warmup(text):
    return real(text, lambda value: value >= 0, "a number of 0 or more")


def defaults(field):
    """A recipe's field for every data set, as help text."""
    values = {}
    for name, recipe in RECIPES.items():
        value = getattr(recipe, field)
        values.setdefault(f"{value:g}" if isinstance(value, float) else str(value), []).append(name)
    if len(values) == 1:
        return f"(default: {next(iter(values))})"
    return "(default: " + "; ".join(f"{value} for {', '.join(names)}" for value, names in values.items()) + ")"


def add_arguments(parser):
    own = add_recipe_arguments(parser)
    own.add_argument("--model", choices=tuple(models.SYSTEMS), metavar="NAME",
                     help=f"one of {', '.join(models.SYSTEMS)} (default: syna-t)")
    own.add_argument("--position", choices=models.POSITIONS, metavar="P",
                     help="of attention in each pair of convolutions, a to d (default: a)")
    own.add_argument("--remove", type=shortcuts, dest="removed", metavar="K,K",
                     help="do without these shortcuts, numbers from 1 to 3")
    where = parser.add_argument_group("the folder of the run")
    where.add_argument("--out", type=path, metavar="DIR", help="a new folder (default: runs/DATASET-MODEL-N)")
    where.add_argument("--resume", type=path, metavar="DIR",
                       help="go on with the run in DIR from its last finished epoch, to the same bits")


def add_recipe_arguments(parser):
    """The options that `minisnn ablate` shares: data and training, but not the system. Returns the group "what to train"."""
    own = parser.add_argument_group("what to train")
    own.add_argument("--dataset", choices=data.NAMES, metavar="NAME", help=f"one of {', '.join(data.NAMES)} (default: digits)")
    own.add_argument("--data-dir", type=path, metavar="DIR",
                     help="where data lies (default: the variable MINISNN_DATA, else ~/.cache/minisnn)")
    own.add_argument("--width", type=whole(8), metavar="W",
                     help="channels of the first layer, a multiple of 8 " + defaults("width"))
    own.add_argument("-T", "--timesteps", type=whole(), metavar="T", help="time steps " + defaults("timesteps"))
    how = parser.add_argument_group("how to train it")
    how.add_argument("--epochs", type=whole(), metavar="E", help="passes over the training samples " + defaults("epochs"))
    how.add_argument("-b", "--batch-size", type=whole(), metavar="B", help="samples at once " + defaults("batch_size"))
    how.add_argument("--lr", type=above_zero, metavar="LR",
                     help="highest learning rate; falls to 0 along half a cosine " + defaults("lr"))
    how.add_argument("--warmup", type=epochs_of_warmup, metavar="E",
                     help="epochs over which the rate rises first " + defaults("warmup"))
    how.add_argument("--loss", choices=train.LOSSES, help="mse, the paper's, or ce, cross-entropy " + defaults("loss"))
    how.add_argument("--optimizer", choices=train.OPTIMIZERS, help=defaults("optimizer"))
    how.add_argument("--gain", type=above_zero, metavar="G",
                     help="initial weight of the batch norms: a higher one lets more neurons fire at first " + defaults("gain"))
    how.add_argument("--augment", action=argparse.BooleanOptionalAction,
                     help="vary the training samples at random " + defaults("augment"))
    how.add_argument("--limit", type=whole(), metavar="N",
                     help="train on N of the samples only, drawn by the seed (default: all)")
    how.add_argument("--split-seed", type=whole(0), metavar="N",
                     help="of the split into training and test of data that brings none along (default: 0)")
    add_event_arguments(parser)
    return own


def given(options):
    """The options that were given, by the names of train.Options."""
    names = [f.name for f in dataclasses.fields(train.Options) if f.name not in ("seed", "threads", "data_options")]
    found = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
    extra = {name: getattr(options, name) for name in DATA_OPTIONS if getattr(options, name, None) is not None}
    return found | ({"data_options": extra} if extra else {})


def run(options):
    chosen = given(options)
    if options.resume is not None:
        chosen.pop("data_dir", None)
        given_data = chosen.pop("data_options", {})
        cache = {name: given_data.pop(name) for name in data.CACHE_OPTIONS if name in given_data}
        clash = [name for name in ("out",) if getattr(options, name)] + list(given_data) + list(chosen)
        clash += [] if options.seed == 0 else ["seed"]
        if clash:
            raise UsageError(f"{train.flag(clash[0])} cannot be changed by --resume: the run keeps its own options; leave it "
                             "away, or begin a new run")
        return train.resume(options.resume, data_dir=options.data_dir, thread_count=options.threads, cache_options=cache)
    return train.train(train.Options(**chosen, seed=options.seed, threads=options.threads), out=options.out)

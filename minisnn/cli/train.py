"""`minisnn train`."""

from ..data.places import CACHE_OPTIONS
from ..errors import UsageError
from ..kinds import path
from ..options import EVENT_OPTIONS, OPTIONS, Options, flag
from .declared import add_declared, given

DESCRIPTION = (
    "Train a network, with a progress bar, and evaluate it after each epoch. Writes the folder of the run: "
    "config.json, metrics.csv, firing_rates.csv, last.npz, and best.npz with --validation. Ctrl-C keeps all finished "
    "epochs; --resume continues."
)


def add_arguments(parser):
    add_declared(parser, OPTIONS | EVENT_OPTIONS)
    where = parser.add_argument_group("the folder of the run")
    where.add_argument("--out", type=path, metavar="DIR", help="a new folder (default: runs/DATASET-MODEL-N)")
    where.add_argument(
        "--resume", type=path, metavar="DIR", help="continue the run in DIR after its last finished epoch, bit for bit"
    )
    parser.add_argument_group("several processes").add_argument(
        "--mpi",
        action="store_true",
        help="under `mpiexec -n N`: N processes, on one machine or many that see the same folders, each take a share of every "
        "batch, and --threads each; needs minisnn[mpi]",
    )


def run(options):
    from .. import parallel, threads, train

    if options.mpi:
        parallel.begin()
        if options.threads is None:  # the cores of a machine are divided among its ranks
            options.threads = max(1, threads.get_num_threads() // parallel.local_ranks())
    chosen = given(options)
    if options.resume is not None:
        chosen.pop("data_dir", None)
        given_data = chosen.pop("data_options", {})
        cache = {name: given_data.pop(name) for name in CACHE_OPTIONS if name in given_data}
        clash = [name for name in ("out",) if getattr(options, name)] + list(given_data) + list(chosen)
        clash += [] if options.seed == 0 else ["seed"]
        if clash:
            raise UsageError(
                f"{flag(clash[0])} cannot be changed by --resume: the run keeps its own options; omit it, or begin a new run"
            )
        return train.resume(options.resume, data_dir=options.data_dir, thread_count=options.threads, cache_options=cache)
    return train.train(Options(**chosen, seed=options.seed, threads=options.threads), out=options.out)
